//! TLS by URL: one server, sentinels, a cluster; what is not trusted is not connected to.

use std::time::Duration;

use syncguard::backend::{Backend, Owner};
use syncguard::lock::Code;
use syncguard::stores::target::Setting;

use crate::support::redis_server::RedisServer;
use crate::support::{TempDir, free_port};
use crate::targets::make_certificates;
use crate::{assert_done, backend, backend_of, backend_with, request, take, text};

/// A server's arguments for TLS with one of the certificates in its directory.
pub fn tls_args(dir: &TempDir, port: u16, certificate: &str, ask_clients: &str) -> Vec<String> {
    make_certificates(dir);
    let file = |name: String| dir.join(&name);
    [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", file(format!("{certificate}.crt"))),
        ("--tls-key-file", file(format!("{certificate}.key"))),
        ("--tls-ca-cert-file", file("ca.crt".to_owned())),
        ("--tls-auth-clients", ask_clients.to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

async fn assert_untrusted(url: &str) {
    let error = backend(url).acquire(&request("x")).await.expect_err(url);
    assert_eq!((error.code(), error.is_unknown()), (Code::AuthFailed, false), "{url}: {error:?}");
}

#[tokio::test]
async fn a_url_names_the_authority_the_certificate_and_the_server() {
    let port = free_port();
    let server = RedisServer::with(|dir| tls_args(dir, port, "server", "yes"));
    let file = |name: &str| server.dir.join(name);
    let own = format!("cert={}&key={}", file("client.crt"), file("client.key"));
    let ca = format!("ca={}", file("ca.crt"));

    let good = backend(&format!("rediss://localhost:{port}?{ca}&{own}"));
    let lease = take(&good, "a").await;
    assert_done(&good.release(&Owner::from(lease)).await.unwrap());
    take(&backend(&format!("rediss://127.0.0.1:{port}?{ca}&{own}&servername=localhost")), "b").await;

    assert_untrusted(&format!("rediss://127.0.0.1:{port}?{ca}&{own}")).await;
    assert_untrusted(&format!("rediss://localhost:{port}?{ca}&{own}&servername=other")).await;
    assert_untrusted(&format!("rediss://localhost:{port}?{own}")).await;
    assert_untrusted(&format!("rediss://localhost:{port}?ca={}&{own}", file("client.crt"))).await;
    assert_untrusted(&format!("rediss://localhost:{port}?{ca}")).await;
    for (bad, named) in [
        (format!("ca={}&{own}", file("absent.crt")), "ca names the file"),
        (format!("ca={}&{own}", file("client.key")), "ca must hold"),
        (format!("{ca}&cert={}&key={}", file("client.crt"), file("client.crt")), "key must hold"),
        (format!("{ca}&cert={}&key={}", file("client.crt"), file("server.key")), "do not belong together"),
    ] {
        let error = backend(&format!("rediss://localhost:{port}?{bad}")).acquire(&request("x")).await;
        let error = error.expect_err(named);
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().contains(named), "{error}");
    }
}

#[tokio::test]
async fn what_has_expired_or_is_signed_by_itself_is_not_trusted_nor_left_for_plain_text() {
    let ports = [free_port(), free_port()];
    let expired = RedisServer::with(|dir| tls_args(dir, ports[0], "expired", "no"));
    // The authority's own certificate is one that nobody else has signed.
    let selfmade = RedisServer::with(|dir| tls_args(dir, ports[1], "ca", "no"));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_untrusted(&format!("rediss://localhost:{}?ca={}", ports[0], expired.dir.join("ca.crt"))).await;
    assert_untrusted(&format!("rediss://localhost:{}", ports[1])).await;
    let impatient = [("connectTimeoutMs", Setting::Number(300.0))];
    for kind in ["rediss://", "rediss-cluster://"] {
        let url = format!("{kind}localhost:{}?ca={}", selfmade.port, selfmade.dir.join("ca.crt"));
        assert!(backend_with(&url, &impatient).acquire(&request("x")).await.is_err(), "{url}");
    }
}

#[tokio::test]
async fn sentinels_and_servers_have_settings_of_their_own() {
    let (server_port, sentinel_tls_port, sentinel_port) = (free_port(), free_port(), free_port());
    let master = RedisServer::with(|dir| {
        let mut args = tls_args(dir, server_port, "server", "no");
        args.extend(["--requirepass", "of-servers", "--tls-replication", "yes"].map(str::to_owned));
        args
    });
    let dir = TempDir::new();
    let config = dir.join("sentinel.conf");
    let tls: Vec<String> = tls_args(&dir, sentinel_tls_port, "server", "no")
        .chunks(2)
        .map(|pair| format!("{} {}", pair[0].trim_start_matches('-'), pair[1]))
        .collect();
    let lines = [
        format!("sentinel monitor main 127.0.0.1 {server_port} 1"),
        "sentinel auth-pass main of-servers".to_owned(),
        "sentinel down-after-milliseconds main 60000".to_owned(),
        "tls-replication yes".to_owned(),
        "requirepass of-sentinels".to_owned(),
    ];
    std::fs::write(&config, lines.join("\n") + "\n" + &tls.join("\n") + "\n").unwrap();
    let _sentinel = {
        let ca = (dir.join("ca.crt"), master.dir.join("ca.crt"));
        let sentinel = RedisServer::sentinel(sentinel_port, dir, config);
        (sentinel, ca)
    };
    let (sentinel_ca, server_ca) = &_sentinel.1;

    let own = "sentinelPassword=of-sentinels&servername=localhost";
    let (over_tls, plain) = (format!("localhost:{sentinel_tls_port}"), format!("127.0.0.1:{sentinel_port}"));
    let both = format!(
        "rediss-sentinel://:of-servers@{over_tls}/main?ca={server_ca}&sentinelCa={sentinel_ca}&{own}"
    );
    take(&backend(&both), "a").await;
    let only_servers =
        format!("rediss-sentinel://:of-servers@{plain}/main?ca={server_ca}&sentinelTls=false&{own}");
    take(&backend(&only_servers), "b").await;
    let pem = |path: &str| Setting::Bytes(std::fs::read(path).unwrap());
    let facts = [
        ("sentinels", text(&over_tls)),
        ("sentinelName", text("main")),
        ("password", text("of-servers")),
        ("sentinelPassword", text("of-sentinels")),
        ("tls.ca", pem(server_ca)),
        ("tls.servername", text("localhost")),
        ("sentinelTls.ca", pem(sentinel_ca)),
    ];
    take(&backend_of(&facts, &[]), "c").await;

    // The authority of one is not that of the other, and neither is left out.
    assert_untrusted(&both.replace(&format!("sentinelCa={sentinel_ca}"), "sentinelTls=true")).await;
    assert_untrusted(&both.replace(&format!("sentinelCa={sentinel_ca}&"), "")).await;
    assert_untrusted(&both.replace(&format!("ca={server_ca}"), "ca=").replace("ca=&", "")).await;
    assert_untrusted(&both.replace("sentinelPassword=of-sentinels&", "")).await;
    let plain_servers = format!(
        "redis-sentinel://:of-servers@{over_tls}/main?sentinelCa={sentinel_ca}&sentinelPassword=of-sentinels"
    );
    let impatient = [("connectTimeoutMs", Setting::Number(1000.0))];
    assert!(backend_with(&plain_servers, &impatient).acquire(&request("x")).await.is_err());
}

#[tokio::test]
async fn a_cluster_over_tls() {
    let port = free_port();
    let node = RedisServer::with(|dir| {
        let mut args = tls_args(dir, port, "server", "no");
        let bus = free_port().to_string();
        args.extend(
            ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", &bus].map(str::to_owned),
        );
        args
    });
    redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16383).exec(&mut node.client()).unwrap();
    let url =
        format!("rediss-cluster://localhost:{port}?ca={}&servername=localhost", node.dir.join("ca.crt"));
    let backend = backend(&url);
    let start = std::time::Instant::now();
    let lease = loop {
        match backend.acquire(&request("a")).await {
            Ok(acquired) => break crate::granted(acquired),
            Err(error) => {
                assert!(error.is_retryable() && start.elapsed() < Duration::from_secs(10), "{error:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
    assert_untrusted(&format!("rediss-cluster://localhost:{port}")).await;
}
