//! Looking at leases: what is looked for, what is answered, and what callers ask in these terms.

use async_trait::async_trait;

use super::Backend;
use crate::lock::{Key, Lease, LockId, Result};

/// What leases are found by. Only those that are live are found.
#[derive(Clone, Copy, Debug)]
pub enum Find<'a> {
    /// The lease on this key.
    Key {
        /// As the user names it.
        key: &'a Key,
        /// Whether a backend that was opened to clean up may delete the record where it expired over two seconds ago.
        clean_up: bool,
    },
    /// The lease with this lock id.
    LockId(&'a LockId),
    /// Some of the leases whose keys begin so; from page to page all of them.
    Prefix(Span<'a>),
}

/// Which page of many leases. Records that can't be read are left out: whoever looks up their keys is told.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// What the users' names of the keys begin with; empty for all.
    pub prefix: &'a str,
    /// How many leases a page holds at most, from 1. It may hold fewer, or none, and yet not be the last one.
    pub limit: usize,
    /// Where the page begins, as the page before said; `None` for the first one.
    pub cursor: Option<&'a str>,
}

/// What was found. What comes or goes while somebody turns the pages may be missed, and on some stores be found
/// twice; what stays is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In no order that means anything.
    pub leases: Vec<Lease>,
    /// Where the next page begins, for the same prefix at the same store; `None` when this is the last one.
    pub cursor: Option<String>,
}

impl From<Option<Lease>> for Page {
    fn from(lease: Option<Lease>) -> Page {
        Page { leases: lease.into_iter().collect(), cursor: None }
    }
}

/// What a single lease is looked up by.
#[derive(Clone, Copy, Debug)]
pub enum LookupBy<'a> {
    /// The lease on this key.
    Key(&'a Key),
    /// The lease with this lock id.
    LockId(&'a LockId),
}

impl<'a> From<LookupBy<'a>> for Find<'a> {
    fn from(by: LookupBy<'a>) -> Find<'a> {
        match by {
            LookupBy::Key(key) => Find::Key { key, clean_up: false },
            LookupBy::LockId(id) => Find::LockId(id),
        }
    }
}

/// What callers ask of any backend.
#[async_trait]
pub trait BackendExt: Backend {
    /// The live lease, or `None`.
    ///
    /// # Errors
    /// Those of [`Backend::find`].
    async fn lookup(&self, by: LookupBy<'_>) -> Result<Option<Lease>> {
        Ok(self.find(by.into()).await?.leases.pop())
    }

    /// Whether somebody holds the key; cleans up where the backend was opened to.
    ///
    /// # Errors
    /// Those of [`Backend::find`].
    async fn is_locked(&self, key: &Key) -> Result<bool> {
        Ok(!self.find(Find::Key { key, clean_up: true }).await?.leases.is_empty())
    }
}

impl<B: Backend + ?Sized> BackendExt for B {}
