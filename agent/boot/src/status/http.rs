//! The page: one request at a time, a few lines read, two answers known. Only the device's own network is answered.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::Shared;

const LONGEST_REQUEST: usize = 2048;
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn serve(listener: &TcpListener, shared: &Shared) {
    loop {
        match listener.accept() {
            // What goes wrong on one connection is its peer's matter.
            Ok((stream, peer)) if is_near(peer.ip()) => drop(answer(stream, shared)),
            Ok(_) => {}
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Private, link-local and loopback addresses: a device with a public address shows nothing to the world.
fn is_near(peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_near(IpAddr::V4(v4)),
            None => v6 == Ipv6Addr::LOCALHOST || v6.is_unicast_link_local() || v6.is_unique_local(),
        },
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let end = Instant::now() + PATIENCE;
    let mut request = Vec::with_capacity(LONGEST_REQUEST);
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || request.len() >= LONGEST_REQUEST {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 512];
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        request.extend(&buffer[..length]);
    }
    let facts = shared.facts().clone();
    let (status, kind, body) = match path(&request) {
        Some("/") => ("200 OK", "text/plain; charset=utf-8", facts.text()),
        Some("/status.json") => {
            ("200 OK", "application/json", serde_json::to_string(&facts).map_err(io::Error::other)?)
        }
        Some(_) => ("404 Not Found", "text/plain", "There are / and /status.json.\n".into()),
        None => ("405 Method Not Allowed", "text/plain", "Only GET.\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// The path of a GET; none for everything else.
fn path(request: &[u8]) -> Option<&str> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    (words.next() == Some("GET")).then(|| words.next())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn ask(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::default();
        shared.facts().hostname = "lab-7".into();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let _ = answer(stream, &shared);
        });
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(request);
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn two_pages_are_known() {
        assert!(ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").contains("lab-7"));
        let json = ask(b"GET /status.json HTTP/1.1\r\n\r\n");
        let body: serde_json::Value = serde_json::from_str(json.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["hostname"], "lab-7");
        assert!(ask(b"GET /etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask(b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn long_and_slow_requests_end() {
        assert_eq!(ask(&[b'a'; 5000]), "");
        let begun = Instant::now();
        assert_eq!(ask(b"GET / HT"), "");
        assert!(begun.elapsed() < 3 * PATIENCE);
    }

    #[test]
    fn only_the_own_network_is_near() {
        for near in
            ["192.168.1.5", "10.0.2.2", "169.254.7.7", "127.0.0.1", "::ffff:172.16.0.9", "fe80::1", "fd00::1"]
        {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["8.8.8.8", "2001:db8::1", "::ffff:1.1.1.1", "172.32.0.1"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }
}
