//! Behind a pooler, which shares sessions between clients: nothing may be left in them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use syncguard::backend::{Backend, BackendExt, HandOver, LookupBy, Owner, Yield};
use syncguard::engine::Wait;
use syncguard::stores::postgres::PostgresBackend;
use syncguard::stores::target::Setting;

use crate::support::postgres_server::PostgresServer;
use crate::support::turns::{Turns, every, often};
use crate::support::{TempDir, free_port, needs};
use crate::{ask, assert_done, assert_held, backend, backend_with, key, request, server, take, ttl};

/// A relay that announces another process id than the server's, as every pooler does.
fn relay(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
            let (mut to_server, mut from_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            std::thread::spawn(move || answer(server, client));
        }
    });
    port
}

fn answer(mut server: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        server.read_exact(&mut body)?;
        if head[0] == b'K' {
            body[..4].copy_from_slice(&7i32.to_be_bytes());
        }
        client.write_all(&head)?;
        client.write_all(&body)?;
    }
}

/// Statements that are prepared, listened channels and settings of our sessions, as they see them.
async fn leftovers(server: &PostgresServer) -> String {
    let client = server.client().await;
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS seen (what text);
             CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen SELECT concat_ws(' ',
                     (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()),
                     current_setting('transaction_isolation'), current_setting('statement_timeout'));
                 RETURN NEW; END $$;
             CREATE OR REPLACE TRIGGER see BEFORE INSERT ON syncguard_locks FOR EACH ROW EXECUTE FUNCTION see()",
        )
        .await
        .unwrap();
    "SELECT max(what) FROM seen".to_owned()
}

#[tokio::test]
async fn a_pooler_is_detected_and_nothing_is_left_in_its_sessions() {
    let server = server().await;
    let url = format!("postgres://tester@127.0.0.1:{}/postgres?sslmode=disable", relay(server.port));
    let seen = leftovers(&server).await;
    let client = server.client().await;
    for (number, backend) in [
        backend(&url),
        backend_with(&server.url(), &[("pgbouncer", Setting::Flag(true))]),
        backend(&format!("{}?pgbouncer=true", server.url())),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("k{number}");
        let lease = take(backend, &name).await;
        let lease_again = take(backend, &format!("other{number}")).await;
        assert_done(&backend.release(&Owner::from(lease_again)).await.unwrap());
        assert_held(&backend.acquire(&request(&name)).await.unwrap());
        assert!(backend.is_locked(&key(&name)).await.unwrap());
        assert_done(&backend.extend(&Owner::from(lease.clone()), ttl(1000)).await.unwrap());
        let watch = backend.watch(&key(&name)).await.unwrap();
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        drop(watch);
        assert_eq!(ask::<String>(&client, &seen).await, "0 0 read committed 5s");
    }
    // The same seen by a backend without anything in between.
    take(&backend(&server.url()), "direct").await;
    assert_eq!(ask::<String>(&client, &seen).await, "1 0 read committed 5s");
}

