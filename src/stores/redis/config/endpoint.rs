//! Which servers there are, and under which name two configurations mean the same ones.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::backend::Part;
use crate::lock::{Error, Result};

/// Where the lock's data can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stores::redis) enum Endpoint {
    Single(Address),
    /// The master is whichever server the sentinels name.
    Sentinel {
        sentinels: Vec<Address>,
        master: MasterName,
    },
    /// Any nodes of a cluster; they know the others.
    Cluster(Vec<Address>),
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::stores::redis) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// The name under which sentinels know a master; not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stores::redis) struct MasterName(String);

impl MasterName {
    pub(in crate::stores::redis) fn new(name: String) -> Result<MasterName> {
        if name.is_empty() {
            return Err(Error::invalid(
                "the sentinels' master has no name; give it as sentinelName, or in the URL as redis-sentinel://host:26379/NAME",
            ));
        }
        Ok(MasterName(name))
    }

    pub(in crate::stores::redis) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Endpoint {
    /// Equal for endpoints that certainly mean the same servers.
    pub(in crate::stores::redis) fn identity(&self) -> Part {
        match self {
            Endpoint::Single(address) => ["server".into(), address.identity()].into(),
            Endpoint::Sentinel { sentinels, master } => {
                ["sentinel".into(), master.as_str().into(), identities(sentinels)].into()
            }
            Endpoint::Cluster(nodes) => ["cluster".into(), identities(nodes)].into(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Single(address) => address.fmt(f),
            Endpoint::Sentinel { sentinels, master } => {
                write!(f, "{} of {}", master.as_str(), listed(sentinels))
            }
            Endpoint::Cluster(nodes) => f.write_str(&listed(nodes)),
        }
    }
}

/// Each once, in an order of their own.
fn sorted(addresses: &[Address]) -> BTreeSet<&Address> {
    addresses.iter().collect()
}

fn identities(addresses: &[Address]) -> Part {
    sorted(addresses).into_iter().map(Address::identity).collect::<Vec<_>>().into()
}

fn listed(addresses: &[Address]) -> String {
    sorted(addresses).into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Address {
    fn identity(&self) -> Part {
        match self {
            Address::Tcp { host, port } => [host.as_str().into(), (*port).into()].into(),
            Address::Unix(path) => path.clone().into(),
        }
    }

    /// Host names are compared without regard to case.
    pub(in crate::stores::redis) fn tcp(host: &str, port: u16) -> Address {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => address.to_string(),
            Err(_) => host.to_ascii_lowercase(),
        };
        Address::Tcp { host, port }
    }

    /// `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    /// `InvalidArgument` that names `what`.
    pub(in crate::stores::redis) fn parse(what: &str, text: &str, default_port: u16) -> Result<Address> {
        let wrong = || {
            Error::invalid(format!(
                "{what} must be host or host:port with a port from 1 to 65535 (IPv6 as [::1]:6379)"
            ))
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                match after {
                    "" => (host, None),
                    _ => (host, Some(after.strip_prefix(':').ok_or_else(wrong)?)),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let host_has_bad_char = |c: char| c.is_whitespace() || c.is_control() || "@/\\?#<>\"".contains(c);
        if host.contains(host_has_bad_char) {
            return Err(wrong());
        }
        let port = match port {
            None | Some("") => default_port,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        Ok(Address::tcp(if host.is_empty() { "127.0.0.1" } else { host }, port))
    }

    /// A list with commas, not empty.
    pub(in crate::stores::redis) fn list(what: &str, text: &str, default_port: u16) -> Result<Vec<Address>> {
        if text.trim().is_empty() {
            return Err(Error::invalid(format!("{what} must name at least one host")));
        }
        text.split(',').map(|one| Address::parse(what, one.trim(), default_port)).collect()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
