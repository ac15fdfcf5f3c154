//! Documents to leases and back, as the original library writes them.

use std::collections::BTreeMap;

use prost_types::Timestamp as ServerTime;

use super::names::{self, Place};
use super::transport::proto::precondition::ConditionType;
use super::transport::proto::value::ValueType;
use super::transport::proto::{Document, DocumentMask, Precondition, Value, Write, write};
use crate::lock::{Error, Fence, FenceRetention, Key, Lease, LockId, Result, Timestamp};

pub(super) const LOCK_ID: &str = "lockId";
const EXPIRES_AT: &str = "expiresAtMs";
const ACQUIRED_AT: &str = "acquiredAtMs";
pub(super) const KEY: &str = "key";
const FENCE: &str = "fence";
const KEY_DEBUG: &str = "keyDebug";
/// What a TTL policy goes by.
const EXPIRE_AT: &str = "expireAt";
pub(super) const LOCK_FIELDS: [&str; 5] = [LOCK_ID, EXPIRES_AT, ACQUIRED_AT, KEY, FENCE];

/// The key of a lock's document, where it is a text.
pub(super) fn key_of(document: &Document) -> Option<&str> {
    Fields { document }.text(KEY)
}

/// Which state of a document somebody has seen: its update time, or that it was not there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Version {
    Absent,
    Updated(ServerTime),
}

impl From<Version> for Precondition {
    fn from(version: Version) -> Precondition {
        let condition = match version {
            Version::Absent => ConditionType::Exists(false),
            Version::Updated(time) => ConditionType::UpdateTime(time),
        };
        Precondition { condition_type: Some(condition) }
    }
}

/// A lease in its document.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) lease: Lease,
    pub(super) version: Version,
}

impl Stored {
    /// # Errors
    /// `Internal` that names the document when it is no lock.
    pub(super) fn read(document: &Document) -> Result<Stored> {
        let fields = Fields { document };
        let lease = Lease {
            key: fields
                .text(KEY)
                .and_then(|text| Key::new(text).ok())
                .ok_or_else(|| fields.wrong(KEY, "a key"))?,
            lock_id: fields
                .text(LOCK_ID)
                .and_then(|text| LockId::parse(text).ok())
                .ok_or_else(|| fields.wrong(LOCK_ID, "22 characters of base64url"))?,
            fence: fields.fence()?,
            acquired_at: fields.time(ACQUIRED_AT)?,
            expires_at: fields.time(EXPIRES_AT)?,
        };
        Ok(Stored { name: document.name.clone(), lease, version: version(document)? })
    }

    /// Whether the document lies where its key belongs, rather than being a copy of one that does.
    pub(super) fn is_in_its_place(&self, place: &Place) -> bool {
        names::same(&self.name, &place.lock)
    }
}

/// A fence counter and the state in which it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    pub(super) fence: Option<Fence>,
    pub(super) version: Version,
}

impl Counter {
    /// # Errors
    /// `Internal` that names the document when it is no fence counter.
    pub(super) fn read(document: Option<&Document>) -> Result<Counter> {
        match document {
            None => Ok(Counter { fence: None, version: Version::Absent }),
            Some(document) => {
                Ok(Counter { fence: Some(Fields { document }.fence()?), version: version(document)? })
            }
        }
    }
}

fn version(document: &Document) -> Result<Version> {
    document
        .update_time
        .map(Version::Updated)
        .ok_or_else(|| Error::internal("Firestore answered a document without its update time"))
}

struct Fields<'a> {
    document: &'a Document,
}

