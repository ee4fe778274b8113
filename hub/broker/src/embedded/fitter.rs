//! The limits of one session, as the engine asks for them: its own defaults, but for how long a session outlives its
//! connection (for which the engine takes zero to mean "as long as the client likes"), and none at all for who is to
//! come back later.

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use rmqtt::{
    codec::types::Publish as Packet,
    fitter::{DefaultFitter, Fitter, FitterManager},
    types::{ConnectInfo, Disconnect, FitterType, Id, ListenerConfig},
};

use super::postponed::Postponed;

pub(super) struct Limits {
    pub(super) session_expiry: Duration,
    pub(super) postponed: Arc<Postponed>,
}

impl FitterManager for Limits {
    fn create(&self, connect: Arc<ConnectInfo>, id: Id, config: ListenerConfig) -> FitterType {
        let is_postponed = connect.ipaddress().is_some_and(|from| self.postponed.leave(&from));
        Arc::new(SessionLimits {
            is_postponed,
            engine: DefaultFitter::new(connect, id, config),
            session_expiry: self.session_expiry,
        })
    }
}

struct SessionLimits {
    is_postponed: bool,
    engine: DefaultFitter,
    session_expiry: Duration,
}

impl Fitter for SessionLimits {
    fn keep_alive(&self, keep_alive: &mut u16) -> rmqtt::Result<u16> {
        if self.is_postponed {
            // The engine makes "server unavailable" of it, in both versions.
            return Err(rmqtt::Error::msg("the hub cannot take devices now"));
        }
        self.engine.keep_alive(keep_alive)
    }

    fn max_mqueue_len(&self) -> usize {
        self.engine.max_mqueue_len()
    }

    fn mqueue_rate_limit(&self) -> (NonZeroU32, Duration) {
        self.engine.mqueue_rate_limit()
    }

    fn max_inflight(&self) -> NonZeroU16 {
        self.engine.max_inflight()
    }

    fn session_expiry_interval(&self, disconnect: Option<&Disconnect>) -> Duration {
        self.engine.session_expiry_interval(disconnect).min(self.session_expiry)
    }

    fn message_expiry_interval(&self, publish: &Packet) -> Duration {
        self.engine.message_expiry_interval(publish)
    }

    fn max_client_topic_aliases(&self) -> u16 {
        0
    }

    fn max_server_topic_aliases(&self) -> u16 {
        0
    }
}
