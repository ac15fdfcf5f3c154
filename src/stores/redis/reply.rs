//! What the scripts answer, as values.

use std::time::Duration;

use redis::Value;

use super::RedisBackend;
use super::error::unexpected;
use super::joined::Heard;
use super::record;
use crate::backend::{AcquireRequest, Acquired, Mutation};
use crate::lock::{Error, Fence, Key, Lease, LockId, Result, Timestamp};

const HELD: i64 = 0;
const GRANTED: i64 = 1;
const NOT_FOUND: i64 = 0;
const DONE: i64 = 1;
const EXPIRED: i64 = 2;
const BAD_RECORD: i64 = -1;
const BAD_FENCE: i64 = -2;
const FENCE_OVERFLOW: i64 = -3;
const BAD_INDEX: i64 = -4;

impl RedisBackend {
    pub(super) fn acquired(&self, reply: &Value, key: &Key, lock_id: LockId) -> Result<Acquired> {
        match self.parts(reply)? {
            (GRANTED, [fence, acquired, expires]) => Ok(Acquired::Granted(Lease {
                key: key.clone(),
                lock_id,
                fence: whole(fence).and_then(Fence::new).ok_or_else(|| self.strange(reply))?,
                acquired_at: self.time(acquired)?,
                expires_at: self.time(expires)?,
            })),
            (HELD, [free_in]) => {
                let free_in = whole(free_in).ok_or_else(|| self.strange(reply))?;
                Ok(Acquired::Held { free_in: Some(Duration::from_millis(free_in)) })
            }
            _ => Err(self.strange(reply)),
        }
    }

    /// The same where others may have been asked for in the same script.
    pub(super) fn acquired_with_others(&self, reply: &Heard, request: &AcquireRequest) -> Result<Acquired> {
        let (now, answer) = match reply {
            Heard::Own(reply) => return self.acquired(reply, &request.key, request.lock_id),
            Heard::Shared { now, answer } => (self.time(now)?, answer),
        };
        match answer {
            Value::BulkString(_) => Ok(Acquired::Granted(Lease {
                key: request.key.clone(),
                lock_id: request.lock_id,
                fence: whole(answer).and_then(Fence::new).ok_or_else(|| self.strange(answer))?,
                acquired_at: now,
                expires_at: now.plus(request.ttl),
            })),
            Value::Array(parts) if parts.len() == 1 => {
                let free_in = whole(&parts[0]).ok_or_else(|| self.strange(answer))?;
                Ok(Acquired::Held { free_in: Some(Duration::from_millis(free_in)) })
            }
            _ => Err(self.strange(answer)),
        }
    }

    pub(super) fn released_with_others(&self, reply: &Heard) -> Result<Mutation<()>> {
        match reply {
            Heard::Own(reply) => self.released(reply),
            Heard::Shared { answer: Value::Int(DONE), .. } => Ok(Mutation::Done(())),
            Heard::Shared { answer: Value::Int(EXPIRED), .. } => Ok(Mutation::Expired),
            Heard::Shared { answer: Value::Int(NOT_FOUND), .. } => Ok(Mutation::NotFound),
            Heard::Shared { answer, .. } => Err(self.strange(answer)),
        }
    }

    pub(super) fn released(&self, reply: &Value) -> Result<Mutation<()>> {
        match self.parts(reply)? {
            (DONE, []) => Ok(Mutation::Done(())),
            (EXPIRED, []) => Ok(Mutation::Expired),
            (NOT_FOUND, []) => Ok(Mutation::NotFound),
            _ => Err(self.strange(reply)),
        }
    }

    pub(super) fn extended(&self, reply: &Value) -> Result<Mutation<Timestamp>> {
        match self.parts(reply)? {
            (DONE, [expires]) => Ok(Mutation::Done(self.time(expires)?)),
            (EXPIRED, []) => Ok(Mutation::Expired),
            (NOT_FOUND, []) => Ok(Mutation::NotFound),
            _ => Err(self.strange(reply)),
        }
    }

    /// The parts of a reply after its number, which tells what kind it is.
    ///
    /// # Errors
    /// `Internal`, when the script found something that it can't read.
    pub(super) fn parts<'a>(&self, reply: &'a Value) -> Result<(i64, &'a [Value])> {
        let Value::Array(parts) = reply else { return Err(self.strange(reply)) };
        let Some((Value::Int(kind), rest)) = parts.split_first() else { return Err(self.strange(reply)) };
        if *kind >= 0 {
            return Ok((*kind, rest));
        }
        let name = match rest.first() {
            Some(Value::BulkString(name)) => String::from_utf8_lossy(name),
            _ => return Err(self.strange(reply)),
        };
        Err(self.unreadable(*kind, &name))
    }

    /// What lies at `lock` is no record.
    pub(super) fn bad_record(&self, lock: &str) -> Error {
        self.unreadable(BAD_RECORD, lock)
    }

    /// What lies at `index` is no name of a lock.
    pub(super) fn bad_index(&self, index: &str) -> Error {
        self.unreadable(BAD_INDEX, index)
    }

    fn unreadable(&self, kind: i64, name: &str) -> Error {
        let name = self.names.shown(name);
        let expected = match kind {
            BAD_RECORD => record::EXPECTED,
            BAD_FENCE => "a string with an integer of up to 15 digits",
            FENCE_OVERFLOW => {
                return Error::internal(format!(
                    "the next fence at {name:?} would exceed {}; this key's fence counter must be reset by hand",
                    Fence::MAX
                ));
            }
            _ => "a string with the name of a lock of the same prefix",
        };
        Error::internal(format!("what Redis holds at {name:?} cannot be read; expected is {expected}"))
    }

    pub(super) fn strange(&self, reply: &Value) -> Error {
        unexpected(self.server.place(), reply)
    }

    pub(super) fn time(&self, value: &Value) -> Result<Timestamp> {
        whole(value).map(Timestamp::from_millis).ok_or_else(|| self.strange(value))
    }
}

/// A whole number, as an integer or as its digits.
pub(super) fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}
