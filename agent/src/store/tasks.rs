//! Assignments: their state, and the hub's signed frame as evidence of what was agreed.

use redb::{ReadableTable as _, TableDefinition};
use sosna_protocol::identity::AssignmentId;

use super::{Store, StoreError, Tx, record::TaskRecord};

const TASKS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("tasks");
const ASSIGNS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("assigns");

const DAMAGED: StoreError = StoreError::Record { table: "tasks" };

// === impl Store ===

impl Store {
    /// One assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn task(&self, assignment: &AssignmentId) -> Result<Option<TaskRecord>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(TASKS)?;
        let row = table.get(&assignment.0)?;
        row.map(|row| serde_json::from_slice(row.value()).map_err(|_| DAMAGED)).transpose()
    }

    /// Every assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tasks(&self) -> Result<Vec<TaskRecord>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(TASKS)?;
        table.iter()?.map(|row| serde_json::from_slice(row?.1.value()).map_err(|_| DAMAGED)).collect()
    }

    /// The signed frame of an assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn assign_frame(&self, assignment: &AssignmentId) -> Result<Option<Vec<u8>>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(ASSIGNS)?;
        Ok(table.get(&assignment.0)?.map(|row| row.value().to_vec()))
    }
}

// === impl Tx ===

impl Tx<'_> {
    pub(super) fn create_tasks(&mut self) -> Result<(), StoreError> {
        self.inner.open_table(TASKS)?;
        self.inner.open_table(ASSIGNS)?;
        Ok(())
    }

    /// One assignment, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn task(&self, assignment: &AssignmentId) -> Result<Option<TaskRecord>, StoreError> {
        let table = self.inner.open_table(TASKS)?;
        let row = table.get(&assignment.0)?.map(|row| row.value().to_vec());
        row.map(|row| serde_json::from_slice(&row).map_err(|_| DAMAGED)).transpose()
    }

    /// Every assignment, as this transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tasks(&self) -> Result<Vec<TaskRecord>, StoreError> {
        let table = self.inner.open_table(TASKS)?;
        table.iter()?.map(|row| serde_json::from_slice(row?.1.value()).map_err(|_| DAMAGED)).collect()
    }

    /// Keeps an assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_task(&mut self, record: &TaskRecord) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).expect("texts and numbers are JSON");
        self.inner.open_table(TASKS)?.insert(&record.assignment.0, text.as_slice())?;
        Ok(())
    }

    /// Keeps the frame that an assignment came in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_assign_frame(&mut self, assignment: &AssignmentId, frame: &[u8]) -> Result<(), StoreError> {
        self.inner.open_table(ASSIGNS)?.insert(&assignment.0, frame)?;
        Ok(())
    }

    /// Forgets assignments that ended before `before_ms`; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_tasks(&mut self, before_ms: u64) -> Result<usize, StoreError> {
        let old: Vec<AssignmentId> = self
            .tasks()?
            .iter()
            .filter(|task| !task.is_open() && task.ended_ms.is_some_and(|ended| ended < before_ms))
            .map(|task| task.assignment)
            .collect();
        for assignment in &old {
            self.inner.open_table(TASKS)?.remove(&assignment.0)?;
            self.inner.open_table(ASSIGNS)?.remove(&assignment.0)?;
        }
        Ok(old.len())
    }
}
