//! One authority: a P-256 key and its self-signed certificate. It must never leave its file but through here.

use std::{path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::{CaError, files};
use crate::serial::Serial;

/// How long an authority may sign: ten years. Devices that lay on a shelf longer enrol again.
const VALIDITY: Duration = Duration::from_secs(3653 * 86_400);

/// How far certificates are dated back, for verifiers whose clock is behind the hub's.
pub(super) const BACKDATED: Duration = Duration::from_secs(86_400);

pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    pin: [u8; 32],
}

impl Authority {
    pub(super) fn generate() -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Issue)?;
        let pin: [u8; 32] = Sha256::digest(key.subject_public_key_info()).into();
        let now = OffsetDateTime::now_utc();

        let mut params = CertificateParams::default();
        // Verifiers find an authority by its name, so two of them must never have the same.
        params.distinguished_name = DistinguishedName::new();
        let name = u64::from_be_bytes([pin[0], pin[1], pin[2], pin[3], pin[4], pin[5], pin[6], pin[7]]);
        params.distinguished_name.push(DnType::CommonName, format!("Sosna hub authority {name:016x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?.0));
        params.not_before = now - BACKDATED;
        params.not_after = now + VALIDITY;
        let certificate = params.self_signed(&key).map_err(CaError::Issue)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key), pin })
    }

    pub(super) fn load(path: &Path) -> Result<Self, CaError> {
        let text = files::read_private(path)?;
        let damaged = |source: Box<dyn std::error::Error + Send + Sync>| CaError::Damaged {
            path: path.to_path_buf(),
            source,
        };
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&text, &PKCS_ECDSA_P256_SHA256)
            .map_err(|e| damaged(e.into()))?;
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| damaged(e.into()))?.into_owned();
        let pin = super::spki_sha256(&certificate);
        let own: [u8; 32] = Sha256::digest(key.subject_public_key_info()).into();
        if pin != Some(own) {
            return Err(damaged("the certificate is not the key's".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| damaged(e.into()))?;
        Ok(Self { certificate, issuer, pin: own })
    }

    /// Key and certificate as they stand in the file.
    pub(super) fn pem(&self) -> String {
        format!("{}{}", self.issuer.key().serialize_pem(), files::pem("CERTIFICATE", &self.certificate))
    }

    pub(super) fn pin(&self) -> [u8; 32] {
        self.pin
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

/// A serial number that nobody can foresee and that no other certificate has.
pub(super) fn random_serial() -> Result<Serial, CaError> {
    let mut bytes = [0; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| CaError::Random)?;
    // Positive, and never shorter than 16 bytes in DER.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(Serial(bytes))
}
