//! What a target and its options may say.

use syncguard::backend::{Backend, Capabilities, StoreId, TimeAuthority};
use syncguard::lock::{Code, Result};
use syncguard::stores::target::{Password, Secret};
use syncguard::stores::target::{Setting, Target};

use crate::{FirestoreBackend, FirestoreConfig, emulator, request, settings, text};

fn url(url: &str, options: &[(&str, Setting)]) -> Result<FirestoreBackend> {
    FirestoreConfig::from_target(Target::Url(url.into()), settings(options), Password::None)
        .map(FirestoreBackend::new)
}

fn facts(facts: &[(&str, Setting)], password: Password) -> Result<FirestoreBackend> {
    FirestoreConfig::from_target(Target::Facts(settings(facts)), settings(&[]), password)
        .map(FirestoreBackend::new)
}

fn store(backend: Result<FirestoreBackend>) -> StoreId {
    backend.expect("a good target").capabilities().store.clone()
}

#[test]
fn it_says_what_it_can_do() {
    let backend = url("firestore://p", &[]).unwrap();
    let can = backend.capabilities();
    let expected = Capabilities {
        name: "firestore",
        store: can.store.clone(),
        time_authority: TimeAuthority::Client,
        wakes: true,
        hands_over: true,
        event_loop: false,
        repeatable: true,
    };
    assert_eq!(*can, expected);
}

#[test]
fn targets_that_mean_the_same_store_are_called_the_same() {
    let plain = store(url("firestore://some-project", &[]));
    for same in ["firestore://some-project/", "FIRESTORE://some-project/(default)"] {
        assert_eq!(store(url(same, &[])), plain, "{same}");
    }
    assert_eq!(store(facts(&[("projectId", text("some-project"))], Password::None)), plain);
    assert_eq!(store(url("firestore://some-project", &[("collection", text("locks"))])), plain);
    for other in ["firestore://other", "firestore://some-project/second"] {
        assert_ne!(store(url(other, &[])), plain, "{other}");
    }
    assert_ne!(store(url("firestore://some-project", &[("collection", text("other"))])), plain);
    assert!(url("firestore://example.com:project/db-1", &[]).is_ok(), "a project of a domain");
}

#[test]
fn malformed_urls_are_invalid_and_show_no_secret() {
    for bad in [
        "",
        "firestore",
        "firestore:p",
        "firestore://",
        "firestore:///db",
        "http://p",
        "firestore://u:canary@p",
        "firestore://p/db/more",
        "firestore://p?token=canary",
        "firestore://p#canary",
        "firestore://p q",
        "firestore://p/(other)",
        "firestore://p/%28default%29",
    ] {
        let error = url(bad, &[]).expect_err(bad);
        assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
        assert!(!format!("{error:?}{error}").contains("canary"), "{bad}: {error}");
    }
}

#[test]
fn malformed_options_are_invalid_and_named() {
    for (name, value) in [
        ("collection", text("")),
        ("collection", text("a/b")),
        ("collection", text("a//b")),
        ("collection", text("..")),
        ("collection", text("__x__")),
        ("collection", Setting::Number(1.0)),
        ("collection", text("fence_counters")),
        ("fenceCollection", text("locks")),
        ("fenceCollection", text("a/")),
        ("connectTimeoutMs", Setting::Number(0.5)),
        ("cleanupInIsLocked", text("yes")),
        ("colection", text("locks")),
        ("tableName", text("locks")),
    ] {
        let error = url("firestore://p", &[(name, value.clone())]).expect_err(name);
        assert_eq!(error.code(), Code::InvalidArgument, "{name}");
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn malformed_facts_are_invalid_and_show_no_secret() {
    let good = ("projectId", text("p"));
    let bad: [&[(&str, Setting)]; 13] = [
        &[("projectId", text("a b"))],
        &[("projectId", Setting::Number(1.0))],
        &[good.clone(), ("databaseId", text("a/b"))],
        &[good.clone(), ("host", text("http://localhost:1"))],
        &[good.clone(), ("host", text("canary@localhost"))],
        &[good.clone(), ("host", text("localhost:0"))],
        &[good.clone(), ("host", text("localhost:99999"))],
        &[good.clone(), ("ssl", text("yes"))],
        &[good.clone(), ("credentials.client_email", text("canary"))],
        &[good.clone(), ("credentials.private_key", text("canary"))],
        &[good.clone(), ("projectID", text("canary"))],
        // Credentials over an open network.
        &[
            good.clone(),
            ("host", text("example.com")),
            ("ssl", Setting::Flag(false)),
            ("token", text("canary")),
        ],
        // No project, and nobody who could tell.
        &[("host", text("localhost:1")), ("ssl", Setting::Flag(false))],
    ];
    for wrong in bad {
        let error = facts(wrong, Password::None).expect_err(&format!("{wrong:?}"));
        assert_eq!(error.code(), Code::InvalidArgument, "{wrong:?}");
        assert!(!format!("{error:?}{error}").contains("canary"), "{wrong:?}: {error}");
    }
}

#[tokio::test]
async fn secrets_are_never_printed() {
    let facts = [
        ("projectId", text("p")),
        ("host", text("localhost:1")),
        ("credentials.client_email", text("someone")),
        ("credentials.private_key", text("canary")),
    ];
    let config = FirestoreConfig::from_target(Target::Facts(settings(&facts)), settings(&[]), Password::None);
    let config = config.unwrap();
    assert!(!format!("{config:?}").contains("canary"), "{config:?}");
    let error = FirestoreBackend::new(config).acquire(&request("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(!format!("{error:?}{error}").contains("canary"), "{error:?}");
    let token = Password::Fixed(Secret::new("canary"));
    let config =
        FirestoreConfig::from_target(Target::Facts(settings(&facts[..2])), settings(&[]), token).unwrap();
    assert!(!format!("{config:?}").contains("canary"), "{config:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_nothing_was_applied() {
    let host = format!("127.0.0.1:{}", emulator::free_port());
    let backend = crate::backend_at(&host, "p", &[]);
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable, "{error:?}");
    assert!(error.is_retryable() && !error.is_unknown());
    assert!(error.message().contains(&host), "{error}");
}

#[tokio::test]
async fn a_server_that_never_accepts_is_given_up_in_time() {
    // A listener whose queue is full takes no further connection.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let _ = rustix::net::connect(&socket, &address);
        waiting.push(socket);
    }
    let options = [("connectTimeoutMs", Setting::Number(300.0))];
    let backend = crate::backend_at(&address.to_string(), "p", &options);
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::NetworkTimeout, "{error:?}");
    assert!(error.is_retryable() && !error.is_unknown());
}
