//! What a target may say, and where it leads.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use syncguard::backend::{Backend, Owner};
use syncguard::lock::{Code, Outcome, Result};
use syncguard::stores::postgres::{PostgresBackend, PostgresConfig};
use syncguard::stores::target::{Password, PasswordProvider, Secret};
use syncguard::stores::target::{Setting, Target};

use crate::support::postgres_server::{PostgresServer, hand_file};
use crate::support::{TempDir, free_port};
use crate::{
    ask, assert_done, assert_is, backend, backend_with, config, request, server, settings, take, text,
};

fn of_facts(facts: &[(&str, Setting)]) -> Result<PostgresConfig> {
    PostgresConfig::from_target(Target::Facts(settings(facts)), settings(&[]), Password::None)
}

fn backend_of(facts: &[(&str, Setting)]) -> PostgresBackend {
    PostgresBackend::new(of_facts(facts).expect("good facts"))
}

fn refused(target: Target) -> String {
    let error = PostgresConfig::from_target(target, settings(&[]), Password::None).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    error.message().to_owned()
}

#[tokio::test]
async fn urls_and_facts_of_every_form_lead_to_the_same_locks() {
    let server = server().await;
    let client = server.client().await;
    let (port, dir) = (server.port, server.dir.path().to_str().unwrap().to_owned());
    let encoded = dir.replace('/', "%2F");
    take(&backend(&server.url()), "a").await;
    let user = ("user", text("tester"));
    let database = ("database", text("postgres"));
    let number = ("port", Setting::Number(port.into()));
    let forms = [
        backend(&format!("postgresql://tester@localhost:{port}/postgres?sslmode=disable&connect_timeout=3")),
        backend(&format!("postgres://tester@{encoded}:{port}/postgres")),
        backend(&format!("postgres:///postgres?host={dir}&port={port}&user=tester")),
        backend(&format!("postgres://tester@127.0.0.1:{},localhost:{port}/postgres", free_port())),
        backend(&format!("postgres://tester@nowhere.invalid:{port}/postgres?hostaddr=127.0.0.1")),
        backend(&format!(
            "postgres://tester@127.0.0.1:{port}/postgres?options=-c%20search_path%3Dpublic&application_name=me"
        )),
        backend_of(&[
            ("host", text("127.0.0.1")),
            number.clone(),
            user.clone(),
            database.clone(),
            ("ssl", Setting::Flag(false)),
        ]),
        backend_of(&[("host", text(&dir)), number.clone(), ("username", text("tester")), database.clone()]),
        backend_of(&[("path", text(&format!("{dir}/.s.PGSQL.{port}"))), user.clone(), database.clone()]),
        backend_of(&[
            ("host", text(&format!("127.0.0.1:{},127.0.0.1:{port}", free_port()))),
            user.clone(),
            database.clone(),
            ("targetSessionAttrs", text("read-write")),
            ("applicationName", text("me")),
            ("options", text("-c search_path=public")),
        ]),
    ];
    for (number, backend) in forms.iter().enumerate() {
        let answer = backend.acquire(&request("a")).await;
        crate::assert_held(&answer.unwrap_or_else(|error| panic!("form {number}: {error:?}")));
    }
    let named: i64 =
        ask(&client, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'me'").await;
    assert_eq!(named, 2);
}

#[test]
fn what_is_malformed_is_refused_without_showing_it() {
    for (url, named) in [
        ("mysql://canary@localhost", "scheme"),
        ("postgres:canary", "://"),
        ("postgres://canary:canary@localhost:port/db", "port"),
        ("postgres://canary@localhost:0/db", "port"),
        ("postgres://canary@localhost:65536/db", "port"),
        ("postgres://canary@[::1/db", "]"),
        ("postgres://canary@a,b/db?port=1,2,3", "port"),
        ("postgres://localhost/db?password=canary#canary", "fragment"),
        ("postgres://localhost/db?canari=canary", "canari"),
        ("postgres://localhost/%FF", "database"),
        ("postgres://localhost/db?sslmode=full", "sslmode"),
        ("postgres://localhost/db?target_session_attrs=any-thing", "target_session_attrs"),
        ("postgres://localhost/db?sslcert=only", "key"),
        ("postgres://localhost/db?connect_timeout=soon", "connect_timeout"),
        ("postgres://localhost/db?gssencmode=require", "gssencmode"),
    ] {
        let message = refused(Target::Url(url.to_owned()));
        assert!(message.contains(named) && !message.contains("canary"), "{url}: {message}");
    }
    for (facts, named) in [
        (vec![("hots", text("x"))], "hots"),
        (vec![("port", Setting::Number(1.5))], "port"),
        (vec![("port", text("5432"))], "port"),
        (vec![("password", Setting::Other("a function".into()))], "password"),
        (vec![("ssl", Setting::Flag(false)), ("tls.ca", text("canary"))], "ssl"),
        (vec![("sslmode", text("prefer")), ("tls.ca", text("canary"))], "sslmode"),
        (vec![("tls.cert", text("canary"))], "key"),
        (vec![("tls.servername", text("not a name"))], "tls.servername"),
    ] {
        let message = refused(Target::Facts(settings(&facts)));
        assert!(message.contains(named) && !message.contains("canary"), "{message}");
    }
}

#[tokio::test]
async fn different_targets_are_different_stores() {
    let store =
        |url: &str, options: &[(&str, Setting)]| backend_with(url, options).capabilities().store.clone();
    let url = "postgres://me:canary@localhost/db";
    assert_eq!(store(url, &[]), store("postgresql://me@localhost:5432/db", &[]));
    assert!(!format!("{:?}", store(url, &[])).contains("canary"));
    for other in [
        store("postgres://me@localhost:5433/db", &[]),
        store("postgres://me@elsewhere/db", &[]),
        store("postgres://me@localhost/db?hostaddr=127.0.0.1", &[]),
        store("postgres://me@localhost/db?hostaddr=127.0.0.2", &[]),
        store("postgres://me@localhost/other", &[]),
        store("postgres://you@localhost/db", &[]),
        store(url, &[("tableName", text("other"))]),
        store(url, &[("fenceTableName", text("other"))]),
        store(url, &[("schema", text("other"))]),
    ] {
        assert_ne!(store(url, &[]), other);
    }
}

#[derive(Debug)]
struct Rotating(AtomicUsize);

#[async_trait]
impl PasswordProvider for Rotating {
    async fn password(&self) -> Result<Secret> {
        Ok(Secret::new(format!("password {}", self.0.fetch_add(1, Ordering::SeqCst))))
    }
}

#[tokio::test]
async fn a_password_function_is_asked_at_each_connect() {
    let server = server().await;
    let client = server.client().await;
    client
        .batch_execute("CREATE ROLE locker LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO locker")
        .await
        .unwrap();
    let hba = std::fs::read_to_string(server.data("pg_hba.conf")).unwrap();
    let hba = format!("host all locker all scram-sha-256\n{hba}");
    std::fs::write(server.data("pg_hba.conf"), hba).unwrap();
    server.reload();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let provider = Arc::new(Rotating(AtomicUsize::new(0)));
    let target = Target::Url(format!("postgres://locker:ignored@127.0.0.1:{}/postgres", server.port));
    let one = settings(&[("poolSize", Setting::Number(1.0))]);
    let config = PostgresConfig::from_target(target, one, Password::Provider(provider.clone())).unwrap();
    let backend = PostgresBackend::new(config);
    for number in 0..3 {
        client.batch_execute(&format!("ALTER ROLE locker PASSWORD 'password {number}'")).await.unwrap();
        take(&backend, &format!("k{number}")).await;
        let kill =
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'locker'";
        assert_eq!(ask::<i64>(&client, kill).await, 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(provider.0.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_server_that_can_write_is_found_among_several() {
    let reader = PostgresServer::with(|_| vec!["default_transaction_read_only = on".to_owned()]);
    let standby = PostgresServer::start();
    standby.down("fast");
    standby.append("standby.signal", "");
    standby.up();
    let primary = server().await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}", reader.port, standby.port, primary.port);
    let url = |attrs: &str| format!("postgres://tester@{hosts}/postgres?target_session_attrs={attrs}");
    take(&backend(&url("read-write")), "a").await;
    let error = backend(&url("any")).acquire(&request("b")).await.unwrap_err();
    // The reader has no tables, either; both answers tell what to do.
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    let only = format!("postgres://tester@127.0.0.1:{}/postgres?target_session_attrs=primary", standby.port);
    let error = backend(&only).acquire(&request("b")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    assert!(error.message().contains("target_session_attrs"), "{error:?}");
}

/// An authority, a server's certificate for `localhost`, one that expired, and a client's.
fn make_certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(dir)
            .output()
            .expect("openssl (Debian, Ubuntu: apt-get install openssl)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "1", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(&[&authority[..], &new_key[..]].concat());
    std::fs::write(dir.join("ext"), "subjectAltName=DNS:localhost\n").unwrap();
    std::fs::write(dir.join("index"), "").unwrap();
    let conf = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n";
    std::fs::write(dir.join("ca.conf"), conf).unwrap();
    for (name, start, end) in [
        ("server", "20200101000000Z", "20990101000000Z"),
        ("expired", "20200101000000Z", "20200102000000Z"),
        ("client", "20200101000000Z", "20990101000000Z"),
    ] {
        let (key, csr, crt) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        openssl(&[&["req", "-subj", "/CN=tester", "-keyout", &key, "-out", &csr][..], &new_key[..]].concat());
        let sign = ["ca", "-batch", "-notext", "-config", "ca.conf", "-cert", "ca.crt", "-keyfile", "ca.key"];
        let what = ["-extfile", "ext", "-in", &csr, "-out", &crt, "-startdate", start, "-enddate", end];
        openssl(&[&sign[..], &what[..]].concat());
    }
}

fn with_tls(certificates: &TempDir, certificate: &str) -> PostgresServer {
    make_certificates(certificates.path());
    let server = PostgresServer::with(|dir| {
        for file in ["crt", "key"] {
            let copy = dir.join(&format!("server.{file}"));
            std::fs::copy(certificates.join(&format!("{certificate}.{file}")), &copy).unwrap();
            hand_file(&copy);
        }
        let authority = dir.join("ca.crt");
        std::fs::copy(certificates.join("ca.crt"), &authority).unwrap();
        hand_file(&authority);
        let file = |name: &str| dir.join(name);
        vec![
            "ssl = on".to_owned(),
            format!("ssl_cert_file = '{}'", file("server.crt")),
            format!("ssl_key_file = '{}'", file("server.key")),
            format!("ssl_ca_file = '{}'", file("ca.crt")),
        ]
    });
    std::fs::write(server.data("pg_hba.conf"), "hostssl all all all trust\nlocal all all trust\n").unwrap();
    server.reload();
    server
}

/// Through the socket, where TLS plays no part.
async fn set_up(server: &PostgresServer) {
    let url = format!(
        "postgres://tester@localhost/postgres?host={}&port={}",
        server.dir.path().display(),
        server.port
    );
    for _ in 0..100 {
        if PostgresBackend::setup_schema(config(&url, &[])).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the tables can't be made");
}

#[tokio::test]
async fn tls_is_as_strong_as_the_mode_says() {
    let certificates = TempDir::new();
    let server = with_tls(&certificates, "server");
    set_up(&server).await;
    let (ca, cert, key) =
        (certificates.join("ca.crt"), certificates.join("client.crt"), certificates.join("client.key"));
    let url = |host: &str, rest: &str| format!("postgres://tester@{host}:{}/postgres?{rest}", server.port);
    for (number, rest) in [
        "sslmode=require".to_owned(),
        "sslmode=prefer".to_owned(),
        String::new(),
        format!("sslmode=verify-ca&sslrootcert={ca}"),
        format!("sslmode=verify-full&sslrootcert={ca}"),
        format!("sslmode=require&sslrootcert={ca}&ssl_min_protocol_version=TLSv1.3&sslsni=0"),
        format!("sslmode=verify-full&sslrootcert={ca}&sslcert={cert}&sslkey={key}"),
    ]
    .iter()
    .enumerate()
    {
        take(&backend(&url("localhost", rest)), &format!("k{number}")).await;
    }
    // The address is in no certificate.
    take(&backend(&url("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={ca}"))), "by address").await;
    let client = server_session(&server).await;
    let plain: i64 = ask(
        &client,
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'syncguard' AND NOT ssl",
    )
    .await;
    assert_eq!(plain, 0);

    for (host, rest, why) in [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}"), "wrong name"),
        ("localhost", "sslmode=verify-full".to_owned(), "unknown authority"),
        ("localhost", "sslmode=verify-ca".to_owned(), "unknown authority"),
        ("localhost", "ssl=true".to_owned(), "unknown authority"),
        ("localhost", "sslrootcert=system".to_owned(), "unknown authority"),
        ("localhost", format!("sslmode=require&sslrootcert={cert}"), "another authority"),
        ("localhost", "sslmode=disable".to_owned(), "the server wants TLS"),
    ] {
        let error = backend(&url(host, &rest)).acquire(&request("x")).await.expect_err(why);
        assert_is(&error, Code::AuthFailed, false, Outcome::NotApplied);
    }
    let lost = backend(&url("localhost", "sslmode=verify-full&sslrootcert=/nowhere/ca.crt"));
    let error = lost.acquire(&request("x")).await.unwrap_err();
    assert_is(&error, Code::InvalidArgument, false, Outcome::NotApplied);

    let pem = |path: &str| Setting::Bytes(std::fs::read(path).unwrap());
    let facts = |host: &str, more: &[(&'static str, Setting)]| {
        let mut facts = vec![
            ("host", text(host)),
            ("port", Setting::Number(server.port.into())),
            ("user", text("tester")),
            ("database", text("postgres")),
        ];
        facts.extend(more.iter().cloned());
        backend_of(&facts)
    };
    let lease = take(&facts("localhost", &[("tls.ca", pem(&ca))]), "facts").await;
    let named = facts(
        "127.0.0.1",
        &[("ssl", Setting::Flag(true)), ("tls.ca", pem(&ca)), ("tls.servername", text("localhost"))],
    );
    assert_done(&named.release(&Owner::from(lease)).await.unwrap());
    take(&facts("localhost", &[("tls.rejectUnauthorized", Setting::Flag(false))]), "careless").await;
    take(&facts("localhost", &[("ssl", text("require"))]), "encrypted").await;
    for more in [vec![("ssl", Setting::Flag(true))], vec![("ssl", text("verify-full"))]] {
        let error = facts("localhost", &more).acquire(&request("x")).await.unwrap_err();
        assert_is(&error, Code::AuthFailed, false, Outcome::NotApplied);
    }

    // From now on only with a client's certificate.
    std::fs::write(server.data("pg_hba.conf"), "hostssl all all all cert\nlocal all all trust\n").unwrap();
    server.reload();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let error = backend(&url("localhost", "sslmode=require")).acquire(&request("x")).await.unwrap_err();
    assert_is(&error, Code::AuthFailed, false, Outcome::NotApplied);
    take(
        &backend(&url(
            "localhost",
            &format!("sslmode=verify-full&sslrootcert={ca}&sslcert={cert}&sslkey={key}"),
        )),
        "certified",
    )
    .await;
}

/// A session of the test's own, through the socket.
async fn server_session(server: &PostgresServer) -> tokio_postgres::Client {
    let config =
        format!("host={} port={} user=tester dbname=postgres", server.dir.path().display(), server.port);
    let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn an_expired_certificate_is_not_trusted() {
    let certificates = TempDir::new();
    let server = with_tls(&certificates, "expired");
    let ca = certificates.join("ca.crt");
    for mode in ["verify-ca", "verify-full"] {
        let url =
            format!("postgres://tester@localhost:{}/postgres?sslmode={mode}&sslrootcert={ca}", server.port);
        let error = backend(&url).acquire(&request("x")).await.unwrap_err();
        assert_is(&error, Code::AuthFailed, false, Outcome::NotApplied);
    }
}

#[tokio::test]
async fn tls_that_the_server_lacks_is_not_done_without() {
    let server = server().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let error =
            backend(&format!("{}?sslmode={mode}", server.url())).acquire(&request("x")).await.unwrap_err();
        assert_eq!(
            (error.code(), error.is_unknown()),
            (Code::ServiceUnavailable, false),
            "{mode}: {error:?}"
        );
        assert!(error.message().contains("TLS"), "{error:?}");
    }
    take(&backend(&format!("{}?sslmode=prefer", server.url())), "a").await;
}
