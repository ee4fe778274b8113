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
            key: Hash(self.0.to_bytes().0).to_string(),
        };
        let text = serde_json::to_vec_pretty(&stored).expect("three strings and a number are JSON");
        Ok(file::write(path, &text, Access::Private)?)
    }

    /// Opens an Ethereum keystore (version 3).
    ///
    /// # Errors
    /// [`IdentityError::Keystore`].
    pub fn import_keystore(path: &Path, password: &str) -> Result<Self, IdentityError> {
        PrivateKeySigner::decrypt_keystore(path, password)
            .map(Self)
            .map_err(|error| IdentityError::Keystore(Box::new(error)))
    }
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
