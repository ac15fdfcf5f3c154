//! TLS by rustls, verified as far as the `sslmode` says, never weaker.

use rustls::ClientConfig;

use super::parameters::Parameters;
use crate::lock::{Error, Result};
use crate::stores::net::pem::{BadPem, Flaw, Pem, Purpose};
use crate::stores::net::tls::{self as net, Identity, Problem, Verify};
use crate::stores::target::{Setting, Settings};

/// How much of TLS there must be, as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stores::postgres) enum SslMode {
    Disable,
    /// Plain where the server has no TLS; with TLS, unverified.
    Prefer,
    /// Encrypted, to whomever; verified like `VerifyCa` once there is an authority, as libpq has it.
    Require,
    /// Verified, except for the name.
    VerifyCa,
    VerifyFull,
}

const MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full", "no-verify"];

impl SslMode {
    fn of(index: usize) -> SslMode {
        match MODES[index] {
            "disable" => SslMode::Disable,
            "require" | "no-verify" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            // "allow" would try without TLS first; trying with it first is never weaker.
            _ => SslMode::Prefer,
        }
    }

    fn verifies(self) -> Verify {
        match self {
            SslMode::VerifyFull => Verify::Full,
            SslMode::VerifyCa => Verify::AnyName,
            SslMode::Disable | SslMode::Prefer | SslMode::Require => Verify::Nothing,
        }
    }
}

/// How to trust the server and what to show it. `Debug` shows no key.
#[derive(Clone, Debug)]
pub(in crate::stores::postgres) struct Tls {
    pub(in crate::stores::postgres) mode: SslMode,
    common: net::Tls,
    /// The name to expect and to send, where it is not the host's.
    pub(in crate::stores::postgres) server_name: Option<String>,
    sends_name: bool,
    pub(in crate::stores::postgres) direct: bool,
}

/// What facts say of TLS beside the parameters that libpq has.
#[derive(Default)]
pub(in crate::stores::postgres) struct TlsFacts {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    server_name: Option<String>,
}

impl TlsFacts {
    /// Takes `ssl`, `tls` and `tls.*`. Where they ask for TLS without more, it is verified, as Node.js does.
    ///
    /// # Errors
    /// `InvalidArgument` for wrong types and contradictions.
    pub(in crate::stores::postgres) fn take(
        facts: &mut Settings,
        parameters: &mut Parameters,
    ) -> Result<TlsFacts> {
        let mut wanted = None;
        for name in ["ssl", "tls"] {
            match facts.take_text_or_flag(name)? {
                Some(Setting::Flag(on)) => wanted = Some(on),
                Some(Setting::Text(mode)) => parameters.set("sslmode", mode),
                _ => {}
            }
        }
        let verify = facts.take_flag("tls.rejectUnauthorized")?;
        let tls = TlsFacts {
            ca: facts.take_bytes("tls.ca")?.filter(|pem| !pem.is_empty()),
            cert: facts.take_bytes("tls.cert")?.filter(|pem| !pem.is_empty()),
            key: facts.take_bytes("tls.key")?.filter(|pem| !pem.is_empty()),
            server_name: facts.take_text("tls.servername")?.filter(|name| !name.is_empty()),
        };
        let detailed = tls.ca.is_some()
            || tls.cert.is_some()
            || tls.key.is_some()
            || tls.server_name.is_some()
            || verify.is_some();
        let mode = match (wanted, detailed, verify) {
            (Some(false), true, _) => {
                return Err(Error::invalid(
                    "ssl is false, yet other settings of TLS are given; leave them out",
                ));
            }
            (Some(false), false, _) => "disable",
            (_, _, Some(false)) => "no-verify",
            (Some(true), ..) | (None, true, _) => "verify-full",
            (None, false, _) => return Ok(tls),
        };
        if let Some(said) = parameters.take("sslmode").filter(|said| said != mode) {
            // An explicit mode decides, unless it would be weaker than what else was asked for.
            let strength = |mode: &str| MODES.iter().position(|m| *m == mode).map(SslMode::of);
            if strength(&said) < strength(mode) && verify != Some(false) {
                return Err(Error::invalid(format!(
                    "sslmode {said:?} contradicts the other settings of TLS, which ask for {mode}; give one of them"
                )));
            }
            parameters.set("sslmode", said);
        } else {
            parameters.set("sslmode", mode.to_owned());
        }
        Ok(tls)
    }
}