impl<'a> Fields<'a> {
    fn value(&self, name: &str) -> Option<&'a ValueType> {
        self.document.fields.get(name)?.value_type.as_ref()
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            ValueType::StringValue(text) => Some(text),
            _ => None,
        }
    }

    fn fence(&self) -> Result<Fence> {
        self.text(FENCE)
            .and_then(Fence::parse)
            .ok_or_else(|| self.wrong(FENCE, "a string of at most 15 decimal digits"))
    }

    /// JavaScript clients write whole numbers as integers, others may have written doubles.
    fn time(&self, name: &'static str) -> Result<Timestamp> {
        const LARGEST: u64 = (1 << 53) - 1;
        #[allow(clippy::cast_precision_loss, reason = "2^53 - 1 is exact")]
        const LARGEST_DOUBLE: f64 = LARGEST as f64;
        let millis = match self.value(name) {
            Some(ValueType::IntegerValue(number)) => u64::try_from(*number).ok(),
            Some(ValueType::DoubleValue(number))
                if number.fract() == 0.0 && (0.0..=LARGEST_DOUBLE).contains(number) =>
            {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
                Some(*number as u64)
            }
            _ => None,
        };
        millis
            .filter(|millis| *millis <= LARGEST)
            .map(Timestamp::from_millis)
            .ok_or_else(|| self.wrong(name, "a whole number of milliseconds"))
    }

    fn wrong(&self, field: &str, expected: &str) -> Error {
        Error::internal(format!(
            "the Firestore document {:?} can't be read: its field {field} must be {expected}; correct or delete it by hand",
            names::relative(&self.document.name)
        ))
    }
}

pub(super) fn text(text: &str) -> Value {
    Value { value_type: Some(ValueType::StringValue(text.to_owned())) }
}

fn millis(time: Timestamp) -> Value {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Value { value_type: Some(ValueType::IntegerValue(millis)) }
}

fn moment(time: Timestamp) -> Value {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(millis % 1000 * 1_000_000).unwrap_or_default();
    Value { value_type: Some(ValueType::TimestampValue(ServerTime { seconds: millis / 1000, nanos })) }
}

/// Writes a lease over whatever is there in the state `seen`.
pub(super) fn put_lease(name: &str, lease: &Lease, seen: Version) -> Write {
    let fields = [
        (LOCK_ID, text(lease.lock_id.as_str())),
        (EXPIRES_AT, millis(lease.expires_at)),
        (ACQUIRED_AT, millis(lease.acquired_at)),
        (KEY, text(lease.key.as_str())),
        (FENCE, text(&lease.fence.to_string())),
    ];
    put(name, fields, Some(seen))
}

/// Writes a fence counter; `None` where the lock's own precondition already orders the writers. One that is to go says
/// when, for a TTL policy.
pub(super) fn put_fence(
    name: &str,
    lease: &Lease,
    seen: Option<Version>,
    retention: Option<FenceRetention>,
) -> Write {
    let goes = retention.map(|retention| (EXPIRE_AT, moment(retention.ends_at(lease.fence))));
    let fields = [(FENCE, text(&lease.fence.to_string())), (KEY_DEBUG, text(lease.key.as_str()))];
    put(name, fields.into_iter().chain(goes), seen)
}

/// Moves the expiry and leaves the other fields.
pub(super) fn put_expiry(name: &str, expires_at: Timestamp, seen: Version) -> Write {
    let mask = DocumentMask { field_paths: vec![EXPIRES_AT.to_owned()] };
    Write { update_mask: Some(mask), ..put(name, [(EXPIRES_AT, millis(expires_at))], Some(seen)) }
}

pub(super) fn delete(name: &str, seen: Version) -> Write {
    Write {
        operation: Some(write::Operation::Delete(name.to_owned())),
        current_document: Some(seen.into()),
        ..Write::default()
    }
}

fn put<'a>(name: &str, fields: impl IntoIterator<Item = (&'a str, Value)>, seen: Option<Version>) -> Write {
    let fields: BTreeMap<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let document = Document { name: name.to_owned(), fields, ..Document::default() };
    Write {
        operation: Some(write::Operation::Update(document)),
        current_document: seen.map(Into::into),
        ..Write::default()
    }
}
