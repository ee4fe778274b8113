//! Export and import of the identity key as an Ethereum keystore, version 3 (Web3 Secret Storage Definition).
//!
//! Exports use scrypt with N = 4096, r = 8, p = 6, geth's "light" parameters: 4 MiB of memory, which every device
//! has; the standard ones take 256 MiB. Imports beyond 64 MiB are refused for the same reason.

use std::path::Path;

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::{Deserialize, Serialize};
use sosna_host::{
    file::{self, Access, FileError},
    identity::{IdentityError, IdentityKey},
};
use sosna_protocol::{Hash, hash::keccak256, identity::Sign as _};

use crate::identity::{Enrolment, EnrolmentError, key_path};

const LOG_N: u8 = 12;
const R: u32 = 8;
const P: u32 = 6;
/// scrypt needs 128 * N * r bytes.
const MAX_MEMORY: u64 = 64 << 20;
/// No keystore is longer.
const MAX_FILE: usize = 64 * 1024;

/// Why a key was not exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key's file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The enrolment's file.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// There is no key yet.
    #[error("this device has no key yet; it makes one when it is started for the first time")]
    NoKey,
    /// Overwriting would lose something.
    #[error("{path} exists already; choose another name")]
    Exists {
        /// The file.
        path: String,
    },
    /// A device keeps the key that it enrolled with.
    #[error(
        "this device is enrolled with hub {hub} under its own key; a key can be imported only before enrolment"
    )]
    Enrolled {
        /// The hub.
        hub: String,
    },
    /// The file is no keystore.
    #[error("{path} is not an Ethereum keystore of version 3")]
    NotAKeystore {
        /// The file.
        path: String,
    },
    /// The keystore would take more memory than devices have.
    #[error(
        "opening this keystore takes {mib} MiB of memory, more than the 64 MiB that a device spends on it; write it \
         again with light scrypt parameters (N = 4096) on another machine"
    )]
    Heavy {
        /// How much.
        mib: u64,
    },
    /// A password that protects nothing.
    #[error("the password is empty; the exported key would lie open")]
    EmptyPassword,
}

#[derive(Serialize, Deserialize)]
struct Keystore {
    version: u32,
    id: String,
    address: String,
    crypto: Crypto,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
struct KdfParams {
    dklen: u32,
    n: u64,
    r: u32,
    p: u32,
    salt: String,
}

/// Writes the identity key of a data folder into a new keystore file under a password.
///
/// # Errors
/// [`WalletError`].
pub fn export(data: &Path, to: &Path, password: &str) -> Result<IdentityKey, WalletError> {
    if password.is_empty() {
        return Err(WalletError::EmptyPassword);
    }
    if to.exists() {
        return Err(WalletError::Exists { path: to.display().to_string() });
    }
    let key = IdentityKey::load(&key_path(data))?.ok_or(WalletError::NoKey)?;
    let secret = secret(data)?;
    let text = encrypt(&key, &secret, password);
    file::write(to, text.as_bytes(), Access::Private)?;
    Ok(key)
}

/// The key's bytes. The type that holds the key does not give them away; its file does, to whoever may read it.
fn secret(data: &Path) -> Result<Hash, WalletError> {
    #[derive(Deserialize)]
    struct Stored {
        key: String,
    }
    let path = key_path(data);
    let malformed = || IdentityError::Malformed { path: path.display().to_string() };
    let bytes = file::read_if_there(&path)?.ok_or(WalletError::NoKey)?;
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    Ok(stored.key.parse().map_err(|_| malformed())?)
}

fn encrypt(key: &IdentityKey, secret: &Hash, password: &str) -> String {
    let salt = sosna_host::random::<32>();
    let iv = sosna_host::random::<16>();
    let mut derived = [0; 32];
    let params = scrypt::Params::new(LOG_N, R, P).expect("the parameters are constants that scrypt accepts");
    scrypt::scrypt(password.as_bytes(), &salt, &params, &mut derived)
        .expect("32 bytes are a length that scrypt gives");
    let mut ciphertext = secret.0;
    let aes_key: [u8; 16] = derived[..16].try_into().expect("16 of 32 bytes");
    ctr::Ctr128BE::<aes::Aes128>::new(&aes_key.into(), &iv.into()).apply_keystream(&mut ciphertext);
    let mac = keccak256(&[&derived[16..], &ciphertext]);
    let keystore = Keystore {
        version: 3,
        id: uuid(sosna_host::random()),
        address: key.address().to_string(),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: hex16(&iv) },
            ciphertext: Hash(ciphertext).to_string(),
            kdf: "scrypt".into(),
            kdfparams: KdfParams { dklen: 32, n: 1 << LOG_N, r: R, p: P, salt: Hash(salt).to_string() },
            mac: mac.to_string(),
        },
    };
    serde_json::to_string_pretty(&keystore).expect("texts and numbers are JSON")
}

