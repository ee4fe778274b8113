//! Assignments: one device's lease on one task, from the offer to the verdict.

use sosna_protocol::{
    Address, Amount, Hash, Signature,
    identity::{AssignmentId, JobId, TaskId},
    message::{beat::Phase, result::Judgement},
    result::{Cause, Usage},
};

use crate::{
    StoreError, Tx,
    column::{amount, bytes, int, integer, maybe_bytes, maybe_integer, maybe_word, text, word, words},
    sql::Query,
};
use rusqlite::Row;

words! {
    /// How far an assignment is.
    AssignmentState {
        /// Sent, not answered.
        Offered = "offered",
        /// The device has it on disk.
        Accepted = "accepted",
        /// The device has bound itself to a result.
        Committed = "committed",
        /// The result is here.
        Revealed = "revealed",
        /// The result was judged.
        Judged = "judged",
        /// The device would not.
        Refused = "refused",
        /// The device could not.
        Failed = "failed",
        /// The lease ran out. A result that still comes may count.
        Expired = "expired",
        /// The job was stopped.
        Cancelled = "cancelled",
    }
}

impl AssignmentState {
    /// Whether the device still works on it, or its result is being waited for.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Offered | Self::Accepted | Self::Committed | Self::Revealed)
    }
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Its name.
    pub id: AssignmentId,
    /// Of which task.
    pub task: TaskId,
    /// To whom.
    pub device: Address,
    /// Whose the device was then.
    pub owner: Address,
    /// How far it is.
    pub state: AssignmentState,
    /// Fixed when it was made.
    pub price: Amount,
    /// Until when it is the device's.
    pub lease_until_ms: u64,
    /// When it was made.
    pub created_ms: u64,
    /// When the device accepted.
    pub accepted_ms: Option<u64>,
    /// How long it has then to come to a result: signs of life do not renew the lease beyond.
    pub time_ms: Option<u64>,
    /// What the device said last of its progress.
    pub phase: Option<Phase>,
    /// Thousandths of that.
    pub permille: u16,
    /// What the device bound itself to.
    pub commitment: Option<Hash>,
    /// When.
    pub committed_ms: Option<u64>,
    /// What it showed.
    pub revealed: Option<Revealed>,
    /// When.
    pub revealed_ms: Option<u64>,
    /// What became of it.
    pub judgement: Option<Judgement>,
    /// What is owed for it.
    pub owed: Amount,
    /// The cumulative amount of the voucher that covers it.
    pub voucher: Option<Amount>,
    /// For people.
    pub explanation: String,
    /// From when on its device may be asked again, where it came to nothing; `None` for never.
    pub ask_again_ms: Option<u64>,
}

/// A result that a device has shown and that was checked against its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revealed {
    /// The result tree's root.
    pub root: Hash,
    /// The manifest in the content store.
    pub manifest: Hash,
    /// How it ended.
    pub cause: Cause,
    /// With which code.
    pub exit_code: u8,
    /// What it took.
    pub usage: Usage,
    /// The device's signature of the receipt.
    pub receipt: Signature,
    /// What that is over.
    pub receipt_digest: Hash,
}

/// An assignment that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewAssignment {
    /// Its name.
    pub id: AssignmentId,
    /// Of which task.
    pub task: TaskId,
    /// To whom.
    pub device: Address,
    /// Whose the device is.
    pub owner: Address,
    /// What it will cost.
    pub price: Amount,
    /// Until when the offer stands.
    pub lease_until_ms: u64,
    /// When.
    pub created_ms: u64,
    /// How long the device has from its acceptance to a result.
    pub time_ms: u64,
}

// === impl Assignment ===

impl Assignment {
    /// Whether the device has had its time and brought neither a result nor the commitment to one.
    #[must_use]
    pub fn is_over_time(&self, now_ms: u64) -> bool {
        let end_ms = self.accepted_ms.zip(self.time_ms).map(|(from, time)| from.saturating_add(time));
        self.state == AssignmentState::Accepted && end_ms.is_some_and(|end| end <= now_ms)
    }
}

