//! The wish to stop, as a flag that many can wait for.

use tokio::sync::watch;

/// Waits until the flag is raised, or nobody is left who could raise it.
pub(crate) async fn raised(stop: &mut watch::Receiver<bool>) {
    // The answer holds a lock on the flag; it must not be kept across anything.
    drop(stop.wait_for(|stop| *stop).await);
}
