//! TLS by rustls: verified unless switched off by name, never downgraded.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::lock::{Error, Result};
use crate::stores::net::pem::{BadPem, Flaw, Pem, Purpose};
use crate::stores::net::tls::{self as net, Identity, Problem, Verify};
use crate::stores::target::Settings;

/// How to trust the server and what to show it. `Debug` shows no key.
#[derive(Clone, Default)]
pub(in crate::stores::redis) struct Tls {
    common: net::Tls,
    names: PemNames,
    server_name: Option<String>,
    built: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("common", &self.common)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// A text in PEM form, or the file that holds it, with what the user calls it.
#[derive(Clone)]
pub(in crate::stores::redis) struct NamedPem {
    name: &'static str,
    pem: Pem,
}

/// What the user calls each text in PEM form that was given.
#[derive(Clone, Copy, Default)]
struct PemNames {
    ca: &'static str,
    cert: &'static str,
    key: &'static str,
}

/// What the facts about TLS to one kind of server are called.
pub(in crate::stores::redis) struct FactNames {
    flag: &'static str,
    ca: &'static str,
    cert: &'static str,
    key: &'static str,
    server_name: &'static str,
    verify: &'static str,
}

pub(in crate::stores::redis) const OF_SERVERS: FactNames = FactNames {
    flag: "tls",
    ca: "tls.ca",
    cert: "tls.cert",
    key: "tls.key",
    server_name: "tls.servername",
    verify: "tls.rejectUnauthorized",
};
pub(in crate::stores::redis) const OF_SENTINELS: FactNames = FactNames {
    flag: "sentinelTls",
    ca: "sentinelTls.ca",
    cert: "sentinelTls.cert",
    key: "sentinelTls.key",
    server_name: "sentinelTls.servername",
    verify: "sentinelTls.rejectUnauthorized",
};

impl Tls {
    /// `tls` and `tls.*`, or those of the sentinels: nothing when none of them is given, and in it nothing when
    /// there is to be no TLS.
    pub(in crate::stores::redis) fn from_facts(
        facts: &mut Settings,
        names: &FactNames,
    ) -> Result<Option<Option<Tls>>> {
        let flag = facts.take_flag(names.flag)?;
        let ca = facts.take_bytes(names.ca)?.map(|text| NamedPem::text(names.ca, text));
        let cert = facts.take_bytes(names.cert)?.map(|text| NamedPem::text(names.cert, text));
        let key = facts.take_bytes(names.key)?.map(|text| NamedPem::text(names.key, text));
        let server_name = facts.take_text(names.server_name)?;
        let verify = facts.take_flag(names.verify)?;
        let mut tls = Tls::new(ca, cert, key, names.server_name, server_name)?;
        if verify == Some(false) {
            tls.common.verify = Verify::Nothing;
        }
        match (flag, tls.says_something() || verify.is_some()) {
            (None, false) => Ok(None),
            (Some(false), false) => Ok(Some(None)),
            (Some(false), true) => Err(Error::invalid(format!(
                "{} is false, yet other settings of TLS are given; leave them out",
                names.flag
            ))),
            _ => {
                tls.common.check().map_err(|bad| tls.names.told(bad))?;
                Ok(Some(Some(tls)))
            }
        }
    }

    pub(in crate::stores::redis) fn new(
        ca: Option<NamedPem>,
        cert: Option<NamedPem>,
        key: Option<NamedPem>,
        name: &str,
        server_name: Option<String>,
    ) -> Result<Tls> {
        let mut names = PemNames::default();
        let authorities = ca.map(|ca| {
            names.ca = ca.name;
            ca.pem
        });
        let identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                (names.cert, names.key) = (cert.name, key.name);
                Some(Identity { certificate: cert.pem, key: key.pem })
            }
            (Some(NamedPem { name, .. }), None) | (None, Some(NamedPem { name, .. })) => {
                return Err(Error::invalid(format!(
                    "a client's certificate and its key belong together, but only {name} is given"
                )));
            }
        };
        let server_name = net::server_name(name, server_name)?;
        let common = net::Tls { authorities, identity, ..net::Tls::default() };
        Ok(Tls { common, names, server_name, built: Arc::default() })
    }

    pub(in crate::stores::redis) fn says_something(&self) -> bool {
        self.common.authorities.is_some() || self.common.identity.is_some() || self.server_name.is_some()
    }

    /// The name that the certificate must be for.
    pub(in crate::stores::redis) fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    /// Built once, at the first connect.
    pub(in crate::stores::redis) async fn client_config(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.built.get() {
            return Ok(config.clone());
        }
        let config = self.common.client_config().await.map_err(|problem| self.names.failed(problem))?;
        Ok(self.built.get_or_init(|| Arc::new(config)).clone())
    }
}

impl NamedPem {
    fn text(name: &'static str, text: Vec<u8>) -> NamedPem {
        NamedPem { name, pem: Pem::Given(text.into()) }
    }

    pub(in crate::stores::redis) fn file(name: &'static str, path: String) -> NamedPem {
        NamedPem { name, pem: Pem::File(path.into()) }
    }
}

impl PemNames {
    fn told(&self, BadPem { purpose, flaw }: BadPem) -> Error {
        let (name, holds) = match purpose {
            Purpose::Authorities => (self.ca, "certificates"),
            Purpose::Certificate => (self.cert, "certificates"),
            Purpose::Key => (self.key, "an unencrypted private key"),
        };
        match flaw {
            Flaw::Malformed => Error::invalid(format!("{name} must hold {holds} in PEM form")),
            Flaw::Unreadable(path, error) => {
                Error::invalid(format!("{name} names the file {path:?}, which cannot be read"))
                    .because(error.to_string())
            }
        }
    }

    /// As an error of the connect, which a later look tells apart by what is in it.
    fn failed(&self, problem: Problem) -> io::Error {
        match problem {
            Problem::Pem(bad) => io::Error::other(self.told(bad)),
            Problem::Authority(error) => io::Error::other(error),
            Problem::Authorities(error) => io::Error::other(error),
            Problem::NoAuthority => {
                io::Error::other("the system trusts no certificate authority; give one as tls.ca")
            }
            Problem::Identity(_) => {
                let message = format!("{} and {} do not belong together", self.cert, self.key);
                io::Error::other(Error::invalid(message))
            }
            Problem::SetUp(error) => io::Error::other(error),
        }
    }
}
