//! One request for a key, and every way in which waiting for its answer can end.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::undo::InFlight;
use crate::backend::{AcquireRequest, Acquired};
use crate::engine::shared::{Shared, ended};
use crate::event_loop::sleep_until;
use crate::lock::{Error, Result};

pub(in crate::engine) enum End {
    Answered(Result<Acquired>),
    /// The operation timeout passed.
    Hung(InFlight),
    /// The acquisition's own deadline passed.
    Deadline(InFlight),
    /// The caller aborted, or the client was closed.
    Ended(InFlight, Error),
}

pub(in crate::engine) async fn attempt(
    shared: &Arc<Shared>,
    request: &AcquireRequest,
    deadline: Option<Instant>,
    cancel: Option<&CancellationToken>,
) -> End {
    let mut call: InFlight = Box::pin({
        let (backend, request) = (Arc::clone(&shared.backend), request.clone());
        async move { backend.acquire(&request).await }
    });
    let limit = Instant::now() + shared.options.operation_timeout;
    let until = deadline.map_or(limit, |deadline| deadline.min(limit));
    tokio::select! {
        biased;
        answer = &mut call => End::Answered(answer),
        error = ended(shared, cancel) => End::Ended(call, error),
        () = sleep_until(until) => {
            if deadline == Some(until) { End::Deadline(call) } else { End::Hung(call) }
        }
    }
}
