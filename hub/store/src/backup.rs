//! Consistent copies of a store that is in use.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{Store, StoreError, Tx};

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
        let options = SqliteConnectOptions::new().filename(self.path()).read_only(true);
        let connection = SqliteConnection::connect_with(&options).await.map_err(StoreError::sql)?;
        let mut tx = Tx::new(connection);
        tx.run(sqlx::query("VACUUM INTO ?").bind(name)).await.map(drop)
    }
}
