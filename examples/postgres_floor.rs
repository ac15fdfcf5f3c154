//! Cycles of acquire and release against the floor: a hand-written pair of prepared single statements on as
//! many connections, and PostgreSQL's own session-level `pg_try_advisory_lock`. All in one run, in turns.
//!
//! `cargo run --release --example postgres_floor -- postgres://user@host:port/database [seconds]`
//! Makes tables named `bench_…` in that database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use syncguard::backend::{AcquireRequest, Acquired, Backend, Owner};
use syncguard::lock::{Key, LockId, Ttl};
use syncguard::stores::postgres::{PostgresBackend, PostgresConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Settings, Target};
use tokio_postgres::{Client, NoTls, Statement};

type Error = Box<dyn std::error::Error + Send + Sync>;

const CONNECTIONS: usize = 4;
const ROUNDS: usize = 3;

const FLOOR_ACQUIRE: &str =
    "WITH clock AS (SELECT floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms)
    INSERT INTO bench_floor AS l SELECT $1, $2, now_ms + 30000, now_ms, '000000000000001', $1 FROM clock
    ON CONFLICT (key) DO UPDATE SET lock_id = excluded.lock_id, expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms, fence = excluded.fence
    WHERE l.expires_at_ms <= excluded.acquired_at_ms - 1000 RETURNING expires_at_ms";
/// The same with a fence, which the lock above is worth little without.
const FENCED_ACQUIRE: &str =
    "WITH clock AS (SELECT floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms),
    minted AS (INSERT INTO bench_floor_fences AS f VALUES ('fence:' || $1, 1)
        ON CONFLICT (fence_key) DO UPDATE SET fence = f.fence + 1 RETURNING fence)
    INSERT INTO bench_floor AS l
    SELECT $1, $2, now_ms + 30000, now_ms, lpad(minted.fence::text, 15, '0'), $1 FROM clock, minted
    ON CONFLICT (key) DO UPDATE SET lock_id = excluded.lock_id, expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms, fence = excluded.fence
    WHERE l.expires_at_ms <= excluded.acquired_at_ms - 1000 RETURNING expires_at_ms";
const FLOOR_RELEASE: &str = "DELETE FROM bench_floor WHERE lock_id = $1";

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("give the URL of a database")?;
    let time = Duration::from_secs_f64(args.next().map_or(Ok(2.0), |text| text.parse())?);

    let setup = connect(&url).await?;
    setup
        .batch_execute(
            "DROP TABLE IF EXISTS bench_floor, bench_floor_fences;
             CREATE TABLE bench_floor (key text PRIMARY KEY, lock_id text NOT NULL, expires_at_ms bigint NOT NULL,
                 acquired_at_ms bigint NOT NULL, fence text NOT NULL, user_key text NOT NULL);
             CREATE UNIQUE INDEX ON bench_floor (lock_id);
             CREATE INDEX ON bench_floor (expires_at_ms);
             CREATE TABLE bench_floor_fences (fence_key text PRIMARY KEY, fence bigint NOT NULL, key_debug text)",
        )
        .await?;
    let config = || {
        let options: Settings = [
            ("tableName".to_owned(), Setting::Text("bench_locks".into())),
            ("fenceTableName".to_owned(), Setting::Text("bench_fences".into())),
        ]
        .into_iter()
        .collect();
        PostgresConfig::from_target(Target::Url(url.clone()), options, Password::None)
    };
    PostgresBackend::setup_schema(config()?).await?;
    let ours = Arc::new(PostgresBackend::new(config()?));
    let mut floor = Vec::new();
    for _ in 0..CONNECTIONS {
        floor.push(Arc::new(Floor::open(&url).await?));
    }

    for in_flight in [1, 8, 64] {
        let mut rates = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (kind, rates) in rates.iter_mut().enumerate() {
                rates.push(measure(kind, in_flight, time, &ours, &floor).await?);
            }
        }
        let [plain, fenced, advisory, ours] = rates.map(median);
        println!(
            "{in_flight:2} in flight: floor {plain:6.0}/s, with fence {fenced:6.0}/s, session advisory {advisory:6.0}/s, \
             ours {ours:6.0}/s = {:.2} of the floor, {:.2} of the one with a fence",
            ours / plain,
            ours / fenced
        );
    }
    ours.close().await?;
    Ok(())
}

struct Floor {
    client: Client,
    acquire: Statement,
    fenced: Statement,
    release: Statement,
    lock: Statement,
    unlock: Statement,
}

impl Floor {
    async fn open(url: &str) -> Result<Floor, Error> {
        let client = connect(url).await?;
        client.batch_execute("SET plan_cache_mode = force_generic_plan").await?;
        Ok(Floor {
            acquire: client.prepare(FLOOR_ACQUIRE).await?,
            fenced: client.prepare(FENCED_ACQUIRE).await?,
            release: client.prepare(FLOOR_RELEASE).await?,
            lock: client.prepare("SELECT pg_try_advisory_lock(hashtext($1))").await?,
            unlock: client.prepare("SELECT pg_advisory_unlock(hashtext($1))").await?,
            client,
        })
    }

    async fn cycle(&self, kind: usize, key: &str) -> Result<(), Error> {
        if kind == 2 {
            self.client.query(&self.lock, &[&key]).await?;
            self.client.query(&self.unlock, &[&key]).await?;
            return Ok(());
        }
        let id = LockId::mint();
        let statement = if kind == 0 { &self.acquire } else { &self.fenced };
        self.client.query(statement, &[&key, &id.as_str()]).await?;
        self.client.query(&self.release, &[&id.as_str()]).await?;
        Ok(())
    }
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn measure(
    kind: usize,
    in_flight: usize,
    time: Duration,
    ours: &Arc<PostgresBackend>,
    floor: &[Arc<Floor>],
) -> Result<f64, Error> {
    let (over, cycles) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..in_flight)
        .map(|worker| {
            let (over, cycles) = (over.clone(), cycles.clone());
            let (ours, floor) = (ours.clone(), floor[worker % floor.len()].clone());
            tokio::spawn(async move {
                let name = format!("key {worker}");
                let key = Key::new(&name)?;
                while !over.load(Ordering::Relaxed) {
                    match kind {
                        0..=2 => floor.cycle(kind, &name).await?,
                        _ => cycle(&ours, &key).await?,
                    }
                    cycles.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    let start = Instant::now();
    tokio::time::sleep(time).await;
    let rate = cycles.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await??;
    }
    Ok(rate)
}

async fn cycle(backend: &PostgresBackend, key: &Key) -> Result<(), Error> {
    let request =
        AcquireRequest { key: key.clone(), lock_id: LockId::mint(), ttl: Ttl::from_millis(30_000)? };
    let Acquired::Granted(lease) = backend.acquire(&request).await? else {
        return Err("a key of its own was held".into());
    };
    backend.release(&Owner::from(lease)).await?;
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
