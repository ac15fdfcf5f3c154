//! Files that are not what they should be: nothing is followed, nothing deleted, nothing taken for free.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use syncguard::backend::{Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::conformance::Fixture;
use syncguard::lock::{Code, Error, Key, Lease};
use syncguard::stores::file::{FileBackend, FileFixture};

use super::child::{LONG, grant, open, request, ttl};

/// What every operation on the key fails with.
async fn failures(backend: &FileBackend, lease: &Lease) -> Vec<Error> {
    let owner = Owner::from(lease.clone());
    vec![
        backend.acquire(&request(lease.key.as_str(), LONG)).await.expect_err("acquire fails"),
        backend.lookup(LookupBy::Key(&lease.key)).await.expect_err("lookup fails"),
        backend.is_locked(&lease.key).await.expect_err("is_locked fails"),
        backend.extend(&owner, ttl(LONG)).await.expect_err("extend fails"),
        backend.release(&owner).await.expect_err("release fails"),
    ]
}

fn is_internal(errors: &[Error], file: &Path, context: &str) {
    let name = file.file_name().and_then(|name| name.to_str()).expect("our names are text");
    for error in errors {
        assert_eq!(error.code(), Code::Internal, "{context}: {error}");
        assert!(error.message().contains(name), "{context}: {error} does not name {name}");
        assert!(!error.is_retryable() && !error.is_unknown(), "{context}: {error}");
    }
}

#[tokio::test]
async fn a_record_cut_at_any_byte_is_never_free_and_never_deleted() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    let file = fixture.held(&lease.key);
    let whole = fs::read(&file).expect("the record is there");
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).expect("the record can be cut");
        is_internal(&failures(&backend, &lease).await, &file, &format!("{length} bytes"));
        assert_eq!(fs::read(&file).expect("it is still there"), whole[..length], "{length} bytes");
    }
    fs::write(&file, &whole).expect("the record can be mended");
    assert_eq!(backend.release(&Owner::from(lease)).await.expect("release answers"), Mutation::Done(()));
}

#[tokio::test]
async fn a_fence_cut_at_any_byte_is_never_forgotten() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    backend.release(&Owner::from(lease.clone())).await.expect("release answers");
    let file = fixture.free(&lease.key);
    let whole = fs::read(&file).expect("the fence is there");
    for length in (0..whole.len()).step_by(7) {
        fs::write(&file, &whole[..length]).expect("the record can be cut");
        let error = backend.acquire(&request("key", LONG)).await.expect_err("acquire fails");
        is_internal(&[error], &file, &format!("{length} bytes"));
        assert!(!backend.is_locked(&lease.key).await.expect("is_locked answers"));
    }
    fs::write(&file, &whole).expect("the record can be mended");
    assert!(grant(&backend, &request("key", LONG)).await.fence > lease.fence);
}

#[tokio::test]
async fn another_keys_record_is_not_taken_for_this_ones() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    let other = Lease { key: Key::new("other").expect("a valid key"), ..lease.clone() };
    fs::copy(fixture.held(&lease.key), fixture.held(&other.key)).expect("it can be copied");
    is_internal(&failures(&backend, &other).await, &fixture.held(&other.key), "a copy");
}

