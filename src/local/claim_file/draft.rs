//! A claim file that is written whole before it appears.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::platform;

/// A claim that is written but has not appeared. It vanishes when dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    stage: Stage,
    locked: bool,
}

#[derive(Debug)]
enum Stage {
    /// `O_TMPFILE`: leaves nothing behind even if the process dies now.
    Nameless,
    /// Under a name of its own beside the path, to be linked.
    Named(Scratch),
}

/// Removes its path when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // At worst one small file with an unmistakable name stays behind.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Draft {
    /// Writes a file in the path's directory. `mode` is subject to the umask.
    pub fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<Draft> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let nameless = platform::create_nameless(directory.unwrap_or(Path::new(".")), mode)?;
        let draft = match nameless {
            Some(file) => Draft { file, stage: Stage::Nameless, locked: false },
            None => Draft::named(path, mode)?,
        };
        draft.fill(content)
    }

    /// As [`Draft::write`], and makes the directory, with what is missing above it, where there is none.
    pub fn write_with_directory(
        path: &Path,
        mode: u32,
        directory_mode: u32,
        content: impl Fn() -> Vec<u8>,
    ) -> io::Result<Draft> {
        match Draft::write(path, mode, &content()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(directory) = path.parent() {
                    platform::create_directories(directory, directory_mode)?;
                }
                Draft::write(path, mode, &content())
            }
            written => written,
        }
    }

    fn named(path: &Path, mode: u32) -> io::Result<Draft> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        // The pid alone can be the same in two pid namespaces.
        name.push(format!(".{}-{count}-{:08x}.new", std::process::id(), fastrand::u32(..)));
        let scratch = path.with_file_name(name);
        let file = platform::create_new(&scratch, mode)?;
        Ok(Draft { file, stage: Stage::Named(Scratch(scratch)), locked: false })
    }

    fn fill(self, content: &[u8]) -> io::Result<Draft> {
        platform::write_at(&self.file, content, 0)?;
        Ok(self)
    }

    /// Takes the operating system's lock of the file before it appears; it lasts until the file is closed.
    /// Does nothing where others could then not read the file.
    pub fn lock(mut self) -> io::Result<Draft> {
        if platform::LOCKED_FILES_CAN_BE_READ {
            // Nobody else can have it: the file has not appeared.
            self.file.lock()?;
            self.locked = true;
        }
        Ok(self)
    }

    /// Makes content and permissions survive a power cut, and lets everybody read whatever the umask.
    pub fn settle(self, mode: u32) -> io::Result<Draft> {
        platform::set_mode(&self.file, mode)?;
        self.file.sync_data()?;
        Ok(self)
    }

    /// Lets the file appear at the path, all of it at once; `None` when something is there already.
    pub fn publish(self, path: &Path) -> io::Result<Option<File>> {
        let linked = match &self.stage {
            Stage::Nameless => platform::name(&self.file, path),
            Stage::Named(scratch) => std::fs::hard_link(&scratch.0, path),
        };
        match linked {
            Ok(()) => Ok(Some(self.file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => self.publish_otherwise(path, error),
        }
    }

    /// Without `/proc` there is the hard link; without hard links (FAT, some network shares) the file is
    /// made in place, and for a moment others see it without its content.
    fn publish_otherwise(self, path: &Path, error: io::Error) -> io::Result<Option<File>> {
        let (mode, content) = (mode_of(&self.file)?, super::read(&self.file)?);
        match self.stage {
            Stage::Nameless if error.kind() == ErrorKind::NotFound => {
                let draft = Draft::named(path, mode)?.fill(&content)?;
                if self.locked { draft.lock()?.publish(path) } else { draft.publish(path) }
            }
            Stage::Named(_) if lacks_hard_links(&error) => {
                match create_in_place(path, mode, &content, self.locked) {
                    Ok(file) => Ok(Some(file)),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
                    Err(error) => Err(error),
                }
            }
            _ => Err(error),
        }
    }
}

fn create_in_place(path: &Path, mode: u32, content: &[u8], locked: bool) -> io::Result<File> {
    let file = platform::create_new(path, mode)?;
    let filled = || {
        if locked {
            file.lock()?;
        }
        platform::write_at(&file, content, 0)
    };
    match filled() {
        Ok(()) => Ok(file),
        Err(error) => {
            // It is ours, and nobody takes an empty claim away within this moment.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

fn lacks_hard_links(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::InvalidInput)
}

#[cfg(unix)]
fn mode_of(file: &File) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_file: &File) -> io::Result<u32> {
    Ok(0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("syncguard-draft-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the directory is made");
        directory.join("claim")
    }

    fn names(path: &Path) -> Vec<std::ffi::OsString> {
        let directory = path.parent().expect("it has one");
        std::fs::read_dir(directory)
            .expect("it is there")
            .map(|entry| entry.expect("an entry").file_name())
            .collect()
    }

    /// What filesystems without `O_TMPFILE` and other systems than Linux do.
    #[test]
    fn a_named_draft_appears_complete_and_leaves_no_second_name() {
        let path = path("named");
        let draft = || Draft::named(&path, 0o644).unwrap().fill(b"content").unwrap();
        let waiting = draft();
        let file = draft().publish(&path).unwrap().expect("nothing was there");
        assert!(waiting.publish(&path).unwrap().is_none(), "something is there");
        assert_eq!(super::super::read(&file).unwrap(), b"content");
        assert_eq!(names(&path), ["claim"]);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn without_hard_links_it_is_made_in_place() {
        let path = path("in-place");
        let draft = || Draft::named(&path, 0o644).unwrap().fill(b"content").unwrap().lock().unwrap();
        let refusal = || io::Error::from(ErrorKind::PermissionDenied);
        let file = draft().publish_otherwise(&path, refusal()).unwrap().expect("nothing was there");
        assert!(draft().publish_otherwise(&path, refusal()).unwrap().is_none(), "something is there");
        assert_eq!(super::super::read(&file).unwrap(), b"content");
        assert!(File::open(&path).unwrap().try_lock().is_err(), "it is locked");
        assert_eq!(names(&path), ["claim"]);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_proc_a_nameless_draft_takes_a_name_and_keeps_its_lock() {
        let path = path("no-proc");
        let draft = Draft::write(&path, 0o640, b"content").unwrap().lock().unwrap();
        assert!(matches!(draft.stage, Stage::Nameless), "the temporary directory knows O_TMPFILE");
        let refusal = io::Error::from(ErrorKind::NotFound);
        let file = draft.publish_otherwise(&path, refusal).unwrap().expect("nothing was there");
        assert_eq!(super::super::read(&file).unwrap(), b"content");
        assert!(File::open(&path).unwrap().try_lock().is_err(), "it is locked");
        assert_eq!(names(&path), ["claim"]);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
