//! The key that signs transactions: a keystore under a password, or one of the files in which Sosna's programs keep
//! their keys. Neither key nor password is ever shown.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sosna_host::{
    file::{self, FileError},
    identity::{IdentityError, IdentityKey},
    report::Exit,
};

use crate::connect;

/// No key's file is longer.
const MAX_FILE: usize = 64 << 10;
/// scrypt needs 128 * N * r bytes; the usual parameters ask for 256 MiB.
const MAX_MEMORY: u64 = 2 << 30;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// None was named.
    #[error(
        "no key is known that could sign: give --key with an Ethereum keystore or a key's file, or set SOSNA_KEY"
    )]
    None,
    /// It is not there.
    #[error("there is no key in {}", .0.display())]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is something else.
    #[error(
        "{} holds no key: it is neither an Ethereum keystore of version 3 nor a key's file of Sosna's",
        .0.display()
    )]
    NotAKey(PathBuf),
    /// Opening it would take more memory than there is.
    #[error("opening the keystore {} takes {mib} MiB of memory, more than any wallet asks for", path.display())]
    Heavy {
        /// The file.
        path: PathBuf,
        /// How much.
        mib: u64,
    },
    /// The key itself.
    #[error("the key in {} cannot be used", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// Nobody can be asked.
    #[error(
        "the keystore {} has a password: give --password-file, or set SOSNA_KEY_PASSWORD; without a terminal it cannot \
         be asked for",
        .0.display()
    )]
    NoPassword(PathBuf),
    /// The terminal.
    #[error("the password cannot be asked for")]
    Terminal(#[source] io::Error),
}

/// What is read of a keystore before any work is done.
#[derive(Deserialize)]
struct Head {
    crypto: Option<serde_json::Value>,
    version: u32,
}

/// The key in a file, or the owner's where none is named.
pub(super) fn load(named: Option<&Path>, password_file: Option<&Path>) -> Result<IdentityKey, KeyError> {
    let named = named.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned);
    let usual = || connect::folder().map(|folder| folder.join("owner.key")).filter(|path| path.exists());
    let path = named.or_else(usual).ok_or(KeyError::None)?;
    let bytes = file::read_if_there(&path)?.ok_or_else(|| KeyError::Missing(path.clone()))?;
    let head: Head = bytes
        .get(..bytes.len().min(MAX_FILE))
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .ok_or_else(|| KeyError::NotAKey(path.clone()))?;
    let wrong = |source| KeyError::Identity { path: path.clone(), source };
    match (head.version, head.crypto) {
        (3, Some(crypto)) => {
            refuse_heavy(&path, &crypto)?;
            let password = password(&path, password_file)?;
            IdentityKey::import_keystore(&path, &password).map_err(wrong)
        }
        (1, None) => IdentityKey::load(&path).map_err(wrong)?.ok_or_else(|| KeyError::Missing(path.clone())),
        _ => Err(KeyError::NotAKey(path)),
    }
}

fn refuse_heavy(path: &Path, crypto: &serde_json::Value) -> Result<(), KeyError> {
    let number = |name: &str| crypto["kdfparams"][name].as_u64().unwrap_or_default();
    let bytes = number("n").saturating_mul(number("r")).saturating_mul(128);
    if bytes > MAX_MEMORY {
        return Err(KeyError::Heavy { path: path.to_owned(), mib: bytes >> 20 });
    }
    Ok(())
}

fn password(path: &Path, from: Option<&Path>) -> Result<String, KeyError> {
    if let Some(from) = from {
        let text = fs::read_to_string(from).map_err(FileError::of("read", from))?;
        return Ok(text.trim_end_matches(['\n', '\r']).to_owned());
    }
    if let Ok(password) = env::var("SOSNA_KEY_PASSWORD") {
        return Ok(password);
    }
    // The terminal itself is asked, so that standard input may be a claim.
    if !io::stderr().is_terminal() {
        return Err(KeyError::NoPassword(path.to_owned()));
    }
    rpassword::prompt_password(format!("Password of {}: ", path.display())).map_err(KeyError::Terminal)
}

// === impl KeyError ===

impl KeyError {
    /// What a script sees.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::None | Self::NoPassword(_) | Self::NotAKey(_) | Self::Heavy { .. } => Exit::Usage,
            Self::Missing(_) => Exit::NotFound,
            Self::Identity { source: IdentityError::Keystore(_), .. } => Exit::Refused,
            Self::Identity { source: IdentityError::NotAKeystore { .. }, .. } => Exit::Usage,
            Self::File(_) | Self::Identity { .. } | Self::Terminal(_) => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::identity::Sign as _;

    use super::*;

    #[test]
    fn what_holds_no_key_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let try_it = |text: &str| {
            fs::write(&path, text).unwrap();
            load(Some(&path), Some(Path::new("/nowhere"))).unwrap_err()
        };
        assert!(matches!(load(Some(&path), None).unwrap_err(), KeyError::Missing(_)));
        for text in ["", "0x5f", "{}", r#"{"version":3}"#, r#"{"version":1,"crypto":{}}"#, r#"{"version":2}"#]
        {
            assert!(matches!(try_it(text), KeyError::NotAKey(_)), "{text}");
        }
        let heavy = r#"{"version":3,"crypto":{"kdf":"scrypt","kdfparams":{"n":1099511627776,"r":8}}}"#;
        assert!(matches!(try_it(heavy), KeyError::Heavy { mib, .. } if mib == 1 << 30), "{heavy}");
        assert!(matches!(try_it(r#"{"version":3,"crypto":{}}"#), KeyError::File(_)), "no password");
        let short = r#"{"version":3,"crypto":{"kdfparams":{"dklen":8},"cipherparams":{"iv":"00"}}}"#;
        fs::write(&path, short).unwrap();
        let error = load(Some(&path), Some(&path)).unwrap_err();
        assert!(matches!(error, KeyError::Identity { source: IdentityError::NotAKeystore { .. }, .. }));
        let damaged = r#"{"version":1,"address":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed","key":"00"}"#;
        assert!(matches!(
            try_it(damaged),
            KeyError::Identity { source: IdentityError::Malformed { .. }, .. }
        ));
    }

    #[test]
    fn a_keys_file_needs_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.key");
        let key = IdentityKey::load_or_create(&path).unwrap();
        assert_eq!(load(Some(&path), None).unwrap().address(), key.address());
    }
}
