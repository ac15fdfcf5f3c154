//! Passwords and tokens: kept out of every debug print, asked for anew at each connect.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::lock::Result;

/// A password or token, with the user it belongs to where its source tells that as well. `Debug` shows
/// none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    user: Option<String>,
}

impl Secret {
    /// A password without a user of its own.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret { text: text.into(), user: None }
    }

    /// Wins over the user that the target names.
    #[must_use]
    pub fn of_user(mut self, user: impl Into<String>) -> Secret {
        self.user = Some(user.into());
        self
    }

    /// The user it belongs to, where it says so.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a password comes from.
#[derive(Clone, Debug, Default)]
pub enum Password {
    /// There is none.
    #[default]
    None,
    /// The same at every connect.
    Fixed(Secret),
    /// A function of the user's, called at each connect, for tokens that expire.
    Provider(Arc<dyn PasswordProvider>),
}

impl Password {
    /// # Errors
    /// What the provider's function failed with.
    pub async fn get(&self) -> Result<Option<Secret>> {
        match self {
            Password::None => Ok(None),
            Password::Fixed(secret) => Ok(Some(secret.clone())),
            Password::Provider(provider) => provider.password().await.map(Some),
        }
    }
}

/// Answers a password when one is needed.
#[async_trait]
pub trait PasswordProvider: fmt::Debug + Send + Sync {
    /// The password for the connect at hand.
    async fn password(&self) -> Result<Secret>;
}
