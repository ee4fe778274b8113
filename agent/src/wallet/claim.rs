//! A claim of what a voucher says, signed here. Whoever brings it to the wallet's chain pays for the transaction and
//! keeps a fee that the device allows; nobody can have it paid anywhere else, or twice.

use std::path::Path;

use serde::Serialize;
use sosna_host::identity::{CannotSign, IdentityError, IdentityKey};
use sosna_protocol::{
    Address, Amount,
    eip712::{Domain, Payout, Typed as _},
    identity::Sign as _,
};

use crate::{identity::key_path, status::Signed};

/// Why there is no claim.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The key's file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no key.
    #[error("this device has no key yet; it makes one when it is started for the first time")]
    NoKey,
    /// There is nothing to claim.
    #[error("this device holds no voucher yet: nothing that it did was accepted and signed for")]
    NoVoucher,
    /// There is nowhere to claim it.
    #[error("this device's hub settles on no chain: the voucher itself is the record of what is owed")]
    NoChain,
    /// Its record is damaged.
    #[error("the voucher's record cannot be read; is this program older than the agent that runs?")]
    Record,
    /// The voucher is somebody else's.
    #[error("the voucher is for the device {voucher}, and the key in this folder is {key}'s")]
    Stranger {
        /// Whose the voucher is.
        voucher: String,
        /// Whose the key is.
        key: String,
    },
    /// More than there is.
    #[error("the fee of {fee} SNM is more than the {cumulative} SNM that the voucher is about")]
    Fee {
        /// Allowed.
        fee: Amount,
        /// Owed in all.
        cumulative: Amount,
    },
    /// The key does not sign.
    #[error("the claim could not be signed")]
    Sign(#[from] CannotSign),
}

/// A signed claim, as `HubWallet.claimVoucher` takes it (docs/contracts.md): names are the contract's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The chain's number.
    pub chain_id: u64,
    /// What the device signed.
    pub payout: Fields,
    /// The device's signature of it.
    pub signature: String,
    /// The root of receipts in the hub's voucher.
    pub receipts: String,
    /// The hub's signature of the voucher.
    pub hub_signature: String,
}

/// `Payout`, as EIP-712 has it; amounts in units of 10^-18 SNM, decimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fields {
    /// The hub's wallet.
    pub wallet: String,
    /// Whose it is.
    pub device: String,
    /// To whom it goes.
    pub to: String,
    /// All that was ever earned.
    pub cumulative: String,
    /// The most that whoever brings it may keep.
    pub max_fee: String,
    /// Seconds since 1970 after which it is void.
    pub deadline: u64,
}

/// Signs a claim of the best voucher with the key in a data folder.
///
/// # Errors
/// [`ClaimError`].
pub fn sign(
    data: &Path,
    device: Option<&str>,
    signed: Option<&Signed>,
    to: Option<Address>,
    max_fee: Amount,
    deadline: u64,
) -> Result<Claim, ClaimError> {
    let signed = signed.ok_or(ClaimError::NoVoucher)?;
    if signed.chain_id == 0 {
        return Err(ClaimError::NoChain);
    }
    let key = IdentityKey::load(&key_path(data))?.ok_or(ClaimError::NoKey)?;
    let own = key.address();
    let named: Option<Address> = device.and_then(|device| device.parse().ok());
    if named != Some(own) {
        let key = own.checksummed().as_str().to_owned();
        return Err(ClaimError::Stranger { voucher: device.unwrap_or_default().to_owned(), key });
    }
    let wallet: Address = signed.wallet.parse().map_err(|_| ClaimError::Record)?;
    let cumulative = Amount::from_units(signed.units.parse().map_err(|_| ClaimError::Record)?);
    if max_fee > cumulative {
        return Err(ClaimError::Fee { fee: max_fee, cumulative });
    }
    let payout = Payout { wallet, device: own, to: to.unwrap_or(own), cumulative, max_fee, deadline };
    let signature = payout.sign(&Domain { chain_id: signed.chain_id, wallet }, &key)?;
    let text = |address: &Address| address.checksummed().as_str().to_owned();
    Ok(Claim {
        chain_id: signed.chain_id,
        payout: Fields {
            wallet: text(&payout.wallet),
            device: text(&payout.device),
            to: text(&payout.to),
            cumulative: cumulative.units().to_string(),
            max_fee: max_fee.units().to_string(),
            deadline,
        },
        signature: format!("0x{signature}"),
        receipts: format!("0x{}", signed.receipts),
        hub_signature: format!("0x{}", signed.signature),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::Signature;

    use super::*;

    fn voucher(chain_id: u64) -> Signed {
        Signed {
            chain_id,
            wallet: format!("0x{}", "5f".repeat(20)),
            units: "1000".into(),
            receipts: "01".repeat(32),
            signature: "02".repeat(65),
        }
    }

    #[test]
    fn a_claim_is_the_devices_own_word_about_its_voucher() {
        let dir = tempfile::tempdir().unwrap();
        let key = IdentityKey::load_or_create(&key_path(dir.path())).unwrap();
        let own = key.address().checksummed().as_str().to_owned();
        let payee = Address([7; 20]);
        let fee = Amount::from_units(10);
        let claim = sign(dir.path(), Some(&own), Some(&voucher(5)), Some(payee), fee, 99).unwrap();
        let wallet = Address([0x5f; 20]);
        let cumulative = Amount::from_units(1000);
        let payout =
            Payout { wallet, device: key.address(), to: payee, cumulative, max_fee: fee, deadline: 99 };
        let signature: Signature = claim.signature.parse().unwrap();
        payout.verify(&Domain { chain_id: 5, wallet }, &signature, &key.address()).unwrap();
        let json = serde_json::to_value(&claim).unwrap();
        assert_eq!((&json["chainId"], &json["payout"]["maxFee"]), (&5.into(), &"10".into()));
        // Earnings go to the device itself where nobody was named.
        let claim = sign(dir.path(), Some(&own), Some(&voucher(5)), None, fee, 99).unwrap();
        assert_eq!(claim.payout.to, own);
    }

    #[test]
    fn what_cannot_be_claimed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let zero = Amount::ZERO;
        let no_key = sign(dir.path(), None, Some(&voucher(5)), None, zero, 0).unwrap_err();
        assert!(matches!(no_key, ClaimError::NoKey), "{no_key}");
        let key = IdentityKey::load_or_create(&key_path(dir.path())).unwrap();
        let own = key.address().checksummed().as_str().to_owned();
        let try_it = |device: &str, signed: Option<&Signed>, fee: u128| {
            sign(dir.path(), Some(device), signed, None, Amount::from_units(fee), 0).unwrap_err()
        };
        assert!(matches!(try_it(&own, None, 0), ClaimError::NoVoucher));
        assert!(matches!(try_it(&own, Some(&voucher(0)), 0), ClaimError::NoChain));
        assert!(matches!(try_it(&own, Some(&voucher(5)), 1001), ClaimError::Fee { .. }));
        let other = format!("0x{}", "33".repeat(20));
        assert!(matches!(try_it(&other, Some(&voucher(5)), 0), ClaimError::Stranger { .. }));
        let damaged = Signed { units: "many".into(), ..voucher(5) };
        assert!(matches!(try_it(&own, Some(&damaged), 0), ClaimError::Record));
    }
}
