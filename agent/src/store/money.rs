//! Receipts, the best voucher, and what the chain has shown: what the device can prove of what it is owed.

use redb::{ReadableTable, TableDefinition};
use sosna_protocol::{
    Amount, codec::decode, eip712::Domain, identity::AssignmentId, message::pay::Statement, result::Cause,
};

use super::{
    META, Store, StoreError, Tx,
    record::{PayoutLine, ReceiptRecord, WalletRecord},
};

const RECEIPTS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("receipts");
/// Receipts of work that the hub has accepted and not yet put into a voucher.
const UNCOVERED: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("receipts/uncovered");
const DAMAGED: StoreError = StoreError::Record { table: "receipts" };
/// The best voucher's statement, and the frame that it came in.
const VOUCHER: &str = "voucher";
const VOUCHER_FRAME: &str = "voucher/frame";
/// By how much it is above all receipts that vouchers have named.
const VOUCHER_ABOVE: &str = "voucher/above";
/// What was seen of the hub's wallet on its chain.
const WALLET: &str = "wallet";
/// The hub's verdicts over receipts that no voucher names: they prove what is owed to a hub that has lost its books.
const VERDICTS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("receipts/verdicts");
/// The frame of the verdict that says the most to have ever been owed, and how much that is.
const EARNED_FRAME: &str = "earned/frame";
const EARNED: &str = "earned";
/// How often the hub's store was restored, as far as its frames have said.
const HUB_EPOCH: &str = "hub/epoch";

/// What the hub owes without having signed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposure {
    /// Work that is accepted and not judged.
    pub open: Amount,
    /// Work that is accepted by the hub and in no voucher.
    pub uncovered: Amount,
}

/// What the hub has signed for, and what of it the chain has shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// What the best voucher is for; `None` where there is none.
    pub domain: Option<Domain>,
    /// All that it says was ever earned.
    pub vouchered: Amount,
    /// What was last seen of a wallet.
    pub record: Option<WalletRecord>,
}

// === impl Exposure ===

impl Exposure {
    /// Both together.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.open.checked_add(self.uncovered).unwrap_or(Amount::from_units(u128::MAX))
    }
}

// === impl Held ===

impl Held {
    fn new(voucher: Option<&Statement>, record: Option<WalletRecord>) -> Self {
        let domain = voucher.map(|held| Domain { chain_id: held.chain_id, wallet: held.wallet });
        Self { domain, vouchered: voucher.map_or(Amount::ZERO, |held| held.cumulative), record }
    }

    fn seen(&self, domain: &Domain) -> Option<&WalletRecord> {
        self.record.as_ref().filter(|record| record.domain() == *domain)
    }

    /// What a wallet had paid in all when it was last seen; it can only have become more.
    #[must_use]
    pub fn paid(&self, domain: &Domain) -> Amount {
        self.seen(domain).map_or(Amount::ZERO, |record| record.paid)
    }

    /// The nonce with which this device says next to whom it is paid there, as far as it was seen.
    #[must_use]
    pub fn payee_nonce(&self, domain: &Domain) -> u64 {
        self.seen(domain).map_or(0, |record| record.payee_nonce)
    }

    /// What the hub has signed for and the wallet was not seen to pay.
    #[must_use]
    pub fn unpaid(&self, domain: &Domain) -> Amount {
        self.vouchered.checked_sub(self.paid(domain)).unwrap_or(Amount::ZERO)
    }

    /// What a wallet's roots commit to this device.
    #[must_use]
    pub fn lines(&self, domain: &Domain) -> &[PayoutLine] {
        self.seen(domain).map_or(&[], |record| &record.lines)
    }
}

// === impl Store ===

impl Store {
    /// Every receipt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipts(&self) -> Result<Vec<ReceiptRecord>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(RECEIPTS)?;
        table.iter()?.map(|row| serde_json::from_slice(row?.1.value()).map_err(|_| DAMAGED)).collect()
    }

    /// The best voucher that the device holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn voucher(&self) -> Result<Option<Statement>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(META)?;
        table.get(VOUCHER)?.map(|row| decode(row.value()).map_err(|_| DAMAGED)).transpose()
    }

    /// What the hub has signed for, and what of it the chain has shown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn held(&self) -> Result<Held, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(META)?;
        let record = table.get(WALLET)?.map(|row| wallet_record(row.value())).transpose()?;
        Ok(Held::new(self.voucher()?.as_ref(), record))
    }

    /// The hub's frame that says the most to have ever been owed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn earned_frame(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(META)?;
        Ok(table.get(EARNED_FRAME)?.map(|row| row.value().to_vec()))
    }

    /// What the hub owes without having signed for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn exposure(&self) -> Result<Exposure, StoreError> {
        let tx = self.read()?;
        let uncovered = sum_uncovered(&tx.open_table(UNCOVERED)?, &tx.open_table(RECEIPTS)?)?;
        Ok(Exposure { open: sum_open(&self.open_tasks()?), uncovered })
    }
}

