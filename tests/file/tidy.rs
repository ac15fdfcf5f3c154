//! The directories of other boots go by themselves; what is not ours stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use syncguard::stores::file::FileFixture;

use super::child::{LONG, Process, grant, open, request};

const OLD: &str = "00000000-1111-2222-3333-444444444444";
const MIXED: &str = "00000000-1111-2222-3333-555555555555";
const LINK: &str = "00000000-1111-2222-3333-666666666666";

async fn until(condition: impl Fn() -> bool) -> bool {
    for _ in 0..500 {
        if condition() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn fill(directory: &Path, names: &[&str]) {
    fs::create_dir_all(directory).expect("it can be made");
    names.iter().for_each(|name| fs::write(directory.join(name), "{").expect("it can be written"));
}

#[tokio::test]
async fn the_directories_of_other_boots_are_cleared_away() {
    let fixture = FileFixture::new();
    let root = fixture.directory();
    let elsewhere = root.join("elsewhere");
    let ours = ["k-key.held", "k-other.free", "k-a.next", "shard-00", "floor-00", "k-a.bell", "k-a.wait-0"];
    fill(&root.join(OLD), &ours);
    fill(&root.join(MIXED), &[&ours[..], &["notes.txt"]].concat());
    fill(&elsewhere, &ours);
    symlink(&elsewhere, root.join(LINK)).expect("a link can be made");
    fill(&root.join("mine"), &ours);

    let backend = open(root, "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    assert!(until(|| !root.join(OLD).exists()).await, "an old boot's directory goes");
    let mixed = || fs::read_dir(root.join(MIXED)).expect("it can be listed").count();
    assert!(until(|| mixed() == 1).await, "of another only what this backend never made stays");
    assert!(root.join(MIXED).join("notes.txt").exists());
    for left in [&elsewhere, &root.join("mine")] {
        assert_eq!(fs::read_dir(left).expect("it can be listed").count(), ours.len(), "{}", left.display());
    }
    assert!(root.join(LINK).is_symlink());
    assert!(fixture.held(&lease.key).exists(), "this boot's is not touched");
}

#[tokio::test]
async fn the_directory_of_another_boot_stays_while_one_of_its_processes_has_it_open() {
    let fixture = FileFixture::new();
    let root = fixture.directory();
    let of_old = |task: &str| {
        Process::start(task, root, |command| {
            command.env("SYNCGUARD_TEST_BOOT_ID", OLD);
        })
    };
    let mut first = of_old("hold key 60000");
    assert!(first.line().is_some_and(|line| line.starts_with("held")));
    fill(&root.join(MIXED), &["k-key.held"]);
    let open_and_tidy = async || {
        let backend = open(root, "takeover");
        backend.check().await.expect("the directory can be used");
    };
    open_and_tidy().await;
    assert!(until(|| !root.join(MIXED).exists()).await, "what nobody has open goes");
    let mut second = of_old("hold key 60000");
    assert_eq!(second.line().as_deref(), Some("refused"), "the first one still holds it");
    first.kill();
    second.kill();
    open_and_tidy().await;
    assert!(until(|| !root.join(OLD).exists()).await, "now nobody has it open any more");
}

/// Processes come while others tidy what they are about to use.
#[tokio::test]
async fn whoever_opens_a_directory_that_is_just_tidied_away_gets_one_that_stays() {
    let fixture = FileFixture::new();
    let root = fixture.directory();
    open(root, "takeover").check().await.expect("the directory can be used");
    for round in 0..20 {
        fill(&root.join(OLD), &["k-other.free", "k-a.next", "shard-00", "floor-00"]);
        fs::set_permissions(root.join(OLD), PermissionsExt::from_mode(0o700)).expect("it can be changed");
        let mut child = Process::start(&format!("hold {round} 60000"), root, |command| {
            command.env("SYNCGUARD_TEST_BOOT_ID", OLD);
        });
        let said = tokio::task::spawn_blocking(move || (child.line(), child));
        while !said.is_finished() {
            open(root, "takeover").check().await.expect("the directory can be used");
        }
        let (line, mut child) = said.await.expect("the child speaks");
        assert!(line.as_ref().is_some_and(|line| line.starts_with("held")), "{line:?}");
        open(root, "takeover").check().await.expect("the directory can be used");
        assert!(root.join(OLD).join(format!("k-{round}.held")).exists(), "its lock is still there");
        child.kill();
    }
}
