//! The one writer. It takes whatever has queued, runs it in one transaction with a savepoint for each piece of
//! work, commits once, and only then answers. It never lingers for more: a linger of 2 ms halved the throughput.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use crate::{StoreError, Tx};

/// How many pieces of work share one commit at most: bounds what one flush may undo and how long it takes.
const MOST_IN_ONE_COMMIT: usize = 1024;
/// How many pieces of work may wait. Beyond it callers wait to be queued.
const QUEUE: usize = 4096;
/// Connections that read beside the writer.
const READERS: usize = 4;

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

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
}

// === impl Store ===

impl Store {
    /// Opens the store in a file, makes it if it is not there, and brings it to this program's version.
    ///
    /// # Errors
    /// [`StoreError::Open`] and [`StoreError::Migrate`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.display().to_string(), source: Arc::new(source) };
        let mut connection =
            SqliteConnection::connect_with(&options(path).create_if_missing(true)).await.map_err(failed)?;
        sqlx::migrate!("./migrations")
            .run(&mut connection)
            .await
            .map_err(|source| StoreError::Migrate(Arc::new(source)))?;
        let mut idle = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let connection =
                SqliteConnection::connect_with(&options(path).read_only(true)).await.map_err(failed)?;
            idle.push(Tx::new(connection));
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(Tx::new(connection), queue));
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
            None => {
                let connection = SqliteConnection::connect_with(&options(&self.path).read_only(true))
                    .await
                    .map_err(StoreError::sql)?;
                Tx::new(connection)
            }
        };
        tx.run(sqlx::query("BEGIN")).await?;
        let result = work(&mut tx).await;
        // A connection that had trouble, or cannot end its snapshot, is not used again.
        if tx.run(sqlx::query("ROLLBACK")).await.is_ok() {
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
        let mut state = tx.run(sqlx::query("BEGIN IMMEDIATE")).await.map(drop);
        for JobBox(job) in waiting.drain(..) {
            outcomes.push(match state.clone() {
                Ok(()) => in_savepoint(&mut tx, job, &mut state).await,
                Err(error) => job(Err(error)).await,
            });
        }
        if state.is_ok() {
            state = match sosna_fault::point("hub-store/commit") {
                Ok(()) => tx.run(sqlx::query("COMMIT")).await.map(drop),
                Err(error) => Err(StoreError::sql(sqlx::Error::Io(error))),
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
            let _ = tx.run(sqlx::query("ROLLBACK")).await;
        }
        for outcome in outcomes {
            // What failed by itself is told so, whatever became of the rest.
            (outcome.answer)(if outcome.keep { state.clone() } else { Ok(()) });
        }
    }
}

async fn in_savepoint(tx: &mut Tx, job: Job, state: &mut Result<(), StoreError>) -> Outcome {
    if let Err(error) = tx.run(sqlx::query("SAVEPOINT work")).await {
        *state = Err(error.clone());
        return job(Err(error)).await;
    }
    let Outcome { keep, answer } = job(Ok(tx)).await;
    let trouble = tx.trouble.take();
    // Work that overlooked an error is not kept either.
    let keep = keep && trouble.is_none();
    let ended = match keep {
        // As a query it is prepared once.
        true => sqlx::query("RELEASE work").execute(&mut tx.connection).await,
        false => sqlx::raw_sql("ROLLBACK TO work; RELEASE work").execute(&mut tx.connection).await,
    };
    if let Err(error) = ended {
        // After some errors (a full disk) the database has rolled everything back by itself.
        *state = Err(trouble.clone().unwrap_or_else(|| StoreError::sql(error)));
    }
    match trouble {
        None => Outcome { keep, answer },
        Some(trouble) => Outcome { keep, answer: Box::new(move |_| answer(Err(trouble))) },
    }
}
