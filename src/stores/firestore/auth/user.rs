//! A user's own credentials, as `gcloud auth application-default login` leaves them: a refresh token.

use async_trait::async_trait;
use url::Url;

use super::{Token, TokenSource, http};
use crate::lock::Result;
use crate::stores::target::Secret;

pub(super) const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

#[derive(Debug)]
pub(super) struct User {
    pub(super) client_id: String,
    pub(super) client_secret: Secret,
    pub(super) refresh_token: Secret,
    pub(super) token_uri: Url,
    pub(super) project: Option<String>,
}

#[async_trait]
impl TokenSource for User {
    async fn token(&self) -> Result<Token> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.reveal()),
            ("refresh_token", self.refresh_token.reveal()),
        ];
        http::exchange(&self.token_uri, &form, "run \"gcloud auth application-default login\" again").await
    }

    async fn project(&self) -> Result<Option<String>> {
        Ok(self.project.clone())
    }
}
