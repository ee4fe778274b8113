//! The secp256k1 key that names a device, a hub or an owner, and the file that keeps it.

use std::path::Path;

use alloy_primitives::B256;
use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use serde::{Deserialize, Serialize};
use sosna_protocol::{Address, Hash, Signature, identity::Sign};

use crate::file::{self, Access, FileError};

/// A key that signs. It never shows itself, not even in debugging output.
#[derive(Clone)]
pub struct IdentityKey(PrivateKeySigner);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Its file cannot be read or written.
    #[error("the identity key cannot be kept")]
    File(#[from] FileError),
    /// The file holds something else.
    #[error(
        "{path} does not hold an identity key; restore it from a backup, or remove it to become a new party"
    )]
    Malformed {
        /// The file.
        path: String,
    },
    /// A keystore lacks what it takes to open one.
    #[error("{path} is not a whole Ethereum keystore of version 3")]
    NotAKeystore {
        /// The file.
        path: String,
    },
    /// A keystore's password is wrong, or the keystore is broken.
    #[error("the keystore cannot be opened with this password")]
    Keystore(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The key's signer failed. It cannot, short of a broken key: the key is in memory.
#[derive(Debug, thiserror::Error)]
#[error("the identity key cannot sign")]
pub struct CannotSign(#[source] alloy_signer::Error);

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    address: String,
    key: String,
}

// === impl IdentityKey ===

impl IdentityKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        loop {
            // All but about one in 2^128 numbers are keys.
            if let Ok(signer) = PrivateKeySigner::from_bytes(&B256::from(crate::random::<32>())) {
                return Self(signer);
            }
        }
    }

    /// The key of known bytes; `None` where they are no key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Option<Self> {
        PrivateKeySigner::from_bytes(&B256::from(bytes)).ok().map(Self)
    }

    /// The key in a file, or a new one that is on disk in that file (mode 0600) when this returns.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = Self::generate();
        key.store(path)?;
        Ok(key)
    }

    /// The key in a file, if there is one.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = file::read_if_there(path)? else { return Ok(None) };
        let malformed = || IdentityError::Malformed { path: path.display().to_string() };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        let secret: Hash = stored.key.parse().map_err(|_| malformed())?;
        let key = Self::from_bytes(secret.0).ok_or_else(malformed)?;
        // The address stands there for people, and tells a damaged key from a good one.
        if stored.version == 1 && stored.address == key.address().checksummed().as_str() {
            Ok(Some(key))
        } else {
            Err(malformed())
        }
    }

    /// Writes the key into a file of mode 0600.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn store(&self, path: &Path) -> Result<(), IdentityError> {
        let stored = Stored {
            version: 1,
            address: self.address().checksummed().as_str().to_owned(),
            key: Hash(self.secret()).to_string(),
        };
        let text = serde_json::to_vec_pretty(&stored).expect("three strings and a number are JSON");
        Ok(file::write(path, &text, Access::Private)?)
    }

    /// The secret number itself, for another library that signs in this process.
    #[must_use]
    pub fn secret(&self) -> [u8; 32] {
        self.0.to_bytes().0
    }

    /// Opens an Ethereum keystore (version 3).
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn import_keystore(path: &Path, password: &str) -> Result<Self, IdentityError> {
        require_whole(path)?;
        PrivateKeySigner::decrypt_keystore(path, password)
            .map(Self)
            .map_err(|error| IdentityError::Keystore(Box::new(error)))
    }
}

/// The library that opens keystores takes the lengths in it for granted, and panics where they are shorter.
fn require_whole(path: &Path) -> Result<(), IdentityError> {
    let not_whole = || IdentityError::NotAKeystore { path: path.display().to_string() };
    let bytes = file::read_if_there(path)?.ok_or_else(not_whole)?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| not_whole())?;
    let crypto = &value["crypto"];
    let derived = crypto["kdfparams"]["dklen"].as_u64().unwrap_or_default();
    let vector = crypto["cipherparams"]["iv"].as_str().unwrap_or_default();
    let digits = vector.strip_prefix("0x").unwrap_or(vector).len();
    if (32..=64).contains(&derived) && digits >= 32 { Ok(()) } else { Err(not_whole()) }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdentityKey({})", self.address())
    }
}

impl Sign for IdentityKey {
    type Error = CannotSign;

    fn address(&self) -> Address {
        Address(self.0.address().into_array())
    }

    fn sign(&self, digest: &Hash) -> Result<Signature, CannotSign> {
        let signature = self.0.sign_hash_sync(&B256::from(digest.0)).map_err(CannotSign)?;
        Ok(Signature(signature.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_not_a_whole_keystore_is_refused_before_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keystore.json");
        let keystore = |dklen: u32, iv: &str| {
            serde_json::json!({
                "version": 3, "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
                "crypto": {
                    "cipher": "aes-128-ctr", "cipherparams": { "iv": iv }, "ciphertext": "00".repeat(32),
                    "kdf": "pbkdf2", "mac": "00".repeat(32),
                    "kdfparams": { "dklen": dklen, "c": 1, "prf": "hmac-sha256", "salt": "00".repeat(32) },
                },
            })
        };
        let open = |text: String| {
            std::fs::write(&path, text).unwrap();
            IdentityKey::import_keystore(&path, "").unwrap_err()
        };
        let whole = "00".repeat(16);
        for text in ["", "{}", "[]", r#"{"crypto":{"kdfparams":{"dklen":"32"}}}"#] {
            assert!(matches!(open(text.into()), IdentityError::NotAKeystore { .. }), "{text}");
        }
        for (dklen, iv) in [(8, whole.as_str()), (u32::MAX, &whole), (32, "00")] {
            let error = open(keystore(dklen, iv).to_string());
            assert!(matches!(error, IdentityError::NotAKeystore { .. }), "{dklen} {iv}");
        }
        // A whole one whose password is another.
        assert!(matches!(open(keystore(32, &whole).to_string()), IdentityError::Keystore(_)));
    }
}
