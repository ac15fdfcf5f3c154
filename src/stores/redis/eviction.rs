//! Whether a server may evict locks: asked behind everybody's back, told once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Value, from_redis_value};

use super::transport::connection::Connection;
use crate::backend::{Warning, Warnings};
use crate::lock::Result;

/// Of one backend, whatever connections it has.
#[derive(Debug)]
pub(super) struct Eviction {
    warnings: Arc<dyn Warnings>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the question was put.
    asked: HashSet<Box<str>>,
    told: bool,
}

/// What a server does when its memory is full.
#[derive(Debug, PartialEq, Eq)]
struct Memory {
    limit: u64,
    policy: String,
}

impl Eviction {
    pub(super) fn new(warnings: Arc<dyn Warnings>) -> Eviction {
        Eviction { warnings, state: Mutex::default() }
    }

    /// Asks a server that has not been asked, and warns the first time that one may evict.
    pub(super) async fn look_at(&self, connection: Connection) {
        {
            let mut state = self.state();
            if state.told || !state.asked.insert(connection.place().into()) {
                return;
            }
        }
        match memory_of(&connection).await {
            Ok(Some(memory)) if memory.evicts() => {
                let told = std::mem::replace(&mut self.state().told, true);
                if !told {
                    self.warnings.warn(memory.warning(connection.place()));
                }
            }
            // Nothing is evicted, or that may not be asked.
            Ok(_) => {}
            // The next connection asks.
            Err(_) => {
                self.state().asked.remove(connection.place());
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` where it can't be found out. INFO comes first, since the right to it shows no password.
async fn memory_of(connection: &Connection) -> Result<Option<Memory>> {
    let mut info = Cmd::with_capacity(2, 24);
    let reply = connection.request(info.arg("INFO").arg("memory")).await?;
    if let Some(memory) = Memory::from_info(reply) {
        return Ok(Some(memory));
    }
    let mut config = Cmd::with_capacity(3, 40);
    let reply = connection.request(config.arg("CONFIG").arg("GET").arg("maxmemory*")).await?;
    Ok(Memory::from_config(reply))
}

impl Memory {
    fn from_info(reply: Value) -> Option<Memory> {
        let text: String = from_redis_value(reply).ok()?;
        let value = |name: &str| {
            text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_end()))
        };
        Some(Memory { limit: value("maxmemory")?.parse().ok()?, policy: value("maxmemory_policy")?.into() })
    }

    fn from_config(reply: Value) -> Option<Memory> {
        let mut values: HashMap<String, String> = from_redis_value(reply).ok()?;
        let limit = values.get("maxmemory")?.parse().ok()?;
        Some(Memory { limit, policy: values.remove("maxmemory-policy")? })
    }

    /// Locks have an expiry, so every policy but one may choose them. Without a limit nothing is chosen.
    fn evicts(&self) -> bool {
        self.limit > 0 && self.policy != "noeviction"
    }

    fn warning(&self, place: &str) -> Warning {
        Warning {
            kind: "LockEviction",
            code: "SYNCGUARD_EVICTION",
            text: format!(
                "Redis at {place} may evict locks when its memory is full (maxmemory-policy {}): a lock can go before \
                 its ttlMs, and two may hold it then; the fence still rises. Set maxmemory-policy noeviction, or give \
                 the locks a server of their own.",
                self.policy
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_but_noeviction_evicts_where_there_is_a_limit() {
        for (limit, policy, evicts) in [
            (1, "allkeys-lru", true),
            (1, "volatile-ttl", true),
            (1, "noeviction", false),
            (0, "allkeys-lru", false),
        ] {
            assert_eq!(Memory { limit, policy: policy.into() }.evicts(), evicts, "{limit} {policy}");
        }
    }

    #[test]
    fn what_a_server_does_not_say_is_not_guessed() {
        for text in
            ["", "# Memory\r\nmaxmemory_human:0B\r\n", "maxmemory:x\r\nmaxmemory_policy:noeviction\r\n"]
        {
            assert_eq!(Memory::from_info(Value::BulkString(text.into())), None, "{text}");
        }
        assert_eq!(Memory::from_config(Value::Array(vec![])), None);
    }
}
