//! Directories for the conformance suite and our own tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::names::Names;
use super::record::Record;
use super::{FileBackend, FileConfig, OwnerDeath};
use crate::backend::Backend;
use crate::conformance::Fixture;
use crate::local::process::ProcessId;
use crate::lock::{Fence, Key, Lease, LockId, Timestamp};

/// Runs the conformance suite in a directory of its own, which goes with it.
#[derive(Debug)]
pub struct FileFixture {
    directory: PathBuf,
}

impl FileFixture {
    /// # Panics
    /// When the system has no place for temporary files.
    #[allow(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> FileFixture {
        let name = format!("syncguard-test-{}", LockId::mint().as_str());
        FileFixture { directory: std::env::temp_dir().join(name) }
    }

    /// The directory that its backends share.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the files of this boot lie.
    ///
    /// # Panics
    /// Where the system does not tell which boot this is.
    pub fn boot_directory(&self) -> PathBuf {
        self.directory.join(&*ProcessId::current().expect("the system tells its boot").boot_id)
    }

    /// The record of whoever holds the key.
    pub fn held(&self, key: &Key) -> PathBuf {
        self.boot_directory().join(Names::of(key).held())
    }

    /// The record of a free key, which keeps its fence.
    pub fn free(&self, key: &Key) -> PathBuf {
        self.boot_directory().join(Names::of(key).free())
    }

    /// With every setting as it is by default.
    pub fn config(&self) -> FileConfig {
        FileConfig {
            directory: self.directory.clone(),
            owner_death: OwnerDeath::default(),
            cleanup_in_is_locked: false,
            fence_retention: None,
        }
    }

    /// A backend that treats an owner's death so.
    pub fn backend_with(&self, owner_death: OwnerDeath) -> FileBackend {
        FileBackend::new(FileConfig { owner_death, ..self.config() })
    }
}

#[async_trait]
impl Fixture for FileFixture {
    async fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(FileBackend::new(self.config()))
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        Arc::new(FileBackend::new(FileConfig { cleanup_in_is_locked: true, ..self.config() }))
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        FileBackend::new(self.config()).check().await.expect("the directory can be used");
        for file in [self.held(key), self.free(key)] {
            let _ = std::fs::remove_file(file);
        }
        if let Some(fence) = fence {
            let past = Timestamp::from_millis(1);
            let lease = Lease {
                key: key.clone(),
                lock_id: LockId::mint(),
                fence,
                acquired_at: past,
                expires_at: past,
            };
            let line = Record { lease, deadline: past, owner: None }.to_line();
            std::fs::write(self.free(key), line).expect("the fence can be written");
        }
    }

    async fn spoil(&self, key: &Key) {
        FileBackend::new(self.config()).check().await.expect("the directory can be used");
        std::fs::write(self.held(key), "{\"key\":").expect("the record can be written");
    }
}

impl Drop for FileFixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
