//! Making way for a new session of a device that has one.
//!
//! The engine does so itself, but refuses the newcomer if the old session ends by itself at that moment, which for a
//! device whose connection broke and who reconnects at once is the usual case. So the old session is ended here,
//! and the engine is asked once it is gone.

use std::time::Duration;

use rmqtt::{
    context::ServerContext,
    types::{Id, Message, Reason},
};
use tokio::time::{Instant, sleep};

/// How long a newcomer waits at most, for an old session that waits for the hub, say; then the engine decides.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Predecessors {
    pub(super) context: ServerContext,
    /// Whether sessions outlive their connections: then the engine has to hand one over to the next.
    pub(super) kept: bool,
}

impl Predecessors {
    /// Ends the session that has this client id, if there is one, and returns when it is gone.
    pub(super) async fn make_way(&self, client_id: &str) {
        if self.kept {
            return;
        }
        let id = Id::from(self.context.node.id(), client_id.to_owned().into());
        let entry = self.context.extends.shared().await.entry(id);
        let Some(old) = entry.tx() else { return };
        // One that does not listen any more is ending already.
        let _ = old.unbounded_send(Message::Closed(Reason::ConnectKicked(false)));
        let until = Instant::now() + PATIENCE;
        while entry.exist() {
            if Instant::now() >= until {
                tracing::warn!(client = client_id, "an old session does not go away");
                return;
            }
            sleep(PAUSE).await;
        }
    }
}
