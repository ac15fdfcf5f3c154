//! Files with credentials: those that a target or `GOOGLE_APPLICATION_CREDENTIALS` names, and the one that
//! gcloud keeps.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::TokenSource;
use super::service_account::ServiceAccount;
use super::user::{TOKEN_URI, User};
use crate::crew::Crew;
use crate::lock::{Code, Error, Result};
use crate::stores::target::Secret;

const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const WELL_KNOWN: &str = "application_default_credentials.json";
/// No file of credentials is longer.
const LONGEST: u64 = 64 * 1024;

/// The credentials of the environment; `None` when no file says any.
///
/// # Errors
/// Those of [`read`].
pub(super) async fn find() -> Result<Option<Arc<dyn TokenSource>>> {
    if let Some(path) = variable(VARIABLE) {
        return read(path).await.map(Some);
    }
    let Some(path) = gcloud_directory().map(|directory| directory.join(WELL_KNOWN)) else { return Ok(None) };
    match load(path.clone()).await {
        Ok(text) => parse(&path, &text).map(Some),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(&path, error)),
    }
}

/// # Errors
/// `AuthFailed` when the file can't be read, `InvalidArgument` when it holds no credentials that work here.
pub(super) async fn read(path: PathBuf) -> Result<Arc<dyn TokenSource>> {
    match load(path.clone()).await {
        Ok(text) => parse(&path, &text),
        Err(error) => Err(unreadable(&path, error)),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn gcloud_directory() -> Option<PathBuf> {
    variable("CLOUDSDK_CONFIG").or_else(|| {
        if cfg!(windows) {
            variable("APPDATA").map(|roaming| roaming.join("gcloud"))
        } else {
            std::env::home_dir().map(|home| home.join(".config").join("gcloud"))
        }
    })
}

async fn load(path: PathBuf) -> std::io::Result<String> {
    // A home directory may lie on a network that hangs; the runtime's threads must not.
    let file = path.clone();
    let loading = Crew::read("credentials", Some(&path), move || {
        use std::io::Read;
        let mut text = String::new();
        std::fs::File::open(file)?.take(LONGEST).read_to_string(&mut text)?;
        Ok(text)
    });
    loading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(
        Code::AuthFailed,
        format!("the credentials file {} can't be read; check its path and permissions", path.display()),
    )
    .because(error)
}

#[derive(Deserialize)]
struct Credentials {
    r#type: Option<String>,
    project_id: Option<String>,
    quota_project_id: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
    token_uri: Option<String>,
}

fn parse(path: &Path, text: &str) -> Result<Arc<dyn TokenSource>> {
    let wrong = |what: &str| Error::invalid(format!("the credentials file {} {what}", path.display()));
    // What the parser complains of may quote the file.
    let file: Credentials =
        serde_json::from_str(text).map_err(|_| wrong("must be JSON as Google's tools write it"))?;
    let missing = |field: &str| wrong(&format!("has no {field}; download or create it anew"));
    let token_uri = match &file.token_uri {
        Some(uri) => Some(Url::parse(uri).map_err(|_| wrong("must hold a URL as its token_uri"))?),
        None => None,
    };
    match file.r#type.as_deref() {
        Some("service_account") => {
            let email = file.client_email.ok_or_else(|| missing("client_email"))?;
            let key = Secret::new(file.private_key.ok_or_else(|| missing("private_key"))?);
            let account = ServiceAccount::new(email, &key)?;
            Ok(Arc::new(account.with(file.private_key_id, token_uri, file.project_id)))
        }
        Some("authorized_user") => Ok(Arc::new(User {
            client_id: file.client_id.ok_or_else(|| missing("client_id"))?,
            client_secret: Secret::new(file.client_secret.ok_or_else(|| missing("client_secret"))?),
            refresh_token: Secret::new(file.refresh_token.ok_or_else(|| missing("refresh_token"))?),
            token_uri: match token_uri {
                Some(uri) => uri,
                None => Url::parse(TOKEN_URI).map_err(|_| wrong("has no token_uri"))?,
            },
            project: file.project_id.or(file.quota_project_id),
        })),
        _ => Err(wrong(
            "must be of type service_account or authorized_user; for other kinds give a function that answers an access token",
        )),
    }
}
