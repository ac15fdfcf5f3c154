//! What a target and its options may say, and what each of them leads to.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use syncguard::backend::{Backend, Owner, StoreId};
use syncguard::lock::{Code, Error, Result};
use syncguard::stores::redis::{RedisBackend, RedisConfig};
use syncguard::stores::target::{Password, PasswordProvider, Secret};
use syncguard::stores::target::{Setting, Target};

use crate::support::redis_server::RedisServer;
use crate::support::{TempDir, free_port};
use crate::{assert_done, backend, backend_of, request, settings, take, text};

fn url(url: &str, options: &[(&str, Setting)]) -> Result<RedisBackend> {
    RedisConfig::from_target(Target::Url(url.into()), settings(options), Password::None)
        .map(RedisBackend::new)
}

fn facts(facts: &[(&str, Setting)]) -> Result<RedisBackend> {
    RedisConfig::from_target(Target::Facts(settings(facts)), settings(&[]), Password::None)
        .map(RedisBackend::new)
}

fn store(backend: Result<RedisBackend>) -> StoreId {
    backend.unwrap().capabilities().store.clone()
}

#[test]
fn targets_that_mean_the_same_store_are_called_the_same() {
    let plain = store(url("redis://localhost", &[]));
    for same in [
        "redis://LOCALHOST:6379",
        "redis://localhost/0",
        "redis://u:p@localhost/",
        "REDIS://localhost:6379?db=0",
    ] {
        assert_eq!(store(url(same, &[])), plain, "{same}");
    }
    assert_eq!(store(facts(&[("host", text("localhost")), ("port", Setting::Number(6379.0))])), plain);
    assert_eq!(store(url("redis://localhost", &[("keyPrefix", text("syncguard::"))])), plain);
    for other in
        ["redis://localhost/1", "redis://localhost:6380", "redis://otherhost", "redis+unix:///localhost"]
    {
        assert_ne!(store(url(other, &[])), plain, "{other}");
    }
    assert_ne!(store(url("redis://localhost", &[("keyPrefix", text("other"))])), plain);
    assert_eq!(store(url("redis://[::1]:6379", &[])), store(url("redis://[0:0::1]", &[])));
    assert_eq!(
        store(url("redis-sentinel://b:1,a/main", &[])),
        store(facts(&[("sentinels", text("a:26379, B:1")), ("sentinelName", text("main"))]))
    );
    assert_eq!(
        store(url("redis-cluster://b,a:1", &[])),
        store(facts(&[("clusterNodes", text("a:1,b:6379"))]))
    );
    assert_ne!(store(url("redis-cluster://localhost", &[])), plain);
}

#[test]
fn malformed_urls_are_invalid_and_show_no_password() {
    for bad in [
        "",
        "redis",
        "redis:/canary",
        "http://canary@localhost",
        "redis://u:canary@localhost:99999",
        "redis://u:canary@localhost:0",
        "redis://u:canary@localhost:x",
        "redis://u:canary@localhost/x",
        "redis://u:canary@localhost/-1",
        "redis://u:canary@localhost/1/2",
        "redis://u:canary@localhost?db=1&db=2",
        "redis://u:canary@localhost/1?db=1",
        "redis://u:canary@localhost?password=canary",
        "redis://u:canary@[::1",
        "redis://u:canary@[zz]:1",
        "redis://u:canary@a b",
        "redis://u:canary#x@localhost",
        "redis://u:canary%ff@localhost",
        "redis://u:canary@localhost?tls=canary",
        "redis+unix://u:canary@",
        "redis+unix://u:canary@host/path",
        "redis-sentinel://u:canary@a:1",
        "redis-sentinel://u:canary@/main",
        "redis-sentinel://u:canary@a,/main/x",
        "redis-cluster://u:canary@",
        "redis-cluster://u:canary@a:1,b:y",
        "redis-cluster://a/1",
        "redis://u:canary@a?ca=canary",
        "redis-cluster://u:canary@a?servername=b",
        "redis-sentinel://u:canary@a/main?ca=canary",
        "rediss://u:canary@a?ca=",
        "rediss://u:canary@a?ca=x&ca=canary",
        "rediss://u:canary@a?cert=canary",
        "rediss://u:canary@a?key=canary",
        "rediss://u:canary@a?servername=a%20b",
        "rediss://u:canary@a?rejectUnauthorized=canary",
        "rediss://u:canary@a?sentinelPassword=canary",
        "rediss-cluster://u:canary@a?sentinelTls=true",
        "rediss-sentinel://u:canary@a/main?sentinelTls=canary",
        "rediss-sentinel://u:canary@a/main?sentinelTls=false&sentinelCa=canary",
        "rediss+unix:///canary",
    ] {
        let error = url(bad, &[]).expect_err(bad);
        assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
        assert!(!format!("{error:?}{error}").contains("canary"), "{bad}: {error}");
    }
}

