//! Pages of the locks that there are: SCAN tells names, and their records are read beside it.

use redis::{Cmd, Value};

use super::RedisBackend;
use super::transport::link::Link;
use crate::backend::{Page, Span};
use crate::lock::{Error, Lease, Result};

/// How many places of its table one SCAN looks at, and how many of them make a page that found nothing: the server
/// serves others in between, and the caller may stop.
const LOOKS_AT: usize = 512;
const MOST_SCANS: u32 = 16;

/// Where a page begins: in which server's table, where in it, and after which of the names that the SCAN there tells,
/// since it may tell more than a page holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cursor {
    server: usize,
    place: u64,
    after: String,
}

impl Cursor {
    fn parse(text: &str) -> Result<Cursor> {
        let parse = || {
            let (server, rest) = text.split_once('.')?;
            let (place, after) = rest.split_once('.')?;
            Some(Cursor { server: server.parse().ok()?, place: place.parse().ok()?, after: after.to_owned() })
        };
        parse().ok_or_else(|| {
            Error::invalid(format!("cursor must be what the page before said; {text:?} was given"))
        })
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.server, self.place, self.after)
    }
}

impl RedisBackend {
    pub(super) async fn page(&self, span: Span<'_>) -> Result<Page> {
        let mut at = span.cursor.map_or(Ok(Cursor::default()), Cursor::parse)?;
        let servers = self.server.masters().await?;
        let mut leases = Vec::new();
        for _ in 0..MOST_SCANS {
            let Some(link) = servers.get(at.server) else { return Ok(Page { leases, cursor: None }) };
            let (next, mut names) = self.scan(link, at.place).await?;
            names.retain(|name| *name > at.after);
            let found = self.read_all(link, &names).await?;
            for (name, lease) in names.into_iter().zip(found) {
                let Some(lease) = lease.filter(|lease| lease.key.as_str().starts_with(span.prefix)) else {
                    continue;
                };
                if leases.len() == span.limit {
                    return Ok(Page { leases, cursor: Some(at.text()) });
                }
                leases.push(lease);
                at.after = name;
            }
            at = match next {
                0 => Cursor { server: at.server + 1, ..Cursor::default() },
                place => Cursor { server: at.server, place, after: String::new() },
            };
            if leases.len() == span.limit {
                break;
            }
        }
        let over = at.server >= servers.len();
        Ok(Page { leases, cursor: (!over).then(|| at.text()) })
    }

    /// One step through a server's names, in an order that is the same when nothing changes.
    async fn scan(&self, link: &Link, place: u64) -> Result<(u64, Vec<String>)> {
        let pattern = [&escaped(&self.all_locks), "*"].concat();
        let mut scan = Cmd::with_capacity(6, 64 + pattern.len());
        scan.arg("SCAN").arg(place).arg("MATCH").arg(pattern).arg("COUNT").arg(LOOKS_AT);
        let reply = self.server.accept(link.request(&scan).await?)?;
        let Value::Array(parts) = &reply else { return Err(self.strange(&reply)) };
        let [next, Value::Array(names)] = parts.as_slice() else { return Err(self.strange(&reply)) };
        let next = super::reply::whole(next).ok_or_else(|| self.strange(next))?;
        let mut locks: Vec<String> = names
            .iter()
            .filter_map(|name| match name {
                // A name that is no text is nobody's lock.
                Value::BulkString(name) => String::from_utf8(name.clone()).ok(),
                _ => None,
            })
            .filter(|name| self.names.is_lock(name))
            .collect();
        // Told twice where the table is growing.
        locks.sort_unstable();
        locks.dedup();
        Ok((next, locks))
    }

    /// The live lease under each name; `None` for what is free, expired or can't be read.
    async fn read_all(&self, link: &Link, names: &[String]) -> Result<Vec<Option<Lease>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::Pipeline::with_capacity(names.len() + 1);
        commands.cmd("TIME");
        for name in names {
            commands.cmd("GET").arg(name);
        }
        let mut replies = link.request_all(&commands).await?.into_iter();
        let time = self.server.accept(replies.next().unwrap_or_default())?;
        let Value::Array(time) = &time else { return Err(self.strange(&time)) };
        let [seconds, micros] = time.as_slice() else { return Err(self.strange(&Value::Nil)) };
        let lease = |(name, stored): (&String, Value)| {
            let found = self.found(name, &stored, seconds, micros).ok()?;
            found.is_live().then_some(found.lease)
        };
        Ok(names.iter().zip(replies).map(lease).collect())
    }
}

/// As a pattern that only this text matches.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_told_and_nothing_else_is() {
        for after in ["", "syncguard:a.b", "1.2.3"] {
            let cursor = Cursor { server: 2, place: u64::MAX, after: after.to_owned() };
            assert_eq!(Cursor::parse(&cursor.text()).unwrap(), cursor);
        }
        for text in ["", "1", "1.2", "a.b.c", "-1.0.", "1.99999999999999999999."] {
            assert!(Cursor::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("a*b?[c]\\d"), "a\\*b\\?\\[c\\]\\\\d");
    }
}
