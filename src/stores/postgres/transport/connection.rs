//! A session with its prepared statements, for one user at a time.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::session::Session;
use crate::stores::postgres::error::{self, Failure, Kind};
use crate::stores::postgres::sql::{Sql, Statements};

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement and what goes into it.
#[derive(Clone, Copy)]
pub(in crate::stores::postgres) struct Step<'a> {
    pub(in crate::stores::postgres) sql: Sql,
    pub(in crate::stores::postgres) parameters: Parameters<'a>,
}

pub(in crate::stores::postgres) struct Connection {
    session: Session,
    statements: Arc<Statements>,
    prepared: [Option<Statement>; Sql::COUNT],
    pooled: bool,
    /// When it last answered.
    pub(in crate::stores::postgres) answered: Instant,
}

impl Connection {
    pub(in crate::stores::postgres) fn new(
        session: Session,
        statements: Arc<Statements>,
        pooled: bool,
    ) -> Connection {
        Connection {
            session,
            statements,
            prepared: [const { None }; Sql::COUNT],
            pooled,
            answered: Instant::now(),
        }
    }

    pub(in crate::stores::postgres) fn place(&self) -> &str {
        &self.session.place
    }

    pub(in crate::stores::postgres) fn is_over(&self) -> bool {
        self.session.is_over()
    }

    /// How many bytes its socket has taken.
    pub(in crate::stores::postgres) fn sent(&self) -> u64 {
        self.session.sent()
    }

    /// One statement by itself: one round trip, once it is prepared.
    pub(in crate::stores::postgres) async fn run(
        &mut self,
        sql: Sql,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        if self.pooled {
            let rows = self.transact(&[Step { sql, parameters }]).await?;
            return Ok(rows.into_iter().flatten().collect());
        }
        self.prepare(sql).await?;
        self.query(sql, parameters).await.map_err(|error| self.failed(&error))
    }

    /// Waits for the advisory lock of a key, then runs statements in the same transaction, all sent at
    /// once. Each sees what was committed before the lock was had.
    pub(in crate::stores::postgres) async fn run_locked(
        &mut self,
        key: &str,
        steps: &[Step<'_>],
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let key: [&(dyn ToSql + Sync); 1] = [&key];
        let lock = Step { sql: Sql::LockKey, parameters: &key };
        let steps: Vec<Step<'_>> = std::iter::once(lock).chain(steps.iter().copied()).collect();
        if !self.pooled {
            for step in &steps {
                self.prepare(step.sql).await?;
            }
        }
        let mut rows = self.transact(&steps).await?;
        rows.remove(0);
        Ok(rows)
    }

    async fn transact(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Failure> {
        let client = &self.session.client;
        let begin = if self.pooled { &self.statements.begin_pooled } else { &self.statements.begin };
        // Polled in this order, hence sent in this order, before the first answer.
        let (begun, rows, committed) = tokio::join!(
            biased;
            client.batch_execute(begin),
            join_all(steps.iter().map(|step| self.query(step.sql, step.parameters))),
            client.batch_execute("COMMIT"),
        );
        begun.map_err(|error| self.failed(&error))?;
        // A COMMIT that rolls back says that it worked, so the statements' own answers count.
        let rows: Result<Vec<_>, _> = rows.into_iter().collect();
        let rows = rows.map_err(|error| self.failed(&error))?;
        committed.map_err(|error| self.failed(&error))?;
        Ok(rows)
    }

    async fn query(&self, sql: Sql, parameters: Parameters<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = &self.session.client;
        match &self.prepared[sql.index()] {
            Some(statement) if !self.pooled => client.query(statement, parameters).await,
            _ => {
                let typed: Vec<_> = parameters.iter().copied().zip(sql.types().iter().cloned()).collect();
                client.query_typed(self.statements.text(sql), &typed).await
            }
        }
    }

    async fn prepare(&mut self, sql: Sql) -> Result<(), Failure> {
        if self.prepared[sql.index()].is_none() {
            let preparing = self.session.client.prepare_typed(self.statements.text(sql), sql.types()).await;
            // Nothing was asked to be done yet, so nothing was.
            let statement = preparing.map_err(|error| match self.failed(&error) {
                failure if failure.kind == Kind::Broken => failure.unsent(),
                failure => failure.not_applied(),
            })?;
            self.prepared[sql.index()] = Some(statement);
        }
        Ok(())
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Failure {
        error::of_statement(self.place(), error)
    }
}
