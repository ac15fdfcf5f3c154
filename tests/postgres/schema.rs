//! Making the tables: by many at once, beside those of others, with few rights.

use syncguard::backend::{Backend, BackendExt, Owner};
use syncguard::lock::Code;
use syncguard::stores::postgres::{PostgresBackend, PostgresConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

use crate::support::postgres_server::PostgresServer;
use crate::{ask, assert_done, backend, backend_with, config, settings, take, text};

const COLUMNS: &str =
    "SELECT string_agg(concat_ws(' ', column_name, data_type, is_nullable, column_default), ', '
    ORDER BY table_name DESC, ordinal_position) FROM information_schema.columns
    WHERE table_name IN ('syncguard_locks', 'syncguard_fence_counters')";
const INDEXES: &str = "SELECT string_agg(indexdef, '; ' ORDER BY indexname) FROM pg_indexes
    WHERE tablename IN ('syncguard_locks', 'syncguard_fence_counters')";

#[tokio::test]
async fn twenty_at_once_make_the_tables_of_the_contract() {
    let server = PostgresServer::start();
    let making: Vec<_> =
        (0..20).map(|_| tokio::spawn(PostgresBackend::setup_schema(config(&server.url(), &[])))).collect();
    for made in making {
        made.await.unwrap().unwrap();
    }
    PostgresBackend::setup_schema(config(&server.url(), &[])).await.unwrap();
    let client = server.client().await;
    assert_eq!(
        ask::<String>(&client, COLUMNS).await,
        "key text NO, lock_id text NO, expires_at_ms bigint NO, acquired_at_ms bigint NO, fence text NO, \
         user_key text NO, fence_key text NO, fence bigint NO 0, key_debug text YES"
    );
    assert_eq!(
        ask::<String>(&client, INDEXES).await,
        "CREATE INDEX idx_syncguard_locks_expires ON public.syncguard_locks USING btree (expires_at_ms); \
         CREATE UNIQUE INDEX idx_syncguard_locks_lock_id ON public.syncguard_locks USING btree (lock_id); \
         CREATE UNIQUE INDEX syncguard_fence_counters_pkey ON public.syncguard_fence_counters USING btree (fence_key); \
         CREATE UNIQUE INDEX syncguard_locks_pkey ON public.syncguard_locks USING btree (key)"
    );
}

#[tokio::test]
async fn beside_others_who_take_no_turn() {
    let server = PostgresServer::start();
    // As another library might: the same statements, without the lock under which ours take turns.
    let others: Vec<_> = (0..4)
        .map(|_| {
            let url = server.url();
            tokio::spawn(async move {
                let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let create = "CREATE TABLE IF NOT EXISTS syncguard_locks (key text PRIMARY KEY, lock_id text NOT NULL,
                        expires_at_ms bigint NOT NULL, acquired_at_ms bigint NOT NULL, fence text NOT NULL,
                        user_key text NOT NULL)";
                for _ in 0..10 {
                    let _ = client.batch_execute(create).await;
                    let index = "CREATE UNIQUE INDEX IF NOT EXISTS idx_syncguard_locks_lock_id ON syncguard_locks(lock_id)";
                    let _ = client.batch_execute(index).await;
                }
            })
        })
        .collect();
    let making: Vec<_> =
        (0..10).map(|_| tokio::spawn(PostgresBackend::setup_schema(config(&server.url(), &[])))).collect();
    for made in making {
        made.await.unwrap().unwrap();
    }
    for other in others {
        other.await.unwrap();
    }
    take(&backend(&server.url()), "a").await;
}

#[tokio::test]
async fn with_tables_there_it_needs_no_rights_beyond_theirs() {
    let server = crate::server().await;
    let client = server.client().await;
    client
        .batch_execute(
            "CREATE ROLE locker LOGIN;
             GRANT SELECT, INSERT, UPDATE, DELETE ON syncguard_locks TO locker;
             GRANT SELECT, INSERT, UPDATE ON syncguard_fence_counters TO locker",
        )
        .await
        .unwrap();
    let url = format!("postgres://locker@127.0.0.1:{}/postgres", server.port);
    PostgresBackend::setup_schema(config(&url, &[])).await.unwrap();
    let locker = backend_with(&url, &[("cleanupInIsLocked", Setting::Flag(true))]);
    let lease = take(&locker, "a").await;
    let watch = locker.watch(&lease.key).await.unwrap();
    assert!(locker.is_locked(&lease.key).await.unwrap());
    assert_done(&locker.release(&Owner::from(lease)).await.unwrap());
    watch.hint().await;
    let error =
        PostgresBackend::setup_schema(config(&url, &[("tableName", text("more"))])).await.unwrap_err();
    assert_eq!(error.code(), Code::AuthFailed, "{error:?}");
}

#[tokio::test]
async fn names_of_every_kind() {
    let server = PostgresServer::start();
    let (long, longer) = ("T".repeat(63), format!("{}u", "T".repeat(62)));
    let choices = [
        (long.as_str(), longer.as_str(), None),
        ("select", "Table", None),
        ("locks", "fences", Some("Lock_Room")),
        (longer.as_str(), "f", Some("s")),
    ];
    for (locks, fences, schema) in choices {
        let mut options = vec![("tableName", text(locks)), ("fenceTableName", text(fences))];
        options.extend(schema.map(|schema| ("schema", text(schema))));
        for _ in 0..2 {
            PostgresBackend::setup_schema(config(&server.url(), &options)).await.unwrap();
        }
        let backend = backend_with(&server.url(), &options);
        let lease = take(&backend, "a").await;
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        let client = server.client().await;
        let sql = "SELECT count(*) FROM pg_indexes WHERE tablename = $1 AND schemaname = $2";
        let count: i64 = client.query_one(sql, &[&locks, &schema.unwrap_or("public")]).await.unwrap().get(0);
        assert_eq!(count, 3, "{locks}: the key and two indexes");
    }
}

