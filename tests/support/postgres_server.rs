//! A PostgreSQL server of the test's own, in a temporary directory, as a user other than root.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{TempDir, free_port, needs};

/// The superuser that every server has.
pub const USER: &str = "tester";

pub struct PostgresServer {
    pub port: u16,
    pub dir: TempDir,
}

impl PostgresServer {
    pub fn start() -> PostgresServer {
        PostgresServer::with(|_| Vec::new())
    }

    /// With further lines of `postgresql.conf`, which may name files in the server's directory.
    pub fn with(lines: impl FnOnce(&TempDir) -> Vec<String>) -> PostgresServer {
        let dir = TempDir::new();
        give_away(&dir);
        let server = PostgresServer { port: free_port(), dir };
        run(&server.command("initdb", &["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]));
        let mut conf = vec![
            format!("port = {}", server.port),
            format!("unix_socket_directories = '{}'", server.dir.path().display()),
            "listen_addresses = '127.0.0.1'".to_owned(),
            "fsync = off".to_owned(),
            "max_connections = 200".to_owned(),
        ];
        conf.extend(lines(&server.dir));
        server.append("postgresql.conf", &conf.join("\n"));
        server.up();
        server
    }

    /// Adds to a file of the data directory.
    pub fn append(&self, name: &str, text: &str) {
        let path = self.data(name);
        let mut old = std::fs::read_to_string(&path).unwrap_or_default();
        old.push_str(text);
        old.push('\n');
        std::fs::write(path, old).expect("the data directory can be written");
    }

    /// A file of the data directory.
    pub fn data(&self, name: &str) -> String {
        self.dir.join(&format!("data/{name}"))
    }

    /// Starts it and waits until it answers.
    pub fn up(&self) {
        let log = self.dir.join("log");
        run(&self.command("pg_ctl", &["start", "-w", "-t", "60", "-l", &log]));
    }

    /// Stops it, `fast` or `immediate`.
    pub fn down(&self, mode: &str) {
        run(&self.command("pg_ctl", &["stop", "-w", "-m", mode]));
    }

    /// Makes it read its configuration again.
    pub fn reload(&self) {
        run(&self.command("pg_ctl", &["reload"]));
    }

    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.data("postmaster.pid")).expect("it runs");
        text.lines().next().and_then(|line| line.parse().ok()).expect("a process id")
    }

    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// A plain connection of the test's own.
    pub async fn client(&self) -> tokio_postgres::Client {
        self.client_of("postgres").await
    }

    pub async fn client_of(&self, database: &str) -> tokio_postgres::Client {
        let config = format!("host=127.0.0.1 port={} user={USER} dbname={database}", self.port);
        let (client, connection) =
            tokio_postgres::connect(&config, tokio_postgres::NoTls).await.expect("the server answers");
        tokio::spawn(connection);
        client
    }

    /// A database that no other test uses.
    pub async fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("db{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        let client = self.client().await;
        client.batch_execute(&create).await.expect("a superuser may create databases");
        name
    }

    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    fn command(&self, program: &str, args: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        if rustix::process::geteuid().is_root() {
            // PostgreSQL refuses to run as root; any other user will do.
            let account = account().to_string();
            words.extend(
                ["setpriv", "--reuid", &account, "--regid", &account, "--clear-groups"].map(Into::into),
            );
        }
        words.extend([find(program), "-D".to_owned(), self.data("")]);
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        words
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // A server that a test has paused could not stop.
        let words = self.command("pg_ctl", &["stop", "-m", "immediate", "-w"]);
        let _ = Command::new(&words[0]).args(&words[1..]).output();
    }
}

/// Debian keeps the server's programs off the PATH.
pub fn find(program: &str) -> String {
    let path = needs::program("postgres", program);
    path.to_str().expect("paths of Debian are ASCII").to_owned()
}

/// `nobody`, which every Unix has.
fn account() -> u32 {
    65534
}

/// Lets the server's user write where the test's user made a directory.
pub fn give_away(dir: &TempDir) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(account()), Some(account())).expect("root may give away");
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("our directory");
}

/// Hands a file to the server's user, as private as keys must be.
pub fn hand_file(path: &str) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("our file");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(account()), Some(account())).expect("root may give away");
    }
}

fn run(words: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(90);
    // What a server inherits it keeps open, so its output must not be a pipe that somebody reads to its end.
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env("LC_ALL", "C")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{} can't be started: {error}", words.join(" ")));
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            assert!(status.success(), "{} failed: {status}", words.join(" "));
            return;
        }
        assert!(Instant::now() < deadline, "{} hangs", words.join(" "));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs another program, and fails with what it says.
pub fn tool(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program} can't be started: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
