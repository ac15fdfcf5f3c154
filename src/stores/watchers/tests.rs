//! The registry alone, over a store that only keeps a diary.

use std::sync::Arc;

use futures_util::FutureExt;

use super::{Left, Number, Share, Source, Standing, Watchers};
use crate::backend::Watch;
use crate::lock::{Error, Result};

/// Writes down what it is told.
#[derive(Default)]
struct Diary {
    events: Vec<String>,
    /// Whether closing takes time.
    slow: bool,
    closing: Vec<(Arc<str>, Number)>,
}

impl Source for Diary {
    type Name = Arc<str>;
    type Channel = usize;

    fn left(&mut self, name: &Arc<str>, number: Number, channel: &mut usize) -> Left {
        self.events.push(format!("left {name} {channel}"));
        if self.slow {
            self.closing.push((Arc::clone(name), number));
            return Left::Closing;
        }
        Left::Closed
    }
}

type Registry = Watchers<Diary>;

fn share(registry: &Registry, name: &str, standing: Standing) -> Share<Diary> {
    let share = registry.watch(name.into(), |diary, number| {
        diary.events.push(format!("open {name}"));
        Ok((usize::try_from(number.0).unwrap(), standing))
    });
    share.unwrap()
}

fn open(registry: &Registry, name: &str) -> Watch {
    share(registry, name, Standing::Open).into_watch(())
}

fn hinted(watch: &Watch) -> bool {
    watch.hint().now_or_never().is_some()
}

fn events(registry: &Registry) -> Vec<String> {
    std::mem::take(&mut registry.lock().source.events)
}

fn is_empty(registry: &Registry) -> bool {
    registry.lock().is_empty()
}

#[test]
fn the_first_opens_the_last_closes_and_a_hint_goes_to_all_between() {
    let registry = Registry::default();
    let mut watches: Vec<Watch> = (0..500).map(|_| open(&registry, "a")).collect();
    let other = open(&registry, "b");
    assert_eq!(events(&registry), ["open a", "open b"]);
    while let Some(last) = watches.pop() {
        registry.lock().hint("a");
        assert!(hinted(&last) && watches.iter().all(hinted) && !hinted(&other));
        registry.lock().hint("nobody's");
        assert!(!hinted(&last));
    }
    assert_eq!(events(&registry), ["left a 1"]);
    drop(other);
    assert_eq!(events(&registry), ["left b 2"]);
    assert!(is_empty(&registry));
}

#[test]
fn a_broken_stream_wakes_everybody_once_and_they_still_watch() {
    let registry = Registry::default();
    let watches = [open(&registry, "a"), open(&registry, "a"), open(&registry, "b")];
    registry.lock().hint_all();
    registry.lock().hint_all();
    assert!(watches.iter().all(hinted), "who may have missed a hint looks");
    assert!(!watches.iter().any(hinted), "and once is enough");
    registry.lock().hint("a");
    assert!(hinted(&watches[0]) && hinted(&watches[1]) && !hinted(&watches[2]));
}

#[test]
fn a_channel_that_does_not_open_leaves_nothing_and_the_next_one_tries_again() {
    let registry = Registry::default();
    let refused: Result<Share<_>> = registry.watch("a".into(), |_, _| Err(Error::unavailable("no")));
    assert!(refused.is_err() && is_empty(&registry));
    let watch = open(&registry, "a");
    assert_eq!(events(&registry), ["open a"]);
    drop(watch);
    assert!(is_empty(&registry));
}

#[test]
fn who_comes_while_a_channel_closes_keeps_it() {
    let registry = Registry::default();
    registry.lock().source.slow = true;
    drop(open(&registry, "a"));
    let (name, number) = registry.lock().source.closing.pop().unwrap();
    assert!(!is_empty(&registry) && !registry.lock().is_watched(&name, number));
    let again = open(&registry, "a");
    assert!(registry.lock().is_watched(&name, number), "the store sees it before it closes");
    registry.lock().forget(&name, number);
    registry.lock().hint("a");
    assert!(hinted(&again));
    assert_eq!(events(&registry), ["open a", "left a 1"], "it was never opened a second time");
    drop(again);
    let (name, number) = registry.lock().source.closing.pop().unwrap();
    registry.lock().forget(&name, number);
    assert!(is_empty(&registry));
}

