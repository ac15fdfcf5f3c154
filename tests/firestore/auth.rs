//! Where tokens come from, that they are kept and renewed, and that no error shows one.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use syncguard::backend::{Backend, BackendExt};
use syncguard::lock::{Code, Error, Result};
use syncguard::stores::target::{Password, PasswordProvider, Secret};
use syncguard::stores::target::{Setting, Target};

use crate::gate::{Fault, Gate};
use crate::keys::{self, TempDir};
use crate::token_server::TokenServer;
use crate::{FirestoreBackend, FirestoreConfig, backend_of, emulator, key, request, settings, take, text};

const EMAIL: &str = "locks@project.iam.gserviceaccount.com";
const READ: &str = "BatchGetDocuments";

fn account(token_uri: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "account-project",
        "private_key_id": "key-1",
        "private_key": keys::rsa(),
        "client_email": EMAIL,
        "token_uri": token_uri,
    })
    .to_string()
}

fn user(token_uri: &str) -> String {
    json!({
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": "canary-secret",
        "refresh_token": "canary-refresh",
        "quota_project_id": "user-project",
        "token_uri": token_uri,
    })
    .to_string()
}

/// A backend that has its credentials from a file and talks to the emulator through a gate.
struct Bench {
    tokens: TokenServer,
    gate: Gate,
    backend: FirestoreBackend,
    _dir: TempDir,
}

async fn bench(name: &str, expires_in: u64, file: impl Fn(&str) -> String) -> Bench {
    let dir = TempDir::new(name);
    let tokens = TokenServer::issuing(expires_in).await;
    let gate = Gate::to(emulator::shared()).await;
    let path = dir.write("credentials.json", &file(&tokens.url()));
    let facts = [
        ("keyFilename", text(&path)),
        ("projectId", text(&emulator::project())),
        ("host", text(&gate.host())),
        ("ssl", Setting::Flag(false)),
    ];
    let backend = backend_of(&facts, &[("connectTimeoutMs", Setting::Number(500.0))]);
    Bench { tokens, gate, backend, _dir: dir }
}

