//! The names of the two tables, validated, and quoted wherever they go into SQL.

use crate::lock::{Error, Result};

const LONGEST: usize = 63;

/// Where the locks and the fence counters lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stores::postgres) struct Tables {
    pub(in crate::stores::postgres) schema: Option<Identifier>,
    pub(in crate::stores::postgres) locks: Identifier,
    pub(in crate::stores::postgres) fences: Identifier,
}

/// A name that needs no escaping between double quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stores::postgres) struct Identifier(String);

impl Identifier {
    /// # Errors
    /// `InvalidArgument` outside `^[A-Za-z_][A-Za-z0-9_]{0,62}$`.
    pub(in crate::stores::postgres) fn new(option: &str, name: String) -> Result<Identifier> {
        let bytes = name.as_bytes();
        let starts = bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
        let goes_on = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if starts && goes_on && bytes.len() <= LONGEST {
            return Ok(Identifier(name));
        }
        Err(Error::invalid(format!(
            "{option} must be an SQL identifier: a letter or '_', then up to 62 letters, digits or '_'; {name:?} was given"
        )))
    }

    pub(in crate::stores::postgres) fn as_str(&self) -> &str {
        &self.0
    }

    pub(in crate::stores::postgres) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Tables {
    /// # Errors
    /// `InvalidArgument` for a name that is no identifier, and for two equal names.
    pub(in crate::stores::postgres) fn new(
        locks: Option<String>,
        fences: Option<String>,
        schema: Option<String>,
    ) -> Result<Tables> {
        let locks = locks.unwrap_or_else(|| "syncguard_locks".to_owned());
        let fences = fences.unwrap_or_else(|| "syncguard_fence_counters".to_owned());
        let tables = Tables {
            locks: Identifier::new("tableName", locks)?,
            fences: Identifier::new("fenceTableName", fences)?,
            schema: schema.map(|name| Identifier::new("schema", name)).transpose()?,
        };
        if tables.locks == tables.fences {
            return Err(Error::invalid(format!(
                "tableName and fenceTableName are both {:?}; they must be two tables",
                tables.locks.0
            )));
        }
        Ok(tables)
    }

    /// A table's name as SQL takes it, in the schema where there is one.
    pub(in crate::stores::postgres) fn qualified(&self, table: &Identifier) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", schema.quoted(), table.quoted()),
            None => table.quoted(),
        }
    }
}
