//! What a target of this store may say.

use crate::backend::Surroundings;
use crate::lock::{Error, FenceRetention, Result};
use crate::stores::target::{Password, Settings, Target};

/// Which store of this process, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    pub(super) name: String,
    pub(super) cleanup_in_is_locked: bool,
    pub(super) fence_retention: Option<FenceRetention>,
}

impl MemoryConfig {
    /// Reads a target, `memory:` or `memory:NAME` (stores of different names know nothing of each other), and the
    /// options of a backend: `cleanupInIsLocked`, `fenceRetentionMs`, `connectTimeoutMs` (which nothing here needs, as it
    /// needs no password).
    ///
    /// # Errors
    /// `InvalidArgument` for whatever is malformed or unknown.
    pub fn from_target(target: Target, mut options: Settings, _: Password) -> Result<MemoryConfig> {
        let name = match &target {
            Target::Url(url) => match url.split_once(':') {
                Some((scheme, name)) if scheme.eq_ignore_ascii_case("memory") => name,
                _ => return Err(no_target()),
            },
            Target::Facts(_) => return Err(no_target()),
        };
        let cleanup_in_is_locked = options.take_flag("cleanupInIsLocked")?.unwrap_or(false);
        let fence_retention = options.take_fence_retention()?;
        options.take_millis("connectTimeoutMs")?;
        options.finish()?;
        Ok(MemoryConfig { name: name.to_owned(), cleanup_in_is_locked, fence_retention })
    }

    /// The same there: nothing here depends on them.
    #[must_use]
    pub fn within(self, _: &Surroundings) -> MemoryConfig {
        self
    }
}

fn no_target() -> Error {
    Error::invalid("a store in memory has the target memory: or memory:NAME; something else was given")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Code;
    use crate::stores::target::Setting;

    fn url(url: &str) -> Result<MemoryConfig> {
        MemoryConfig::from_target(Target::Url(url.into()), Settings::default(), Password::None)
    }

    #[test]
    fn a_url_names_a_store_of_this_process() {
        assert_eq!(url("memory:").unwrap().name, "");
        assert_eq!(url("MEMORY:a b").unwrap().name, "a b");
        for given in ["", "memory", "redis:", "a:memory:"] {
            assert_eq!(url(given).unwrap_err().code(), Code::InvalidArgument, "{given:?}");
        }
        let facts = Target::Facts(Settings::default());
        assert!(MemoryConfig::from_target(facts, Settings::default(), Password::None).is_err());
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let options = [("keyPrefix".to_owned(), Setting::Text("x".into()))].into_iter().collect();
        let error =
            MemoryConfig::from_target(Target::Url("memory:".into()), options, Password::None).unwrap_err();
        assert!(error.message().contains("keyPrefix"), "{error}");
    }
}
