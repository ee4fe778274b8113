//! Names of images in registries, as people write them: `busybox`, `user/app:1`, `registry.example:5000/a/b@sha256:…`
//! (OCI distribution-spec, "Pulling manifests"; Docker's short forms).

use std::{fmt, str::FromStr};

use crate::digest::Digest;

/// Where names without a host live, and what the API's host is called there.
const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_API_HOST: &str = "registry-1.docker.io";

/// The registry and repository of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference ({why}); write name, user/name or host:port/name")]
pub struct ReferenceError {
    text: String,
    why: &'static str,
}

// === impl Reference ===

impl Reference {
    /// The repository's path in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The registry's host, with its port where one is named.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The tag, if any.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that the reference itself carries, if any.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Where the registry's API is. Plain HTTP is for registries on this very machine, all others get TLS.
    #[must_use]
    pub fn api(&self) -> String {
        let host = if self.host == DEFAULT_HOST { DEFAULT_API_HOST } else { &self.host };
        let scheme = if is_loopback(host) { "http" } else { "https" };
        format!("{scheme}://{host}/v2/{}", self.repository)
    }
}

/// Whether `host`, with or without a port, is this machine whatever a resolver says.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let name_is_good = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    name_is_good && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// distribution-spec: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` between slashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|b| alphanumeric(*b)) || !bytes.last().is_some_and(|b| alphanumeric(*b)) {
        return false;
    }
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    separators.into_iter().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |why| ReferenceError { text: text.chars().take(300).collect(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| wrong("its digest is not SHA-256"))?))
            }
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if host == "localhost" || host.contains(['.', ':', '[']) => (host, path),
            _ => (DEFAULT_HOST, rest),
        };
        if !is_host(host) {
            return Err(wrong("its host is malformed"));
        }
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        let tag_is_good = |tag: &str| {
            (1..=128).contains(&tag.len())
                && !tag.starts_with(['.', '-'])
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if !tag.is_none_or(tag_is_good) {
            return Err(wrong("its tag is malformed"));
        }
        let path =
            if host == DEFAULT_HOST && !path.contains('/') { format!("library/{path}") } else { path.into() };
        if path.len() > 255 || !path.split('/').all(is_component) {
            return Err(wrong("its name is malformed"));
        }
        Ok(Self { host: host.to_owned(), repository: path, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn short_and_long_names() {
        for (text, api) in [
            ("busybox", "https://registry-1.docker.io/v2/library/busybox"),
            ("docker.io/busybox:1.36", "https://registry-1.docker.io/v2/library/busybox"),
            ("index.docker.io/a/b", "https://registry-1.docker.io/v2/a/b"),
            ("user/app:latest", "https://registry-1.docker.io/v2/user/app"),
            ("ghcr.example/a/b_c/d--e", "https://ghcr.example/v2/a/b_c/d--e"),
            ("localhost/x", "http://localhost/v2/x"),
            ("localhost:5000/x:1", "http://localhost:5000/v2/x"),
            ("127.0.0.1:5000/x", "http://127.0.0.1:5000/v2/x"),
            ("[::1]:5000/x", "http://[::1]:5000/v2/x"),
            ("127.0.0.1.example.com/x", "https://127.0.0.1.example.com/v2/x"),
            ("10.0.0.1:5000/x", "https://10.0.0.1:5000/v2/x"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().api(), api, "{text}");
        }
        let digest = Digest::of(b"x");
        let with = format!("a/b:1@{digest}").parse::<Reference>().unwrap();
        assert_eq!((with.digest(), with.tag(), with.host()), (Some(digest), Some("1"), DEFAULT_HOST));
    }

    #[test]
    fn nothing_that_could_change_the_address() {
        for text in [
            "",
            "/",
            "a//b",
            "A",
            "a/../b",
            "..",
            "a/b?x=1",
            "a/b#c",
            "host:port/x",
            "localhost:99999/x",
            "a:b:c",
            "user@host/x",
            "a/b@sha256:12",
            "a b",
            "a/-b",
            "a/b-",
            "a/b..c",
            "-h.example/x",
            "h..example/x",
            "a:",
            "[::1/x",
            "a\n",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }
}
