//! Who speaks: Ethereum addresses, recoverable signatures, and the names of jobs, tasks and assignments.
//!
//! A device, a hub, an owner and a buyer are each named by the address of a secp256k1 key of their own.

use k256::ecdsa::{RecoveryId, VerifyingKey};

use crate::hash::{Hash, bytes_type, keccak256};

bytes_type!(
    /// An Ethereum address: the last 20 bytes of the Keccak-256 of a public key (Yellow Paper, appendix F).
    Address, 20
);
bytes_type!(
    /// A recoverable ECDSA signature over secp256k1: r, s, v with v of 27 or 28 and s in the lower half (EIP-2).
    Signature, 65
);
bytes_type!(
    /// Names a job within a hub.
    JobId, 16
);
bytes_type!(
    /// Names a task within a hub.
    TaskId, 16
);
bytes_type!(
    /// Names one device's lease on one task.
    AssignmentId, 16
);
bytes_type!(
    /// A number used once, chosen by who asks and repeated by who answers.
    Nonce, 16
);

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not r, s and v of a signature at all.
    #[error("the signature is malformed")]
    Malformed,
    /// s lies in the upper half of the group order: a second form of a signature that exists already (EIP-2).
    #[error("the signature is not in its canonical, low-s form")]
    HighS,
    /// Someone else signed.
    #[error("the signature is by {found}, not by {expected}")]
    Signer {
        /// Who should have signed.
        expected: Address,
        /// Who did.
        found: Address,
    },
}

/// Why a text that a person wrote is no address to send money to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Something else.
    #[error("it is not an Ethereum address: 0x and 40 hexadecimal digits")]
    Form,
    /// Capital and small letters are not those of the address (EIP-55).
    #[error("its letters do not fit its checksum (EIP-55); was it copied whole?")]
    Checksum,
}

/// Holds a key and signs with it. Implemented outside this crate, which holds none.
pub trait Sign {
    /// What can go wrong in the key's holder (a hardware module may be gone).
    type Error;
    /// The key's address.
    fn address(&self) -> Address;
    /// Signs a digest as it is, without any prefix.
    ///
    /// # Errors
    /// When the holder of the key cannot sign.
    fn sign(&self, digest: &Hash) -> Result<Signature, Self::Error>;
}

impl Signature {
    /// The address whose key made this signature over `digest`.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] and [`SignatureError::HighS`].
    pub fn recover(&self, digest: &Hash) -> Result<Address, SignatureError> {
        let (signature, is_odd) = self.parts()?;
        let recovery = RecoveryId::new(is_odd, false);
        let key = VerifyingKey::recover_from_prehash(&digest.0, &signature, recovery)
            .map_err(|_| SignatureError::Malformed)?;
        Ok(Address::of_key(&key))
    }

    /// r and s, and whether the recovered point's y is odd: for another library that recovers.
    ///
    /// # Errors
    /// As [`Signature::recover`], but for signatures of no key.
    pub fn canonical(&self) -> Result<([u8; 64], bool), SignatureError> {
        let (signature, is_odd) = self.parts()?;
        Ok((signature.to_bytes().into(), is_odd))
    }

    fn parts(&self) -> Result<(k256::ecdsa::Signature, bool), SignatureError> {
        let is_odd = match self.0[64] {
            27 => false,
            28 => true,
            _ => return Err(SignatureError::Malformed),
        };
        let signature =
            k256::ecdsa::Signature::from_slice(&self.0[..64]).map_err(|_| SignatureError::Malformed)?;
        if signature.normalize_s().is_some() {
            return Err(SignatureError::HighS);
        }
        Ok((signature, is_odd))
    }

    /// Accepts this signature only if `signer` made it over `digest`.
    ///
    /// # Errors
    /// As [`Signature::recover`], and [`SignatureError::Signer`] when it is somebody else's.
    pub fn verify(&self, digest: &Hash, signer: &Address) -> Result<(), SignatureError> {
        self.is_by(self.recover(digest)?, signer)
    }

    /// Compares whom a signature was recovered to with who should have made it.
    ///
    /// # Errors
    /// [`SignatureError::Signer`].
    pub fn is_by(&self, found: Address, signer: &Address) -> Result<(), SignatureError> {
        if found == *signer { Ok(()) } else { Err(SignatureError::Signer { expected: *signer, found }) }
    }
}

impl Address {
    /// The address of a public key.
    #[must_use]
    pub fn of_key(key: &VerifyingKey) -> Self {
        let point = key.to_encoded_point(false);
        let mut coordinates = [0; 64];
        coordinates.copy_from_slice(&point.as_bytes()[1..]);
        Self::of_point(&coordinates)
    }

    /// The address of a public key's point: x and y.
    #[must_use]
    pub fn of_point(coordinates: &[u8; 64]) -> Self {
        let hash = keccak256(&[coordinates]);
        let mut address = [0; 20];
        address.copy_from_slice(&hash.0[12..]);
        Self(address)
    }

    /// The address as one left-padded word of the Solidity ABI.
    #[must_use]
    pub fn word(&self) -> [u8; 32] {
        let mut word = [0; 32];
        word[12..].copy_from_slice(&self.0);
        word
    }

    /// Reads an address that a person wrote, the checksum with it: a mistyped one would send money to nobody. With
    /// letters of one size only it has none (EIP-55).
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn of_person(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let address: Self = text.parse().map_err(|_| AddressError::Form)?;
        let digits = text.trim_start_matches("0x");
        let has = |letters: fn(&u8) -> bool| digits.as_bytes().iter().any(letters);
        let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
        if is_mixed && digits != address.checksummed().trim_start_matches("0x") {
            return Err(AddressError::Checksum);
        }
        Ok(address)
    }

    /// The form people exchange: `0x` and mixed case that carries a checksum (EIP-55).
    #[must_use]
    pub fn checksummed(&self) -> heapless::String<42> {
        use core::fmt::Write as _;
        let mut lower = heapless::String::<40>::new();
        let mut text = heapless::String::new();
        // 40 digits and the prefix fit by construction of the capacities.
        let _ = write!(lower, "{self}");
        let hash = keccak256(&[lower.as_bytes()]);
        let _ = text.push_str("0x");
        for (place, digit) in lower.chars().enumerate() {
            let nibble = (hash.0[place / 2] >> (4 * (1 - place % 2))) & 0xf;
            let _ = text.push(if nibble >= 8 { digit.to_ascii_uppercase() } else { digit });
        }
        text
    }
}