fn assignment(row: &Row<'_>) -> Result<Assignment, StoreError> {
    let revealed = match (
        maybe_bytes(row, "root")?,
        maybe_bytes(row, "manifest")?,
        maybe_word(row, "cause", Cause::from_word)?,
        maybe_integer(row, "exit_code")?,
        maybe_bytes(row, "receipt")?,
        maybe_bytes(row, "receipt_digest")?,
    ) {
        (Some(root), Some(manifest), Some(cause), Some(exit_code), Some(receipt), Some(digest)) => {
            Some(Revealed {
                root: Hash(root),
                manifest: Hash(manifest),
                cause,
                exit_code,
                usage: Usage {
                    cpu_ns: integer(row, "cpu_ns")?,
                    peak_memory: integer(row, "peak_memory")?,
                    wall_ms: integer(row, "wall_ms")?,
                },
                receipt: Signature(receipt),
                receipt_digest: Hash(digest),
            })
        }
        _ => None,
    };
    Ok(Assignment {
        id: AssignmentId(bytes(row, "id")?),
        task: TaskId(bytes(row, "task")?),
        device: Address(bytes(row, "device")?),
        owner: Address(bytes(row, "owner")?),
        state: word(row, "state", AssignmentState::from_word)?,
        price: amount(row, "price")?,
        lease_until_ms: integer(row, "lease_until_ms")?,
        created_ms: integer(row, "created_ms")?,
        accepted_ms: maybe_integer(row, "accepted_ms")?,
        time_ms: maybe_integer(row, "time_ms")?,
        phase: Phase::from_word(&text(row, "phase")?),
        permille: integer(row, "permille")?,
        commitment: maybe_bytes(row, "commitment")?.map(Hash),
        committed_ms: maybe_integer(row, "committed_ms")?,
        revealed,
        revealed_ms: maybe_integer(row, "revealed_ms")?,
        judgement: maybe_word(row, "judgement", Judgement::from_word)?,
        owed: amount(row, "owed")?,
        voucher: maybe_bytes(row, "voucher")?.map(Amount::from_be_bytes),
        explanation: text(row, "explanation")?,
        ask_again_ms: maybe_integer(row, "ask_again_ms")?,
    })
}

