//! Devices' certificates. Of a request nothing counts but the public key and the proof that the asker holds it.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use sosna_protocol::Address;
use time::OffsetDateTime;
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY},
    prelude::FromDer as _,
};

use super::{
    CaError, CertificateAuthority,
    authority::{BACKDATED, random_serial},
};
use crate::serial::Serial;

/// The longest request that is looked at, in bytes; one with a P-256 key takes about 250.
const MAX_REQUEST: usize = 4096;

/// A certificate made for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificate in DER.
    pub der: CertificateDer<'static>,
    /// The authority's certificate, which the device shows as the second of its chain.
    pub authority: CertificateDer<'static>,
    /// What a revocation names.
    pub serial: Serial,
    /// The last second in which it is valid.
    pub not_after: SystemTime,
}

impl CertificateAuthority {
    /// Signs the key in `request` (a PKCS #10 request in DER) for `device`: common name the device's 40 hexadecimal
    /// digits, for TLS clients only, valid for `validity` from `now` and dated a day back, for clocks that are
    /// behind. Whether the asker *is* the device is for the caller to have checked: the request must have
    /// been bound to the device's identity signature.
    ///
    /// # Errors
    /// [`CaError::Request`] unless the request is signed by the P-256 key that it carries.
    pub fn sign_device_csr(
        &self,
        request: &[u8],
        device: &Address,
        now: SystemTime,
        validity: Duration,
    ) -> Result<IssuedCertificate, CaError> {
        let key = key_of(request)?;
        let serial = random_serial()?;
        let start = OffsetDateTime::from(now);
        let seconds = i64::try_from(validity.as_secs()).map_err(|_| CaError::Dates)?;
        let end = start
            .checked_add(time::Duration::seconds(seconds))
            .and_then(|end| end.replace_nanosecond(0).ok())
            .ok_or(CaError::Dates)?;

        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, device.to_string());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.not_before = start
            .checked_sub(time::Duration::try_from(BACKDATED).map_err(|_| CaError::Dates)?)
            .ok_or(CaError::Dates)?;
        params.not_after = end;
        let certificate = params.signed_by(&key, self.current.issuer()).map_err(CaError::Issue)?;
        Ok(IssuedCertificate {
            der: certificate.der().clone(),
            authority: self.current.certificate().clone(),
            serial,
            not_after: end.into(),
        })
    }
}

/// The request's public key, once the request has proved that its author holds the private one.
fn key_of(request: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    if request.len() > MAX_REQUEST {
        return Err(CaError::Request("it is longer than any honest one"));
    }
    let (rest, parsed) = X509CertificationRequest::from_der(request)
        .map_err(|_| CaError::Request("it is not a PKCS #10 request in DER"))?;
    if !rest.is_empty() {
        return Err(CaError::Request("bytes follow it"));
    }
    let key = &parsed.certification_request_info.subject_pki;
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Err(CaError::Request("its key is not a P-256 key"));
    }
    parsed.verify_signature().map_err(|_| CaError::Request("it is not signed by the key that it carries"))?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| CaError::Request("its key cannot be read"))
}
