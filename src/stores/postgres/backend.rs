//! The trait's bodies: requests in, rows read.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::acquire::Acquire;
use super::change::{Extend, Release};
use super::clean_up::{self, Cleaner};
use super::config::PostgresConfig;
use super::error::Failure;
use super::hand_over::HandOver as HandOverWork;
use super::joined::Joined;
use super::names::storage_keys;
use super::record::{Stored, column};
use super::schema;
use super::sql::{Sql, Statements};
use super::transport::detached::Detached;
use super::transport::dial::Dialer;
use super::transport::pool::{Pool, with_connection};
use super::wake::Wakes;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page, Span,
    TimeAuthority, Watch, Yield,
};
use crate::lock::{Key, Result, Timestamp, Ttl};
use crate::stores::batch::Batch;

/// Locks in PostgreSQL. The server's clock decides ([`TimeAuthority::Server`]).
pub struct PostgresBackend {
    pub(super) capabilities: Capabilities,
    pub(super) pool: Pool,
    pub(super) acquires: Batch<Joined<Acquire>>,
    pub(super) releases: Batch<Joined<Release>>,
    pub(super) extends: Batch<Joined<Extend>>,
    pub(super) wakes: Wakes,
    pub(super) cleaner: Cleaner,
    pub(super) cleanup_in_is_locked: bool,
}

impl std::fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresBackend")
            .field("pool", &self.pool)
            .field("wakes", &self.wakes)
            .finish_non_exhaustive()
    }
}

impl PostgresBackend {
    /// Does no I/O and needs no runtime: it connects on first use.
    pub fn new(config: PostgresConfig) -> PostgresBackend {
        let statements = Arc::new(Statements::new(&config));
        let capabilities = Capabilities {
            name: "postgres",
            store: config.store_id(),
            time_authority: TimeAuthority::Server,
            // Where a pooler is only detected later, watching is possible and hints just never come.
            wakes: config.pooler != Some(true),
            hands_over: true,
            event_loop: false,
            repeatable: true,
        };
        let cleanup_in_is_locked = config.cleanup_in_is_locked;
        let cleaner = Cleaner::new(config.fence_retention);
        let dialer = Arc::new(Dialer::new(config));
        let pool = Pool::new(Arc::clone(&dialer), Arc::clone(&statements));
        PostgresBackend {
            capabilities,
            acquires: Batch::new(Joined::new(pool.clone())),
            releases: Batch::new(Joined::new(pool.clone())),
            extends: Batch::new(Joined::new(pool.clone())),
            wakes: Wakes::new(dialer, statements),
            cleaner,
            cleanup_in_is_locked,
            pool,
        }
    }

    /// Creates the two tables and their indexes where they are missing. Idempotent, safe when many
    /// processes call it at once, and in need of no rights where there is nothing to create.
    ///
    /// # Errors
    /// `AuthFailed` where a right to create is missing, `InvalidArgument` where a table of that name has
    /// other columns, and those of connecting.
    pub async fn setup_schema(config: PostgresConfig) -> Result<()> {
        schema::set_up(config).await
    }

    /// A statement of its own.
    async fn query(&self, sql: Sql, parameter: String) -> Result<Vec<Row>> {
        let pool = self.pool.clone();
        Detached::new(async move {
            let parameters: [&(dyn ToSql + Sync); 1] = [&parameter];
            let rows = with_connection!(pool, None, |connection| connection.run(sql, &parameters));
            rows.map_err(|failure| failure.error)
        })
        .await
    }

    /// In the order of their keys; the cursor is the last one.
    async fn page(&self, span: Span<'_>) -> Result<Page> {
        let (prefix, after) = (span.prefix.to_owned(), span.cursor.unwrap_or_default().to_owned());
        let limit = i64::try_from(span.limit).unwrap_or(i64::MAX);
        let pool = self.pool.clone();
        let rows = Detached::new(async move {
            let parameters: [&(dyn ToSql + Sync); 3] = [&prefix, &after, &limit];
            let rows = with_connection!(pool, None, |connection| connection.run(Sql::List, &parameters));
            rows.map_err(|failure| failure.error)
        })
        .await?;
        let cursor = match rows.last() {
            Some(last) if rows.len() >= span.limit => Some(column::<&str>(last, "key")?.to_owned()),
            _ => None,
        };
        let stored = rows.iter().filter_map(|row| Stored::read(row).ok());
        let leases = stored.filter(Stored::is_live).map(|stored| stored.lease).collect();
        Ok(Page { leases, cursor })
    }

    async fn stored(&self, sql: Sql, parameter: &str) -> Result<Option<Stored>> {
        let rows = self.query(sql, parameter.to_owned()).await?;
        rows.first().map(Stored::read).transpose()
    }
}

#[async_trait]
impl Backend for PostgresBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let acquired = self.acquires.submit(Acquire::new(request)?).await?;
        if matches!(acquired, Acquired::Granted(_)) {
            self.cleaner.step(&self.pool);
        }
        Ok(acquired)
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let next = Acquire::new(request.next)?;
        let sessions = |own: u32| {
            // The server counts sessions; ours is one however many watch through it, and none through a pooler.
            let (sessions, watchers) = self.wakes.own(next.key());
            let elsewhere = if self.wakes.reach() { own.saturating_sub(watchers) } else { 0 };
            i64::from(sessions) + i64::from(elsewhere)
        };
        let (sessions, always) = match request.yields {
            Yield::Never => (None, false),
            Yield::IfWatched { own } => (Some(sessions(own)), false),
            Yield::Always { own } => (Some(sessions(own)), true),
        };
        let work = HandOverWork { owner: request.owner.lock_id, next, sessions, always };
        Detached::new(work.run(self.pool.clone())).await
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        self.extends.submit(Extend::new(owner.lock_id, ttl)).await
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let requests = owners.iter().map(|(owner, ttl)| Extend::new(owner.lock_id, *ttl)).collect();
        self.extends.submit_all(requests).await
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        self.releases.submit(Release(owner.lock_id)).await
    }

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        let stored = match what {
            Find::Key { key, clean_up } => {
                let name = storage_keys(key)?.lock;
                let stored = self.stored(Sql::LookUpKey, &name).await?;
                if let Some(stored) = &stored
                    && clean_up
                    && self.cleanup_in_is_locked
                    && stored.expired_for() > clean_up::AGE
                {
                    Cleaner::remove(&self.pool, name, stored.lease.lock_id);
                }
                stored
            }
            Find::LockId(id) => self.stored(Sql::LookUpId, id.as_str()).await?,
            Find::Prefix(span) => return self.page(span).await,
        };
        Ok(stored.filter(Stored::is_live).map(|stored| stored.lease).into())
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        self.wakes.watch(key).await
    }

    async fn close(&self) -> Result<()> {
        self.pool.close();
        self.wakes.close();
        Ok(())
    }
}
