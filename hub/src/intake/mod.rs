//! Takes what devices say: opens the envelope, sees whether it is new, and does what it says, in one transaction.
//! The broker acknowledges only what has come through here.
//!
//! What is malformed, forged or somebody else's is counted and dropped: sending it again would not help. What
//! cannot be stored now is not taken, and the device keeps it.

mod admit;
mod beat;
mod enrol;
mod hello;
mod pay;
mod result;
mod work;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sosna_broker::{Admission, Arrival, Departure, Handler, NotTaken, Peer, Serial};
use sosna_protocol::{
    Address, Hash,
    envelope::{self, Seal},
    frame::Frame,
    message::log,
    topic::Kind,
};
use sosna_store::DeviceState;

use crate::{
    curve,
    error::HubError,
    hub::{Effect, Event, Hub},
};

/// How many takeovers within [`CLONE_WINDOW_MS`] betray a cloned device.
const CLONE_TAKEOVERS: usize = 6;
/// See [`CLONE_TAKEOVERS`].
const CLONE_WINDOW_MS: u64 = 60_000;

/// The hub's side of the broker.
#[derive(Debug, Clone)]
pub struct Intake(pub Arc<Hub>);

/// A frame that is what it claims to be; whether it is new is for the transaction to say.
#[derive(Debug, Clone)]
struct Heard {
    device: Address,
    kind: Kind,
    seal: Seal,
    /// What the seal's signature covers of this frame: two contents under one counter have two.
    leaf: Hash,
    payload: Arc<[u8]>,
}

impl Heard {
    /// The frame. It was read once when it came in.
    fn frame(&self) -> Result<Frame<'_>, HubError> {
        Frame::decode(&self.payload)
            .map_err(|error| HubError::internal("a frame cannot be read again", error))
    }
}

#[async_trait]
impl Handler for Intake {
    async fn authorise(&self, device: Address, serial: Serial) -> Admission {
        let found = self
            .0
            .store
            .read(move |tx| {
                Box::pin(async move {
                    let state = tx.device(&device).await?.map(|device| device.state);
                    Ok::<_, HubError>((state, tx.certificate_holds(&device, &serial.0).await?))
                })
            })
            .await;
        match found {
            Ok((Some(DeviceState::Revoked), _)) => Admission::Deny("the device was revoked".to_owned()),
            Ok((Some(_), true)) => Admission::Allow,
            Ok((Some(_), false)) => Admission::Deny("the certificate is not one that holds".to_owned()),
            Ok((None, _)) => Admission::Deny("no such device was enrolled here".to_owned()),
            // That says nothing about the device: its certificate may be as good as ever.
            Err(error) => Admission::Later(sosna_host::report::line(&error)),
        }
    }

    async fn message(&self, from: Peer, kind: Kind, payload: &[u8]) -> Result<(), NotTaken> {
        let hub = &self.0;
        let taken = match (from, kind) {
            (Peer::Device(device), Kind::Log) => take_log(hub, device, payload).await,
            _ => self.take(from, kind, payload).await,
        };
        match taken {
            Ok(()) => Ok(()),
            Err(Trouble::Drop(why)) => {
                hub.metrics.messages_refused.add_one();
                tracing::warn!(device = %from.address(), kind = kind.word(), "a message was dropped: {why}");
                let pause = match (from, hub.fleet().get_mut(&from.address())) {
                    (Peer::Device(_), Some(live)) => live.dropped.count(hub.now_ms()),
                    _ => Duration::ZERO,
                };
                // Each costs a look at its signature, which others would wait for.
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Err(Trouble::Hub(error)) => {
                tracing::error!(device = %from.address(), kind = kind.word(),
                    "a message was not taken: {}", sosna_host::report::line(&error));
                Err(NotTaken::Retry)
            }
        }
    }

    async fn connected(&self, arrival: Arrival) {
        let hub = &self.0;
        let now = hub.now_ms();
        let cloned = {
            let mut fleet = hub.fleet();
            let Some(live) = fleet.get_mut(&arrival.device) else { return };
            live.network = arrival.from.and_then(network_of);
            live.seen_ms = now;
            live.takeovers.retain(|at| now.saturating_sub(*at) < CLONE_WINDOW_MS);
            if arrival.took_over {
                live.takeovers.push(now);
            }
            let cloned = live.takeovers.len() >= CLONE_TAKEOVERS;
            if cloned {
                // Once it is approved again, the count begins anew.
                live.takeovers.clear();
            }
            cloned
        };
        if cloned
            && let Err(error) =
                admit::quarantine(hub, arrival.device, "its sessions keep taking over from each other").await
        {
            tracing::error!("a cloned device could not be quarantined: {}", sosna_host::report::line(&error));
        }
    }

    async fn disconnected(&self, device: Address, why: Departure) {
        let hub = &self.0;
        if let Some(live) = hub.fleet().get_mut(&device) {
            live.online = false;
            live.network = None;
        }
        tracing::info!(%device, "left: {why}");
        hub.tell(Event::Device(device));
    }
}

/// Why a message has no effect.
enum Trouble {
    /// It never will have one.
    Drop(String),
    /// The hub could not take it now.
    Hub(HubError),
}

impl<E: Into<HubError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Hub(error.into())
    }
}