impl Tls {
    /// # Errors
    /// `InvalidArgument` for unknown words, half a client certificate and names that are none.
    pub(in crate::stores::postgres) fn new(parameters: &mut Parameters, facts: TlsFacts) -> Result<Tls> {
        let mode = parameters.take_choice("sslmode", MODES)?.map_or(SslMode::Prefer, SslMode::of);
        let file = |value: Option<String>| value.map(|path| Pem::File(path.into()));
        let given = |pem: Vec<u8>| Pem::Given(pem.into());
        let root = parameters.take("sslrootcert");
        // As libpq has it: the system's authorities are anybody's, so only with a verified name.
        let system = root.as_deref() == Some("system");
        let authorities = facts.ca.map(given).or_else(|| file(root.filter(|_| !system)));
        let certificate = facts.cert.map(given).or(file(parameters.take("sslcert")));
        let key = facts.key.map(given).or(file(parameters.take("sslkey")));
        let identity = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            _ => {
                return Err(Error::invalid(
                    "a client certificate and its key belong together; give both (sslcert and sslkey, or tls.cert and tls.key) or none",
                ));
            }
        };
        let server_name = net::server_name("tls.servername", facts.server_name)?;
        let versions = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
        let mode = match mode {
            SslMode::Disable => mode,
            _ if system => SslMode::VerifyFull,
            SslMode::Require if authorities.is_some() && server_name.is_none() => SslMode::VerifyCa,
            _ => mode,
        };
        let sends_name = parameters.take_flag("sslsni")?.unwrap_or(true);
        let only_tls13 = parameters.take_choice("ssl_min_protocol_version", &versions)? == Some(3);
        let tls = Tls {
            mode,
            common: net::Tls { verify: mode.verifies(), authorities, identity, only_tls13 },
            server_name,
            sends_name,
            direct: parameters.take_choice("sslnegotiation", &["postgres", "direct"])? == Some(1),
        };
        if tls.direct && tls.mode < SslMode::Require {
            return Err(Error::invalid("sslnegotiation=direct needs sslmode=require or stronger"));
        }
        Ok(tls)
    }

    /// Anew at each connect, since files get renewed.
    ///
    /// # Errors
    /// `InvalidArgument` for files that can't be read or hold something else.
    pub(in crate::stores::postgres) async fn client_config(&self) -> Result<ClientConfig> {
        let mut config = self.common.client_config().await.map_err(failed)?;
        config.enable_sni = self.sends_name;
        if self.direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(config)
    }
}

fn failed(problem: Problem) -> Error {
    match problem {
        Problem::Pem(bad) => told(bad),
        Problem::Authority(error) => Error::invalid("the certificate authority can't be used").because(error),
        Problem::Authorities(error) => {
            Error::invalid("the certificate authorities can't be used").because(error)
        }
        Problem::NoAuthority => {
            Error::invalid("this system trusts no certificate authority; give one as sslrootcert or tls.ca")
        }
        Problem::Identity(error) => {
            Error::invalid("the client certificate and its key don't fit together").because(error)
        }
        Problem::SetUp(error) => Error::internal("TLS can't be set up").because(error),
    }
}

fn told(BadPem { purpose, flaw }: BadPem) -> Error {
    let (name, form) = match purpose {
        Purpose::Authorities => ("the certificate authority", "in PEM form"),
        Purpose::Certificate => ("the client certificate", "in PEM form"),
        Purpose::Key => ("the client key", "an unencrypted private key in PEM form"),
    };
    match flaw {
        Flaw::Malformed => Error::invalid(format!("{name} must be {form}")),
        Flaw::Unreadable(path, error) => {
            Error::invalid(format!("the file of {name} ({}) can't be read", path.display())).because(error)
        }
    }
}