#[tokio::test]
async fn who_leaves_while_its_channel_opens_leaves_nothing() {
    let registry = Registry::default();
    for told in [false, true] {
        let mut waiting = Box::pin(async {
            share(&registry, "a", Standing::Opening).opened().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        });
        assert!(waiting.as_mut().now_or_never().is_none());
        if told {
            registry.lock().opened(&"a".into());
        }
        drop(waiting);
        assert_eq!(events(&registry), ["open a".to_owned(), format!("left a {}", 1 + usize::from(told))]);
        assert!(is_empty(&registry));
    }
    // One that goes leaves the others what they wait for.
    let mut waiting = share(&registry, "a", Standing::Opening);
    for _ in 0..60 {
        assert!(share(&registry, "a", Standing::Opening).opened().now_or_never().is_none());
    }
    assert_eq!(registry.lock().watching("a"), 1);
    assert_eq!(registry.lock().channels["a"].watchers.len(), 1, "nothing of those who went");
    registry.lock().opened(&"a".into());
    waiting.opened().await.unwrap().unwrap();
}

#[tokio::test]
async fn all_who_wait_are_told_when_a_channel_is_open_and_later_ones_at_once() {
    let registry = Registry::default();
    let mut waiting: Vec<_> = (0..50).map(|_| share(&registry, "a", Standing::Opening)).collect();
    registry.lock().answer(&"a".into(), &Ok(()));
    waiting.pop().unwrap().opened().await.unwrap().unwrap();
    assert!(share(&registry, "a", Standing::Open).waits(), "an answer to those who waited opened nothing");
    registry.lock().opened(&"a".into());
    assert!(!share(&registry, "a", Standing::Opening).waits());
    for mut share in waiting {
        share.opened().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn while_there_is_no_stream_who_waits_or_comes_is_told_and_who_watches_stays() {
    let registry = Registry::default();
    let (watch, mut waiting) = (open(&registry, "b"), share(&registry, "a", Standing::Opening));
    registry.lock().all_failed(&Error::unavailable("cut"));
    waiting.opened().await.unwrap().unwrap_err();
    for name in ["a", "b"] {
        share(&registry, name, Standing::Open).opened().await.unwrap().unwrap_err();
    }
    assert!(!registry.lock().failed(&"b".into(), &Error::unavailable("cut")), "no longer open");
    // What is watched is opened again, in the order in which it came.
    assert_eq!(registry.lock().reopen(), ["b", "a"].map(Arc::<str>::from));
    let mut later = share(&registry, "b", Standing::Open);
    assert!(later.waits());
    registry.lock().opened(&"b".into());
    later.opened().await.unwrap().unwrap();
    registry.lock().hint("b");
    assert!(hinted(&watch));
    assert!(registry.lock().failed(&"b".into(), &Error::unavailable("cut")), "it was open");
}

#[tokio::test]
async fn a_stream_that_begins_anew_closes_nothing_that_it_never_had() {
    let registry = Registry::default();
    registry.lock().source.slow = true;
    drop(open(&registry, "a"));
    assert!(!is_empty(&registry) && !registry.lock().is_wanted());
    assert!(registry.lock().reopen().is_empty());
    assert!(registry.lock().is_empty());
}

#[tokio::test]
async fn the_end_wakes_everybody_and_leaves_nobody() {
    let registry = Registry::default();
    let (watch, mut waiting) = (open(&registry, "a"), share(&registry, "b", Standing::Opening));
    registry.lock().end();
    assert!(hinted(&watch) && registry.lock().is_empty());
    assert!(waiting.opened().await.is_none());
    // Those of before don't take from one that comes later.
    let _later = open(&registry, "a");
    drop((watch, waiting));
    assert_eq!(registry.lock().watching("a"), 1);
    assert_eq!(events(&registry), ["open a", "open b", "open a"]);
}

#[test]
fn what_is_told_of_an_earlier_channel_of_that_name_changes_nothing() {
    let registry = Registry::default();
    registry.lock().source.slow = true;
    drop(open(&registry, "a"));
    let (name, first) = registry.lock().source.closing.pop().unwrap();
    registry.lock().forget(&name, first);
    let watch = open(&registry, "a");
    assert!(!registry.lock().is_watched(&name, first));
    drop(watch);
    let (_, second) = registry.lock().source.closing.pop().unwrap();
    assert!(second > first);
    registry.lock().forget(&name, first);
    assert!(!is_empty(&registry), "the second is still closing");
    registry.lock().forget(&name, second);
    assert!(is_empty(&registry));
}

#[test]
fn watchers_of_every_thread_leave_nothing() {
    let registry = Registry::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let registry = &registry;
            scope.spawn(move || {
                for n in 0..500 {
                    let watch = open(registry, ["a", "b", "c"][(n + thread) % 3]);
                    registry.lock().hint_all();
                    assert!(hinted(&watch));
                }
            });
        }
    });
    assert!(is_empty(&registry));
    let events = events(&registry);
    let opened = events.iter().filter(|event| event.starts_with("open")).count();
    assert_eq!(opened * 2, events.len(), "what was opened was closed, once");
}
