//! A hub with an authority of its own: only the pinned one is spoken to.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "tests; the double is shared"
)]

mod scripted_hub;

use std::{io, net::SocketAddr, process::Stdio, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use scripted_hub::{ScriptedHub, TOKEN};
use sosna_host::tls::key_hash;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

#[tokio::test]
async fn only_the_pinned_authority_is_spoken_to() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["hub.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone(), authority.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", tcp.local_addr().unwrap());
    let pin = key_hash(authority.der()).unwrap();
    let hub = ScriptedHub::default();
    hub.inner().authority = pin.0;
    hub.serve(TlsListener { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) });

    let home = tempfile::tempdir().unwrap();
    let says = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sosna"));
        command.args(args).env_clear().env("HOME", home.path()).env("SOSNA_TOKEN", TOKEN);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let wrong = "ab".repeat(32);
    let (code, said) = says(&["login", &url, "--authority", &wrong]).await;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("does not prove to be the hub"), "{said}");
    let (code, said) = says(&["login", &url]).await;
    assert_eq!(code, 4, "no pin, and no authority that the system knows: {said}");
    let (code, said) = says(&["login", &url, "--authority", &pin.to_string()]).await;
    assert_eq!(code, 0, "{said}");
    // The pin is kept with the token.
    let (code, said) = says(&["devices"]).await;
    assert_eq!(code, 0, "{said}");
}
