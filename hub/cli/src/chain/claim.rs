//! A claim that a device has signed (`sosna-agent wallet claim`), as a file from somewhere: nothing in it is believed
//! before the signatures hold.

use alloy_primitives::U256;
use serde::Deserialize;
use sosna_api::text::{AddressText, HashText, SignatureText};
use sosna_contracts::{amount, bindings::HubWallet, hash};
use sosna_host::report::Exit;
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    eip712::{Domain, Payout, Typed as _, Voucher},
    identity::SignatureError,
    payout,
};

/// No claim is longer.
pub(super) const MAX_FILE: usize = 64 << 10;

/// Why a claim cannot be brought to the chain.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It is something else.
    #[error("{from} is no claim; `sosna-agent wallet claim` prints one")]
    NotAClaim {
        /// Where it comes from.
        from: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It is something else, and much of it.
    #[error("{from} is longer than any claim; `sosna-agent wallet claim` prints one")]
    TooLong {
        /// Where it comes from.
        from: String,
    },
    /// An amount in it.
    #[error("the claim's `{field}` is no number of units of 10^-18 SNM")]
    Number {
        /// Which.
        field: &'static str,
    },
    /// The device did not sign it.
    #[error("the claim is not signed by its device {}, or it was changed since", device.checksummed())]
    Device {
        /// Which.
        device: Address,
        /// Why.
        #[source]
        source: SignatureError,
    },
    /// The hub did not sign what it rests on.
    #[error("the claim rests on a voucher that the wallet's hub {} has not signed", hub.checksummed())]
    Hub {
        /// Which.
        hub: Address,
        /// Why.
        #[source]
        source: SignatureError,
    },
    /// There is no such root.
    #[error(
        "the claim's way up does not lead to a root that the wallet has now; have it signed anew, or by the voucher \
         (without --by-root)"
    )]
    Root,
}

/// A claim: names are those of `HubWallet.claimVoucher` and `HubWallet.claim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The chain's number.
    pub chain_id: u64,
    /// What the device signed.
    pub payout: Payout,
    /// The device's signature of it.
    pub signature: Signature,
    /// By what the wallet owes it.
    pub by: By,
}

/// By what a wallet owes something to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The hub has signed for it.
    Voucher {
        /// The root of receipts in the hub's voucher.
        receipts: Hash,
        /// The hub's signature of the voucher.
        hub_signature: Signature,
    },
    /// A root on the chain commits it.
    Root {
        /// How many lines the root's tree has.
        count: u32,
        /// The hashes beside the way up.
        proof: Vec<Hash>,
    },
}

/// What brings a claim to the wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// By a voucher.
    Voucher(HubWallet::claimVoucherCall),
    /// By a root.
    Root(HubWallet::claimCall),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    chain_id: u64,
    payout: Fields,
    signature: SignatureText,
    #[serde(flatten)]
    by: WrittenBy,
}

#[derive(Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum WrittenBy {
    Voucher { receipts: HashText, hub_signature: SignatureText },
    Root { count: u32, proof: Vec<HashText> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    wallet: AddressText,
    device: AddressText,
    to: AddressText,
    cumulative: String,
    max_fee: String,
    deadline: u64,
}

// === impl Claim ===

impl Claim {
    /// Reads one, and checks that its device has signed it.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn read(bytes: &[u8], from: &str) -> Result<Self, ClaimError> {
        if bytes.len() > MAX_FILE {
            return Err(ClaimError::TooLong { from: from.to_owned() });
        }
        let wrong = |source| ClaimError::NotAClaim { from: from.to_owned(), source };
        let written: Written = serde_json::from_slice(bytes).map_err(wrong)?;
        let units = |text: &str, field| {
            text.parse().map(Amount::from_units).map_err(|_| ClaimError::Number { field })
        };
        let payout = Payout {
            wallet: written.payout.wallet.0,
            device: written.payout.device.0,
            to: written.payout.to.0,
            cumulative: units(&written.payout.cumulative, "cumulative")?,
            max_fee: units(&written.payout.max_fee, "maxFee")?,
            deadline: written.payout.deadline,
        };
        let claim = Self {
            chain_id: written.chain_id,
            payout,
            signature: written.signature.0,
            by: match written.by {
                WrittenBy::Voucher { receipts, hub_signature } => {
                    By::Voucher { receipts: receipts.0, hub_signature: hub_signature.0 }
                }
                WrittenBy::Root { count, proof } => {
                    By::Root { count, proof: proof.iter().map(|hash| hash.0).collect() }
                }
            },
        };
        let device = payout.device;
        payout
            .verify(&claim.domain(), &claim.signature, &device)
            .map_err(|source| ClaimError::Device { device, source })?;
        Ok(claim)
    }

    /// The domain in which it is signed.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, wallet: self.payout.wallet }
    }

    /// Checks that what it rests on holds: the voucher is signed by the wallet's hub, or the way up leads to one of its
    /// roots.
    ///
    /// # Errors
    /// [`ClaimError::Hub`], [`ClaimError::Root`].
    pub fn require_owed(&self, hub: Address, roots: &[Hash]) -> Result<(), ClaimError> {
        let Payout { device, cumulative, .. } = self.payout;
        match &self.by {
            By::Voucher { receipts, hub_signature } => {
                let voucher = Voucher { device, cumulative, receipts: *receipts };
                voucher
                    .verify(&self.domain(), hub_signature, &hub)
                    .map_err(|source| ClaimError::Hub { hub, source })
            }
            By::Root { count, proof } => match payout::climb(&device, cumulative, *count, proof) {
                Some(root) if roots.contains(&root) => Ok(()),
                _ => Err(ClaimError::Root),
            },
        }
    }

    /// The call that brings it to the wallet; whoever calls keeps the fee.
    #[must_use]
    pub fn call(&self, fee: Amount) -> Call {
        let (payout, signature) = (HubWallet::Payout::from(&self.payout), self.signature.0.to_vec().into());
        let fee: U256 = amount(fee);
        match &self.by {
            By::Voucher { receipts, hub_signature } => Call::Voucher(HubWallet::claimVoucherCall {
                payout,
                signature,
                receipts: hash(receipts),
                hubSignature: hub_signature.0.to_vec().into(),
                fee,
            }),
            By::Root { count, proof } => Call::Root(HubWallet::claimCall {
                payout,
                signature,
                proof: proof.iter().map(hash).collect(),
                count: U256::from(*count),
                fee,
            }),
        }
    }
}

