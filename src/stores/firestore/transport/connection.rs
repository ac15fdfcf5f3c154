//! One HTTP/2 connection per backend, made on first use and again when it broke; every call on it is
//! authorised, and every reply corrects the clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use super::link::Link;
use super::proto::firestore_client::FirestoreClient;
use crate::lock::{Error, Result};
use crate::stores::firestore::auth::Tokens;
use crate::stores::firestore::clock::{Moment, ServerClock};
use crate::stores::firestore::config::FirestoreConfig;
use crate::stores::firestore::error::{self, Request, Sent};
use crate::stores::firestore::names::Names;
use crate::stores::target::Secret;

/// How often a request is made again that was surely not sent: more often than once, since servers that go away
/// come in groups, and never for long.
const UNSENT_REPEATS: u32 = 3;

/// The way to one database.
#[derive(Debug)]
pub(in crate::stores::firestore) struct Server {
    pub(in crate::stores::firestore) config: FirestoreConfig,
    pub(in crate::stores::firestore) clock: ServerClock,
    pub(in crate::stores::firestore) closed: CancellationToken,
    tokens: Tokens,
    /// Known from the configuration, or once the credentials have told the project.
    names: tokio::sync::OnceCell<Arc<Names>>,
    link: Mutex<Option<Arc<Link>>>,
}

impl Server {
    /// Does no I/O.
    pub(in crate::stores::firestore) fn new(config: FirestoreConfig) -> Server {
        Server {
            clock: ServerClock::new(),
            closed: CancellationToken::new(),
            tokens: Tokens::new(config.credentials.clone(), config.connect_timeout),
            names: tokio::sync::OnceCell::new(),
            link: Mutex::default(),
            config,
        }
    }

    pub(in crate::stores::firestore) fn close(&self) {
        self.closed.cancel();
        *self.link() = None;
    }

    /// # Errors
    /// `InvalidArgument` when neither configuration nor credentials tell the project; those of the token.
    pub(in crate::stores::firestore) async fn names(&self) -> Result<Arc<Names>> {
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
    pub(in crate::stores::firestore) async fn call(&self, request: Request) -> Result<Call<'_>> {
        let names = self.names().await?;
        let token = self.tokens.get().await?;
        let link = self.connected()?;
        let (sent, written) = (Moment::now(), link.wire.written());
        Ok(Call { server: self, request, names, token, link, sent, written, answered: false })
    }

    fn connected(&self) -> Result<Arc<Link>> {
        let mut current = self.link();
        if self.closed.is_cancelled() {
            return Err(error::closed());
        }
        if let Some(link) = current.as_ref() {
            if !link.hangs() {
                return Ok(Arc::clone(link));
            }
            link.given_up.cancel();
        }
        let link = Arc::new(Link::new(&self.config)?);
        *current = Some(Arc::clone(&link));
        Ok(link)
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

/// One call on its way. Dropped without an answer, it may show that its connection hangs.
pub(in crate::stores::firestore) struct Call<'a> {
    server: &'a Server,
    request: Request,
    pub(in crate::stores::firestore) names: Arc<Names>,
    token: Secret,
    link: Arc<Link>,
    sent: Moment,
    /// What had left on the connection before.
    written: u64,
    answered: bool,
}

impl Call<'_> {
    pub(in crate::stores::firestore) fn client(&self) -> FirestoreClient<Channel> {
        self.link.client.clone()
    }

    /// Puts the headers on a message.
    ///
    /// # Errors
    /// `InvalidArgument` when the token is no text that a header can hold.
    pub(in crate::stores::firestore) fn message<T>(&self, message: T) -> Result<tonic::Request<T>> {
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

    /// Ends when the connection is known to hang.
    pub(in crate::stores::firestore) async fn hangs(&self) {
        self.link.given_up.cancelled().await;
    }

    /// The server answered, at this time by its clock.
    pub(in crate::stores::firestore) fn answered(&mut self, time: Option<&prost_types::Timestamp>) {
        self.answered = true;
        if let Some(time) = time {
            self.server.clock.saw(time, self.sent);
        }
    }

    /// The call failed. Answers whether it is to be made again, over a new connection: where this one broke and the
    /// request was surely not sent, or, once, where it only reads.
    ///
    /// # Errors
    /// What the failure means, where it is not.
    pub(in crate::stores::firestore) fn failed(
        &mut self,
        status: &tonic::Status,
        again: &mut Again,
    ) -> Result<()> {
        let sent = self.settle(status);
        let allowed = match sent {
            Sent::Never => UNSENT_REPEATS,
            Sent::Maybe if self.request != Request::Commit => 1,
            Sent::Maybe | Sent::NoConnection | Sent::Answered => 0,
        };
        if again.0 < allowed {
            again.0 += 1;
            return Ok(());
        }
        Err(self.error(status, sent))
    }

    /// The call failed, and is not to be made again.
    pub(in crate::stores::firestore) fn failure(&mut self, status: &tonic::Status) -> Error {
        let sent = self.settle(status);
        self.error(status, sent)
    }

    fn settle(&mut self, status: &tonic::Status) -> Sent {
        self.answered = true;
        let sent = Sent::of(status, || !self.link.wire.seal(self.written));
        if sent != Sent::Answered {
            self.server.abandon(&self.link);
        }
        sent
    }

    fn error(&self, status: &tonic::Status, sent: Sent) -> Error {
        let error = error::of_status(&self.server.config.host, self.request, status, sent);
        let renewable =
            status.code() == tonic::Code::Unauthenticated && self.server.tokens.refused(&self.token);
        if renewable { error.retryable() } else { error }
    }
}

/// How often a request has been made again.
#[derive(Debug, Default)]
pub(in crate::stores::firestore) struct Again(u32);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.link.doubt(self.sent);
        }
    }
}

fn header(text: &str) -> Option<MetadataValue<Ascii>> {
    text.parse().ok()
}
