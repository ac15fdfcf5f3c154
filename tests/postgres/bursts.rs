//! Many requests for one key at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use syncguard::backend::{Acquired, Backend, Mutation, Owner};
use syncguard::engine::{AcquireOptions, Client, ClientOptions, NoEnvironment};
use syncguard::stores::postgres::PostgresBackend;
use tokio::runtime::Handle;

use crate::support::postgres_server::PostgresServer;
use crate::support::proxy::Proxy;
use crate::{backend, config, granted, key, request, take, ttl};

/// A server that logs each statement.
async fn logging() -> PostgresServer {
    let server = PostgresServer::with(|_| vec!["log_statement = all".to_owned()]);
    PostgresBackend::setup_schema(config(&server.url(), &[])).await.expect("the tables can be made");
    server
}

fn statements(server: &PostgresServer) -> usize {
    let log = std::fs::read_to_string(server.dir.join("log")).unwrap();
    log.lines().filter(|line| line.contains("execute ")).count()
}

#[tokio::test]
async fn a_burst_for_one_key_on_a_slow_network_times_out_for_nobody() {
    let server = logging().await;
    let proxy = Proxy::to(server.port);
    let url = server.url().replace(&format!(":{}", server.port), &format!(":{}", proxy.port));
    let backend = Arc::new(backend(&url));
    let client = Client::new(backend, ClientOptions::default(), Arc::new(NoEnvironment), Handle::current());
    let acquire = |name: &str| {
        let options = AcquireOptions { key: key(name), ttl: ttl(30_000), keep: None, observer: None };
        client.acquire(options, None)
    };
    join_all((0..8).map(|i| acquire(["a", "b", "c", "d", "e", "f", "g", "h"][i]))).await;
    proxy.delay(Duration::from_millis(12));
    for name in ["held", "free"] {
        if name == "held" {
            granted(acquire(name).await.unwrap());
        }
        let before = statements(&server);
        let answers = join_all((0..1000).map(|_| acquire(name))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer in time")).collect();
        let won = answers.iter().filter(|answer| matches!(answer, Acquired::Granted(_))).count();
        assert_eq!(won, usize::from(name == "free"));
        for answer in &answers {
            if let Acquired::Held { free_in } = answer {
                let free_in = free_in.unwrap();
                assert!(
                    free_in > Duration::from_secs(20) && free_in <= Duration::from_secs(31),
                    "{free_in:?}"
                );
            }
        }
        let took = statements(&server) - before;
        assert!(took <= 60, "1,000 requests for a key that is {name} took {took} statements");
    }
}

#[tokio::test]
async fn a_lock_id_that_is_repeated_in_a_burst_is_granted_once_and_unchanged() {
    let server = crate::server().await;
    let backend = backend(&server.url());
    let others: Vec<_> = (0..20).map(|i| request(&format!("k{i}"))).collect();
    let first = request("a");
    let rival = request("a");
    let all = others.iter().chain([&first, &rival, &first, &first]);
    let answers = join_all(all.map(|request| backend.acquire(request))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let won = take_won(&answers[20..]);
    assert!(won.windows(2).all(|pair| pair[0] == pair[1]), "{won:?}");
    assert_eq!(won.len(), if won[0].lock_id == first.lock_id { 3 } else { 1 });
    assert_eq!(backend.release(&Owner::from(won[0].clone())).await.unwrap(), Mutation::Done(()));
    take(&backend, "a").await;
}

fn take_won(answers: &[Acquired]) -> Vec<syncguard::lock::Lease> {
    let won = answers.iter().filter(|answer| matches!(answer, Acquired::Granted(_)));
    won.cloned().map(granted).collect()
}
