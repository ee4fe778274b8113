//! Jobs: what buyers submitted, and what is set aside for it.

use sosna_protocol::{Address, Amount, Hash, identity::JobId};

use crate::{
    StoreError, Tx,
    column::{amount, bytes, int, integer, maybe_integer, text, word, words},
    sql::Query,
};
use rusqlite::Row;

words! {
    /// How far a job is.
    JobState {
        /// None of its tasks has begun.
        Queued = "queued",
        /// Some have.
        Running = "running",
        /// All tasks ended, each with a verified exit code of zero.
        Succeeded = "succeeded",
        /// A task failed.
        Failed = "failed",
        /// Its buyer stopped it.
        Cancelled = "cancelled",
    }
}

impl JobState {
    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name within the hub.
    pub id: JobId,
    /// Who pays.
    pub buyer: String,
    /// For people.
    pub name: String,
    /// What was asked for, in the hub's own JSON.
    pub spec: String,
    /// The SHA-256 of the request, to tell a repetition from another request under the same key.
    pub request_hash: Hash,
    /// How far it is.
    pub state: JobState,
    /// How many tasks it has.
    pub tasks: u32,
    /// Set aside for it.
    pub reserved: Amount,
    /// Owed to devices for it.
    pub spent: Amount,
    /// The most that one replica of one task may cost.
    pub cap: Amount,
    /// The class of its image, by which devices' reputation is kept.
    pub image_class: String,
    /// When it was submitted.
    pub created_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

/// What the books say of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSum {
    /// Who pays.
    pub buyer: String,
    /// What is set aside for it now.
    pub reserved: Amount,
    /// What it has cost so far.
    pub spent: Amount,
}

/// A job that is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// All that is known of it.
    pub job: Job,
    /// The buyer's key against doing it twice.
    pub idempotency: String,
    /// Content that its devices may read.
    pub content: Vec<Hash>,
}

fn job(row: &Row<'_>) -> Result<Job, StoreError> {
    Ok(Job {
        id: JobId(bytes(row, "id")?),
        buyer: text(row, "buyer")?,
        name: text(row, "name")?,
        spec: text(row, "spec")?,
        request_hash: Hash(bytes(row, "request_hash")?),
        state: word(row, "state", JobState::from_word)?,
        tasks: integer(row, "tasks")?,
        reserved: amount(row, "reserved")?,
        spent: amount(row, "spent")?,
        cap: amount(row, "cap")?,
        image_class: text(row, "image_class")?,
        created_ms: integer(row, "created_ms")?,
        ended_ms: maybe_integer(row, "ended_ms")?,
    })
}

impl Tx {
    /// Adds a job and what its devices may read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_job(&mut self, new: &NewJob) -> Result<(), StoreError> {
        let NewJob { job, idempotency, content } = new;
        let query = Query::new(
            "INSERT INTO jobs (id, buyer, idempotency, request_hash, name, spec, state, tasks, reserved, spent, cap,
                image_class, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let query = query
            .bind(&job.id.0[..])
            .bind(&job.buyer)
            .bind(idempotency)
            .bind(&job.request_hash.0[..])
            .bind(&job.name)
            .bind(&job.spec)
            .bind(job.state.word())
            .bind(job.tasks)
            .bind(job.reserved.to_be_bytes().to_vec())
            .bind(job.spent.to_be_bytes().to_vec())
            .bind(job.cap.to_be_bytes().to_vec())
            .bind(&job.image_class)
            .bind(int(job.created_ms));
        self.run(query).await?;
        for name in content {
            let query = Query::new(
                "INSERT INTO job_content (job, sha256, is_result) VALUES (?, ?, 0) ON CONFLICT DO NOTHING",
            );
            self.run(query.bind(&job.id.0[..]).bind(&name.0[..])).await?;
        }
        Ok(())
    }

