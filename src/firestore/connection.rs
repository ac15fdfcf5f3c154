//! One HTTP/2 connection per backend, made on first use and again when it broke; every call on it is
//! authorised, and every reply corrects the clock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::auth::Tokens;
use super::clock::{Moment, ServerClock};
use super::config::FirestoreConfig;
use super::error::{self, Request};
use super::names::Names;
use super::proto::firestore_client::FirestoreClient;
use crate::lock::{Error, Result};
use crate::secret::Secret;

/// A connection on which nothing moves is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that was given up before this had been given no chance, which says nothing about its connection.
const FAIR_CHANCE: Duration = Duration::from_secs(1);

/// The way to one database.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: FirestoreConfig,
    pub(super) clock: ServerClock,
    pub(super) closed: CancellationToken,
    tokens: Tokens,
    /// Known from the configuration, or once the credentials have told the project.
    names: tokio::sync::OnceCell<Arc<Names>>,
    link: Mutex<Option<Arc<Link>>>,
}

/// One connection.
struct Link {
    client: FirestoreClient<Channel>,
    last_answer: Mutex<Moment>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Server {
    /// Does no I/O.
    pub(super) fn new(config: FirestoreConfig) -> Server {
        Server {
            clock: ServerClock::new(),
            closed: CancellationToken::new(),
            tokens: Tokens::new(config.credentials.clone(), config.connect_timeout),
            names: tokio::sync::OnceCell::new(),
            link: Mutex::default(),
            config,
        }
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
        *self.link() = None;
    }

    /// # Errors
    /// `InvalidArgument` when neither configuration nor credentials tell the project; those of the token.
    pub(super) async fn names(&self) -> Result<Arc<Names>> {
        if self.closed.is_cancelled() {
            return Err(error::closed());
        }
        let config = &self.config;
        let names = self.names.get_or_try_init(|| async {
            let project = match &config.project {
                Some(project) => project.clone(),
                None => self.tokens.project().await?.ok_or_else(|| {
                    Error::invalid("projectId is missing and the credentials don't tell it; give it, or set GOOGLE_CLOUD_PROJECT")
                })?,
            };
            Ok(Arc::new(Names::new(&project, &config.database, &config.collection, &config.fence_collection)))
        });
        names.await.cloned()
    }

    /// Prepares a call: connection, token and headers.
    ///
    /// # Errors
    /// `InvalidArgument` after the close; those of the token.
    pub(super) async fn call(&self, request: Request) -> Result<Call<'_>> {
        let names = self.names().await?;
        let token = self.tokens.get().await?;
        let link = self.connected()?;
        Ok(Call { server: self, request, names, token, link, sent: Moment::now(), answered: false })
    }

    fn connected(&self) -> Result<Arc<Link>> {
        let mut current = self.link();
        if self.closed.is_cancelled() {
            return Err(error::closed());
        }
        if let Some(link) = current.as_ref() {
            return Ok(Arc::clone(link));
        }
        let channel = self.endpoint()?.connect_lazy();
        let link =
            Arc::new(Link { client: FirestoreClient::new(channel), last_answer: Mutex::new(Moment::now()) });
        *current = Some(Arc::clone(&link));
        Ok(link)
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let config = &self.config;
        let scheme = if config.tls { "https" } else { "http" };
        let unusable = |error: tonic::transport::Error| {
            Error::invalid(format!("no connection to {} can be made; check the host", config.host))
                .because(error)
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", config.host))
            .map_err(unusable)?
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        if !config.tls {
            return Ok(endpoint);
        }
        endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(unusable)
    }

    fn link(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call makes a new connection; those that are on this one may still end on it.
    fn abandon(&self, link: &Arc<Link>) {
        let mut current = self.link();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            *current = None;
        }
    }
}

/// One call on its way. Dropped without an answer, it may show that its connection is dead.
pub(super) struct Call<'a> {
    server: &'a Server,
    request: Request,
    pub(super) names: Arc<Names>,
    token: Secret,
    link: Arc<Link>,
    sent: Moment,
    answered: bool,
}

impl Call<'_> {
    pub(super) fn client(&self) -> FirestoreClient<Channel> {
        self.link.client.clone()
    }

    /// Puts the headers on a message.
    ///
    /// # Errors
    /// `InvalidArgument` when the token is no text that a header can hold.
    pub(super) fn message<T>(&self, message: T) -> Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        let mut bearer = header(&format!("Bearer {}", self.token.reveal())).ok_or_else(|| {
            Error::invalid("the access token for Firestore holds characters that no token has; check where it comes from")
        })?;
        bearer.set_sensitive(true);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", bearer);
        // How Google's front ends find the database.
        let Names { project, database_id, database, .. } = &*self.names;
        let route = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("project_id", project), ("database_id", database_id)])
            .finish();
        if let (Some(route), Some(resource)) = (header(&route), header(database)) {
            metadata.insert("x-goog-request-params", route);
            metadata.insert("google-cloud-resource-prefix", resource);
        }
        Ok(request)
    }

    /// The server answered, at this time by its clock.
    pub(super) fn answered(&mut self, time: Option<&prost_types::Timestamp>) {
        self.answered = true;
        *self.link.last_answer() = Moment::now();
        if let Some(time) = time {
            self.server.clock.saw(time, self.sent);
        }
    }

    /// The call failed.
    pub(super) fn failed(&mut self, status: &tonic::Status) -> Error {
        self.answered = true;
        if std::error::Error::source(status).is_none() {
            *self.link.last_answer() = Moment::now();
        }
        let error = error::of_status(&self.server.config.host, self.request, status);
        let renewable =
            status.code() == tonic::Code::Unauthenticated && self.server.tokens.refused(&self.token);
        if renewable { error.retryable() } else { error }
    }
}

impl Drop for Call<'_> {
    /// Whoever gives a call up has waited long enough. If the connection brought nothing at all meanwhile, it
    /// may be half-open, and waiting for the system to notice takes minutes.
    fn drop(&mut self) {
        let waited = Moment::now().since(self.sent);
        if !self.answered && waited >= FAIR_CHANCE && *self.link.last_answer() < self.sent {
            self.server.abandon(&self.link);
        }
    }
}

impl Link {
    fn last_answer(&self) -> MutexGuard<'_, Moment> {
        self.last_answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn header(text: &str) -> Option<MetadataValue<Ascii>> {
    text.parse().ok()
}