#[tokio::test]
async fn names_that_are_none_are_refused_before_anything_is_sent() {
    let refused = |options: &[(&str, Setting)]| {
        let target = Target::Url("postgres://127.0.0.1:1/none".to_owned());
        let error = PostgresConfig::from_target(target, settings(options), Password::None).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        error.message().to_owned()
    };
    for name in ["", "1a", "a-b", "a b", "a\"b", "a;b", "é", "a.b", &"t".repeat(64)] {
        for option in ["tableName", "fenceTableName", "schema"] {
            assert!(refused(&[(option, text(name))]).contains(option));
        }
    }
    refused(&[("tableName", text("same")), ("fenceTableName", text("same"))]);
    refused(&[("tableName", text("syncguard_fence_counters"))]);
    for size in [0.0, 1.5, -1.0, f64::NAN] {
        refused(&[("poolSize", Setting::Number(size))]);
    }
    assert!(refused(&[("poolsize", Setting::Number(1.0))]).contains("poolsize"));
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_alone() {
    let server = PostgresServer::start();
    let client = server.client().await;
    client.batch_execute("CREATE TABLE syncguard_locks (key text PRIMARY KEY, what text)").await.unwrap();
    let error = PostgresBackend::setup_schema(config(&server.url(), &[])).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    assert!(error.message().contains("lock_id"), "{error:?}");
    let made: i64 =
        ask(&client, "SELECT count(*) FROM pg_tables WHERE tablename = 'syncguard_fence_counters'").await;
    assert_eq!(made, 0, "half a set-up is none");
}

const COLLATIONS: &str =
    "SELECT string_agg(attname || ' ' || collname, ', ' ORDER BY attname) FROM pg_attribute
    JOIN pg_collation c ON c.oid = attcollation
    WHERE attrelid IN ('syncguard_locks'::regclass, 'syncguard_fence_counters'::regclass)
      AND attname IN ('key', 'lock_id', 'fence_key')";

/// The statements of the documentation, from its own page.
fn documented_change() -> &'static str {
    let page = include_str!("../../docs/postgres.md");
    let (_, after) = page.split_once("<!-- collation -->\n```sql\n").expect("the page has the statements");
    after.split_once("```").expect("they end").0
}

#[tokio::test]
async fn keys_are_ordered_by_their_bytes_in_new_tables_and_in_old_ones_that_were_changed() {
    let server = crate::server().await;
    let client = server.client().await;
    assert_eq!(ask::<String>(&client, COLLATIONS).await, "fence_key C, key C, lock_id C");
    // As they were made before, and by others: with the collation of the database.
    client
        .batch_execute(
            "DROP TABLE syncguard_locks, syncguard_fence_counters;
             CREATE TABLE syncguard_locks (key text PRIMARY KEY, lock_id text NOT NULL, expires_at_ms bigint NOT NULL,
                 acquired_at_ms bigint NOT NULL, fence text NOT NULL, user_key text NOT NULL);
             CREATE TABLE syncguard_fence_counters (fence_key text PRIMARY KEY, fence bigint NOT NULL DEFAULT 0,
                 key_debug text)",
        )
        .await
        .unwrap();
    for changed in [false, true] {
        PostgresBackend::setup_schema(config(&server.url(), &[])).await.unwrap();
        let collation = if changed { "C" } else { "default" };
        let expected = format!("fence_key {collation}, key {collation}, lock_id {collation}");
        assert_eq!(ask::<String>(&client, COLLATIONS).await, expected, "old tables stay as they are");
        let backend = backend(&server.url());
        let lease = take(&backend, &format!("a{changed}")).await;
        crate::assert_held(&backend.acquire(&crate::request(&format!("a{changed}"))).await.unwrap());
        client.batch_execute(documented_change()).await.unwrap();
        assert_done(&backend.extend(&Owner::from(lease.clone()), crate::ttl(1000)).await.unwrap());
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
    }
}

#[tokio::test]
async fn a_set_up_on_a_frozen_connection_ends_in_time() {
    let server = crate::server().await;
    let client = server.client().await;
    // Others who set up: their turn lasts, and meanwhile our session freezes.
    client.batch_execute("SELECT pg_advisory_lock(x'7367736368656d61'::bigint)").await.unwrap();
    let options = [("operationTimeoutMs", crate::millis(700)), ("connectTimeoutMs", crate::millis(700))];
    let started = std::time::Instant::now();
    let setting_up = tokio::spawn(PostgresBackend::setup_schema(config(&server.url(), &options)));
    let mut pid = None;
    crate::eventually("it waits for its turn", async || {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'syncguard' AND wait_event = 'advisory'";
        pid = client.query(waiting, &[]).await.unwrap().first().map(|row| row.get::<_, i32>(0));
        pid.is_some()
    })
    .await;
    let pid = rustix::process::Pid::from_raw(pid.unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let limit = std::time::Duration::from_secs(4);
    let outcome = tokio::time::timeout(limit, setting_up).await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let error = outcome.expect("an answer in time").unwrap().unwrap_err();
    assert_eq!(error.code(), Code::NetworkTimeout, "{error:?} after {:?}", started.elapsed());
}
