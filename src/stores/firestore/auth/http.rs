//! The few HTTP requests that tokens take: one connection each, over TLS unless it stays on this machine
//! or goes to the metadata server.

use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::Token;
use crate::lock::{Code, Error, Result};
use crate::stores::net::tls::system_config;
use crate::stores::target::Secret;

/// No reply about a token is longer.
const LONGEST_REPLY: usize = 64 * 1024;

/// Posts a form to a token server, and reads the token that it answers.
///
/// # Errors
/// `AuthFailed` when it refuses, with `advice`; `RateLimited` and `ServiceUnavailable` when it can't
/// answer. Nothing of the reply is passed on but the standard's own error code.
pub(super) async fn exchange(url: &Url, form: &[(&str, &str)], advice: &str) -> Result<Token> {
    check(url)?;
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = Request::post(path(url))
        .header("host", authority(url))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(body));
    let (status, body) = send(url, request.map_err(|error| unusable(url, error))?).await?;
    read_token(url, status, &body, advice)
}

/// # Errors
/// As [`exchange`].
pub(super) async fn get_token(url: &Url, headers: &[(&str, &str)], advice: &str) -> Result<Token> {
    let (status, body) = get(url, headers).await?;
    read_token(url, status, &body, advice)
}

/// # Errors
/// `ServiceUnavailable` when the server can't be reached.
pub(super) async fn get(url: &Url, headers: &[(&str, &str)]) -> Result<(StatusCode, Bytes)> {
    let mut request = Request::get(path(url)).header("host", authority(url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::default()).map_err(|error| unusable(url, error))?;
    send(url, request).await
}

/// A URL to which secrets may be sent.
///
/// # Errors
/// `InvalidArgument` when they would travel over a network in clear.
fn check(url: &Url) -> Result<()> {
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && local) {
        return Ok(());
    }
    Err(Error::invalid("the credentials' token_uri must be an https URL; correct the file"))
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct ErrorReply {
    error: String,
}

fn read_token(url: &Url, status: StatusCode, body: &[u8], advice: &str) -> Result<Token> {
    let place = place(url);
    if status.is_success() {
        let reply: TokenReply = serde_json::from_slice(body).map_err(|_| {
            Error::internal(format!("the token server {place} answered something that is no token"))
        })?;
        // One that ends in the year 60000 is as good as one that never does, and overflows nothing.
        let lifetime = std::time::Duration::from_secs(reply.expires_in.min(u32::MAX.into()));
        return Ok(Token { text: Secret::new(reply.access_token), lifetime: Some(lifetime) });
    }
    let error = match status.as_u16() {
        429 => Error::new(
            Code::RateLimited,
            format!("the token server {place} limits the rate of requests; try again later"),
        )
        .retryable(),
        408 | 500.. => Error::unavailable(format!("the token server {place} could not answer; try again")),
        _ => Error::new(
            Code::AuthFailed,
            format!("the token server {place} refused the credentials; {advice}"),
        ),
    };
    let reason = serde_json::from_slice::<ErrorReply>(body).ok().and_then(|reply| standard(&reply.error));
    Err(error.because(format!(
        "HTTP status {}{}",
        status.as_u16(),
        reason.map_or(String::new(), |code| format!(", {code}"))
    )))
}

/// The error codes of RFC 6749, section 5.2: what is none of them may quote anything.
fn standard(code: &str) -> Option<&'static str> {
    [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ]
    .into_iter()
    .find(|known| *known == code)
}

async fn send(url: &Url, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    let unreachable = |cause: std::io::Error| {
        Error::unavailable(format!("the token server {} can't be reached; check the network", place(url)))
            .because(cause)
    };
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    if url.scheme() == "https" {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| unusable(url, error))?;
        let stream = TlsConnector::from(tls().await?).connect(name, stream).await.map_err(unreachable)?;
        ask(url, stream, request).await
    } else {
        ask(url, stream, request).await
    }
}

async fn ask<S>(url: &Url, stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::unavailable(format!("the token server {} broke off; try again", place(url))).because(cause)
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
    let exchange = async {
        let reply = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
        let status = reply.status();
        let body = Limited::new(reply.into_body(), LONGEST_REPLY).collect().await.map_err(broken)?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        reply = &mut exchange => return reply,
        _ = &mut connection => {}
    }
    // The connection is over; what it brought may still be on its way through the channel.
    exchange.await
}

async fn tls() -> Result<Arc<ClientConfig>> {
    static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let config = CONFIG.get_or_try_init(async || Ok(Arc::new(system_config().await?))).await?;
    Ok(Arc::clone(config))
}

fn unusable(url: &Url, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::invalid(format!("the token server's URL at {} can't be used; correct it", place(url)))
        .because(cause)
}

/// What of a URL may be shown.
fn place(url: &Url) -> String {
    authority(url)
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn path(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}
