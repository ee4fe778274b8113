//! Closes connections on the main listener that never become sessions.
//!
//! The engine waits without limit for the first packet of a client that has finished TLS: one certificate would be
//! enough to use up all descriptors of the hub in silence. The engine owns these sockets and tells nobody of them,
//! so they are found as this process's descriptors with the listener's port that no session has, and shut down;
//! the engine then sees the end of the stream and cleans up. A descriptor that is closed and given out again between
//! the look and the shutdown costs another device one reconnection.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, getsockname, shutdown};

use super::sessions::Sessions;

/// The other end of a connection. Not a [`SocketAddr`], whose IPv6 form has fields that differ for one peer.
pub(super) type Peer = (IpAddr, u16);

/// Sweeps until the task is aborted. A connection gets `patience` from when it is first seen.
pub(super) async fn reap(port: u16, sessions: Arc<Sessions>, patience: Duration) {
    let pause = (patience / 4).max(Duration::from_millis(100));
    let mut waiting = HashMap::new();
    loop {
        tokio::time::sleep(pause).await;
        let known = sessions.peers();
        let swept = tokio::task::spawn_blocking(move || {
            let closed = sweep(port, &known, &mut waiting, patience, Instant::now());
            (closed, waiting)
        })
        .await;
        let Ok((closed, back)) = swept else { return };
        waiting = back;
        match closed {
            Ok(0) => {}
            Ok(closed) => tracing::info!(closed, "closed connections that never became sessions"),
            Err(error) => tracing::warn!(%error, "cannot look for connections without a session"),
        }
    }
}

/// One sweep. `waiting` remembers since when a connection has been without a session.
fn sweep(
    port: u16,
    known: &HashSet<Peer>,
    waiting: &mut HashMap<Peer, Instant>,
    patience: Duration,
    now: Instant,
) -> io::Result<usize> {
    let mut present = HashSet::new();
    let mut closed = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        // Most descriptors are no sockets, or are gone by now.
        let Some(local) = getsockname(fd).ok().as_ref().and_then(address) else { continue };
        if local.1 != port {
            continue;
        }
        let Some(peer) = getpeername(fd).ok().as_ref().and_then(address) else { continue };
        if known.contains(&peer) {
            continue;
        }
        present.insert(peer);
        let since = *waiting.entry(peer).or_insert(now);
        if now.saturating_duration_since(since) >= patience && shutdown(fd, Shutdown::Both).is_ok() {
            closed += 1;
        }
    }
    waiting.retain(|peer, _| present.contains(peer));
    Ok(closed)
}

fn address(storage: &SockaddrStorage) -> Option<Peer> {
    let four = storage.as_sockaddr_in().map(|four| SocketAddr::V4(SocketAddrV4::from(*four)));
    let six = || storage.as_sockaddr_in6().map(|six| SocketAddr::V6(SocketAddrV6::from(*six)));
    four.or_else(six).map(|address| (address.ip(), address.port()))
}
