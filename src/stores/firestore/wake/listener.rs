//! The task behind the hints: keeps a listen stream open while somebody watches, and makes a new one when it
//! breaks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

use super::{Listened, Order, TargetId, is_free};
use crate::lock::{Error, Result};
use crate::stores::firestore::error::{self, Request};
use crate::stores::firestore::transport::connection::{Again, Call, Server};
use crate::stores::firestore::transport::proto::listen_response::ResponseType;
use crate::stores::firestore::transport::proto::target::{DocumentsTarget, TargetType};
use crate::stores::firestore::transport::proto::target_change::TargetChangeType;
use crate::stores::firestore::transport::proto::{
    ListenRequest, ListenResponse, Target, TargetChange, listen_request,
};
use crate::stores::net::backoff::Backoff;

/// A stream that nobody needs is kept this long, since whoever waited for one key soon waits for another.
const LINGER: Duration = Duration::from_secs(30);
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const MOST_PAUSE: Duration = Duration::from_secs(3);

/// How a stream ended.
enum Ended {
    /// Nobody watches.
    Idle,
    /// After something was current on it.
    Broken(Error),
    NeverBegan(Error),
}

/// Listens until nobody has watched for a while, or the backend is closed.
pub(in crate::stores::firestore) async fn run(
    server: Arc<Server>,
    listened: Listened,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    tokio::select! {
        biased;
        () = server.closed.cancelled() => listened.end(),
        () = keep_listening(&server, &listened, &mut orders) => {}
    }
}

async fn keep_listening(server: &Server, listened: &Listened, orders: &mut mpsc::UnboundedReceiver<Order>) {
    let mut backoff = Backoff::new(LEAST_PAUSE, MOST_PAUSE);
    loop {
        let error = match listen(server, listened, orders).await {
            Ended::Idle if listened.retire() => return,
            Ended::Idle => continue,
            Ended::Broken(error) => {
                backoff.succeeded();
                error
            }
            Ended::NeverBegan(error) => error,
        };
        listened.broken(&error);
        // Whoever waits goes by timer meanwhile.
        backoff.failed();
        backoff.wait().await;
    }
}

async fn listen(server: &Server, listened: &Listened, orders: &mut mpsc::UnboundedReceiver<Order>) -> Ended {
    let all = listened.begin(orders);
    if all.is_empty() {
        return Ended::Idle;
    }
    let (mut call, mut replies, requests) = match open(server, all).await {
        Ok(opened) => opened,
        Err(error) => return Ended::NeverBegan(error),
    };
    let mut used = false;
    let mut unused_since = None;
    let error = loop {
        unused_since = if listened.is_idle() { unused_since.or(Some(Instant::now())) } else { None };
        let linger = unused_since.unwrap_or_else(Instant::now) + LINGER;
        tokio::select! {
            biased;
            reply = replies.message() => match reply {
                Ok(Some(reply)) => {
                    call.answered(None);
                    match take(server, listened, reply) {
                        Ok(current) => used |= current,
                        Err(error) => break error,
                    }
                }
                Ok(None) => break Error::unavailable("Firestore ended the subscription; it is made anew"),
                // A new stream begins after a pause, so not here.
                Err(status) => break call.failure(&status),
            },
            () = call.hangs() => break Error::unavailable("the connection of the subscription hangs; it is made anew"),
            Some(order) = orders.recv() => {
                // A stream that has ended says so above.
                let _ = requests.send(request(&call.names.database, order));
            }
            () = tokio::time::sleep_until(linger), if unused_since.is_some() => return Ended::Idle,
        }
    };
    if used { Ended::Broken(error) } else { Ended::NeverBegan(error) }
}

type Requests = mpsc::UnboundedSender<ListenRequest>;

/// Opens a stream that listens to `all`.
async fn open(
    server: &Server,
    all: Vec<(TargetId, Arc<str>)>,
) -> Result<(Call<'_>, Streaming<ListenResponse>, Requests)> {
    let mut again = Again::default();
    loop {
        let mut call = server.call(Request::Listen).await?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        for (id, name) in &all {
            // The receiver is right here.
            let _ = requests.send(request(&call.names.database, Order::Add(*id, Arc::clone(name))));
        }
        let outgoing =
            stream::unfold(outgoing, |mut outgoing: mpsc::UnboundedReceiver<ListenRequest>| async {
                outgoing.recv().await.map(|request| (request, outgoing))
            });
        let message = call.message(outgoing)?;
        let mut client = call.client();
        let opened = tokio::select! {
            opened = tokio::time::timeout(server.config.connect_timeout, client.listen(message)) => opened.ok(),
            () = call.hangs() => None,
        };
        match opened {
            Some(Ok(replies)) => {
                call.answered(None);
                return Ok((call, replies.into_inner(), requests));
            }
            Some(Err(status)) => call.failed(&status, &mut again)?,
            None => {
                let code = tonic::Code::DeadlineExceeded;
                return Err(error::of_code(&server.config.host, Request::Listen, code));
            }
        }
    }
}

fn request(database: &str, order: Order) -> ListenRequest {
    let change = match order {
        Order::Add(TargetId(target_id), name) => {
            let documents = DocumentsTarget { documents: vec![name.to_string()] };
            let target_type = Some(TargetType::Documents(documents));
            listen_request::TargetChange::AddTarget(Target { target_id, target_type, ..Target::default() })
        }
        Order::Remove(TargetId(target_id)) => listen_request::TargetChange::RemoveTarget(target_id),
    };
    ListenRequest { database: database.to_owned(), target_change: Some(change), ..ListenRequest::default() }
}

/// Turns a reply into hints. Answers whether something became current.
///
/// # Errors
/// Why the server stopped listening to a target that it had listened to.
fn take(server: &Server, listened: &Listened, reply: ListenResponse) -> Result<bool> {
    match reply.response_type {
        Some(ResponseType::TargetChange(change)) => return take_target(server, listened, &change),
        Some(ResponseType::DocumentChange(change)) => {
            if change.document.is_some_and(|document| is_free(server, &document)) {
                listened.hint(ids(&change.target_ids));
            }
            listened.hint(ids(&change.removed_target_ids));
        }
        Some(ResponseType::DocumentDelete(gone)) => listened.hint(ids(&gone.removed_target_ids)),
        Some(ResponseType::DocumentRemove(gone)) => listened.hint(ids(&gone.removed_target_ids)),
        // How many documents match: of one document, its own messages have told.
        Some(ResponseType::Filter(_)) | None => {}
    }
    Ok(false)
}

fn take_target(server: &Server, listened: &Listened, change: &TargetChange) -> Result<bool> {
    match change.target_change_type() {
        TargetChangeType::Current => {
            listened.current(ids(&change.target_ids));
            Ok(true)
        }
        TargetChangeType::Remove => match &change.cause {
            Some(cause) if cause.code != 0 => {
                let code = tonic::Code::from_i32(cause.code);
                let error = error::of_code(&server.config.host, Request::Listen, code);
                if listened.refused(ids(&change.target_ids), &error) { Err(error) } else { Ok(false) }
            }
            // As it was ordered.
            _ => Ok(false),
        },
        // After a reset the present state is told anew.
        TargetChangeType::NoChange | TargetChangeType::Add | TargetChangeType::Reset => Ok(false),
    }
}

fn ids(ids: &[i32]) -> impl Iterator<Item = TargetId> {
    ids.iter().copied().map(TargetId)
}
