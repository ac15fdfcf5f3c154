//! What a target may say: a URL or the same facts one by one. Nothing here does I/O.

pub(super) mod endpoint;
pub(super) mod tls;
pub(super) mod url;

use std::sync::Arc;
use std::time::Duration;

use self::endpoint::{Address, Endpoint, MasterName};
use self::tls::{OF_SENTINELS, OF_SERVERS, Tls};
use self::url::ParsedUrl;
use super::eviction::Eviction;
use super::names::Names;
use crate::backend::{NoWarnings, OPERATION_TIMEOUT, StoreId, Surroundings};
use crate::lock::{Error, FenceRetention, Result};
use crate::stores::target::{Password, Secret};
use crate::stores::target::{Settings, Target};

const DEFAULT_PREFIX: &str = "syncguard";
/// More than any master feeds.
const MOST_REPLICAS: u32 = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const DEFAULT_PORT: u16 = 6379;
pub(super) const SENTINEL_PORT: u16 = 26379;

/// Where Redis is and how to use it. `Debug` shows no password and no key.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    pub(super) endpoint: Endpoint,
    pub(super) login: Login,
    pub(super) sentinel_login: Login,
    pub(super) db: u32,
    pub(super) client_name: Option<String>,
    pub(super) tls: Option<Tls>,
    /// Sentinels and servers may differ.
    pub(super) sentinel_tls: Option<Tls>,
    pub(super) names: Names,
    pub(super) connect_timeout: Duration,
    pub(super) cleanup_in_is_locked: bool,
    /// How many replicas must have a write before it counts.
    pub(super) replicas: u32,
    /// How long an operation may take.
    pub(super) operation_timeout: Duration,
    /// How long fence counters stay; `None`: for ever.
    pub fence_retention: Option<FenceRetention>,
    /// What is found out of how servers evict; backends of one configuration share it.
    pub(super) eviction: Arc<Eviction>,
    /// Marks the wake-ups that are meant for other processes, so that this backend's watchers sleep on.
    pub(super) signature: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Password,
}

impl RedisConfig {
    /// Reads a target and the options of a backend: `keyPrefix`, `cleanupInIsLocked`, `connectTimeoutMs`,
    /// `fenceRetentionMs`, `replicas`.
    /// `password`, where there is one, wins over the target's.
    ///
    /// # Errors
    /// `InvalidArgument` for whatever is malformed, contradictory or unknown. No message shows a secret.
    pub fn from_target(target: Target, mut options: Settings, password: Password) -> Result<RedisConfig> {
        let key_prefix = options.take_text("keyPrefix")?;
        let cleanup_in_is_locked = options.take_flag("cleanupInIsLocked")?.unwrap_or(false);
        let connect_timeout = options.take_millis("connectTimeoutMs")?.unwrap_or(CONNECT_TIMEOUT);
        let fence_retention = options.take_fence_retention()?;
        let replicas = options.take_count("replicas", 0, MOST_REPLICAS)?.unwrap_or(0);
        options.finish()?;
        let (mut config, client_prefix) = match target {
            Target::Url(url) => (RedisConfig::from_url(&url)?, String::new()),
            Target::Facts(facts) => RedisConfig::from_facts(facts)?,
        };
        if !matches!(password, Password::None) {
            config.login.password = password;
        }
        let in_cluster = matches!(config.endpoint, Endpoint::Cluster(_));
        if in_cluster && config.db != 0 {
            return Err(Error::invalid("a Redis Cluster has no databases besides 0; leave db out"));
        }
        config.names =
            Names::new(client_prefix, key_prefix.as_deref().unwrap_or(DEFAULT_PREFIX), in_cluster)?;
        config.cleanup_in_is_locked = cleanup_in_is_locked;
        config.connect_timeout = connect_timeout;
        config.fence_retention = fence_retention;
        config.replicas = replicas;
        Ok(config)
    }

    /// The same there: the wait for replicas follows the operation timeout, and once a backend it warns that
    /// a server may evict locks.
    #[must_use]
    pub fn within(mut self, surroundings: &Surroundings) -> RedisConfig {
        self.operation_timeout = surroundings.operation_timeout;
        self.eviction = Arc::new(Eviction::new(Arc::clone(&surroundings.warnings)));
        self
    }

