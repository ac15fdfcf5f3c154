//! One connection: how it is made, and when it is given up.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::proto::firestore_client::FirestoreClient;
use super::wire::{Dial, Wire};
use crate::lock::{Error, Result};
use crate::stores::firestore::clock::Moment;
use crate::stores::firestore::config::FirestoreConfig;

/// A connection on which nothing moves is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that has brought nothing for so long, though it was asked, is not trusted any more.
const FAIR_CHANCE: Duration = Duration::from_secs(1);

pub(in crate::stores::firestore) struct Link {
    pub(in crate::stores::firestore) client: FirestoreClient<Channel>,
    pub(in crate::stores::firestore) wire: Arc<Wire>,
    /// When the first of the calls was sent that were given up since anything came.
    doubted: Mutex<Option<Moment>>,
    /// What is on a connection that hangs need not wait for an answer.
    pub(in crate::stores::firestore) given_up: CancellationToken,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// Connects when it is first used.
    ///
    /// # Errors
    /// `InvalidArgument` when the host is none.
    pub(in crate::stores::firestore) fn new(config: &FirestoreConfig) -> Result<Link> {
        let wire = Wire::new();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout));
        let channel = endpoint(config)?.connect_with_connector_lazy(Dial { tcp, wire: Arc::clone(&wire) });
        Ok(Link {
            client: FirestoreClient::new(channel),
            wire,
            doubted: Mutex::default(),
            given_up: CancellationToken::new(),
        })
    }

    /// A call that was sent at this time was given up without an answer. If the connection brought nothing at all
    /// meanwhile, it may be half-open, and waiting for the system to notice takes minutes.
    pub(in crate::stores::firestore) fn doubt(&self, sent: Moment) {
        let read_at = self.wire.read_at();
        if read_at < sent {
            let mut doubted = self.doubted();
            *doubted = Some(doubted.filter(|first| read_at < *first).map_or(sent, |first| first.min(sent)));
        }
    }

    pub(in crate::stores::firestore) fn hangs(&self) -> bool {
        self.doubted()
            .is_some_and(|first| self.wire.read_at() < first && Moment::now().since(first) >= FAIR_CHANCE)
    }

    fn doubted(&self) -> MutexGuard<'_, Option<Moment>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn endpoint(config: &FirestoreConfig) -> Result<Endpoint> {
    let scheme = if config.tls { "https" } else { "http" };
    let unusable = |error: tonic::transport::Error| {
        Error::invalid(format!("no connection to {} can be made; check the host", config.host)).because(error)
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", config.host))
        .map_err(unusable)?
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    if !config.tls {
        return Ok(endpoint);
    }
    endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(unusable)
}
