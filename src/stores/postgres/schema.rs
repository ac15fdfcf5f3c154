//! Making the tables: only what is missing, so that it needs no more rights than that.

use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::config::PostgresConfig;
use super::config::tables::{Identifier, Tables};
use super::error;
use super::transport::dial::Dialer;
use super::transport::session::{Session, millis};
use crate::lock::{Error, Result};

/// The advisory lock under which tables are made: one number for everybody ("sgschema" in ASCII).
const SETUP_LOCK: i64 = 0x7367_7363_6865_6d61;
/// How often to look again when somebody who does not take that lock made something first.
const ATTEMPTS: u32 = 5;
/// The longest name that PostgreSQL does not cut off.
const LONGEST_NAME: usize = 63;

const LOCK_COLUMNS: &[&str] = &["key", "lock_id", "expires_at_ms", "acquired_at_ms", "fence", "user_key"];
const FENCE_COLUMNS: &[&str] = &["fence_key", "fence", "key_debug"];

/// Creates what is missing of schema, tables and indexes. Idempotent, and safe beside others who do the same.
///
/// # Errors
/// `AuthFailed` where a right to create is missing, `InvalidArgument` where a table of that name has other
/// columns, `NetworkTimeout` after `operationTimeoutMs`, and those of connecting.
pub(super) async fn set_up(config: PostgresConfig) -> Result<()> {
    let (tables, limit) = (config.tables.clone(), config.operation_timeout);
    let session = Dialer::new(config).dial(Arc::new(|_| ())).await?;
    let making = make_all(&session, &tables, millis(limit));
    match tokio::time::timeout(limit, making).await {
        Ok(outcome) => outcome,
        Err(_) => Err(error::hung(&session.place).error),
    }
}

async fn make_all(session: &Session, tables: &Tables, limit: i32) -> Result<()> {
    let mut attempt = 1;
    loop {
        match make(&session.client, tables, limit).await {
            Ok(columns) => return columns,
            Err(error) if attempt < ATTEMPTS && was_made_meanwhile(&error) => {
                attempt += 1;
                let _ = session.client.batch_execute("ROLLBACK").await;
            }
            Err(error) => return Err(error::of_statement(&session.place, &error).error),
        }
    }
}

fn was_made_meanwhile(error: &tokio_postgres::Error) -> bool {
    let made = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| made.contains(code))
}

async fn make(client: &Client, tables: &Tables, limit: i32) -> Result<Result<()>, tokio_postgres::Error> {
    // A pooler's session has no settings of ours.
    let begin = include_str!("sql/begin_set_up.sql").replace("{limit}", &limit.to_string());
    client.batch_execute(&begin).await?;
    client.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&SETUP_LOCK, Type::INT8)]).await?;
    if let Some(schema) = &tables.schema
        && !exists(client, "SELECT FROM pg_namespace WHERE nspname = $1", schema.as_str()).await?
    {
        client.batch_execute(&format!("CREATE SCHEMA {}", schema.quoted())).await?;
    }
    let (locks, fences) = (tables.qualified(&tables.locks), tables.qualified(&tables.fences));
    if !is_there(client, &locks).await? {
        let create = include_str!("sql/create_locks.sql").replace("{locks}", &locks);
        client.batch_execute(&create).await?;
    }
    if !is_there(client, &fences).await? {
        let create = include_str!("sql/create_fences.sql").replace("{fences}", &fences);
        client.batch_execute(&create).await?;
    }
    for (table, columns) in [(&locks, LOCK_COLUMNS), (&fences, FENCE_COLUMNS)] {
        if let Some(missing) = missing_column(client, table, columns).await? {
            client.batch_execute("ROLLBACK").await?;
            return Ok(Err(Error::invalid(format!(
                "the table {table} exists but has no column {missing}; choose another name for syncguard's table"
            ))));
        }
    }
    for (column, suffix, unique) in [("lock_id", "lock_id", "UNIQUE "), ("expires_at_ms", "expires", "")] {
        if !is_indexed(client, &locks, column, !unique.is_empty()).await? {
            let name = index_name(&tables.locks, suffix);
            client.batch_execute(&format!("CREATE {unique}INDEX \"{name}\" ON {locks} ({column})")).await?;
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok(Ok(()))
}

async fn exists(client: &Client, sql: &str, name: &str) -> Result<bool, tokio_postgres::Error> {
    Ok(!client.query_typed(sql, &[(&name, Type::TEXT)]).await?.is_empty())
}

/// Whether the name leads to a table, by the same path by which operations find it.
async fn is_there(client: &Client, table: &str) -> Result<bool, tokio_postgres::Error> {
    exists(client, "SELECT WHERE to_regclass($1) IS NOT NULL", table).await
}

async fn missing_column(
    client: &Client,
    table: &str,
    columns: &[&'static str],
) -> Result<Option<&'static str>, tokio_postgres::Error> {
    let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let rows = client.query_typed(sql, &[(&table, Type::TEXT)]).await?;
    let there: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(columns.iter().copied().find(|column| !there.iter().any(|name| name == column)))
}

/// Whether a whole-table index begins with the column, whatever its name.
async fn is_indexed(
    client: &Client,
    table: &str,
    column: &str,
    unique: bool,
) -> Result<bool, tokio_postgres::Error> {
    let sql =
        "SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = to_regclass($1) AND a.attname = $2 AND i.indpred IS NULL AND i.indisvalid
          AND (NOT $3 OR (i.indisunique AND i.indnkeyatts = 1))";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&table, Type::TEXT), (&column, Type::TEXT), (&unique, Type::BOOL)];
    Ok(!client.query_typed(sql, &parameters).await?.is_empty())
}

/// `idx_TABLE_SUFFIX`; with part of a long table's name, and letters of its own, since PostgreSQL would cut
/// off what tells the two indexes apart.
fn index_name(table: &Identifier, suffix: &str) -> String {
    let whole = format!("idx_{}_{suffix}", table.as_str());
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    let units: Vec<u16> = table.as_str().encode_utf16().collect();
    let letters = &crate::lock::hash_key(&units)[..8];
    format!("idx_{}_{letters}_{suffix}", &table.as_str()[..40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_names_fit_and_differ() {
        let name = |table: &str, suffix| {
            index_name(&Identifier::new("tableName", table.to_owned()).unwrap(), suffix)
        };
        assert_eq!(name("syncguard_locks", "lock_id"), "idx_syncguard_locks_lock_id");
        let (long, longer) = ("t".repeat(63), format!("{}u", "t".repeat(62)));
        let names = [name(&long, "lock_id"), name(&long, "expires"), name(&longer, "lock_id")];
        assert!(names.iter().all(|name| name.len() <= LONGEST_NAME), "{names:?}");
        assert!(names[0] != names[1] && names[0] != names[2], "{names:?}");
    }
}
