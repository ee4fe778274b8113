//! Where a device's earnings go. Only the owner says so: on the device, or in its configuration.

use sosna_protocol::Address;

use crate::store::{Store, StoreError};

/// The store's name for it.
pub const SETTING: &str = "payout_to";

/// Makes `payee` the one that earnings go to from the next payout on; on the disk when this returns.
///
/// # Errors
/// [`StoreError`].
pub fn set(store: &Store, payee: &Address) -> Result<(), StoreError> {
    let text = payee.checksummed();
    if store.setting(SETTING)?.as_deref() == Some(text.as_str()) {
        return Ok(());
    }
    store.write(|tx| tx.set_setting(SETTING, text.as_str()))
}
