//! One network card: what is known of it, and what it does to have an address.

use std::{
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};

use super::{
    Ending,
    dhcp::{
        Lease,
        machine::{Action, Machine},
        socket::Socket,
    },
    netlink::{Netlink, Way},
    wifi::{self, Radio},
};
use crate::{
    console,
    device::{DeviceConfig, Interface},
    status::{self, Shared},
    sysfs,
};

const FOLDER: &str = "/sys/class/net";
/// Ethernet and what looks like it.
const ETHERNET: u32 = 1;
/// What a way out costs where nobody said.
const WIRED: u32 = 100;
const WIRELESS: u32 = 600;
const MOBILE: u32 = 700;
const METERED: u32 = 1000;

/// The moment that the machines' times count from.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A card in use.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) name: String,
    index: u32,
    /// Its place among the cards: ways out of equal cost would replace each other.
    pub(super) position: u32,
    /// The smaller, the better; differs from card to card: ways out of equal cost would replace each other.
    pub(super) cost: u32,
    metered: bool,
    link: bool,
    lease: Option<Lease>,
    by: By,
    /// What a wireless card needs beyond a wired one.
    radio: Option<Radio>,
}

#[derive(Debug)]
enum By {
    Dhcp { machine: Machine, socket: Socket },
    Owner { dns: Vec<IpAddr> },
}

/// The cards that are hardware, or what a virtual machine has for it: bridges and containers' cards are not ours.
pub(super) fn all() -> Vec<String> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().join("device").exists())
        .filter(|entry| sysfs::value(entry.path().join("type")) == Some(ETHERNET))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn file(name: &str, what: &str) -> PathBuf {
    Path::new(FOLDER).join(name).join(what)
}

// === impl Card ===

impl Card {
    /// Turns a card on; none where the owner does not want it, or it cannot be used (that is told). A wireless one is
    /// wanted by those who name a network.
    pub(super) fn begin(
        name: &str,
        position: u32,
        device: &DeviceConfig,
        kernel: &mut Netlink,
        shared: &Shared,
    ) -> Option<Self> {
        let index = sysfs::value(file(name, "ifindex"))?;
        let text = sysfs::text(file(name, "address"))?;
        let hardware = hardware(&text)?;
        let wanted = device.interface(name, &text);
        if wanted.off {
            return None;
        }
        let radio = match wifi::is_wireless(name) {
            true if !wifi::is_possible() => return None,
            true => Some(Radio::new(name, &device.wifi)?),
            false => None,
        };
        let host = shared.facts().hostname.clone();
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "2");
        if let Err(error) = kernel.up(index, None) {
            shared.remark(format!("the network card {name} does not come up: {error}"));
            return None;
        }
        let own = wanted.cost.unwrap_or_else(|| usual_cost(name, &wanted));
        let cost = own.saturating_add(position);
        let by = match wanted.address {
            Some(_) => By::Owner { dns: wanted.dns.clone() },
            None => match Socket::open(index) {
                Ok(socket) => By::Dhcp { machine: Machine::new(hardware, &host, seed(hardware)), socket },
                Err(error) => {
                    shared.remark(format!("{name}: no DHCP: {error}"));
                    return None;
                }
            },
        };
        let metered = wanted.metered;
        let name = name.to_owned();
        let mut card = Self { name, index, position, cost, metered, link: false, lease: None, by, radio };
        if let Some(prefix) = wanted.address {
            let lease = Lease { prefix, gateway: wanted.gateway, dns: Vec::new(), mtu: None, valid: None };
            card.apply(lease, kernel, shared);
        }
        Some(card)
    }

    /// Whether it is still the card that it was: one that was pulled and put back is another.
    pub(super) fn is_there(&self) -> bool {
        sysfs::value(file(&self.name, "ifindex")) == Some(self.index)
    }

    /// Looks whether there is a link. A wireless card has a carrier before the network has let it in.
    pub(super) fn look(&mut self) {
        let (file_name, sign) = if self.radio.is_some() { ("operstate", "up") } else { ("carrier", "1") };
        self.link = sysfs::text(file(&self.name, file_name)).as_deref() == Some(sign);
    }

    /// Does what has to be done now.
    pub(super) fn work(&mut self, kernel: &mut Netlink, shared: &Shared, ending: &Ending) {
        if let Some(radio) = &mut self.radio {
            radio.work(shared, ending);
        }
        let By::Dhcp { machine, socket } = &mut self.by else { return };
        let now = BEGUN.elapsed();
        let mut actions = machine.link(now, self.link);
        // Bounded: whoever floods us shall not keep us from our other cards.
        for packet in std::iter::from_fn(|| socket.receive()).take(64) {
            actions.extend(machine.receive(now, &packet));
        }
        actions.extend(machine.wake(now));
        for action in actions {
            self.carry_out(action, kernel, shared);
        }
    }

    fn carry_out(&mut self, action: Action, kernel: &mut Netlink, shared: &Shared) {
        let By::Dhcp { socket, .. } = &mut self.by else { return };
        // What is not sent is sent again, like what is lost on the way.
        match action {
            Action::Broadcast(message) => drop(socket.broadcast(&message)),
            Action::Unicast { from, to, message } => drop(socket.unicast(from, to, &message)),
            Action::Apply(lease) => {
                let own = lease.prefix.address;
                self.apply(lease, kernel, shared);
                if let By::Dhcp { socket, .. } = &mut self.by {
                    let _ = socket.hold(Some(own));
                }
            }
            Action::Withdraw => {
                let _ = socket.hold(None);
                self.withdraw(kernel);
                console::say(&format!("{}: the address is not ours any more", self.name));
            }
        }
    }

    fn apply(&mut self, lease: Lease, kernel: &mut Netlink, shared: &Shared) {
        if self.lease.as_ref().is_some_and(|old| old.prefix != lease.prefix || old.gateway != lease.gateway) {
            self.withdraw(kernel);
        }
        let mtu = lease.mtu.map(u32::from);
        let mut done = kernel.add(self.index, lease.prefix, self.cost, lease.valid);
        if mtu.is_some() {
            // A card that cannot do it keeps its own.
            let _ = kernel.up(self.index, mtu);
        }
        if let (Ok(()), Some(way)) = (&done, self.way(&lease)) {
            done = kernel.add_way(way);
        }
        if let Err(error) = done {
            shared.remark(format!(
                "{}: the address {} cannot be set: {error}",
                self.name, lease.prefix.address
            ));
        }
        self.lease = Some(lease);
    }

    fn withdraw(&mut self, kernel: &mut Netlink) {
        if let Some(lease) = self.lease.take() {
            // The kernel may have been first: the lease's time is known to it.
            if let Some(way) = self.way(&lease) {
                let _ = kernel.remove_way(way);
            }
            let _ = kernel.remove(self.index, lease.prefix);
        }
    }

    fn way(&self, lease: &Lease) -> Option<Way> {
        lease.gateway.map(|gateway| Way { card: self.index, gateway, cost: self.cost })
    }

    /// When [`Self::work`] has something to do of itself.
    pub(super) fn due(&self) -> Option<Duration> {
        let address = match &self.by {
            By::Dhcp { machine, .. } => machine.due().map(|due| due.saturating_sub(BEGUN.elapsed())),
            By::Owner { .. } => None,
        };
        address.into_iter().chain(self.radio.as_ref().map(Radio::due)).min()
    }

    /// What wakes whoever waits.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let address = match &self.by {
            By::Dhcp { socket, .. } => Some(socket.as_fd()),
            By::Owner { .. } => None,
        };
        address.into_iter().chain(self.radio.iter().flat_map(Radio::sockets))
    }

    pub(super) fn is_wireless(&self) -> bool {
        self.radio.is_some()
    }

    /// Its name servers, if it can reach them.
    pub(super) fn dns(&self) -> Vec<IpAddr> {
        match &self.by {
            By::Owner { dns } => dns.clone(),
            By::Dhcp { .. } => {
                let lent: &[Ipv4Addr] =
                    self.lease.as_ref().map(|lease| lease.dns.as_slice()).unwrap_or_default();
                lent.iter().copied().map(IpAddr::V4).collect()
            }
        }
    }

    pub(super) fn told(&self) -> status::Card {
        let own = self.lease.iter().map(|lease| format!("{}/{}", lease.prefix.address, lease.prefix.length));
        let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        status::Card {
            name: self.name.clone(),
            link: self.link,
            addresses: own.chain(ipv6(&table, &self.name)).collect(),
            gateway: self.lease.as_ref().and_then(|lease| lease.gateway).map(|gateway| gateway.to_string()),
            cost: self.cost,
            metered: self.metered,
            wifi: self.radio.as_ref().map(Radio::told),
            unanswered: matches!(&self.by, By::Dhcp { machine, .. } if machine.asks_in_vain()),
        }
    }
}

