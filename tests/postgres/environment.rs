//! What a target leaves open is said by the environment's files, as with libpq.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use syncguard::backend::Backend;
use syncguard::lock::{Code, Outcome};

use crate::support::TempDir;
use crate::{assert_is, backend, eventually, request, server, take};

/// Who runs this, as the system's own tool tells it.
fn system_user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id is everywhere");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_password_file_serves_who_names_no_user() {
    let server = server().await;
    let client = server.client().await;
    let user = system_user();
    client
        .batch_execute(&format!(
            "CREATE ROLE \"{user}\" LOGIN PASSWORD 'from the file';
             GRANT ALL ON syncguard_locks, syncguard_fence_counters TO \"{user}\""
        ))
        .await
        .unwrap();
    let hba = std::fs::read_to_string(server.data("pg_hba.conf")).unwrap();
    std::fs::write(server.data("pg_hba.conf"), format!("host all \"{user}\" all scram-sha-256\n{hba}"))
        .unwrap();
    server.reload();
    let url = format!("postgres://127.0.0.1:{}/postgres", server.port);
    eventually("a password is asked for", async || {
        let none = backend(&format!("{url}?passfile=/nowhere")).acquire(&request("x")).await;
        none.is_err_and(|error| error.code() == Code::AuthFailed)
    })
    .await;
    let dir = TempDir::new();
    let file = dir.join("pgpass");
    std::fs::write(&file, format!("127.0.0.1:{}:postgres:{user}:from the file\n", server.port)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    take(&backend(&format!("{url}?passfile={file}")), "a").await;
}

#[tokio::test]
async fn what_the_target_names_and_the_server_lacks_is_an_invalid_argument() {
    let server = server().await;
    let client = server.client().await;
    let url = |rest: &str| format!("postgres://tester@127.0.0.1:{}/{rest}", server.port);
    for (rest, named) in [
        ("nowhere", "database"),
        ("postgres?options=-c%20no.such%3D1%20-c%20nonsense%3D1", "options"),
        ("postgres?options=-c%20work_mem%3Dnonsense", "options"),
    ] {
        let error = backend(&url(rest)).acquire(&request("a")).await.unwrap_err();
        assert_is(&error, Code::InvalidArgument, false, Outcome::NotApplied);
        assert!(error.message().contains(named), "{error:?}");
    }
    client
        .batch_execute(
            "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM no_such_function(); RETURN NEW; END $$;
             CREATE TRIGGER odd BEFORE INSERT ON syncguard_locks FOR EACH ROW EXECUTE FUNCTION odd()",
        )
        .await
        .unwrap();
    let error = backend(&server.url()).acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::InvalidArgument, false, Outcome::NotApplied);
    assert!(error.message().contains("function"), "{error:?}");
}
