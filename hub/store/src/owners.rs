//! Owners of devices, and the join tokens by which their devices enrol.

use sosna_protocol::{Address, Hash, Signature, eip712::Delegation};

use crate::{
    StoreError, Tx,
    column::{bytes, int, integer, text},
    sql::Query,
};
use rusqlite::Row;

/// Who owns devices. Keys are free: owners whom the operator has not admitted count together as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The owner's key's address.
    pub address: Address,
    /// Whether the operator knows the owner to be nobody else.
    pub admitted: bool,
    /// For people.
    pub label: String,
    /// When the hub first heard of the owner.
    pub created_ms: u64,
}

/// What the hub knows of a join token: never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// What the owner signed; its secret's hash names the token.
    pub delegation: Delegation,
    /// Who signed it.
    pub owner: Address,
    /// The owner's signature.
    pub signature: Signature,
    /// How many devices have used it.
    pub used: u32,
    /// Given to the devices that do, as a JSON object.
    pub labels: String,
    /// When it was made.
    pub created_ms: u64,
}

fn owner(row: &Row<'_>) -> Result<Owner, StoreError> {
    Ok(Owner {
        address: Address(bytes(row, "address")?),
        admitted: integer::<u8>(row, "admitted")? != 0,
        label: text(row, "label")?,
        created_ms: integer(row, "created_ms")?,
    })
}

impl Tx {
    /// Remembers an owner; one who is known stays as is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_owner(&mut self, owner: &Owner) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO owners (address, admitted, label, created_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        );
        let query = query.bind(&owner.address.0[..]).bind(owner.admitted).bind(&owner.label);
        self.run(query.bind(int(owner.created_ms))).await.map(drop)
    }

    /// Admits an owner, also one of whom nothing was heard yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn admit_owner(&mut self, address: &Address, now_ms: u64) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO owners (address, admitted, created_ms) VALUES (?, 1, ?)
             ON CONFLICT (address) DO UPDATE SET admitted = 1",
        );
        self.run(query.bind(&address.0[..]).bind(int(now_ms))).await.map(drop)
    }

    /// Notes who brought an owner's first delegation; says whether nobody had before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_owner(&mut self, address: &Address, label: &str) -> Result<bool, StoreError> {
        let query = Query::new(
            "UPDATE owners SET label = ?1 WHERE address = ?2 AND label = ''
                AND NOT EXISTS (SELECT 1 FROM join_tokens WHERE owner = ?2)",
        );
        Ok(self.run(query.bind(label).bind(&address.0[..])).await? > 0)
    }

    /// Every owner.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn owners(&mut self) -> Result<Vec<Owner>, StoreError> {
        self.all(Query::new("SELECT * FROM owners ORDER BY created_ms, address"), owner).await
    }

    /// Adds a join token. The owner must be known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_join_token(&mut self, token: &JoinToken) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO join_tokens (secret_hash, owner, expires_s, uses, labels, delegation, created_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        );
        let query = query
            .bind(&token.delegation.secret_hash.0[..])
            .bind(&token.owner.0[..])
            .bind(int(token.delegation.expires))
            .bind(token.delegation.uses)
            .bind(&token.labels)
            .bind(&token.signature.0[..])
            .bind(int(token.created_ms));
        self.run(query).await.map(drop)
    }

    /// The token whose secret has this hash, at the hub that the delegation is for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn join_token(
        &mut self,
        hub: Address,
        secret_hash: &Hash,
    ) -> Result<Option<JoinToken>, StoreError> {
        let query = Query::new("SELECT * FROM join_tokens WHERE secret_hash = ?").bind(&secret_hash.0[..]);
        self.one(query, |row| {
            Ok(JoinToken {
                delegation: Delegation {
                    hub,
                    secret_hash: Hash(bytes(row, "secret_hash")?),
                    expires: integer(row, "expires_s")?,
                    uses: integer(row, "uses")?,
                },
                owner: Address(bytes(row, "owner")?),
                signature: Signature(bytes(row, "delegation")?),
                used: integer(row, "used")?,
                labels: text(row, "labels")?,
                created_ms: integer(row, "created_ms")?,
            })
        })
        .await
    }

    /// Uses a token once more, and says whether it still could be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_join_token(&mut self, secret_hash: &Hash) -> Result<bool, StoreError> {
        let query =
            Query::new("UPDATE join_tokens SET used = used + 1 WHERE secret_hash = ? AND used < uses");
        Ok(self.run(query.bind(&secret_hash.0[..])).await? > 0)
    }
}
