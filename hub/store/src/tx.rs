//! A transaction in progress. What can be done in it is told by the files of each subject.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// A transaction (or, for readers, a snapshot).
#[derive(Debug)]
pub struct Tx {
    pub(crate) connection: SqliteConnection,
    /// Why the database may have ended the transaction by itself. From then on every statement would be a
    /// transaction of its own, so none is run any more, whatever the work makes of the error.
    pub(crate) trouble: Option<StoreError>,
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
        // SQLITE_FULL; and SQLITE_IOERR_SHMSIZE, where the index of the write-ahead log cannot grow.
        let full = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| matches!(&*code, "13" | "4874"));
        if full { Self::Full } else { Self::Sql(std::sync::Arc::new(error)) }
    }
}

impl Tx {
    pub(crate) const fn new(connection: SqliteConnection) -> Self {
        Self { connection, trouble: None }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.trouble.clone().map_or(Ok(()), Err)
    }

    fn note(&mut self, error: sqlx::Error) -> StoreError {
        let error = StoreError::sql(error);
        self.trouble = Some(error.clone());
        error
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn run(&mut self, query: Query<'_>) -> Result<u64, StoreError> {
        self.check()?;
        match query.execute(&mut self.connection).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.note(error)),
        }
    }

    /// Reads at most one row.
    pub(crate) async fn one<T>(
        &mut self,
        query: Query<'_>,
        read: impl FnOnce(&SqliteRow) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.check()?;
        let row = match query.fetch_optional(&mut self.connection).await {
            Ok(row) => row,
            Err(error) => return Err(self.note(error)),
        };
        row.as_ref().map(read).transpose()
    }

    /// Reads all rows.
    pub(crate) async fn all<T>(
        &mut self,
        query: Query<'_>,
        read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.check()?;
        let rows = match query.fetch_all(&mut self.connection).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.note(error)),
        };
        rows.iter().map(read).collect()
    }
}
