//! The one writer. It takes whatever has queued, runs it in one transaction with a savepoint for each piece of
//! work, commits once, and only then answers. It never lingers for more: a linger of 2 ms halved the throughput.
//!
//! It is a thread of its own, on which works run from their first statement to their last: a statement is a call, and no
//! message to another thread and back, which took longer than most statements do.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, ffi};
use rusqlite_migration::{M, Migrations};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use crate::{StoreError, Tx, sql::Query};

/// How many pieces of work share one commit at most: bounds what one flush may undo and how long it takes.
const MOST_IN_ONE_COMMIT: usize = 1024;
/// How many pieces of work may wait. Beyond it callers wait to be queued.
const QUEUE: usize = 4096;
/// Connections that read beside the writer.
const READERS: usize = 4;

/// How much of the file each of them keeps in memory, KiB; the writer keeps SQLite's usual 2,000. The kernel has the rest.
const READERS_CACHE_KIB: i64 = 512;

/// A piece of work's future.
pub type Work<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

type Job = Box<
    dyn for<'t> FnOnce(Result<&'t mut Tx, StoreError>) -> Pin<Box<dyn Future<Output = Outcome> + Send + 't>>
        + Send,
>;

/// Whether a piece of work is to be kept, and how to answer once that is certain.
struct Outcome {
    keep: bool,
    answer: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    path: Arc<PathBuf>,
    jobs: mpsc::Sender<JobBox>,
    readers: Arc<Readers>,
}

struct JobBox(Job);

impl std::fmt::Debug for JobBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

#[derive(Debug)]
struct Readers {
    free: Semaphore,
    idle: Mutex<Vec<Tx>>,
}

/// How the store came to be what it is; what has landed is never changed.
const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("../migrations/0001_hub.sql")),
    M::up(include_str!("../migrations/0002_ask_again.sql")),
    M::up(include_str!("../migrations/0003_trust.sql")),
    M::up(include_str!("../migrations/0004_content.sql")),
    M::up(include_str!("../migrations/0005_uncovered.sql")),
    M::up(include_str!("../migrations/0006_device_image.sql")),
    M::up(include_str!("../migrations/0007_chain.sql")),
    M::up(include_str!("../migrations/0008_deposits.sql")),
    M::up(include_str!("../migrations/0009_boinc.sql")),
    M::up(include_str!("../migrations/0010_time.sql")),
];

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // More than there are statements.
    connection.set_prepared_statement_cache_capacity(256);
    Ok(connection)
}

/// The connection that writes, on a store that is brought to this program's version.
fn writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.display().to_string(), source: Arc::new(source) };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = connect(path, flags).map_err(failed)?;
    // It answers with what the mode is then.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    adopt(&connection).map_err(failed)?;
    Migrations::from_slice(MIGRATIONS)
        .to_latest(&mut connection)
        .map_err(|source| StoreError::Migrate(Arc::new(source)))?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    Ok(connection)
}

/// A store of before `user_version` was used counted its migrations in a table.
fn adopt(connection: &Connection) -> rusqlite::Result<()> {
    const TABLE: &str = "_sqlx_migrations";
    if connection.table_exists(None, TABLE)? {
        let done: i64 =
            connection
                .query_row(&format!("SELECT COUNT(*) FROM {TABLE} WHERE success"), [], |row| row.get(0))?;
        // Both or neither.
        connection
            .execute_batch(&format!("BEGIN; PRAGMA user_version = {done}; DROP TABLE {TABLE}; COMMIT"))?;
    }
    Ok(())
}

/// A connection that reads.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Tx> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // Below zero it is KiB, above pages.
    connection.pragma_update(None, "cache_size", -READERS_CACHE_KIB)?;
    Ok(Tx::new(connection))
}

// === impl Store ===

