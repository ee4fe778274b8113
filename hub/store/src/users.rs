//! People who may use the hub, and what they may do. Access tokens are kept as hashes only.

use sosna_protocol::Hash;

use crate::{
    StoreError, Tx,
    column::{int, integer, text, word, words},
    sql::Query,
};
use rusqlite::Row;

words! {
    /// What a person may do.
    Role {
        /// Everything.
        Admin = "admin",
        /// Run the fleet.
        Operator = "operator",
        /// Submit jobs and see their own.
        Buyer = "buyer",
        /// Bring devices and see their own.
        Owner = "owner",
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Unique.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// When the person was added.
    pub created_ms: u64,
}

fn user(row: &Row<'_>) -> Result<User, StoreError> {
    Ok(User {
        name: text(row, "name")?,
        role: word(row, "role", Role::from_word)?,
        created_ms: integer(row, "created_ms")?,
    })
}

impl Tx {
    /// Adds a person, or changes role and token of one who is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_user(&mut self, user: &User, token_hash: &Hash) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO users (name, role, token_hash, created_ms) VALUES (?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET role = excluded.role, token_hash = excluded.token_hash",
        );
        let query =
            query.bind(&user.name).bind(user.role.word()).bind(&token_hash.0[..]).bind(int(user.created_ms));
        self.run(query).await.map(drop)
    }

    /// Removes a person, and says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_user(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.run(Query::new("DELETE FROM users WHERE name = ?").bind(name)).await? > 0)
    }

    /// Everybody, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn users(&mut self) -> Result<Vec<User>, StoreError> {
        self.all(Query::new("SELECT * FROM users ORDER BY name"), user).await
    }

    /// A person by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user(&mut self, name: &str) -> Result<Option<User>, StoreError> {
        self.one(Query::new("SELECT * FROM users WHERE name = ?").bind(name), user).await
    }

    /// Whose access token this is the hash of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user_by_token(&mut self, token_hash: &Hash) -> Result<Option<User>, StoreError> {
        self.one(Query::new("SELECT * FROM users WHERE token_hash = ?").bind(&token_hash.0[..]), user).await
    }
}
