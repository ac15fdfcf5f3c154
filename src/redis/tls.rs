//! TLS by rustls: verified unless switched off by name, never downgraded.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::lock::{Error, Result};
use crate::settings::Settings;

/// How to trust the server and what to show it. `Debug` shows no key.
#[derive(Clone, Default)]
pub(super) struct Tls {
    /// The trusted authorities; the system's when there are none.
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
    server_name: Option<String>,
    accept_any_certificate: bool,
    built: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.len())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("accept_any_certificate", &self.accept_any_certificate)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// `tls` and `tls.*`; `None` when there is none of them.
    pub(super) fn from_facts(facts: &mut Settings) -> Result<Option<Tls>> {
        let flag = facts.take_flag("tls")?;
        let ca = facts.take_bytes("tls.ca")?;
        let cert = facts.take_bytes("tls.cert")?;
        let key = facts.take_bytes("tls.key")?;
        let server_name = facts.take_text("tls.servername")?.filter(|name| !name.is_empty());
        let verify = facts.take_flag("tls.rejectUnauthorized")?;
        let detailed =
            ca.is_some() || cert.is_some() || key.is_some() || server_name.is_some() || verify.is_some();
        match (flag, detailed) {
            (None | Some(false), false) => return Ok(None),
            (Some(false), true) => {
                return Err(Error::invalid(
                    "tls is false, yet other settings of TLS are given; leave them out",
                ));
            }
            _ => {}
        }
        if let Some(name) = &server_name {
            ServerName::try_from(name.as_str())
                .map_err(|_| Error::invalid("tls.servername must be a host name or an IP address"))?;
        }
        Ok(Some(Tls {
            authorities: ca.map(|pem| certificates("tls.ca", &pem)).transpose()?.unwrap_or_default(),
            identity: identity(cert, key)?.map(Arc::new),
            server_name,
            accept_any_certificate: verify == Some(false),
            built: Arc::default(),
        }))
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
            Some(identity) => builder
                .with_client_auth_cert(identity.0.clone(), identity.1.clone_key())
                .map_err(io::Error::other),
        }
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if self.authorities.is_empty() {
            // Some of a system's certificates may be unreadable; those that are not decide.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for authority in &self.authorities {
            roots.add(authority.clone()).map_err(io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(io::Error::other("the system trusts no certificate authority; give one as tls.ca"));
        }
        Ok(roots)
    }
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = || Error::invalid(format!("{name} must hold certificates in PEM form"));
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if certificates.is_empty() { Err(wrong()) } else { Ok(certificates) }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(cert: Option<Vec<u8>>, key: Option<Vec<u8>>) -> Result<Option<Identity>> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&key)
                .map_err(|_| Error::invalid("tls.key must hold an unencrypted private key in PEM form"))?;
            Ok(Some((certificates("tls.cert", &cert)?, key)))
        }
        _ => Err(Error::invalid("tls.cert and tls.key belong together; give both or none")),
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
