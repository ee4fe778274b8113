//! TLS between devices and hubs: a hub is known by the public key of its certificate authority, and a device by
//! a certificate of that authority. Names in certificates decide nothing, because hubs move.

use std::{sync::Arc, time::Duration};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use sosna_protocol::{Hash, hash::sha256};

use crate::clock::SharedClock;

/// What a hub's server certificate must descend from.
#[derive(Debug, Clone)]
pub enum Pin {
    /// An authority whose public key (SubjectPublicKeyInfo) has this SHA-256; the server sends the authority's
    /// certificate along.
    Key(Hash),
    /// One of these authorities.
    Authorities(Vec<CertificateDer<'static>>),
}

/// Why a TLS identity could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A key or request could not be made or read.
    #[error("the TLS key cannot be used")]
    Key(#[source] rcgen::Error),
    /// Certificate and key do not fit.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    /// `main` has not chosen one.
    #[error("no cryptographic provider is installed in this process")]
    NoProvider,
}

/// A P-256 key for TLS, made where it is used. (Ed25519 would be written as PKCS #8 version 2, which OpenSSL 3.0
/// and with it many brokers refuse.)
#[derive(Debug)]
pub struct TlsKey(KeyPair);

// === impl TlsKey ===

impl TlsKey {
    /// A new key.
    ///
    /// # Errors
    /// [`TlsError::Key`].
    pub fn generate() -> Result<Self, TlsError> {
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map(Self).map_err(TlsError::Key)
    }

    /// Reads [`TlsKey::to_der`].
    ///
    /// # Errors
    /// [`TlsError::Key`].
    pub fn from_der(der: &[u8]) -> Result<Self, TlsError> {
        KeyPair::try_from(der).map(Self).map_err(TlsError::Key)
    }

    /// The key in PKCS #8. It belongs into a private file.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// A certificate request (PKCS #10) for this key under a common name.
    ///
    /// # Errors
    /// [`TlsError::Key`].
    pub fn request(&self, common_name: &str) -> Result<Vec<u8>, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let request = params.serialize_request(&self.0).map_err(TlsError::Key)?;
        Ok(request.der().to_vec())
    }
}

/// A client that accepts only the pinned hub, and shows a certificate if it has one. `clock` is `None` while
/// nothing has told the device the time: then dates are not judged, and only the pinned key counts.
///
/// # Errors
/// [`TlsError`].
pub fn client(
    pin: Pin,
    identity: Option<(CertificateDer<'static>, &TlsKey)>,
    clock: Option<SharedClock>,
) -> Result<ClientConfig, TlsError> {
    let provider = CryptoProvider::get_default().ok_or(TlsError::NoProvider)?.clone();
    let verifier = Arc::new(PinnedServer { pin, clock, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_der()));
            builder.with_client_auth_cert(vec![certificate], key).map_err(TlsError::Setup)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The end of a certificate's validity, milliseconds since 1970; `None` where it is no certificate.
#[must_use]
pub fn valid_until_ms(certificate: &[u8]) -> Option<u64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()?.checked_mul(1000)
}

/// The SHA-256 of a certificate's public key: what pins an authority. `None` where it is no certificate.
#[must_use]
pub fn key_hash(certificate: &[u8]) -> Option<Hash> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(sha256(certificate.public_key().raw))
}

#[derive(Debug)]
struct PinnedServer {
    pin: Pin,
    clock: Option<SharedClock>,
    provider: Arc<CryptoProvider>,
}

// === impl PinnedServer ===

impl PinnedServer {
    fn authorities<'a>(&'a self, sent: &'a [CertificateDer<'static>]) -> Vec<&'a CertificateDer<'static>> {
        match &self.pin {
            Pin::Key(hash) => {
                sent.iter().filter(|certificate| key_hash(certificate) == Some(*hash)).collect()
            }
            Pin::Authorities(trusted) => trusted.iter().collect(),
        }
    }

    /// The moment at which dates are judged: now, or without a clock one at which the certificate holds.
    fn moment(&self, certificate: &[u8]) -> Result<UnixTime, rustls::Error> {
        let seconds = match &self.clock {
            Some(clock) => clock.now_ms() / 1000,
            None => {
                let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
                    .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
                u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or_default() + 1
            }
        };
        Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refuse = |error| rustls::Error::InvalidCertificate(error);
        let sent: Vec<_> = intermediates.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let anchors: Vec<_> = self
            .authorities(&sent)
            .into_iter()
            .filter_map(|authority| webpki::anchor_from_trusted_cert(authority).ok())
            .collect();
        if anchors.is_empty() {
            return Err(refuse(rustls::CertificateError::UnknownIssuer));
        }
        let certificate = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| refuse(rustls::CertificateError::BadEncoding))?;
        certificate
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &anchors,
                intermediates,
                self.moment(end_entity)?,
                webpki::KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|error| match error {
                webpki::Error::CertExpired { .. } => refuse(rustls::CertificateError::Expired),
                webpki::Error::CertNotValidYet { .. } => refuse(rustls::CertificateError::NotValidYet),
                _ => refuse(rustls::CertificateError::UnknownIssuer),
            })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
