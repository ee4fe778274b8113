//! The listeners' certificate: short-lived, for the names that devices dial, kept in memory only.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::{
    CaError, CertificateAuthority,
    authority::{BACKDATED, random_serial},
    files,
};

/// What a hub is always reachable by, whatever is configured.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate chain for listeners, with its key. The last of the chain is the authority, which devices pin.
pub struct ServerIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    key_pem: String,
    not_after: SystemTime,
    validity: Duration,
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl ServerIdentity {
    /// The chain: the listener's certificate, then the authority's.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    /// The end of its validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When it should be replaced: a third of its validity before its end.
    #[must_use]
    pub fn replace_at(&self) -> SystemTime {
        self.not_after.checked_sub(self.validity / 3).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn chain_pem(&self) -> String {
        self.chain.iter().map(|one| files::pem("CERTIFICATE", one)).collect()
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl CertificateAuthority {
    /// Issues a certificate for the listeners: `names` are the host names and IP addresses that devices dial;
    /// the loopback names are always among them. Valid for `validity` (in whole seconds) from `now`, dated a day
    /// back.
    ///
    /// # Errors
    /// [`CaError::Issue`] if a name is no host name (not ASCII, say), [`CaError::Dates`].
    pub fn issue_server(
        &self,
        names: &[String],
        now: SystemTime,
        validity: Duration,
    ) -> Result<ServerIdentity, CaError> {
        let mut all = names.to_vec();
        all.extend(LOOPBACK.map(String::from));
        all.sort();
        all.dedup();

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Issue)?;
        let mut params = CertificateParams::new(all).map_err(CaError::Issue)?;
        let start = OffsetDateTime::from(now);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Sosna hub");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?.0));
        params.not_before = start - BACKDATED;
        params.not_after = i64::try_from(validity.as_secs())
            .ok()
            .and_then(|seconds| start.checked_add(time::Duration::seconds(seconds)))
            .and_then(|end| end.replace_nanosecond(0).ok())
            .ok_or(CaError::Dates)?;
        let certificate = params.signed_by(&key, self.current.issuer()).map_err(CaError::Issue)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().clone(), self.current.certificate().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            key_pem: key.serialize_pem(),
            not_after: params.not_after.into(),
            validity,
        })
    }
}
