//! What a hub gave this device when it was enrolled, in one private file: certificate and TLS key change
//! together or not at all.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sosna_host::{
    file::{self, Access, FileError},
    tls::{Pin, TlsError, TlsKey},
    token::JoinToken,
};
use sosna_protocol::{Address, message::enrol};

/// The device's place with its hub.
#[derive(Debug)]
pub struct Enrolment {
    /// The hub's identity: only its signatures count.
    pub hub: Address,
    /// Whose the device is.
    pub owner: Address,
    /// The bootstrap listener's host, for renewals.
    pub bootstrap_host: String,
    /// And its port.
    pub bootstrap_port: u16,
    /// `host:port` of the main listener.
    pub main: String,
    /// Base URL of the content store.
    pub content: String,
    /// The device's certificate.
    pub certificate: CertificateDer<'static>,
    /// The authorities that the device trusts.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The certificate's key.
    pub key: TlsKey,
    /// When the certificate was given, milliseconds since 1970 by the hub's clock.
    pub issued_ms: u64,
    /// When it ends.
    pub valid_until_ms: u64,
}

/// A hub's grant, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The hub's time.
    pub time_ms: u64,
    /// The device's certificate in DER.
    pub certificate: Vec<u8>,
    /// The authorities in DER.
    pub authorities: Vec<Vec<u8>>,
    /// When the certificate ends, milliseconds since 1970.
    pub valid_until_ms: u64,
    /// `host:port` of the main listener.
    pub main: String,
    /// Base URL of the content store.
    pub content: String,
}

/// Why an enrolment cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Its file.
    #[error("the enrolment cannot be kept")]
    File(#[from] FileError),
    /// The file holds something else.
    #[error("{path} cannot be read; remove it and enrol this device again with --join")]
    Malformed {
        /// The file.
        path: String,
    },
    /// The TLS key in it.
    #[error("the enrolment's TLS key cannot be used")]
    Key(#[source] TlsError),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    hub: String,
    owner: String,
    bootstrap_host: String,
    bootstrap_port: u16,
    main: String,
    content: String,
    certificate: String,
    authorities: Vec<String>,
    tls_key: String,
    issued_ms: u64,
    valid_until_ms: u64,
}

// === impl Enrolment ===

impl Enrolment {
    /// The file in a data folder.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("enrolment.json")
    }

    /// What a grant makes of a token's holder.
    #[must_use]
    pub fn from_token(token: &JoinToken, key: TlsKey, grant: Grant) -> Self {
        Self {
            hub: token.hub,
            owner: token.owner,
            bootstrap_host: token.host.clone(),
            bootstrap_port: token.bootstrap_port,
            main: grant.main,
            content: grant.content,
            certificate: CertificateDer::from(grant.certificate),
            authorities: grant.authorities.into_iter().map(CertificateDer::from).collect(),
            key,
            issued_ms: grant.time_ms,
            valid_until_ms: grant.valid_until_ms,
        }
    }

    /// The same device with its next certificate.
    #[must_use]
    pub fn renewed(&self, key: TlsKey, grant: Grant) -> Self {
        Self {
            hub: self.hub,
            owner: self.owner,
            bootstrap_host: self.bootstrap_host.clone(),
            bootstrap_port: self.bootstrap_port,
            main: grant.main,
            content: grant.content,
            certificate: CertificateDer::from(grant.certificate),
            authorities: grant.authorities.into_iter().map(CertificateDer::from).collect(),
            key,
            issued_ms: grant.time_ms,
            valid_until_ms: grant.valid_until_ms,
        }
    }

    /// The same device, its hub at other addresses.
    ///
    /// # Errors
    /// [`EnrolmentError::Key`].
    pub fn moved(&self, main: String, content: String) -> Result<Self, EnrolmentError> {
        let key = TlsKey::from_der(&self.key.to_der()).map_err(EnrolmentError::Key)?;
        let grant = Grant {
            time_ms: self.issued_ms,
            certificate: self.certificate.to_vec(),
            authorities: self.authorities.iter().map(|authority| authority.to_vec()).collect(),
            valid_until_ms: self.valid_until_ms,
            main,
            content,
        };
        Ok(self.renewed(key, grant))
    }

    /// When the certificate should be renewed: after two thirds of its life.
    #[must_use]
    pub const fn renew_at_ms(&self) -> u64 {
        self.issued_ms + self.valid_until_ms.saturating_sub(self.issued_ms) / 3 * 2
    }

    /// What the hub's servers must descend from.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::Authorities(self.authorities.clone())
    }

    /// The enrolment in a data folder, if the device has one.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub fn load(data: &Path) -> Result<Option<Self>, EnrolmentError> {
        let path = Self::path(data);
        let Some(bytes) = file::read_if_there(&path)? else { return Ok(None) };
        let malformed = || EnrolmentError::Malformed { path: path.display().to_string() };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        let der = |text: &str| unhex(text).ok_or_else(malformed);
        if stored.version != 1 {
            return Err(malformed());
        }
        Ok(Some(Self {
            hub: stored.hub.parse().map_err(|_| malformed())?,
            owner: stored.owner.parse().map_err(|_| malformed())?,
            bootstrap_host: stored.bootstrap_host.clone(),
            bootstrap_port: stored.bootstrap_port,
            main: stored.main.clone(),
            content: stored.content.clone(),
            certificate: CertificateDer::from(der(&stored.certificate)?),
            authorities: stored
                .authorities
                .iter()
                .map(|text| der(text).map(CertificateDer::from))
                .collect::<Result<_, _>>()?,
            key: TlsKey::from_der(&der(&stored.tls_key)?).map_err(EnrolmentError::Key)?,
            issued_ms: stored.issued_ms,
            valid_until_ms: stored.valid_until_ms,
        }))
    }

    /// Puts it on disk.
    ///
    /// # Errors
    /// [`EnrolmentError::File`].
    pub fn store(&self, data: &Path) -> Result<(), EnrolmentError> {
        let stored = Stored {
            version: 1,
            hub: self.hub.checksummed().as_str().to_owned(),
            owner: self.owner.checksummed().as_str().to_owned(),
            bootstrap_host: self.bootstrap_host.clone(),
            bootstrap_port: self.bootstrap_port,
            main: self.main.clone(),
            content: self.content.clone(),
            certificate: hex(&self.certificate),
            authorities: self.authorities.iter().map(|authority| hex(authority)).collect(),
            tls_key: hex(&self.key.to_der()),
            issued_ms: self.issued_ms,
            valid_until_ms: self.valid_until_ms,
        };
        let text = serde_json::to_vec_pretty(&stored).expect("texts and numbers are JSON");
        Ok(file::write(&Self::path(data), &text, Access::Private)?)
    }
}

