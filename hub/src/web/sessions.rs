//! Who is signed in. A browser holds a random number in a cookie that scripts cannot read; the hub remembers, in
//! memory only, the hash of the access token that it stands for. So a token that is replaced ends its sessions,
//! and a cookie that leaks is no token.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header::COOKIE};
use sosna_protocol::{Hash, hash::sha256};

/// The cookie's name.
const NAME: &str = "sosna-session";
/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once; beyond it the oldest end.
const MOST: usize = 10_000;

/// Everyone who is signed in.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<Hash, Session>>);

#[derive(Debug, Clone, Copy)]
struct Session {
    token_hash: Hash,
    since: Instant,
}

// === impl Sessions ===

impl Sessions {
    /// Begins a session, and returns the cookie that names it. Behind TLS it never travels without.
    pub(super) fn begin(&self, token_hash: Hash, secure: bool) -> String {
        let number = Hash(sosna_host::random());
        let mut all = self.lock();
        all.retain(|_, session| session.since.elapsed() < LIFETIME);
        if all.len() >= MOST
            && let Some(oldest) = all.iter().min_by_key(|(_, session)| session.since).map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
        all.insert(sha256(&number.0), Session { token_hash, since: Instant::now() });
        let secure = if secure { "; Secure" } else { "" };
        format!("{NAME}={number}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}", LIFETIME.as_secs())
    }

    /// Ends a session, and returns the cookie that forgets it.
    pub(super) fn end(&self, headers: &HeaderMap) -> String {
        if let Some(number) = number(headers) {
            self.lock().remove(&sha256(&number.0));
        }
        format!("{NAME}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0")
    }

    /// The hash of the token that a request's cookie stands for.
    pub(crate) fn token_hash(&self, headers: &HeaderMap) -> Option<Hash> {
        let session = *self.lock().get(&sha256(&number(headers)?.0))?;
        (session.since.elapsed() < LIFETIME).then_some(session.token_hash)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Session>> {
        // Nothing is ever half-done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(headers: &HeaderMap) -> Option<Hash> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|one| one.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME)?.1.parse().ok()
}
