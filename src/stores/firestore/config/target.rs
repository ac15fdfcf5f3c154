//! A target's facts, from a URL or from the settings of an options object or a client.

use crate::lock::{Error, Result};
use crate::stores::firestore::auth::Credentials;
use crate::stores::target::Settings;
use crate::stores::target::{Password, Secret};

pub(in crate::stores::firestore) const DEFAULT_DATABASE: &str = "(default)";

/// What a target says; what it leaves open has a default.
#[derive(Default)]
pub(in crate::stores::firestore) struct Facts {
    pub(in crate::stores::firestore) project: Option<String>,
    pub(in crate::stores::firestore) database: Option<String>,
    pub(in crate::stores::firestore) host: Option<String>,
    pub(in crate::stores::firestore) tls: Option<bool>,
    pub(in crate::stores::firestore) credentials: Option<Credentials>,
}

impl Facts {
    /// # Errors
    /// `InvalidArgument` that shows no user information.
    pub(in crate::stores::firestore) fn from_url(url: &str) -> Result<Facts> {
        let malformed = |why: &str| {
            Error::invalid(format!(
                "the Firestore URL must be firestore://PROJECT or firestore://PROJECT/DATABASE; {why}"
            ))
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| malformed("this one has no \"://\""))?;
        if !scheme.eq_ignore_ascii_case("firestore") {
            return Err(malformed("this one has another scheme"));
        }
        if rest.contains(['?', '#']) {
            return Err(malformed("options go into the second argument, not into the URL"));
        }
        if rest.contains('@') {
            return Err(malformed(
                "it takes no user name or password: credentials go into an options object",
            ));
        }
        let (project, path) = rest.split_once('/').unwrap_or((rest, ""));
        let database = path.strip_suffix('/').unwrap_or(path);
        if project.is_empty() {
            return Err(malformed("the project is missing"));
        }
        Ok(Facts {
            project: Some(project_id("the URL's project", project)?),
            database: (!database.is_empty())
                .then(|| database_id("the URL's database", database))
                .transpose()?,
            ..Facts::default()
        })
    }

    /// # Errors
    /// `InvalidArgument` that names the setting.
    pub(in crate::stores::firestore) fn from_settings(mut settings: Settings) -> Result<Facts> {
        let project = filled(settings.take_text("projectId")?);
        let database = filled(settings.take_text("databaseId")?);
        let host = filled(settings.take_text("host")?);
        let tls = settings.take_flag("ssl")?;
        let file = filled(settings.take_text("keyFilename")?);
        let email = filled(settings.take_text("credentials.client_email")?);
        let key = filled(settings.take_text("credentials.private_key")?);
        let token = filled(settings.take_text("token")?);
        settings.finish()?;
        let pair = match (email, key) {
            (Some(email), Some(key)) => Some(Credentials::Pair { email, key: Secret::new(key) }),
            (None, None) => None,
            _ => {
                return Err(Error::invalid(
                    "credentials must hold both client_email and private_key; one of them is missing",
                ));
            }
        };
        let token = token.map(|token| Credentials::Token(Password::Fixed(Secret::new(token))));
        Ok(Facts {
            project: project.map(|id| project_id("projectId", &id)).transpose()?,
            database: database.map(|id| database_id("databaseId", &id)).transpose()?,
            host,
            tls,
            // As in Google's own clients: what is given in memory wins over a file.
            credentials: token.or(pair).or(file.map(|path| Credentials::File(path.into()))),
        })
    }
}

pub(in crate::stores::firestore) fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(in crate::stores::firestore) fn project_id(name: &str, id: &str) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if id.len() <= 128 && id.chars().all(allowed) {
        return Ok(id.to_owned());
    }
    Err(Error::invalid(format!(
        "{name} must be a project id: letters, digits and -_.: only; {id:?} was given"
    )))
}

fn database_id(name: &str, id: &str) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if id == DEFAULT_DATABASE || (id.len() <= 63 && id.chars().all(allowed)) {
        return Ok(id.to_owned());
    }
    Err(Error::invalid(format!(
        "{name} must be a database id: letters, digits and hyphens, or (default); {id:?} was given"
    )))
}
