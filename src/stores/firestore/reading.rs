//! Look-ups, which change nothing but what clean-up removes.

use std::time::Duration;

use super::FirestoreBackend;
use super::documents::{Stored, delete};
use crate::backend::Owner;
use crate::lock::{Key, Lease, LockId, Result, is_live};

/// How long a record must have been expired before clean-up removes it.
const LONG_EXPIRED: Duration = Duration::from_secs(2);

impl FirestoreBackend {
    pub(super) async fn lookup_key(&self, key: &Key) -> Result<Option<Lease>> {
        Ok(self.live(self.read_key(key).await?))
    }

    pub(super) async fn lookup_id(&self, lock_id: &LockId) -> Result<Option<Lease>> {
        Ok(self.live(self.locate(&Owner::from(*lock_id)).await?))
    }

    pub(super) async fn is_key_locked(&self, key: &Key) -> Result<bool> {
        let Some(stored) = self.read_key(key).await? else { return Ok(false) };
        let now = self.server.clock.now();
        if is_live(stored.lease.expires_at, now) {
            return Ok(true);
        }
        if self.server.config.cleanup_in_is_locked && now.since(stored.lease.expires_at) > LONG_EXPIRED {
            // The answer is known; whoever changed the document meanwhile has cleaned up, too.
            let _ = self.server.commit(|| vec![delete(&stored.name, stored.version)]).await;
        }
        Ok(false)
    }

    async fn read_key(&self, key: &Key) -> Result<Option<Stored>> {
        let place = self.server.names().await?.place(key)?;
        let [document] = self.server.read([&place.lock]).await?;
        document.as_ref().map(Stored::read).transpose()
    }

    fn live(&self, stored: Option<Stored>) -> Option<Lease> {
        let now = self.server.clock.now();
        stored.map(|stored| stored.lease).filter(|lease| is_live(lease.expires_at, now))
    }
}
