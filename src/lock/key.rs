//! What is locked: a text, in one form.

use std::fmt;
use std::sync::Arc;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::{Error, Result, hash_key};

/// The longest key, in bytes of UTF-8 after normalisation.
pub const MAX_KEY_LENGTH_BYTES: usize = 512;

/// The user's name for a resource: Unicode NFC, 1 to 512 bytes, without U+0000.
///
/// `Debug` shows a hash only, because keys may hold personal data and debug prints end in logs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// Normalises and validates.
    ///
    /// # Errors
    /// `InvalidArgument` when it is empty, over 512 bytes after NFC, or holds U+0000.
    pub fn new(raw: &str) -> Result<Key> {
        if raw.is_empty() {
            return Err(Error::invalid("Key must not be empty: a key has 1 to 512 bytes of UTF-8"));
        }
        if raw.contains('\0') {
            return Err(Error::invalid("key holds U+0000, which no store can keep; remove it"));
        }
        let key: Arc<str> = match is_nfc_quick(raw.chars()) {
            IsNormalized::Yes => raw.into(),
            _ => raw.nfc().collect::<String>().into(),
        };
        if key.len() > MAX_KEY_LENGTH_BYTES {
            return Err(Error::invalid(format!(
                "key exceeds maximum length of {MAX_KEY_LENGTH_BYTES} bytes: it has {} bytes of UTF-8 after NFC normalisation",
                key.len()
            )));
        }
        Ok(Key(key))
    }

    /// The same from JavaScript's code units, where a surrogate may stand alone.
    ///
    /// # Errors
    /// As [`Key::new`], and `InvalidArgument` for a lone surrogate.
    pub fn from_utf16(units: &[u16]) -> Result<Key> {
        let raw = String::from_utf16(units).map_err(|_| {
            Error::invalid("key holds a lone surrogate, which is not Unicode text; it must be well-formed")
        })?;
        Key::new(&raw)
    }

    /// The key in its NFC form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units: Vec<u16> = self.0.encode_utf16().collect();
        write!(f, "Key(#{})", hash_key(&units))
    }
}
