//! Wireless cards: each has a supplicant, which joins the owner's networks, and this, which starts it again when it
//! ends, listens to it, and says how it stands. Addresses are the rest of the network's business: a card that has
//! joined has a link like one with a cable.
//!
//! Must never say, log or hand on a password: it goes into the supplicant's configuration alone.

mod config;
mod control;
mod process;
mod rights;

use std::{
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use self::{
    control::{Control, Word},
    process::Process,
};
use super::Ending;
use crate::{
    console,
    device::wifi::{Wifi, WifiNetwork},
    status::Shared,
    system::child::Backoff,
};

pub(crate) use rights::{PART, become_supplicant};

const SUPPLICANT: &str = "/usr/sbin/wpa_supplicant";
/// In memory, for the supplicant alone.
const FOLDER: &str = "/run/wifi";
/// The supplicant's user and group in the image.
const USER: u32 = 101;
/// While the supplicant does not listen yet.
const UNTIL_IT_LISTENS: Duration = Duration::from_millis(200);
/// It is asked how it stands so often, should a word be lost.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// Who says nothing for so long is ended and started again.
const PATIENCE: Duration = Duration::from_secs(100);
/// The supplicant leaves a network that refused it alone for a while, and then does not find any: for so long the
/// refusal is what matters.
const REFUSAL_HOLDS: Duration = Duration::from_secs(300);
/// One look around may miss a network.
const MISSES: u32 = 2;

/// A wireless card's radio.
#[derive(Debug)]
pub(super) struct Radio {
    card: String,
    wifi: Wifi,
    networks: Vec<WifiNetwork>,
    process: Option<Process>,
    control: Option<Control>,
    /// When the supplicant is started, listened to, or asked.
    due: Instant,
    /// When it was last heard.
    heard: Instant,
    backoff: Backoff,
    standing: Standing,
    misses: u32,
    /// What a network has refused, until it is known which.
    refusal: Option<Refusal>,
}

/// How a radio stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Looking,
    NotFound,
    Joined(String),
    /// The network, what it refused, and when.
    Refused(String, Refusal, Instant),
    /// The supplicant does not run.
    Down(String),
}

/// What a network refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Password,
    /// By 802.11's number.
    Device(u16),
}

/// Whether a card is wireless.
pub(super) fn is_wireless(card: &str) -> bool {
    Path::new("/sys/class/net").join(card).join("phy80211").exists()
}

/// Whether the image can use wireless cards at all.
pub(super) fn is_possible() -> bool {
    Path::new(SUPPLICANT).exists()
}

// === impl Radio ===

impl Radio {
    /// The radio of a card; none where no network is named that could be joined.
    pub(super) fn new(card: &str, wifi: &Wifi) -> Option<Self> {
        let networks = wifi.usable();
        (!networks.is_empty()).then(|| Self {
            card: card.to_owned(),
            wifi: wifi.clone(),
            networks,
            process: None,
            control: None,
            due: Instant::now(),
            heard: Instant::now(),
            backoff: Backoff::new(),
            standing: Standing::Looking,
            misses: 0,
            refusal: None,
        })
    }

    /// Does what has to be done now.
    pub(super) fn work(&mut self, shared: &Shared, ending: &Ending) {
        if ending.is_near() {
            return;
        }
        if let Some(process) = &self.process
            && process.has_ended()
        {
            let pause = self.backoff.ended(process.age());
            let words = process.last_words();
            (self.process, self.control) = (None, None);
            self.due = Instant::now() + pause;
            let text = format!("the supplicant ended{words}; it starts again in {} s", pause.as_secs());
            self.stand(Standing::Down(text));
        }
        let words = self.control.as_mut().map(Control::words).unwrap_or_default();
        for word in words {
            self.heard = Instant::now();
            self.hear(word);
        }
        if Instant::now() >= self.due {
            self.act(shared);
        }
    }

    fn act(&mut self, shared: &Shared) {
        let now = Instant::now();
        match (&self.process, &mut self.control) {
            (None, _) => match process::start(&self.card, &self.wifi, &self.networks) {
                Ok(process) => {
                    self.process = Some(process);
                    (self.heard, self.due) = (now, now + UNTIL_IT_LISTENS);
                    if matches!(self.standing, Standing::Down(_)) {
                        self.stand(Standing::Looking);
                    }
                }
                Err(error) => {
                    self.due = now + self.backoff.ended(Duration::ZERO);
                    shared.remark(format!("{}: the supplicant cannot be started: {error}", self.card));
                }
            },
            (Some(process), _) if self.heard.elapsed() > PATIENCE => {
                console::say(&format!("{}: the supplicant says nothing and is ended", self.card));
                process.kill();
                (self.heard, self.due) = (now, now + ASKED_EVERY);
            }
            (Some(_), Some(control)) => {
                control.ask();
                self.due = now + ASKED_EVERY;
            }
            (Some(_), None) => {
                self.control = Control::attach(&self.card).ok();
                self.due = now + UNTIL_IT_LISTENS;
            }
        }
    }

    fn hear(&mut self, word: Word) {
        let now = Instant::now();
        match word {
            Word::Joined(id) => {
                self.misses = 0;
                self.backoff = Backoff::new();
                let name = self.name(id);
                self.stand(Standing::Joined(name));
            }
            Word::Left if matches!(self.standing, Standing::Joined(_)) => self.stand(Standing::Looking),
            // Which network it was comes next.
            Word::Rejected(refusal) => self.refusal = Some(refusal),
            Word::LeftAlone(id, refusal) => {
                if let Some(refusal) = refusal.or(self.refusal.take()) {
                    self.refuse(self.name(id), refusal, now);
                }
            }
            Word::NotFound => self.miss(),
            Word::Left | Word::Other => {}
        }
    }

