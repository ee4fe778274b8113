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

use crate::{identity::key_path, status::Earnings};

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
    /// Nothing on the chain.
    #[error(
        "this device holds no line of a root: either none was posted that has one, or the settings `chain` name nobody \
         to ask; a claim by the voucher needs none"
    )]
    NoLine,
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

/// A signed claim, with what it stands on (docs/contracts.md): names are the contract's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The chain's number.
    pub chain_id: u64,
    /// What the device signed.
    pub payout: Fields,
    /// The device's signature of it.
    pub signature: String,
    /// By what the wallet owes it.
    #[serde(flatten)]
    pub by: By,
}

/// By what a wallet owes something to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum By {
    /// The hub has signed for it (`HubWallet.claimVoucher`).
    Voucher {
        /// The root of receipts in the hub's voucher.
        receipts: String,
        /// The hub's signature of the voucher.
        hub_signature: String,
    },
    /// A root on the chain commits it (`HubWallet.claim`).
    Root {
        /// How many lines the root's tree has.
        count: u32,
        /// The way up.
        proof: Vec<String>,
    },
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

/// What an owner asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// To whom it goes; `None` for the device itself.
    pub to: Option<Address>,
    /// The most that whoever brings it may keep.
    pub max_fee: Amount,
    /// Seconds since 1970 after which it is void.
    pub deadline: u64,
    /// By the line of a root rather than by the voucher.
    pub is_by_root: bool,
}

/// Signs a claim of what a device holds with the key in its data folder.
///
/// # Errors
/// [`ClaimError`].
pub fn sign(
    data: &Path,
    device: Option<&str>,
    earnings: &Earnings,
    wish: &Wish,
) -> Result<Claim, ClaimError> {
    let signed = earnings.signed.as_ref().ok_or(ClaimError::NoVoucher)?;
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
    let (cumulative, by) = if wish.is_by_root {
        let best = earnings.lines.iter().max_by_key(|line| line.cumulative).ok_or(ClaimError::NoLine)?;
        let proof = best.path.iter().map(|hash| format!("0x{hash}")).collect();
        (best.cumulative, By::Root { count: best.count, proof })
    } else {
        let units = signed.units.parse().map_err(|_| ClaimError::Record)?;
        let receipts = format!("0x{}", signed.receipts);
        let hub_signature = format!("0x{}", signed.signature);
        (Amount::from_units(units), By::Voucher { receipts, hub_signature })
    };
    let Wish { to, max_fee, deadline, .. } = *wish;
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
        by,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::{Hash, Signature};

    use super::*;
    use crate::{status::Signed, store::record::PayoutLine};

    fn earnings(chain_id: u64) -> Earnings {
        Earnings {
            voucher: "0.000000000000001".into(),
            signed: Some(Signed {
                chain_id,
                wallet: format!("0x{}", "5f".repeat(20)),
                units: "1000".into(),
                receipts: "01".repeat(32),
                signature: "02".repeat(65),
            }),
            uncovered: "0".into(),
            open: "0".into(),
            payout_to: None,
            lines: Vec::new(),
        }
    }

    fn wish(max_fee: u128) -> Wish {
        Wish { to: None, max_fee: Amount::from_units(max_fee), deadline: 99, is_by_root: false }
    }

    #[test]
    fn a_claim_is_the_devices_own_word_about_its_voucher() {
        let dir = tempfile::tempdir().unwrap();
        let key = IdentityKey::load_or_create(&key_path(dir.path())).unwrap();
        let own = key.address().checksummed().as_str().to_owned();
        let payee = Address([7; 20]);
        let wanted = Wish { to: Some(payee), ..wish(10) };
        let claim = sign(dir.path(), Some(&own), &earnings(5), &wanted).unwrap();
        let wallet = Address([0x5f; 20]);
        let payout = Payout {
            wallet,
            device: key.address(),
            to: payee,
            cumulative: Amount::from_units(1000),
            max_fee: Amount::from_units(10),
            deadline: 99,
        };
        let signature: Signature = claim.signature.parse().unwrap();
        payout.verify(&Domain { chain_id: 5, wallet }, &signature, &key.address()).unwrap();
        let json = serde_json::to_value(&claim).unwrap();
        assert_eq!((&json["chainId"], &json["payout"]["maxFee"]), (&5.into(), &"10".into()));
        assert_eq!(json["hubSignature"], format!("0x{}", "02".repeat(65)));
        assert!(json.get("proof").is_none());
        // Earnings go to the device itself where nobody was named.
        let claim = sign(dir.path(), Some(&own), &earnings(5), &wish(10)).unwrap();
        assert_eq!(claim.payout.to, own);
    }

    #[test]
    fn what_a_root_commits_is_claimed_by_the_devices_line_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = IdentityKey::load_or_create(&key_path(dir.path())).unwrap();
        let own = key.address().checksummed().as_str().to_owned();
        let by_root = Wish { is_by_root: true, ..wish(1) };
        let none = sign(dir.path(), Some(&own), &earnings(5), &by_root).unwrap_err();
        assert!(matches!(none, ClaimError::NoLine), "{none}");
        let line = |cumulative, count| PayoutLine {
            root: Hash::ZERO,
            count,
            cumulative: Amount::from_units(cumulative),
            path: vec![Hash([9; 32])],
        };
        let held = Earnings { lines: vec![line(500, 3), line(700, 2)], ..earnings(5) };
        let claim = sign(dir.path(), Some(&own), &held, &by_root).unwrap();
        let json = serde_json::to_value(&claim).unwrap();
        assert_eq!((&json["payout"]["cumulative"], &json["count"]), (&"700".into(), &2.into()));
        assert_eq!(json["proof"][0], format!("0x{}", "09".repeat(32)));
        assert!(json.get("receipts").is_none());
    }

    #[test]
    fn what_cannot_be_claimed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let no_key = sign(dir.path(), None, &earnings(5), &wish(0)).unwrap_err();
        assert!(matches!(no_key, ClaimError::NoKey), "{no_key}");
        let key = IdentityKey::load_or_create(&key_path(dir.path())).unwrap();
        let own = key.address().checksummed().as_str().to_owned();
        let try_it = |device: &str, held: &Earnings, fee: u128| {
            sign(dir.path(), Some(device), held, &wish(fee)).unwrap_err()
        };
        assert!(matches!(try_it(&own, &Earnings { signed: None, ..earnings(5) }, 0), ClaimError::NoVoucher));
        assert!(matches!(try_it(&own, &earnings(0), 0), ClaimError::NoChain));
        assert!(matches!(try_it(&own, &earnings(5), 1001), ClaimError::Fee { .. }));
        let other = format!("0x{}", "33".repeat(20));
        assert!(matches!(try_it(&other, &earnings(5), 0), ClaimError::Stranger { .. }));
        let mut damaged = earnings(5);
        damaged.signed.as_mut().unwrap().units = "many".into();
        assert!(matches!(try_it(&own, &damaged, 0), ClaimError::Record));
    }
}
