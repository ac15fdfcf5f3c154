//! What a target may say: a URL, the same facts one by one, and the environment for what they leave open.

pub(super) mod host;
pub(super) mod parameters;
pub(super) mod passfile;
pub(super) mod service;
pub(super) mod tables;
pub(super) mod tls;

use std::time::Duration;

use tokio_postgres::config::ChannelBinding;

use self::host::Host;
use self::parameters::Parameters;
use self::passfile::Passfile;
use self::tables::Tables;
use self::tls::{Tls, TlsFacts};
use crate::backend::{OPERATION_TIMEOUT, Part, StoreId, Surroundings};
use crate::lock::{Error, FenceRetention, Result};
use crate::stores::target::{Password, Secret};
use crate::stores::target::{Settings, Target};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_SIZE: u32 = 4;

/// Where PostgreSQL is and how to use it. `Debug` shows no password.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    pub(super) hosts: Vec<Host>,
    pub(super) user: Option<String>,
    pub(super) database: Option<String>,
    pub(super) password: Password,
    pub(super) passfile: Option<Passfile>,
    pub(super) tls: Tls,
    pub(super) channel_binding: ChannelBinding,
    pub(super) application_name: String,
    pub(super) options: Option<String>,
    pub(super) session: SessionKind,
    /// Whether to try the hosts in random order.
    pub(super) shuffle: bool,
    pub(super) tables: Tables,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) operation_timeout: Duration,
    pub(super) cleanup_in_is_locked: bool,
    /// How long fence counters stay; `None`: for ever.
    pub fence_retention: Option<FenceRetention>,
    /// Whether sessions belong to a pooler, which shares them between clients; detected where nobody says.
    pub(super) pooler: Option<bool>,
}

/// What a server must be like (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionKind {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

const SESSION_KINDS: &[(&str, SessionKind)] = &[
    ("any", SessionKind::Any),
    ("read-write", SessionKind::ReadWrite),
    ("read-only", SessionKind::ReadOnly),
    ("primary", SessionKind::Primary),
    ("standby", SessionKind::Standby),
    ("prefer-standby", SessionKind::PreferStandby),
];

impl PostgresConfig {
    /// Reads a target and the options of a backend: `tableName`, `fenceTableName`, `schema`, `poolSize`,
    /// `connectTimeoutMs`, `cleanupInIsLocked`, `fenceRetentionMs`, `pgbouncer`, and `operationTimeoutMs` where the caller left
    /// it in. `password`, where there is one, wins over the target's. Does no I/O.
    ///
    /// # Errors
    /// `InvalidArgument` for whatever is malformed, contradictory or unknown. No message shows a secret.
    pub fn from_target(target: Target, options: Settings, password: Password) -> Result<PostgresConfig> {
        PostgresConfig::read(target, options, password, |name| std::env::var(name).ok())
    }

    /// The same there: the server hears the operation timeout as `statement_timeout`.
    #[must_use]
    pub fn within(mut self, surroundings: &Surroundings) -> PostgresConfig {
        self.operation_timeout = surroundings.operation_timeout;
        self
    }

