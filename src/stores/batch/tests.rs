//! The batch over a carrier that writes down what it carries.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, yield_now};

use super::*;

/// Answers each request with its own name, on as many trips as there are permits.
#[derive(Clone)]
struct Named<const GATHERS: bool> {
    trips: Arc<Semaphore>,
    /// Each trip, with what went along; what went by itself in brackets, a second attempt with a question mark.
    log: Arc<Mutex<Vec<String>>>,
    /// How often a trip could not be had.
    refusals: Arc<AtomicUsize>,
}

impl<const GATHERS: bool> Named<GATHERS> {
    fn new(trips: usize) -> Named<GATHERS> {
        Named { trips: Arc::new(Semaphore::new(trips)), log: Arc::default(), refusals: Arc::default() }
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().join(" ")
    }
}

impl Distinct for &'static str {
    fn identity(&self) -> &str {
        self
    }
}

impl<const GATHERS: bool> Carrier for Named<GATHERS> {
    type Request = &'static str;
    type Answer = &'static str;
    type Trip = OwnedSemaphorePermit;
    type Reason = char;
    type Backlog = DistinctBacklog<Job<Self>>;

    const WIDTH: usize = 3;
    const GATHERS: bool = GATHERS;

    fn try_trip(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.trips).try_acquire_owned().ok()
    }

    async fn trip(&self) -> Result<OwnedSemaphorePermit> {
        let trip = Arc::clone(&self.trips).acquire_owned().await.unwrap();
        match self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(Error::unavailable("no trip")),
            Err(_) => Ok(trip),
        }
    }

    async fn alone(
        &self,
        _trip: Option<OwnedSemaphorePermit>,
        request: &'static str,
    ) -> Result<&'static str> {
        self.note(format!("({request})"));
        Ok(request)
    }

    async fn together(
        &self,
        _trip: OwnedSemaphorePermit,
        requests: &[&&'static str],
    ) -> Result<Vec<Reply<Self>>> {
        self.note(requests.iter().map(|request| **request).collect::<String>());
        yield_now().await;
        let reply = |request: &&&'static str| match request.as_bytes()[0] {
            b'x' => Err(Error::internal("the whole trip")),
            b'l' => Ok(Reply::Alone),
            // Only the first time: the second attempt is seen to.
            b'p' => Ok(Reply::Patience('p')),
            _ => Ok(Reply::Answer(Ok(**request))),
        };
        requests.iter().map(reply).collect()
    }

    async fn again(&self, reason: &char, request: &&'static str) -> Result<&'static str> {
        self.note(format!("{request}?{reason}"));
        Ok(request)
    }
}

type Asked = JoinHandle<Result<&'static str>>;

fn ask<const G: bool>(batch: &Arc<Batch<Named<G>>>, request: &'static str) -> Asked {
    let batch = Arc::clone(batch);
    tokio::spawn(async move { batch.submit(request).await })
}

fn batch<const G: bool>(carrier: &Named<G>) -> Arc<Batch<Named<G>>> {
    Arc::new(Batch::new(carrier.clone()))
}

#[tokio::test]
async fn a_request_goes_by_itself_while_a_trip_is_free_and_with_others_while_none_is() {
    let carrier = Named::<false>::new(1);
    let batch = batch(&carrier);
    assert_eq!(batch.submit("a").await.unwrap(), "a");
    let taken = carrier.try_trip();
    let asked = ["b", "c", "d", "e"].map(|request| ask(&batch, request));
    yield_now().await;
    assert_eq!(carrier.log(), "(a)");
    drop(taken);
    for (asked, request) in asked.into_iter().zip(["b", "c", "d", "e"]) {
        assert_eq!(asked.await.unwrap().unwrap(), request);
    }
    assert_eq!(carrier.log(), "(a) bcd e");
}

#[tokio::test]
async fn where_requests_gather_those_of_one_moment_go_together() {
    let carrier = Named::<true>::new(2);
    let batch = batch(&carrier);
    let asked = ["a", "b", "c"].map(|request| ask(&batch, request));
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    // The one that gathered goes behind those who came along.
    assert_eq!(carrier.log(), "bca");
    batch.submit("d").await.unwrap();
    assert_eq!(carrier.log(), "bca (d)", "it was the only one");
}

#[tokio::test]
async fn whoever_gives_up_before_it_was_sent_has_asked_for_nothing() {
    let carrier = Named::<true>::new(1);
    let batch = batch(&carrier);
    // One that gathers is given up: those who came along go without it.
    let gathers = ask(&batch, "a");
    yield_now().await;
    let comes_along = ask(&batch, "b");
    gathers.abort();
    assert_eq!(comes_along.await.unwrap().unwrap(), "b");
    let taken = carrier.try_trip();
    let [given_up, stays] = ["c", "d"].map(|request| ask(&batch, request));
    yield_now().await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    drop(taken);
    assert_eq!(stays.await.unwrap().unwrap(), "d");
    assert!(!carrier.log().contains(['a', 'c']), "{}", carrier.log());
}

#[tokio::test]
async fn what_fails_as_a_whole_fails_for_each_and_for_nobody_after() {
    let carrier = Named::<false>::new(1);
    let batch = batch(&carrier);
    let answers = batch.submit_all(vec!["a", "x", "b", "c"]).await;
    let texts: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(Error::to_string)).collect();
    assert!(texts[..3].iter().all(|text| text.as_ref().is_err_and(|text| text.contains("the whole trip"))));
    assert!(matches!(texts[3], Ok(&"c")));
    carrier.refusals.store(1, Ordering::SeqCst);
    let taken = carrier.try_trip();
    let asked = ["d", "e", "f", "g"].map(|request| ask(&batch, request));
    yield_now().await;
    drop(taken);
    for asked in asked {
        assert!(
            asked.await.unwrap().unwrap_err().to_string().contains("no trip"),
            "also those of the next trip"
        );
    }
    assert_eq!(batch.submit("h").await.unwrap(), "h");
}

#[tokio::test]
async fn what_a_trip_leaves_goes_by_itself() {
    let carrier = Named::<false>::new(1);
    let answers = batch(&carrier).submit_all(vec!["a", "l1", "b"]).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<String>(), "al1b");
    assert_eq!(carrier.log(), "al1b (l1)");
}

#[tokio::test]
async fn of_those_with_one_reason_the_first_asks_again_and_the_others_go_together_after_it() {
    let carrier = Named::<false>::new(1);
    let batch = batch(&carrier);
    let answers = batch.submit_all(vec!["p1", "p2", "a"]).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<String>(), "p1p2a");
    assert_eq!(carrier.log(), "p1p2a p1?p p2 p2?p");
}

/// Whatever ends when: nobody is forgotten, and nothing goes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_forgotten() {
    let carrier = Named::<true>::new(2);
    let batch = batch(&carrier);
    for round in 0..500 {
        let asked = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|request| ask(&batch, request));
        let (given_up, stay) = asked.split_at(round % 8);
        given_up.iter().for_each(JoinHandle::abort);
        let stay: Vec<_> = stay.iter().collect();
        let all_answered = async {
            while !stay.iter().all(|asked| asked.is_finished()) {
                yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, all_answered).await.expect("everybody gets an answer");
    }
    let log = carrier.log();
    for (name, least) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().zip(0..) {
        let sent = log.matches(name).count();
        assert!((63 + least * 62..=500).contains(&sent), "{name}: {sent}");
    }
}