// === impl Tx ===

impl Tx<'_> {
    pub(super) fn create_money(&mut self) -> Result<(), StoreError> {
        self.inner.open_table(RECEIPTS)?;
        self.inner.open_table(UNCOVERED)?;
        self.inner.open_table(VERDICTS)?;
        Ok(())
    }

    /// Every receipt, as this transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipts(&self) -> Result<Vec<ReceiptRecord>, StoreError> {
        let table = self.inner.open_table(RECEIPTS)?;
        table.iter()?.map(|row| serde_json::from_slice(row?.1.value()).map_err(|_| DAMAGED)).collect()
    }

    /// Keeps the frame of a verdict by which something is owed: as proof of its own receipt until a voucher names
    /// that, and as proof of all that was `earned` until another one says more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_verdict(
        &mut self,
        assignment: &AssignmentId,
        earned: Option<Amount>,
        frame: &[u8],
    ) -> Result<(), StoreError> {
        if self.receipt(assignment)?.is_some_and(|receipt| receipt.is_uncovered()) {
            self.inner.open_table(VERDICTS)?.insert(&assignment.0, frame)?;
        }
        let mut table = self.inner.open_table(META)?;
        let before =
            table.get(EARNED)?.and_then(|row| row.value().try_into().ok()).map(Amount::from_be_bytes);
        if let Some(earned) = earned.filter(|earned| Some(*earned) > before) {
            table.insert(EARNED, earned.to_be_bytes().as_slice())?;
            table.insert(EARNED_FRAME, frame)?;
        }
        Ok(())
    }

    /// The hub's verdict over a receipt that no voucher names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn verdict_frame(&self, assignment: &AssignmentId) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.inner.open_table(VERDICTS)?;
        Ok(table.get(&assignment.0)?.map(|row| row.value().to_vec()))
    }

    /// Learns how often the hub's store was restored; says whether it was since this was last heard.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn learn_hub_epoch(&mut self, epoch: u32) -> Result<bool, StoreError> {
        let known = self.meta_u64(HUB_EPOCH)?;
        if known.is_none_or(|known| known < u64::from(epoch)) {
            self.set_meta_u64(HUB_EPOCH, u64::from(epoch))?;
        }
        // A device that never heard of any cannot have been told of anything before.
        Ok(known.is_some_and(|known| known < u64::from(epoch)))
    }

    /// One receipt, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn receipt(&self, assignment: &AssignmentId) -> Result<Option<ReceiptRecord>, StoreError> {
        let table = self.inner.open_table(RECEIPTS)?;
        let row = table.get(&assignment.0)?.map(|row| row.value().to_vec());
        row.map(|row| serde_json::from_slice(&row).map_err(|_| DAMAGED)).transpose()
    }

    /// Keeps a receipt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_receipt(&mut self, receipt: &ReceiptRecord) -> Result<(), StoreError> {
        let text = serde_json::to_vec(receipt).expect("texts and numbers are JSON");
        self.inner.open_table(RECEIPTS)?.insert(&receipt.assignment.0, text.as_slice())?;
        let mut uncovered = self.inner.open_table(UNCOVERED)?;
        if receipt.is_uncovered() {
            uncovered.insert(&receipt.assignment.0, ())?;
        } else {
            uncovered.remove(&receipt.assignment.0)?;
            self.inner.open_table(VERDICTS)?.remove(&receipt.assignment.0)?;
        }
        Ok(())
    }

    /// Forgets receipts that a voucher covered, or that came to nothing, before `before_ms`; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_receipts(&mut self, before_ms: u64) -> Result<usize, StoreError> {
        let is_over = |receipt: &ReceiptRecord| match (receipt.covered_ms, receipt.judgement.as_deref()) {
            (Some(covered), _) => covered < before_ms,
            // No voucher ever names what costs nothing.
            (None, Some(judgement)) => {
                (judgement != "accepted" || !receipt.is_worth_something()) && receipt.made_ms < before_ms
            }
            (None, None) => false,
        };
        let mut old = Vec::new();
        {
            let table = self.inner.open_table(RECEIPTS)?;
            for row in table.iter()? {
                let receipt: ReceiptRecord = serde_json::from_slice(row?.1.value()).map_err(|_| DAMAGED)?;
                if is_over(&receipt) {
                    old.push(receipt.assignment);
                }
            }
        }
        for assignment in &old {
            self.inner.open_table(RECEIPTS)?.remove(&assignment.0)?;
            self.inner.open_table(UNCOVERED)?.remove(&assignment.0)?;
            self.inner.open_table(VERDICTS)?.remove(&assignment.0)?;
        }
        Ok(old.len())
    }

    /// The best voucher, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn voucher(&self) -> Result<Option<Statement>, StoreError> {
        let table = self.inner.open_table(META)?;
        let row = table.get(VOUCHER)?.map(|row| row.value().to_vec());
        row.map(|row| decode(&row).map_err(|_| DAMAGED)).transpose()
    }

    /// Keeps a voucher as the best one, with the frame that it came in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_voucher(&mut self, statement: &Statement, frame: &[u8]) -> Result<(), StoreError> {
        let encoded = sosna_host::seal::encode(statement).map_err(StoreError::Encode)?;
        let mut table = self.inner.open_table(META)?;
        table.insert(VOUCHER, encoded.as_slice())?;
        table.insert(VOUCHER_FRAME, frame)?;
        Ok(())
    }

    /// By how much the best voucher is above all receipts that vouchers have named.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn above_receipts(&self) -> Result<Amount, StoreError> {
        let table = self.inner.open_table(META)?;
        let kept = table.get(VOUCHER_ABOVE)?.and_then(|row| row.value().try_into().ok());
        Ok(kept.map_or(Amount::ZERO, Amount::from_be_bytes))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_above_receipts(&mut self, above: Amount) -> Result<(), StoreError> {
        self.inner.open_table(META)?.insert(VOUCHER_ABOVE, above.to_be_bytes().as_slice())?;
        Ok(())
    }

    /// What the hub has signed for, and what of it the chain has shown, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn held(&self) -> Result<Held, StoreError> {
        let record = {
            let table = self.inner.open_table(META)?;
            table.get(WALLET)?.map(|row| wallet_record(row.value())).transpose()?
        };
        Ok(Held::new(self.voucher()?.as_ref(), record))
    }

    /// Keeps what was seen of the hub's wallet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_wallet(&mut self, seen: &WalletRecord) -> Result<(), StoreError> {
        let text = serde_json::to_vec(seen).expect("texts and numbers are JSON");
        self.inner.open_table(META)?.insert(WALLET, text.as_slice())?;
        Ok(())
    }

    /// What the hub owes without having signed for it, as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn exposure(&self) -> Result<Exposure, StoreError> {
        let uncovered = sum_uncovered(&self.inner.open_table(UNCOVERED)?, &self.inner.open_table(RECEIPTS)?)?;
        Ok(Exposure { open: sum_open(&self.open_tasks()?), uncovered })
    }
}