/// Puts something else in a file's place, and answers how to see that it is still there, untouched.
fn replace(kind: &str, file: &Path, aside: &Path) -> Box<dyn Fn() -> bool> {
    let file = file.to_owned();
    let content = fs::read(&file).expect("it is a file");
    fs::remove_file(&file).expect("it can be removed");
    match kind {
        "a symlink" => {
            // What the link leads to would do.
            fs::write(aside, &content).expect("it can be written");
            symlink(aside, &file).expect("a link can be made");
            let aside = aside.to_owned();
            Box::new(move || fs::read_link(&file).is_ok() && fs::read(&aside).is_ok_and(|it| it == content))
        }
        "a FIFO" => {
            mknodat(CWD, &file, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO can be made");
            Box::new(move || fs::symlink_metadata(&file).is_ok_and(|it| it.file_type().is_fifo()))
        }
        _ => {
            fs::create_dir(&file).expect("a directory can be made");
            Box::new(move || file.is_dir())
        }
    }
}

const STRANGE: &[&str] = &["a symlink", "a FIFO", "a directory"];

#[tokio::test]
async fn what_is_no_file_is_left_alone_in_a_records_place() {
    for kind in STRANGE {
        let fixture = FileFixture::new();
        let backend = open(fixture.directory(), "takeover");
        let lease = grant(&backend, &request("key", LONG)).await;
        let file = fixture.held(&lease.key);
        let untouched = replace(kind, &file, &fixture.directory().join("aside"));
        is_internal(&failures(&backend, &lease).await, &file, kind);
        assert!(untouched(), "{kind}");
    }
}

/// Every other file that an operation opens.
#[tokio::test]
async fn what_is_no_file_is_left_alone_in_any_place() {
    for kind in STRANGE {
        let fixture = FileFixture::new();
        let first = open(fixture.directory(), "takeover");
        for _ in 0..2 {
            let lease = grant(&first, &request("key", LONG)).await;
            drop(first.watch(&lease.key).await.expect("watch answers"));
            first.extend(&Owner::from(lease.clone()), ttl(LONG)).await.expect("extend answers");
            first.release(&Owner::from(lease)).await.expect("release answers");
        }
        let lease = grant(&first, &request("key", LONG)).await;
        first.release(&Owner::from(lease)).await.expect("release answers");
        let names: Vec<OsString> = fs::read_dir(fixture.boot_directory())
            .expect("it can be listed")
            .map(|entry| entry.expect("it can be read").file_name())
            .collect();
        assert!(names.len() >= 5, "{names:?}");
        for name in names {
            let file = fixture.boot_directory().join(&name);
            let content = fs::read(&file).expect("it is a file");
            let untouched = replace(kind, &file, &fixture.directory().join("aside"));
            // A process of its own has no file open yet.
            let backend = open(fixture.directory(), "takeover");
            let context = format!("{kind} at {}", name.display());
            match backend.watch(&Key::new("key").expect("a key")).await {
                Err(error) => assert_eq!(error.code(), Code::Internal, "{context}: {error}"),
                Ok(watch) => drop(watch),
            }
            match backend.acquire(&request("key", LONG)).await {
                Err(error) => assert_eq!(error.code(), Code::Internal, "{context}: {error}"),
                Ok(syncguard::backend::Acquired::Granted(lease)) => {
                    drop(backend.release(&Owner::from(lease)).await);
                }
                Ok(held) => panic!("{context}: {held:?}"),
            }
            let moved = fixture.boot_directory().join(name.to_string_lossy().replace(".free", ".next"));
            assert!(untouched() || fs::symlink_metadata(&moved).is_ok_and(|it| !it.is_file()), "{context}");
            for place in [&file, &moved] {
                let _ = fs::remove_dir(place);
                if fs::symlink_metadata(place).is_ok_and(|it| !it.is_file()) {
                    fs::remove_file(place).expect("it can be removed");
                }
            }
            fs::write(&file, content).expect("it can be put back");
        }
    }
}

#[tokio::test]
async fn what_is_no_directory_is_left_alone_in_the_boots_place() {
    for kind in ["a symlink", "a FIFO"] {
        let fixture = FileFixture::new();
        fs::create_dir(fixture.directory()).expect("it can be made");
        let elsewhere = fixture.directory().join("elsewhere");
        fs::create_dir(&elsewhere).expect("it can be made");
        match kind {
            "a symlink" => symlink(&elsewhere, fixture.boot_directory()).expect("a link can be made"),
            _ => mknodat(CWD, fixture.boot_directory(), FileType::Fifo, Mode::RWXU, 0).expect("a FIFO"),
        }
        let error = open(fixture.directory(), "takeover").check().await.expect_err("it can't be used");
        assert_eq!(error.code(), Code::InvalidArgument, "{kind}: {error}");
        assert_eq!(fs::read_dir(&elsewhere).expect("it can be listed").count(), 0, "{kind} was followed");
    }
}

#[tokio::test]
async fn everything_is_this_users_alone() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    let _watch = backend.watch(&lease.key).await.expect("watch answers");
    let mode = |path: &Path| fs::symlink_metadata(path).expect("it is there").mode() & 0o7777;
    assert_eq!(mode(fixture.directory()), 0o700);
    assert_eq!(mode(&fixture.boot_directory()), 0o700);
    for entry in fs::read_dir(fixture.boot_directory()).expect("it can be listed") {
        let path = entry.expect("it can be read").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!name.contains(lease.lock_id.as_str()), "a lock id is a secret");
    }
}

#[tokio::test]
async fn a_directory_that_others_may_write_is_refused() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    backend.check().await.expect("it is made as it should be");
    for (path, mode) in [
        (fixture.directory().to_owned(), 0o770),
        (fixture.directory().to_owned(), 0o1777),
        (fixture.boot_directory(), 0o702),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it can be changed");
        let error = open(fixture.directory(), "takeover").check().await.expect_err("it can't be trusted");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(path.to_str().expect("text")), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it can be changed");
    }
    fs::set_permissions(fixture.directory(), fs::Permissions::from_mode(0o755)).expect("it can be changed");
    open(fixture.directory(), "takeover").check().await.expect("others may look");
}

#[tokio::test]
async fn an_index_that_was_spoilt_is_not_taken_for_nothing() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    let index = fs::read_dir(fixture.boot_directory())
        .expect("it can be listed")
        .map(|entry| entry.expect("it can be read").path())
        .find(|path| path.extension().is_some_and(|it| it == "index"))
        .expect("a lock id has an index");
    fs::remove_file(&index).expect("it can be removed");
    fs::write(&index, "{").expect("it can be written");
    let error = backend.release(&Owner::from(lease.lock_id)).await.expect_err("it can't be resolved");
    is_internal(&[error], &index, "the index");
    // Where the lease is remembered it needs no index.
    assert_eq!(backend.release(&Owner::from(lease)).await.expect("release answers"), Mutation::Done(()));
}

#[tokio::test]
async fn a_spoilt_record_is_not_cleaned_up() {
    let fixture = FileFixture::new();
    let key = Key::new("key").expect("a key");
    fixture.spoil(&key).await;
    let backend = fixture.backend_with_clean_up().await;
    assert_eq!(backend.is_locked(&key).await.expect_err("it can't be read").code(), Code::Internal);
    assert!(fixture.held(&key).exists());
}
