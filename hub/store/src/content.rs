//! Content: who has shown its bytes, and what still needs it. The bytes themselves are no business of the store's.

use sosna_protocol::{Hash, identity::AssignmentId};

use crate::{
    StoreError, Tx,
    column::{bytes, int, integer},
    sql::Query,
};

/// Who has shown the bytes of some content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A person, by name.
    Person(String),
    /// A device, for this assignment.
    Assignment(AssignmentId),
}

/// What somebody has shown that no unfinished job of theirs uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unused {
    /// How many pieces.
    pub pieces: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their bytes, where each counts for so many at least as was asked.
    pub charged: u64,
}

// === impl Holder ===

impl Holder {
    fn columns(&self) -> (&str, &[u8]) {
        match self {
            Self::Person(name) => (name, &[]),
            Self::Assignment(id) => ("", &id.0),
        }
    }
}

impl Tx {
    /// Remembers that somebody has shown the bytes of content, now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_content(
        &mut self,
        holder: &Holder,
        name: &Hash,
        length: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let (person, assignment) = holder.columns();
        let query = Query::new(
            "INSERT INTO held_content (person, assignment, sha256, length, touched_ms) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET touched_ms = excluded.touched_ms",
        );
        let query = query.bind(person).bind(assignment).bind(&name.0[..]).bind(int(length));
        self.run(query.bind(int(now_ms))).await.map(drop)
    }

    /// When somebody has last shown or asked for content that they have sent; `None` where they have not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_since(&mut self, holder: &Holder, name: &Hash) -> Result<Option<u64>, StoreError> {
        let (person, assignment) = holder.columns();
        let query = Query::new(
            "SELECT touched_ms FROM held_content WHERE person = ? AND assignment = ? AND sha256 = ?",
        );
        let query = query.bind(person).bind(assignment).bind(&name.0[..]);
        self.one(query, |row| integer(row, "touched_ms")).await
    }

    /// With how many bytes somebody has sent this content; `None` where they have not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_length(&mut self, holder: &Holder, name: &Hash) -> Result<Option<u64>, StoreError> {
        let (person, assignment) = holder.columns();
        let query =
            Query::new("SELECT length FROM held_content WHERE person = ? AND assignment = ? AND sha256 = ?");
        let query = query.bind(person).bind(assignment).bind(&name.0[..]);
        self.one(query, |row| integer(row, "length")).await
    }

    /// All that somebody has shown, with its length.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_by(&mut self, holder: &Holder) -> Result<Vec<(Hash, u64)>, StoreError> {
        let (person, assignment) = holder.columns();
        let query = Query::new("SELECT sha256, length FROM held_content WHERE person = ? AND assignment = ?");
        let query = query.bind(person).bind(assignment);
        self.all(query, |row| Ok((Hash(bytes(row, "sha256")?), integer(row, "length")?))).await
    }

    /// What somebody has shown that no unfinished job of theirs uses, a piece counting for `least` bytes at least.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unused_content(&mut self, holder: &Holder, least: u64) -> Result<Unused, StoreError> {
        let (person, assignment) = holder.columns();
        let query = Query::new(
            "SELECT COUNT(*) AS pieces, COALESCE(SUM(length), 0) AS bytes,
                COALESCE(SUM(MAX(length, ?)), 0) AS charged FROM held_content AS held
             WHERE person = ? AND assignment = ? AND (person = '' OR NOT EXISTS (
                SELECT 1 FROM job_content JOIN jobs ON jobs.id = job_content.job
                WHERE job_content.sha256 = held.sha256 AND jobs.buyer = held.person AND jobs.ended_ms IS NULL))",
        );
        let query = query.bind(int(least)).bind(person).bind(assignment);
        let unused = self.sum(query, |row| {
            Ok(Unused {
                pieces: integer(row, "pieces")?,
                bytes: integer(row, "bytes")?,
                charged: integer(row, "charged")?,
            })
        });
        Ok(unused.await?.unwrap_or_default())
    }

    /// Whether a person may name content in a job: they have sent it, or a job of theirs was given it or returned it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn may_name(&mut self, person: &str, name: &Hash) -> Result<bool, StoreError> {
        let holder = Holder::Person(person.to_owned());
        Ok(self.held_since(&holder, name).await?.is_some() || self.buyer_may_read(person, name).await?)
    }

    /// Whether anything needs content: a job that has not ended, or not for long (results since `results_ms`, the
    /// rest since `unused_ms`); somebody who has shown it since `unused_ms`; a result that is being delivered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_needed(
        &mut self,
        name: &Hash,
        unused_ms: u64,
        results_ms: u64,
    ) -> Result<bool, StoreError> {
        let query = Query::new(
            "SELECT 1 FROM job_content JOIN jobs ON jobs.id = job_content.job
             WHERE job_content.sha256 = ?1 AND (jobs.ended_ms IS NULL
                OR jobs.ended_ms >= CASE job_content.is_result WHEN 1 THEN ?3 ELSE ?2 END)
             UNION ALL
             SELECT 1 FROM held_content AS held
             WHERE held.sha256 = ?1 AND (held.touched_ms >= ?2 OR EXISTS (
                SELECT 1 FROM assignments JOIN tasks ON tasks.id = assignments.task
                WHERE assignments.id = held.assignment AND tasks.ended_ms IS NULL))
             LIMIT 1",
        );
        let query = query.bind(&name.0[..]).bind(int(unused_ms)).bind(int(results_ms));
        Ok(self.one(query, |_| Ok(())).await?.is_some())
    }

    /// Forgets who has shown what, where that was before `before_ms` and, for an assignment, its task has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_held(&mut self, before_ms: u64) -> Result<u64, StoreError> {
        let query = Query::new(
            "DELETE FROM held_content WHERE touched_ms < ? AND NOT EXISTS (
                SELECT 1 FROM assignments JOIN tasks ON tasks.id = assignments.task
                WHERE assignments.id = held_content.assignment AND tasks.ended_ms IS NULL)",
        );
        self.run(query.bind(int(before_ms))).await
    }

    /// When the last of the ended jobs that content belongs to has ended: a person's jobs, or everybody's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn content_ended(
        &mut self,
        person: Option<&str>,
        name: &Hash,
    ) -> Result<Option<u64>, StoreError> {
        let query = Query::new(
            "SELECT jobs.ended_ms AS ended_ms FROM job_content JOIN jobs ON jobs.id = job_content.job
             WHERE job_content.sha256 = ?1 AND (?2 IS NULL OR jobs.buyer = ?2) AND jobs.ended_ms IS NOT NULL
             ORDER BY jobs.ended_ms DESC LIMIT 1",
        );
        self.one(query.bind(&name.0[..]).bind(person), |row| integer(row, "ended_ms")).await
    }
}
