//! The forms of URL. Written by hand, because lists of hosts are no URL authority by the standard.

use percent_encoding::percent_decode_str;

use super::endpoint::{Address, Endpoint, MasterName};
use super::tls::{NamedPem, Tls};
use super::{DEFAULT_PORT, SENTINEL_PORT};
use crate::lock::{Error, Result};

/// What a URL says. Holds a password: not for printing.
pub(in crate::stores::redis) struct ParsedUrl {
    pub(in crate::stores::redis) endpoint: Endpoint,
    pub(in crate::stores::redis) username: Option<String>,
    pub(in crate::stores::redis) password: Option<String>,
    pub(in crate::stores::redis) db: u32,
    pub(in crate::stores::redis) tls: Option<Tls>,
    pub(in crate::stores::redis) sentinel_username: Option<String>,
    pub(in crate::stores::redis) sentinel_password: Option<String>,
    pub(in crate::stores::redis) sentinel_tls: Option<Tls>,
}

/// What stands behind the question mark, each at most once.
#[derive(Default)]
struct Query {
    db: Option<u32>,
    ca: Option<NamedPem>,
    cert: Option<NamedPem>,
    key: Option<NamedPem>,
    server_name: Option<String>,
    sentinel_username: Option<String>,
    sentinel_password: Option<String>,
    sentinel_tls: Option<bool>,
    sentinel_ca: Option<NamedPem>,
    sentinel_cert: Option<NamedPem>,
    sentinel_key: Option<NamedPem>,
    sentinel_server_name: Option<String>,
}

impl ParsedUrl {
    /// # Errors
    /// `InvalidArgument` that says which part is wrong, without showing the user information.
    pub(in crate::stores::redis) fn parse(url: &str) -> Result<ParsedUrl> {
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
        let mut query = Query::parse(query)?;
        let db = query.db;
        let (kind, over_tls) = match scheme.as_str() {
            "rediss" => ("redis", true),
            "rediss-sentinel" => ("redis-sentinel", true),
            "rediss-cluster" => ("redis-cluster", true),
            plain => (plain, false),
        };

        let (endpoint, path_db) = match kind {
            "redis" => {
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
                    "its scheme must be redis, rediss, redis+unix, redis-sentinel, rediss-sentinel, redis-cluster or rediss-cluster",
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
        let has_sentinels = matches!(endpoint, Endpoint::Sentinel { .. });
        let (tls, sentinel_tls) = query.tls(over_tls, has_sentinels)?;
        let (sentinel_username, sentinel_password) = (query.sentinel_username, query.sentinel_password);
        Ok(ParsedUrl {
            endpoint,
            username,
            password,
            db,
            tls,
            sentinel_username,
            sentinel_password,
            sentinel_tls,
        })
    }
}

fn credentials(user_info: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(user_info) = user_info else { return Ok((None, None)) };
    let (user, password) = split(user_info, ':');
    let username = decode("user name", user)?;
    let password = password.map(|text| decode("password", text)).transpose()?;
    Ok((Some(username).filter(|name| !name.is_empty()), password.filter(|text| !text.is_empty())))
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Query> {
        let mut parsed = Query::default();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let value = value.into_owned();
            let twice = match name.as_ref() {
                "db" => parsed.db.replace(number("parameter db", &value)?).is_some(),
                "ca" => parsed.ca.replace(file("ca", value)?).is_some(),
                "cert" => parsed.cert.replace(file("cert", value)?).is_some(),
                "key" => parsed.key.replace(file("key", value)?).is_some(),
                "servername" => parsed.server_name.replace(value).is_some(),
                "sentinelUsername" => parsed.sentinel_username.replace(value).is_some(),
                "sentinelPassword" => parsed.sentinel_password.replace(value).is_some(),
                "sentinelTls" => parsed.sentinel_tls.replace(flag("sentinelTls", &value)?).is_some(),
                "sentinelCa" => parsed.sentinel_ca.replace(file("sentinelCa", value)?).is_some(),
                "sentinelCert" => parsed.sentinel_cert.replace(file("sentinelCert", value)?).is_some(),
                "sentinelKey" => parsed.sentinel_key.replace(file("sentinelKey", value)?).is_some(),
                "sentinelServername" => parsed.sentinel_server_name.replace(value).is_some(),
                // The name is quoted, never the value, which may be a misplaced password.
                other => {
                    return Err(malformed(&format!(
                        "its parameter {other:?} is unknown; there are db, ca, cert, key and servername, and for sentinels \
                         sentinelUsername, sentinelPassword, sentinelTls, sentinelCa, sentinelCert, sentinelKey and sentinelServername"
                    )));
                }
            };
            if twice {
                return Err(malformed(&format!("its parameter {name} is given twice")));
            }
        }
        Ok(parsed)
    }

    /// For the servers, and for their sentinels: as for the servers where nothing else is said.
    fn tls(&mut self, over_tls: bool, has_sentinels: bool) -> Result<(Option<Tls>, Option<Tls>)> {
        let servers = Tls::new(
            self.ca.take(),
            self.cert.take(),
            self.key.take(),
            "the URL's parameter servername",
            self.server_name.take(),
        )?;
        let sentinels = Tls::new(
            self.sentinel_ca.take(),
            self.sentinel_cert.take(),
            self.sentinel_key.take(),
            "the URL's parameter sentinelServername",
            self.sentinel_server_name.take(),
        )?;
        let said = self.sentinel_tls.is_some() || sentinels.says_something();
        if !has_sentinels && (said || self.sentinel_username.is_some() || self.sentinel_password.is_some()) {
            return Err(malformed("parameters for sentinels belong to redis-sentinel: and rediss-sentinel:"));
        }
        if !over_tls && servers.says_something() {
            return Err(malformed(
                "it has parameters of TLS, which rediss:, rediss-sentinel: and rediss-cluster: take",
            ));
        }
        if self.sentinel_tls == Some(false) && sentinels.says_something() {
            return Err(malformed("sentinelTls is false, yet it has other parameters of the sentinels' TLS"));
        }
        let servers = over_tls.then_some(servers);
        let sentinels = match self.sentinel_tls {
            Some(false) => None,
            None if !said => servers.clone().filter(|_| has_sentinels),
            _ => Some(sentinels),
        };
        Ok((servers, sentinels))
    }
}

fn file(name: &'static str, path: String) -> Result<NamedPem> {
    if path.is_empty() {
        return Err(malformed(&format!("its parameter {name} must be the path of a file in PEM form")));
    }
    Ok(NamedPem::file(name, path))
}

fn flag(name: &str, text: &str) -> Result<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(malformed(&format!("its parameter {name} must be true or false"))),
    }
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
