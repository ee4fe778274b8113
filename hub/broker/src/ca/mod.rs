//! The hub's certificate authority: one P-256 key that signs the listeners' and the devices' certificates.
//!
//! It lives in a folder: `ca.pem` (current), `next.pem` (announced, not signing yet), `previous.pem` (no longer
//! signing, still trusted). Each holds one authority's key and certificate together, mode 0600, so that a crash
//! can never leave one without the other. It must never sign a name, a key use or a date that a request asks
//! for: of a request only the public key counts.

mod authority;
mod device;
mod files;
mod server;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use authority::Authority;
pub use device::IssuedCertificate;
pub use server::ServerIdentity;

const CURRENT: &str = "ca.pem";
const NEXT: &str = "next.pem";
const PREVIOUS: &str = "previous.pem";

/// What can go wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The folder or a file in it cannot be read or written.
    #[error("cannot {what} {}: check the folder's owner, mode and free space", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// There is an authority already.
    #[error("{} exists already: open it, or move it away if a new authority is really wanted", path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// Others than the owner may read the key.
    #[error("{} may be read by others (mode {mode:o}): run chmod 600 on it, and replace the authority if in doubt", path.display())]
    Exposed {
        /// The file with the key.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold a key and its certificate.
    #[error("{} is not a key with its certificate: restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request is not a certificate signing request that proves possession of a P-256 key.
    #[error("the certificate request is refused: {0}")]
    Request(&'static str),
    /// There is no next authority to promote.
    #[error("there is no next authority: prepare one and announce it before promoting it")]
    NoNext,
    /// A time or a length of time that certificates cannot express.
    #[error("the certificate's dates are out of range: check the clock and the configured validity")]
    Dates,
    /// A name that cannot stand in a certificate, or a failure of the signing library.
    #[error("cannot issue a certificate")]
    Issue(#[source] rcgen::Error),
    /// No randomness from the system.
    #[error("the system gives no randomness")]
    Random,
}

/// The SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469's pin): what join tokens carry and devices
/// compare. `None` if `certificate` is not the DER of an X.509 certificate.
#[must_use]
pub fn spki_sha256(certificate: &[u8]) -> Option<[u8; 32]> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    rest.is_empty().then(|| Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into())
}

/// The hub's certificate authority. See the module for its files.
pub struct CertificateAuthority {
    folder: PathBuf,
    current: Authority,
    next: Option<Authority>,
    previous: Option<Authority>,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("folder", &self.folder)
            .field("next", &self.next.is_some())
            .field("previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Makes a new authority in `folder`, which is made too if it is missing.
    ///
    /// # Errors
    /// [`CaError::Exists`] if there is one already, [`CaError::File`] if it cannot be kept.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self, CaError> {
        let folder = folder.as_ref().to_path_buf();
        files::make_folder(&folder)?;
        let current = Authority::generate()?;
        files::write_new(&folder.join(CURRENT), &current.pem())?;
        Ok(Self { folder, current, next: None, previous: None })
    }

    /// Opens the authority in `folder`.
    ///
    /// # Errors
    /// [`CaError::File`] if there is none, [`CaError::Exposed`] if others may read a key, [`CaError::Damaged`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, CaError> {
        let folder = folder.as_ref().to_path_buf();
        let read = |name: &str| {
            let path = folder.join(name);
            if path.exists() { Authority::load(&path).map(Some) } else { Ok(None) }
        };
        let current = Authority::load(&folder.join(CURRENT))?;
        let (next, previous) = (read(NEXT)?, read(PREVIOUS)?);
        Ok(Self { folder, current, next, previous })
    }

    /// Opens the authority in `folder`, or makes it on the first start.
    ///
    /// # Errors
    /// As [`CertificateAuthority::create`] and [`CertificateAuthority::open`].
    pub fn open_or_create(folder: impl AsRef<Path>) -> Result<Self, CaError> {
        let folder = folder.as_ref();
        if folder.join(CURRENT).exists() { Self::open(folder) } else { Self::create(folder) }
    }

    /// What join tokens pin: the SHA-256 of the current authority's SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.current.pin()
    }

    /// The current authority's certificate, in DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.current.certificate()
    }

    /// Whom listeners and devices trust: the current authority and those that stand beside it in a rotation.
    #[must_use]
    pub fn trust(&self) -> TrustBundle {
        let all = [Some(&self.current), self.next.as_ref(), self.previous.as_ref()];
        TrustBundle { certificates: all.into_iter().flatten().map(|one| one.certificate().clone()).collect() }
    }

    /// Makes the next authority beside the current one, or finds the one made before, and returns its pin. It is
    /// trusted from now on and signs nothing until [`CertificateAuthority::promote_next`].
    ///
    /// # Errors
    /// [`CaError::File`] if it cannot be kept.
    pub fn prepare_next(&mut self) -> Result<[u8; 32], CaError> {
        if let Some(next) = &self.next {
            return Ok(next.pin());
        }
        let next = Authority::generate()?;
        files::write_new(&self.folder.join(NEXT), &next.pem())?;
        let pin = next.pin();
        self.next = Some(next);
        Ok(pin)
    }

    /// Lets the next authority sign from now on. The one that signed so far stays trusted until
    /// [`CertificateAuthority::retire_previous`]; one that was previous already is trusted no longer.
    ///
    /// # Errors
    /// [`CaError::NoNext`], or [`CaError::File`], after which the authority on disk is still whole.
    pub fn promote_next(&mut self) -> Result<(), CaError> {
        if self.next.is_none() {
            return Err(CaError::NoNext);
        }
        let (current, next) = (self.folder.join(CURRENT), self.folder.join(NEXT));
        files::copy_over(&current, &self.folder.join(PREVIOUS))?;
        files::rename(&next, &current)?;
        if let Some(next) = self.next.take() {
            self.previous = Some(std::mem::replace(&mut self.current, next));
        }
        Ok(())
    }

    /// Ends the trust in the authority that signed before the last promotion.
    ///
    /// # Errors
    /// [`CaError::File`] if its file cannot be removed.
    pub fn retire_previous(&mut self) -> Result<(), CaError> {
        if self.previous.is_some() {
            files::remove(&self.folder.join(PREVIOUS))?;
            self.previous = None;
        }
        Ok(())
    }
}

/// Certificates of authorities that are trusted at the same time; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    certificates: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// The certificates, the current authority's first, in DER.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The pins of all of them.
    #[must_use]
    pub fn pins(&self) -> Vec<[u8; 32]> {
        self.certificates.iter().filter_map(|one| spki_sha256(one)).collect()
    }

    /// All of them in PEM, one after the other.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificates.iter().map(|one| files::pem("CERTIFICATE", one)).collect()
    }
}
