//! The SQL of a backend: each statement once, with the names of its tables.

use tokio_postgres::types::Type;

use super::config::PostgresConfig;
use super::transport::session::millis;

/// A statement of ours. Those of many say more than those of one, and are used for one as well where that
/// is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sql {
    Acquire,
    AcquireMany,
    Release,
    ReleaseMany,
    /// As `ReleaseMany`, where nobody can be notified.
    ReleaseUntold,
    Extend,
    ExtendMany,
    HandOver,
    LookUpKey,
    LookUpId,
    List,
    CleanUp,
    CleanUpKey,
    CleanUpFences,
    LockKey,
}

impl Sql {
    pub(super) const COUNT: usize = Sql::LockKey as usize + 1;

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The types of the parameters, so that nothing has to be asked for.
    pub(super) fn types(self) -> &'static [Type] {
        match self {
            Sql::Acquire => &[Type::TEXT, Type::TEXT, Type::INT8, Type::TEXT, Type::TEXT],
            Sql::AcquireMany => {
                &[Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::TEXT_ARRAY, Type::TEXT_ARRAY]
            }
            Sql::Release | Sql::LookUpKey | Sql::LookUpId | Sql::LockKey => &[Type::TEXT],
            Sql::ReleaseMany | Sql::ReleaseUntold => &[Type::TEXT_ARRAY],
            Sql::Extend => &[Type::TEXT, Type::INT8],
            Sql::ExtendMany => &[Type::TEXT_ARRAY, Type::INT8_ARRAY],
            Sql::HandOver => &[
                Type::TEXT,
                Type::TEXT,
                Type::TEXT,
                Type::INT8,
                Type::TEXT,
                Type::TEXT,
                Type::INT8,
                Type::BOOL,
            ],
            Sql::List => &[Type::TEXT, Type::TEXT, Type::INT8],
            Sql::CleanUp => &[Type::INT8],
            Sql::CleanUpFences => &[Type::INT8, Type::INT8, Type::INT8],
            Sql::CleanUpKey => &[Type::TEXT, Type::TEXT],
        }
    }

    fn source(self) -> &'static str {
        match self {
            Sql::Acquire => include_str!("acquire_one.sql"),
            Sql::AcquireMany => include_str!("acquire.sql"),
            Sql::Release => include_str!("release_one.sql"),
            Sql::ReleaseMany | Sql::ReleaseUntold => include_str!("release.sql"),
            Sql::Extend => include_str!("extend_one.sql"),
            Sql::ExtendMany => include_str!("extend.sql"),
            Sql::HandOver => include_str!("hand_over.sql"),
            Sql::LookUpKey => include_str!("look_up_key.sql"),
            Sql::LookUpId => include_str!("look_up_id.sql"),
            Sql::List => include_str!("list.sql"),
            Sql::CleanUp => include_str!("clean_up.sql"),
            Sql::CleanUpKey => include_str!("clean_up_key.sql"),
            Sql::CleanUpFences => include_str!("clean_up_fences.sql"),
            Sql::LockKey => include_str!("lock_key.sql"),
        }
    }

    /// Where several requests come from: arrays, taken in order of their advisory locks.
    fn requests(self) -> &'static str {
        match self {
            Sql::AcquireMany => {
                "SELECT n - 1 AS n, key, lock_id, ttl_ms, user_key, fence_key
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
         WITH ORDINALITY AS r (key, lock_id, ttl_ms, user_key, fence_key, n)
    ORDER BY hashtext(key)"
            }
            Sql::ReleaseMany | Sql::ReleaseUntold => {
                "SELECT n - 1 AS n, lock_id FROM unnest($1::text[]) WITH ORDINALITY AS r (lock_id, n)"
            }
            Sql::ExtendMany => {
                "SELECT n - 1 AS n, lock_id, ttl_ms
    FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS r (lock_id, ttl_ms, n)"
            }
            _ => "",
        }
    }

    fn order(self) -> &'static str {
        match self {
            Sql::ReleaseMany | Sql::ReleaseUntold | Sql::ExtendMany => "ORDER BY hashtext(l.key)",
            _ => "",
        }
    }

    /// Whom a release tells, in `release.sql`.
    fn told(self) -> &'static str {
        match self {
            Sql::ReleaseUntold => "false",
            _ => {
                "CASE WHEN freed.key IS NOT NULL AND NOT pg_try_advisory_xact_lock({class}, hashtext(freed.key))
            THEN pg_notify({channel}, hashtext(freed.key)::text) END IS NOT NULL"
            }
        }
    }

    const ALL: [Sql; Sql::COUNT] = [
        Sql::Acquire,
        Sql::AcquireMany,
        Sql::Release,
        Sql::ReleaseMany,
        Sql::ReleaseUntold,
        Sql::Extend,
        Sql::ExtendMany,
        Sql::HandOver,
        Sql::LookUpKey,
        Sql::LookUpId,
        Sql::List,
        Sql::CleanUp,
        Sql::CleanUpKey,
        Sql::CleanUpFences,
        Sql::LockKey,
    ];
}

/// The texts of all statements.
#[derive(Debug)]
pub(super) struct Statements {
    texts: Vec<String>,
    /// Opens a transaction that may wait for a lock, in a session of ours.
    pub(super) begin: String,
    /// The same where sessions are a pooler's and keep no settings.
    pub(super) begin_pooled: String,
    /// The class of the advisory locks that waiters share, the channel of their notifications, and how many locks
    /// the server has room for.
    pub(super) wake: String,
    /// Takes the shared locks of keys ($2) in a class ($1), and says which class it would be now.
    pub(super) hold: String,
}

impl Statements {
    pub(super) fn new(config: &PostgresConfig) -> Statements {
        let tables = &config.tables;
        let locks = tables.qualified(&tables.locks);
        let fences = tables.qualified(&tables.fences);
        // The table's own number in the database: the same for everybody who uses this table, whatever
        // path led to it.
        let class = format!("('{locks}'::regclass::oid::int)");
        let channel = format!("('syncguard_' || '{locks}'::regclass::oid::text)");
        let texts = Sql::ALL.map(|sql| {
            sql.source()
                .replace("{requests}", sql.requests())
                .replace("{order}", sql.order())
                .replace("{told}", sql.told())
                .replace("{readable}", include_str!("readable.sql").trim_end())
                .replace("{readable_row}", include_str!("readable_row.sql").trim_end())
                .replace("{locks}", &locks)
                .replace("{fences}", &fences)
                .replace("{class}", &class)
                .replace("{channel}", &channel)
        });
        let limit = millis(config.operation_timeout);
        let begin = |text: &str| {
            text.replace("{lock_timeout}", &(limit / 5).clamp(1, 1000).to_string())
                .replace("{statement_timeout}", &limit.to_string())
        };
        Statements {
            texts: texts.into(),
            begin: begin(include_str!("begin.sql")),
            begin_pooled: begin(include_str!("begin_pooled.sql")),
            hold: include_str!("hold.sql").replace("{class}", &class),
            wake: include_str!("wake.sql").replace("{class}", &class).replace("{channel}", &channel),
        }
    }

    pub(super) fn text(&self, sql: Sql) -> &str {
        &self.texts[sql.index()]
    }
}
