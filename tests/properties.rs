//! What holds of the nouns for every input, not only for those of the vectors.

use proptest::prelude::*;
use syncguard::lock::{
    Code, Fence, FenceRetention, Key, Limit, LockId, MAX_KEY_LENGTH_BYTES, MAX_TIME_MS, TIME_TOLERANCE,
    Timestamp, Ttl, hash_key, is_live, storage_key,
};
use syncguard::stores::{firestore, postgres, redis};
use unicode_normalization::UnicodeNormalization;

const LARGEST_FENCE: u64 = 999_999_999_999_999;

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// Text with many characters that compose, reorder or have several spellings.
fn spellings() -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        Just('e'),
        Just('A'),
        Just('a'),
        Just('\u{300}'),
        Just('\u{301}'),
        Just('\u{30a}'),
        Just('\u{323}'),
        Just('\u{e9}'),
        Just('\u{c5}'),
        Just('\u{212b}'),
        Just('\u{1100}'),
        Just('\u{1161}'),
        Just('\u{11a8}'),
        Just('\u{ac00}'),
        Just('\u{fb01}'),
        Just('\u{1d53b}'),
        Just('\u{2126}'),
        any::<char>(),
    ];
    prop::collection::vec(letter, 0..40).prop_map(String::from_iter)
}

fn keys() -> impl Strategy<Value = Key> {
    prop_oneof![
        spellings(),
        "(fence:|id:|__|\\.|/|\\{|:|[a-z]){1,40}",
        "[a-z:/]{300,512}",
        "\\.{0,3}",
        "__[a-z/]{0,6}__",
    ]
    .prop_filter_map("a valid key", |text| Key::new(&text).ok())
}

/// The definition, written down again as plainly as it can be.
fn hash_by_definition(text: &str) -> String {
    let (mut h1, mut h2, mut h3) = (0u64, 0u64, 0u64);
    let mask = 0xffff_ffff_u64;
    for c in text.nfc().collect::<String>().encode_utf16().map(u64::from) {
        h1 = ((h1 << 5) + (1 << 40) - h1 + c) & mask;
        h2 = ((h2 << 7) + (1 << 40) - h2 + 3 * c) & mask;
        h3 = ((h3 << 11) + (1 << 44) - h3 + 7 * c) & mask;
    }
    format!("{h1:08x}{h2:08x}{h3:08x}")
}