impl Store {
    /// Opens the store in a file, makes it if it is not there, and brings it to this program's version.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Migrate`] and [`StoreError::Thread`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let file = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || {
            let writer = writer(&file)?;
            let idle = std::iter::repeat_with(|| reader(&file)).take(READERS).collect::<Result<Vec<_>, _>>();
            Ok::<_, StoreError>((writer, idle.map_err(StoreError::sql)?))
        });
        let (writer, idle) = match opening.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(opened) => opened?,
            // A mistake in this program is told as what it is.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_cancelled)) => return Err(StoreError::Closed),
        };
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("store".into());
        thread
            .spawn(move || futures_executor::block_on(write_all(Tx::new(writer), queue)))
            .map_err(|source| StoreError::Thread(Arc::new(source)))?;
        let readers = Arc::new(Readers { free: Semaphore::new(READERS), idle: Mutex::new(idle) });
        Ok(Self { path: Arc::new(path.to_owned()), jobs, readers })
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a piece of work in a transaction. When it returns `Ok`, its changes are on disk; when it returns an
    /// error, none of them has happened.
    ///
    /// # Errors
    /// The work's own, and [`StoreError`].
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            Box::pin(async move {
                let result = match tx {
                    Ok(tx) => work(tx).await,
                    Err(error) => Err(E::from(error)),
                };
                Outcome {
                    keep: result.is_ok(),
                    answer: Box::new(move |committed| {
                        // Who asked may have gone; the work is done all the same.
                        let _ = answer.send(match committed {
                            Err(error) if result.is_ok() => Err(E::from(error)),
                            _ => result,
                        });
                    }),
                }
            })
        });
        self.jobs.send(JobBox(job)).await.map_err(|_| E::from(StoreError::Closed))?;
        answered.await.unwrap_or_else(|_| Err(E::from(StoreError::Closed)))
    }

    /// Reads from a snapshot of what has been committed.
    ///
    /// # Errors
    /// The work's own, and [`StoreError`].
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T, E>,
    {
        let _permit = self.readers.free.acquire().await.map_err(|_| StoreError::Closed)?;
        let taken = self.readers.idle.lock().await.pop();
        let mut tx = match taken {
            Some(tx) => tx,
            // A reader that was cancelled half-way has taken its connection with it.
            None => reader(&self.path).map_err(StoreError::sql)?,
        };
        tx.run(Query::new("BEGIN")).await?;
        let result = work(&mut tx).await;
        // A connection that had trouble, or cannot end its snapshot, is not used again.
        if tx.run(Query::new("ROLLBACK")).await.is_ok() {
            self.readers.idle.lock().await.push(tx);
        }
        result
    }
}

async fn write_all(mut tx: Tx, mut queue: mpsc::Receiver<JobBox>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, MOST_IN_ONE_COMMIT).await > 0 {
        let mut outcomes = Vec::with_capacity(waiting.len());
        tx.trouble = None;
        let mut state = tx.run(Query::new("BEGIN IMMEDIATE")).await.map(drop);
        for JobBox(job) in waiting.drain(..) {
            outcomes.push(match state.clone() {
                Ok(()) => in_savepoint(&mut tx, job, &mut state).await,
                Err(error) => job(Err(error)).await,
            });
        }
        if state.is_ok() {
            state = match sosna_fault::point("hub-store/commit") {
                Ok(()) => tx.run(Query::new("COMMIT")).await.map(drop),
                // As the database would say it.
                Err(error) => {
                    let code = ffi::Error::new(ffi::SQLITE_IOERR);
                    Err(StoreError::sql(rusqlite::Error::SqliteFailure(code, Some(error.to_string()))))
                }
            };
        }
        sosna_fault::passed("hub-store/committed");
        if let Err(error) = &state {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "a commit failed; nothing of it is kept"
            );
            tx.trouble = None;
            // Fails where the database has rolled back by itself.
            let _ = tx.run(Query::new("ROLLBACK")).await;
        }
        for outcome in outcomes {
            // What failed by itself is told so, whatever became of the rest.
            (outcome.answer)(if outcome.keep { state.clone() } else { Ok(()) });
        }
    }
}

async fn in_savepoint(tx: &mut Tx, job: Job, state: &mut Result<(), StoreError>) -> Outcome {
    if let Err(error) = tx.run(Query::new("SAVEPOINT work")).await {
        *state = Err(error.clone());
        return job(Err(error)).await;
    }
    let Outcome { keep, answer } = job(Ok(tx)).await;
    let trouble = tx.trouble.take();
    // Work that overlooked an error is not kept either.
    let keep = keep && trouble.is_none();
    let undone = match keep {
        true => Ok(0),
        false => tx.run(Query::new("ROLLBACK TO work")).await,
    };
    let ended = match undone {
        Ok(_) => tx.run(Query::new("RELEASE work")).await,
        failed => failed,
    };
    if let Err(error) = ended {
        // After some errors (a full disk) the database has rolled everything back by itself.
        *state = Err(trouble.clone().unwrap_or(error));
    }
    match trouble {
        None => Outcome { keep, answer },
        Some(trouble) => Outcome { keep, answer: Box::new(move |_| answer(Err(trouble))) },
    }
}
