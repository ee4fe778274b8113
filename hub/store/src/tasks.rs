//! Tasks: the units that are verified.

use sosna_protocol::{
    Amount, Hash,
    identity::{JobId, TaskId},
    resources::Class,
    result::Cause,
};

use crate::{
    StoreError, Tx,
    column::{amount, bytes, int, integer, maybe_bytes, maybe_integer, maybe_word, text, word, words},
    devices::{class_number, class_of},
    sql::Query,
};
use rusqlite::Row;

words! {
    /// How far a task is.
    TaskState {
        /// No device has taken it yet.
        Queued = "queued",
        /// Devices work on it; commitments are open.
        Running = "running",
        /// Commitments are closed, results are being shown.
        Revealing = "revealing",
        /// It has a result that counts.
        Accepted = "accepted",
        /// It came to nothing.
        Failed = "failed",
        /// Its buyer stopped it.
        Cancelled = "cancelled",
    }
}

words! {
    /// Whether the hub wants a second result beside the one that the buyer asked for.
    CheckState {
        /// It does: what two found counts, and is verified.
        Open = "open",
        /// It does not any more, because nobody was there to give it.
        Dropped = "dropped",
    }
}

/// A task whose buyer asked for one result and of which the hub wants a second, to check a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Whether it still does.
    pub state: CheckState,
    /// The day, counted from 1970, whose budget pays for it.
    pub day: u64,
}

/// How many of a job's tasks stand so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskCount {
    /// How they stand.
    pub state: TaskState,
    /// Whether the program ended by itself and with exit code 0.
    pub well: bool,
    /// How many.
    pub count: u32,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name within the hub.
    pub id: TaskId,
    /// Whose part it is.
    pub job: JobId,
    /// Which part, from 0.
    pub place: u32,
    /// How far it is.
    pub state: TaskState,
    /// How many replicas the buyer asked for: as many are paid at most.
    pub asked: u32,
    /// How many are wanted by now.
    pub wanted: u32,
    /// How many assignments came to nothing so far.
    pub attempts: u32,
    /// The class in which its replicas run, once the first was placed and exactness is asked for.
    pub class: Option<Class>,
    /// Until when results must be shown.
    pub reveal_by_ms: Option<u64>,
    /// The verified result.
    pub end: Option<TaskEnd>,
    /// Why it is not placed, or why it failed, for people.
    pub reason: String,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// Whether the hub checks a device by it.
    pub check: Option<Check>,
}

/// The result that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskEnd {
    /// The result tree's root.
    pub root: Hash,
    /// The manifest in the content store.
    pub manifest: Hash,
    /// How it ended.
    pub cause: Cause,
    /// With which code.
    pub exit_code: u8,
}

/// A task that wants more replicas, with what placing it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTask {
    /// The task.
    pub task: Task,
    /// Whose job it is of.
    pub buyer: String,
    /// Its job's specification.
    pub spec: String,
    /// How many tasks its job has.
    pub count: u32,
    /// The most that a replica may cost.
    pub cap: Amount,
    /// How many more replicas are wanted.
    pub missing: u32,
}

fn task(row: &Row<'_>) -> Result<Task, StoreError> {
    let class: Option<i64> = maybe_integer(row, "class")?;
    let end = match (
        maybe_bytes(row, "root")?,
        maybe_bytes(row, "manifest")?,
        maybe_word(row, "cause", Cause::from_word)?,
        maybe_integer(row, "exit_code")?,
    ) {
        (Some(root), Some(manifest), Some(cause), Some(exit_code)) => {
            Some(TaskEnd { root: Hash(root), manifest: Hash(manifest), cause, exit_code })
        }
        _ => None,
    };
    Ok(Task {
        id: TaskId(bytes(row, "id")?),
        job: JobId(bytes(row, "job")?),
        place: integer(row, "place")?,
        state: word(row, "state", TaskState::from_word)?,
        asked: integer(row, "asked")?,
        wanted: integer(row, "wanted")?,
        attempts: integer(row, "attempts")?,
        class: class
            .map(|number| class_of(number).ok_or(StoreError::Column { name: "class" }))
            .transpose()?,
        reveal_by_ms: maybe_integer(row, "reveal_by_ms")?,
        end,
        reason: text(row, "reason")?,
        ended_ms: maybe_integer(row, "ended_ms")?,
        check: match (
            maybe_word(row, "check_state", CheckState::from_word)?,
            maybe_integer(row, "check_day")?,
        ) {
            (Some(state), Some(day)) => Some(Check { state, day }),
            _ => None,
        },
    })
}

