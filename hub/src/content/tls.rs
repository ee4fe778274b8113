//! TLS towards devices: version 1.3, and nobody without a certificate of the hub's authority.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::CertificateDer,
    server::WebPkiClientVerifier, version::TLS13,
};
use sosna_broker::{Serial, ServerIdentity, TrustBundle};
use sosna_protocol::Address;

use crate::error::HubError;

/// The configuration for the hub's certificate and the authorities whose devices are let in. Made again, and sent
/// to the listener, whenever one of them changes.
///
/// # Errors
/// [`HubError::Internal`] where they do not fit each other.
pub fn config(identity: &ServerIdentity, trust: &TrustBundle) -> Result<Arc<ServerConfig>, HubError> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in trust.certificates() {
        roots
            .add(certificate.clone())
            .map_err(|error| HubError::internal("an authority's certificate cannot be trusted", error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| HubError::internal("devices' certificates cannot be verified", error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| HubError::internal("TLS 1.3 is not there", error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())
        .map_err(|error| HubError::internal("the listener's certificate cannot be used", error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Who shows this certificate: the device that is its common name, and its serial number.
pub(super) fn peer(certificate: &CertificateDer<'_>) -> Option<(Address, Serial)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.parse().ok()?;
    if names.next().is_some() {
        return None;
    }
    let serial = parsed.raw_serial();
    // DER may put a zero before it, and must leave zeros out.
    let serial = serial.strip_prefix(&[0]).unwrap_or(serial);
    let mut bytes = [0; 16];
    bytes.get_mut(16_usize.checked_sub(serial.len())?..)?.copy_from_slice(serial);
    Some((name, Serial(bytes)))
}
