//! The scripts, one operation each, and how one is called.

use std::sync::LazyLock;

use redis::Cmd;

use crate::lock::{Key, Ttl};

/// A constant text and the SHA-1 by which the server knows it.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    sha: String,
}

/// One function around it all, whose errors end as error replies with their code. What is inside needs no
/// variables from outside, which would cost more than the function.
macro_rules! script {
    ($($part:literal),+) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "local function script()\n",
                $(include_str!($part),)+
                "end\n",
                include_str!("refusal.lua")
            ))
        })
    };
}

pub(super) static ACQUIRE: LazyLock<Script> =
    script!("acquire_free.lua", "record.lua", "grant.lua", "acquire.lua");
pub(super) static ACQUIRE_MANY: LazyLock<Script> = script!("record.lua", "grant.lua", "acquire_many.lua");
pub(super) static RELEASE_MANY: LazyLock<Script> = script!("record.lua", "owner.lua", "release_many.lua");
pub(super) static HAND_OVER: LazyLock<Script> = script!("record.lua", "grant.lua", "hand_over.lua");
pub(super) static RELEASE: LazyLock<Script> =
    script!("release_own.lua", "record.lua", "owner.lua", "release.lua");
pub(super) static EXTEND: LazyLock<Script> = script!("record.lua", "owner.lua", "extend.lua");
pub(super) static LOOKUP: LazyLock<Script> = script!("owner.lua", "lookup.lua");
pub(super) static CLEAN_UP: LazyLock<Script> = script!("clean_up.lua");

impl Script {
    fn new(text: &'static str) -> Script {
        Script { text, sha: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// How a script reaches a lock: by its name, or by the reverse mapping of a lock id.
pub(super) const KNOWN: &str = "known";
pub(super) const FOREIGN: &str = "foreign";
/// Whose turn it is after a hand-over.
pub(super) const KEEP: &str = "keep";
pub(super) const YIELD: &str = "yield";
pub(super) const LEAVE: &str = "leave";

/// One call of a script. The first key decides where in a cluster it runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) script: &'static Script,
    pub(super) keys: &'a [&'a str],
    pub(super) args: &'a [&'a str],
}

impl Call<'_> {
    /// By the script's SHA-1, which fails with NOSCRIPT where the server has not seen it.
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.sha)
    }

    /// With the whole text, which the server remembers.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let parts = self.keys.iter().chain(self.args);
        let bytes: usize = parts.clone().map(|part| part.len()).sum();
        let mut command =
            Cmd::with_capacity(3 + self.keys.len() + self.args.len(), bytes + script.len() + name.len() + 8);
        command.arg(name).arg(script).arg(self.keys.len());
        for part in parts {
            command.arg(*part);
        }
        command
    }
}

/// As scripts take it.
pub(super) fn millis(ttl: Ttl) -> String {
    ttl.as_millis().to_string()
}

/// As records hold it.
pub(super) fn json(key: &Key) -> String {
    serde_json::Value::from(key.as_str()).to_string()
}
