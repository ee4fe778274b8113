//! What the hub does on a chain: roots and the lists that they are over, transactions.

use sosna_protocol::{Address, Amount, Hash, eip712::Domain};

use crate::{
    StoreError, Tx,
    column::{amount, blob, bytes, int, integer, maybe_bytes, maybe_integer, word, words},
    sql::Query,
};
use rusqlite::Row;

/// A root over what every device is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its number here.
    pub id: u64,
    /// It.
    pub root: Hash,
    /// The sum of its list.
    pub total: Amount,
    /// How many devices the list has.
    pub lines: u32,
    /// What the wallet had paid, of roots and vouchers, when the list was made.
    pub paid_seen: Amount,
    /// When it was made.
    pub made_ms: u64,
    /// Seconds since 1970 from which on it can be claimed by; `None` until it is certain to be on the chain.
    pub active_at: Option<u64>,
}

words! {
    /// What became of a transaction.
    TransactionState {
        /// Nothing yet, as far as is known.
        Open = "open",
        /// It is on the chain, under enough blocks.
        Done = "done",
        /// It is on the chain, and the contract refused it.
        Failed = "failed",
        /// Another transaction of its nonce is on the chain.
        Replaced = "replaced",
    }
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It posts a root, by its number here.
    Root(u64),
    /// It brings what a buyer has signed for, by the buyer's account.
    Deposit(Address),
}

/// A transaction of the hub's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// What it is for.
    pub purpose: Purpose,
    /// Its place among all of the key.
    pub nonce: u64,
    /// Its name on the chain.
    pub hash: Hash,
    /// It, signed.
    pub raw: Vec<u8>,
    /// What it offers for a unit of gas at most, in units of 10^-18 ether.
    pub fee: u128,
    /// When it was signed.
    pub made_ms: u64,
    /// What became of it.
    pub state: TransactionState,
}

fn root(row: &Row<'_>) -> Result<Root, StoreError> {
    Ok(Root {
        id: integer(row, "id")?,
        root: Hash(bytes(row, "root")?),
        total: amount(row, "total")?,
        lines: integer(row, "lines")?,
        paid_seen: amount(row, "paid_seen")?,
        made_ms: integer(row, "made_ms")?,
        active_at: maybe_integer(row, "active_at")?,
    })
}

fn transaction(row: &Row<'_>) -> Result<Transaction, StoreError> {
    let purpose = match (maybe_integer(row, "root")?, maybe_bytes(row, "account")?) {
        (Some(root), None) => Purpose::Root(root),
        (None, Some(account)) => Purpose::Deposit(Address(account)),
        _ => return Err(StoreError::Column { name: "root" }),
    };
    Ok(Transaction {
        purpose,
        nonce: integer(row, "nonce")?,
        hash: Hash(bytes(row, "hash")?),
        raw: blob(row, "raw")?.to_vec(),
        fee: amount(row, "fee")?.units(),
        made_ms: integer(row, "made_ms")?,
        state: word(row, "state", TransactionState::from_word)?,
    })
}

