//! The engine's hooks: where the access rules are applied and messages are handed to the hub.
//!
//! The engine allows what no hook refuses, publishes wills without asking, and lets sessions without a user name
//! in unasked unless told otherwise; so every rule is applied here, and anything unexpected is refused.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rmqtt::{
    codec::{
        error::DecodeError,
        types::{MQTT_LEVEL_5, MQTT_LEVEL_311},
        v5::{PublishAckReason, SubscribeAckReason},
    },
    context::ServerContext,
    hook::{Handler as Hook, HookResult, Parameter, ReturnType, Type},
    net::MqttError,
    session::Session,
    types::{
        AuthResult, ConnectInfo, Id, Message, Publish, PublishAclResult, PublishResult, QoS, Reason,
        Subscribe, SubscribeAclResult,
    },
};
use sosna_protocol::{Address, topic::Kind};

use super::{callers::Callers, postponed::Postponed, predecessors::Predecessors, sessions::Sessions};
use crate::{
    access::{self, Realm, Refusal},
    serial::Serial,
    service::{Admission, Arrival, Departure, Handler, NotTaken, Peer},
};

/// How long the end of a session waits for the one that took over, before the device counts as gone.
const SUCCESSION: Duration = Duration::from_secs(10);

/// The hub's side of one engine's hooks.
pub(super) struct Hooks {
    pub(super) realm: Realm,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) sessions: Arc<Sessions>,
    /// Who stands behind the front's connections; on the bootstrap listener only.
    pub(super) callers: Option<Arc<Callers>>,
    /// Who is to come back later.
    pub(super) postponed: Arc<Postponed>,
    pub(super) closing: Arc<AtomicBool>,
    /// Set once the engine exists.
    pub(super) engine: OnceLock<Predecessors>,
}

/// What the engine's registry takes, one for each hook.
pub(super) struct Registered(pub(super) Arc<Hooks>);

/// The hooks that [`Hooks`] answers.
pub(super) const ANSWERED: [Type; 5] = [
    Type::ClientAuthenticate,
    Type::ClientConnected,
    Type::ClientDisconnected,
    Type::MessagePublishCheckAcl,
    Type::ClientSubscribeCheckAcl,
];

#[async_trait]
impl Hook for Registered {
    async fn hook(&self, parameter: &Parameter, earlier: Option<HookResult>) -> ReturnType {
        let hooks = &self.0;
        let answer = match parameter {
            Parameter::ClientAuthenticate(connect) => {
                HookResult::AuthResult(hooks.authenticate(connect).await)
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                HookResult::PublishAclResult(hooks.publish(session, publish).await)
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                HookResult::SubscribeAclResult(hooks.subscribe(session, subscribe))
            }
            Parameter::ClientConnected(session) => {
                hooks.connected(session).await;
                return (true, earlier);
            }
            Parameter::ClientDisconnected(session, reason) => {
                hooks.disconnected(session, reason).await;
                return (true, earlier);
            }
            _ => return (true, earlier),
        };
        (false, Some(answer))
    }
}

/// Ends the session that has this client id, if there is one.
pub(super) async fn close(engine: &ServerContext, client_id: String, reason: Reason) {
    let entry = engine.extends.shared().await.entry(Id::from(engine.node.id(), client_id.into()));
    if let Some(session) = entry.tx() {
        // One that does not listen any more has ended by itself.
        let _ = session.unbounded_send(Message::Closed(reason));
    }
}

// === connecting ===

impl Hooks {
    async fn authenticate(&self, connect: &ConnectInfo) -> AuthResult {
        let refused = match self.admit(connect).await {
            Ok(Admission::Allow) => return AuthResult::Allow(false, None),
            Ok(Admission::Later(why)) => {
                // An answer that the engine does not have here; the next step of its handshake has.
                if let Some(from) = connect.ipaddress() {
                    tracing::warn!(client = %connect.client_id(), %from, %why, "put a session off");
                    self.postponed.enter(from);
                    return AuthResult::Allow(false, None);
                }
                why
            }
            Ok(Admission::Deny(why)) | Err(why) => why,
        };
        tracing::info!(client = %connect.client_id(), from = ?connect.ipaddress(), why = %refused, "refused a session");
        AuthResult::NotAuthorized
    }

