//! Work that, once begun, is finished also when nobody waits for it any more: a statement that was sent is
//! answered on its connection, so the connection is busy until then.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

pub(in crate::stores::postgres) struct Detached<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>, Handle)
where
    T: Send + 'static;

impl<T: Send + 'static> Detached<T> {
    /// Needs to be made inside a tokio runtime.
    pub(in crate::stores::postgres) fn new(work: impl Future<Output = T> + Send + 'static) -> Detached<T> {
        Detached(Some(Box::pin(work)), Handle::current())
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let answer = work.as_mut().poll(cx);
        if answer.is_ready() {
            self.0 = None;
        }
        answer
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            self.1.spawn(work);
        }
    }
}