/// A card's global IPv6 addresses in `/proc/net/if_inet6`.
fn ipv6(table: &str, name: &str) -> Vec<String> {
    let one = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [address, _, length, scope, _, card] = fields.as_slice() else { return None };
        let is_global = *card == name && *scope == "00";
        let address = u128::from_str_radix(address, 16).ok().filter(|_| is_global)?;
        Some(format!("{}/{}", Ipv6Addr::from(address), u8::from_str_radix(length, 16).ok()?))
    };
    table.lines().filter_map(one).take(4).collect()
}

fn hardware(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// Two devices that start together shall not ask together.
fn seed(hardware: [u8; 6]) -> u64 {
    let mut random = [0; 8];
    let _ = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    let [a, b, c, d, e, f] = hardware;
    u64::from_ne_bytes(random) ^ u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn usual_cost(name: &str, wanted: &Interface) -> u32 {
    let kind = if name.starts_with("ww") {
        MOBILE
    } else if wifi::is_wireless(name) {
        WIRELESS
    } else {
        WIRED
    };
    kind + if wanted.metered { METERED } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_kinds_are_read() {
        assert_eq!(hardware("52:54:00:ab:CD:01"), Some([0x52, 0x54, 0, 0xab, 0xcd, 1]));
        assert_eq!((hardware("52:54:00"), hardware(""), hardware("x:y:z:1:2:3")), (None, None, None));
        let table = "fe800000000000005054 00fffe123456 02 40 20 80 eth0\n\
            fec00000000000005054000000123456 02 40 00 00 eth0\n\
            00000000000000000000000000000001 01 80 10 80 lo\n";
        assert_eq!(ipv6(table, "eth0"), ["fec0::5054:0:12:3456/64"]);
        assert!(ipv6(table, "eth1").is_empty());
    }

    #[test]
    fn what_costs_money_comes_last() {
        let metered = Interface { metered: true, ..Interface::default() };
        assert!(usual_cost("eth0", &Interface::default()) < usual_cost("wwan0", &Interface::default()));
        assert!(usual_cost("wwan0", &Interface::default()) < usual_cost("eth0", &metered));
    }
}
