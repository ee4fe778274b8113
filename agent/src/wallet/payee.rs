//! Where a device's earnings go. Only the owner says so: on the device, or in its configuration; and on a chain by the
//! device's signature, after which anybody settles for it there.

use std::path::Path;

use serde::Serialize;
use sosna_host::identity::{CannotSign, IdentityError, IdentityKey};
use sosna_protocol::{
    Address,
    eip712::{Domain, Payee, Typed as _},
    identity::Sign as _,
};

use crate::{
    identity::key_path,
    store::{Store, StoreError},
};

/// The most that a device can let relayers keep, in thousandths (`MOST_SHARE` of the wallet).
pub const MOST_SHARE: u16 = 100;

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

/// Why there is nothing signed.
#[derive(Debug, thiserror::Error)]
pub enum PayeeError {
    /// The key's file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no key.
    #[error("this device has no key yet; it makes one when it is started for the first time")]
    NoKey,
    /// The key does not sign.
    #[error("the payee could not be signed")]
    Sign(#[from] CannotSign),
}

/// A signed payee, as `HubWallet.setPayee` takes it (docs/contracts.md): names are the contract's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The chain's number.
    pub chain_id: u64,
    /// The hub's wallet.
    pub wallet: String,
    /// What the device signed.
    pub payee: Fields,
    /// The device's signature of it.
    pub signature: String,
}

/// `Payee`, as EIP-712 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fields {
    /// Whose earnings.
    pub device: String,
    /// To whom they go.
    pub payee: String,
    /// The most that whoever settles may keep of each payment, in thousandths.
    pub share_per_mille: u16,
    /// How many were registered before.
    pub nonce: u64,
    /// Seconds since 1970 after which it is void.
    pub deadline: u64,
}

/// Signs where earnings go with the key in a data folder.
///
/// # Errors
/// [`PayeeError`].
pub fn sign(
    data: &Path,
    domain: &Domain,
    payee: Option<Address>,
    share_per_mille: u16,
    nonce: u64,
    deadline: u64,
) -> Result<Registration, PayeeError> {
    let key = IdentityKey::load(&key_path(data))?.ok_or(PayeeError::NoKey)?;
    let device = key.address();
    let payee = payee.unwrap_or(device);
    let signed = Payee { device, payee, share_per_mille, nonce, deadline };
    let signature = signed.sign(domain, &key)?;
    let text = |address: &Address| address.checksummed().as_str().to_owned();
    Ok(Registration {
        chain_id: domain.chain_id,
        wallet: text(&domain.wallet),
        payee: Fields { device: text(&device), payee: text(&payee), share_per_mille, nonce, deadline },
        signature: format!("0x{signature}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::Signature;

    use super::*;

    #[test]
    fn a_payee_is_the_devices_own_word() {
        let dir = tempfile::tempdir().unwrap();
        let domain = Domain { chain_id: 5, wallet: Address([6; 20]) };
        let without = sign(dir.path(), &domain, None, 0, 0, 9).unwrap_err();
        assert!(matches!(without, PayeeError::NoKey), "{without}");
        let key = IdentityKey::load_or_create(&key_path(dir.path())).unwrap();
        let to = Address([7; 20]);
        let signed = sign(dir.path(), &domain, Some(to), 5, 3, 9).unwrap();
        let payee = Payee { device: key.address(), payee: to, share_per_mille: 5, nonce: 3, deadline: 9 };
        let signature: Signature = signed.signature.parse().unwrap();
        payee.verify(&domain, &signature, &key.address()).unwrap();
        let json = serde_json::to_value(&signed).unwrap();
        assert_eq!((&json["payee"]["sharePerMille"], &json["payee"]["nonce"]), (&5.into(), &3.into()));
        let own = sign(dir.path(), &domain, None, 0, 0, 9).unwrap();
        assert_eq!(own.payee.payee, own.payee.device);
    }
}
