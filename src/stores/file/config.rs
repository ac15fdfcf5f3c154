//! What a target may say, and where the embedded default lies. Only the latter looks at the system.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::platform;
use crate::backend::{Part, StoreId, Surroundings};
use crate::lock::{Error, FenceRetention, Result};
use crate::stores::target::{Password, Settings, Target};

/// Names the directory of the embedded default.
const DIRECTORY_VARIABLE: &str = "SYNCGUARD_DIR";

/// What becomes of a lock whose process ends without releasing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerDeath {
    /// It is free at once.
    #[default]
    Takeover,
    /// It is free at its expiry: for locks that nobody releases on purpose, as for rate limiting.
    Wait,
}

/// Which directory to use and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    pub(super) directory: PathBuf,
    pub(super) owner_death: OwnerDeath,
    pub(super) cleanup_in_is_locked: bool,
    /// How long fence counters stay; `None`: for ever.
    pub fence_retention: Option<FenceRetention>,
}

impl FileConfig {
    /// Reads a target, `file:DIR` or `{ directory }`, and the options of a backend: `ownerDeath`
    /// ("takeover" or "wait"), `cleanupInIsLocked`, `fenceRetentionMs`, `connectTimeoutMs` (which nothing here needs,
    /// as it needs no password).
    ///
    /// # Errors
    /// `InvalidArgument` for whatever is malformed or unknown.
    pub fn from_target(target: Target, options: Settings, _: Password) -> Result<FileConfig> {
        let directory = match target {
            Target::Url(url) => from_url(&url)?,
            Target::Facts(mut facts) => {
                let directory = facts.take_text("directory")?;
                facts.finish()?;
                directory.map(PathBuf::from).ok_or_else(|| {
                    Error::invalid("directory is missing; name the directory that the locks are to lie in")
                })?
            }
        };
        FileConfig::in_directory(directory, options)
    }

    /// The same for a directory that is known already, such as [`FileConfig::default_directory`].
    ///
    /// # Errors
    /// As [`FileConfig::from_target`].
    pub fn in_directory(directory: impl AsRef<Path>, mut options: Settings) -> Result<FileConfig> {
        let wait = options.take_choice("ownerDeath", &["takeover", "wait"])? == Some(1);
        let cleanup_in_is_locked = options.take_flag("cleanupInIsLocked")?.unwrap_or(false);
        let fence_retention = options.take_fence_retention()?;
        options.take_millis("connectTimeoutMs")?;
        options.finish()?;
        Ok(FileConfig {
            directory: absolute(directory.as_ref())?,
            owner_death: if wait { OwnerDeath::Wait } else { OwnerDeath::Takeover },
            cleanup_in_is_locked,
            fence_retention,
        })
    }

    /// Where the locks of the embedded default lie: `SYNCGUARD_DIR`, else `.local/state/syncguard/locks`
    /// below the home of this user's account (as the password database has it: `HOME` and the XDG
    /// variables differ between a shell, cron and a service).
    ///
    /// # Errors
    /// `InvalidArgument` when the account has no usable home, or `SYNCGUARD_DIR` is no absolute path.
    pub fn default_directory() -> Result<PathBuf> {
        default_directory(std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from), platform::account_home)
    }

    /// The same there: nothing here depends on them.
    #[must_use]
    pub fn within(self, _: &Surroundings) -> FileConfig {
        self
    }

    /// Which locks a backend with this configuration sees.
    pub(super) fn store_id(&self) -> StoreId {
        StoreId::new("file", [Part::from(self.directory.clone())])
    }
}

fn default_directory(named: Option<PathBuf>, home: impl FnOnce() -> Option<PathBuf>) -> Result<PathBuf> {
    match named.filter(|named| !named.as_os_str().is_empty()) {
        Some(named) if named.is_absolute() => Ok(named),
        Some(named) => Err(Error::invalid(format!(
            "{DIRECTORY_VARIABLE} must be an absolute path, or processes started in different directories would not exclude each other; {} was given",
            named.display()
        ))),
        None => match home() {
            Some(home) if home.is_absolute() && home.is_dir() => Ok(home.join(platform::STATE_DIRECTORY)),
            Some(home) => Err(Error::invalid(format!(
                "this user's account has the home {}, which is no directory, so there is no default place for locks; set {DIRECTORY_VARIABLE} or SYNCGUARD_URL",
                home.display()
            ))),
            None => Err(Error::invalid(format!(
                "this user has no account with a home, so there is no default place for locks; set {DIRECTORY_VARIABLE} or SYNCGUARD_URL"
            ))),
        },
    }
}