/// Makes the key of a keystore the identity of a data folder that is not enrolled.
///
/// # Errors
/// [`WalletError`].
pub fn import(data: &Path, from: &Path, password: &str) -> Result<IdentityKey, WalletError> {
    if let Some(enrolment) = Enrolment::load(data)? {
        return Err(WalletError::Enrolled { hub: enrolment.hub.checksummed().as_str().to_owned() });
    }
    let path = key_path(data);
    if path.exists() {
        return Err(WalletError::Exists { path: path.display().to_string() });
    }
    refuse_heavy(from)?;
    let key = IdentityKey::import_keystore(from, password)?;
    file::create_folder(data)?;
    key.store(&path)?;
    Ok(key)
}

/// Reads the work factor before any work is done.
fn refuse_heavy(path: &Path) -> Result<(), WalletError> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
        crypto: HeadCrypto,
    }
    #[derive(Deserialize)]
    struct HeadCrypto {
        kdf: String,
        kdfparams: serde_json::Value,
    }
    let not = || WalletError::NotAKeystore { path: path.display().to_string() };
    let text = std::fs::read(path).map_err(FileError::of("read", path))?;
    let head: Head = serde_json::from_slice(text.get(..MAX_FILE).unwrap_or(&text)).map_err(|_| not())?;
    if head.version != 3 {
        return Err(not());
    }
    let number = |name: &str| head.crypto.kdfparams.get(name).and_then(serde_json::Value::as_u64);
    match head.crypto.kdf.as_str() {
        "scrypt" => {
            let (n, r) = (number("n").ok_or_else(not)?, number("r").ok_or_else(not)?);
            let bytes = n.saturating_mul(r).saturating_mul(128);
            if bytes > MAX_MEMORY { Err(WalletError::Heavy { mib: bytes >> 20 }) } else { Ok(()) }
        }
        "pbkdf2" => Ok(()),
        _ => Err(not()),
    }
}

fn hex16(bytes: &[u8; 16]) -> String {
    sosna_protocol::identity::Nonce(*bytes).to_string()
}

/// A random UUID (RFC 9562, version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex16(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_exported_key_can_be_imported_elsewhere() {
        let here = tempfile::tempdir().unwrap();
        let there = tempfile::tempdir().unwrap();
        let key = IdentityKey::load_or_create(&key_path(here.path())).unwrap();
        let file = here.path().join("backup.json");
        assert!(matches!(export(here.path(), &file, ""), Err(WalletError::EmptyPassword)));
        export(here.path(), &file, "correct horse").unwrap();
        assert!(matches!(export(here.path(), &file, "x"), Err(WalletError::Exists { .. })));
        assert!(matches!(
            import(there.path(), &file, "wrong"),
            Err(WalletError::Identity(IdentityError::Keystore(_)))
        ));
        let imported = import(there.path(), &file, "correct horse").unwrap();
        assert_eq!(imported.address(), key.address());
        assert!(matches!(import(there.path(), &file, "correct horse"), Err(WalletError::Exists { .. })));
    }

    #[test]
    fn heavy_and_foreign_files_are_refused_before_any_work() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("k.json");
        let heavy = r#"{"version":3,"crypto":{"kdf":"scrypt","kdfparams":{"n":262144,"r":8,"p":1}}}"#;
        std::fs::write(&file, heavy).unwrap();
        let error = import(dir.path(), &file, "x").unwrap_err();
        assert!(matches!(error, WalletError::Heavy { mib: 256 }), "{error}");
        for foreign in ["", "{}", r#"{"version":1,"crypto":{"kdf":"scrypt","kdfparams":{}}}"#] {
            std::fs::write(&file, foreign).unwrap();
            assert!(matches!(import(dir.path(), &file, "x"), Err(WalletError::NotAKeystore { .. })));
        }
    }
}
