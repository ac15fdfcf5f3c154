use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use unicode_normalization::UnicodeNormalization;

use super::{Error, Key, Result};

/// How long a key of a store may be, and what is kept free for keys derived from it, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub bytes: usize,
    pub reserve: usize,
}

impl Limit {
    pub const REDIS: Limit = Limit { bytes: 1000, reserve: 26 };
    pub const POSTGRES: Limit = Limit { bytes: 1700, reserve: 0 };
    pub const FIRESTORE: Limit = Limit { bytes: 1500, reserve: 0 };

    fn holds(self, key: &str) -> bool {
        key.len() + self.reserve <= self.bytes
    }
}

/// Where a key's lock and its fence counter lie in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageKeys {
    pub lock: String,
    pub fence: String,
}

/// `prefix:key`, or with a hash in the key's place where that would be too long for the store.
///
/// # Errors
/// `InvalidArgument` when the prefix leaves no room for the hash either.
pub fn storage_key(prefix: &str, key: &str, limit: Limit) -> Result<String> {
    let prefix = prefix.trim_end_matches(':');
    let full = join(prefix, key);
    if limit.holds(&full) { Ok(full) } else { hashed(prefix, key, limit) }
}

/// The same for a key of any length that nobody has normalised yet.
///
/// # Errors
/// As [`storage_key`], and `InvalidArgument` for an empty key.
pub fn storage_key_of(prefix: &str, raw: &str, limit: Limit) -> Result<String> {
    if raw.is_empty() {
        return Err(Error::invalid("Key must not be empty: a storage key needs one"));
    }
    storage_key(prefix, &raw.nfc().collect::<String>(), limit)
}

/// Keys in Redis. A key that would lie where reverse mappings or fences lie takes the hashed form.
///
/// # Errors
/// As [`storage_key`].
pub fn redis_keys(prefix: &str, key: &Key) -> Result<StorageKeys> {
    let collides = key.as_str().starts_with("id:") || key.as_str().starts_with("fence:");
    keys(prefix, key, Limit::REDIS, collides)
}

/// Keys in a Redis Cluster, whose nodes split by what stands between braces: a hash of the key, so that
/// lock and fence lie together and no key can choose its node's neighbours.
///
/// # Errors
/// As [`storage_key`].
pub fn redis_cluster_keys(prefix: &str, key: &Key) -> Result<StorageKeys> {
    let prefix = prefix.trim_end_matches(':');
    let digest = Sha256::digest(join(prefix, key.as_str()).as_bytes());
    let tag = format!("{{{}}}", URL_SAFE_NO_PAD.encode(&digest[..16]));
    let lock = storage_key(prefix, &tag, Limit::REDIS)?;
    let fence = storage_key(prefix, &format!("fence:{tag}"), Limit::REDIS)?;
    Ok(StorageKeys { lock, fence })
}

/// Keys in PostgreSQL's two tables.
///
/// # Errors
/// None that a valid key can cause; the signature is that of its siblings.
pub fn postgres_keys(key: &Key) -> Result<StorageKeys> {
    keys("", key, Limit::POSTGRES, false)
}

/// Document ids in Firestore's two collections. What Firestore forbids as an id takes the hashed form.
///
/// # Errors
/// As [`postgres_keys`].
pub fn firestore_keys(key: &Key) -> Result<StorageKeys> {
    let id = key.as_str();
    let reserved = id.len() >= 4 && id.starts_with("__") && id.ends_with("__");
    keys("", key, Limit::FIRESTORE, id == "." || id == ".." || reserved || id.contains('/'))
}

fn keys(prefix: &str, key: &Key, limit: Limit, must_hash: bool) -> Result<StorageKeys> {
    let trimmed = prefix.trim_end_matches(':');
    let lock = if must_hash {
        hashed(trimmed, key.as_str(), limit)?
    } else {
        storage_key(trimmed, key.as_str(), limit)?
    };
    let fence = storage_key(trimmed, &format!("fence:{lock}"), limit)?;
    Ok(StorageKeys { lock, fence })
}

fn hashed(prefix: &str, key: &str, limit: Limit) -> Result<String> {
    let digest = Sha256::digest(join(prefix, key).as_bytes());
    let short = join(prefix, &URL_SAFE_NO_PAD.encode(&digest[..16]));
    if limit.holds(&short) {
        return Ok(short);
    }
    Err(Error::invalid(format!(
        "Prefix exceeds backend limit: it has {} bytes, which with a key and {} reserved bytes is more than the store's {} bytes; use a shorter one",
        prefix.len(),
        limit.reserve,
        limit.bytes
    )))
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { [prefix, ":", key].concat() }
}
