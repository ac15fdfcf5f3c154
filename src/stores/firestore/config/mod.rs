//! What a target may say: a URL or the same facts one by one. Nothing here does I/O.

pub(super) mod target;

use std::time::Duration;

use self::target::{DEFAULT_DATABASE, Facts, filled, project_id};
use super::auth::Credentials;
use crate::backend::{Part, StoreId, Surroundings};
use crate::lock::{Error, FenceRetention, Result};
use crate::stores::target::Password;
use crate::stores::target::{Settings, Target};

const PUBLIC_HOST: &str = "firestore.googleapis.com";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where Google's own tools look for a project that nobody named.
const PROJECT_VARIABLES: [&str; 2] = ["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"];
const EMULATOR_VARIABLE: &str = "FIRESTORE_EMULATOR_HOST";

/// Which database to use and how to reach it. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct FirestoreConfig {
    /// `None` when the credentials are to tell.
    pub(super) project: Option<String>,
    pub(super) database: String,
    /// `host` or `host:port`.
    pub(super) host: String,
    pub(super) tls: bool,
    pub(super) credentials: Credentials,
    pub(super) collection: String,
    pub(super) fence_collection: String,
    pub(super) connect_timeout: Duration,
    pub(super) cleanup_in_is_locked: bool,
    /// How long fence counters stay; `None`: for ever.
    pub(super) fence_retention: Option<FenceRetention>,
}

impl FirestoreConfig {
    /// Reads a target and the options of a backend: `collection`, `fenceCollection`, `connectTimeoutMs`,
    /// `cleanupInIsLocked`, `fenceRetentionMs`. `password`, where there is one, is the access token and wins over the target's
    /// credentials. `FIRESTORE_EMULATOR_HOST` counts where the target names no host, or the same.
    ///
    /// # Errors
    /// `InvalidArgument` for whatever is malformed, contradictory or unknown. No message shows a secret.
    pub fn from_target(target: Target, mut options: Settings, password: Password) -> Result<FirestoreConfig> {
        let collection = collection("collection", options.take_text("collection")?, "locks")?;
        let fence_collection =
            self::collection("fenceCollection", options.take_text("fenceCollection")?, "fence_counters")?;
        let connect_timeout = options.take_millis("connectTimeoutMs")?.unwrap_or(CONNECT_TIMEOUT);
        let cleanup_in_is_locked = options.take_flag("cleanupInIsLocked")?.unwrap_or(false);
        let fence_retention = options.take_fence_retention()?;
        options.finish()?;
        if collection == fence_collection {
            return Err(Error::invalid(format!(
                "collection and fenceCollection are both {collection:?}; they must differ"
            )));
        }
        let mut facts = match target {
            Target::Url(url) => Facts::from_url(&url)?,
            Target::Facts(settings) => Facts::from_settings(settings)?,
        };
        if !matches!(password, Password::None) {
            facts.credentials = Some(Credentials::Token(password));
        }
        let emulator = variable(EMULATOR_VARIABLE).map(|it| host(EMULATOR_VARIABLE, &it)).transpose()?;
        let given = facts.host.map(|it| host("host", &it)).transpose()?;
        let (host, tls, credentials) = match (given, emulator) {
            // As in Google's own clients: the emulator sees nobody's credentials.
            (None, Some(emulator)) => (emulator, false, Credentials::Emulator),
            (Some(host), Some(emulator)) if host == emulator => (host, false, Credentials::Emulator),
            (given, _) => {
                let host = given.unwrap_or_else(|| PUBLIC_HOST.to_owned());
                let tls = facts.tls.unwrap_or(true);
                let credentials = checked(facts.credentials, &host, tls)?;
                (host, tls, credentials)
            }
        };
        Ok(FirestoreConfig {
            project: project(facts.project, &credentials)?,
            database: facts.database.unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
            host,
            tls,
            credentials,
            collection,
            fence_collection,
            connect_timeout,
            cleanup_in_is_locked,
            fence_retention,
        })
    }

    /// The same there: nothing here depends on them.
    #[must_use]
    pub fn within(self, _: &Surroundings) -> FirestoreConfig {
        self
    }

    /// Which locks a backend with this configuration sees, without secrets.
    pub(super) fn store_id(&self) -> StoreId {
        let project = match (&self.project, &self.credentials) {
            (Some(project), _) => project.as_str().into(),
            // They tell the project.
            (None, Credentials::File(path)) => path.clone().into(),
            (None, _) => Part::Nothing,
        };
        let [host, database, collection] =
            [&self.host, &self.database, &self.collection].map(|it| it.as_str().into());
        StoreId::new("firestore", [host, project, database, collection])
    }
}

fn variable(name: &str) -> Option<String> {
    filled(std::env::var(name).ok())
}

fn project(given: Option<String>, credentials: &Credentials) -> Result<Option<String>> {
    if given.is_some() {
        return Ok(given);
    }
    for name in PROJECT_VARIABLES {
        if let Some(id) = variable(name) {
            return Ok(Some(project_id(name, &id)?));
        }
    }
    match credentials {
        Credentials::File(_) | Credentials::Default => Ok(None),
        _ => Err(Error::invalid("projectId is missing; give it, or set GOOGLE_CLOUD_PROJECT")),
    }
}

/// Credentials never travel in clear over a network.
///
/// # Errors
/// `InvalidArgument` where they would.
fn checked(given: Option<Credentials>, host: &str, tls: bool) -> Result<Credentials> {
    match given {
        Some(given) if tls || is_loopback(host) => Ok(given),
        Some(_) => Err(Error::invalid(format!(
            "ssl is off for {host}, which is not this machine: the credentials would travel in clear; switch it on, or leave them out for an emulator"
        ))),
        None if tls => Ok(Credentials::Default),
        None => Ok(Credentials::Emulator),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// `host` or `host:port`, in lower case.
fn host(name: &str, host: &str) -> Result<String> {
    // What stands before an @ may be a password.
    let shown = if host.contains('@') { "one with user information" } else { host };
    let wrong = || {
        Error::invalid(format!(
            "{name} must be a host or host:port, without a scheme or a path; {shown:?} was given"
        ))
    };
    if host.contains(['/', '@', '?', '#', ' ']) {
        return Err(wrong());
    }
    let url = url::Url::parse(&format!("http://{host}/")).map_err(|_| wrong())?;
    let name = url.host_str().ok_or_else(wrong)?;
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    Ok(match port {
        Some(0) => return Err(wrong()),
        Some(port) if !host.ends_with(']') => format!("{name}:{port}"),
        _ => name.to_owned(),
    })
}

/// A collection's id, or a path to one inside documents.
fn collection(name: &str, given: Option<String>, default: &str) -> Result<String> {
    let path = given.unwrap_or_else(|| default.to_owned());
    let good = |id: &str| {
        !id.is_empty()
            && id.len() <= 1500
            && id != "."
            && id != ".."
            && !(id.len() >= 4 && id.starts_with("__") && id.ends_with("__"))
    };
    if path.split('/').count() % 2 == 1 && path.split('/').all(good) {
        return Ok(path);
    }
    Err(Error::invalid(format!(
        "{name} must be the id of a collection, or a path of ids to one; none of them may be empty, \".\", \"..\" or like __x__; {path:?} was given"
    )))
}