/// For what is dropped: the whole chain of causes.
fn drop_it(error: impl std::error::Error) -> Trouble {
    Trouble::Drop(sosna_host::report::line(&error))
}

impl Intake {
    async fn take(&self, from: Peer, kind: Kind, payload: &[u8]) -> Result<(), Trouble> {
        let hub = &self.0;
        let device = from.address();
        let heard = {
            let frame = Frame::decode(payload).map_err(drop_it)?;
            // A frame of another exchange would use up this one's counter, and look like a clone.
            if frame.channel != kind.channel() {
                return Err(Trouble::Drop(format!("it belongs to another exchange than `{}`", kind.word())));
            }
            let seal =
                envelope::open_by(&frame, &hub.address(), &device, None, curve::recover).map_err(drop_it)?;
            let leaf = seal.meta.leaf(frame.body);
            Heard { device, kind, seal, leaf, payload: payload.into() }
        };
        match (from, kind) {
            (Peer::Bootstrap(_), Kind::Enrol) => enrol::take(hub, heard).await,
            (Peer::Device(_), Kind::Hello) => hello::take(hub, heard).await,
            (Peer::Device(_), Kind::Beat) => beat::take(hub, heard).await,
            (Peer::Device(_), Kind::Work) => work::take(hub, heard).await,
            (Peer::Device(_), Kind::Result) => result::take(hub, heard).await,
            (Peer::Device(_), Kind::Pay) => pay::take(hub, heard).await,
            _ => Err(Trouble::Drop(format!("nobody says `{}` there", kind.word()))),
        }
    }
}

/// Live output is passed on and not kept: all of it comes with the result.
async fn take_log(hub: &Arc<Hub>, device: Address, payload: &[u8]) -> Result<(), Trouble> {
    let frame = Frame::decode(payload).map_err(drop_it)?;
    let log::Up::Chunk(chunk) = log::Up::read(&frame).map_err(drop_it)?;
    let id = chunk.assignment;
    let found = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let Some(assignment) = tx.assignment(&id).await? else { return Ok(None) };
                let task = tx.task(&assignment.task).await?;
                Ok::<_, HubError>(task.map(|task| (assignment, task)))
            })
        })
        .await?;
    match found {
        // A replicated task's output must not be known before its commitments are closed, whatever a device says.
        Some((assignment, task)) if assignment.device == device && !task.commits() => {
            hub.tell(Event::Log {
                job: task.job,
                index: task.place,
                assignment: id,
                stream: chunk.stream,
                offset: chunk.offset,
                bytes: chunk.bytes.0.into(),
            });
            Ok(())
        }
        _ => Err(Trouble::Drop("output of an assignment that has none to show".to_owned())),
    }
}

/// The network of an address, as far as networks tell owners apart: not on loopback and private networks, where
/// all of somebody's devices may share one.
fn network_of(address: std::net::IpAddr) -> Option<std::net::IpAddr> {
    use std::net::IpAddr;
    match address {
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_private() || v4.is_link_local() => None,
        IpAddr::V4(v4) => Some(IpAddr::from((v4.to_bits() & !0xff).to_be_bytes())),
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() => None,
        IpAddr::V6(v6) => Some(IpAddr::from((v6.to_bits() & !(u128::MAX >> 48)).to_be_bytes())),
    }
}

/// A device that was changed, for the picture of the fleet.
async fn described(tx: &mut sosna_store::Tx, device: &Address) -> Result<Vec<Effect>, HubError> {
    let found = tx.device(device).await?;
    Ok(found.map(|device| Effect::Describe(Box::new(device))).into_iter().collect())
}
