//! Certificates and keys in PEM form, given as they are or as files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A text in PEM form, or the file that holds it, which is read each time since files get renewed.
#[derive(Clone)]
pub(crate) enum Pem {
    Given(Arc<[u8]>),
    File(PathBuf),
}

/// What a text in PEM form is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Authorities,
    /// The client's.
    Certificate,
    /// The client's.
    Key,
}

/// A text in PEM form that can't be used. How to say so is up to the store, which knows its parameters.
#[derive(Debug)]
pub(crate) struct BadPem {
    pub(crate) purpose: Purpose,
    pub(crate) flaw: Flaw,
}

#[derive(Debug)]
pub(crate) enum Flaw {
    Unreadable(PathBuf, io::Error),
    /// It holds something else, or an encrypted key.
    Malformed,
}

impl Pem {
    pub(super) fn certificates(&self, purpose: Purpose) -> Result<Vec<CertificateDer<'static>>, BadPem> {
        let malformed = || BadPem { purpose, flaw: Flaw::Malformed };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.read(purpose)?)
            .collect::<Result<_, _>>()
            .map_err(|_| malformed())?;
        if certificates.is_empty() { Err(malformed()) } else { Ok(certificates) }
    }

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, BadPem> {
        let purpose = Purpose::Key;
        PrivateKeyDer::from_pem_slice(&self.read(purpose)?)
            .map_err(|_| BadPem { purpose, flaw: Flaw::Malformed })
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Pem::Given(_) => None,
            Pem::File(path) => Some(path),
        }
    }

    fn read(&self, purpose: Purpose) -> Result<Arc<[u8]>, BadPem> {
        match self {
            Pem::Given(text) => Ok(text.clone()),
            Pem::File(path) => std::fs::read(path)
                .map(Arc::from)
                .map_err(|error| BadPem { purpose, flaw: Flaw::Unreadable(path.clone(), error) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_it_was_for() {
        let absent = Pem::File("/nowhere/ca.crt".into());
        let BadPem { purpose, flaw } = absent.certificates(Purpose::Authorities).unwrap_err();
        assert_eq!(purpose, Purpose::Authorities);
        assert!(matches!(flaw, Flaw::Unreadable(path, _) if path.ends_with("ca.crt")));
        let half = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        for text in [&b""[..], b"a text", half] {
            let pem = Pem::Given(text.into());
            let BadPem { purpose, flaw } = pem.certificates(Purpose::Certificate).unwrap_err();
            assert!(purpose == Purpose::Certificate && matches!(flaw, Flaw::Malformed));
            let BadPem { purpose, flaw } = pem.key().unwrap_err();
            assert!(purpose == Purpose::Key && matches!(flaw, Flaw::Malformed));
        }
    }
}
