//! A content server that knows its devices by certificate, as a hub's does: the caller's client brings the
//! certificate along for every request, and without it nothing comes.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use sosna_layers::{ImageError, Source, SourceError};
use tokio_rustls::TlsAcceptor;

use crate::{
    Ran, Test, block_on,
    layers::{Scene, request},
    make::{Layer, Recipe},
    server::Server,
};

pub(crate) const TESTS: &[Test] =
    &[("mutual::a_device_is_known_by_its_certificate", a_device_is_known_by_its_certificate)];

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, certificate }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.sign("localhost");
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A client that trusts this authority and shows a certificate of `signer`.
    fn client(&self, signer: Option<&Self>) -> reqwest::Client {
        let root = reqwest::Certificate::from_der(self.certificate.der()).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([root]);
        let builder = match signer {
            Some(signer) => {
                let (certificate, key) = signer.sign("device-1");
                let pem = certificate.pem() + &key.serialize_pem();
                builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
            }
            None => builder,
        };
        builder.build().unwrap()
    }
}

fn a_device_is_known_by_its_certificate() -> Ran {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let built = Recipe::of([Layer::new().file("f", b"over mutual TLS").tar()]).build();
    let scene = Scene::new();
    block_on(async {
        let server = Server::start_with(&built.blobs, Some(authority.acceptor())).await;
        let source = |client| Source::Content { base_url: server.address().to_owned(), client };
        for signer in [None, Some(&stranger)] {
            let wanted = request(built.manifest, vec![source(authority.client(signer))]);
            let error = scene.store.ensure(&wanted).await.unwrap_err();
            let ImageError::Sources { failures, .. } = error else { panic!("{error:?}") };
            assert!(matches!(failures.0[0].error, SourceError::Unreachable(_)), "{failures}");
            assert!(server.asked(built.manifest).is_empty());
        }
        let wanted = request(built.manifest, vec![source(authority.client(Some(&authority)))]);
        let image = scene.store.ensure(&wanted).await.unwrap();
        assert_eq!(std::fs::read(image.layers[0].join("f")).unwrap(), b"over mutual TLS");
    });
    Ran::Passed
}
