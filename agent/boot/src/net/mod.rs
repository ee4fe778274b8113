//! The network: every wired card that the machine has, and the wireless ones where the owner names a network; by DHCP
//! or with the owner's fixed address; IPv6 by the kernel from what routers announce; name servers in `/run/resolv.conf`. One thread for all, which never ends: a network that
//! is not there today may be there tomorrow.

mod card;
mod dhcp;
mod netlink;
pub(crate) mod wifi;

use std::{
    fs,
    net::IpAddr,
    os::fd::AsFd as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use self::{
    card::Card,
    netlink::{Changes, Netlink},
};
use crate::{
    clock,
    device::DeviceConfig,
    file,
    status::{self, Shared},
    system,
};

const RESOLV: &str = "/run/resolv.conf";
/// Programs read no more of them.
const MOST_SERVERS: usize = 3;
/// The heart beats at least so often.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Cards on a slow bus may take so long to appear, and a cable to be noticed.
const APPEAR: Duration = Duration::from_secs(20);
/// Cards are looked for again so often, should the kernel's word be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A wireless card may come late: its firmware is read first.
const WAIT_FOR_RADIO: Duration = Duration::from_secs(60);

/// Whether the network's thread is alive, and whether it is still to start anybody.
#[derive(Debug, Clone)]
pub struct Pulse {
    begun: Instant,
    beat: Arc<AtomicU64>,
    ending: Ending,
}

/// Whether the machine's end is near: then nobody is started any more.
#[derive(Debug, Clone, Default)]
struct Ending(Arc<AtomicBool>);

/// What the agent reads about the network's cost.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// The card that is the way out.
    default: Option<&'a str>,
    /// Whether its traffic costs money.
    metered: bool,
    cards: &'a [status::Card],
}

// === impl Pulse ===

