//! Figures, not assertions: `cargo test --test file speed -- --ignored --nocapture`.

use std::time::Instant;

use syncguard::backend::{Backend, BackendExt, Owner};
use syncguard::stores::file::FileFixture;

use super::child::{LONG, grant, key, open, request, try_grant, ttl};

const ROUNDS: u32 = 5000;

#[tokio::test]
#[ignore = "prints figures"]
async fn speed() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    grant(&backend, &request("held", LONG)).await;
    let report = |what: &str, since: Instant| {
        let micros = since.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        println!("{what}: {micros:.1} µs");
    };
    for _ in 0..3 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            let lease = grant(&backend, &request("key", LONG)).await;
            backend.release(&Owner::from(lease)).await.expect("release answers");
        }
        report("acquire and release", start);
    }
    let owner = Owner::from(grant(&backend, &request("key", LONG)).await);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        backend.extend(&owner, ttl(LONG)).await.expect("extend answers");
    }
    report("extend", start);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        backend.is_locked(&key("key")).await.expect("is_locked answers");
    }
    report("isLocked", start);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        assert_eq!(try_grant(&backend, &request("key", LONG)).await, None);
    }
    report("a refused acquire", start);
}