impl Tx {
    /// Adds an assignment. `false` where the device has one of the same task, or must not be asked (again).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_assignment(&mut self, new: &NewAssignment) -> Result<bool, StoreError> {
        let query = Query::new(
            "INSERT INTO assignments (id, task, device, owner, state, price, lease_until_ms, created_ms, time_ms, owed)
             SELECT ?1, ?2, ?3, ?4, 'offered', ?5, ?6, ?7, ?8, zeroblob(16) WHERE NOT EXISTS
                (SELECT 1 FROM assignments WHERE task = ?2 AND device = ?3
                    AND (ask_again_ms IS NULL OR ask_again_ms > ?7))",
        );
        let query = query
            .bind(&new.id.0[..])
            .bind(&new.task.0[..])
            .bind(&new.device.0[..])
            .bind(&new.owner.0[..])
            .bind(new.price.to_be_bytes().to_vec())
            .bind(int(new.lease_until_ms))
            .bind(int(new.created_ms))
            .bind(int(new.time_ms));
        Ok(self.run(query).await? > 0)
    }

    /// An assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assignment(&mut self, id: &AssignmentId) -> Result<Option<Assignment>, StoreError> {
        self.one(Query::new("SELECT * FROM assignments WHERE id = ?").bind(&id.0[..]), assignment).await
    }

    /// A task's assignments, in the order in which they were made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assignments_of_task(&mut self, task: &TaskId) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new("SELECT * FROM assignments WHERE task = ? ORDER BY created_ms, id");
        self.all(query.bind(&task.0[..]), assignment).await
    }

    /// A job's assignments, in the order of its tasks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assignments_of_job(&mut self, job: &JobId) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new(
            "SELECT assignments.* FROM assignments JOIN tasks ON tasks.id = assignments.task WHERE tasks.job = ?
             ORDER BY tasks.place, assignments.created_ms, assignments.id",
        );
        self.all(query.bind(&job.0[..]), assignment).await
    }

    /// What a device has not finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_assignments_of(&mut self, device: &Address) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new(
            "SELECT * FROM assignments WHERE device = ?
                AND state IN ('offered', 'accepted', 'committed', 'revealed') ORDER BY created_ms, id",
        );
        self.all(query.bind(&device.0[..]), assignment).await
    }

    /// A device's assignments that ran out after it had accepted them, of tasks that have not ended: they may still
    /// bring a result, as long as the device has them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lapsed_assignments_of(&mut self, device: &Address) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new(
            "SELECT assignments.* FROM assignments JOIN tasks ON tasks.id = assignments.task
             WHERE assignments.device = ? AND assignments.state = 'expired' AND assignments.ask_again_ms IS NULL
                AND tasks.ended_ms IS NULL",
        );
        self.all(query.bind(&device.0[..]), assignment).await
    }

    /// A device's assignments that may still come to a value: open ones, and those that ran out, of tasks that have
    /// not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn returnable_assignments_of(
        &mut self,
        device: &Address,
    ) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new(
            "SELECT assignments.* FROM assignments JOIN tasks ON tasks.id = assignments.task
             WHERE assignments.device = ? AND tasks.ended_ms IS NULL
                AND assignments.state IN ('offered', 'accepted', 'committed', 'revealed', 'expired')
             ORDER BY assignments.created_ms, assignments.id",
        );
        self.all(query.bind(&device.0[..]), assignment).await
    }

    /// Everything that is open anywhere: what a hub knows of its fleet's load when it starts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_assignments(&mut self) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new(
            "SELECT * FROM assignments WHERE state IN ('offered', 'accepted', 'committed', 'revealed')",
        );
        self.all(query, assignment).await
    }

    /// Offers and leases that have run out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lapsed_assignments(&mut self, now_ms: u64) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new(
            "SELECT * FROM assignments WHERE state IN ('offered', 'accepted') AND lease_until_ms < ? LIMIT 1000",
        );
        self.all(query.bind(int(now_ms)), assignment).await
    }

    /// Lets every open offer and lease hold at least until then: a hub that was away has not been told of those
    /// who are still at work, or have come to a result.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn extend_leases(&mut self, until_ms: u64) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE assignments SET lease_until_ms = ?1, time_ms = MAX(time_ms, ?1 - IFNULL(accepted_ms, ?1))
             WHERE state IN ('offered', 'accepted') AND lease_until_ms < ?1",
        );
        self.run(query.bind(int(until_ms))).await.map(drop)
    }

    /// The device has it on disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accept_assignment(
        &mut self,
        id: &AssignmentId,
        lease_until_ms: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE assignments SET state = 'accepted', lease_until_ms = ?, accepted_ms = ? WHERE id = ?",
        );
        self.run(query.bind(int(lease_until_ms)).bind(int(now_ms)).bind(&id.0[..])).await.map(drop)
    }

    /// Renews a lease and notes progress, if the assignment is this device's, open, and not [over its
    /// time](Assignment::is_over_time); until when, if it was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_assignment(
        &mut self,
        id: &AssignmentId,
        device: &Address,
        (lease_until_ms, now_ms): (u64, u64),
        (phase, permille): (Phase, u16),
    ) -> Result<Option<u64>, StoreError> {
        let query = Query::new(
            "UPDATE assignments SET phase = ?4, permille = ?5, lease_until_ms =
                CASE WHEN state IN ('offered', 'accepted')
                    THEN MIN(?3, IFNULL(IFNULL(accepted_ms, created_ms) + time_ms, ?3)) ELSE ?3 END
             WHERE id = ?1 AND device = ?2 AND state IN ('offered', 'accepted', 'committed', 'revealed')
                AND NOT (state IN ('offered', 'accepted')
                    AND IFNULL(IFNULL(accepted_ms, created_ms) + time_ms <= ?6, 0))
             RETURNING lease_until_ms",
        );
        let query = query.bind(&id.0[..]).bind(&device.0[..]).bind(int(lease_until_ms));
        let query = query.bind(phase.word()).bind(permille).bind(int(now_ms));
        Ok(self.all(query, |row| integer(row, "lease_until_ms")).await?.pop())
    }

    /// The device has bound itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn commit_assignment(
        &mut self,
        id: &AssignmentId,
        commitment: &Hash,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE assignments SET state = 'committed', commitment = ?, committed_ms = ? WHERE id = ?",
        );
        self.run(query.bind(&commitment.0[..]).bind(int(now_ms)).bind(&id.0[..])).await.map(drop)
    }

    /// The result is here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reveal_assignment(
        &mut self,
        id: &AssignmentId,
        revealed: &Revealed,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE assignments SET state = 'revealed', root = ?, manifest = ?, cause = ?, exit_code = ?, cpu_ns = ?,
                peak_memory = ?, wall_ms = ?, receipt = ?, receipt_digest = ?, revealed_ms = ? WHERE id = ?",
        );
        let query = query
            .bind(&revealed.root.0[..])
            .bind(&revealed.manifest.0[..])
            .bind(revealed.cause.word())
            .bind(revealed.exit_code)
            .bind(int(revealed.usage.cpu_ns))
            .bind(int(revealed.usage.peak_memory))
            .bind(int(revealed.usage.wall_ms))
            .bind(&revealed.receipt.0[..])
            .bind(&revealed.receipt_digest.0[..])
            .bind(int(now_ms))
            .bind(&id.0[..]);
        self.run(query).await.map(drop)
    }

    /// Ends an assignment without a verdict on a result.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_assignment(
        &mut self,
        id: &AssignmentId,
        state: AssignmentState,
        explanation: &str,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE assignments SET state = ?, explanation = ? WHERE id = ?");
        self.run(query.bind(state.word()).bind(explanation).bind(&id.0[..])).await.map(drop)
    }

    /// Ends an assignment without a verdict on a result, and keeps what it came to nothing by.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_assignment_by(
        &mut self,
        id: &AssignmentId,
        state: AssignmentState,
        cause: Cause,
        explanation: &str,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE assignments SET state = ?, cause = ?, explanation = ? WHERE id = ?");
        let query = query.bind(state.word()).bind(cause.word()).bind(explanation).bind(&id.0[..]);
        self.run(query).await.map(drop)
    }

    /// The devices whose assignments of a task came to nothing by a cause that may be the task's
    /// ([`Cause::may_be_the_tasks`]), each as often as it was so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unblamed(&mut self, task: &TaskId) -> Result<Vec<Address>, StoreError> {
        let query = Query::new(
            "SELECT device, cause FROM assignments WHERE task = ? AND state IN ('failed', 'expired')
                AND cause IS NOT NULL ORDER BY created_ms, id",
        );
        let said =
            |row: &Row<'_>| Ok((Address(bytes(row, "device")?), word(row, "cause", Cause::from_word)?));
        let failed = self.all(query.bind(&task.0[..]), said).await?;
        Ok(failed
            .into_iter()
            .filter(|(_, cause)| cause.may_be_the_tasks())
            .map(|(device, _)| device)
            .collect())
    }

    /// Lets the device of an assignment that came to nothing be asked again from then on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ask_again(&mut self, id: &AssignmentId, from_ms: u64) -> Result<(), StoreError> {
        let query = Query::new("UPDATE assignments SET ask_again_ms = ? WHERE id = ?");
        self.run(query.bind(int(from_ms)).bind(&id.0[..])).await.map(drop)
    }

    /// How often a device has bound itself to a result and not shown it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_not_revealed(&mut self, device: &Address) -> Result<u64, StoreError> {
        let query = Query::new(
            "SELECT COUNT(*) AS times FROM assignments WHERE device = ? AND state = 'judged'
                AND judgement = 'not-revealed'",
        );
        let times = self.one(query.bind(&device.0[..]), |row| integer(row, "times")).await?;
        Ok(times.unwrap_or_default())
    }

    /// Ends an assignment with a verdict.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn judge_assignment(
        &mut self,
        id: &AssignmentId,
        judgement: Judgement,
        owed: Amount,
        explanation: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE assignments SET state = 'judged', judgement = ?, owed = ?, explanation = ?, judged_ms = ?
             WHERE id = ?",
        );
        let query = query
            .bind(judgement.word())
            .bind(owed.to_be_bytes().to_vec())
            .bind(explanation)
            .bind(int(now_ms))
            .bind(&id.0[..]);
        self.run(query).await.map(drop)
    }

    /// Accepted assignments of a device for which something is owed and that no voucher covers yet, oldest verdict
    /// first. What costs nothing needs no voucher, and devices do not wait for one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn uncovered_assignments(
        &mut self,
        device: &Address,
        judged_before_ms: u64,
        limit: u32,
    ) -> Result<Vec<Assignment>, StoreError> {
        let query = Query::new(
            "SELECT * FROM assignments WHERE device = ? AND judgement = 'accepted' AND voucher IS NULL
                AND owed != zeroblob(16) AND judged_ms <= ? ORDER BY judged_ms, id LIMIT ?",
        );
        self.all(query.bind(&device.0[..]).bind(int(judged_before_ms)).bind(limit), assignment).await
    }

    /// What is owed to a device for accepted work that no voucher covers yet, each assignment's and claim's part.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn uncovered_amounts(&mut self, device: &Address) -> Result<Vec<Amount>, StoreError> {
        let query = Query::new(
            "SELECT owed FROM assignments WHERE device = ?1 AND judgement = 'accepted' AND voucher IS NULL
                AND owed != zeroblob(16)
             UNION ALL SELECT owed FROM claims WHERE device = ?1 AND proven = 1 AND voucher IS NULL",
        );
        self.all(query.bind(&device.0[..]), |row| amount(row, "owed")).await
    }

    /// What is owed to a device for work that was accepted after a moment and that no voucher covers yet, each
    /// assignment's part.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn amounts_accepted_after(
        &mut self,
        device: &Address,
        judged_after_ms: u64,
    ) -> Result<Vec<Amount>, StoreError> {
        let query = Query::new(
            "SELECT owed FROM assignments WHERE device = ? AND judgement = 'accepted' AND voucher IS NULL
                AND owed != zeroblob(16) AND judged_ms > ?",
        );
        self.all(query.bind(&device.0[..]).bind(int(judged_after_ms)), |row| amount(row, "owed")).await
    }

    /// Notes which voucher covers an assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cover_assignment(
        &mut self,
        id: &AssignmentId,
        cumulative: Amount,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE assignments SET voucher = ? WHERE id = ?");
        self.run(query.bind(cumulative.to_be_bytes().to_vec()).bind(&id.0[..])).await.map(drop)
    }

    /// The assignments whose receipts a voucher was the first to cover, in its tree's order: claims, then what
    /// these books know, each in the order of their time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn covered_by(
        &mut self,
        device: &Address,
        cumulative: Amount,
    ) -> Result<Vec<AssignmentId>, StoreError> {
        let query = Query::new(
            "SELECT id FROM (SELECT 0 AS part, assignment AS id, shown_ms AS at FROM claims
                    WHERE device = ?1 AND voucher = ?2
                UNION ALL SELECT 1, id, judged_ms FROM assignments WHERE device = ?1 AND voucher = ?2)
             ORDER BY part, at, id",
        );
        let query = query.bind(&device.0[..]).bind(cumulative.to_be_bytes().to_vec());
        self.all(query, |row| bytes(row, "id").map(AssignmentId)).await
    }
}
