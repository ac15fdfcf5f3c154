//! Behind a pooler, which shares sessions between clients: nothing may be left in them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use syncguard::backend::{Backend, Owner};
use syncguard::postgres::PostgresBackend;
use syncguard::settings::Setting;

use crate::support::postgres_server::PostgresServer;
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
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
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