    /// Of one network, what is known of its password matters more than the rest.
    fn refuse(&mut self, name: String, refusal: Refusal, now: Instant) {
        let is_known = matches!(&self.standing, Standing::Refused(known, Refusal::Password, at)
            if *known == name && at.elapsed() < REFUSAL_HOLDS);
        if refusal == Refusal::Password || !is_known {
            self.stand(Standing::Refused(name, refusal, now));
        }
    }

    fn miss(&mut self) {
        let holds = match &self.standing {
            Standing::Refused(_, _, at) => at.elapsed() < REFUSAL_HOLDS,
            Standing::Joined(_) => true,
            _ => false,
        };
        self.misses = self.misses.saturating_add(1);
        if !holds && self.misses >= MISSES {
            self.stand(Standing::NotFound);
        }
    }

    /// A network by its number in the configuration.
    fn name(&self, id: usize) -> String {
        self.networks.get(id).map_or_else(|| "of another name".to_owned(), |network| network.ssid.clone())
    }

    fn stand(&mut self, standing: Standing) {
        let before = self.told();
        self.standing = standing;
        let now = self.told();
        if now != before {
            console::say(&format!("{}: {now}", self.card));
        }
    }

    /// How it stands, for people.
    pub(super) fn told(&self) -> String {
        let text = match &self.standing {
            Standing::Looking => "looks for its network".to_owned(),
            Standing::NotFound => match self.networks.as_slice() {
                [only] => format!("the network {} is not found", only.ssid),
                several => {
                    let names: Vec<_> = several.iter().map(|network| network.ssid.as_str()).collect();
                    format!("none of the networks {} is found", names.join(", "))
                }
            },
            Standing::Joined(name) => format!("has joined the network {name}"),
            Standing::Refused(name, Refusal::Password, _) => {
                format!("the network {name} refused the password")
            }
            Standing::Refused(name, Refusal::Device(status), _) => {
                // Cards that prove the password by themselves say no more than "failed" or "timed out".
                let doubt = if matches!(status, 1 | 16) { ": perhaps the password is wrong" } else { "" };
                format!("the network {name} refused this device (802.11 status {status}){doubt}")
            }
            Standing::Down(why) => why.clone(),
        };
        // Names come from whoever is near.
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// When [`Self::work`] has something to do of itself.
    pub(super) fn due(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// What wakes whoever waits.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let process = self.process.iter().map(Process::fd);
        process.chain(self.control.iter().map(Control::fd))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn radio(text: &str) -> Radio {
        Radio::new("wlan9", &toml::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn what_is_told_is_what_matters_to_an_owner() {
        let mut radio = radio("ssid = \"lab\"\npassword = \"very secret\"");
        assert_eq!(radio.told(), "looks for its network");
        radio.hear(Word::NotFound);
        assert_eq!(radio.told(), "looks for its network", "one look around may miss it");
        radio.hear(Word::NotFound);
        assert_eq!(radio.told(), "the network lab is not found");
        radio.hear(Word::LeftAlone(0, None));
        assert_eq!(radio.told(), "the network lab is not found", "it did not answer: nothing was refused");
        radio.hear(Word::LeftAlone(0, Some(Refusal::Password)));
        radio.hear(Word::NotFound);
        radio.hear(Word::Rejected(Refusal::Device(1)));
        radio.hear(Word::LeftAlone(0, None));
        assert_eq!(radio.told(), "the network lab refused the password");
        radio.hear(Word::Joined(0));
        assert_eq!(radio.told(), "has joined the network lab");
        radio.hear(Word::NotFound);
        assert_eq!(radio.told(), "has joined the network lab");
        radio.hear(Word::Left);
        assert_eq!(radio.told(), "looks for its network");
        radio.hear(Word::Rejected(Refusal::Device(17)));
        assert_eq!(radio.told(), "looks for its network", "it is not known yet which network it was");
        radio.hear(Word::LeftAlone(0, None));
        assert_eq!(radio.told(), "the network lab refused this device (802.11 status 17)");
        radio.hear(Word::Rejected(Refusal::Device(16)));
        radio.hear(Word::LeftAlone(0, None));
        assert!(radio.told().ends_with("status 16): perhaps the password is wrong"));
    }

    #[test]
    fn several_networks_and_strange_names_are_told() {
        let mut radio = radio("ssid = \"a\\u001b[2J\"\n[[network]]\nssid = \"b\"");
        radio.hear(Word::NotFound);
        radio.hear(Word::NotFound);
        assert_eq!(radio.told(), "none of the networks a [2J, b is found");
        radio.hear(Word::Rejected(Refusal::Password));
        radio.hear(Word::LeftAlone(1, None));
        assert_eq!(radio.told(), "the network b refused the password");
        radio.hear(Word::Joined(1));
        assert_eq!(radio.told(), "has joined the network b");
        radio.hear(Word::Joined(7));
        assert_eq!(radio.told(), "has joined the network of another name");
        assert!(Radio::new("wlan9", &toml::from_str("country = \"DE\"").unwrap()).is_none());
    }
}
