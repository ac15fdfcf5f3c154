//! TLS by rustls: verified unless switched off by name, never downgraded.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::lock::{Error, Result};
use crate::stores::target::Settings;

/// How to trust the server and what to show it. `Debug` shows no key.
#[derive(Clone, Default)]
pub(super) struct Tls {
    /// The trusted authorities; the system's when there are none.
    authorities: Option<Pem>,
    /// A certificate and its key.
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    accept_any_certificate: bool,
    built: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("accept_any_certificate", &self.accept_any_certificate)
            .finish_non_exhaustive()
    }
}

/// A text in PEM form, or the file that holds it, which is read at the first connect.
#[derive(Clone)]
pub(super) struct Pem {
    /// What the user calls it.
    name: &'static str,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Text(Arc<[u8]>),
    File(PathBuf),
}

/// What the facts about TLS to one kind of server are called.
pub(super) struct FactNames {
    flag: &'static str,
    ca: &'static str,
    cert: &'static str,
    key: &'static str,
    server_name: &'static str,
    verify: &'static str,
}

pub(super) const OF_SERVERS: FactNames = FactNames {
    flag: "tls",
    ca: "tls.ca",
    cert: "tls.cert",
    key: "tls.key",
    server_name: "tls.servername",
    verify: "tls.rejectUnauthorized",
};
pub(super) const OF_SENTINELS: FactNames = FactNames {
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
    pub(super) fn from_facts(facts: &mut Settings, names: &FactNames) -> Result<Option<Option<Tls>>> {
        let flag = facts.take_flag(names.flag)?;
        let ca = facts.take_bytes(names.ca)?.map(|text| Pem::text(names.ca, text));
        let cert = facts.take_bytes(names.cert)?.map(|text| Pem::text(names.cert, text));
        let key = facts.take_bytes(names.key)?.map(|text| Pem::text(names.key, text));
        let server_name = facts.take_text(names.server_name)?;
        let verify = facts.take_flag(names.verify)?;
        let mut tls = Tls::new(ca, cert, key, names.server_name, server_name)?;
        tls.accept_any_certificate = verify == Some(false);
        match (flag, tls.says_something() || verify.is_some()) {
            (None, false) => Ok(None),
            (Some(false), false) => Ok(Some(None)),
            (Some(false), true) => Err(Error::invalid(format!(
                "{} is false, yet other settings of TLS are given; leave them out",
                names.flag
            ))),
            _ => {
                tls.check()?;
                Ok(Some(Some(tls)))
            }
        }
    }

    pub(super) fn new(
        ca: Option<Pem>,
        cert: Option<Pem>,
        key: Option<Pem>,
        name: &str,
        server_name: Option<String>,
    ) -> Result<Tls> {
        let identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(Pem { name, .. }), None) | (None, Some(Pem { name, .. })) => {
                return Err(Error::invalid(format!(
                    "a client's certificate and its key belong together, but only {name} is given"
                )));
            }
        };
        let server_name = server_name.filter(|name| !name.is_empty());
        if let Some(given) = &server_name {
            ServerName::try_from(given.as_str())
                .map_err(|_| Error::invalid(format!("{name} must be a host name or an IP address")))?;
        }
        Ok(Tls { authorities: ca, identity, server_name, ..Tls::default() })
    }

    pub(super) fn says_something(&self) -> bool {
        self.authorities.is_some() || self.identity.is_some() || self.server_name.is_some()
    }

    /// Reads what was given as text, so that what is wrong with it is said at once.
    fn check(&self) -> Result<()> {
        if let Some(ca) = &self.authorities {
            ca.certificates()?;
        }
        if let Some((cert, key)) = &self.identity {
            cert.certificates()?;
            key.private_key()?;
        }
        Ok(())
    }

    /// The name that the certificate must be for.
    pub(super) fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    /// Built once. Reads the system's certificates where no authority was given, hence off this thread.
    pub(super) async fn client_config(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.built.get() {
            return Ok(config.clone());
        }
        let tls = self.clone();
        let config = tokio::task::spawn_blocking(move || tls.build()).await.map_err(io::Error::other)??;
        Ok(self.built.get_or_init(|| Arc::new(config)).clone())
    }

    fn build(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = if self.accept_any_certificate {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    cert.certificates().map_err(io::Error::other)?,
                    key.private_key().map_err(io::Error::other)?,
                )
                .map_err(|_| {
                    let message = format!("{} and {} do not belong together", cert.name, key.name);
                    io::Error::other(Error::invalid(message))
                }),
        }
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            // Some of a system's certificates may be unreadable; those that are not decide.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Some(authorities) => {
                for authority in authorities.certificates().map_err(io::Error::other)? {
                    roots.add(authority).map_err(io::Error::other)?;
                }
            }
        }
        if roots.is_empty() {
            return Err(io::Error::other("the system trusts no certificate authority; give one as tls.ca"));
        }
        Ok(roots)
    }
}

impl Pem {
    fn text(name: &'static str, text: Vec<u8>) -> Pem {
        Pem { name, source: Source::Text(text.into()) }
    }

    pub(super) fn file(name: &'static str, path: String) -> Pem {
        Pem { name, source: Source::File(path.into()) }
    }

    fn read(&self) -> Result<Arc<[u8]>> {
        match &self.source {
            Source::Text(text) => Ok(text.clone()),
            Source::File(path) => std::fs::read(path).map(Arc::from).map_err(|error| {
                Error::invalid(format!("{} names the file {path:?}, which cannot be read", self.name))
                    .because(error.to_string())
            }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let wrong = || Error::invalid(format!("{} must hold certificates in PEM form", self.name));
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.read()?)
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| wrong())?;
        if certificates.is_empty() { Err(wrong()) } else { Ok(certificates) }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.read()?).map_err(|_| {
            Error::invalid(format!("{} must hold an unencrypted private key in PEM form", self.name))
        })
    }
}

/// For `rejectUnauthorized: false` only: no certificate is checked, so anybody can play the server.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
