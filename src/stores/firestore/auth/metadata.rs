//! The metadata server, which knows the service account of the machine, container or function it serves.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hyper::StatusCode;
use url::Url;

use super::{SCOPE, Token, TokenSource, http};
use crate::lock::{Code, Error, Result};

const HOST: &str = "metadata.google.internal";
/// Names another host, as in Google's own clients.
const HOST_VARIABLE: &str = "GCE_METADATA_HOST";
const FLAVOR: [(&str, &str); 1] = [("metadata-flavor", "Google")];
const ADVICE: &str = "give the machine a service account that may use Firestore";

#[derive(Debug)]
pub(super) struct MetadataServer {
    host: String,
    answered: AtomicBool,
}

impl MetadataServer {
    pub(super) fn from_environment() -> MetadataServer {
        let host = std::env::var(HOST_VARIABLE).ok().filter(|host| !host.is_empty());
        MetadataServer { host: host.unwrap_or_else(|| HOST.to_owned()), answered: AtomicBool::new(false) }
    }

    fn url(&self, path: &str) -> Result<Url> {
        Url::parse(&format!("http://{}/computeMetadata/v1/{path}", self.host)).map_err(|_| {
            Error::invalid(format!("{HOST_VARIABLE} must be a host or host:port; {:?} was given", self.host))
        })
    }

    /// A server that never answered is most likely not there, and this is the last place where credentials
    /// are looked for.
    fn absent(&self, error: Error) -> Error {
        let unreachable = error.cause().is_some_and(|cause| cause.is::<io::Error>());
        match unreachable && !self.answered.load(Ordering::Relaxed) {
            true => Error::new(
                Code::AuthFailed,
                "no credentials for Firestore were found; set GOOGLE_APPLICATION_CREDENTIALS to a key file, run \"gcloud auth application-default login\", or give credentials with the target",
            )
            .because(format!("and the metadata server at {} does not answer", self.host)),
            false => error,
        }
    }
}

#[async_trait]
impl TokenSource for MetadataServer {
    async fn token(&self) -> Result<Token> {
        let mut url = self.url("instance/service-accounts/default/token")?;
        url.query_pairs_mut().append_pair("scopes", SCOPE);
        let token = http::get_token(&url, &FLAVOR, ADVICE).await.map_err(|error| self.absent(error))?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(token)
    }

    async fn project(&self) -> Result<Option<String>> {
        let url = self.url("project/project-id")?;
        let (status, body) = http::get(&url, &FLAVOR).await.map_err(|error| self.absent(error))?;
        let id = std::str::from_utf8(&body).ok().map(str::trim).filter(|id| !id.is_empty());
        Ok(id.filter(|_| status == StatusCode::OK).map(str::to_owned))
    }
}
