//! DHCP's decisions: what is sent when, what an answer means, when an address has to go. Knows neither clock nor
//! socket: times are since any fixed moment, and everything to be done is returned.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    Lease,
    packet::{Kind, Query, Reply, Say, is_usable},
};
use crate::device::Prefix;

const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// Requests without an answer before everything begins anew.
const REQUESTS: u32 = 4;
/// While renewing, questions are not closer than this (RFC 2131, 4.4.5).
const RENEWAL: Duration = Duration::from_secs(60);
/// A server that lends for less is understood to mean this.
const SHORTEST_LEASE: u32 = 30;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::net) enum Action {
    /// To everybody, from no address.
    Broadcast(Vec<u8>),
    /// To the server, from the address that it lent.
    Unicast { from: Ipv4Addr, to: Ipv4Addr, message: Vec<u8> },
    /// The card gets this, or keeps it for longer.
    Apply(Lease),
    /// The address is not ours any more.
    Withdraw,
}

/// One card's client.
#[derive(Debug)]
pub(in crate::net) struct Machine {
    hardware: [u8; 6],
    host: String,
    random: u64,
    transaction: u32,
    /// When this acquisition began.
    began: Duration,
    has_link: bool,
    state: State,
    /// When something is to be done without an answer.
    due: Option<Duration>,
    /// Tries in this state, and refusals in a row.
    tries: u32,
    refusals: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nobody has been asked.
    Init,
    Selecting,
    Requesting {
        server: Ipv4Addr,
        address: Ipv4Addr,
    },
    /// The cable came back: is the address still ours?
    Checking {
        held: Held,
    },
    Bound {
        held: Held,
    },
    Renewing {
        held: Held,
    },
    Rebinding {
        held: Held,
    },
}

/// A lease with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    lease: Lease,
    server: Ipv4Addr,
    /// None of these for a lease for ever.
    times: Option<Times>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    renew: Duration,
    rebind: Duration,
    end: Duration,
}

// === impl Machine ===

impl Machine {
    /// A client that waits for a link. `seed` differs from device to device.
    pub(in crate::net) fn new(hardware: [u8; 6], host: &str, seed: u64) -> Self {
        Self {
            hardware,
            host: host.to_owned(),
            random: seed | 1,
            transaction: 0,
            began: Duration::ZERO,
            has_link: false,
            state: State::Init,
            due: None,
            tries: 0,
            refusals: 0,
        }
    }

    /// Whether nobody has answered for so long that somebody should know: a quarter of a minute.
    pub(in crate::net) fn asks_in_vain(&self) -> bool {
        self.has_link && self.state == State::Selecting && self.tries > 3
    }

    /// When [`Self::wake`] is to be called.
    pub(in crate::net) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The link came or went. Without it nothing is asked; an address stays for as long as it was lent.
    pub(in crate::net) fn link(&mut self, now: Duration, is_there: bool) -> Vec<Action> {
        if self.has_link == is_there {
            return Vec::new();
        }
        self.has_link = is_there;
        if is_there {
            match self.held().cloned() {
                Some(held) => self.enter(now, State::Checking { held }),
                None => self.enter(now, State::Init),
            }
            self.wake(now)
        } else {
            self.due = self.held().and_then(|held| held.times).map(|times| times.end);
            Vec::new()
        }
    }

