//! The one list of rules, and how they become tests.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::time::Duration;

use super::Fixture;
use super::trial::Trial;

/// No rule takes this long on any store; what does hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// One rule of the contract.
pub struct Rule {
    /// `topic::rule`.
    pub name: &'static str,
    check: for<'a> fn(&'a Trial) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

impl Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Rule {
    /// Checks the rule on a store.
    ///
    /// # Panics
    /// When the backend breaks the rule, or hangs.
    pub async fn check(&self, fixture: impl Fixture + 'static) {
        let trial = Trial::new(Box::new(fixture));
        let checked = tokio::time::timeout(LIMIT, (self.check)(&trial)).await;
        assert!(checked.is_ok(), "{} took over {LIMIT:?}: an operation hangs", self.name);
    }
}

/// Checks the rule of that name; what [`conformance_suite!`](crate::conformance_suite) expands to.
///
/// # Panics
/// As [`Rule::check`], and when no rule has that name.
pub async fn run(name: &str, fixture: impl Fixture + 'static) {
    let rule = RULES.iter().find(|rule| rule.name == name).expect("the list names every rule");
    rule.check(fixture).await;
}

/// Hands the list of rules to a macro. A rule that is missing here is an unused function, which the
/// compiler reports, and a test compares the list with the sources.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_rules {
    ([$($then:tt)*] $arguments:tt) => {
        $($then)*! { $arguments
            acquire {
                grants_a_free_key
                refuses_a_held_key
                refuses_in_the_last_moments
                grants_after_the_end
                answers_its_own_lock_id_again
                answers_its_own_lock_id_again_after_an_extend
                answers_its_own_lock_id_again_in_the_last_moments
                answers_a_racing_repeat_alike
                grants_its_own_lock_id_anew_after_the_end
                writes_nothing_when_it_is_refused
                grants_a_hundred_years
                grants_one_millisecond
                never_takes_an_unreadable_record_for_free
            }
            close {
                makes_every_operation_an_invalid_argument
                may_be_repeated
                leaves_leases_and_other_backends_alone
            }
            extend {
                sets_now_plus_ttl_and_never_adds
                keeps_the_rest_of_the_lease
                works_by_lock_id_alone_from_another_backend
                works_in_the_last_moments
                never_revives
                never_touches_a_successor
                finds_nothing_under_an_unknown_lock_id
                finds_nothing_after_a_release
                trusts_no_remembered_lease_of_somebody_else
                works_with_a_stale_remembered_lease
                never_meets_a_successor_at_the_edge
                takes_a_hundred_years
            }
            extend_many {
                answers_one_result_for_each_in_order
                answers_nothing_for_none
                extends_a_hundred
                trusts_no_remembered_lease_of_somebody_else
            }
            fence {
                is_at_least_the_clock
                rises_with_every_grant
                counts_on_from_the_counter
                survives_release_and_expiry
                is_not_spent_by_a_refused_acquire
                rises_after_the_counter_was_lost
                may_reach_the_limit
                over_the_limit_fails_before_anything_is_written
            }
            find {
                finds_all_that_are_held_page_by_page
                finds_by_the_beginning_of_the_users_key
                finds_nothing_that_has_ended
                leaves_out_what_cannot_be_read
                finds_no_fence_and_no_reverse_mapping
            }
            free_in {
                is_what_is_left_of_the_lease
                is_enough
                copes_with_a_hundred_years
            }
            hand_over {
                passes_the_lease_on
                works_by_lock_id_alone
                acquires_though_the_owner_is_unknown
                leaves_another_holder_alone
                tells_an_expired_owner
                answers_a_repeat_alike
                trusts_no_remembered_lease_of_somebody_else
                lets_nobody_in_between
                yields_to_other_watchers
                keeps_its_turn_where_nobody_else_watches
                yields_to_whoever_polls
            }
            is_locked {
                tells_held_from_free
                is_true_in_the_last_moments
                is_false_after_the_end
                writes_nothing
                cleans_up_nothing_live_or_recent
                cleans_up_no_fence
                never_takes_an_unreadable_record_for_free
            }
            keys {
                hostile_ones_work_and_stay_distinct
                similar_ones_stay_distinct
                long_ones_work_and_stay_distinct
                equal_under_nfc_are_one_lock
                may_name_the_index_or_fence_of_another
            }
            lookup {
                finds_by_key_and_lock_id_from_any_backend
                finds_nothing_where_nothing_is
                finds_in_the_last_moments
                finds_nothing_after_the_end
                finds_nothing_after_a_release
                writes_nothing
                never_takes_an_unreadable_record_for_free
            }
            race {
                one_of_many_wins
                fences_follow_the_order_of_holders
                a_dropped_call_spoils_no_other
            }
            release {
                frees_the_key
                finds_nothing_the_second_time
                works_by_lock_id_alone_from_another_backend
                works_in_the_last_moments
                tells_an_expired_lease
                finds_nothing_under_an_unknown_lock_id
                never_touches_a_successor
                works_with_a_stale_remembered_lease
                trusts_no_remembered_lease_of_somebody_else
                trusts_no_remembered_key
            }
            watch {
                hints_when_its_own_backend_releases
                hints_when_another_backend_releases
                hints_once_the_key_is_free
                keeps_a_hint_until_it_is_asked_for
                hints_again_and_again
                hints_every_watcher
                hints_when_a_hand_over_yields
                may_be_dropped_and_taken_again
            }
        }
    };
}

/// One `#[tokio::test]` for each rule, in modules named by topic. The argument is an expression that makes
/// a [`Fixture`](crate::conformance::Fixture); it is evaluated anew in each test, where it may `.await`,
/// and sees the names of the module that calls this. Needs tokio's `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_suite {
    ($fixture:expr) => {
        $crate::conformance_rules! { [$crate::conformance_tests] ($fixture) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    (($fixture:expr) $($topic:ident { $($rule:ident)* })*) => {$(
        mod $topic {
            #[allow(unused_imports, reason = "the fixture's expression may name nothing of its module")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let name = concat!(stringify!($topic), "::", stringify!($rule));
                    $crate::conformance::run(name, $fixture).await;
                }
            )*
        }
    )*};
}

macro_rules! list {
    (() $($topic:ident { $($rule:ident)* })*) => {
        /// Every rule.
        pub const RULES: &[Rule] = &[$($(Rule {
            name: concat!(stringify!($topic), "::", stringify!($rule)),
            check: |trial| Box::pin(super::$topic::$rule(trial)),
        },)*)*];
    };
}
conformance_rules! { [list] () }

#[cfg(test)]
mod tests {
    use super::RULES;

    #[test]
    fn the_list_names_every_rule_of_every_topic() {
        macro_rules! sources {
            (() $($topic:ident { $($rule:ident)* })*) => {
                [$((stringify!($topic), include_str!(concat!(stringify!($topic), ".rs")))),*]
            };
        }
        let mut written: Vec<String> = Vec::new();
        for (topic, source) in conformance_rules! { [sources] () } {
            let heads = source.lines().filter_map(|line| line.strip_prefix("pub(super) async fn "));
            let rules = heads.filter_map(|head| head.strip_suffix("(t: &Trial) {"));
            written.extend(rules.map(|rule| format!("{topic}::{rule}")));
        }
        written.sort();
        let mut listed: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        listed.sort_unstable();
        assert_eq!(written, listed);
    }
}