#[test]
fn malformed_facts_and_options_are_invalid() {
    for bad in [
        ("port", Setting::Number(0.0)),
        ("port", Setting::Number(65536.0)),
        ("port", Setting::Number(1.5)),
        ("port", text("6379")),
        ("host", Setting::Number(1.0)),
        ("db", Setting::Number(-1.0)),
        ("db", Setting::Number(f64::NAN)),
        ("passwort", text("canary")),
        ("password", Setting::Other("an array".into())),
        ("sentinels", text("")),
        ("sentinels", text("a:x")),
        ("clusterNodes", text("")),
        ("sentinelName", text("x")),
        ("tls", text("yes")),
        ("tls.ca", text("canary")),
        ("tls.cert", text("canary")),
        ("tls.key", text("canary")),
        ("tls.servername", text("a b")),
        ("tls.reject", Setting::Flag(true)),
    ] {
        let error = facts(std::slice::from_ref(&bad)).expect_err(bad.0);
        assert_eq!(error.code(), Code::InvalidArgument, "{}", bad.0);
        assert!(!format!("{error:?}").contains("canary"), "{error}");
    }
    assert!(facts(&[("path", text("/x")), ("sentinels", text("a")), ("sentinelName", text("m"))]).is_err());
    assert!(facts(&[("tls", Setting::Flag(false)), ("tls.servername", text("a"))]).is_err());
    assert!(facts(&[("clusterNodes", text("a")), ("db", Setting::Number(1.0))]).is_err());
    for bad in [
        ("keyPrefix", text("fence")),
        ("keyPrefix", text("a:fence")),
        ("keyPrefix", text("a:fence:")),
        ("keyPrefix", text("fence:b")),
        ("keyPrefix", text(&"x".repeat(990))),
        ("keyPrefix", Setting::Number(1.0)),
        ("cleanupInIsLocked", text("true")),
        ("connectTimeoutMs", Setting::Number(0.5)),
        ("connectTimeoutMs", Setting::Number(0.0)),
        ("fenceRetentionMs", Setting::Number(86_399_999.0)),
        ("tableName", text("x")),
    ] {
        let error = url("redis://localhost", std::slice::from_ref(&bad)).expect_err(bad.0);
        assert_eq!(error.code(), Code::InvalidArgument, "{bad:?}");
        assert!(error.message().contains(bad.0) || error.message().starts_with("Prefix"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic_or_tell_the_password(
        scheme in "redis|rediss|redis\\+unix|redis-sentinel|redis-cluster|\\PC{0,6}",
        rest in "\\PC{0,40}",
        list in "[a-z0-9:,\\[\\]. ]{0,30}",
    ) {
        for url_text in [format!("{scheme}://u:canary@{rest}"), format!("{scheme}://u:canary@{list}/{rest}")] {
            match url(&url_text, &[]) {
                Ok(backend) => assert!(!format!("{backend:?}").contains("canary"), "{url_text}"),
                Err(error) => assert!(!format!("{error:?}").contains("canary"), "{url_text}"),
            }
        }
        let _ = facts(&[("sentinels", text(&list)), ("sentinelName", text("m"))]);
        let _ = facts(&[("clusterNodes", text(&rest))]);
    }
}

#[test]
fn debug_prints_show_no_secret() {
    let config = RedisConfig::from_target(
        Target::Facts(settings(&[
            ("password", text("canary")),
            ("sentinelPassword", text("canary")),
            ("sentinels", text("a")),
            ("sentinelName", text("m")),
        ])),
        settings(&[]),
        Password::Fixed(Secret::new("canary")),
    )
    .unwrap();
    let shown = format!("{config:?} {:?}", RedisBackend::new(config.clone()));
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn a_unix_socket_with_a_database() {
    let server = RedisServer::with(|dir| vec!["--unixsocket".into(), dir.join("r.sock")]);
    let socket = server.dir.join("r.sock");
    let backend_of_url = backend(&format!("redis+unix://{socket}?db=3"));
    let lease = take(&backend_of_url, "a").await;
    let mut client = server.client();
    redis::cmd("SELECT").arg(3).exec(&mut client).unwrap();
    assert!(redis::cmd("EXISTS").arg("syncguard:a").query::<bool>(&mut client).unwrap());
    let same =
        backend_of(&[("path", text(&socket)), ("db", Setting::Number(3.0)), ("clientName", text("me"))], &[]);
    assert_eq!(same.capabilities().store, backend_of_url.capabilities().store);
    assert_done(&same.release(&Owner::from(lease)).await.unwrap());
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut client).unwrap();
    assert!(clients.contains("name=me "), "{clients}");
}

#[derive(Debug)]
struct Counting(AtomicU32, &'static str);

#[async_trait::async_trait]
impl PasswordProvider for Counting {
    async fn password(&self) -> Result<Secret> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            1 => Err(Error::new(Code::AuthFailed, "no token today")),
            _ => Ok(Secret::new(self.1)),
        }
    }
}

#[tokio::test]
async fn a_password_function_is_asked_at_each_connect_and_wins_over_the_url() {
    let server = RedisServer::with(|_| vec!["--requirepass".into(), "token".into()]);
    let provider = Arc::new(Counting(AtomicU32::new(0), "token"));
    let config = RedisConfig::from_target(
        Target::Url(format!("redis://:stale@127.0.0.1:{}", server.port)),
        settings(&[]),
        Password::Provider(provider.clone()),
    );
    let backend = RedisBackend::new(config.unwrap());
    take(&backend, "a").await;
    assert_eq!(provider.0.load(Ordering::SeqCst), 1);
    let mut client = redis::Client::open(format!("redis://:token@127.0.0.1:{}", server.port))
        .unwrap()
        .get_connection()
        .unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes").exec(&mut client).unwrap();
    // The second time it fails, the third time it works: all by the link itself.
    crate::eventually("asked again", async || provider.0.load(Ordering::SeqCst) >= 3).await;
    take(&backend, "b").await;
}

/// An authority, certificates for `localhost` signed by it, and one of them that has expired.
pub fn make_certificates(dir: &TempDir) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(dir.path())
            .output()
            .expect("openssl (Debian, Ubuntu: apt-get install openssl)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "1", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(&[&authority[..], &new_key[..]].concat());
    for (name, days) in [("server", "1"), ("client", "1"), ("expired", "0")] {
        let (key, csr, crt, ext) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"), format!("{name}.ext"));
        openssl(&[&["req", "-subj", "/CN=x", "-keyout", &key, "-out", &csr][..], &new_key[..]].concat());
        std::fs::write(dir.path().join(&ext), "subjectAltName=DNS:localhost\n").unwrap();
        openssl(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            &ext,
            "-out",
            &crt,
        ]);
    }
}

#[tokio::test]
async fn tls_is_verified_unless_told_otherwise() {
    let tls_port = free_port();
    let server = RedisServer::with(|dir| {
        make_certificates(dir);
        let file = |name: &str| dir.join(name);
        [
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &file("server.crt"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.crt"),
            "--tls-auth-clients",
            "yes",
        ]
        .map(str::to_owned)
        .to_vec()
    });
    let pem = |name: &str| Setting::Bytes(std::fs::read(server.dir.path().join(name)).unwrap());
    let port = ("port", Setting::Number(tls_port.into()));
    let (ca, cert, key) =
        (("tls.ca", pem("ca.crt")), ("tls.cert", pem("client.crt")), ("tls.key", pem("client.key")));
    let localhost = ("host", text("localhost"));

    let good = backend_of(&[port.clone(), localhost.clone(), ca.clone(), cert.clone(), key.clone()], &[]);
    let lease = take(&good, "a").await;
    let watch = good.watch(&crate::key("a")).await.unwrap();
    assert_done(&good.release(&Owner::from(lease)).await.unwrap());
    watch.hint().await;
    // By address, but checked against the name that was given.
    let named = backend_of(
        &[port.clone(), ca.clone(), cert.clone(), key.clone(), ("tls.servername", text("localhost"))],
        &[],
    );
    take(&named, "b").await;
    let careless = backend_of(
        &[port.clone(), cert.clone(), key.clone(), ("tls.rejectUnauthorized", Setting::Flag(false))],
        &[],
    );
    take(&careless, "c").await;

    for (bad, why) in [
        (backend_of(&[port.clone(), ca.clone(), cert.clone(), key.clone()], &[]), "not for 127.0.0.1"),
        (backend_of(&[port.clone(), localhost.clone(), cert, key], &[]), "unknown authority"),
        (backend(&format!("rediss://localhost:{tls_port}")), "unknown authority"),
        (backend_of(&[port.clone(), localhost.clone(), ca.clone()], &[]), "no client certificate"),
    ] {
        let error = bad.acquire(&request("x")).await.expect_err(why);
        assert_eq!((error.code(), error.is_unknown()), (Code::AuthFailed, false), "{why}: {error:?}");
    }
    // Plain text to a TLS port and TLS to a plain port fail, and are never downgraded.
    assert!(backend(&format!("redis://localhost:{tls_port}")).acquire(&request("x")).await.is_err());
    let impatient = [("connectTimeoutMs", Setting::Number(300.0))];
    let upgrade = crate::backend_with(&format!("rediss://localhost:{}", server.port), &impatient);
    assert!(upgrade.acquire(&request("x")).await.is_err());
}
