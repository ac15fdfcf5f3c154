//! A map by lock id, whose hash is the lock id itself.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::lock::LockId;

pub(in crate::engine) type ByLockId<T> = HashMap<LockId, T, BuildHasherDefault<RandomBits>>;

/// Lock ids are random bits already: the first eight bytes are hash enough.
#[derive(Default)]
pub(in crate::engine) struct RandomBits(u64);

impl Hasher for RandomBits {
    fn write(&mut self, bytes: &[u8]) {
        // Each character has six random bits and its highest are nearly constant: rotate them together.
        for byte in bytes.iter().take(22) {
            self.0 = self.0.rotate_left(7) ^ u64::from(*byte);
        }
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