impl Tx {
    /// What these books are kept for, once that is settled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn domain(&mut self) -> Result<Option<Domain>, StoreError> {
        self.one(Query::new("SELECT chain_id, wallet FROM domain"), |row| {
            Ok(Domain { chain_id: integer(row, "chain_id")?, wallet: Address(bytes(row, "wallet")?) })
        })
        .await
    }

    /// Whether any device was ever given work, or anybody paid for work elsewhere: what they are owed in is settled from
    /// then on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_in_use(&mut self) -> Result<bool, StoreError> {
        let query = Query::new(
            "SELECT 1 FROM assignments UNION ALL SELECT 1 FROM vouchers UNION ALL SELECT 1 FROM boinc_payments LIMIT 1",
        );
        Ok(self.one(query, |_| Ok(())).await?.is_some())
    }

    /// Settles it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_domain(&mut self, domain: &Domain) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO domain (one, chain_id, wallet) VALUES (1, ?1, ?2)
             ON CONFLICT (one) DO UPDATE SET chain_id = ?1, wallet = ?2",
        );
        self.run(query.bind(int(domain.chain_id)).bind(&domain.wallet.0[..])).await.map(drop)
    }

    /// What every device is owed by its latest voucher, in the order in which lists name them: by owner, so that devices
    /// of one stand together.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn vouchered(&mut self) -> Result<Vec<(Address, Amount)>, StoreError> {
        let query = Query::new(
            "SELECT device, cumulative FROM
                (SELECT address AS device, owner, (SELECT cumulative FROM vouchers WHERE device = address
                    ORDER BY cumulative DESC LIMIT 1) AS cumulative FROM devices)
             WHERE cumulative IS NOT NULL ORDER BY owner, device",
        );
        self.all(query, |row| Ok((Address(bytes(row, "device")?), amount(row, "cumulative")?))).await
    }

    /// Adds a root with its list; its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_root(
        &mut self,
        new: &Root,
        lines: impl IntoIterator<Item = (Address, Amount)>,
    ) -> Result<u64, StoreError> {
        let query = Query::new(
            "INSERT INTO roots (root, total, lines, paid_seen, made_ms) VALUES (?, ?, ?, ?, ?) RETURNING id",
        );
        let query = query
            .bind(&new.root.0[..])
            .bind(new.total.to_be_bytes().to_vec())
            .bind(i64::from(new.lines))
            .bind(new.paid_seen.to_be_bytes().to_vec())
            .bind(int(new.made_ms));
        let id: u64 =
            self.one(query, |row| integer(row, "id")).await?.ok_or(StoreError::Column { name: "id" })?;
        for (place, (device, cumulative)) in (0_u64..).zip(lines) {
            let query =
                Query::new("INSERT INTO root_lines (root, place, device, cumulative) VALUES (?, ?, ?, ?)");
            let query = query.bind(int(id)).bind(int(place)).bind(device.0.to_vec());
            self.run(query.bind(cumulative.to_be_bytes().to_vec())).await?;
        }
        Ok(id)
    }

    /// The newest roots, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn roots(&mut self, limit: u32) -> Result<Vec<Root>, StoreError> {
        self.all(Query::new("SELECT * FROM roots ORDER BY id DESC LIMIT ?").bind(i64::from(limit)), root)
            .await
    }

    /// One root.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn root(&mut self, id: u64) -> Result<Option<Root>, StoreError> {
        self.one(Query::new("SELECT * FROM roots WHERE id = ?").bind(int(id)), root).await
    }

    /// The newest root of a name, or the newest that is certain to be on the chain.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_root(&mut self, named: Option<&Hash>) -> Result<Option<Root>, StoreError> {
        let query = match named {
            Some(name) => Query::new("SELECT * FROM roots WHERE root = ? ORDER BY id DESC LIMIT 1")
                .bind(name.0.to_vec()),
            None => Query::new("SELECT * FROM roots WHERE active_at IS NOT NULL ORDER BY id DESC LIMIT 1"),
        };
        self.one(query, root).await
    }

    /// A root's list, in its order. Those by which nothing can be claimed any more are not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn root_lines(&mut self, id: u64) -> Result<Vec<(Address, Amount)>, StoreError> {
        let query = Query::new("SELECT device, cumulative FROM root_lines WHERE root = ? ORDER BY place");
        self.all(query.bind(int(id)), |row| Ok((Address(bytes(row, "device")?), amount(row, "cumulative")?)))
            .await
    }

    /// A root is on the chain for certain. Lists that nothing can be claimed by any more go: those from before the one
    /// that is certain besides it, however many have failed in between.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_root(&mut self, id: u64, active_at: u64) -> Result<(), StoreError> {
        let query = Query::new("UPDATE roots SET active_at = ? WHERE id = ?");
        self.run(query.bind(int(active_at)).bind(int(id))).await?;
        let query = Query::new(
            "DELETE FROM root_lines WHERE root < (SELECT MIN(id) FROM
                (SELECT id FROM roots WHERE active_at IS NOT NULL ORDER BY id DESC LIMIT 2))",
        );
        self.run(query).await.map(drop)
    }

    /// Adds a signed transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_transaction(&mut self, new: &Transaction) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO transactions (root, account, nonce, hash, raw, fee, made_ms, state)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let (root, account) = match new.purpose {
            Purpose::Root(id) => (Some(int(id)), None),
            Purpose::Deposit(account) => (None, Some(account.0.to_vec())),
        };
        let query = query
            .bind(root)
            .bind(account)
            .bind(int(new.nonce))
            .bind(&new.hash.0[..])
            .bind(&new.raw[..])
            .bind(new.fee.to_be_bytes().to_vec())
            .bind(int(new.made_ms))
            .bind(new.state.word());
        self.run(query).await.map(drop)
    }

    /// Transactions of which nothing is certain, the latest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_transactions(&mut self) -> Result<Vec<Transaction>, StoreError> {
        self.all(Query::new("SELECT * FROM transactions WHERE state = 'open' ORDER BY id DESC"), transaction)
            .await
    }

    /// All transactions that post a root, the latest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transactions_of(&mut self, root: u64) -> Result<Vec<Transaction>, StoreError> {
        let query = Query::new("SELECT * FROM transactions WHERE root = ? ORDER BY id DESC");
        self.all(query.bind(int(root)), transaction).await
    }

    /// The latest transaction that brings what a buyer has signed for, whatever became of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_redemption(&mut self, account: &Address) -> Result<Option<Transaction>, StoreError> {
        let query = Query::new("SELECT * FROM transactions WHERE account = ? ORDER BY id DESC LIMIT 1");
        self.one(query.bind(&account.0[..]), transaction).await
    }

    /// When the last transaction that brought what a buyer has signed for was signed; 0 for never.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_redeemed_ms(&mut self, account: &Address) -> Result<u64, StoreError> {
        let query = Query::new(
            "SELECT COALESCE(MAX(made_ms), 0) AS last_ms FROM transactions WHERE account = ? AND state = 'done'",
        );
        let last = self.one(query.bind(&account.0[..]), |row| integer(row, "last_ms")).await?;
        Ok(last.unwrap_or_default())
    }

    /// What became of the transactions of a nonce: the one that is on the chain, if it is ours, is in `state`, and all
    /// others are replaced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_transactions(
        &mut self,
        nonce: u64,
        ours: Option<(&Hash, TransactionState)>,
    ) -> Result<(), StoreError> {
        let query =
            Query::new("UPDATE transactions SET state = 'replaced' WHERE nonce = ? AND state = 'open'");
        self.run(query.bind(int(nonce))).await?;
        if let Some((hash, state)) = ours {
            let query = Query::new("UPDATE transactions SET state = ? WHERE hash = ?");
            self.run(query.bind(state.word()).bind(&hash.0[..])).await?;
        }
        Ok(())
    }
}
