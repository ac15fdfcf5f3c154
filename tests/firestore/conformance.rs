//! The contract's rules, over Firestore.

use std::sync::Arc;

use async_trait::async_trait;
use syncguard::backend::Backend;
use syncguard::conformance::Fixture;
use syncguard::lock::{Fence, Key};
use syncguard::stores::firestore::storage_keys;
use syncguard::stores::target::Setting;

use crate::raw::{Raw, text};
use crate::{backend_on, emulator};

/// A project of its own in the emulator that the rules share.
struct FirestoreFixture {
    project: String,
}

impl FirestoreFixture {
    fn start() -> FirestoreFixture {
        emulator::shared();
        FirestoreFixture { project: emulator::project() }
    }

    fn raw(&self) -> Raw {
        Raw::new(emulator::shared(), &self.project)
    }
}

#[async_trait]
impl Fixture for FirestoreFixture {
    async fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(backend_on(&self.project, &[]))
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        Arc::new(backend_on(&self.project, &[("cleanupInIsLocked", Setting::Flag(true))]))
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        let path = format!("fence_counters/{}", storage_keys(key).unwrap().fence);
        match fence {
            Some(fence) => {
                let fields = [("fence", text(&fence.to_string())), ("keyDebug", text(key.as_str()))];
                self.raw().put(&path, &fields).await;
            }
            None => self.raw().delete(&path).await,
        }
    }

    async fn spoil(&self, key: &Key) {
        let path = format!("locks/{}", storage_keys(key).unwrap().lock);
        self.raw().put(&path, &[("lockId", text("AAAAAAAAAAAAAAAAAAAAAA"))]).await;
    }

    /// Nobody can ask Firestore who listens.
    fn counts_watchers(&self) -> bool {
        false
    }
}

syncguard::conformance_suite!(FirestoreFixture::start());