proptest! {
    #[test]
    fn fences_compare_as_their_texts_do(a in 0..=LARGEST_FENCE, b in 0..=LARGEST_FENCE, near in 0..20u64) {
        for (a, b) in [(a, b), (a, a.saturating_add(near).min(LARGEST_FENCE))] {
            let (a, b) = (Fence::new(a).unwrap(), Fence::new(b).unwrap());
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.cmp(&b), a.value().cmp(&b.value()));
        }
    }

    #[test]
    fn a_fence_is_fifteen_digits_and_reads_back(value in 0..=LARGEST_FENCE) {
        let fence = Fence::new(value).unwrap();
        let text = fence.to_string();
        prop_assert_eq!(text.len(), Fence::DIGITS);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_digit()));
        prop_assert_eq!(Fence::parse(&text), Some(fence));
        prop_assert_eq!(Fence::parse(&value.to_string()), Some(fence));
        prop_assert_eq!(Fence::new(LARGEST_FENCE + 1 + value), None);
    }

    #[test]
    fn only_digits_are_a_fence(text in "[0-9 +.e-]{0,20}|\\PC{0,18}") {
        let digits = (1..=Fence::DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert_eq!(Fence::parse(&text).is_some(), digits);
    }

    #[test]
    fn the_next_fence_rises_and_keeps_up_with_the_clock(
        previous in prop::option::of(0..=LARGEST_FENCE),
        clock in 0..=LARGEST_FENCE,
    ) {
        let previous = previous.and_then(Fence::new);
        match Fence::next(previous, clock) {
            Ok(next) => {
                prop_assert!(previous.is_none_or(|previous| next > previous));
                prop_assert!(next.value() >= clock);
                prop_assert!(next <= Fence::MAX);
                prop_assert!(next.value() == clock || Some(next.value()) == previous.map(|p| p.value() + 1));
            }
            Err(error) => {
                prop_assert_eq!(error.code(), Code::Internal);
                prop_assert!(clock > Fence::MAX.value() || previous >= Some(Fence::MAX));
            }
        }
    }

    #[test]
    fn a_clock_gone_mad_is_an_error_and_no_panic(millis in any::<u64>()) {
        let clock = Fence::clock(Timestamp::from_millis(millis));
        prop_assert_eq!(Fence::next(None, clock).is_ok(), millis <= Fence::MAX.value() / 10);
    }

    #[test]
    fn a_hash_is_that_of_the_definition(text in spellings()) {
        let hash = hash_key(&units(&text));
        prop_assert_eq!(hash.len(), 24);
        prop_assert_eq!(&hash, &hash_by_definition(&text));
        prop_assert_eq!(&hash, &hash_key(&units(&text.nfc().collect::<String>())));
        prop_assert_eq!(&hash, &hash_key(&units(&text.nfd().collect::<String>())));
    }

    #[test]
    fn any_code_units_can_be_hashed(raw in prop::collection::vec(any::<u16>(), 0..40)) {
        prop_assert_eq!(hash_key(&raw).len(), 24);
        let key = Key::from_utf16(&raw);
        match String::from_utf16(&raw) {
            Ok(text) => prop_assert_eq!(key.ok(), Key::new(&text).ok()),
            Err(_) => prop_assert_eq!(key.expect_err("a lone surrogate").code(), Code::InvalidArgument),
        }
    }

    #[test]
    fn a_key_is_valid_by_its_normal_form(text in prop_oneof![spellings(), "\\PC{0,200}", "[é𝔘]{100,300}", "(e\u{301}){140,300}", "\u{958}{140,200}"]) {
        let normal: String = text.nfc().collect();
        let valid = (1..=MAX_KEY_LENGTH_BYTES).contains(&normal.len()) && !normal.contains('\0');
        match Key::new(&text) {
            Ok(key) => {
                prop_assert!(valid);
                prop_assert_eq!(key.as_str(), &normal);
                prop_assert_eq!(Key::new(key.as_str()).unwrap(), key);
            }
            Err(error) => {
                prop_assert!(!valid);
                prop_assert_eq!(error.code(), Code::InvalidArgument);
            }
        }
    }

    #[test]
    fn a_key_does_not_show_in_debug_prints(text in "[k-z]{8,40}") {
        let shown = format!("{:?}", Key::new(&text).unwrap());
        prop_assert!(!shown.contains(&text));
    }

    #[test]
    fn a_lock_id_is_parsed_whole_or_not_at_all(text in "[A-Za-z0-9_-]{20,24}|[A-Za-z0-9_+/= é-]{22}|\\PC{0,30}") {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let valid = text.len() == 22 && text.chars().all(allowed);
        match LockId::parse(&text) {
            Ok(id) => {
                prop_assert!(valid);
                prop_assert_eq!(id.as_str(), &text);
                let shown = format!("{id:?}");
                prop_assert!(!shown.contains(&text));
            }
            Err(error) => {
                prop_assert!(!valid);
                prop_assert_eq!(error.code(), Code::InvalidArgument);
                // A mistyped secret stays secret.
                prop_assert!(text.chars().count() < 8 || !error.to_string().contains(&text));
            }
        }
    }

    #[test]
    fn a_storage_key_fits_the_store(
        prefix in ":{0,2}[a-z:é]{0,60}:{0,3}|p{900,1100}",
        key in "\\PC{0,300}|k{900,1700}|é{400,900}",
        bytes in prop_oneof![Just(1000usize), Just(1500), Just(1700), 30usize..200],
        reserve in prop_oneof![Just(0usize), Just(26)],
    ) {
        let limit = Limit { bytes, reserve };
        let trimmed = prefix.trim_end_matches(':');
        let full = if trimmed.is_empty() { key.clone() } else { format!("{trimmed}:{key}") };
        match storage_key(&prefix, &key, limit) {
            Ok(found) => {
                prop_assert!(found.len() + reserve <= bytes);
                if full.len() + reserve <= bytes {
                    prop_assert_eq!(found, full);
                } else {
                    let hash = found.strip_prefix(trimmed).unwrap().trim_start_matches(':');
                    prop_assert!(LockId::parse(hash).is_ok(), "22 characters of base64url, got {}", hash);
                }
            }
            Err(error) => {
                prop_assert_eq!(error.code(), Code::InvalidArgument);
                prop_assert!(full.len() + reserve > bytes);
                prop_assert!(trimmed.len() + usize::from(!trimmed.is_empty()) + 22 + reserve > bytes);
            }
        }
    }

    #[test]
    fn no_key_lies_where_another_keeps_its_fence_or_index(
        a in keys(), b in keys(), prefix in "[a-z]{0,10}(:[a-z]{1,5})?:{0,2}"
    ) {
        prop_assume!(a != b && !prefix.contains("fence"));
        let (ours, theirs) = (redis::storage_keys(&prefix, &a).unwrap(), redis::storage_keys(&prefix, &b).unwrap());
        prop_assert_ne!(&ours.lock, &theirs.lock);
        prop_assert_ne!(&ours.fence, &theirs.fence);
        prop_assert_ne!(&ours.lock, &theirs.fence);
        let trimmed = prefix.trim_end_matches(':');
        let below = if trimmed.is_empty() { String::new() } else { format!("{trimmed}:") };
        // A key that is made to be stored where this one's fence lies.
        if let Ok(forged) = Key::new(ours.fence.strip_prefix(&below).unwrap()) {
            prop_assert_ne!(redis::storage_keys(&prefix, &forged).unwrap().lock, ours.fence.clone());
        }
        let index = format!("{below}id:");
        prop_assert!(!ours.lock.starts_with(&index), "{} lies among the reverse mappings", ours.lock);
        for keys in [postgres::storage_keys, firestore::storage_keys] {
            let (ours, theirs) = (keys(&a).unwrap(), keys(&b).unwrap());
            prop_assert_ne!(ours.lock, theirs.lock);
            prop_assert_ne!(ours.fence, theirs.fence);
        }
    }

    #[test]
    fn a_document_id_is_one_that_firestore_takes(key in keys()) {
        let found = firestore::storage_keys(&key).unwrap();
        for id in [found.lock, found.fence] {
            prop_assert!(!id.is_empty() && id.len() <= 1500 && id != "." && id != ".." && !id.contains('/'));
            prop_assert!(!(id.starts_with("__") && id.ends_with("__") && id.len() >= 4), "{}", id);
        }
    }

    #[test]
    fn a_time_is_valid_from_one_millisecond_to_a_hundred_years(millis in prop_oneof![
        any::<u64>(), 0..5u64, MAX_TIME_MS - 3..MAX_TIME_MS + 3
    ]) {
        match Ttl::from_millis(millis) {
            Ok(ttl) => prop_assert!((1..=MAX_TIME_MS).contains(&millis) && ttl.as_millis() == millis),
            Err(error) => {
                prop_assert!(millis == 0 || millis > MAX_TIME_MS);
                prop_assert_eq!(error.code(), Code::InvalidArgument);
            }
        }
    }

    #[test]
    fn a_fence_counter_goes_only_when_the_clock_mints_higher_ones(
        value in 0..=999_999_999_999_999u64, retention in 0..=MAX_TIME_MS, apart in 0..100_000u64
    ) {
        let fence = Fence::new(value).unwrap();
        let end = FenceRetention::unchecked_from_millis(retention).ends_at(fence);
        let clock = Fence::clock(Timestamp::from_millis(end.as_millis() + apart));
        prop_assert!(clock >= value + 10 * retention, "below the clock minus the retention");
        prop_assert!(Fence::clock(end) < value + 10 * retention + 10, "and no millisecond later");
    }

    #[test]
    fn a_fence_retention_is_a_day_at_least_and_a_hundred_years_at_most(millis in prop_oneof![
        any::<u64>(), 86_399_997..86_400_003u64, MAX_TIME_MS - 3..MAX_TIME_MS + 3
    ]) {
        match FenceRetention::from_millis(millis) {
            Ok(retention) => {
                prop_assert!((86_400_000..=MAX_TIME_MS).contains(&millis) && retention.as_millis() == millis);
            }
            Err(error) => {
                prop_assert!(!(86_400_000..=MAX_TIME_MS).contains(&millis));
                prop_assert_eq!(error.code(), Code::InvalidArgument);
                prop_assert!(error.message().contains("fenceRetentionMs"));
            }
        }
    }

    #[test]
    fn a_record_is_live_until_its_expiry_and_the_tolerance_have_passed(
        expires in any::<u64>(), apart in prop_oneof![0..3000u64, 999..=1001u64], later in any::<bool>()
    ) {
        let now = if later { expires.saturating_add(apart) } else { expires.saturating_sub(apart) };
        let live = i128::from(expires) > i128::from(now) - i128::try_from(TIME_TOLERANCE.as_millis()).unwrap();
        prop_assert_eq!(is_live(Timestamp::from_millis(expires), Timestamp::from_millis(now)), live);
    }
}

#[test]
fn minted_lock_ids_are_valid_and_differ() {
    let minted: Vec<LockId> = (0..10_000).map(|_| LockId::mint()).collect();
    for id in &minted {
        assert!(LockId::parse(id.as_str()).expect("what is minted is valid") == *id);
    }
    let distinct: std::collections::BTreeSet<_> = minted.iter().collect();
    assert_eq!(distinct.len(), minted.len());
    // 128 bits leave two bits of the last of 22 characters: it is one of four, the others are any of 64.
    for place in 0..LockId::LENGTH {
        let used: std::collections::BTreeSet<u8> =
            minted.iter().map(|id| id.as_str().as_bytes()[place]).collect();
        assert_eq!(used.len(), if place == LockId::LENGTH - 1 { 4 } else { 64 }, "character {place}");
    }
}
