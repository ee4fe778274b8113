//! Enrolment and renewal: one question and one signed answer on the hub's bootstrap listener, which demands no
//! certificate. The device knows the hub by its authority's key, the hub the device by its signature.

use std::{sync::Arc, time::Duration};

use sosna_host::{
    clock::Clock as _,
    retry::Backoff,
    tls::{self, Pin, TlsError, TlsKey},
    token::JoinToken,
};
use sosna_protocol::{
    Address,
    codec::Bounded,
    envelope,
    frame::Frame,
    identity::Nonce,
    message::{
        Message,
        enrol::{Down, Refusal, Renew, Request},
    },
    topic::{Kind, Topic},
};

use super::link::{Link, LinkError, LinkEvent, Target};
use crate::{
    clock::DeviceClock,
    config::AgentConfig,
    device,
    identity::{Enrolment, EnrolmentError, Grant, Keys},
    store::{Store, StoreError},
    system::System,
};

/// How long the hub may take for its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The hub said no.
    #[error("the hub does not admit this device ({}): {explanation}", refusal.word())]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The same for a person.
        explanation: String,
    },
    /// There is no connection.
    #[error("the hub's bootstrap listener cannot be used")]
    Link(#[from] LinkError),
    /// The connection stands, and nobody answers.
    #[error("the hub's bootstrap listener at {address} did not answer; is this the hub's port?")]
    NoAnswer {
        /// Where.
        address: String,
    },
    /// The TLS key or the certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The hub granted something that is no certificate for this device.
    #[error("the hub's answer holds no certificate that this device could use")]
    Useless,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The enrolment's file.
    #[error(transparent)]
    Keep(#[from] EnrolmentError),
}

// === impl EnrolError ===

impl EnrolError {
    /// Whether trying again cannot help.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => !matches!(refusal, Refusal::Busy),
            Self::Link(error) => matches!(error, LinkError::OtherHub { .. } | LinkError::Address { .. }),
            Self::NoAnswer { .. } => false,
            Self::Tls(_) | Self::Useless | Self::Store(_) | Self::Keep(_) => true,
        }
    }
}

/// Everything that both exchanges need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bootstrap<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a DeviceClock,
}

// === impl Bootstrap ===