    pub(super) fn read(
        target: Target,
        mut options: Settings,
        password: Password,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<PostgresConfig> {
        let tables = Tables::new(
            options.take_text("tableName")?,
            options.take_text("fenceTableName")?,
            options.take_text("schema")?,
        )?;
        let pool_size = options.take_count("poolSize", 1, 1000)?.unwrap_or(POOL_SIZE);
        let connect_timeout = options.take_millis("connectTimeoutMs")?;
        let operation_timeout = options.take_millis("operationTimeoutMs")?.unwrap_or(OPERATION_TIMEOUT);
        let cleanup_in_is_locked = options.take_flag("cleanupInIsLocked")?.unwrap_or(false);
        let fence_retention = options.take_fence_retention()?;
        let pooler = options.take_flag("pgbouncer")?;
        options.finish()?;

        let (mut parameters, tls_facts) = match target {
            Target::Url(url) => (Parameters::from_url(&url)?, TlsFacts::default()),
            Target::Facts(facts) => from_facts(facts)?,
        };
        parameters.complete(environment)?;
        let parameters = &mut parameters;
        let hosts = Host::list(
            parameters.take("host").as_deref(),
            parameters.take("hostaddr").as_deref(),
            parameters.take("port").as_deref(),
        )?;
        let said_password = parameters.take("password").map(|text| Password::Fixed(Secret::new(text)));
        let fallback = parameters.take("fallback_application_name");
        let pgbouncer = parameters.take_flag("pgbouncer")?;
        let unprepared = parameters.take_flag("prepare")?.map(|prepare| !prepare);
        let session: Vec<&str> = SESSION_KINDS.iter().map(|(name, _)| *name).collect();
        let session = parameters.take_choice("target_session_attrs", &session)?;
        if parameters.take_choice("gssencmode", &["disable", "prefer", "allow", "require"])? == Some(3) {
            return Err(Error::invalid(
                "gssencmode=require is not possible here; use sslmode for encryption",
            ));
        }
        let url_timeout =
            parameters.take("connect_timeout").map(|text| seconds(&text)).transpose()?.flatten();
        // Locks are written, and of several servers only one may be writable.
        let usual = if hosts.len() > 1 { SessionKind::ReadWrite } else { SessionKind::Any };
        Ok(PostgresConfig {
            hosts,
            user: parameters.take("user"),
            database: parameters.take("dbname"),
            password: match password {
                Password::None => said_password.unwrap_or_default(),
                password => password,
            },
            passfile: Passfile::at(parameters.take("passfile")),
            tls: Tls::new(parameters, tls_facts)?,
            channel_binding: match parameters
                .take_choice("channel_binding", &["prefer", "disable", "require"])?
            {
                Some(1) => ChannelBinding::Disable,
                Some(2) => ChannelBinding::Require,
                _ => ChannelBinding::Prefer,
            },
            application_name: parameters
                .take("application_name")
                .or(fallback)
                .unwrap_or_else(|| "syncguard".to_owned()),
            options: parameters.take("options"),
            session: session.map_or(usual, |index| SESSION_KINDS[index].1),
            shuffle: parameters.take_choice("load_balance_hosts", &["disable", "random"])? == Some(1),
            tables,
            pool_size: pool_size as usize,
            connect_timeout: connect_timeout.or(url_timeout).unwrap_or(CONNECT_TIMEOUT),
            operation_timeout,
            cleanup_in_is_locked,
            fence_retention,
            pooler: pooler.or(pgbouncer).or(unprepared.filter(|unprepared| *unprepared)),
        })
    }

    /// Which locks a backend with this configuration sees, without secrets.
    pub(super) fn store_id(&self) -> StoreId {
        let hosts: Vec<Part> = self.hosts.iter().map(Host::identity).collect();
        let tables = &self.tables;
        let user = self.user.as_deref();
        // Without a schema, the user and the options decide which tables a name means.
        let schema: Part = match &tables.schema {
            Some(schema) => schema.as_str().into(),
            None => [user.into(), self.options.as_deref().into()].into(),
        };
        let database = self.database.as_deref().or(user).into();
        let tables = [tables.locks.as_str(), tables.fences.as_str()].map(Part::from);
        StoreId::new("postgres", [hosts.into(), database, schema, tables.into()])
    }
}

fn from_facts(mut facts: Settings) -> Result<(Parameters, TlsFacts)> {
    let mut parameters = Parameters::default();
    let names: &[(&'static str, &'static [&'static str])] = &[
        ("host", &["host", "path", "socket"]),
        ("hostaddr", &["hostaddr"]),
        ("user", &["user", "username"]),
        ("password", &["password"]),
        ("dbname", &["database", "dbname"]),
        ("options", &["options"]),
        ("application_name", &["applicationName", "application_name"]),
        ("target_session_attrs", &["targetSessionAttrs", "target_session_attrs"]),
        ("load_balance_hosts", &["loadBalanceHosts", "load_balance_hosts"]),
        ("channel_binding", &["channelBinding", "channel_binding"]),
        ("sslmode", &["sslmode"]),
        ("sslrootcert", &["sslrootcert"]),
        ("sslcert", &["sslcert"]),
        ("sslkey", &["sslkey"]),
    ];
    for (parameter, aliases) in names {
        for alias in *aliases {
            if let Some(value) = facts.take_text(alias)? {
                if value.contains('\0') {
                    return Err(Error::invalid(format!("{alias} holds U+0000")));
                }
                parameters.set(parameter, value);
            }
        }
    }
    if let Some(port) = facts.take_count("port", 1, u16::MAX.into())? {
        parameters.set("port", port.to_string());
    }
    for name in ["pgbouncer", "prepare"] {
        if let Some(flag) = facts.take_flag(name)? {
            parameters.set(name, flag.to_string());
        }
    }
    let tls = TlsFacts::take(&mut facts, &mut parameters)?;
    facts.finish()?;
    Ok((parameters, tls))
}

/// As libpq has it, zero means no limit of its own.
fn seconds(text: &str) -> Result<Option<Duration>> {
    match text.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Err(_) => Err(Error::invalid("connect_timeout must be a whole number of seconds")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::stores::postgres::config::tls::SslMode;
    use crate::stores::target::Setting;

    fn read(url: &str, environment: &[(&str, &str)]) -> PostgresConfig {
        let environment: HashMap<&str, &str> = environment.iter().copied().collect();
        let find = |name: &str| environment.get(name).map(|value| (*value).to_owned());
        PostgresConfig::read(Target::Url(url.to_owned()), Settings::default(), Password::None, find)
            .expect("a good target")
    }

    fn hosts(config: &PostgresConfig) -> Vec<String> {
        config.hosts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_environment_says_what_the_target_leaves_open() {
        let environment = [
            ("PGHOST", "/run/pg,backup"),
            ("PGPORT", "6000,6001"),
            ("PGUSER", "me"),
            ("PGDATABASE", "data"),
            ("PGPASSWORD", "secret"),
            ("PGAPPNAME", "app"),
            ("PGOPTIONS", "-c a=b"),
            ("PGSSLMODE", "verify-full"),
            ("PGCONNECT_TIMEOUT", "7"),
            ("PGTARGETSESSIONATTRS", "read-write"),
        ];
        let config = read("postgres://", &environment);
        assert_eq!(hosts(&config), ["/run/pg/.s.PGSQL.6000", "backup:6001"]);
        assert_eq!(
            (config.user.as_deref(), config.database.as_deref(), config.options.as_deref()),
            (Some("me"), Some("data"), Some("-c a=b"))
        );
        assert!(matches!(&config.password, Password::Fixed(secret) if secret.reveal() == "secret"));
        assert_eq!((config.application_name.as_str(), config.session), ("app", SessionKind::ReadWrite));
        assert_eq!((config.tls.mode, config.connect_timeout), (SslMode::VerifyFull, Duration::from_secs(7)));

        let said = "postgres://you:other@there:1/other?application_name=b&options=x&sslmode=disable&connect_timeout=2&target_session_attrs=any";
        let config = read(said, &environment);
        assert_eq!(hosts(&config), ["there:1"]);
        assert_eq!((config.user.as_deref(), config.database.as_deref()), (Some("you"), Some("other")));
        assert!(matches!(&config.password, Password::Fixed(secret) if secret.reveal() == "other"));
        assert_eq!((config.application_name.as_str(), config.session), ("b", SessionKind::Any));
        assert_eq!((config.tls.mode, config.connect_timeout), (SslMode::Disable, Duration::from_secs(2)));
    }

    #[test]
    fn a_service_says_what_the_target_leaves_open_and_the_environment_what_both_do() {
        let dir = std::env::temp_dir().join(format!("syncguard-service-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (own, system) = (dir.join("own"), dir.join("pg_service.conf"));
        let text = "# comment\n[other]\nhost=nowhere\n\n[locks]\nhost=a,b\nport=7\nuser=me\nclient_encoding=UTF8\n[locks]\nhost=late\n";
        std::fs::write(&own, text).unwrap();
        std::fs::write(
            &system,
            "[shared]\n host = c\ndbname=data\n[odd]\nnonsense=1\n[nested]\nservice=locks\n",
        )
        .unwrap();
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let (own, directory) = (text(&own), text(&dir));
        let environment = [
            ("PGSERVICEFILE", own.as_str()),
            ("PGSYSCONFDIR", directory.as_str()),
            ("PGUSER", "you"),
            ("PGDATABASE", "db"),
        ];
        let with = |service| [&environment[..], &[("PGSERVICE", service)]].concat();
        let config = read("postgres://", &with("locks"));
        assert_eq!((hosts(&config).join(" "), config.user.as_deref()), ("a:7 b:7".to_owned(), Some("me")));
        assert_eq!(config.database.as_deref(), Some("db"));
        let config = read("postgres://x/?service=shared", &with("locks"));
        assert_eq!(
            (hosts(&config).join(" "), config.database.as_deref()),
            ("x:5432".to_owned(), Some("data"))
        );
        for (service, named) in [("missing", "missing"), ("odd", "nonsense"), ("nested", "service")] {
            let environment = with(service);
            assert!(refused("postgres://", &environment).contains(named), "{service}");
        }
        assert!(
            refused("postgres://", &[("PGSERVICE", "x"), ("PGSERVICEFILE", "/nowhere/at/all")])
                .contains("/nowhere/at/all")
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn protection_that_is_not_there_is_refused_instead_of_ignored() {
        for variable in ["PGREQUIREAUTH", "PGREQUIREPEER", "PGSSLCRL", "PGSSLCRLDIR"] {
            assert!(refused("postgres://h", &[(variable, "x")]).contains(variable));
            read("postgres://h", &[(variable, "")]);
        }
    }

    fn refused(url: &str, environment: &[(&str, &str)]) -> String {
        let environment: HashMap<&str, &str> = environment.iter().copied().collect();
        let find = |name: &str| environment.get(name).map(|value| (*value).to_owned());
        let target = Target::Url(url.to_owned());
        let error = PostgresConfig::read(target, Settings::default(), Password::None, find).unwrap_err();
        assert_eq!(error.code(), crate::lock::Code::InvalidArgument, "{error:?}");
        error.message().to_owned()
    }

    #[test]
    fn several_hosts_are_asked_for_the_one_that_can_write() {
        assert_eq!(read("postgres://a", &[]).session, SessionKind::Any);
        assert_eq!(read("postgres://a,b", &[]).session, SessionKind::ReadWrite);
        assert_eq!(read("postgres://a,b/?target_session_attrs=any", &[]).session, SessionKind::Any);
    }

    #[test]
    fn the_environment_weakens_nothing() {
        let weak = [("PGSSLMODE", "disable"), ("PGHOSTADDR", "10.0.0.1")];
        assert_eq!(read("postgres://h/?ssl=true", &weak).tls.mode, SslMode::VerifyFull);
        assert_eq!(read("postgres://h/?ssl=require", &weak).tls.mode, SslMode::Require);
        let config = read("postgres://h/?sslmode=verify-ca", &weak);
        assert_eq!((config.tls.mode, hosts(&config)), (SslMode::VerifyCa, vec!["h:5432".to_owned()]));
        assert!(matches!(&config.hosts[0], Host::Tcp { address: None, .. }));
        let facts: Settings = [("tls.ca".to_owned(), Setting::Text("pem".into()))].into_iter().collect();
        let find = |name: &str| (name == "PGSSLMODE").then(|| "disable".to_owned());
        let config =
            PostgresConfig::read(Target::Facts(facts), Settings::default(), Password::None, find).unwrap();
        assert_eq!(config.tls.mode, SslMode::VerifyFull);
    }

    #[test]
    fn hosts_of_every_form() {
        for (url, expected) in [
            ("postgres://", "localhost:5432"),
            ("postgres://h", "h:5432"),
            ("postgres://a,b:1,[::1]:2,[fe80::1]", "a:5432 b:1 [::1]:2 [fe80::1]:5432"),
            ("postgres://a,b/db?port=7", "a:7 b:7"),
            ("postgres://%2Fsockets:7/db", "/sockets/.s.PGSQL.7"),
            ("postgres:///db?host=/sockets/.s.PGSQL.9", "/sockets/.s.PGSQL.9"),
            ("postgres:///db?hostaddr=10.0.0.1", "10.0.0.1:5432"),
        ] {
            assert_eq!(hosts(&read(url, &[])).join(" "), expected, "{url}");
        }
        let odd = read("postgres://u%40x:p%2Fw%3A@h/d%2Fb?options=-c%20a%3Db+c", &[]);
        assert_eq!((odd.user.as_deref(), odd.database.as_deref()), (Some("u@x"), Some("d/b")));
        assert_eq!(odd.options.as_deref(), Some("-c a=b+c"), "as libpq has it, '+' is no space");
        assert!(matches!(&odd.password, Password::Fixed(secret) if secret.reveal() == "p/w:"));
    }
}
