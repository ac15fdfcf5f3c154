//! TLS by rustls, verified as far as the `sslmode` says, never weaker.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::parameters::Parameters;
use super::verify::{AnyCertificate, AnyName};
use crate::lock::{Error, Result};
use crate::stores::target::{Setting, Settings};

/// How much of TLS there must be, as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
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
}

/// Where a certificate or key comes from. Files are read at each connect, since they get renewed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Source {
    Pem(Vec<u8>),
    File(PathBuf),
}

impl Source {
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Source::Pem(pem) => Ok(pem.clone()),
            Source::File(path) => std::fs::read(path).map_err(|error| {
                Error::invalid(format!("the file of {name} ({}) can't be read", path.display()))
                    .because(error)
            }),
        }
    }
}

/// How to trust the server and what to show it. `Debug` shows no key.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) mode: SslMode,
    /// The trusted authorities; the system's when there are none.
    authorities: Option<Source>,
    certificate: Option<(Source, Source)>,
    /// The name to expect and to send, where it is not the host's.
    pub(super) server_name: Option<String>,
    sends_name: bool,
    only_tls13: bool,
    pub(super) direct: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("mode", &self.mode)
            .field("authorities", &self.authorities.is_some())
            .field("certificate", &self.certificate.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// What facts say of TLS beside the parameters that libpq has.
#[derive(Default)]
pub(super) struct TlsFacts {
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
    pub(super) fn take(facts: &mut Settings, parameters: &mut Parameters) -> Result<TlsFacts> {
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
    pub(super) fn new(parameters: &mut Parameters, facts: TlsFacts) -> Result<Tls> {
        let mode = parameters.take_choice("sslmode", MODES)?.map_or(SslMode::Prefer, SslMode::of);
        let file = |value: Option<String>| value.map(|path| Source::File(path.into()));
        let root = parameters.take("sslrootcert");
        // As libpq has it: the system's authorities are anybody's, so only with a verified name.
        let system = root.as_deref() == Some("system");
        let authorities = facts.ca.map(Source::Pem).or_else(|| file(root.filter(|_| !system)));
        let certificate = facts.cert.map(Source::Pem).or(file(parameters.take("sslcert")));
        let key = facts.key.map(Source::Pem).or(file(parameters.take("sslkey")));
        let certificate = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => {
                return Err(Error::invalid(
                    "a client certificate and its key belong together; give both (sslcert and sslkey, or tls.cert and tls.key) or none",
                ));
            }
        };
        if let Some(name) = &facts.server_name {
            ServerName::try_from(name.as_str())
                .map_err(|_| Error::invalid("tls.servername must be a host name or an IP address"))?;
        }
        let versions = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
        let tls = Tls {
            mode: match mode {
                SslMode::Disable => mode,
                _ if system => SslMode::VerifyFull,
                SslMode::Require if authorities.is_some() && facts.server_name.is_none() => SslMode::VerifyCa,
                _ => mode,
            },
            authorities,
            certificate,
            server_name: facts.server_name,
            sends_name: parameters.take_flag("sslsni")?.unwrap_or(true),
            only_tls13: parameters.take_choice("ssl_min_protocol_version", &versions)? == Some(3),
            direct: parameters.take_choice("sslnegotiation", &["postgres", "direct"])? == Some(1),
        };
        if tls.direct && tls.mode < SslMode::Require {
            return Err(Error::invalid("sslnegotiation=direct needs sslmode=require or stronger"));
        }
        Ok(tls)
    }

    /// Reads the files and the system's certificates.
    ///
    /// # Errors
    /// `InvalidArgument` for files that can't be read or hold something else.
    pub(super) fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] =
            if self.only_tls13 { &[&rustls::version::TLS13] } else { rustls::DEFAULT_VERSIONS };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| Error::internal("TLS can't be set up").because(error))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(provider)?);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain =
                    certificates("the client certificate", &certificate.read("the client certificate")?)?;
                let key = PrivateKeyDer::from_pem_slice(&key.read("the client key")?).map_err(|_| {
                    Error::invalid("the client key must be an unencrypted private key in PEM form")
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    Error::invalid("the client certificate and its key don't fit together").because(error)
                })?
            }
        };
        config.enable_sni = self.sends_name;
        if self.direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(config)
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        if self.mode < SslMode::VerifyCa {
            return Ok(Arc::new(AnyCertificate(provider)));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider)
            .build()
            .map_err(|error| Error::invalid("the certificate authorities can't be used").because(error))?;
        match self.mode {
            SslMode::VerifyFull => Ok(verifier),
            _ => Ok(Arc::new(AnyName(verifier))),
        }
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            // Some of a system's certificates may be unreadable; those that are not decide.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Some(source) => {
                for authority in
                    certificates("the certificate authority", &source.read("the certificate authority")?)?
                {
                    roots.add(authority).map_err(|error| {
                        Error::invalid("the certificate authority can't be used").because(error)
                    })?;
                }
            }
        }
        if roots.is_empty() {
            return Err(Error::invalid(
                "this system trusts no certificate authority; give one as sslrootcert or tls.ca",
            ));
        }
        Ok(roots)
    }
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = || Error::invalid(format!("{name} must be in PEM form"));
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if certificates.is_empty() { Err(wrong()) } else { Ok(certificates) }
}
