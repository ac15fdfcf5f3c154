//! The rules of the head, one by one, and over random histories.

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A head that was refused once and waits for its timer, which fires in 100 ms.
fn waiting(max_retries: u32, now: Instant) -> (Head, Action) {
    let (mut head, action) = Head::begin(max_retries, false);
    assert_eq!(action, Action::Ask(Cause::Free));
    assert_eq!(head.step(Event::Refused(Cause::Free), now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), Action::Schedule);
    let action = head.step(Event::Scheduled(Some(now + ms(100))), now);
    assert_eq!(action, Action::Wait(Some(now + ms(100))));
    (head, action)
}

#[test]
fn a_key_that_is_known_to_be_held_is_not_asked_for_at_first() {
    assert_eq!(Head::begin(10, true).1, Action::Stand);
    assert_eq!(Head::begin(10, false).1, Action::Ask(Cause::Free));
}

#[test]
fn a_wake_up_while_it_asked_causes_another_attempt_free_of_charge() {
    let now = Instant::now();
    let (mut head, _) = Head::begin(1, false);
    for _ in 0..5 {
        assert_eq!(head.step(Event::Refused(Cause::Free), now), Action::Stand);
        assert_eq!(head.step(Event::MayBeFree, now), Action::Ask(Cause::Free));
    }
    head.step(Event::Refused(Cause::Free), now);
    assert_eq!(head.step(Event::Waiting, now), Action::Schedule, "the retry is still there");
}

#[test]
fn a_timer_costs_a_retry_and_after_the_last_one_only_a_wake_up_helps() {
    let now = Instant::now();
    let (mut head, _) = waiting(1, now);
    assert_eq!(head.step(Event::Elapsed, now), Action::Ask(Cause::Timer));
    assert_eq!(head.step(Event::Refused(Cause::Timer), now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), Action::GiveUpUnlessWoken);
    assert_eq!(head.step(Event::MayBeFree, now), Action::Ask(Cause::Free));
    assert_eq!(head.step(Event::Refused(Cause::Free), now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), Action::GiveUpUnlessWoken);
}

#[test]
fn the_timer_runs_on_while_something_happens_that_is_no_attempt() {
    let now = Instant::now();
    let (mut head, wait) = waiting(10, now);
    assert_eq!(head.step(Event::News, now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now + ms(50)), wait);
}

#[test]
fn what_is_on_its_way_is_waited_for_without_a_timer() {
    let now = Instant::now();
    let (mut head, _) = waiting(10, now);
    head.step(Event::News, now);
    assert_eq!(head.step(Event::Receiving, now), Action::Wait(None));
    // It did not come after all.
    assert_eq!(head.step(Event::News, now), Action::Stand);
    assert_eq!(head.step(Event::MayBeFree, now), Action::Ask(Cause::Free));
    // Nor can one be asked for meanwhile.
    assert_eq!(head.step(Event::Occupied, now), Action::Stand);
}

#[test]
fn after_a_turn_that_went_to_others_it_asks_at_the_latest_after_ten_milliseconds() {
    let now = Instant::now();
    let (mut head, _) = waiting(1, now);
    head.step(Event::News, now);
    assert_eq!(head.step(Event::Yielded { echo: false }, now), Action::Wait(Some(now + YIELD_AT_MOST)));
    assert_eq!(head.step(Event::Elapsed, now + YIELD_AT_MOST), Action::Ask(Cause::Free));
    assert_eq!(head.step(Event::Refused(Cause::Free), now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), Action::Schedule, "no retry was spent");
}

#[test]
fn a_turn_that_went_to_others_ends_in_a_look_also_where_no_retries_are_left() {
    let now = Instant::now();
    let (mut head, _) = Head::begin(0, true);
    assert_eq!(head.step(Event::Yielded { echo: false }, now), Action::Wait(Some(now + YIELD_AT_MOST)));
    assert_eq!(head.step(Event::Elapsed, now), Action::Ask(Cause::Free));
}

#[test]
fn the_echo_of_its_own_release_is_no_wake_up_once() {
    let now = Instant::now();
    let yields = Action::Wait(Some(now + YIELD_AT_MOST));
    let (mut head, _) = waiting(10, now);
    head.step(Event::News, now);
    head.step(Event::Yielded { echo: true }, now);
    assert_eq!(head.step(Event::Woken { live: true }, now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), yields);
    assert_eq!(head.step(Event::Woken { live: true }, now), Action::AskWhoGoesFirst);
    // The end of the subscription is no echo.
    let (mut head, _) = waiting(10, now);
    head.step(Event::News, now);
    head.step(Event::Yielded { echo: true }, now);
    assert_eq!(head.step(Event::Woken { live: false }, now), Action::AskWhoGoesFirst);
}

