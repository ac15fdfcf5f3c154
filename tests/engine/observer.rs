//! What an observer hears: every request for the key, and every release that nobody waits for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncguard::backend::Mutation;
use syncguard::engine::{AcquireOptions, Answer, Observer};
use syncguard::lock::{Code, LockId, Result};
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::{LONG, Process, code, held, ms, options, patient, settle, steady, store, unavailable};

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn add(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

impl Observer for Log {
    fn asked(&self, answer: Answer<'_>, took: Duration) {
        let answer = match answer {
            Answer::Granted(_) => "granted",
            Answer::Held => "held",
            Answer::Failed(error) => error.code().as_str(),
        };
        self.add(format!("{answer} {}", took.as_millis()));
    }

    fn undone(&self, _: &LockId, result: &Result<Mutation<()>>, _: Duration) {
        self.add(match result {
            Ok(mutation) => format!("undone {mutation:?}"),
            Err(error) => format!("undone {}", error.code().as_str()),
        });
    }
}

fn observed(log: &Arc<Log>) -> AcquireOptions {
    AcquireOptions { observer: Some(log.clone()), ..options(LONG) }
}

#[tokio::test(start_paused = true)]
async fn each_request_and_what_is_handed_over_is_told() {
    let store = store();
    let process = Process::on(&store);
    let log = Arc::new(Log::default());
    process.backend.script(Operation::Acquire, [Fault::Fail(unavailable())]);
    let lease = process.client.lock(observed(&log), &steady(), None).await.expect("granted");
    assert_eq!(log.taken(), ["ServiceUnavailable 0", "granted 0"]);
    let next = tokio::spawn({
        let (client, options) = (process.client.clone(), observed(&log));
        async move { client.lock(options, &patient(), None).await }
    });
    settle().await;
    process.free(&lease).await;
    next.await.unwrap().expect("handed over");
    // Asked before it subscribed and after.
    assert_eq!(log.taken(), ["held 0", "held 0", "granted 0"]);
}

#[tokio::test(start_paused = true)]
async fn the_release_of_a_grant_that_comes_too_late_is_told() {
    let store = store();
    let process = Process::on(&store);
    let log = Arc::new(Log::default());
    let answers = Arc::new(Notify::new());
    process.backend.script(Operation::Acquire, [Fault::HoldReply(answers.clone())]);
    let cancel = CancellationToken::new();
    let locking = tokio::spawn({
        let (client, options, cancel) = (process.client.clone(), observed(&log), cancel.clone());
        async move { client.lock(options, &steady(), Some(&cancel)).await }
    });
    sleep(ms(100)).await;
    cancel.cancel();
    assert_eq!(code(locking.await.unwrap()), Code::Aborted);
    assert_eq!(log.taken(), ["Aborted 100"]);
    answers.notify_one();
    settle().await;
    assert_eq!(log.taken(), ["undone Done(())"]);
    assert_eq!(held(&store).await, None);
    assert_eq!(Arc::strong_count(&log), 1, "there is nothing left to hear");
}
