//! Starting, stopping, starting again, and exchanging certificates in between.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use sosna_broker::{
    Broker as _, BrokerConfig, BrokerError, CertificateAuthority, Departure, EmbeddedBroker, Kind,
    spki_sha256,
};

use crate::{
    client::{Client, Options, Seen, Version},
    hub::{Device, Event, Hub, PATIENCE},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_restarts_on_its_ports_at_once() {
    for version in [Version::Five, Version::Three] {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        let mut client = Client::device(&hub, &device, version).await;
        hub.arrival().await;
        let config = BrokerConfig {
            main: hub.broker.main_addr(),
            bootstrap: hub.broker.bootstrap_addr(),
            ..BrokerConfig::default()
        };
        let start = Instant::now();
        hub.shutdown().await;
        assert_eq!(hub.event().await, Event::Went(device.address, Departure::Shutdown));
        client.ended().await;
        assert!(matches!(
            hub.broker.publish_to_device(&device.address, Kind::Work, b"x", true).await,
            Err(BrokerError::Closed)
        ));
        assert!(Client::connect(Options::device(&hub, &device, version)).await.is_err());

        // The old connections still linger in the kernel.
        hub.broker = EmbeddedBroker::start(config, &hub.identity(), &hub.ca.trust(), hub.recorder.clone())
            .await
            .unwrap();
        Client::device(&hub, &device, version).await;
        assert!(!hub.arrival().await.took_over);
        assert!(start.elapsed() < PATIENCE);
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_hub_cannot_slip_onto_the_first_ones_ports() {
    let hub = Hub::start().await;
    for config in [
        BrokerConfig { main: hub.broker.main_addr(), ..crate::hub::loopback() },
        BrokerConfig { bootstrap: hub.broker.bootstrap_addr(), ..crate::hub::loopback() },
    ] {
        let second =
            EmbeddedBroker::start(config, &hub.identity(), &hub.ca.trust(), hub.recorder.clone()).await;
        let error = second.expect_err("the port is taken");
        assert!(matches!(error, BrokerError::Listen { .. }), "{error}");
        assert!(error.to_string().contains("cannot listen on 127.0.0.1:"), "{error}");
    }
    // The first is none the worse for it.
    let device = Device::new(&hub.ca, 1);
    Client::device(&hub, &device, Version::Five).await;
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_exchanged_without_losing_a_session() {
    let mut hub = Hub::start().await;
    let old = Device::new(&hub.ca, 1);
    let mut before = Client::device(&hub, &old, Version::Five).await;
    let old_pin = hub.ca.spki_sha256();
    let old_tls = Arc::new(old.tls(&hub.ca));

    let next_pin = hub.ca.prepare_next().unwrap();
    hub.ca.promote_next().unwrap();
    assert_eq!(hub.ca.spki_sha256(), next_pin);
    let new = Device::new(&hub.ca, 2);
    // Not admitted until the listeners are told.
    assert!(Client::connect(Options::device(&hub, &new, Version::Five)).await.is_err());
    hub.broker.reload_certificates(&hub.identity(), &hub.ca.trust()).await.unwrap();

    // A session from before, a device of the old authority, and one of the new.
    before.publish(&old.up(Kind::Work), b"still here", 1, false).await;
    assert_eq!(before.next().await, Seen::Acknowledged(true));
    let third = Device { address: sosna_broker::Address([1; 20]), ..old };
    Client::device(&hub, &third, Version::Five).await;
    Client::device(&hub, &new, Version::Five).await;
    // A device that knows only the old authority refuses the new one: it must have been announced before.
    let mut options = Options::device(&hub, &new, Version::Five);
    options.tls = old_tls;
    options.id = third.address.to_string();
    assert!(Client::connect(options).await.is_err());

    hub.ca.retire_previous().unwrap();
    assert!(!hub.ca.trust().pins().contains(&old_pin));
    hub.broker.reload_certificates(&hub.identity(), &hub.ca.trust()).await.unwrap();
    assert!(Client::connect(Options::device(&hub, &third, Version::Five)).await.is_err());
    Client::device(&hub, &new, Version::Five).await;
    hub.shutdown().await;
}

/// A verifier as the crate's documentation describes it: pins the authority's key, checks names and signatures,
/// and compares no dates.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    seen: Mutex<Vec<[u8; 32]>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.last().ok_or(Error::NoCertificatesPresented)?;
        let pin = spki_sha256(authority).ok_or(Error::General("unreadable".into()))?;
        self.seen.lock().unwrap().push(pin);
        if pin != self.pin {
            return Err(Error::General("the pin is not the authority's".into()));
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned()).map_err(|_| Error::General("no authority".into()))?;
        let webpki = WebPkiServerVerifier::builder(Arc::new(roots)).build().unwrap();
        // Any moment in which the certificate is valid: its own dates do not matter.
        webpki.verify_server_cert(end_entity, &[], name, ocsp, UnixTime::now())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = rustls::crypto::CryptoProvider::get_default().unwrap();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = rustls::crypto::CryptoProvider::get_default().unwrap();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::CryptoProvider::get_default()
            .unwrap()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_listeners_show_the_authority_that_devices_pin() {
    let hub = Hub::start().await;
    let device = Device::new(&hub.ca, 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = CertificateAuthority::create(elsewhere.path()).unwrap();
    for (pin, right) in [(hub.ca.spki_sha256(), true), (other.spki_sha256(), false)] {
        for bootstrap in [false, true] {
            let verifier = Arc::new(Pinned { pin, seen: Mutex::default() });
            let tls = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier.clone());
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(device.key.clone()));
            let mut options = Options::device(&hub, &device, Version::Five);
            if bootstrap {
                options.address = hub.broker.bootstrap_addr();
                options.id = format!("boot-{}", device.address);
                options.tls = Arc::new(tls.with_no_client_auth());
            } else {
                options.tls = Arc::new(tls.with_client_auth_cert(device.chain.clone(), key).unwrap());
            }
            let connected = Client::connect(options).await;
            assert_eq!(connected.is_ok(), right, "bootstrap: {bootstrap}");
            assert_eq!(*verifier.seen.lock().unwrap(), [hub.ca.spki_sha256()]);
            if let Err(why) = connected {
                assert!(why.contains("the pin is not the authority's"), "{why}");
            }
        }
    }
    hub.shutdown().await;
}

#[test]
fn a_listeners_certificate_is_short_lived_and_replaced_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::create(folder.path()).unwrap();
    let now = SystemTime::now();
    let identity = ca.issue_server(&["hub.example".into()], now, Duration::from_secs(60)).unwrap();
    let (replaced, ends) = (identity.replace_at(), identity.not_after());
    assert!(ends <= now + Duration::from_secs(60) && ends > now + Duration::from_secs(58));
    assert_eq!(replaced, ends - Duration::from_secs(20), "after two thirds");
    assert!(matches!(ca.issue_server(&[], now, Duration::MAX), Err(sosna_broker::CaError::Dates)));
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}