impl Task {
    /// Whether devices bind themselves to a result before any is shown.
    #[must_use]
    pub const fn commits(&self) -> bool {
        self.asked > 1 || self.check.is_some()
    }
}

impl Tx {
    /// Adds a task that nobody has begun.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_task(
        &mut self,
        id: &TaskId,
        job: &JobId,
        place: u32,
        asked: u32,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO tasks (id, job, place, state, asked, wanted) VALUES (?, ?, ?, 'queued', ?, ?)",
        );
        self.run(query.bind(&id.0[..]).bind(&job.0[..]).bind(place).bind(asked).bind(asked)).await.map(drop)
    }

    /// A task.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn task(&mut self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        self.one(Query::new("SELECT * FROM tasks WHERE id = ?").bind(&id.0[..]), task).await
    }

    /// A job's tasks in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tasks_of(&mut self, job: &JobId) -> Result<Vec<Task>, StoreError> {
        self.all(Query::new("SELECT * FROM tasks WHERE job = ? ORDER BY place").bind(&job.0[..]), task).await
    }

    /// Whether some of a job's tasks have not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_open_tasks(&mut self, job: &JobId) -> Result<bool, StoreError> {
        let query = Query::new("SELECT 1 FROM tasks WHERE job = ? AND ended_ms IS NULL LIMIT 1");
        Ok(self.one(query.bind(&job.0[..]), |_| Ok(())).await?.is_some())
    }

    /// Tasks that want more replicas than they have, oldest job first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_tasks(&mut self, now_ms: u64, limit: u32) -> Result<Vec<OpenTask>, StoreError> {
        self.open_tasks_after(now_ms, 0, limit).await
    }

    /// Like [`Tx::open_tasks`], without the first so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_tasks_after(
        &mut self,
        now_ms: u64,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<OpenTask>, StoreError> {
        let query = Query::new(
            "SELECT tasks.*, jobs.buyer, jobs.spec, jobs.cap, jobs.tasks AS count,
                tasks.wanted - (SELECT COUNT(*) FROM assignments WHERE task = tasks.id
                    AND state IN ('offered', 'accepted', 'committed', 'revealed')) AS missing
             FROM tasks JOIN jobs ON jobs.id = tasks.job
             WHERE tasks.state IN ('queued', 'running') AND tasks.not_before_ms <= ? AND missing > 0
             ORDER BY jobs.created_ms, jobs.id, tasks.place LIMIT ? OFFSET ?",
        );
        self.all(query.bind(int(now_ms)).bind(limit).bind(skip), |row| {
            Ok(OpenTask {
                task: task(row)?,
                buyer: text(row, "buyer")?,
                spec: text(row, "spec")?,
                count: integer(row, "count")?,
                cap: amount(row, "cap")?,
                missing: integer(row, "missing")?,
            })
        })
        .await
    }

    /// Tasks whose results should have been shown by now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn overdue_reveals(&mut self, now_ms: u64) -> Result<Vec<TaskId>, StoreError> {
        let query = Query::new("SELECT id FROM tasks WHERE state = 'revealing' AND reveal_by_ms < ?");
        self.all(query.bind(int(now_ms)), |row| bytes(row, "id").map(TaskId)).await
    }

    /// Moves a task on; its reason is cleared.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_task_state(
        &mut self,
        id: &TaskId,
        state: TaskState,
        reveal_by_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE tasks SET state = ?, reveal_by_ms = ?, reason = '' WHERE id = ?");
        self.run(query.bind(state.word()).bind(reveal_by_ms.map(int)).bind(&id.0[..])).await.map(drop)
    }

    /// Wants another number of replicas.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_task_wanted(&mut self, id: &TaskId, wanted: u32) -> Result<(), StoreError> {
        let query = Query::new("UPDATE tasks SET wanted = ? WHERE id = ?");
        self.run(query.bind(wanted).bind(&id.0[..])).await.map(drop)
    }

    /// Begins, or gives up, to check a device by a task, with so many results.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_task_check(&mut self, id: &TaskId, check: Check, wanted: u32) -> Result<(), StoreError> {
        let query = Query::new("UPDATE tasks SET check_state = ?, check_day = ?, wanted = ? WHERE id = ?");
        let query = query.bind(check.state.word()).bind(int(check.day)).bind(wanted);
        self.run(query.bind(&id.0[..])).await.map(drop)
    }

    /// How a job's tasks stand.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn task_counts(&mut self, job: &JobId) -> Result<Vec<TaskCount>, StoreError> {
        let query = Query::new(
            "SELECT state, COALESCE(cause = 'exited' AND exit_code = 0, 0) AS well, COUNT(*) AS count
             FROM tasks WHERE job = ? GROUP BY state, well",
        );
        self.all(query.bind(&job.0[..]), |row| {
            Ok(TaskCount {
                state: word(row, "state", TaskState::from_word)?,
                well: integer::<u8>(row, "well")? != 0,
                count: integer(row, "count")?,
            })
        })
        .await
    }

    /// The first of a job's tasks, in their order, about which something is to be said: one that failed, or one that
    /// waits, by whether the job has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_task_with_reason(
        &mut self,
        job: &JobId,
        failed: bool,
    ) -> Result<Option<Task>, StoreError> {
        let query = Query::new(
            "SELECT * FROM tasks WHERE job = ? AND reason != '' AND (state = 'failed') = ? ORDER BY place LIMIT 1",
        );
        self.one(query.bind(&job.0[..]).bind(failed), task).await
    }

    /// Fixes the class in which a task's replicas run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_task_class(&mut self, id: &TaskId, class: Class) -> Result<(), StoreError> {
        let query = Query::new("UPDATE tasks SET class = ? WHERE id = ?");
        self.run(query.bind(class_number(class)).bind(&id.0[..])).await.map(drop)
    }

    /// Lets a task's next replica run on any class: none is left that it would have to agree with.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clear_task_class(&mut self, id: &TaskId) -> Result<(), StoreError> {
        self.run(Query::new("UPDATE tasks SET class = NULL WHERE id = ?").bind(&id.0[..])).await.map(drop)
    }

    /// Waits with a task's next replica.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delay_task(&mut self, id: &TaskId, not_before_ms: u64) -> Result<(), StoreError> {
        let query = Query::new("UPDATE tasks SET not_before_ms = ? WHERE id = ?");
        self.run(query.bind(int(not_before_ms)).bind(&id.0[..])).await.map(drop)
    }

    /// Counts an attempt that came to nothing, and waits with the next.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_attempt(&mut self, id: &TaskId, not_before_ms: u64) -> Result<(), StoreError> {
        let query = Query::new("UPDATE tasks SET attempts = attempts + 1, not_before_ms = ? WHERE id = ?");
        self.run(query.bind(int(not_before_ms)).bind(&id.0[..])).await.map(drop)
    }

    /// Says why a task is not placed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_task_reason(&mut self, id: &TaskId, reason: &str) -> Result<(), StoreError> {
        let query = Query::new("UPDATE tasks SET reason = ? WHERE id = ? AND reason != ?");
        self.run(query.bind(reason).bind(&id.0[..]).bind(reason)).await.map(drop)
    }

    /// Ends a task: with a result that counts, or with none and a reason.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_task(
        &mut self,
        id: &TaskId,
        state: TaskState,
        end: Option<&TaskEnd>,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE tasks SET state = ?, root = ?, manifest = ?, cause = ?, exit_code = ?, reason = ?, ended_ms = ?,
                reveal_by_ms = NULL WHERE id = ?",
        );
        let query = query
            .bind(state.word())
            .bind(end.map(|end| end.root.0.to_vec()))
            .bind(end.map(|end| end.manifest.0.to_vec()))
            .bind(end.map(|end| end.cause.word()))
            .bind(end.map(|end| end.exit_code))
            .bind(reason)
            .bind(int(now_ms))
            .bind(&id.0[..]);
        self.run(query).await.map(drop)
    }
}
