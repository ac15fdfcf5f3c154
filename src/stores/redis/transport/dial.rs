//! From an endpoint to a connection that can be used.

use std::fmt;
use std::sync::Arc;

use super::connection::{Connection, Holder, Settings};
use super::sentinel;
use crate::lock::Code;
use crate::stores::redis::config::RedisConfig;
use crate::stores::redis::config::endpoint::{Address, Endpoint};
use crate::stores::redis::error::Refusal;
use crate::stores::redis::eviction::Eviction;

/// Knows where to connect to and with what.
#[derive(Debug)]
pub(in crate::stores::redis) struct Dialer {
    config: Arc<RedisConfig>,
    to: Endpoint,
}

impl fmt::Display for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to.fmt(f)
    }
}

impl Dialer {
    pub(in crate::stores::redis) fn signature(&self) -> &str {
        &self.config.signature
    }

    pub(in crate::stores::redis) fn eviction(&self) -> &Arc<Eviction> {
        &self.config.eviction
    }

    /// To one server, or to the master that sentinels name.
    pub(in crate::stores::redis) fn new(config: Arc<RedisConfig>, to: Endpoint) -> Dialer {
        Dialer { config, to }
    }

    /// One attempt, within the connect timeout.
    pub(in crate::stores::redis) async fn dial(
        &self,
        holder: Arc<dyn Holder>,
    ) -> Result<Connection, Refusal> {
        let limit = self.config.connect_timeout;
        let attempt = async {
            let address = self.address().await?;
            let connection = Connection::open(self.settings(&address), holder).await?;
            self.verify(&connection).await?;
            Ok(connection)
        };
        tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| {
            Err(Refusal::timed_out(format!(
                "Redis at {} did not complete a connection within {} ms",
                self.to,
                limit.as_millis()
            )))
        })
    }

    fn settings<'a>(&'a self, address: &'a Address) -> Settings<'a> {
        Settings {
            address,
            tls: self.config.tls.as_ref(),
            login: &self.config.login,
            db: self.config.db,
            client_name: self.config.client_name.as_deref(),
        }
    }

    /// Whether the server at an address is the one that is wanted; that of sentinels must be a master, since
    /// they may not yet know what it knows.
    async fn verify(&self, connection: &Connection) -> Result<(), Refusal> {
        match &self.to {
            Endpoint::Sentinel { .. } => sentinel::verify_master(connection).await,
            _ => Ok(()),
        }
    }

    async fn address(&self) -> Result<Address, Refusal> {
        match &self.to {
            Endpoint::Single(address) => Ok(address.clone()),
            Endpoint::Sentinel { sentinels, master } => {
                sentinel::find_master(sentinels, master, &self.config).await
            }
            Endpoint::Cluster(_) => Err(Refusal::new(Code::Internal, "a cluster is dialed node by node")),
        }
    }
}
