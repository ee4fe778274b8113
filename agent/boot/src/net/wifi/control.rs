//! The supplicant's control socket: datagrams of text, answers and events on the same socket
//! (ctrl_iface.doxygen of wpa_supplicant). Never waits: what is lost is learnt at the next question.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
};

use nix::sys::socket::{UnixAddr, bind};

use super::Refusal;

/// Below [`super::FOLDER`], made by the supplicant.
pub(super) const FOLDER: &str = "/run/wifi/control";
/// Events are not longer than this; the rest of one that is does not matter.
const LARGEST: usize = 4096;

/// A conversation with a supplicant.
#[derive(Debug)]
pub(super) struct Control {
    socket: UnixDatagram,
}

/// What a supplicant says. Networks are numbered in the configuration's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// Joined a network.
    Joined(usize),
    /// Left it, or was sent away.
    Left,
    /// A network has refused something.
    Rejected(Refusal),
    /// A network is not tried again for a while, perhaps because of this.
    LeftAlone(usize, Option<Refusal>),
    /// None of the networks is there.
    NotFound,
    /// It lives.
    Other,
}

// === impl Control ===

impl Control {
    /// Connects to the supplicant of a card and asks for its events.
    pub(super) fn attach(card: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // An address that the kernel chooses, so that answers have somewhere to go; connected, so that nobody else
        // can speak on it.
        bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        socket.connect(Path::new(FOLDER).join(card))?;
        socket.set_nonblocking(true)?;
        socket.send(b"ATTACH")?;
        let control = Self { socket };
        control.ask();
        Ok(control)
    }

    /// Asks how it stands.
    pub(super) fn ask(&self) {
        // What cannot be asked now is asked again.
        let _ = self.socket.send(b"STATUS");
    }

    /// What has come since the last call; bounded.
    pub(super) fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut bytes = [0; LARGEST];
        while words.len() < 64
            && let Ok(length) = self.socket.recv(&mut bytes)
        {
            words.push(understand(&String::from_utf8_lossy(&bytes[..length])));
        }
        words
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Events begin with their level in brackets, answers do not.
fn understand(text: &str) -> Word {
    match text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((_, event)) => event_of(event),
        None => answer(text),
    }
}

fn event_of(event: &str) -> Word {
    let (name, rest) = event.split_once(' ').unwrap_or((event, ""));
    match name {
        "CTRL-EVENT-CONNECTED" => value(rest, "id").map_or(Word::Other, Word::Joined),
        "CTRL-EVENT-DISCONNECTED" => Word::Left,
        "CTRL-EVENT-SSID-TEMP-DISABLED" => {
            let refusal = rest.ends_with("reason=WRONG_KEY").then_some(Refusal::Password);
            value(rest, "id").map_or(Word::Other, |id| Word::LeftAlone(id, refusal))
        }
        "CTRL-EVENT-AUTH-REJECT" | "CTRL-EVENT-ASSOC-REJECT" => Word::Rejected(refusal(name, rest)),
        "CTRL-EVENT-NETWORK-NOT-FOUND" => Word::NotFound,
        _ => Word::Other,
    }
}

fn refusal(name: &str, rest: &str) -> Refusal {
    /// WPA3's way to prove the password, its second message, and "challenge failed".
    const SAE: u16 = 3;
    const CONFIRM: u16 = 2;
    const CHALLENGE: u16 = 15;
    let is_proof = name == "CTRL-EVENT-AUTH-REJECT" && value(rest, "auth_type") == Some(SAE);
    match value(rest, "status_code").unwrap_or_default() {
        CHALLENGE => Refusal::Password,
        _ if is_proof && value(rest, "auth_transaction") == Some(CONFIRM) => Refusal::Password,
        status => Refusal::Device(status),
    }
}

/// `STATUS` lists `key=value` a line.
fn answer(text: &str) -> Word {
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    match (line("wpa_state"), line("id").and_then(|id| id.parse().ok())) {
        (Some("COMPLETED"), Some(id)) => Word::Joined(id),
        (Some("SCANNING" | "DISCONNECTED" | "INACTIVE"), _) => Word::Left,
        _ => Word::Other,
    }
}

/// `key=value` among words, perhaps in brackets. A network's name is in quotes and comes after what is asked for.
fn value<T: std::str::FromStr>(text: &str, key: &str) -> Option<T> {
    let clean = |word: &str| word.trim_start_matches('[').trim_end_matches(']').to_owned();
    text.split_whitespace().find_map(|word| clean(word).strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_understood() {
        for (text, word) in [
            (
                "<3>CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:01:00 completed [id=1 id_str=]",
                Word::Joined(1),
            ),
            ("<3>CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=3 locally_generated=1", Word::Left),
            (
                "<3>CTRL-EVENT-SSID-TEMP-DISABLED id=2 ssid=\"id=0 x\" auth_failures=1 duration=10 reason=WRONG_KEY",
                Word::LeftAlone(2, Some(Refusal::Password)),
            ),
            (
                "<3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"lab\" auth_failures=1 duration=10 reason=CONN_FAILED",
                Word::LeftAlone(0, None),
            ),
            ("<3>CTRL-EVENT-NETWORK-NOT-FOUND ", Word::NotFound),
            (
                "<3>CTRL-EVENT-ASSOC-REJECT bssid=02:00:00:00:01:00 status_code=17",
                Word::Rejected(Refusal::Device(17)),
            ),
            (
                "<3>CTRL-EVENT-AUTH-REJECT 02:00:00:00:01:00 auth_type=3 auth_transaction=2 status_code=1",
                Word::Rejected(Refusal::Password),
            ),
            ("<2>CTRL-EVENT-SCAN-STARTED ", Word::Other),
            ("OK\n", Word::Other),
            ("bssid=02:00:00:00:01:00\nssid=lab\nid=0\nwpa_state=COMPLETED\n", Word::Joined(0)),
            ("wpa_state=SCANNING\naddress=02:00:00:00:00:00\n", Word::Left),
        ] {
            assert_eq!(understand(text), word, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "<?[0-9>A-Z =\\[\\]\n-]{0,80}") {
            let _ = understand(&text);
        }
    }
}
