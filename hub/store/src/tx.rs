//! A transaction in progress. What can be done in it is told by the files of each subject.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// A transaction (or, for readers, a snapshot).
#[derive(Debug)]
pub struct Tx {
    pub(crate) connection: SqliteConnection,
}

/// A query with its arguments.
pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Why the store failed. After any of these nothing of the transaction has happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("the store {path} cannot be opened")]
    Open {
        /// The file.
        path: String,
        /// What the database says.
        #[source]
        source: std::sync::Arc<sqlx::Error>,
    },
    /// The store was written by a newer program, or its migration failed.
    #[error("the store cannot be brought to this program's version; was it written by a newer one?")]
    Migrate(#[source] std::sync::Arc<sqlx::migrate::MigrateError>),
    /// The disk has no room left: nothing was written, and nothing is acknowledged.
    #[error("the disk that holds the store is full; free some room, nothing was lost")]
    Full,
    /// The database failed.
    #[error("the store failed")]
    Sql(#[source] std::sync::Arc<sqlx::Error>),
    /// A value in the store is impossible.
    #[error("the store holds an impossible value in column `{name}`; restore it from a backup")]
    Column {
        /// The column.
        name: &'static str,
    },
    /// The writer has stopped: the program is shutting down.
    #[error("the store is being closed")]
    Closed,
    /// The file for a backup or restore cannot be used.
    #[error("{what}")]
    Backup {
        /// What is wrong, and what to do.
        what: String,
    },
}

impl StoreError {
    pub(crate) fn sql(error: sqlx::Error) -> Self {
        // SQLITE_FULL (13), and SQLITE_IOERR_WRITE (778) where the file system says so only then.
        let full = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| code == "13");
        if full { Self::Full } else { Self::Sql(std::sync::Arc::new(error)) }
    }
}

impl Tx {
    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn run(&mut self, query: Query<'_>) -> Result<u64, StoreError> {
        query.execute(&mut self.connection).await.map(|done| done.rows_affected()).map_err(StoreError::sql)
    }

    /// Reads at most one row.
    pub(crate) async fn one<T>(
        &mut self,
        query: Query<'_>,
        read: impl FnOnce(&SqliteRow) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let row = query.fetch_optional(&mut self.connection).await.map_err(StoreError::sql)?;
        row.as_ref().map(read).transpose()
    }

    /// Reads all rows.
    pub(crate) async fn all<T>(
        &mut self,
        query: Query<'_>,
        read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = query.fetch_all(&mut self.connection).await.map_err(StoreError::sql)?;
        rows.iter().map(read).collect()
    }
}