fn from_url(url: &str) -> Result<PathBuf> {
    let malformed = |what: &str| {
        Error::invalid(format!(
            "the target {what}; write file:DIR or file:///DIR, with %3F for ? and %23 for #"
        ))
    };
    let rest = match url.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => rest,
        _ => return Err(malformed("is no file URL")),
    };
    if rest.contains(['?', '#']) {
        return Err(malformed("has a query or fragment, which a directory has not"));
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => {
            let (host, _) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err(malformed("names another host, but files are for one machine"));
            }
            platform::path_of_url(&rest[host.len()..])
        }
    };
    match percent_decode_str(path).decode_utf8() {
        Ok(path) if path.is_empty() => Err(malformed("names no directory")),
        Ok(path) => Ok(PathBuf::from(path.into_owned())),
        Err(_) => Err(malformed("is no UTF-8 once decoded")),
    }
}

fn absolute(directory: &Path) -> Result<PathBuf> {
    if directory.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::invalid("the directory's name holds U+0000, which no path can; remove it"));
    }
    std::path::absolute(directory).map_err(|error| {
        Error::invalid(format!("{:?} is no path of a directory; name one", directory.display().to_string()))
            .because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Code;
    use crate::stores::target::Setting;

    fn url(url: &str) -> Result<FileConfig> {
        FileConfig::from_target(Target::Url(url.into()), Settings::default(), Password::None)
    }

    fn options(options: &[(&str, Setting)]) -> Result<FileConfig> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        FileConfig::from_target(Target::Url("file:/locks".into()), options, Password::None)
    }

    #[test]
    fn a_url_names_a_directory() {
        let here = std::env::current_dir().unwrap();
        for (given, expected) in [
            ("file:/var/lib/locks", PathBuf::from("/var/lib/locks")),
            ("file:///var/lib/locks", PathBuf::from("/var/lib/locks")),
            ("FILE://localhost/var/lib/locks", PathBuf::from("/var/lib/locks")),
            ("file:locks", here.join("locks")),
            ("file:./locks", here.join("locks")),
            ("file:/a%20b%3F", PathBuf::from("/a b?")),
        ] {
            assert_eq!(url(given).unwrap().directory, expected, "{given}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_directory_is_refused() {
        for given in [
            "",
            "file",
            "file:",
            "file://",
            "files:/a",
            "/a",
            "file://host/a",
            "file:/a?b",
            "file:/a#b",
            "file:/%ff",
            "file:/a%00b",
        ] {
            assert_eq!(url(given).unwrap_err().code(), Code::InvalidArgument, "{given:?}");
        }
    }

    #[test]
    fn options_are_checked() {
        assert_eq!(options(&[]).unwrap().owner_death, OwnerDeath::Takeover);
        let wait = options(&[("ownerDeath", Setting::Text("wait".into()))]).unwrap();
        assert_eq!(wait.owner_death, OwnerDeath::Wait);
        assert!(options(&[("cleanupInIsLocked", Setting::Flag(true))]).unwrap().cleanup_in_is_locked);
        for (name, value) in [
            ("ownerDeath", Setting::Text("stay".into())),
            ("cleanupInIsLocked", Setting::Number(1.0)),
            ("connectTimeoutMs", Setting::Number(0.0)),
            ("keyPrefix", Setting::Text("x".into())),
        ] {
            let error = options(&[(name, value)]).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn facts_name_a_directory_and_nothing_else() {
        let facts = |name: &str| {
            let facts = [(name.to_owned(), Setting::Text("/locks".into()))].into_iter().collect();
            FileConfig::from_target(Target::Facts(facts), Settings::default(), Password::None)
        };
        assert_eq!(facts("directory").unwrap().directory, PathBuf::from("/locks"));
        assert!(facts("dir").unwrap_err().message().contains("dir"));
        assert!(
            FileConfig::from_target(Target::Facts(Settings::default()), Settings::default(), Password::None)
                .is_err()
        );
    }

    #[test]
    fn the_default_is_below_the_accounts_home_unless_the_variable_names_another() {
        let home = || Some(std::env::temp_dir());
        let default = default_directory(None, home).unwrap();
        assert!(default.starts_with(std::env::temp_dir()) && default.ends_with("syncguard/locks"));
        assert_eq!(default_directory(Some("".into()), home).unwrap(), default);
        assert_eq!(default_directory(Some("/named".into()), home).unwrap(), PathBuf::from("/named"));
        for (named, home) in [
            (Some(PathBuf::from("relative")), home()),
            (None, None),
            (None, Some("".into())),
            (None, Some("/nonexistent/home".into())),
        ] {
            let error = default_directory(named, || home).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(DIRECTORY_VARIABLE), "{error}");
        }
    }
}