    /// Which locks a backend with this configuration sees, without secrets.
    pub(super) fn store_id(&self) -> StoreId {
        StoreId::new("redis", [self.endpoint.identity(), self.db.into(), self.names.identity()])
    }

    fn at(endpoint: Endpoint) -> RedisConfig {
        RedisConfig {
            endpoint,
            login: Login::default(),
            sentinel_login: Login::default(),
            db: 0,
            client_name: None,
            tls: None,
            sentinel_tls: None,
            names: Names::default(),
            connect_timeout: CONNECT_TIMEOUT,
            cleanup_in_is_locked: false,
            replicas: 0,
            operation_timeout: OPERATION_TIMEOUT,
            fence_retention: None,
            eviction: Arc::new(Eviction::new(Arc::new(NoWarnings))),
            signature: String::new(),
        }
    }

    fn from_url(url: &str) -> Result<RedisConfig> {
        let url = ParsedUrl::parse(url)?;
        let mut config = RedisConfig::at(url.endpoint);
        config.login = Login { username: url.username, password: fixed(url.password) };
        config.db = url.db;
        config.sentinel_login =
            Login { username: url.sentinel_username, password: fixed(url.sentinel_password) };
        config.tls = url.tls;
        config.sentinel_tls = url.sentinel_tls;
        Ok(config)
    }

    /// The configuration, and the prefix that the client puts before every key.
    fn from_facts(mut facts: Settings) -> Result<(RedisConfig, String)> {
        let host = facts.take_text("host")?;
        let port =
            facts.take_count("port", 1, u16::MAX.into())?.map(|port| u16::try_from(port).unwrap_or(u16::MAX));
        let path = facts.take_text("path")?;
        let sentinels = facts.take_text("sentinels")?;
        let sentinel_name = facts.take_text("sentinelName")?;
        let nodes = facts.take_text("clusterNodes")?;
        let tcp = || Address::tcp(host.as_deref().unwrap_or("127.0.0.1"), port.unwrap_or(DEFAULT_PORT));
        let endpoint = match (path, sentinels, nodes) {
            (None, None, None) => Endpoint::Single(tcp()),
            (Some(path), None, None) => Endpoint::Single(Address::Unix(path.into())),
            (None, Some(list), None) => Endpoint::Sentinel {
                sentinels: Address::list("sentinels", &list, SENTINEL_PORT)?,
                master: MasterName::new(sentinel_name.clone().unwrap_or_default())?,
            },
            (None, None, Some(list)) => {
                Endpoint::Cluster(Address::list("clusterNodes", &list, DEFAULT_PORT)?)
            }
            _ => {
                return Err(Error::invalid(
                    "path, sentinels and clusterNodes exclude each other; give only one of them",
                ));
            }
        };
        if sentinel_name.is_some() && !matches!(endpoint, Endpoint::Sentinel { .. }) {
            return Err(Error::invalid("sentinelName is given without sentinels; give both or none"));
        }
        let mut config = RedisConfig::at(endpoint);
        config.login = Login {
            username: facts.take_text("username")?.filter(|name| !name.is_empty()),
            password: fixed(facts.take_text("password")?),
        };
        config.sentinel_login = Login {
            username: facts.take_text("sentinelUsername")?.filter(|name| !name.is_empty()),
            password: fixed(facts.take_text("sentinelPassword")?),
        };
        config.db = facts.take_count("db", 0, i32::MAX.unsigned_abs())?.unwrap_or(0);
        config.client_name = facts.take_text("clientName")?.filter(|name| !name.is_empty());
        let client_prefix = facts.take_text("clientKeyPrefix")?.unwrap_or_default();
        config.tls = Tls::from_facts(&mut facts, &OF_SERVERS)?.flatten();
        let of_sentinels = Tls::from_facts(&mut facts, &OF_SENTINELS)?;
        if of_sentinels.is_some() && !matches!(config.endpoint, Endpoint::Sentinel { .. }) {
            return Err(Error::invalid("sentinelTls is given without sentinels; give both or none"));
        }
        config.sentinel_tls = of_sentinels.unwrap_or_else(|| config.tls.clone());
        facts.finish()?;
        Ok((config, client_prefix))
    }
}

fn fixed(password: Option<String>) -> Password {
    match password {
        Some(text) if !text.is_empty() => Password::Fixed(Secret::new(text)),
        _ => Password::None,
    }
}
