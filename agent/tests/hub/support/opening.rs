//! How most tests open: a hub that is played, and an agent that has enrolled there; or the word that this machine cannot
//! do it.

use sosna_protocol::{Address, Hash};
use tempfile::TempDir;

use super::{ScriptedHub, agent::Agent, broker, image};

pub struct Opening {
    pub folder: TempDir,
    pub hub: ScriptedHub,
    /// The hub has it; zero where no containers are wanted.
    pub image: Hash,
    pub agent: Agent,
    pub device: Address,
}

/// Whether this machine has what a test needs; says so where it has not.
fn can_run(test: &str, containers: bool) -> bool {
    let missing = if broker::program().is_none() {
        "mosquitto is not installed"
    } else if containers && !nix::unistd::geteuid().is_root() {
        "not root"
    } else if containers && image::busybox().is_none() {
        "busybox-static is not installed"
    } else {
        return true;
    };
    eprintln!("SKIPPED {test}: {missing}");
    false
}

/// A hub, and a folder for a device.
pub async fn hub(test: &str, containers: bool) -> Option<(TempDir, ScriptedHub)> {
    if !can_run(test, containers) {
        return None;
    }
    Some((tempfile::tempdir().unwrap(), ScriptedHub::start().await))
}

/// The same, and an agent that begins to enrol.
pub async fn enrolling(test: &str) -> Option<(TempDir, ScriptedHub, Agent)> {
    let (folder, hub) = hub(test, false).await?;
    let agent = Agent::start(folder.path(), Some(&hub.token().to_string()));
    Some((folder, hub, agent))
}

/// A device that has enrolled and was welcomed.
pub async fn enrolled(test: &str, containers: bool) -> Option<Opening> {
    let (folder, mut hub) = hub(test, containers).await?;
    let image = if containers { image::put(&hub.content) } else { Hash::ZERO };
    let agent = Agent::start(folder.path(), Some(&hub.token().to_string()));
    let device = hub.admit().await;
    assert!(hub.welcome(1000).await.is_empty(), "it holds nothing yet");
    Some(Opening { folder, hub, image, agent, device })
}
