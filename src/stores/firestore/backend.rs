//! The trait's bodies: documents are read, changed where they are still as they were read, and remembered.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};

use super::acquiring::{ROUNDS, released};
use super::config::FirestoreConfig;
use super::documents::{Stored, delete, put_expiry};
use super::error;
use super::grants::Grants;
use super::owning::Changed;
use super::transport::connection::Server;
use super::wake::Wakes;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page,
    TimeAuthority, Watch, Yield,
};
use crate::lock::{Error, Key, Result, Timestamp, Ttl, is_live};

/// So many documents one request changes at most.
const BATCH: usize = 500;
/// So many leases are looked up at the same time.
const AT_ONCE: usize = 32;

/// Locks in Firestore. Expiries are written by the client's clock, corrected by every reply of the server
/// ([`TimeAuthority::Client`]).
#[derive(Debug)]
pub struct FirestoreBackend {
    pub(super) capabilities: Capabilities,
    pub(super) server: Arc<Server>,
    pub(super) grants: Grants,
    pub(super) wakes: Wakes,
}

impl FirestoreBackend {
    /// Does no I/O and needs no runtime: it connects on first use.
    pub fn new(config: FirestoreConfig) -> FirestoreBackend {
        let capabilities = Capabilities {
            name: "firestore",
            store: config.store_id(),
            time_authority: TimeAuthority::Client,
            wakes: true,
            hands_over: true,
            event_loop: false,
            repeatable: true,
        };
        let server = Arc::new(Server::new(config));
        FirestoreBackend {
            capabilities,
            wakes: Wakes::new(Arc::clone(&server)),
            server,
            grants: Grants::default(),
        }
    }
}

impl Drop for FirestoreBackend {
    /// Ends the background task.
    fn drop(&mut self) {
        self.server.close();
    }
}

#[async_trait]
impl Backend for FirestoreBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let place = self.server.names().await?.place(&request.key)?;
        for round in 0..=ROUNDS {
            let (stored, counter) = self.read_both(&place).await?;
            let now = self.server.clock.now();
            if let Some(stored) = stored.as_ref().filter(|stored| is_live(stored.lease.expires_at, now)) {
                return Ok(self.refuse_or_repeat(stored, request, now));
            }
            if round < ROUNDS
                && let Some(lease) = self.try_grant(&place, request, stored, counter, now).await?
            {
                return Ok(Acquired::Granted(lease));
            }
        }
        // Others were faster each time, and had it a moment ago.
        Ok(Acquired::Held { free_in: None })
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let HandOver { owner, next, yields } = request;
        // Firestore does not tell who listens to a document. Others may, so when it is their turn they get it:
        // the wake-up costs them nothing, and without them the local waiter asks again 10 ms later.
        if *yields != Yield::Never {
            let released = self.release(owner).await?;
            return Ok(HandedOver { released, next: None, others: None, echo: true });
        }
        let place = self.server.names().await?.place(&next.key)?;
        let now = self.server.clock.now();
        let mut rounds = ROUNDS;
        if let Some(stored) = self.grants.live(&owner.lock_id, now)
            && stored.is_in_its_place(&place)
        {
            if let Some(lease) = self.try_pass(&place, next, &stored, now).await? {
                return Ok(HandedOver {
                    released: Mutation::Done(()),
                    next: Some(Acquired::Granted(lease)),
                    others: Some(0),
                    echo: false,
                });
            }
            rounds -= 1;
        }
        for round in 0..=rounds {
            let (stored, counter) = self.read_both(&place).await?;
            let now = self.server.clock.now();
            let released = released(stored.as_ref(), &owner.lock_id, now);
            let other = stored.as_ref().filter(|stored| is_live(stored.lease.expires_at, now));
            if let Some(stored) = other.filter(|_| released != Mutation::Done(())) {
                return Ok(HandedOver {
                    released,
                    next: Some(self.refuse_or_repeat(stored, next, now)),
                    others: Some(0),
                    echo: false,
                });
            }
            if round < rounds
                && let Some(lease) = self.try_grant(&place, next, stored, counter, now).await?
            {
                self.grants.forget(&owner.lock_id);
                return Ok(HandedOver {
                    released,
                    next: Some(Acquired::Granted(lease)),
                    others: Some(0),
                    echo: false,
                });
            }
        }
        Err(error::contended(&self.server.config.host))
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let extended =
            self.change(owner, |stored, now| put_expiry(&stored.name, now.plus(ttl), stored.version)).await?;
        Ok(extended.map(|Changed { stored, version, now }| self.moved(stored, version, now, ttl)))
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let mut results: Vec<Option<Result<Mutation<Timestamp>>>> = owners.iter().map(|_| None).collect();
        let now = self.server.clock.now();
        // One request may name a document once only.
        let mut named = HashSet::new();
        let known: Vec<(usize, Stored)> = owners
            .iter()
            .enumerate()
            .filter_map(|(index, (owner, _))| Some((index, self.grants.live(&owner.lock_id, now)?)))
            .filter(|(_, stored)| named.insert(stored.name.clone()))
            .collect();
        for batch in known.chunks(BATCH) {
            for (index, result) in self.extend_known(owners, batch, now).await {
                results[index] = Some(result);
            }
        }
        // What is left: leases of others, and those that somebody changed meanwhile.
        let left: Vec<usize> = (0..owners.len()).filter(|index| results[*index].is_none()).collect();
        let each = left.into_iter().map(|index| async move {
            let (owner, ttl) = &owners[index];
            (index, self.extend(owner, *ttl).await)
        });
        let mut each = stream::iter(each).buffer_unordered(AT_ONCE);
        while let Some((index, result)) = each.next().await {
            results[index] = Some(result);
        }
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(Error::internal("a lease was left out"))))
            .collect()
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let released = self.change(owner, |stored, _| delete(&stored.name, stored.version)).await?;
        self.grants.forget(&owner.lock_id);
        Ok(released.map(|_| ()))
    }

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        match what {
            Find::Key { key, clean_up } => self.find_key(key, clean_up).await.map(Page::from),
            Find::LockId(lock_id) => self.find_id(lock_id).await.map(Page::from),
            Find::Prefix(span) => self.page(span).await,
        }
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        let place = self.server.names().await?.place(key)?;
        self.wakes.watch(place.lock).await
    }

    async fn close(&self) -> Result<()> {
        self.server.close();
        Ok(())
    }
}