// === impl ClaimError ===

impl ClaimError {
    /// What a script sees.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NotAClaim { .. } | Self::TooLong { .. } | Self::Number { .. } => Exit::Usage,
            Self::Device { .. } | Self::Hub { .. } | Self::Root => Exit::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};
    use sosna_host::identity::IdentityKey;
    use sosna_protocol::identity::Sign as _;

    use super::*;

    fn written(device: &IdentityKey, hub: &IdentityKey) -> Value {
        let domain = Domain { chain_id: 5, wallet: Address([7; 20]) };
        let payout = Payout {
            wallet: domain.wallet,
            device: device.address(),
            to: Address([8; 20]),
            cumulative: Amount::from_units(1000),
            max_fee: Amount::from_units(10),
            deadline: 99,
        };
        let voucher =
            Voucher { device: payout.device, cumulative: payout.cumulative, receipts: Hash([9; 32]) };
        json!({
            "chainId": 5,
            "payout": {
                "wallet": payout.wallet.checksummed().as_str(), "device": payout.device.checksummed().as_str(),
                "to": payout.to.checksummed().as_str(), "cumulative": "1000", "maxFee": "10", "deadline": 99,
            },
            "signature": format!("0x{}", payout.sign(&domain, device).unwrap()),
            "receipts": format!("0x{}", voucher.receipts),
            "hubSignature": format!("0x{}", voucher.sign(&domain, hub).unwrap()),
        })
    }

    fn read(value: &Value) -> Result<Claim, ClaimError> {
        Claim::read(value.to_string().as_bytes(), "it")
    }

    #[test]
    fn a_claim_is_its_devices_and_rests_on_its_hubs_voucher() {
        let (device, hub) = (IdentityKey::generate(), IdentityKey::generate());
        let claim = read(&written(&device, &hub)).unwrap();
        assert_eq!(claim.payout.max_fee, Amount::from_units(10));
        claim.require_owed(hub.address(), &[]).unwrap();
        let other = claim.require_owed(device.address(), &[]).unwrap_err();
        assert!(matches!(other, ClaimError::Hub { .. }), "{other}");
        let by_voucher = claim.call(Amount::ZERO);
        assert!(matches!(by_voucher, Call::Voucher(_)));
    }

    #[test]
    fn a_claim_by_root_leads_to_a_root_of_the_wallet() {
        let (device, hub) = (IdentityKey::generate(), IdentityKey::generate());
        let mut by_root = written(&device, &hub);
        by_root["count"] = 2.into();
        by_root["proof"] = json!([format!("0x{}", "11".repeat(32))]);
        by_root.as_object_mut().unwrap().remove("hubSignature");
        let claim = read(&by_root).unwrap();
        let root =
            payout::climb(&device.address(), Amount::from_units(1000), 2, &[Hash([0x11; 32])]).unwrap();
        claim.require_owed(hub.address(), &[Hash::ZERO, root]).unwrap();
        let missing = claim.require_owed(hub.address(), &[Hash::ZERO]).unwrap_err();
        assert!(matches!(missing, ClaimError::Root), "{missing}");
        assert!(matches!(claim.call(Amount::ZERO), Call::Root(_)));
        by_root.as_object_mut().unwrap().remove("proof");
        assert!(matches!(read(&by_root), Err(ClaimError::NotAClaim { .. })));
    }

    #[test]
    fn what_was_changed_is_not_the_devices_any_more() {
        let (device, hub) = (IdentityKey::generate(), IdentityKey::generate());
        let good = written(&device, &hub);
        let changes = [
            ("/chainId", json!(6)),
            ("/payout/maxFee", json!("11")),
            ("/payout/to", json!(hub.address().checksummed().as_str())),
            ("/payout/deadline", json!(100)),
            ("/payout/cumulative", json!("1001")),
        ];
        for (place, value) in changes {
            let mut changed = good.clone();
            *changed.pointer_mut(place).unwrap() = value;
            assert!(matches!(read(&changed).unwrap_err(), ClaimError::Device { .. }), "{place}");
        }
        let mut many = good.clone();
        many["payout"]["cumulative"] = "-1".into();
        assert!(matches!(read(&many).unwrap_err(), ClaimError::Number { field: "cumulative" }));
        for text in ["", "{}", "[1]", "0x5f"] {
            assert!(matches!(Claim::read(text.as_bytes(), "it").unwrap_err(), ClaimError::NotAClaim { .. }));
        }
        assert!(matches!(Claim::read(&vec![b' '; MAX_FILE + 1], "it"), Err(ClaimError::TooLong { .. })));
    }
}
