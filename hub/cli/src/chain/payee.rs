//! To whom a device is paid by those who settle in bulk, signed by the device (`sosna-agent wallet payee`), as a file from
//! somewhere.

use serde::Deserialize;
use sosna_api::text::{AddressText, SignatureText};
use sosna_contracts::bindings::HubWallet;
use sosna_protocol::{
    Signature,
    eip712::{Domain, Payee, Typed as _},
};

use super::{ClaimError, claim::MAX_FILE};

/// A signed payee: names are those of `HubWallet.setPayee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// The chain and the hub's wallet for which it is signed.
    pub domain: Domain,
    /// What the device signed.
    pub payee: Payee,
    /// The device's signature of it.
    pub signature: Signature,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    chain_id: u64,
    wallet: AddressText,
    payee: Fields,
    signature: SignatureText,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    device: AddressText,
    payee: AddressText,
    share_per_mille: u16,
    nonce: u64,
    deadline: u64,
}

// === impl Registration ===

impl Registration {
    /// Reads one, and checks that its device has signed it; `None` for something else.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, ClaimError> {
        if bytes.len() > MAX_FILE {
            return Ok(None);
        }
        let Ok(written) = serde_json::from_slice::<Written>(bytes) else { return Ok(None) };
        let Fields { device, payee, share_per_mille, nonce, deadline } = written.payee;
        let payee = Payee { device: device.0, payee: payee.0, share_per_mille, nonce, deadline };
        let domain = Domain { chain_id: written.chain_id, wallet: written.wallet.0 };
        let (signature, device) = (written.signature.0, payee.device);
        payee.verify(&domain, &signature, &device).map_err(|source| ClaimError::Device { device, source })?;
        Ok(Some(Self { domain, payee, signature }))
    }

    /// The call that brings it to the wallet.
    #[must_use]
    pub fn call(&self) -> HubWallet::setPayeeCall {
        HubWallet::setPayeeCall {
            payee: HubWallet::Payee::from(&self.payee),
            signature: self.signature.0.to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;
    use sosna_host::identity::IdentityKey;
    use sosna_protocol::{Address, identity::Sign as _};

    use super::*;

    #[test]
    fn a_payee_is_its_devices_word() {
        let device = IdentityKey::generate();
        let domain = Domain { chain_id: 5, wallet: Address([7; 20]) };
        let payee = Payee {
            device: device.address(),
            payee: Address([8; 20]),
            share_per_mille: 3,
            nonce: 4,
            deadline: 99,
        };
        let mut written = json!({
            "chainId": 5, "wallet": domain.wallet.checksummed().as_str(),
            "payee": {
                "device": payee.device.checksummed().as_str(), "payee": payee.payee.checksummed().as_str(),
                "sharePerMille": 3, "nonce": 4, "deadline": 99,
            },
            "signature": format!("0x{}", payee.sign(&domain, &device).unwrap()),
        });
        let read = Registration::read(written.to_string().as_bytes()).unwrap().unwrap();
        assert_eq!((read.payee, read.domain), (payee, domain));
        written["payee"]["sharePerMille"] = 100.into();
        let changed = Registration::read(written.to_string().as_bytes()).unwrap_err();
        assert!(matches!(changed, ClaimError::Device { .. }), "{changed}");
        assert_eq!(Registration::read(b"{}").unwrap(), None);
    }
}