    /// A job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job(&mut self, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.one(Query::new("SELECT * FROM jobs WHERE id = ?").bind(&id.0[..]), job).await
    }

    /// The job that a buyer submitted under a key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job_by_key(&mut self, buyer: &str, idempotency: &str) -> Result<Option<Job>, StoreError> {
        let query = Query::new("SELECT * FROM jobs WHERE buyer = ? AND idempotency = ?");
        self.one(query.bind(buyer).bind(idempotency), job).await
    }

    /// The newest jobs created before a moment: a buyer's, or everybody's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn jobs(
        &mut self,
        buyer: Option<&str>,
        state: Option<JobState>,
        before_ms: u64,
        limit: u32,
    ) -> Result<Vec<Job>, StoreError> {
        let query = Query::new(
            "SELECT * FROM jobs WHERE (?1 IS NULL OR buyer = ?1) AND (?2 IS NULL OR state = ?2) AND created_ms < ?3
             ORDER BY created_ms DESC, id LIMIT ?4",
        );
        let query = query.bind(buyer).bind(state.map(JobState::word)).bind(int(before_ms)).bind(limit);
        self.all(query, job).await
    }

    /// What a buyer's jobs, or everybody's, hold and have cost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job_sums(&mut self, buyer: Option<&str>) -> Result<Vec<JobSum>, StoreError> {
        let query = Query::new(
            "SELECT jobs.buyer, jobs.spent, COALESCE(accounts.taken, zeroblob(16)) AS taken,
                COALESCE(accounts.given, zeroblob(16)) AS given
             FROM jobs LEFT JOIN accounts ON accounts.name = 'job:' || lower(hex(jobs.id))
             WHERE ?1 IS NULL OR jobs.buyer = ?1",
        );
        self.all(query.bind(buyer), |row| {
            let (taken, given) = (amount(row, "taken")?, amount(row, "given")?);
            let reserved = taken.checked_sub(given).unwrap_or_default();
            Ok(JobSum { buyer: text(row, "buyer")?, reserved, spent: amount(row, "spent")? })
        })
        .await
    }

    /// Moves a job on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_job_state(
        &mut self,
        id: &JobId,
        state: JobState,
        ended_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE jobs SET state = ?, ended_ms = ? WHERE id = ?");
        self.run(query.bind(state.word()).bind(ended_ms.map(int)).bind(&id.0[..])).await.map(drop)
    }

    /// Sets what a job has cost so far.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_job_spent(&mut self, id: &JobId, spent: Amount) -> Result<(), StoreError> {
        let query = Query::new("UPDATE jobs SET spent = ? WHERE id = ?");
        self.run(query.bind(spent.to_be_bytes().to_vec()).bind(&id.0[..])).await.map(drop)
    }

    /// Whether a device has an open assignment of a job that this content belongs to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn device_may_read(&mut self, device: &Address, name: &Hash) -> Result<bool, StoreError> {
        let query = Query::new(
            "SELECT 1 FROM job_content JOIN tasks ON tasks.job = job_content.job
                JOIN assignments ON assignments.task = tasks.id
             WHERE job_content.sha256 = ? AND assignments.device = ?
                AND assignments.state IN ('offered', 'accepted', 'committed') LIMIT 1",
        );
        Ok(self.one(query.bind(&name.0[..]).bind(&device.0[..]), |_| Ok(())).await?.is_some())
    }

    /// Whether content is among what a buyer's jobs were given or have returned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn buyer_may_read(&mut self, buyer: &str, name: &Hash) -> Result<bool, StoreError> {
        let query = Query::new(
            "SELECT 1 FROM job_content JOIN jobs ON jobs.id = job_content.job
             WHERE job_content.sha256 = ? AND jobs.buyer = ? LIMIT 1",
        );
        Ok(self.one(query.bind(&name.0[..]).bind(buyer), |_| Ok(())).await?.is_some())
    }

    /// Adds content to what a job's buyer (and devices) may read: an accepted result.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_job_content(&mut self, id: &JobId, name: &Hash) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO job_content (job, sha256, is_result) VALUES (?, ?, 1)
             ON CONFLICT DO UPDATE SET is_result = 1",
        );
        self.run(query.bind(&id.0[..]).bind(&name.0[..])).await.map(drop)
    }
}
