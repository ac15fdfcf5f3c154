//! Look-ups, which change nothing but what clean-up removes.

use std::time::Duration;

use super::FirestoreBackend;
use super::documents::{self, Stored, delete};
use crate::backend::{Owner, Page, Span};
use crate::lock::{Key, Lease, LockId, Result, is_live};

/// How long a record must have been expired before clean-up removes it.
const LONG_EXPIRED: Duration = Duration::from_secs(2);

impl FirestoreBackend {
    pub(super) async fn find_key(&self, key: &Key, clean_up: bool) -> Result<Option<Lease>> {
        let Some(stored) = self.read_key(key).await? else { return Ok(None) };
        let now = self.server.clock.now();
        if is_live(stored.lease.expires_at, now) {
            return Ok(Some(stored.lease));
        }
        let clean_up = clean_up && self.server.config.cleanup_in_is_locked;
        if clean_up && now.since(stored.lease.expires_at) > LONG_EXPIRED {
            // The answer is known; whoever changed the document meanwhile has cleaned up, too.
            let _ = self.server.commit(|| vec![delete(&stored.name, stored.version)]).await;
        }
        Ok(None)
    }

    pub(super) async fn find_id(&self, lock_id: &LockId) -> Result<Option<Lease>> {
        Ok(self.live(self.locate(&Owner::from(*lock_id)).await?))
    }

    /// In the order of their keys; the cursor is the last one.
    pub(super) async fn page(&self, span: Span<'_>) -> Result<Page> {
        let names = self.server.names().await?;
        let documents = self.server.query(|names| names.page(span)).await?;
        let now = self.server.clock.now();
        let mut page = Page::default();
        let full = documents.len() >= span.limit;
        for document in &documents {
            let Some(key) = documents::key_of(document) else { continue };
            if !key.starts_with(span.prefix) {
                return Ok(Page { cursor: None, ..page });
            }
            page.cursor = full.then(|| key.to_owned());
            let stored = Stored::read(document).ok();
            let live = stored.filter(|stored| {
                let place = names.place(&stored.lease.key);
                is_live(stored.lease.expires_at, now)
                    && place.is_ok_and(|place| stored.is_in_its_place(&place))
            });
            page.leases.extend(live.map(|stored| stored.lease));
        }
        Ok(page)
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