fn form(body: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

fn shows_nothing(error: &Error) {
    let shown = format!("{error:?} {error} {:?}", error.cause().map(ToString::to_string));
    assert!(!shown.contains("canary") && !shown.contains("BEGIN"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_signs_for_one_token_and_keeps_it() {
    let bench = bench("account", 3600, account).await;
    let workers: Vec<_> = (0..8).map(|n| async move { format!("key {n}") }).collect();
    let names = futures_util::future::join_all(workers).await;
    futures_util::future::join_all(names.iter().map(|name| take(&bench.backend, name))).await;
    assert!(bench.gate.tokens().iter().all(|token| token == "Bearer token-1"));
    let asked = bench.tokens.asked();
    assert_eq!(asked.len(), 1, "one token for all");
    assert_eq!(asked[0].line, "POST /token HTTP/1.1");
    let form = form(&asked[0].body);
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");

    let parts: Vec<&str> = form["assertion"].split('.').collect();
    assert_eq!(decoded(parts[0]), json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" }));
    let claims = decoded(parts[1]);
    assert_eq!(claims["iss"], EMAIL);
    assert_eq!(claims["aud"], bench.tokens.url());
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/datastore");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    let signed = format!("{}.{}", parts[0], parts[1]);
    let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(keys::rsa().as_bytes()).unwrap() else {
        panic!("PKCS #8")
    };
    let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap())
        .expect("signed by the account's key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_exchanges_the_refresh_token() {
    let bench = bench("user", 3600, user).await;
    take(&bench.backend, "a").await;
    let form = form(&bench.tokens.asked()[0].body);
    let expected = [
        ("grant_type", "refresh_token"),
        ("client_id", "client"),
        ("client_secret", "canary-secret"),
        ("refresh_token", "canary-refresh"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_replaced_while_calls_go_on() {
    let bench = bench("renewal", 2, account).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        bench.backend.is_locked(&key("a")).await.expect("there is always a good token");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut used = bench.gate.tokens();
    used.dedup();
    assert!(used.len() >= 2, "{used:?}");
    let expected: Vec<String> = (1..=used.len()).map(|n| format!("Bearer token-{n}")).collect();
    assert_eq!(used, expected, "each for its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_token_server_become_errors_that_show_nothing() {
    for file in [account as fn(&str) -> String, user] {
        let bench = bench("refusals", 3600, file).await;
        for (status, body, code, retryable) in [
            (400, r#"{"error":"invalid_grant","error_description":"canary"}"#, Code::AuthFailed, false),
            (401, r#"{"error":"canary"}"#, Code::AuthFailed, false),
            (403, "canary", Code::AuthFailed, false),
            (404, "canary", Code::AuthFailed, false),
            (429, "canary", Code::RateLimited, true),
            (500, "canary", Code::ServiceUnavailable, true),
            (503, "canary", Code::ServiceUnavailable, true),
            (200, "canary", Code::Internal, false),
            (200, r#"{"access_token":1,"canary":2}"#, Code::Internal, false),
        ] {
            bench.tokens.next(status, body);
            let error = bench.backend.acquire(&request("a")).await.unwrap_err();
            assert_eq!((error.code(), error.is_retryable()), (code, retryable), "{status}: {error:?}");
            assert!(!error.is_unknown(), "nothing was sent to Firestore");
            shows_nothing(&error);
        }
        let too_long = "x".repeat(100_000);
        bench.tokens.next(200, &too_long);
        assert_eq!(bench.backend.acquire(&request("a")).await.unwrap_err().code(), Code::ServiceUnavailable);
        bench.tokens.next(200, "{\"access_token\":\"can\\nary\",\"expires_in\":3600}");
        let error = bench.backend.acquire(&request("a")).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "no header can hold it: {error:?}");
        assert!(bench.gate.calls().is_empty());
    }
    let bench = bench("hanging", 3600, account).await;
    bench.tokens.hang();
    let error = bench.backend.acquire(&request("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::NetworkTimeout);
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_help_say_why() {
    let dir = TempDir::new("bad-files");
    let files = [
        ("not json canary", Code::InvalidArgument),
        ("{}", Code::InvalidArgument),
        (r#"{"type":"external_account","canary":1}"#, Code::InvalidArgument),
        (r#"{"type":"service_account","client_email":"canary"}"#, Code::InvalidArgument),
        (r#"{"type":"service_account","client_email":"a","private_key":"canary"}"#, Code::InvalidArgument),
        (r#"{"type":"authorized_user","client_id":"canary"}"#, Code::InvalidArgument),
    ];
    for (content, code) in files {
        let path = dir.write("credentials.json", content);
        let error = opened_with(&path).await;
        assert_eq!(error.code(), code, "{content}: {error:?}");
        assert!(
            error.message().contains("credentials.json") || error.message().contains("private_key"),
            "{error}"
        );
        shows_nothing(&error);
    }
    let insecure = account("http://tokens.example.com/");
    let error = opened_with(&dir.write("credentials.json", &insecure)).await;
    assert_eq!(error.code(), Code::InvalidArgument, "secrets never travel in clear: {error:?}");
    let missing = dir.path("missing.json");
    let error = opened_with(missing.to_str().unwrap()).await;
    assert_eq!(error.code(), Code::AuthFailed);
    assert!(error.message().contains("missing.json"), "{error}");
}

async fn opened_with(path: &str) -> Error {
    let facts = [("keyFilename", text(path)), ("projectId", text("p")), ("host", text("localhost:1"))];
    backend_of(&facts, &[]).acquire(&request("a")).await.unwrap_err()
}

#[derive(Debug, Default)]
struct Counting {
    calls: AtomicU32,
    fails: bool,
}

#[async_trait::async_trait]
impl PasswordProvider for Counting {
    async fn password(&self) -> Result<Secret> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fails {
            return Err(Error::new(Code::AuthFailed, "the user's function failed"));
        }
        Ok(Secret::new(format!("canary-{call}")))
    }
}

async fn provided(provider: &Arc<Counting>) -> (Gate, FirestoreBackend) {
    let gate = Gate::to(emulator::shared()).await;
    let project = emulator::project();
    let facts = [("projectId", text(&project)), ("host", text(&gate.host())), ("ssl", Setting::Flag(false))];
    let password = Password::Provider(Arc::<Counting>::clone(provider));
    let config = FirestoreConfig::from_target(Target::Facts(settings(&facts)), settings(&[]), password);
    (gate, FirestoreBackend::new(config.expect("good facts")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_asked_once_and_again_when_its_token_is_refused() {
    let provider = Arc::new(Counting::default());
    let (gate, backend) = provided(&provider).await;
    take(&backend, "a").await;
    take(&backend, "b").await;
    assert_eq!(provider.calls.load(Ordering::SeqCst), 1);
    gate.next(READ, Fault::Refuse(16));
    let error = backend.acquire(&request("c")).await.unwrap_err();
    assert_eq!(error.code(), Code::AuthFailed);
    shows_nothing(&error);
    gate.tokens();
    take(&backend, "c").await;
    assert_eq!(gate.tokens(), ["Bearer canary-2", "Bearer canary-2"]);
    assert!(!format!("{backend:?}").contains("canary"), "{backend:?}");

    let failing = Arc::new(Counting { fails: true, ..Counting::default() });
    let (_gate, backend) = provided(&failing).await;
    assert_eq!(backend.acquire(&request("a")).await.unwrap_err().message(), "the user's function failed");
}

/// Runs `in_child` in a process of its own with this environment, and expects it to succeed.
async fn child(environment: &[(&str, &str)], task: &str) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "auth::in_child", "--ignored", "--nocapture"]).env("TEST_TASK", task);
    for name in [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "GCLOUD_PROJECT",
        "FIRESTORE_EMULATOR_HOST",
        "CLOUDSDK_CONFIG",
        "GCE_METADATA_HOST",
        "SSL_CERT_FILE",
    ] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("it runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    said
}

/// Not a test by itself: what [`child`] runs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by other tests, with an environment of their making"]
async fn in_child() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let host = variable("TEST_HOST");
    match variable("TEST_TASK").as_str() {
        "take" => drop(take(&backend_of(&[("host", text(&host))], &[]), "a").await),
        "url" => {
            let target = Target::Url("firestore://url-project".into());
            let config = FirestoreConfig::from_target(target, settings(&[]), Password::None);
            take(&FirestoreBackend::new(config.unwrap()), &emulator::project()).await;
        }
        "with-credentials" => {
            let facts = [("projectId", text("p")), ("keyFilename", text("none.json"))];
            take(&backend_of(&facts, &[]), &emulator::project()).await;
            let facts = [("projectId", text("p")), ("host", text(&host)), ("token", text("canary"))];
            take(&backend_of(&facts, &[]), &emulator::project()).await;
        }
        "fail" => {
            let error = backend_of(&[("projectId", text("p")), ("host", text(&host))], &[])
                .acquire(&request("a"))
                .await
                .unwrap_err();
            shows_nothing(&error);
            println!("failed with {error}");
        }
        // Without a task it is not meant: somebody runs ignored tests.
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_credentials_are_found_in_order_and_tls_is_checked() {
    let dir = TempDir::new("default");
    let (certificate, tls) = keys::localhost(&dir);
    let gate = Gate::with_tls(emulator::shared(), tls).await;
    let tokens = TokenServer::issuing(3600).await;
    let host = format!("localhost:{}", gate.port);
    let metadata = format!("127.0.0.1:{}", tokens.port);
    let nowhere = format!("127.0.0.1:{}", emulator::free_port());
    let file = dir.write("account.json", &account(&tokens.url()));
    let gcloud = dir.path("gcloud");
    std::fs::create_dir_all(&gcloud).unwrap();
    let empty = dir.path("empty");
    std::fs::create_dir_all(&empty).unwrap();
    std::fs::write(gcloud.join("application_default_credentials.json"), user(&tokens.url())).unwrap();
    let (gcloud, empty) = (gcloud.to_str().unwrap(), empty.to_str().unwrap());
    let base = [("TEST_HOST", host.as_str()), ("SSL_CERT_FILE", certificate.as_str())];
    let with = |more: &[(&'static str, &str)]| {
        base.iter().copied().chain(more.iter().copied()).map(|(n, v)| (n, v.to_owned())).collect::<Vec<_>>()
    };
    let prefix = || gate.last_header("google-cloud-resource-prefix").unwrap_or_default();
    let run = async |environment: Vec<(&str, String)>, task: &str| {
        let environment: Vec<(&str, &str)> = environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        child(&environment, task).await
    };

    run(with(&[("GOOGLE_APPLICATION_CREDENTIALS", &file), ("CLOUDSDK_CONFIG", gcloud)]), "take").await;
    assert_eq!(gate.tokens(), ["Bearer token-1", "Bearer token-1"]);
    assert!(tokens.asked()[0].body.contains("assertion="), "the service account comes first");
    assert_eq!(prefix(), "projects/account-project/databases/(default)");

    run(with(&[("CLOUDSDK_CONFIG", gcloud), ("GOOGLE_CLOUD_PROJECT", "named")]), "take").await;
    assert_eq!(gate.tokens(), ["Bearer token-2", "Bearer token-2"]);
    assert!(tokens.asked()[1].body.contains("refresh_token="), "then the user");
    assert_eq!(prefix(), "projects/named/databases/(default)");

    run(with(&[("CLOUDSDK_CONFIG", empty), ("GCE_METADATA_HOST", &metadata)]), "take").await;
    assert_eq!(gate.tokens(), ["Bearer token-3", "Bearer token-3"]);
    assert_eq!(prefix(), "projects/metadata-project/databases/(default)");
    let asked = tokens.asked();
    let last = asked.last().unwrap();
    assert!(
        last.line.starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token"),
        "{last:?}"
    );
    assert!(asked[2..].iter().all(|asked| asked.headers.contains("metadata-flavor: google")));

    let said = run(with(&[("CLOUDSDK_CONFIG", empty), ("GCE_METADATA_HOST", &nowhere)]), "fail").await;
    assert!(said.contains("failed with AuthFailed: no credentials for Firestore were found"), "{said}");

    // Without the authority nobody trusts the certificate, and no token is sent.
    gate.calls();
    let untrusting = [("TEST_HOST", host.as_str()), ("GOOGLE_APPLICATION_CREDENTIALS", file.as_str())];
    let said = child(&untrusting, "fail").await;
    assert!(said.contains("failed with AuthFailed: the certificate"), "{said}");
    assert!(gate.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emulators_variable_is_honoured_without_credentials() {
    let gate = Gate::to(emulator::shared()).await;
    let variable = ("FIRESTORE_EMULATOR_HOST", gate.host());
    child(&[(variable.0, &variable.1), ("TEST_HOST", &variable.1)], "with-credentials").await;
    assert!(gate.tokens().iter().all(|token| token == "Bearer owner"), "it sees nobody's credentials");
    child(&[(variable.0, &variable.1)], "url").await;
    assert_eq!(gate.tokens(), ["Bearer owner", "Bearer owner"]);
    assert_eq!(
        gate.last_header("google-cloud-resource-prefix").as_deref(),
        Some("projects/url-project/databases/(default)")
    );
}
