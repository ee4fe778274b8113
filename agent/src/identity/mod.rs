//! Who this device is: the key that names it, the key to which secrets are sealed, and what its hub gave it.
//! Nothing here leaves the device; the identity key only by its owner's export ([`crate::wallet`]).

mod enrolment;
mod lock;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use sosna_host::{
    file::{self, Access, FileError},
    identity::{IdentityError, IdentityKey},
};
use sosna_protocol::{Address, Hash, identity::Sign as _};
use x25519_dalek::{PublicKey, StaticSecret};

pub use enrolment::{Enrolment, EnrolmentError, Grant};
pub use lock::{FolderLock, LockError};

/// The keys that the device made itself.
#[derive(Clone)]
pub struct Keys {
    /// Names the device and signs for it.
    pub identity: IdentityKey,
    encryption: StaticSecret,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The identity key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The encryption key's file.
    #[error("the encryption key cannot be kept")]
    File(#[from] FileError),
    /// The encryption key's file holds something else.
    #[error("{path} does not hold an encryption key; restore it from a backup, or remove it and enrol again")]
    Malformed {
        /// The file.
        path: String,
    },
}

const IDENTITY_KEY: &str = "identity.key";
const ENCRYPTION_KEY: &str = "encryption.key";
/// Files of a data folder that hold keys.
pub(crate) const KEY_FILES: [&str; 2] = [IDENTITY_KEY, ENCRYPTION_KEY];

/// Where the identity key lies in a data folder.
#[must_use]
pub fn key_path(data: &Path) -> PathBuf {
    data.join(IDENTITY_KEY)
}

// === impl Keys ===

impl Keys {
    /// The keys of a data folder, made and on disk where there were none.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn load_or_create(data: &Path) -> Result<Self, KeysError> {
        let identity = IdentityKey::load_or_create(&key_path(data))?;
        let path = data.join(ENCRYPTION_KEY);
        let encryption = match file::read_if_there(&path)? {
            Some(text) => {
                let text = String::from_utf8(text).unwrap_or_default();
                let malformed = || KeysError::Malformed { path: path.display().to_string() };
                let secret: Hash = text.trim().parse().map_err(|_| malformed())?;
                StaticSecret::from(secret.0)
            }
            None => {
                let secret = sosna_host::random::<32>();
                file::write(&path, Hash(secret).to_string().as_bytes(), Access::Private)?;
                StaticSecret::from(secret)
            }
        };
        Ok(Self { identity, encryption })
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> Address {
        self.identity.address()
    }

    /// The X25519 public key to which secrets for this device are sealed (RFC 7748).
    #[must_use]
    pub fn encryption_key(&self) -> Hash {
        Hash(PublicKey::from(&self.encryption).to_bytes())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.device())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_stay_the_same_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::load_or_create(dir.path()).unwrap();
        let again = Keys::load_or_create(dir.path()).unwrap();
        assert_eq!(first.device(), again.device());
        assert_eq!(first.encryption_key(), again.encryption_key());
        for name in ["identity.key", "encryption.key"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        std::fs::write(dir.path().join("encryption.key"), "x").unwrap();
        assert!(matches!(Keys::load_or_create(dir.path()), Err(KeysError::Malformed { .. })));
    }
}
