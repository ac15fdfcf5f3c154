//! The vectors that the specification gives, line by line, against the nouns.

use serde_json::{Map, Value};
use syncguard::lock::{
    Fence, Key, Limit, LockId, MAX_KEY_LENGTH_BYTES, StorageKeys, TIME_TOLERANCE, Timestamp, Ttl, hash_key,
    storage_key,
};
use syncguard::stores::{firestore, postgres, redis};

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).expect("the vectors are JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string was expected, got {value}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a whole number was expected, got {value}"))
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("an object was expected, got {value}"))
}

fn storage_keys(value: &Value) -> StorageKeys {
    StorageKeys { lock: text(&value["lock"]).to_owned(), fence: text(&value["fence"]).to_owned() }
}

#[test]
fn keys() {
    let file = vectors(include_str!("../__test__/vectors/keys.json"));
    let cases = file["keys"].as_array().expect("a list of keys");
    assert!(cases.len() >= 35, "the file is whole");
    for case in cases {
        let raw = text(&case["key"]);
        let units: Vec<u16> = raw.encode_utf16().collect();
        let key = Key::new(raw).unwrap_or_else(|error| panic!("{raw:?} is valid: {error}"));
        assert_eq!(Key::from_utf16(&units).expect("the same from UTF-16"), key);
        assert_eq!(key.as_str(), text(&case["normalized"]), "the NFC form of {raw:?}");
        assert_eq!(hash_key(&units), text(&case["hashKey"]), "hashKey of {raw:?}");

        let prefixes = object(&case["redis"]);
        assert_eq!(prefixes.len(), 5);
        for (prefix, expected) in prefixes {
            let found = redis::storage_keys(prefix, &key).expect("the prefix leaves room");
            assert_eq!(found, storage_keys(expected), "Redis, prefix {prefix:?}, key {raw:?}");
        }
        let found = postgres::storage_keys(&key).expect("valid");
        assert_eq!(found, storage_keys(&case["postgres"]), "PostgreSQL, key {raw:?}");
        let found = firestore::storage_keys(&key).expect("valid");
        assert_eq!(found, storage_keys(&case["firestore"]), "Firestore, key {raw:?}");
    }
}

#[test]
fn make_storage_key() {
    let file = vectors(include_str!("../__test__/vectors/storage-keys.json"));
    let cases = file["cases"].as_array().expect("a list of cases");
    assert!(cases.len() >= 10, "the file is whole");
    for (index, case) in cases.iter().enumerate() {
        let size = |name: &str| usize::try_from(number(&case[name])).expect("a size");
        let limit = Limit { bytes: size("limit"), reserve: size("reserve") };
        match (storage_key(text(&case["prefix"]), text(&case["key"]), limit), case.get("error")) {
            (Ok(found), None) => assert_eq!(found, text(&case["result"]), "case {index}"),
            (Err(error), Some(code)) => assert_eq!(error.code().as_str(), text(code), "case {index}"),
            (found, expected) => panic!("case {index}: expected {expected:?}, got {found:?}"),
        }
    }
}

#[test]
fn constants() {
    let file = vectors(include_str!("../__test__/vectors/constants.json"));
    assert_eq!(MAX_KEY_LENGTH_BYTES as u64, number(&file["MAX_KEY_LENGTH_BYTES"]));
    assert_eq!(TIME_TOLERANCE.as_millis(), u128::from(number(&file["TIME_TOLERANCE_MS"])));
    assert_eq!(Fence::MAX.to_string(), text(&file["FENCE_THRESHOLDS"]["MAX"]));
    assert_eq!(Fence::WARN.to_string(), text(&file["FENCE_THRESHOLDS"]["WARN"]));
    for (name, limit) in
        [("REDIS", redis::LIMIT), ("POSTGRES", postgres::LIMIT), ("FIRESTORE", firestore::LIMIT)]
    {
        assert_eq!(limit.bytes as u64, number(&file["BACKEND_LIMITS"][name]), "{name}");
        assert_eq!(limit.reserve as u64, number(&file["RESERVE_BYTES"][name]), "{name}");
    }
}

#[test]
fn records() {
    let file = vectors(include_str!("../__test__/vectors/records.json"));
    let key = Key::new("a").expect("a valid key");
    let acquired_at = Timestamp::from_millis(1_763_683_200_000);
    let expires_at = acquired_at.plus(Ttl::from_millis(30_000).expect("a valid TTL"));
    let fence = Fence::next(None, Fence::clock(acquired_at)).expect("far below the limit");
    let id = LockId::parse("AAAAAAAAAAAAAAAAAAAAAA").expect("a valid lock id");

    let redis = &file["redis"];
    let keys = redis::storage_keys("syncguard", &key).expect("valid");
    assert_eq!(keys.lock, text(&redis["lock"]["key"]));
    assert_eq!(keys.lock, text(&redis["index"]["value"]));
    assert_eq!(keys.fence, text(&redis["fence"]["key"]));
    assert_eq!(format!("syncguard:id:{}", id.as_str()), text(&redis["index"]["key"]));
    assert_eq!(fence.value().to_string(), text(&redis["fence"]["value"]));
    let lease = &redis["lock"]["json"];
    assert_eq!(fence.to_string(), text(&lease["fence"]));
    assert_eq!(acquired_at.as_millis(), number(&lease["acquiredAtMs"]));
    assert_eq!(expires_at.as_millis(), number(&lease["expiresAtMs"]));

    let (locks, fences) =
        (&file["postgres"]["syncguard_locks"], &file["postgres"]["syncguard_fence_counters"]);
    let keys = postgres::storage_keys(&key).expect("valid");
    assert_eq!(keys.lock, text(&locks["key"]));
    assert_eq!(fence.to_string(), text(&locks["fence"]));
    assert_eq!(keys.fence, text(&fences["fence_key"]));
    assert_eq!(fence.value(), number(&fences["fence"]));

    let keys = firestore::storage_keys(&key).expect("valid");
    let lock = &file["firestore"][format!("locks/{}", keys.lock)];
    assert_eq!(fence.to_string(), text(&lock["fence"]["stringValue"]));
    let counter = &file["firestore"][format!("fence_counters/{}", keys.fence)];
    assert_eq!(fence.to_string(), text(&counter["fence"]["stringValue"]));

    let original = &file["records of the original that must be read as well"];
    let (first, counter) = (text(&original["fence_1"]), text(&original["redis counter after it"]));
    assert_eq!(Fence::parse(first), Fence::new(1));
    assert_eq!(Fence::parse(counter), Fence::new(1), "the counter has no leading zeros");
    assert_eq!(Fence::parse(first).expect("a fence").to_string(), first);
}
