//! TLS by rustls with one provider: whom to trust, how far to verify, and what to show.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::pem::{BadPem, Pem, Purpose};
use super::verify::{AnyCertificate, AnyName};
use crate::crew::Crew;
use crate::lock::{Error, Result};

/// How far a server's certificate is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    #[default]
    Full,
    /// All but whose name the certificate bears.
    AnyName,
    /// Nothing: encrypted, but anybody can play the server.
    Nothing,
}

/// How to trust a server and what to show it. `Debug` shows no key.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) verify: Verify,
    /// The trusted authorities; the system's when there are none.
    pub(crate) authorities: Option<Pem>,
    pub(crate) identity: Option<Identity>,
    pub(crate) only_tls13: bool,
}

/// A client's certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: Pem,
    pub(crate) key: Pem,
}

/// Why there can be no TLS. How to say so is up to the store, which knows its parameters.
#[derive(Debug)]
pub(crate) enum Problem {
    Pem(BadPem),
    /// A certificate in PEM form that can be no authority.
    Authority(rustls::Error),
    Authorities(VerifierBuilderError),
    NoAuthority,
    /// The client's certificate and its key are no pair.
    Identity(rustls::Error),
    SetUp(Box<dyn std::error::Error + Send + Sync>),
}

impl From<BadPem> for Problem {
    fn from(bad: BadPem) -> Problem {
        Problem::Pem(bad)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("verify", &self.verify)
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads what was given, so that what is wrong with it is said at once.
    pub(crate) fn check(&self) -> Result<(), BadPem> {
        if let Some(authorities) = &self.authorities {
            authorities.certificates(Purpose::Authorities)?;
        }
        if let Some(Identity { certificate, key }) = &self.identity {
            certificate.certificates(Purpose::Certificate)?;
            key.key()?;
        }
        Ok(())
    }

    /// Reads files and the system's certificates, hence off this thread.
    pub(crate) async fn client_config(&self) -> Result<ClientConfig, Problem> {
        let tls = self.clone();
        let building = Crew::read("certificates", self.file(), move || tls.build()).await;
        building.unwrap_or_else(|error| Err(Problem::SetUp(error.into())))
    }

    /// The first file that is read.
    fn file(&self) -> Option<&Path> {
        let identity = self.identity.iter().flat_map(|identity| [&identity.certificate, &identity.key]);
        self.authorities.iter().chain(identity).find_map(Pem::file)
    }

    fn build(&self) -> Result<ClientConfig, Problem> {
        let provider = provider();
        let versions: &[_] =
            if self.only_tls13 { &[&rustls::version::TLS13] } else { rustls::DEFAULT_VERSIONS };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| Problem::SetUp(error.into()))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(provider)?);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some(Identity { certificate, key }) => {
                let certificates = certificate.certificates(Purpose::Certificate)?;
                builder.with_client_auth_cert(certificates, key.key()?).map_err(Problem::Identity)
            }
        }
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Problem> {
        if self.verify == Verify::Nothing {
            return Ok(Arc::new(AnyCertificate(provider)));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider)
            .build()
            .map_err(Problem::Authorities)?;
        match self.verify {
            Verify::AnyName => Ok(Arc::new(AnyName(verifier))),
            _ => Ok(verifier),
        }
    }

    fn roots(&self) -> Result<RootCertStore, Problem> {
        let roots = match &self.authorities {
            None => system_roots(),
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities.certificates(Purpose::Authorities)? {
                    roots.add(authority).map_err(Problem::Authority)?;
                }
                roots
            }
        };
        if roots.is_empty() { Err(Problem::NoAuthority) } else { Ok(roots) }
    }
}

/// The one that does the cryptography for every store.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Verified against the system's certificates, in full.
///
/// # Errors
/// `Internal` where TLS can't be set up, `ServiceUnavailable` when the system grants no thread to read them.
pub(crate) async fn system_config() -> Result<ClientConfig> {
    let set_up = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::internal("TLS can't be set up").because(cause)
    };
    let roots = Crew::read("certificates", None, system_roots).await?;
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| set_up(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Some of a system's certificates may be unreadable; those that are not decide. Reads files.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The name to expect in a server's certificate instead of the host's, where one is given.
///
/// # Errors
/// `InvalidArgument`, with what the user calls it, for what can be no name.
pub(crate) fn server_name(called: &str, given: Option<String>) -> Result<Option<String>> {
    let given = given.filter(|name| !name.is_empty());
    if let Some(name) = &given {
        ServerName::try_from(name.as_str())
            .map_err(|_| Error::invalid(format!("{called} must be a host name or an IP address")))?;
    }
    Ok(given)
}
