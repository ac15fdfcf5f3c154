//! Where documents lie: full resource names from what a configuration says.

use super::documents;
use super::documents::{KEY, LOCK_ID};
use super::transport::proto;
use super::transport::proto::structured_query::field_filter::Operator;
use super::transport::proto::structured_query::filter::FilterType;
use super::transport::proto::structured_query::{
    CollectionSelector, Direction, FieldFilter, FieldReference, Filter, Order, Projection,
};
use super::transport::proto::{Cursor, RunQueryRequest, StructuredQuery, run_query_request};
use crate::backend::Span;
use crate::lock::{self, Key, Limit, LockId, Result, StorageKeys};

/// More documents under one lock id than this are not read: one is the rule, two are a mistake.
const MOST_DUPLICATES: i32 = 8;

/// How long a document's id may be.
pub const LIMIT: Limit = Limit { bytes: 1500, reserve: 0 };

/// The ids of a key's two documents. What Firestore forbids as an id takes the hashed form.
///
/// # Errors
/// None that a valid key can cause; the signature is that of the rule.
pub fn storage_keys(key: &Key) -> Result<StorageKeys> {
    let id = key.as_str();
    let reserved = id.len() >= 4 && id.starts_with("__") && id.ends_with("__");
    lock::storage_keys("", key, LIMIT, id == "." || id == ".." || reserved || id.contains('/'))
}

/// One database, and the two collections in it.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) project: String,
    pub(super) database_id: String,
    /// `projects/P/databases/D`
    pub(super) database: String,
    locks: Collection,
    fences: Collection,
}

#[derive(Clone, Debug)]
struct Collection {
    /// The document, or the root of all documents, in which it lies.
    parent: String,
    id: String,
}

/// A key's two documents.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) lock: String,
    pub(super) fence: String,
}

impl Names {
    pub(super) fn new(project: &str, database_id: &str, locks: &str, fences: &str) -> Names {
        let database = format!("projects/{project}/databases/{database_id}");
        Names {
            project: project.to_owned(),
            database_id: database_id.to_owned(),
            locks: Collection::new(&database, locks),
            fences: Collection::new(&database, fences),
            database,
        }
    }

    /// # Errors
    /// As [`storage_keys`].
    pub(super) fn place(&self, key: &Key) -> Result<Place> {
        let ids = storage_keys(key)?;
        Ok(Place { lock: self.locks.document(&ids.lock), fence: self.fences.document(&ids.fence) })
    }

    /// Whoever carries this lock id; a handful at most.
    pub(super) fn carriers(&self, lock_id: &LockId) -> RunQueryRequest {
        let carries = filter(LOCK_ID, Operator::Equal, lock_id.as_str());
        self.query(carries, StructuredQuery { limit: Some(MOST_DUPLICATES), ..StructuredQuery::default() })
    }

    /// Locks whose keys are the prefix or come after it, in the order of their keys. Those that begin with it come first.
    pub(super) fn page(&self, span: Span<'_>) -> RunQueryRequest {
        let by_key = Order { field: Some(field(KEY)), direction: Direction::Ascending.into() };
        let after = |key: &str| Cursor { values: vec![documents::text(key)], before: false };
        let pages = StructuredQuery {
            order_by: vec![by_key],
            start_at: span.cursor.map(after),
            limit: Some(i32::try_from(span.limit).unwrap_or(i32::MAX)),
            ..StructuredQuery::default()
        };
        self.query(filter(KEY, Operator::GreaterThanOrEqual, span.prefix), pages)
    }

    /// Of locks, with the fields that locks have.
    fn query(&self, filter: Filter, query: StructuredQuery) -> RunQueryRequest {
        let query = StructuredQuery {
            select: Some(Projection { fields: documents::LOCK_FIELDS.map(field).to_vec() }),
            from: vec![CollectionSelector { collection_id: self.locks.id.clone(), all_descendants: false }],
            r#where: Some(filter),
            ..query
        };
        RunQueryRequest {
            parent: self.locks.parent.clone(),
            query_type: Some(run_query_request::QueryType::StructuredQuery(query)),
            ..RunQueryRequest::default()
        }
    }
}

fn field(name: &str) -> FieldReference {
    FieldReference { field_path: name.to_owned() }
}

fn filter(name: &str, op: Operator, value: &str) -> Filter {
    let filter = FieldFilter { field: Some(field(name)), op: op.into(), value: Some(documents::text(value)) };
    Filter { filter_type: Some(FilterType::FieldFilter(filter)) }
}

impl Collection {
    fn new(database: &str, path: &str) -> Collection {
        let root = format!("{database}/documents");
        match path.rsplit_once('/') {
            Some((parent, id)) => Collection { parent: format!("{root}/{parent}"), id: id.to_owned() },
            None => Collection { parent: root, id: path.to_owned() },
        }
    }

    fn document(&self, id: &str) -> String {
        [&self.parent, "/", &self.id, "/", id].concat()
    }
}

/// The part of a document's name below its database, such as `locks/a`. Servers may name the project
/// otherwise than the request did, by number.
pub(super) fn relative(name: &str) -> &str {
    name.split_once("/documents/").map_or(name, |(_, path)| path)
}

/// Whether two names mean the same document of one database.
pub(super) fn same(one: &str, other: &str) -> bool {
    relative(one) == relative(other)
}

/// Restricts a read to the fields that locks and fences have, so that replies stay small.
pub(super) fn mask() -> proto::DocumentMask {
    proto::DocumentMask { field_paths: documents::LOCK_FIELDS.map(str::to_owned).to_vec() }
}
