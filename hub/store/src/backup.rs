//! Consistent copies of a store that is in use.

use std::path::Path;

use crate::{Store, StoreError, sql::Query, writer::reader};

impl Store {
    /// Writes a consistent copy of the store, as of now, into a file that must not be there yet. Work goes on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        if file.exists() {
            let what = format!("{} exists already; name a file that does not", file.display());
            return Err(StoreError::Backup { what });
        }
        let name = file.to_str().map(str::to_owned).ok_or_else(|| StoreError::Backup {
            what: format!("{} is not a name in UTF-8", file.display()),
        })?;
        let path = self.path().to_owned();
        // A copy takes as long as the disk does.
        let copied = tokio::task::spawn_blocking(move || {
            let mut tx = reader(&path).map_err(StoreError::sql)?;
            futures_executor::block_on(tx.run(Query::new("VACUUM INTO ?").bind(name))).map(drop)
        });
        copied.await.unwrap_or(Err(StoreError::Closed))
    }
}
