//! Connections that are gone or hang: what was surely not sent goes out on another one, and none is tried twice.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use syncguard::backend::{AcquireRequest, Backend, BackendExt, Owner, Yield};
use syncguard::engine::{AcquireOptions, Client as Engine, ClientOptions, NoEnvironment};
use syncguard::lock::Code;
use syncguard::stores::postgres::PostgresBackend;
use tokio::time::timeout;

use crate::support::free_port;
use crate::support::postgres_server::PostgresServer;
use crate::support::proxy::Proxy;
use crate::{
    ask, assert_done, backend, backend_with, eventually, granted, key, millis, request, server, take, text,
    ttl,
};

const KILL: &str = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
    WHERE application_name = 'syncguard'";

fn through(proxy: &Proxy) -> String {
    format!("postgres://tester@127.0.0.1:{}/postgres?sslmode=disable", proxy.port)
}

/// Opens every connection of the pool: all of them wait for a table at the same time.
async fn fill(server: &PostgresServer, backend: &Arc<PostgresBackend>) {
    // What a transaction has seen of other sessions does not change for it.
    let (client, looking) = (server.client().await, server.client().await);
    client.batch_execute("BEGIN; LOCK TABLE syncguard_locks IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let filling: Vec<_> = (0..16)
        .map(|n| {
            let backend = Arc::clone(backend);
            tokio::spawn(async move { backend.is_locked(&key(&format!("fill{n}"))).await.unwrap() })
        })
        .collect();
    eventually("all connections are in use", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'syncguard' AND wait_event_type = 'Lock'";
        ask::<i64>(&looking, waiting).await == 4
    })
    .await;
    client.batch_execute("COMMIT").await.unwrap();
    for filled in filling {
        assert!(!filled.await.unwrap());
    }
}

/// One thread for the request and the task that reads the connection, so that the request can come first.
fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn what_finds_its_connection_ended_is_sent_on_another_one() {
    on_one_thread(async {
        let server = server().await;
        let backend = Arc::new(backend(&server.url()));
        let url = server.url();
        for round in 0..12 {
            fill(&server, &backend).await;
            let lease = take(&*backend, &format!("held{round}")).await;
            let owner = Owner::from(lease);
            // While the runtime of the backend sleeps, nobody hears of it.
            let kill_url = url.clone();
            std::thread::spawn(move || {
                on_one_thread(async move {
                    let (client, connection) =
                        tokio_postgres::connect(&kill_url, tokio_postgres::NoTls).await.unwrap();
                    tokio::spawn(connection);
                    assert!(ask::<i64>(&client, KILL).await >= 4, "all connections are ended");
                });
            })
            .join()
            .unwrap();
            match round % 4 {
                0 => assert_done(&backend.extend(&owner, ttl(60_000)).await.expect("an extend goes through")),
                1 => assert_done(&backend.release(&owner).await.expect("a release goes through")),
                2 => drop(take(&*backend, &format!("new{round}")).await),
                _ => assert!(backend.is_locked(&key(&format!("held{round}"))).await.expect("a look")),
            }
            take(&*backend, &format!("next{round}")).await;
        }
    });
}

#[tokio::test]
async fn a_restart_and_a_cut_while_idle_are_not_noticed_by_the_next_request() {
    let server = server().await;
    let proxy = Proxy::to(server.port);
    let backend = Arc::new(backend(&through(&proxy)));
    for round in 0..4 {
        fill(&server, &backend).await;
        let owner = Owner::from(take(&*backend, &format!("held{round}")).await);
        // Idle: while there was traffic a moment ago, a connection does not look before it writes.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if round % 2 == 0 {
            proxy.cut();
        } else {
            server.down("fast");
            // The relay passes the server's end on in its own time; the request must not come before.
            proxy.cut();
            server.up();
        }
        assert_done(&backend.extend(&owner, ttl(60_000)).await.expect("an extend goes through"));
        assert_done(&backend.release(&owner).await.expect("a release goes through"));
        let joined: Vec<_> = (0..20)
            .map(|n| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move { take(&*backend, &format!("joined{round}-{n}")).await })
            })
            .collect();
        for taken in joined {
            taken.await.unwrap();
        }
    }
}

