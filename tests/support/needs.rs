//! What tests need of the machine, by name. What is missing is a failure that says how to get it; leaving it out
//! is asked for by that name (`SYNCGUARD_TEST_WITHOUT=pgbouncer,root`) and said aloud.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn need(kind: &str) -> Value {
    let needs: Value =
        serde_json::from_str(include_str!("../../__test__/support/needs.json")).expect("it is JSON");
    needs[kind].clone()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Whether a test runs that needs something besides its store's server: not when that is left out by name.
/// Fails where the machine doesn't have it.
pub fn run_with(kind: &str) -> bool {
    let without = std::env::var("SYNCGUARD_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|name| name.trim() == kind) {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not by eprintln!, which shows nothing of tests that pass.
        let _ = writeln!(std::io::stderr(), "LEFT OUT: {test} (SYNCGUARD_TEST_WITHOUT={kind})");
        return false;
    }
    let need = need(kind);
    for (program, _) in need["programs"].as_object().into_iter().flatten() {
        self::program(kind, program);
    }
    if let [program, args @ ..] = &words(&need["try"])[..] {
        let quiet = Command::new(program).args(args).stderr(Stdio::null()).status();
        assert!(quiet.is_ok_and(|status| status.success()), "{}", how_to_get(kind));
    }
    true
}

/// The path of a program that a kind of server needs.
pub fn program(kind: &str, name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} was not found. {}", how_to_get(kind)))
}

/// One sentence or two.
pub fn how_to_get(kind: &str) -> String {
    let need = need(kind);
    let mut packages: Vec<_> = need["programs"].as_object().into_iter().flatten().map(|(_, it)| it).collect();
    packages.dedup();
    let packages = packages.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let debian = (!packages.is_empty())
        .then(|| format!("Debian, Ubuntu: apt-get install {packages}, which `npm test -- rust` does"));
    let ways: Vec<_> = debian.into_iter().chain(need["elsewhere"].as_str().map(str::to_owned)).collect();
    format!(
        "These tests need {} ({}). SYNCGUARD_TEST_WITHOUT={kind} npm test leaves out what needs it.",
        need["what"].as_str().expect("every need is described"),
        ways.join("; ")
    )
}

/// On the PATH, or where Debian puts what only servers need.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut versions: Vec<_> =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    versions.sort_by_key(|version| std::cmp::Reverse(number(&version.path())));
    let postgres = versions.into_iter().map(|version| version.path().join("bin"));
    dirs.chain(postgres).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn number(version: &Path) -> Option<u32> {
    version.file_name()?.to_str()?.parse().ok()
}
