//! Where a key lies in a store that takes names of limited length. The limits are the stores'.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use unicode_normalization::UnicodeNormalization;

use super::{Error, Key, Result};

/// How long a key of a store may be, and what is kept free for keys derived from it, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The most that a key may have.
    pub bytes: usize,
    /// Of these, kept free for derived keys.
    pub reserve: usize,
}

impl Limit {
    fn holds(self, key: &str) -> bool {
        key.len() + self.reserve <= self.bytes
    }
}

/// Where a key's lock and its fence counter lie in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageKeys {
    /// Of the lock.
    pub lock: String,
    /// Of its fence counter.
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

/// A key's two names in a store. `must_hash` where the store has another use for the key as it is, or forbids it.
///
/// # Errors
/// As [`storage_key`].
pub fn storage_keys(prefix: &str, key: &Key, limit: Limit, must_hash: bool) -> Result<StorageKeys> {
    let trimmed = prefix.trim_end_matches(':');
    let lock = if must_hash {
        hashed(trimmed, key.as_str(), limit)?
    } else {
        storage_key(trimmed, key.as_str(), limit)?
    };
    let fence = storage_key(trimmed, &format!("fence:{lock}"), limit)?;
    Ok(StorageKeys { lock, fence })
}

/// What stands in the place of a key that cannot stand there itself: 128 bits of a hash of `prefix:key`.
pub fn short_form(prefix: &str, key: &str) -> String {
    let digest = Sha256::digest(join(prefix.trim_end_matches(':'), key).as_bytes());
    URL_SAFE_NO_PAD.encode(&digest[..16])
}

fn hashed(prefix: &str, key: &str, limit: Limit) -> Result<String> {
    let short = join(prefix, &short_form(prefix, key));
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