/// How much later than asked a timer of this machine fires, at worst, while `work` runs.
async fn with_delay<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let measuring = tokio::spawn(async move {
        let mut worst = Duration::ZERO;
        let step = Duration::from_millis(5);
        loop {
            let asked = Instant::now();
            if timeout(step, &mut stopped).await.is_ok() {
                return worst;
            }
            worst = worst.max(asked.elapsed().saturating_sub(step));
        }
    });
    let value = work.await;
    drop(stop);
    (value, measuring.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_hang_the_next_calls_find_a_new_connection() {
    let server = server().await;
    for (operation_timeout, joined) in [(300, 1), (300, 40), (1200, 1), (1200, 40)] {
        let proxy = Proxy::to(server.port);
        let limit = Duration::from_millis(operation_timeout);
        let backend = Arc::new(backend_with(
            &through(&proxy),
            &[("operationTimeoutMs", millis(u32::try_from(operation_timeout).unwrap()))],
        ));
        fill(&server, &backend).await;
        let options = ClientOptions { operation_timeout: limit };
        let engine =
            Engine::new(backend, options, Arc::new(NoEnvironment), tokio::runtime::Handle::current());
        proxy.mute();
        let attempt = |name: String| {
            let engine = engine.clone();
            async move {
                let options =
                    AcquireOptions { key: key(&name), ttl: ttl(20_000), keep: None, observer: None };
                engine.acquire(options, None).await
            }
        };
        let hung: Vec<_> = (0..joined)
            .map(|n| tokio::spawn(attempt(format!("hung{operation_timeout}-{joined}-{n}"))))
            .collect();
        for hung in hung {
            assert_eq!(hung.await.unwrap().unwrap_err().code(), Code::NetworkTimeout);
        }
        let since = Instant::now();
        let bound = limit.max(Duration::from_secs(1));
        let (calls, delay) = with_delay(async {
            for call in 1.. {
                let asked = Instant::now();
                if attempt(format!("free{operation_timeout}-{joined}-{call}")).await.is_ok() {
                    return call;
                }
                assert!(asked.elapsed() >= limit / 2, "no call may end early without an answer");
            }
            unreachable!()
        })
        .await;
        let took = since.elapsed();
        assert!(
            took <= bound + delay,
            "operationTimeoutMs {operation_timeout}, {joined} joined: {calls} calls, {took:?}, delay {delay:?}"
        );
    }
}

/// An address that takes no packets: its queue of connections is full.
struct BlackHole {
    port: u16,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl BlackHole {
    fn on(address: &str) -> BlackHole {
        use socket2::{Domain, Socket, Type};
        let address: std::net::SocketAddr = address.parse().unwrap();
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let port = listener.local_addr().unwrap().as_socket().unwrap().port();
        let queued = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&std::net::SocketAddr::new(address.ip(), port).into());
                std::thread::sleep(Duration::from_millis(20));
                socket
            })
            .collect();
        BlackHole { port, _listener: listener, _queued: queued }
    }
}

#[tokio::test]
async fn a_first_host_that_swallows_packets_hides_no_other() {
    let server = server().await;
    let hole = BlackHole::on("127.0.0.1:0");
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    for port in [hole.port, silent] {
        let url = format!("postgres://tester@127.0.0.1:{port},127.0.0.1:{}/postgres", server.port);
        let backend = backend_with(&url, &[("connectTimeoutMs", millis(1000))]);
        let started = Instant::now();
        let (taken, delay) = with_delay(backend.acquire(&request(&format!("k{port}")))).await;
        granted(taken.unwrap());
        assert!(started.elapsed() < Duration::from_millis(1000) + delay, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn of_several_servers_the_one_that_can_write_is_asked() {
    let standby = PostgresServer::start();
    standby.down("fast");
    standby.append("standby.signal", "");
    standby.up();
    let primary = server().await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}", free_port(), standby.port, primary.port);
    let backend = backend(&format!("postgres://tester@{hosts}/postgres"));
    take(&backend, "a").await;
}

#[tokio::test]
async fn a_release_whose_notification_fails_is_applied_all_the_same() {
    let server = server().await;
    let client = server.client().await;
    // As with a full queue: refused by the commit. The function shadows the server's own.
    client
        .batch_execute(
            "CREATE SCHEMA full_queue;
             CREATE TABLE full_queue.told (what text);
             CREATE FUNCTION full_queue.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000'; END $$;
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON full_queue.told DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION full_queue.refuse();
             CREATE FUNCTION full_queue.pg_notify(text, text) RETURNS void LANGUAGE sql AS
                 'INSERT INTO full_queue.told VALUES ($2)'",
        )
        .await
        .unwrap();
    let url = format!("{}?options=-c%20search_path%3Dfull_queue%2Cpg_catalog%2Cpublic", server.url());
    let options = [("schema", text("public"))];
    let waiter = backend_with(&server.url(), &options);
    for (number, pooled) in [(0, ""), (1, "&pgbouncer=true")] {
        let holder = Arc::new(backend_with(&format!("{url}{pooled}"), &options));
        let names: Vec<String> = (0..4).map(|n| format!("k{number}-{n}")).collect();
        let mut watches = Vec::new();
        for name in &names {
            watches.push(waiter.watch(&key(name)).await.unwrap());
        }
        let mut owners = Vec::new();
        for name in &names {
            owners.push(Owner::from(take(&*holder, name).await));
        }
        // Alone, joined with others, and as a hand-over that lets others have their turn.
        assert_done(&holder.release(&owners[0]).await.expect("a release"));
        let both = tokio::join!(holder.release(&owners[1]), holder.release(&owners[2]));
        assert_done(&both.0.expect("a release"));
        assert_done(&both.1.expect("a release"));
        let next: AcquireRequest = request(&names[3]);
        let over = syncguard::backend::HandOver {
            owner: &owners[3],
            next: &next,
            yields: Yield::IfWatched { own: 0 },
        };
        match holder.hand_over(&over).await {
            Ok(handed) => assert_done(&handed.released),
            // Behind a pooler nobody knows who waits, so the lease passes on.
            Err(error) => panic!("a hand-over: {error:?}"),
        }
        for name in &names[..3] {
            assert!(!holder.is_locked(&key(name)).await.unwrap(), "{name} is free");
        }
    }
}
