//! Waiting for a session that is on its way out.
//!
//! The engine asks an old session to make way for a new one, which works while the old one lives or is gone. One whose
//! connection has just ended does not answer any more and is still listed: the engine then refuses the newcomer,
//! which for a device that reconnects at once is the usual case. So the newcomer waits here, a few milliseconds.

use std::time::Duration;

use rmqtt::{
    context::ServerContext,
    types::{Id, Message, Unsubscribe},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

/// How long a newcomer waits at most; then the engine decides.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a session may take to answer; one that takes longer is busy, not dying.
const ANSWER: Duration = Duration::from_millis(500);

/// A name that nobody can subscribe to.
const NOTHING: &str = "nothing";

pub(super) struct Predecessors {
    pub(super) context: ServerContext,
    /// Whether sessions outlive their connections, in which case a silent one need not be dying.
    pub(super) kept: bool,
}

impl Predecessors {
    /// Returns when the session with this client id, if there is one, can be taken over.
    pub(super) async fn wait_for_the_dying(&self, client_id: &str) {
        let until = Instant::now() + PATIENCE;
        let id = Id::from(self.context.node.id(), client_id.to_owned().into());
        while Instant::now() < until {
            let entry = self.context.extends.shared().await.entry(id.clone());
            let Some(session) = entry.tx() else { return };
            // Any question with an answer shows whether it still listens; this one changes nothing.
            let Ok(question) = Unsubscribe::from(&NOTHING.into(), false, false) else { return };
            let (reply, answer) = oneshot::channel();
            let asked = session.unbounded_send(Message::Unsubscribe(question, reply)).is_ok();
            let alive = asked && !matches!(timeout(ANSWER, answer).await, Ok(Err(_)));
            if alive || self.kept && !entry.is_connected().await {
                return;
            }
            sleep(PAUSE).await;
        }
        tracing::warn!(client = client_id, "an ended session does not go away");
    }
}