/// Tasks that may still come to a value.
fn wallet_record(text: &[u8]) -> Result<WalletRecord, StoreError> {
    serde_json::from_slice(text).map_err(|_| StoreError::Record { table: WALLET })
}

fn sum_open(open: &[super::record::TaskRecord]) -> Amount {
    let has_value = |task: &&super::record::TaskRecord| {
        let cause = task.result.as_ref().and_then(|result| Cause::from_word(&result.cause));
        cause.is_none_or(Cause::is_result)
    };
    sum(open.iter().filter(has_value).map(|task| task.price))
}

fn sum_uncovered(
    uncovered: &impl ReadableTable<&'static [u8; 16], ()>,
    receipts: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
) -> Result<Amount, StoreError> {
    let mut prices = Vec::new();
    for row in uncovered.iter()? {
        let assignment = row?.0;
        let receipt = receipts.get(assignment.value())?.ok_or(DAMAGED)?;
        let receipt: ReceiptRecord = serde_json::from_slice(receipt.value()).map_err(|_| DAMAGED)?;
        prices.push(receipt.price);
    }
    Ok(sum(prices.into_iter()))
}

fn sum(mut amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts
        .try_fold(Amount::ZERO, |sum, amount| sum.checked_add(amount))
        .unwrap_or(Amount::from_units(u128::MAX))
}
