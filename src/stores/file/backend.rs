//! The trait's bodies: each change of a key's files is made on a thread of the directory's crew.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::config::{FileConfig, OwnerDeath};
use super::operations::Rules;
use super::store::Store;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page, Span,
    TimeAuthority, Watch,
};
use crate::lock::{Key, Result, Timestamp, Ttl};

/// A record that expired this long ago may be cleaned up.
const CLEAN_UP_AFTER: Duration = Duration::from_secs(2);

/// Locks in a directory. The kernel's boot clock decides.
#[derive(Debug)]
pub struct FileBackend {
    pub(super) capabilities: Capabilities,
    pub(super) rules: Rules,
    pub(super) cleanup_in_is_locked: bool,
    pub(super) store: Store,
}

impl FileBackend {
    /// Does no I/O and needs no runtime: the directory is made and checked on first use.
    pub fn new(config: FileConfig) -> FileBackend {
        let capabilities = Capabilities {
            name: "file",
            store: config.store_id(),
            time_authority: TimeAuthority::Server,
            wakes: true,
            hands_over: true,
            event_loop: true,
            repeatable: true,
        };
        FileBackend {
            capabilities,
            rules: Rules { takes_over: config.owner_death == OwnerDeath::Takeover },
            cleanup_in_is_locked: config.cleanup_in_is_locked,
            store: Store::new(config.directory),
        }
    }

    /// Makes the directory where it is missing, and checks that locks in it can be trusted.
    ///
    /// # Errors
    /// `InvalidArgument` when it can't be used: not ours, writable by others, on a network filesystem,
    /// read-only, no directory. `ServiceUnavailable` when the disk is full.
    pub async fn check(&self) -> Result<()> {
        self.store.directory().await.map(|_| ())
    }
}

#[async_trait]
impl Backend for FileBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let (rules, next) = (self.rules, request.clone());
        self.store.change(&request.key, move |place| rules.acquire(place, &next)).await
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let (rules, owner, next) = (self.rules, request.owner.lock_id, request.next.clone());
        let yields = request.yields;
        self.store.change(&request.next.key, move |place| rules.hand_over(place, &owner, &next, yields)).await
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let Some(key) = self.store.key_of(owner).await? else { return Ok(Mutation::NotFound) };
        let (rules, id) = (self.rules, owner.lock_id);
        self.store.change(&key, move |place| rules.extend(place, &id, ttl)).await
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        // Side by side: a stopped process may have the OS lock that some of them need.
        join_all(owners.iter().map(|(owner, ttl)| self.extend(owner, *ttl))).await
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let Some(key) = self.store.key_of(owner).await? else { return Ok(Mutation::NotFound) };
        let (rules, id) = (self.rules, owner.lock_id);
        self.store.change(&key, move |place| rules.release(place, &id)).await
    }

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        let rules = self.rules;
        match what {
            Find::Key { key, clean_up } => {
                let clean_up = clean_up && self.cleanup_in_is_locked;
                let after = clean_up.then_some(CLEAN_UP_AFTER);
                self.store.change(key, move |place| rules.look(place, after)).await.map(Page::from)
            }
            Find::LockId(id) => {
                let owner = Owner::from(*id);
                let Some(key) = self.store.key_of(&owner).await? else { return Ok(Page::default()) };
                let found = self.store.change(&key, move |place| rules.look(place, None)).await?;
                Ok(found.filter(|lease| lease.lock_id == owner.lock_id).into())
            }
            Find::Prefix(Span { prefix, limit, cursor }) => {
                let (prefix, after) = (prefix.to_owned(), cursor.unwrap_or_default().to_owned());
                self.store.look(move |directory| rules.page(directory, &prefix, limit, &after)).await
            }
        }
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        let rules = self.rules;
        self.store.change(key, move |place| rules.watch(place)).await
    }

    async fn close(&self) -> Result<()> {
        self.store.close();
        Ok(())
    }
}