    /// A time has come.
    pub(in crate::net) fn wake(&mut self, now: Duration) -> Vec<Action> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        if let Some(times) = self.held().and_then(|held| held.times)
            && now >= times.end
        {
            self.enter(now, State::Init);
            let mut actions = vec![Action::Withdraw];
            if self.has_link {
                actions.extend(self.act(now));
            } else {
                self.due = None;
            }
            return actions;
        }
        self.act(now)
    }

    /// Does what the state asks for at its time.
    fn act(&mut self, now: Duration) -> Vec<Action> {
        match self.state.clone() {
            State::Init => {
                self.began = now;
                self.enter(now, State::Selecting);
                self.act(now)
            }
            State::Selecting => {
                if self.tries == 0 {
                    self.transaction = self.number();
                }
                self.wait(now);
                vec![Action::Broadcast(self.query(now, Say::Discover, None, None, None))]
            }
            State::Requesting { server, address } => {
                if self.tries >= REQUESTS {
                    self.enter(now, State::Init);
                    return self.act(now);
                }
                self.wait(now);
                vec![Action::Broadcast(self.query(now, Say::Request, None, Some(address), Some(server)))]
            }
            State::Checking { held } => {
                if self.tries >= 2 {
                    // Nobody says no: the lease holds (RFC 2131, 3.2). Its time to renew may have come meanwhile.
                    self.bind(now, held);
                    return if self.due.is_some_and(|due| due <= now) { self.act(now) } else { Vec::new() };
                }
                if self.tries == 0 {
                    self.transaction = self.number();
                    self.began = now;
                }
                self.wait(now);
                vec![Action::Broadcast(self.query(
                    now,
                    Say::Request,
                    None,
                    Some(held.lease.prefix.address),
                    None,
                ))]
            }
            State::Bound { held } => {
                self.transaction = self.number();
                self.began = now;
                self.enter(now, State::Renewing { held });
                self.act(now)
            }
            State::Renewing { held } => {
                let Some(times) = held.times else { return Vec::new() };
                if now >= times.rebind {
                    self.enter(now, State::Rebinding { held });
                    return self.act(now);
                }
                self.due = Some(next_renewal(now, times.rebind));
                let own = held.lease.prefix.address;
                let message = self.query(now, Say::Request, Some(own), None, None);
                vec![Action::Unicast { from: own, to: held.server, message }]
            }
            State::Rebinding { held } => {
                let Some(times) = held.times else { return Vec::new() };
                self.due = Some(next_renewal(now, times.end));
                vec![Action::Broadcast(self.query(
                    now,
                    Say::Request,
                    Some(held.lease.prefix.address),
                    None,
                    None,
                ))]
            }
        }
    }

    /// A message from the network.
    pub(in crate::net) fn receive(&mut self, now: Duration, packet: &[u8]) -> Vec<Action> {
        let Some(reply) = super::packet::unwrap(packet).and_then(Reply::decode) else { return Vec::new() };
        if reply.transaction != self.transaction || reply.hardware != self.hardware || !self.has_link {
            return Vec::new();
        }
        match (self.state.clone(), reply.kind) {
            (State::Selecting, Kind::Offer) => {
                let Some(server) = reply.server.filter(|_| is_usable(&reply.address)) else {
                    return Vec::new();
                };
                self.enter(now, State::Requesting { server, address: reply.address });
                self.act(now)
            }
            (State::Requesting { server, address }, Kind::Ack)
                if reply.server == Some(server) && reply.address == address =>
            {
                self.accept(now, &reply, server)
            }
            (State::Checking { held } | State::Renewing { held } | State::Rebinding { held }, Kind::Ack)
                if is_usable(&reply.address) =>
            {
                let server = reply.server.unwrap_or(held.server);
                let mut actions = Vec::new();
                if reply.address != held.lease.prefix.address {
                    actions.push(Action::Withdraw);
                }
                actions.extend(self.accept(now, &reply, server));
                actions
            }
            (State::Requesting { server, .. }, Kind::Nak) if reply.server.is_none_or(|s| s == server) => {
                self.refused(now);
                Vec::new()
            }
            (State::Checking { .. } | State::Renewing { .. } | State::Rebinding { .. }, Kind::Nak) => {
                self.refused(now);
                vec![Action::Withdraw]
            }
            _ => Vec::new(),
        }
    }

    fn accept(&mut self, now: Duration, reply: &Reply, server: Ipv4Addr) -> Vec<Action> {
        self.refusals = 0;
        let held = Held { lease: lease(reply), server, times: times(now, reply) };
        let lease = held.lease.clone();
        self.bind(now, held);
        vec![Action::Apply(lease)]
    }

    fn bind(&mut self, now: Duration, held: Held) {
        self.due = held.times.map(|times| times.renew.max(now));
        self.tries = 0;
        self.state = State::Bound { held };
    }

    /// Begins anew, but not in a circle without a pause.
    fn refused(&mut self, now: Duration) {
        let pause = (FIRST_WAIT / 2 * 2u32.saturating_pow(self.refusals.min(6))).min(LONGEST_WAIT);
        self.refusals += 1;
        self.enter(now, State::Init);
        self.due = Some(now + pause);
    }

    fn enter(&mut self, now: Duration, state: State) {
        self.state = state;
        self.tries = 0;
        self.due = Some(now);
    }

    /// 2, 4, 8 … 64 seconds, each up to a second more or less: devices that lost power together ask apart.
    fn wait(&mut self, now: Duration) {
        let wait = (FIRST_WAIT * 2u32.saturating_pow(self.tries.min(6))).min(LONGEST_WAIT);
        let spread = Duration::from_millis(u64::from(self.number() % 2000));
        self.tries += 1;
        self.due = Some(now + wait + spread - Duration::from_secs(1));
    }

    fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Checking { held }
            | State::Bound { held }
            | State::Renewing { held }
            | State::Rebinding { held } => Some(held),
            _ => None,
        }
    }

    fn query(
        &self,
        now: Duration,
        say: Say,
        own: Option<Ipv4Addr>,
        wanted: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
    ) -> Vec<u8> {
        let seconds = u16::try_from(now.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX);
        let (transaction, hardware, host) = (self.transaction, self.hardware, self.host.as_str());
        Query { say, transaction, seconds, hardware, host, own, wanted, server }.encode()
    }

    /// A transaction's number or a pause; not for secrets (xorshift64).
    fn number(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random >> 32).unwrap_or(0)
    }
}

