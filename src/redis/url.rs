//! The five forms of URL. Written by hand, because lists of hosts are no URL authority by the standard.

use percent_encoding::percent_decode_str;

use super::config::{DEFAULT_PORT, SENTINEL_PORT};
use super::endpoint::{Address, Endpoint, MasterName};
use crate::lock::{Error, Result};

/// What a URL says. Holds a password: not for printing.
pub(super) struct ParsedUrl {
    pub(super) endpoint: Endpoint,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) db: u32,
    pub(super) tls: bool,
}

impl ParsedUrl {
    /// # Errors
    /// `InvalidArgument` that says which part is wrong, without showing the user information.
    pub(super) fn parse(url: &str) -> Result<ParsedUrl> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| malformed("it has no \"://\""))?;
        let scheme = scheme.to_ascii_lowercase();
        let (rest, fragment) = split(rest, '#');
        if fragment.is_some() {
            return Err(malformed("it has a fragment; write '#' in a password as %23"));
        }
        let (rest, query) = split(rest, '?');
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        let (username, password) = credentials(user_info)?;
        let db = db_of_query(query)?;

        let (endpoint, path_db) = match scheme.as_str() {
            "redis" | "rediss" => {
                let address = Address::parse("the URL's host", hosts, DEFAULT_PORT)?;
                (Endpoint::Single(address), Some(path))
            }
            "redis+unix" => {
                if !hosts.is_empty() || path.len() < 2 {
                    return Err(malformed(
                        "redis+unix:// takes an absolute path, as in redis+unix:///run/redis.sock?db=0",
                    ));
                }
                (Endpoint::Single(Address::Unix(decode("path", path)?.into())), None)
            }
            "redis-sentinel" => {
                let (name, db) = path.strip_prefix('/').unwrap_or_default().split_once('/').map_or_else(
                    || (path.strip_prefix('/').unwrap_or_default(), ""),
                    |(name, db)| (name, db),
                );
                let endpoint = Endpoint::Sentinel {
                    sentinels: Address::list("the URL's hosts", hosts, SENTINEL_PORT)?,
                    master: MasterName::new(decode("master's name", name)?)?,
                };
                (endpoint, Some(db))
            }
            "redis-cluster" => {
                (Endpoint::Cluster(Address::list("the URL's hosts", hosts, DEFAULT_PORT)?), Some(path))
            }
            _ => {
                return Err(malformed(
                    "its scheme must be redis, rediss, redis+unix, redis-sentinel or redis-cluster",
                ));
            }
        };
        let path_db = match path_db.map(|text| text.trim_start_matches('/')) {
            None | Some("") => None,
            Some(text) => Some(number("path", text)?),
        };
        let db = match (path_db, db) {
            (Some(_), Some(_)) => {
                return Err(malformed("it names the database in its path and in its query"));
            }
            (one, other) => one.or(other).unwrap_or(0),
        };
        Ok(ParsedUrl { endpoint, username, password, db, tls: scheme == "rediss" })
    }
}

fn credentials(user_info: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(user_info) = user_info else { return Ok((None, None)) };
    let (user, password) = split(user_info, ':');
    let username = decode("user name", user)?;
    let password = password.map(|text| decode("password", text)).transpose()?;
    Ok((Some(username).filter(|name| !name.is_empty()), password.filter(|text| !text.is_empty())))
}

fn db_of_query(query: Option<&str>) -> Result<Option<u32>> {
    let mut db = None;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "db" if db.is_none() => db = Some(number("parameter db", &value)?),
            "db" => return Err(malformed("its parameter db is given twice")),
            // The name is quoted, never the value, which may be a misplaced password.
            other => {
                return Err(malformed(&format!("its parameter {other:?} is unknown; db is the only one")));
            }
        }
    }
    Ok(db)
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn number(part: &str, text: &str) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if digits && i32::try_from(number).is_ok() => Ok(number),
        _ => {
            Err(malformed(&format!("its {part} must be the number of a database, as in redis://localhost/0")))
        }
    }
}

fn decode(part: &str, text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| malformed(&format!("its {part} is not UTF-8 once the percent signs are decoded")))
}

fn malformed(problem: &str) -> Error {
    Error::invalid(format!("the Redis URL is malformed: {problem}"))
}