struct PgBouncer {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl PgBouncer {
    fn start(server: &PostgresServer) -> PgBouncer {
        let program = needs::program("pgbouncer", "pgbouncer");
        let (dir, port) = (TempDir::new(), free_port());
        crate::support::postgres_server::give_away(&dir);
        std::fs::write(dir.path().join("users"), "\"tester\" \"\"\n").unwrap();
        let ini = format!(
            "[databases]\npostgres = host=127.0.0.1 port={0} dbname=postgres\n\
             single = host=127.0.0.1 port={0} dbname=postgres pool_size=1\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\nauth_file = {dir}/users\npool_mode = transaction\n\
             default_pool_size = 3\nunix_socket_dir =\nlogfile = {dir}/log\nuser = nobody\n",
            server.port,
            dir = dir.path().display()
        );
        let ini = ini.replace("auth_type = any", "auth_type = trust");
        std::fs::write(dir.path().join("ini"), ini).unwrap();
        let child = Command::new(&program)
            .arg(dir.join("ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it can be started");
        let bouncer = PgBouncer { child, port, _dir: dir };
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return bouncer;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("pgbouncer does not start");
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn two_processes_share_sessions_of_pgbouncer() {
    if !needs::run_with("pgbouncer") {
        return;
    }
    let server = server().await;
    let bouncer = PgBouncer::start(&server);
    let url = format!("postgres://tester@127.0.0.1:{}/postgres", bouncer.port);
    PostgresBackend::setup_schema(crate::config(&url, &[])).await.unwrap();
    let backends = [Arc::new(backend(&url)), Arc::new(backend(&url))];
    let workers: Vec<_> = (0..16)
        .map(|n| {
            let backend = Arc::clone(&backends[n % 2]);
            tokio::spawn(async move {
                for _ in 0..40 {
                    let lease = take(&*backend, &format!("k{n}")).await;
                    assert_done(&backend.extend(&Owner::from(lease.clone()), ttl(60_000)).await.unwrap());
                    assert_held(&backend.acquire(&request(&format!("k{n}"))).await.unwrap());
                    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

/// What another client of the pool finds in its session: all that a `SET` has left, but for what the pooler itself
/// sets for each client; and statements, channels and locks.
const LEFT: &str = "SELECT concat_ws(' ',
    (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
     WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
         'standard_conforming_strings')),
    current_setting('synchronous_commit'),
    (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'))";

/// A second client of a pool that has one session.
struct Neighbour(tokio_postgres::Client);

impl Neighbour {
    async fn of(bouncer: &PgBouncer) -> Neighbour {
        let config = format!("host=127.0.0.1 port={} user=tester dbname=single", bouncer.port);
        let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        Neighbour(client)
    }

    async fn finds_nothing(&self, after: &str) {
        let messages = self.0.simple_query(LEFT).await.unwrap();
        let row = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(row, Some("off 0 0 0"), "after {after}");
    }
}

#[tokio::test]
async fn another_client_of_the_pool_finds_nothing_of_ours() {
    if !needs::run_with("pgbouncer") {
        return;
    }
    let server = PostgresServer::start();
    let client = server.client().await;
    // What the pool's sessions have of their own must stay, also while our transactions are safer.
    client.batch_execute("ALTER ROLE tester SET synchronous_commit = off").await.unwrap();
    let bouncer = PgBouncer::start(&server);
    let neighbour = Neighbour::of(&bouncer).await;
    neighbour.finds_nothing("nothing").await;
    let url = format!("postgres://tester@127.0.0.1:{}/single", bouncer.port);
    // The first contact, which can't know yet what it meets.
    backend(&url).lookup(LookupBy::Key(&key("a"))).await.unwrap_err();
    neighbour.finds_nothing("a first contact").await;
    PostgresBackend::setup_schema(crate::config(&url, &[])).await.unwrap();
    neighbour.finds_nothing("setupSchema").await;
    let watch = backend(&url).watch(&key("a")).await.unwrap();
    neighbour.finds_nothing("a watch as the first contact").await;
    drop(watch);

    client
        .batch_execute(
            "CREATE TABLE seen (durable text);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
             CREATE TRIGGER see BEFORE INSERT OR UPDATE ON syncguard_locks FOR EACH ROW EXECUTE FUNCTION see()",
        )
        .await
        .unwrap();
    let backend = backend_with(&url, &[("cleanupInIsLocked", Setting::Flag(true))]);
    let lease = take(&backend, "a").await;
    neighbour.finds_nothing("an acquire").await;
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    neighbour.finds_nothing("a refused acquire").await;
    let owner = Owner::from(lease);
    assert_done(&backend.extend(&owner, ttl(60_000)).await.unwrap());
    assert_done(backend.extend_many(&[(owner.clone(), ttl(60_000))]).await[0].as_ref().unwrap());
    neighbour.finds_nothing("extends").await;
    let watch = backend.watch(&key("a")).await.unwrap();
    neighbour.finds_nothing("a watch").await;
    let mut owner = owner;
    for yields in [Yield::Never, Yield::IfWatched { own: 0 }] {
        let next = request("a");
        let handed = backend.hand_over(&HandOver { owner: &owner, next: &next, yields }).await.unwrap();
        assert!(handed.next.is_some());
        owner = Owner::from(next.lock_id);
        neighbour.finds_nothing("a hand-over").await;
    }
    drop(watch);
    assert!(backend.lookup(LookupBy::LockId(&owner.lock_id)).await.unwrap().is_some());
    assert!(backend.is_locked(&key("a")).await.unwrap());
    neighbour.finds_nothing("looks").await;
    assert_done(&backend.release(&owner).await.unwrap());
    neighbour.finds_nothing("a release").await;

    let old = request("old");
    backend.acquire(&old).await.unwrap();
    client.batch_execute("UPDATE syncguard_locks SET expires_at_ms = acquired_at_ms - 60000").await.unwrap();
    assert!(!backend.is_locked(&key("old")).await.unwrap());
    crate::eventually("the clean-up is done", async || {
        ask::<i64>(&client, "SELECT count(*) FROM syncguard_locks").await == 0
    })
    .await;
    neighbour.finds_nothing("the clean-up").await;
    let backend = Arc::new(backend);
    let joined: Vec<_> = (0..20)
        .map(|n| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move {
                let lease = take(&*backend, &format!("k{n}")).await;
                if n % 2 == 0 {
                    // A caller who leaves while its request is under way.
                    let owner = Owner::from(lease);
                    let gone = backend.release(&owner);
                    let _ = tokio::time::timeout(Duration::from_micros(n * 20), gone).await;
                }
            })
        })
        .collect();
    for request in joined {
        request.await.unwrap();
    }
    neighbour.finds_nothing("joined requests").await;
    let unsafe_writes: i64 = ask(&client, "SELECT count(*) FROM seen WHERE durable <> 'on'").await;
    assert_eq!(unsafe_writes, 0, "no commit of ours may be forgotten by a crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_polls_gets_its_turns_behind_pgbouncer() {
    if !needs::run_with("pgbouncer") {
        return;
    }
    let server = server().await;
    let bouncer = PgBouncer::start(&server);
    let url = format!("postgres://tester@127.0.0.1:{}/postgres", bouncer.port);
    PostgresBackend::setup_schema(crate::config(&url, &[])).await.unwrap();
    let turns = Turns::of_crowd(Arc::new(backend(&url)));
    turns.beside(Arc::new(backend(&url)), often(Wait::Poll)).are_shared().await;
}

/// Who sits behind a pooler hears nobody, but is asked to let those come who listen.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_listens_gets_its_turns_beside_one_behind_pgbouncer() {
    if !needs::run_with("pgbouncer") {
        return;
    }
    let server = server().await;
    let bouncer = PgBouncer::start(&server);
    let url = format!("postgres://tester@127.0.0.1:{}/postgres", bouncer.port);
    PostgresBackend::setup_schema(crate::config(&url, &[])).await.unwrap();
    let turns = Turns::of_crowd(Arc::new(backend(&url)));
    let patient = every(Duration::from_secs(20), Wait::Notify);
    turns.beside(Arc::new(backend(&server.url())), patient).are_shared().await;
}
