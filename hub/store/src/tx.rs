//! A transaction in progress. What can be done in it is told by the files of each subject.

use rusqlite::{Connection, Row, Statement, ffi};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::sql::Query;

/// A transaction (or, for readers, a snapshot).
#[derive(Debug)]
pub struct Tx {
    pub(crate) connection: Connection,
    /// Why the database may have ended the transaction by itself. From then on every statement would be a
    /// transaction of its own, so none is run any more, whatever the work makes of the error.
    pub(crate) trouble: Option<StoreError>,
}

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
        source: std::sync::Arc<rusqlite::Error>,
    },
    /// The store was written by a newer program, or its migration failed.
    #[error("the store cannot be brought to this program's version; was it written by a newer one?")]
    Migrate(#[source] std::sync::Arc<rusqlite_migration::Error>),
    /// There is no thread for its statements.
    #[error("the store's thread cannot be started")]
    Thread(#[source] std::sync::Arc<std::io::Error>),
    /// The disk has no room left: nothing was written, and nothing is acknowledged.
    #[error("the disk that holds the store is full; free some room, nothing was lost")]
    Full,
    /// The database failed.
    #[error("the store failed")]
    Sql(#[source] std::sync::Arc<rusqlite::Error>),
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
    pub(crate) fn sql(error: rusqlite::Error) -> Self {
        // And where the index of the write-ahead log cannot grow.
        let full = error
            .sqlite_error()
            .is_some_and(|error| matches!(error.extended_code, ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE));
        if full { Self::Full } else { Self::Sql(std::sync::Arc::new(error)) }
    }
}

impl Tx {
    pub(crate) const fn new(connection: Connection) -> Self {
        Self { connection, trouble: None }
    }

    /// What is done with the database, unless it has failed before in this transaction.
    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        let done = work(&self.connection);
        // What stands in a column is the store's trouble, not the database's: the statement was run.
        if let Err(error @ (StoreError::Sql(_) | StoreError::Full)) = &done {
            self.trouble = Some(error.clone());
        }
        done
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn run(&mut self, query: Query<'_>) -> Result<u64, StoreError> {
        self.attempt(|connection| {
            let execute = |statement: &mut Statement<'_>| {
                bind(statement, &query)?;
                statement.raw_execute().map_err(StoreError::sql)
            };
            let changed = match query.comes_again {
                true => execute(&mut *connection.prepare_cached(&query.sql).map_err(StoreError::sql)?),
                false => execute(&mut connection.prepare(&query.sql).map_err(StoreError::sql)?),
            }?;
            Ok(changed as u64)
        })
    }

    /// Reads at most one row, which is found at once.
    pub(crate) async fn one<T>(
        &mut self,
        query: Query<'_>,
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.attempt(|connection| first(connection, &query, read))
    }

    /// Reads one row that is made of many.
    pub(crate) async fn sum<T>(
        &mut self,
        query: Query<'_>,
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.attempt(|connection| aside(|| first(connection, &query, read)))
    }

    /// Reads all rows.
    pub(crate) async fn all<T>(
        &mut self,
        query: Query<'_>,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(&query.sql).map_err(StoreError::sql)?;
            bind(&mut statement, &query)?;
            aside(|| {
                let mut rows = statement.raw_query();
                let mut all = Vec::new();
                while let Some(row) = rows.next().map_err(StoreError::sql)? {
                    all.push(read(row)?);
                }
                Ok(all)
            })
        })
    }
}

fn first<T>(
    connection: &Connection,
    query: &Query<'_>,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(&query.sql).map_err(StoreError::sql)?;
    bind(&mut statement, query)?;
    let mut rows = statement.raw_query();
    rows.next().map_err(StoreError::sql)?.map(read).transpose()
}

fn bind(statement: &mut Statement<'_>, query: &Query<'_>) -> Result<(), StoreError> {
    for (place, value) in (1..).zip(&query.values) {
        statement.raw_bind_parameter(place, &value.0).map_err(StoreError::sql)?;
    }
    Ok(())
}

/// Nobody knows how many rows there are: whatever else waits for this thread of the runtime goes to another one meanwhile.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // The writer's own thread, or a runtime that has one.
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Bytes of all statements that a connection holds.
    fn held(tx: &Tx) -> i32 {
        let (mut now, mut most) = (0, 0);
        // SAFETY: the handle is the connection's own, which lives, and both numbers are there to be written.
        let said = unsafe {
            let handle = tx.connection.handle();
            ffi::sqlite3_db_status(handle, ffi::SQLITE_DBSTATUS_STMT_USED, &raw mut now, &raw mut most, 0)
        };
        assert_eq!(said, ffi::SQLITE_OK);
        now
    }

    #[test]
    fn a_statement_for_so_many_rows_is_not_kept() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE things (a INTEGER, b INTEGER)").unwrap();
        let mut tx = Tx::new(connection);
        let run = |tx: &mut Tx, query| futures_executor::block_on(tx.run(query)).unwrap();
        let once = || Query::new("INSERT INTO things (a, b) VALUES (1, 2)");
        run(&mut tx, once());
        let before = held(&tx);
        assert!(before > 0);
        for rows in 1..100_i64 {
            let many = Query::new("INSERT INTO things (a, b)").rows(0..rows, |n| [n.into(), n.into()], "");
            assert_eq!(run(&mut tx, many), u64::try_from(rows).unwrap());
        }
        run(&mut tx, once());
        assert_eq!(held(&tx), before);
    }
}
