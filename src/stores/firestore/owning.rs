//! Release and extend, by lock id. Where this process remembers the grant they take one trip: the document's
//! update time proves that it is still as it was. Otherwise the document is looked up first.

use super::FirestoreBackend;
use super::acquiring::ROUNDS;
use super::documents::{Stored, Version, put_expiry};
use super::error;
use super::transport::proto::Write;
use super::transport::requests::Committed;
use crate::backend::{Mutation, Owner};
use crate::lock::{Error, LockId, Result, Timestamp, Ttl, is_live};

impl FirestoreBackend {
    /// Changes the document of a live lease while it is as it was seen.
    pub(super) async fn change(
        &self,
        owner: &Owner,
        write: impl Fn(&Stored, Timestamp) -> Write + Send + Sync,
    ) -> Result<Mutation<Changed>> {
        // Nobody acts for a backend that was closed, not even to say that a lease is unknown.
        self.server.names().await?;
        let mut known = self.grants.live(&owner.lock_id, self.server.clock.now());
        for round in 0..=ROUNDS {
            let stored = match known.take() {
                Some(stored) => stored,
                None => match self.locate(owner).await? {
                    None => return Ok(Mutation::NotFound),
                    Some(stored) if !is_live(stored.lease.expires_at, self.server.clock.now()) => {
                        return Ok(Mutation::Expired);
                    }
                    Some(stored) => stored,
                },
            };
            let now = self.server.clock.now();
            if round < ROUNDS
                && let Committed::Done(versions) = self.server.commit(|| vec![write(&stored, now)]).await?
            {
                let version = versions.first().copied().unwrap_or(Version::Absent);
                return Ok(Mutation::Done(Changed { stored, version, now }));
            }
        }
        Err(error::contended(&self.server.config.host))
    }

    /// The document of a lock id, live or not.
    pub(super) async fn locate(&self, owner: &Owner) -> Result<Option<Stored>> {
        // A lock id never moves to another key.
        let name = match &owner.lease {
            Some(lease) => Some(self.server.names().await?.place(&lease.key)?.lock),
            None => self.grants.document(&owner.lock_id),
        };
        match name {
            Some(name) => {
                let [document] = self.server.read([&name]).await?;
                let stored = document.as_ref().map(Stored::read).transpose()?;
                Ok(stored.filter(|stored| stored.lease.lock_id == owner.lock_id))
            }
            None => self.find(&owner.lock_id).await,
        }
    }

    /// The one document that carries a lock id and lies where its key belongs. Copies elsewhere, expired
    /// leftovers beside a live lease and what can't be read are not acted on.
    async fn find(&self, lock_id: &LockId) -> Result<Option<Stored>> {
        let documents = self.server.query(|names| names.carriers(lock_id)).await?;
        let names = self.server.names().await?;
        let now = self.server.clock.now();
        let (mut found, mut unreadable) = (Vec::new(), None);
        for document in &documents {
            match Stored::read(document) {
                Ok(stored) if stored.is_in_its_place(&names.place(&stored.lease.key)?) => found.push(stored),
                Ok(_) => {}
                Err(error) => unreadable = Some(error),
            }
        }
        if found.len() > 1 {
            found.retain(|stored| is_live(stored.lease.expires_at, now));
        }
        match (found.pop(), unreadable) {
            (Some(_), _) if !found.is_empty() => Err(Error::internal(
                "several live Firestore documents carry the same lockId, so none of them is touched; delete the wrong ones by hand",
            )),
            (Some(stored), _) => Ok(Some(stored)),
            (None, Some(unreadable)) => Err(unreadable),
            (None, None) => Ok(None),
        }
    }

    /// One request for many; leaves out those that must be looked up.
    pub(super) async fn extend_known(
        &self,
        owners: &[(Owner, Ttl)],
        batch: &[(usize, Stored)],
        now: Timestamp,
    ) -> Vec<(usize, Result<Mutation<Timestamp>>)> {
        let write = |(index, stored): &(usize, Stored)| {
            put_expiry(&stored.name, now.plus(owners[*index].1), stored.version)
        };
        let each = match self.server.write_each(|| batch.iter().map(write).collect()).await {
            Ok(each) => each,
            // What went wrong with the request went wrong with each of its parts.
            Err(error) => return batch.iter().map(|(index, _)| (*index, Err(error.clone()))).collect(),
        };
        let answers = batch.iter().zip(each).filter_map(|((index, stored), result)| match result {
            Ok(Committed::Done(versions)) => {
                let version = versions.first().copied().unwrap_or(Version::Absent);
                Some((*index, Ok(Mutation::Done(self.moved(stored.clone(), version, now, owners[*index].1)))))
            }
            Ok(Committed::Conflict) => {
                self.grants.forget(&stored.lease.lock_id);
                None
            }
            Err(error) => Some((*index, Err(error))),
        });
        answers.collect()
    }

    /// Remembers the lease with its new expiry.
    pub(super) fn moved(&self, mut stored: Stored, version: Version, now: Timestamp, ttl: Ttl) -> Timestamp {
        stored.lease.expires_at = now.plus(ttl);
        stored.version = version;
        let expires_at = stored.lease.expires_at;
        self.grants.remember(stored, now);
        expires_at
    }
}

/// A change that was made: what was there before, its new version, and the time it counts from.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) stored: Stored,
    pub(super) version: Version,
    pub(super) now: Timestamp,
}
