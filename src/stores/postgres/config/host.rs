//! Where a server listens.

use std::fmt;
use std::path::PathBuf;

use super::parameters::host_and_port;
use crate::backend::Part;
use crate::lock::{Error, Result};

pub(in crate::stores::postgres) const DEFAULT_PORT: u16 = 5432;
const DEFAULT_HOST: &str = "localhost";

/// One of the servers that a target names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stores::postgres) enum Host {
    Tcp {
        /// What certificates are compared with, and looked up where there is no address.
        name: String,
        address: Option<String>,
        port: u16,
    },
    /// A directory with a socket in it.
    Unix { directory: PathBuf, port: u16 },
}

impl Host {
    /// From lists of names, addresses and ports as libpq takes them; a name may carry a port of its own.
    ///
    /// # Errors
    /// `InvalidArgument` for lists of different lengths, and for what is no port.
    pub(in crate::stores::postgres) fn list(
        names: Option<&str>,
        addresses: Option<&str>,
        ports: Option<&str>,
    ) -> Result<Vec<Host>> {
        let names: Vec<&str> = names.map(|list| list.split(',').collect()).unwrap_or_default();
        let addresses: Vec<&str> = addresses.map(|list| list.split(',').collect()).unwrap_or_default();
        let ports: Vec<&str> = ports.map(|list| list.split(',').collect()).unwrap_or_default();
        let count = names.len().max(addresses.len()).max(1);
        if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
            return Err(Error::invalid("host and hostaddr must be lists of the same length"));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(Error::invalid("port must be one port, or one for each host"));
        }
        (0..count)
            .map(|i| {
                let (name, address) = (names.get(i).map(|name| name.trim()), addresses.get(i));
                let shared_port = if ports.len() > 1 { ports.get(i) } else { ports.first() };
                Host::one(
                    name.unwrap_or_default(),
                    address.copied(),
                    shared_port.copied().unwrap_or_default(),
                )
            })
            .collect()
    }

    fn one(name: &str, address: Option<&str>, port: &str) -> Result<Host> {
        // An absolute path, or an abstract socket's name as libpq writes it.
        if name.starts_with(['/', '@']) {
            return Host::unix(name, port);
        }
        // More than one colon without brackets: an IPv6 address and no port.
        let bare = name.matches(':').count() > 1 && !name.starts_with('[');
        let (name, own_port) = if bare { (name, String::new()) } else { host_and_port(name)? };
        let port = parse_port(if own_port.is_empty() { port } else { &own_port })?;
        let address = address.filter(|address| !address.is_empty()).map(str::to_owned);
        let name = if name.is_empty() { address.as_deref().unwrap_or(DEFAULT_HOST) } else { name };
        Ok(Host::Tcp { name: name.to_owned(), address, port })
    }

    /// A directory, or the socket in it whose name tells the port.
    fn unix(path: &str, port: &str) -> Result<Host> {
        if path.starts_with('@') {
            return Err(Error::invalid("host names an abstract socket; give the directory of a socket"));
        }
        if let Some((directory, file_port)) = path.rsplit_once("/.s.PGSQL.") {
            return Ok(Host::Unix { directory: directory.into(), port: parse_port(file_port)? });
        }
        Ok(Host::Unix { directory: path.into(), port: parse_port(port)? })
    }
}

impl Host {
    /// Equal for hosts that certainly mean the same server.
    pub(in crate::stores::postgres) fn identity(&self) -> Part {
        match self {
            Host::Tcp { name, address, port } => {
                [name.as_str().into(), address.clone().into(), (*port).into()].into()
            }
            Host::Unix { directory, port } => [directory.clone().into(), (*port).into()].into(),
        }
    }
}

fn parse_port(text: &str) -> Result<u16> {
    match text {
        "" => Ok(DEFAULT_PORT),
        _ if !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(wrong_port()),
        _ => text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong_port),
    }
}

fn wrong_port() -> Error {
    Error::invalid("port must be an integer from 1 to 65535")
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp { name, port, .. } => write!(f, "{name}:{port}"),
            Host::Unix { directory, port } => write!(f, "{}/.s.PGSQL.{port}", directory.display()),
        }
    }
}
