//! Assignments: their state, and the hub's signed frame as evidence of what was agreed.

use redb::{ReadableTable, TableDefinition};
use sosna_protocol::identity::AssignmentId;

use super::{Store, StoreError, Tx, record::TaskRecord};

const TASKS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("tasks");
const ASSIGNS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("assigns");

/// The assignments that are not over: what is asked for at every beat must not grow with the past.
const OPEN: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("tasks/open");

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

    /// The assignments that are not over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_tasks(&self) -> Result<Vec<TaskRecord>, StoreError> {
        let tx = self.read()?;
        collect_open(&tx.open_table(OPEN)?, &tx.open_table(TASKS)?)
    }

    /// Every assignment that has not been forgotten.
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
        self.inner.open_table(OPEN)?;
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

    /// The assignments that are not over, as this transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_tasks(&self) -> Result<Vec<TaskRecord>, StoreError> {
        collect_open(&self.inner.open_table(OPEN)?, &self.inner.open_table(TASKS)?)
    }

    /// Keeps an assignment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_task(&mut self, record: &TaskRecord) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).expect("texts and numbers are JSON");
        self.inner.open_table(TASKS)?.insert(&record.assignment.0, text.as_slice())?;
        let mut open = self.inner.open_table(OPEN)?;
        if record.is_open() {
            open.insert(&record.assignment.0, ())?;
        } else {
            open.remove(&record.assignment.0)?;
        }
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
        let mut old = Vec::new();
        {
            let table = self.inner.open_table(TASKS)?;
            for row in table.iter()? {
                let task: TaskRecord = serde_json::from_slice(row?.1.value()).map_err(|_| DAMAGED)?;
                if !task.is_open() && task.ended_ms.is_some_and(|ended| ended < before_ms) {
                    old.push(task.assignment);
                }
            }
        }
        for assignment in &old {
            self.inner.open_table(TASKS)?.remove(&assignment.0)?;
            self.inner.open_table(ASSIGNS)?.remove(&assignment.0)?;
        }
        Ok(old.len())
    }
}

fn collect_open(
    open: &impl ReadableTable<&'static [u8; 16], ()>,
    tasks: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
) -> Result<Vec<TaskRecord>, StoreError> {
    let mut found = Vec::new();
    for row in open.iter()? {
        let assignment = row?.0;
        let task = tasks.get(assignment.value())?.ok_or(DAMAGED)?;
        found.push(serde_json::from_slice(task.value()).map_err(|_| DAMAGED)?);
    }
    Ok(found)
}