impl Bootstrap<'_> {
    /// Enrols by a join token, trying again as long as that can help. The enrolment is on disk when this returns.
    pub(crate) async fn enrol(
        self,
        config: &AgentConfig,
        token: &JoinToken,
    ) -> Result<Enrolment, EnrolError> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let system = System::new(&config.system);
        loop {
            let network = system.network();
            match self.enrol_once(config, token).await {
                Ok(enrolment) => {
                    enrolment.store(&config.data)?;
                    tracing::info!(hub = %enrolment.hub, owner = %enrolment.owner, "enrolled");
                    return Ok(enrolment);
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    let wait = backoff.wait();
                    let reason = sosna_host::report::line(&error);
                    tracing::warn!(seconds = wait.as_secs_f32(), "not enrolled, trying again: {reason}");
                    system.trouble(Some(&reason));
                    system.pause(wait, &network).await;
                }
            }
        }
    }

    async fn enrol_once(self, config: &AgentConfig, token: &JoinToken) -> Result<Enrolment, EnrolError> {
        self.store.write(|tx| tx.bind(&token.hub))?;
        let key = TlsKey::generate()?;
        let csr = key.request(&self.keys.device().to_string())?;
        let nonce = Nonce(sosna_host::random());
        let name = device::name(config);
        let request = Request {
            nonce,
            secret: token.secret,
            csr: Bounded(&csr),
            encryption_key: self.keys.encryption_key(),
            agent: Bounded(device::VERSION),
            class: device::class(),
            hostname: Bounded(&name),
        };
        let place = (token.host.as_str(), token.bootstrap_port);
        let grant = self.ask(place, Pin::Key(token.authority), token.hub, nonce, &request).await?;
        Ok(Enrolment::from_token(token, key, grant))
    }

    /// Asks for the next certificate.
    pub(crate) async fn renew(self, old: &Enrolment) -> Result<Enrolment, EnrolError> {
        let key = TlsKey::generate()?;
        let csr = key.request(&self.keys.device().to_string())?;
        let nonce = Nonce(sosna_host::random());
        let request = Renew { nonce, csr: Bounded(&csr) };
        let place = (old.bootstrap_host.as_str(), old.bootstrap_port);
        let grant = self.ask(place, old.pin(), old.hub, nonce, &request).await?;
        Ok(old.renewed(key, grant))
    }

    async fn ask<M: Message>(
        self,
        (host, port): (&str, u16),
        pin: Pin,
        hub: Address,
        nonce: Nonce,
        message: &M,
    ) -> Result<Grant, EnrolError> {
        let device = self.keys.device();
        let target = Target {
            host: host.to_owned(),
            port,
            client_id: format!("boot-{device}"),
            tls: Arc::new(tls::client(pin, None, self.clock.for_tls())?),
        };
        let frame = self.store.seal_lossy(&hub, message)?;
        let mut link = Link::open(&target);
        let silent = || EnrolError::NoAnswer { address: sosna_host::address::join(host, port) };
        let asked = async {
            loop {
                match link.next().await {
                    LinkEvent::Up => link.subscribe(device, &[Kind::Enrol]).map_err(|_| silent())?,
                    LinkEvent::Subscribed => {
                        link.publish(&Topic::up(device, Kind::Enrol), frame.clone(), true)
                            .map_err(|_| silent())?;
                    }
                    LinkEvent::Message { payload, .. } => {
                        if let Some(answer) = self.read(&payload, &hub, &nonce) {
                            return answer;
                        }
                    }
                    LinkEvent::Taken => {}
                    LinkEvent::Down(error) => return Err(error.into()),
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(silent()));
        // The broker takes its time for a farewell, and the answer is here.
        if answer.is_ok() {
            tokio::spawn(link.close());
        } else {
            link.close().await;
        }
        answer
    }

    /// The answer in a frame; `None` for anything that is not the hub's answer to this very question.
    fn read(self, payload: &[u8], hub: &Address, nonce: &Nonce) -> Option<Result<Grant, EnrolError>> {
        let ignored = |why: &str| {
            tracing::warn!("a frame on the bootstrap listener is ignored: {why}");
            None
        };
        let Ok(frame) = Frame::decode(payload) else { return ignored("it is none") };
        // The clock is not known yet: the nonce, not the date, says that the answer is new.
        if let Err(error) = envelope::open(&frame, &self.keys.device(), hub, None) {
            return ignored(&sosna_host::report::line(&error));
        }
        match Down::read(&frame) {
            Ok(Down::Granted(granted)) if granted.nonce == *nonce => {
                let grant = Grant::from(&granted);
                let is_usable =
                    tls::valid_until_ms(&grant.certificate).is_some() && !grant.authorities.is_empty();
                if !is_usable {
                    return Some(Err(EnrolError::Useless));
                }
                self.learn(grant.time_ms);
                Some(Ok(grant))
            }
            Ok(Down::Refused(refused)) if refused.nonce == *nonce => {
                self.learn(refused.time_ms);
                let explanation = (*refused.explanation).to_owned();
                Some(Err(EnrolError::Refused { refusal: refused.refusal, explanation }))
            }
            Ok(_) => ignored("it answers another question"),
            Err(error) => ignored(&sosna_host::report::line(&error)),
        }
    }

    fn learn(self, hub_ms: u64) {
        self.clock.learn(hub_ms);
        let now_ms = self.clock.now_ms();
        match self.store.write(|tx| tx.save_time(now_ms)) {
            Ok(()) => self.clock.saved(now_ms),
            Err(error) => tracing::warn!("the time cannot be saved: {}", sosna_host::report::line(&error)),
        }
    }
}