#[test]
fn others_have_their_head_start_at_a_wake_up() {
    let now = Instant::now();
    let (mut head, _) = waiting(1, now);
    assert_eq!(head.step(Event::Woken { live: true }, now), Action::AskWhoGoesFirst);
    assert_eq!(head.step(Event::HeadStart(ms(2)), now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), Action::Wait(Some(now + ms(2))));
    assert_eq!(head.step(Event::Elapsed, now + ms(2)), Action::Ask(Cause::Free));
    assert_eq!(head.step(Event::Refused(Cause::Free), now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), Action::Schedule, "no retry was spent");
    head.step(Event::Scheduled(None), now);
    // Nobody goes first: whoever is the head by then looks.
    assert_eq!(head.step(Event::Woken { live: true }, now), Action::AskWhoGoesFirst);
    assert_eq!(head.step(Event::HeadStart(Duration::ZERO), now), Action::Note);
}

#[test]
fn an_attempt_ends_the_wait_for_others() {
    let now = Instant::now();
    let (mut head, _) = waiting(10, now);
    head.step(Event::Woken { live: true }, now);
    head.step(Event::HeadStart(ms(2)), now);
    assert_eq!(head.step(Event::MayBeFree, now), Action::Ask(Cause::Free));
    assert_eq!(head.step(Event::Refused(Cause::Free), now), Action::Stand);
    assert_eq!(head.step(Event::Waiting, now), Action::Schedule);
}

/// A world that does what the head says and lets things happen at random.
struct World {
    now: Instant,
    random: fastrand::Rng,
    retries: u32,
    /// The key may be free since then and nobody has asked.
    hinted: bool,
    /// The wake-up that comes next is of the head's own release.
    echo: bool,
}

impl World {
    fn answer(&mut self, action: Action) -> Option<Event> {
        Some(match action {
            Action::Ask(_) if self.random.u8(..8) == 0 => Event::Occupied,
            Action::Ask(cause) => {
                self.retries += u32::from(cause == Cause::Timer);
                self.hinted = false;
                self.echo = false;
                Event::Refused(cause)
            }
            Action::Stand => match self.random.u8(..8) {
                0 => Event::Receiving,
                1 => {
                    self.echo = self.random.bool();
                    Event::Yielded { echo: self.echo }
                }
                _ if std::mem::take(&mut self.hinted) => Event::MayBeFree,
                _ => Event::Waiting,
            },
            Action::Schedule => Event::Scheduled(self.random.bool().then(|| self.now + ms(100))),
            Action::GiveUpUnlessWoken => return None,
            Action::Wait(until) => match self.random.u8(..3) {
                0 => Event::News,
                1 => Event::Woken { live: self.random.bool() },
                _ => {
                    let until = until?;
                    self.now = self.now.max(until);
                    Event::Elapsed
                }
            },
            Action::AskWhoGoesFirst => Event::HeadStart(ms(self.random.u64(..3))),
            Action::Note => {
                self.hinted = true;
                Event::News
            }
        })
    }
}

#[test]
fn no_history_loses_a_wake_up_or_asks_too_often_or_waits_past_its_timer() {
    for seed in 0..3000 {
        let mut world = World {
            now: Instant::now(),
            random: fastrand::Rng::with_seed(seed),
            retries: 0,
            hinted: false,
            echo: false,
        };
        let max_retries = world.random.u32(..4);
        let (mut head, mut action) = Head::begin(max_retries, world.random.bool());
        // Since when a wake-up has not been followed by a request.
        let mut woken = None;
        for _ in 0..200 {
            if let (Action::Wait(until), Some(since)) = (action, woken) {
                let until: Instant = until.expect("a bound");
                assert!(until <= since + YIELD_AT_MOST, "seed {seed}: a wake-up was forgotten");
            }
            let Some(event) = world.answer(action) else { break };
            match event {
                Event::Refused(_) => woken = None,
                // What is on its way comes, or is followed by another hint.
                Event::Occupied | Event::Receiving | Event::Yielded { .. } => woken = None,
                Event::Woken { live } if !(std::mem::take(&mut world.echo) && live) => {
                    woken = woken.or(Some(world.now));
                }
                _ => {}
            }
            action = head.step(event, world.now);
            if woken.is_some() {
                assert_ne!(action, Action::GiveUpUnlessWoken, "seed {seed}: it gave up though it was woken");
            }
            assert!(world.retries <= max_retries, "seed {seed}: {} retries", world.retries);
        }
    }
}
