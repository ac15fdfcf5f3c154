//! A service account: signs a claim with its private key and exchanges it for a token (RFC 7523).

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use url::Url;

use super::{SCOPE, Token, TokenSource, http};
use crate::lock::{Error, Result};
use crate::stores::target::Secret;

const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const LIFETIME_SECONDS: u64 = 3600;

pub(super) struct ServiceAccount {
    email: String,
    /// Which of the account's keys it is; the server can do without.
    key_id: Option<String>,
    key: RsaKeyPair,
    token_uri: Url,
    project: Option<String>,
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccount(…)")
    }
}

impl ServiceAccount {
    /// # Errors
    /// `InvalidArgument` when the key is no RSA private key in PEM. Shows none of it.
    pub(super) fn new(email: String, key: &Secret) -> Result<ServiceAccount> {
        Ok(ServiceAccount {
            email,
            key_id: None,
            key: parse(key)?,
            token_uri: Url::parse(TOKEN_URI)
                .map_err(|error| Error::internal("a constant is no URL").because(error))?,
            project: None,
        })
    }

    /// What else a key file tells.
    pub(super) fn with(
        self,
        key_id: Option<String>,
        token_uri: Option<Url>,
        project: Option<String>,
    ) -> ServiceAccount {
        ServiceAccount { key_id, token_uri: token_uri.unwrap_or(self.token_uri), project, ..self }
    }

    fn assertion(&self) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(key_id) = &self.key_id {
            header["kid"] = json!(key_id);
        }
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_uri.as_str(),
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Error::internal("the private key of the service account could not sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn parse(key: &Secret) -> Result<RsaKeyPair> {
    // Keys that came through an environment variable often have their line ends escaped.
    let pem = key.reveal().replace("\\n", "\n");
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).ok(),
        Ok(PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()).ok(),
        _ => None,
    };
    key.ok_or_else(|| {
        Error::invalid("the service account's private_key must be an RSA private key in PEM, as Google's key files hold it")
    })
}

#[async_trait]
impl TokenSource for ServiceAccount {
    async fn token(&self) -> Result<Token> {
        let assertion = self.assertion()?;
        let form = [("grant_type", GRANT_TYPE), ("assertion", assertion.as_str())];
        let advice =
            "check that the service account and its key still exist and that this machine's clock is right";
        http::exchange(&self.token_uri, &form, advice).await
    }

    async fn project(&self) -> Result<Option<String>> {
        Ok(self.project.clone())
    }
}
