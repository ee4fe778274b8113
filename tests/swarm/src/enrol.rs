//! How a device gets its certificate: one question and one signed answer on the hub's bootstrap listener.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use sosna_host::{
    tls::{self, Pin, TlsError, TlsKey},
    token::JoinToken,
};
use sosna_protocol::{
    envelope,
    frame::Frame,
    message::enrol::Down,
    topic::{Kind, Topic},
};
use tokio::time::timeout;

use crate::{
    device::Device,
    link::{Heard, Link, LinkError, Target},
};

/// How long a hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the hub does not admit this device ({0})")]
    NotAdmitted(&'static str),
    #[error("the hub does not answer this device's request for enrolment")]
    NoAnswer,
}

/// What the hub has given the device.
#[derive(Debug)]
pub(crate) struct Enrolled {
    key: TlsKey,
    certificate: Vec<u8>,
    authorities: Vec<Vec<u8>>,
    /// `host:port` of the main listener.
    pub(crate) main: String,
    /// Base URL of the content store.
    pub(crate) content: String,
}

// === impl Enrolled ===

impl Enrolled {
    /// TLS with the device's certificate. New for each connection, as the agent's is: nothing is resumed.
    pub(crate) fn tls(&self) -> Result<ClientConfig, TlsError> {
        tls::client(self.pin(), Some((self.certificate.clone().into(), &self.key)), None)
    }

    /// What the hub's servers must descend from.
    pub(crate) fn pin(&self) -> Pin {
        Pin::Authorities(self.authorities.iter().map(|der| der.clone().into()).collect())
    }
}

/// Enrols a device by a token.
pub(crate) async fn enrol(device: &mut Device, token: &JoinToken) -> Result<Enrolled, EnrolError> {
    let key = TlsKey::generate()?;
    let (name, index) = (device.address(), device.profile.index);
    let csr = key.request(&name.to_string())?;
    let (nonce, request) = device.ask_to_enrol(&csr, Some(token.secret));
    let place = sosna_host::address::join(&token.host, token.bootstrap_port);
    let client_id = format!("boot-{name}");
    let tls = Arc::new(tls::client(Pin::Key(token.authority), None, None)?);
    let mut link = Link::open(Target { place: &place, client_id, tls, index }).await?;
    link.subscribe(name, &[Kind::Enrol]).await?;
    link.publish(&Topic::up(name, Kind::Enrol), request.frame, true).await?;
    let answer = async {
        loop {
            let Heard::Frame(payload) = link.next().await? else { continue };
            let Ok(frame) = Frame::decode(&payload) else { continue };
            if envelope::open(&frame, &name, &token.hub, None).is_err() {
                continue;
            }
            match Down::read(&frame) {
                Ok(Down::Granted(granted)) if granted.nonce == nonce => {
                    return Ok(Enrolled {
                        key,
                        certificate: granted.certificate.to_vec(),
                        authorities: granted.authorities.iter().map(|der| der.to_vec()).collect(),
                        main: (*granted.main).to_owned(),
                        content: granted.content.trim_end_matches('/').to_owned(),
                    });
                }
                Ok(Down::Refused(refused)) if refused.nonce == nonce => {
                    return Err(EnrolError::NotAdmitted(refused.refusal.word()));
                }
                _ => {}
            }
        }
    };
    let enrolled = timeout(PATIENCE, answer).await.unwrap_or(Err(EnrolError::NoAnswer))?;
    link.close().await;
    Ok(enrolled)
}
