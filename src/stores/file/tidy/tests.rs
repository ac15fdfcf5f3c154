//! Tests of tidying: what goes, what stays.

use super::*;
use crate::backend::{AcquireRequest, Acquired, Backend, Mutation, Owner};
use crate::conformance::Fixture;
use crate::lock::{Key, Lease, LockId, Ttl};
use crate::stores::file::FileFixture;

async fn granted(backend: &dyn Backend, key: &str) -> Lease {
    let request = AcquireRequest {
        key: Key::new(key).unwrap(),
        lock_id: LockId::mint(),
        ttl: Ttl::from_millis(60_000).unwrap(),
    };
    match backend.acquire(&request).await.unwrap() {
        Acquired::Granted(lease) => lease,
        held => panic!("{held:?}"),
    }
}

fn tidy(fixture: &FileFixture, idle_seconds: u64) -> usize {
    step(fixture.directory(), &Directory::open(fixture.directory()).unwrap(), idle_seconds, STEP).unwrap()
}

fn names(fixture: &FileFixture) -> Vec<String> {
    let entries = std::fs::read_dir(fixture.boot_directory()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("shard-")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn idle_keys_go_and_their_fences_rise_all_the_same() {
    let fixture = FileFixture::new();
    let backend = fixture.backend().await;
    let keys: Vec<String> = (0..100).map(|n| format!("key-{n}")).collect();
    let mut first = Vec::new();
    for key in &keys {
        let lease = granted(&*backend, key).await;
        drop(backend.watch(&lease.key).await.unwrap());
        backend.release(&Owner::from(lease.clone())).await.unwrap();
        first.push(lease);
    }
    assert_eq!(tidy(&fixture, 3600), 0, "they were used just now");
    assert!(tidy(&fixture, 0) >= 300);
    assert!(names(&fixture).iter().all(|name| name.starts_with("floor-")), "{:?}", names(&fixture));
    for (key, before) in keys.iter().zip(&first) {
        assert!(granted(&*backend, key).await.fence > before.fence);
    }
}

#[tokio::test]
async fn the_floor_holds_where_the_clock_is_set_back() {
    let fixture = FileFixture::new();
    let backend = fixture.backend().await;
    let lease = granted(&*backend, "key").await;
    backend.release(&Owner::from(lease.clone())).await.unwrap();
    assert!(tidy(&fixture, 0) > 0);
    // To a key of the shard, a floor ahead of the clock is what a clock set back looks like.
    let shard = Names::of(&lease.key).shard();
    let ahead = Fence::new(lease.fence.value() + 1_000_000_000).unwrap();
    let directory = Directory::open(fixture.directory()).unwrap();
    raise_floor(&directory.dir, shard, ahead).unwrap();
    raise_floor(&directory.dir, shard, lease.fence).unwrap();
    assert_eq!(granted(&*backend, "key").await.fence.value(), ahead.value() + 1);
}

#[tokio::test]
async fn what_is_in_use_stays() {
    let fixture = FileFixture::new();
    let backend = fixture.backend().await;
    let held = granted(&*backend, "held").await;
    let ahead = Key::new("ahead").unwrap();
    let far = Fence::new(Now::read().fence_clock() + 1_000_000_000);
    fixture.set_fence(&ahead, far).await;
    let awaited = granted(&*backend, "awaited").await;
    let watch = backend.watch(&awaited.key).await.unwrap();
    backend.release(&Owner::from(awaited)).await.unwrap();
    let spoilt = granted(&*backend, "spoilt").await;
    std::fs::write(fixture.held(&spoilt.key), "{").unwrap();
    let before = names(&fixture);
    assert_eq!(tidy(&fixture, 0), 0);
    assert_eq!(names(&fixture), before);
    drop(watch);
    assert!(tidy(&fixture, 0) > 0, "nobody waits any more");
    assert_eq!(backend.release(&Owner::from(held.lock_id)).await.unwrap(), Mutation::Done(()));
}

#[tokio::test]
async fn an_index_that_leads_nowhere_goes() {
    let fixture = FileFixture::new();
    let backend = fixture.backend().await;
    let lease = granted(&*backend, "key").await;
    let stale = names::index(&LockId::mint());
    let path = fixture.boot_directory().join(&stale);
    std::fs::hard_link(fixture.held(&lease.key), &path).unwrap();
    assert_eq!(tidy(&fixture, 0), 1);
    assert!(!path.exists());
    assert_eq!(backend.release(&Owner::from(lease.lock_id)).await.unwrap(), Mutation::Done(()));
}

#[test]
fn a_step_is_due_after_a_share_of_new_keys() {
    let litter = Litter::default();
    (0..STEP - 1).for_each(|_| litter.count_new_key());
    assert!(!litter.is_due());
    litter.count_new_key();
    assert!(litter.is_due() && !litter.is_due());
    litter.has_seen(STEP * 8);
    (0..STEP).for_each(|_| litter.count_new_key());
    assert!(!litter.is_due(), "there are many files to look at");
    (0..STEP).for_each(|_| litter.count_new_key());
    assert!(litter.is_due());
    assert!(litter.limit() > STEP * 8, "more goes than has come");
}

#[tokio::test]
async fn a_deleted_directory_is_not_made_again() {
    let fixture = FileFixture::new();
    let directory = Directory::open(fixture.directory()).unwrap();
    std::fs::remove_dir_all(fixture.directory()).unwrap();
    assert!(step(fixture.directory(), &directory, 0, STEP).is_err());
    assert!(!fixture.directory().exists());
}

#[tokio::test]
async fn a_step_is_small() {
    let fixture = FileFixture::new();
    fixture.backend().await;
    let old = fixture.directory().join("00000000-1111-2222-3333-444444444444");
    std::fs::create_dir_all(&old).unwrap();
    for n in 0..STEP + 50 {
        std::fs::write(old.join(format!("k-{n}.free")), "").unwrap();
    }
    std::fs::set_permissions(fixture.directory(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    assert_eq!(tidy(&fixture, 0), STEP);
    assert_eq!(std::fs::read_dir(&old).unwrap().count(), 50);
    tidy(&fixture, 0);
    assert!(!old.exists());
}