impl Pulse {
    /// How long ago the thread was last known to be alive.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.beat.load(Ordering::Relaxed)))
    }

    /// The machine's end is near: who ends now is not started again.
    pub fn end(&self) {
        self.ending.0.store(true, Ordering::Relaxed);
    }

    fn beat(&self) {
        self.beat
            .store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

// === impl Ending ===

impl Ending {
    fn is_near(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts the network and goes on.
#[must_use]
pub fn start(device: &DeviceConfig, shared: &Shared) -> Pulse {
    let pulse = Pulse { begun: Instant::now(), beat: Arc::default(), ending: Ending::default() };
    let network = Network {
        device: device.clone(),
        shared: shared.clone(),
        pulse: pulse.clone(),
        cards: Vec::new(),
        told: None,
        radio_looked_for: false,
        begun: Instant::now(),
    };
    let started =
        thread::Builder::new().name("network".into()).stack_size(256 * 1024).spawn(move || network.run());
    if let Err(error) = started {
        shared.remark(format!("there is no network: its thread does not start: {error}"));
    }
    pulse
}

struct Network {
    device: DeviceConfig,
    shared: Shared,
    pulse: Pulse,
    cards: Vec<Card>,
    /// What was told last, so that files are written when something changes.
    told: Option<(Vec<status::Card>, Vec<IpAddr>)>,
    /// Whether a wireless card was found or missed.
    radio_looked_for: bool,
    begun: Instant,
}

// === impl Network ===

impl Network {
    fn run(mut self) {
        settle_ipv6();
        // Both are there in every kernel that has a network at all.
        let (mut kernel, changes) = loop {
            match Netlink::open().and_then(|kernel| Ok((kernel, Changes::listen()?))) {
                Ok(both) => break both,
                Err(error) => {
                    self.shared
                        .remark(format!("there is no network: the kernel does not talk about it: {error}"));
                    self.pulse.beat();
                    thread::sleep(LONGEST_SLEEP);
                }
            }
        };
        if let Err(error) = kernel.up(1, None) {
            self.shared.remark(format!("the loopback card does not come up: {error}"));
        }
        let mut looked = None::<Instant>;
        loop {
            self.pulse.beat();
            if changes.take() || looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN) {
                looked = Some(Instant::now());
                self.look(&mut kernel);
            }
            for card in &mut self.cards {
                card.work(&mut kernel, &self.shared, &self.pulse.ending);
            }
            self.miss_radio();
            self.tell();
            let due =
                self.cards.iter().filter_map(Card::due).min().unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
            let mut all: Vec<_> = self
                .cards
                .iter()
                .flat_map(Card::sockets)
                .map(|s| PollFd::new(s, PollFlags::POLLIN))
                .collect();
            all.push(PollFd::new(changes.as_fd(), PollFlags::POLLIN));
            let timeout = u16::try_from(due.as_millis()).unwrap_or(u16::MAX).saturating_add(1);
            let _ = poll(&mut all, PollTimeout::from(timeout));
        }
    }

    /// Finds new cards, leaves out those that have gone, and notes who has a link.
    fn look(&mut self, kernel: &mut Netlink) {
        let names = card::all();
        self.cards.retain(Card::is_there);
        for name in names {
            if self.cards.iter().any(|card| card.name == name) {
                continue;
            }
            let is_free = |place: &u32| !self.cards.iter().any(|card| card.position == *place);
            let position = (0..).find(is_free).unwrap_or_default();
            if let Some(card) = Card::begin(&name, position, &self.device, kernel, &self.shared) {
                self.cards.push(card);
            }
        }
        for card in &mut self.cards {
            card.look();
        }
    }

    /// Says it once where the owner names a network and nothing here can join it.
    fn miss_radio(&mut self) {
        if self.radio_looked_for || self.device.wifi.usable().is_empty() {
            return;
        }
        if !wifi::is_possible() {
            self.radio_looked_for = true;
            self.shared.remark("this image has no wireless parts: `wifi` in device.toml has no effect");
        } else if self.cards.iter().any(Card::is_wireless) {
            self.radio_looked_for = true;
        } else if self.pulse.begun.elapsed() >= WAIT_FOR_RADIO {
            self.radio_looked_for = true;
            self.shared.remark(
                "no wireless card was found: `wifi` in device.toml has no effect, unless one is plugged in",
            );
        }
    }

    /// Tells programs and people what has changed.
    fn tell(&mut self) {
        let mut cards: Vec<_> = self.cards.iter().map(Card::told).collect();
        cards.sort_by_key(|card| card.cost);
        let mut by_cost: Vec<&Card> = self.cards.iter().collect();
        by_cost.sort_by_key(|card| card.cost);
        let mut servers = self.device.network.dns.clone();
        for server in by_cost.iter().flat_map(|card| card.dns()) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers.truncate(MOST_SERVERS);
        self.shared.facts().has_settled = self.begun.elapsed() >= APPEAR;
        let now = Some((cards.clone(), servers.clone()));
        if self.told == now {
            return;
        }
        let default = cards.iter().find(|card| card.gateway.is_some() && card.link);
        let told = Told {
            default: default.map(|card| card.name.as_str()),
            metered: default.is_some_and(|card| card.metered),
            cards: &cards,
        };
        let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        // Who waits for a change of the network looks names up next.
        let written = file::write_whole(Path::new(RESOLV), text.as_bytes(), 0o644)
            .and_then(|()| serde_json::to_vec(&told).map_err(std::io::Error::other))
            .and_then(|told| file::write_whole(Path::new(system::NETWORK), &told, 0o644));
        if let Err(error) = written {
            self.shared.remark(format!("what the network is like cannot be told: {error}"));
        }
        let mut facts = self.shared.facts();
        if default.is_some() && facts.times.network.is_none() {
            facts.times.network = Some(clock::since_start_ms());
        }
        facts.network.clone_from(&cards);
        drop(facts);
        self.told = now;
    }
}

/// Routers' announcements count, also where containers' traffic is forwarded.
fn settle_ipv6() {
    for which in ["all", "default"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/accept_ra"), "2");
    }
}