    /// Whether somebody may come in; an error is a rule that was broken.
    async fn admit(&self, connect: &ConnectInfo) -> Result<Admission, String> {
        if self.closing.load(Ordering::Acquire) {
            return Err("the hub is shutting down".into());
        }
        if connect.proto_ver() != MQTT_LEVEL_5 && connect.proto_ver() != MQTT_LEVEL_311 {
            return Err("only MQTT 5 and 3.1.1 are spoken".into());
        }
        // The engine publishes wills without asking anybody.
        if connect.last_will().is_some() {
            return Err("wills are not accepted".into());
        }
        let device =
            self.realm.device_of(connect.client_id()).ok_or("the client id is not one of this listener")?;
        match self.realm {
            Realm::Main => {
                let serial = certified(connect, &device)?;
                match self.handler.authorise(device, serial).await {
                    Admission::Allow => {}
                    other => return Ok(other),
                }
            }
            Realm::Bootstrap => {
                let from = self.origin(connect).ok_or("it did not come through the bootstrap listener")?;
                // Anybody may claim any name here, so a stranger must not be able to push out the one who holds it;
                // its own next attempt, from the same address, may.
                match self.sessions.origin(&device) {
                    Some(holder) if holder != Some(from) => {
                        return Err("another address is enrolling this device".into());
                    }
                    _ => {}
                }
            }
        }
        if let Some(engine) = self.engine.get() {
            engine.make_way(connect.client_id()).await;
        }
        Ok(Admission::Allow)
    }

    /// From where a session really comes.
    fn origin(&self, connect: &ConnectInfo) -> Option<IpAddr> {
        let peer = connect.ipaddress()?;
        match &self.callers {
            Some(callers) => callers.behind(&peer),
            None => Some(peer.ip()),
        }
    }

    /// A new session can be reached by now, and its first packet has not been read yet.
    async fn connected(&self, session: &Session) {
        let refuse = |why: String| async move {
            tracing::info!(client = %session.id.client_id, %why, "ended a session before it began");
            close(&session.scx, session.id.client_id.to_string(), Reason::ConnectKicked(true)).await;
        };
        let Some(device) = self.realm.device_of(&session.id.client_id) else {
            return refuse("the client id is not one of this listener".into()).await;
        };
        let Ok(connect) = session.connect_info().await else {
            return refuse("the engine lost its CONNECT".into()).await;
        };
        let from = self.origin(&connect);
        if self.realm == Realm::Bootstrap {
            self.sessions.enter(device, session.id.clone(), from);
            return;
        }
        let serial = match certified(&connect, &device) {
            Ok(serial) => serial,
            Err(why) => return refuse(why).await,
        };
        // First known to be there, then asked again: a revocation is recorded before it disconnects, so either
        // this question or that disconnection meets it.
        let took_over = self.sessions.enter(device, session.id.clone(), from);
        let admission = match self.handler.authorise(device, serial).await {
            Admission::Allow if self.closing.load(Ordering::Acquire) => {
                Admission::Deny("the hub is shutting down".into())
            }
            other => other,
        };
        if let Admission::Deny(why) | Admission::Later(why) = admission {
            self.sessions.leave(&device, &session.id);
            if took_over {
                // The session before this one is gone too, and was left for this one to report.
                self.handler.disconnected(device, Departure::Dismissed).await;
            }
            return refuse(why).await;
        }
        self.handler.connected(Arrival { device, serial, from, took_over }).await;
    }

    async fn disconnected(&self, session: &Session, reason: &Reason) {
        let Some(device) = self.realm.device_of(&session.id.client_id) else { return };
        let why = self.departure(reason);
        if self.realm == Realm::Bootstrap {
            self.sessions.leave(&device, &session.id);
            return;
        }
        if why == Departure::TakenOver {
            // The successor usually replaces the entry at once and reports that it took over; if it fails in
            // between, nobody else would ever report the device's end.
            let (sessions, handler, id) = (self.sessions.clone(), self.handler.clone(), session.id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(SUCCESSION).await;
                if sessions.leave(&device, &id) {
                    handler.disconnected(device, Departure::TakenOver).await;
                }
            });
        } else if self.sessions.leave(&device, &session.id) {
            self.handler.disconnected(device, why).await;
        }
    }

    fn departure(&self, reason: &Reason) -> Departure {
        if self.closing.load(Ordering::Acquire) { Departure::Shutdown } else { departure(reason) }
    }
}

