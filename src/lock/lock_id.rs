//! The right to extend and release: random, and a secret.

use std::cell::RefCell;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Error, Result};

/// The right to release and extend one lease: 128 random bits as 22 characters of base64url.
///
/// It is a secret, so `Debug` shows none of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockId([u8; LockId::LENGTH]);

impl LockId {
    /// Characters of every lock id.
    pub const LENGTH: usize = 22;

    /// Mints one from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random source: without one no lock id may exist.
    pub fn mint() -> LockId {
        let bits = random_bits();
        let mut text = [0u8; Self::LENGTH];
        URL_SAFE_NO_PAD.encode_slice(bits, &mut text).expect("16 bytes are 22 characters of base64url");
        LockId(text)
    }

    /// # Errors
    /// `InvalidArgument`, which tells the length only, since what was given may be a mistyped secret.
    pub fn parse(text: &str) -> Result<LockId> {
        Self::of(text.bytes().map(Some)).ok_or_else(|| malformed(text.chars().count()))
    }

    /// The same from JavaScript's code units.
    ///
    /// # Errors
    /// As [`LockId::parse`].
    pub fn from_utf16(units: &[u16]) -> Result<LockId> {
        Self::of(units.iter().map(|unit| u8::try_from(*unit).ok())).ok_or_else(|| malformed(units.len()))
    }

    /// `None` unless there are exactly as many characters as there must be, all of them allowed.
    fn of(mut characters: impl ExactSizeIterator<Item = Option<u8>>) -> Option<LockId> {
        if characters.len() != Self::LENGTH {
            return None;
        }
        let mut id = [0; Self::LENGTH];
        for place in &mut id {
            *place = characters.next()??;
            if !(place.is_ascii_alphanumeric() || matches!(place, b'-' | b'_')) {
                return None;
            }
        }
        Some(LockId(id))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a lock id is ASCII")
    }
}

fn malformed(length: usize) -> Error {
    Error::invalid(format!(
        "Invalid lockId format: it must be exactly 22 characters of A-Z, a-z, 0-9, '-' and '_'; a malformed string of {length} characters was given"
    ))
}

/// Asked of the system for several lock ids at once, and each bit used once.
fn random_bits() -> [u8; 16] {
    const AT_ONCE: usize = 32;
    thread_local! {
        static STOCK: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    STOCK.with_borrow_mut(|stock| {
        stock.pop().unwrap_or_else(|| {
            stock.resize(AT_ONCE, [0; 16]);
            getrandom::fill(stock.as_flattened_mut()).expect("the operating system's random source works");
            stock.pop().expect("it was filled")
        })
    })
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockId(…)")
    }
}
