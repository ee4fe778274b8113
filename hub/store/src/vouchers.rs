//! Vouchers that were issued.

use sosna_protocol::{Address, Amount, Hash, Signature, message::pay::Statement};

use crate::{
    StoreError, Tx,
    column::{amount, bytes, int, integer, maybe_integer},
    sql::Query,
};
use rusqlite::Row;

/// A voucher that was issued to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVoucher {
    /// To whom.
    pub device: Address,
    /// What it says, signed.
    pub statement: Statement,
    /// When it was issued.
    pub issued_ms: u64,
    /// When the device said that it has it.
    pub held_ms: Option<u64>,
}

/// A device that something is owed for work that no voucher covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Which.
    pub device: Address,
    /// When the oldest such work was accepted.
    pub since_ms: u64,
    /// When its last voucher was issued; 0 for never.
    pub last_ms: u64,
    /// How many assignments it has open.
    pub open: u64,
}

fn voucher(row: &Row<'_>) -> Result<StoredVoucher, StoreError> {
    Ok(StoredVoucher {
        device: Address(bytes(row, "device")?),
        statement: Statement {
            chain_id: integer(row, "chain_id")?,
            wallet: Address(bytes(row, "wallet")?),
            cumulative: amount(row, "cumulative")?,
            receipts: Hash(bytes(row, "receipts")?),
            signature: Signature(bytes(row, "signature")?),
        },
        issued_ms: integer(row, "issued_ms")?,
        held_ms: maybe_integer(row, "held_ms")?,
    })
}

impl Tx {
    /// Adds a voucher.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_voucher(
        &mut self,
        device: &Address,
        statement: &Statement,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO vouchers (device, cumulative, chain_id, wallet, receipts, signature, issued_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        );
        let query = query
            .bind(&device.0[..])
            .bind(statement.cumulative.to_be_bytes().to_vec())
            .bind(int(statement.chain_id))
            .bind(&statement.wallet.0[..])
            .bind(&statement.receipts.0[..])
            .bind(&statement.signature.0[..])
            .bind(int(now_ms));
        self.run(query).await.map(drop)
    }

    /// A device's latest voucher.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_voucher(&mut self, device: &Address) -> Result<Option<StoredVoucher>, StoreError> {
        let query = Query::new("SELECT * FROM vouchers WHERE device = ? ORDER BY cumulative DESC LIMIT 1");
        self.one(query.bind(&device.0[..]), voucher).await
    }

    /// The cumulative amount of the latest voucher that a device has said that it holds; 0 for none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held(&mut self, device: &Address) -> Result<Amount, StoreError> {
        let query = Query::new(
            "SELECT cumulative FROM vouchers WHERE device = ? AND held_ms IS NOT NULL
             ORDER BY cumulative DESC LIMIT 1",
        );
        let held = self.one(query.bind(&device.0[..]), |row| amount(row, "cumulative")).await?;
        Ok(held.unwrap_or_default())
    }

    /// The vouchers that a device has not said that it holds, oldest first: each names receipts of its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unheld_vouchers(&mut self, device: &Address) -> Result<Vec<StoredVoucher>, StoreError> {
        let query =
            Query::new("SELECT * FROM vouchers WHERE device = ? AND held_ms IS NULL ORDER BY cumulative");
        self.all(query.bind(&device.0[..]), voucher).await
    }

    /// The device holds this voucher, and so needs none before it. Says whether that was news.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_voucher(
        &mut self,
        device: &Address,
        cumulative: Amount,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let query = Query::new(
            "UPDATE vouchers SET held_ms = ? WHERE device = ? AND cumulative <= ? AND held_ms IS NULL",
        );
        let query = query.bind(int(now_ms)).bind(&device.0[..]).bind(cumulative.to_be_bytes().to_vec());
        Ok(self.run(query).await? > 0)
    }

    /// Devices that something is owed for work that no voucher covers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn devices_owed(&mut self) -> Result<Vec<Owed>, StoreError> {
        let query = Query::new(
            "SELECT device, since_ms,
                COALESCE((SELECT issued_ms FROM vouchers WHERE vouchers.device = owed.device
                    ORDER BY cumulative DESC LIMIT 1), 0) AS last_ms,
                (SELECT COUNT(*) FROM assignments WHERE assignments.device = owed.device
                    AND state IN ('offered', 'accepted', 'committed', 'revealed')) AS open
             FROM (SELECT device, MIN(since) AS since_ms FROM
                (SELECT device, judged_ms AS since FROM assignments
                    WHERE judgement = 'accepted' AND voucher IS NULL AND owed != zeroblob(16)
                 UNION ALL SELECT device, shown_ms FROM claims
                    WHERE proven = 1 AND voucher IS NULL AND owed != zeroblob(16))
                GROUP BY device) AS owed",
        );
        self.all(query, |row| {
            Ok(Owed {
                device: Address(bytes(row, "device")?),
                since_ms: integer(row, "since_ms")?,
                last_ms: integer(row, "last_ms")?,
                open: integer(row, "open")?,
            })
        })
        .await
    }
}
