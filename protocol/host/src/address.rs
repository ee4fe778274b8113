//! Hosts with ports, as people write them: an IPv6 address stands in brackets where a port follows, and nowhere else.

/// The host alone, without the brackets that somebody may have put around an IPv6 address.
#[must_use]
pub fn bare(host: &str) -> &str {
    let host = host.trim();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// `host:port`.
#[must_use]
pub fn join(host: &str, port: u16) -> String {
    let host = bare(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host and port of `host:port`.
#[must_use]
pub fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let is_one = !host.is_empty() && (host.starts_with('[') == host.ends_with(']'));
    // Two colons without brackets could be an address that has no port.
    let is_clear = host.starts_with('[') || !host.contains(':');
    (is_one && is_clear && !bare(host).is_empty()).then(|| (bare(host), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_stand_in_brackets_before_a_port() {
        for (host, text) in
            [("hub.example", "hub.example:1"), ("::1", "[::1]:1"), ("[fd00::1]", "[fd00::1]:1")]
        {
            assert_eq!(join(host, 1), text);
            assert_eq!(split(text), Some((bare(host), 1)));
        }
        for wrong in ["", "hub", ":1", "[]:1", "hub:", "hub:99999", "::1", "fd00::1:1", "[::1:1", "::1]:1"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