/// What the engine's reason (mostly a list of them, first things first) means to the hub.
fn departure(reason: &Reason) -> Departure {
    let several = [reason.clone()];
    let reasons = if let Reason::Reasons(reasons) = reason { reasons } else { &several[..] };
    for reason in reasons {
        match reason {
            Reason::ConnectKicked(false) => return Departure::TakenOver,
            Reason::ConnectKicked(true) => return Departure::Dismissed,
            Reason::ConnectKeepaliveTimeout => return Departure::Silent,
            Reason::ConnectDisconnect(_)
            | Reason::ConnectRemoteClose
            | Reason::ConnectReadWriteError
            | Reason::ConnectReadWriteTimeout => return Departure::Left,
            // The engine has no variant for a connection that broke.
            Reason::Error(text) if text.starts_with("io error") => return Departure::Left,
            Reason::MqttError(MqttError::Decode(DecodeError::Io(_))) => return Departure::Left,
            _ => {}
        }
    }
    Departure::Broken(reason.to_string())
}

/// The serial number of the session's certificate, if the certificate is `device`'s.
fn certified(connect: &ConnectInfo, device: &Address) -> Result<Serial, String> {
    let certificate = connect.cert().ok_or("there is no client certificate")?;
    let name = certificate.common_name.as_deref().unwrap_or_default();
    if access::device_named(name) != Some(*device) {
        return Err("the client id is not the certificate's common name".into());
    }
    let serial = certificate.serial.as_deref().ok_or("the certificate has no serial number")?;
    serial.parse().map_err(|_| "the certificate's serial number is not one of this authority".into())
}

// === publishing and subscribing ===

impl Hooks {
    async fn publish(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        let (device, kind) = match self.may_publish(session, publish) {
            Ok(allowed) => allowed,
            Err(why) => {
                tracing::info!(client = %session.id.client_id, topic = %publish.topic, %why, "refused a message");
                // An honest device never comes here, and version 3.1.1 would read a mere refusal as success.
                return PublishAclResult::rejected(true, Some(why.into()));
            }
        };
        let from = match self.realm {
            Realm::Main => Peer::Device(device),
            Realm::Bootstrap => Peer::Bootstrap(device),
        };
        match self.handler.message(from, kind, &publish.payload).await {
            Ok(()) => PublishAclResult::allow(),
            Err(not_taken) => {
                tracing::debug!(client = %session.id.client_id, kind = kind.word(), ?not_taken, "a message was not taken");
                let acknowledged = publish.qos != QoS::AtMostOnce;
                let version5 = session.protocol().await.is_ok_and(|version| version == MQTT_LEVEL_5);
                let (code, disconnect) = match not_taken {
                    NotTaken::Retry => (PublishAckReason::UnspecifiedError, acknowledged),
                    NotTaken::Refused => (PublishAckReason::PayloadFormatInvalid, acknowledged && !version5),
                };
                PublishAclResult(PublishResult::reason_code(code, None, disconnect))
            }
        }
    }

    fn may_publish(&self, session: &Session, publish: &Publish) -> Result<(Address, Kind), String> {
        let device = self.speaker(session)?;
        let rule = || {
            if publish.qos == QoS::ExactlyOnce {
                return Err(Refusal::Quality);
            }
            if publish.retain {
                return Err(Refusal::Retained);
            }
            access::may_publish(self.realm, &device, &publish.topic)
        };
        rule().map(|kind| (device, kind)).map_err(|refusal| refusal.to_string())
    }

    fn subscribe(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let allowed = self.speaker(session).and_then(|device| {
            access::may_subscribe(self.realm, &device, &subscribe.topic_filter).map_err(|why| why.to_string())
        });
        match allowed {
            Ok(_) => SubscribeAclResult::new_success(subscribe.opts.qos(), None),
            Err(why) => {
                tracing::info!(client = %session.id.client_id, filter = %subscribe.topic_filter, %why, "refused a subscription");
                SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
            }
        }
    }

    /// The device whose present session this is.
    fn speaker(&self, session: &Session) -> Result<Address, String> {
        let device =
            self.realm.device_of(&session.id.client_id).ok_or("the client id is not one of this listener")?;
        if self.sessions.is_current(&device, &session.id) {
            Ok(device)
        } else {
            Err("the session has been ended".into())
        }
    }
}