/// Half of what is left, but not too often, and not beyond it.
fn next_renewal(now: Duration, end: Duration) -> Duration {
    let left = end.saturating_sub(now);
    now + (left / 2).max(RENEWAL).min(left).max(Duration::from_secs(1))
}

fn lease(reply: &Reply) -> Lease {
    // A mask with holes counts as none.
    let length =
        reply.mask.filter(|mask| mask.leading_ones() + mask.trailing_zeros() == 32).map(u32::leading_ones);
    let length =
        length.and_then(|length| u8::try_from(length).ok()).filter(|l| (1..=32).contains(l)).unwrap_or(24);
    Lease {
        prefix: Prefix { address: reply.address, length },
        gateway: reply.routers.first().copied(),
        dns: reply.dns.clone(),
        mtu: reply.mtu.filter(|mtu| (576..=9000).contains(mtu)),
        valid: seconds(reply).map(|seconds| Duration::from_secs(u64::from(seconds))),
    }
}

/// None for ever.
fn seconds(reply: &Reply) -> Option<u32> {
    let seconds = reply.lease.unwrap_or(3600).max(SHORTEST_LEASE);
    (seconds != u32::MAX).then_some(seconds)
}

fn times(now: Duration, reply: &Reply) -> Option<Times> {
    let lease = u64::from(seconds(reply)?);
    let default = (lease / 2, lease * 7 / 8);
    let asked = (reply.renew.map_or(default.0, u64::from), reply.rebind.map_or(default.1, u64::from));
    // A server's times count if they are in order.
    let (renew, rebind) = if asked.0 > 0 && asked.0 < asked.1 && asked.1 < lease { asked } else { default };
    let at = |seconds| now + Duration::from_secs(seconds);
    Some(Times { renew: at(renew), rebind: at(rebind), end: at(lease) })
}

#[cfg(test)]
mod tests;