// === impl Grant ===

impl From<&enrol::Granted<'_>> for Grant {
    fn from(granted: &enrol::Granted<'_>) -> Self {
        Self {
            time_ms: granted.time_ms,
            certificate: granted.certificate.to_vec(),
            authorities: granted.authorities.iter().map(|authority| authority.to_vec()).collect(),
            valid_until_ms: granted.valid_until_ms,
            main: (*granted.main).to_owned(),
            content: (*granted.content).trim_end_matches('/').to_owned(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_enrolment_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Enrolment::load(dir.path()).unwrap().is_none());
        let enrolment = Enrolment {
            hub: Address([1; 20]),
            owner: Address([2; 20]),
            bootstrap_host: "hub.example".into(),
            bootstrap_port: 8884,
            main: "hub.example:8883".into(),
            content: "https://hub.example:8443".into(),
            certificate: CertificateDer::from(vec![1, 2, 255]),
            authorities: vec![CertificateDer::from(vec![3])],
            key: TlsKey::generate().unwrap(),
            issued_ms: 1000,
            valid_until_ms: 4000,
        };
        enrolment.store(dir.path()).unwrap();
        let read = Enrolment::load(dir.path()).unwrap().unwrap();
        assert_eq!(read.key.to_der(), enrolment.key.to_der());
        assert_eq!(
            (read.hub, read.owner, read.certificate.clone()),
            (enrolment.hub, enrolment.owner, enrolment.certificate)
        );
        assert_eq!(read.renew_at_ms(), 3000);
        std::fs::write(Enrolment::path(dir.path()), "{}").unwrap();
        assert!(matches!(Enrolment::load(dir.path()), Err(EnrolmentError::Malformed { .. })));
    }
}
