//! Taking the lease file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::error::{held, outrun};
use super::judge::{Judge, ProcessProbe, Verdict};
use super::lease::Claim;
use super::options::LeaseFileOptions;
use super::origin::Origin;
use super::owner::{Now, mint_owner_id, unix_nanos};
use super::record::Record;
use crate::local::claim_file::{Draft, Existing, Found, is_locked_out, look, not_a_file, refused};
use crate::lock::{Error, Result};

/// Takes the lease file. Waits only where it meets others that are taking it or removing it.
pub fn acquire(path: &Path, options: &LeaseFileOptions, probe: Option<&dyn ProcessProbe>) -> Result<Claim> {
    let path = checked(path)?;
    let (started, mut attempts) = (Instant::now(), 0);
    loop {
        // What changed since the first look is most often there to stay, so the second comes at once.
        if attempts > 1 {
            std::thread::sleep(options.acquire_retry_delay);
        }
        if let Some(claim) = attempt(&path, options, probe)? {
            return Ok(claim);
        }
        attempts += 1;
        if attempts > options.acquire_retry_limit || started.elapsed() >= options.operation_timeout {
            return Err(outrun(&path, attempts));
        }
    }
}

/// The path from the root, so that a later change of the working directory changes nothing.
pub fn checked(path: &Path) -> Result<PathBuf> {
    check(path)?;
    std::path::absolute(path).map_err(|error| refused("find the directory of", path, error))
}

/// Refuses what can't name a file anywhere.
pub fn check(path: &Path) -> Result<()> {
    let text = path.as_os_str().as_encoded_bytes();
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::invalid("the path of the lease file is empty; it must name a file"));
    }
    if text.contains(&0) {
        return Err(Error::invalid(
            "the path of the lease file holds U+0000, which no file name can; remove it",
        ));
    }
    if path.file_name().is_none() || text.last().is_some_and(is_separator) {
        let given = path.display();
        return Err(Error::invalid(format!(
            "the path of the lease file must name a file; {given} was given"
        )));
    }
    Ok(())
}

/// `None` when others were faster.
fn attempt(
    path: &Path,
    options: &LeaseFileOptions,
    probe: Option<&dyn ProcessProbe>,
) -> Result<Option<Claim>> {
    let here = Origin::current();
    let existing = match look(path).map_err(|error| refused("read", path, error))? {
        Found::Nothing => return create(path, options, here),
        Found::Other(kind) => return Err(not_a_file(path, kind)),
        Found::File(existing) => existing,
    };
    let content = match existing.read() {
        Ok(content) => content,
        Err(error) if is_locked_out(&error) => return Ok(None),
        Err(error) => return Err(refused("read", path, error)),
    };
    let modified = existing.metadata.modified().map_or(0, unix_nanos);
    let judge = Judge { options, probe, here: &here, now: Now::read() };
    match judge.judge(&content, modified) {
        Verdict::Held(holder) => Err(held(path, holder)),
        Verdict::Abandoned => take_over(path, options, here, &existing, &content),
    }
}

fn create(path: &Path, options: &LeaseFileOptions, origin: Origin) -> Result<Option<Claim>> {
    let started = Instant::now();
    let now = Now::read();
    let pid = std::process::id();
    let record = Record { owner_id: mint_owner_id(pid, now), pid: pid.into(), heartbeat: now.wall, origin };
    let (line, digits) = record.encode();
    let refused = |error| refused("create the lease file", path, error);
    let draft = Draft::write_with_directory(path, options.file_mode, options.directory_mode, || line.clone())
        .map_err(refused)?;
    let published: Option<File> = draft.publish(path).map_err(refused)?;
    published
        .map(|file| Claim::new(path.to_owned(), file, line, digits, started))
        .transpose()
        .map_err(refused)
}

/// The lock of the abandoned file itself makes one of those who find it abandoned the one that removes
/// it. It is held until our own is there, so that the others rather wait than compete.
fn take_over(
    path: &Path,
    options: &LeaseFileOptions,
    here: Origin,
    existing: &Existing,
    content: &[u8],
) -> Result<Option<Claim>> {
    let failed = |error| refused("take over the abandoned lease file", path, error);
    let Some(removal) = existing.try_lock().map_err(failed)? else { return Ok(None) };
    // Its owner may have written a heartbeat after all.
    if existing.read().map_err(failed)? != content || !removal.remove(path).map_err(failed)? {
        return Ok(None);
    }
    create(path, options, here)
}
