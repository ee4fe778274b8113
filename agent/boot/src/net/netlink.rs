//! The few words of rtnetlink that a device needs: cards up, addresses and ways out set and taken away
//! (rtnetlink(7)). By hand, because the crates for all of it are half a megabyte of program.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::device::Prefix;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
/// NLM_F_REQUEST and NLM_F_ACK; NLM_F_CREATE and NLM_F_REPLACE.
const ASK: u16 = 0x1 | 0x4;
const PUT: u16 = ASK | 0x400 | 0x100;
const HEADER: usize = 16;
/// The kernel answers at once.
const PATIENCE: i64 = 2;

/// A conversation with the kernel.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) card: u32,
    pub(super) gateway: Ipv4Addr,
    pub(super) cost: u32,
}

/// A request under construction.
#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
}

// === impl Netlink ===

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = open(0)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Turns a card on; with `mtu`, that is set, too.
    pub(super) fn up(&mut self, card: u32, mtu: Option<u32>) -> io::Result<()> {
        const UP: u32 = 1;
        let mut request = Request::new(NEW_LINK, ASK);
        request.put(&[0; 4]).put(&card.to_ne_bytes()).put(&UP.to_ne_bytes()).put(&UP.to_ne_bytes());
        if let Some(mtu) = mtu {
            request.attribute(4, &mtu.to_ne_bytes());
        }
        self.ask(request)
    }

    /// Gives a card an address for `valid`, or for ever: the kernel takes it away by itself when nobody renews it.
    pub(super) fn add(
        &mut self,
        card: u32,
        prefix: Prefix,
        cost: u32,
        valid: Option<Duration>,
    ) -> io::Result<()> {
        let mut request = address(NEW_ADDRESS, PUT, card, prefix);
        let seconds = valid.map_or(u32::MAX, |valid| u32::try_from(valid.as_secs()).unwrap_or(u32::MAX));
        let times = [seconds, seconds, 0, 0].map(u32::to_ne_bytes).concat();
        request
            .attribute(4, &broadcast(prefix).octets())
            .attribute(6, &times)
            .attribute(9, &cost.to_ne_bytes());
        self.ask(request)
    }

    pub(super) fn remove(&mut self, card: u32, prefix: Prefix) -> io::Result<()> {
        self.ask(address(DELETE_ADDRESS, ASK, card, prefix))
    }

    pub(super) fn add_way(&mut self, way: Way) -> io::Result<()> {
        self.ask(route(NEW_ROUTE, PUT, way))
    }

    pub(super) fn remove_way(&mut self, way: Way) -> io::Result<()> {
        self.ask(route(DELETE_ROUTE, ASK, way))
    }

    fn ask(&mut self, request: Request) -> io::Result<()> {
        self.sequence += 1;
        let bytes = request.finish(self.sequence);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            if let Some(done) = acknowledged(&answer[..length], self.sequence) {
                return done;
            }
        }
    }
}

/// The kernel's word on request `sequence`, if it is in this answer.
fn acknowledged(answer: &[u8], sequence: u32) -> Option<io::Result<()>> {
    const ERROR: u16 = 2;
    let word = |at: usize| answer.get(at..at + 4).map(|b| [b[0], b[1], b[2], b[3]]);
    let kind = answer.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]))?;
    if kind != ERROR || u32::from_ne_bytes(word(8)?) != sequence {
        return None;
    }
    match i32::from_ne_bytes(word(HEADER)?) {
        0 => Some(Ok(())),
        error => Some(Err(io::Error::from_raw_os_error(error.wrapping_neg()))),
    }
}

fn address(kind: u16, flags: u16, card: u32, prefix: Prefix) -> Request {
    let mut request = Request::new(kind, flags);
    let octets = prefix.address.octets();
    request
        .put(&[2, prefix.length, 0, 0])
        .put(&card.to_ne_bytes())
        .attribute(2, &octets)
        .attribute(1, &octets);
    request
}

/// The default route of the main table. The gateway need not be within the card's own network: some providers hand
/// out single addresses.
fn route(kind: u16, flags: u16, way: Way) -> Request {
    const MAIN: u8 = 254;
    const DHCP: u8 = 16;
    const ON_LINK: u32 = 4;
    let mut request = Request::new(kind, flags);
    request.put(&[2, 0, 0, 0, MAIN, DHCP, 0, 1]).put(&ON_LINK.to_ne_bytes());
    request.attribute(5, &way.gateway.octets());
    request.attribute(4, &way.card.to_ne_bytes()).attribute(6, &way.cost.to_ne_bytes());
    request
}

fn broadcast(prefix: Prefix) -> Ipv4Addr {
    let host = u32::MAX.checked_shr(u32::from(prefix.length)).unwrap_or(0);
    Ipv4Addr::from(u32::from(prefix.address) | host)
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

// === impl Request ===

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.put(&length.to_ne_bytes()).put(&kind.to_ne_bytes()).put(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// Tells that something about cards has changed; what, is looked up.
#[derive(Debug)]
pub(super) struct Changes {
    socket: OwnedFd,
}

// === impl Changes ===

impl Changes {
    pub(super) fn listen() -> io::Result<Self> {
        const LINK: u32 = 0x1;
        const IPV6_ADDRESS: u32 = 0x100;
        Ok(Self { socket: open(LINK | IPV6_ADDRESS)? })
    }

    /// Whether there was news since the last call. An overflow is news, too.
    pub(super) fn take(&self) -> bool {
        let mut bytes = [0; 8192];
        let mut any = false;
        loop {
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(nix::errno::Errno::ENOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let prefix = Prefix { address: Ipv4Addr::new(10, 0, 2, 15), length: 24 };
        let bytes = address(NEW_ADDRESS, PUT, 7, prefix).finish(3);
        assert_eq!(bytes.len(), 16 + 8 + 8 + 8);
        assert_eq!(bytes[..4], 40u32.to_ne_bytes());
        assert_eq!((bytes[16], bytes[17], bytes[20]), (2, 24, 7));
        assert_eq!(bytes[24..32], [8, 0, 2, 0, 10, 0, 2, 15]);
        let way = Way { card: 7, gateway: Ipv4Addr::new(10, 0, 2, 2), cost: 100 };
        let bytes = route(NEW_ROUTE, PUT, way).finish(4);
        assert_eq!(bytes.len(), 16 + 12 + 8 + 8 + 8);
        assert_eq!(bytes[28..36], [8, 0, 5, 0, 10, 0, 2, 2]);
    }

    /// In a network of its own, on the loopback card: the only one there.
    #[test]
    fn a_kernel_takes_addresses_again_and_gives_them_back() {
        let test = "a_kernel_takes_addresses_again_and_gives_them_back";
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED {test}: no network of its own: {error}");
            return;
        }
        let can_bind = || std::net::UdpSocket::bind("10.9.8.7:0").is_ok();
        let prefix = Prefix { address: Ipv4Addr::new(10, 9, 8, 7), length: 24 };
        let mut kernel = Netlink::open().unwrap();
        let changes = Changes::listen().unwrap();
        assert!(!changes.take());
        kernel.up(1, Some(1400)).unwrap();
        assert!(changes.take() && !changes.take());
        assert!(!can_bind());
        kernel.add(1, prefix, 100, Some(Duration::from_secs(300))).unwrap();
        assert!(can_bind());
        // A renewed lease.
        kernel.add(1, prefix, 100, Some(Duration::from_secs(1))).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while can_bind() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(!can_bind(), "the kernel takes back what nobody renewed");
        assert!(kernel.remove(1, prefix).is_err(), "it is gone");
        kernel.add(1, prefix, 100, None).unwrap();
        kernel.remove(1, prefix).unwrap();
        assert!(!can_bind());
        let way = Way { card: 77, gateway: Ipv4Addr::new(10, 9, 8, 1), cost: 5 };
        assert_eq!(kernel.add_way(way).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn answers_are_matched() {
        let mut answer = vec![36, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0];
        answer.extend((-17i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer, 5).unwrap().unwrap_err().raw_os_error(), Some(17));
        assert!(acknowledged(&answer, 6).is_none());
        answer[16..20].fill(0);
        assert!(acknowledged(&answer, 5).unwrap().is_ok());
        assert!(acknowledged(&answer[..17], 5).is_none());
        assert!(acknowledged(&[], 5).is_none());
    }

    #[test]
    fn a_broadcast_address_ends_the_network() {
        let at = |length| broadcast(Prefix { address: Ipv4Addr::new(192, 168, 5, 9), length });
        assert_eq!(at(24), Ipv4Addr::new(192, 168, 5, 255));
        assert_eq!(at(32), Ipv4Addr::new(192, 168, 5, 9));
        assert_eq!(at(1), Ipv4Addr::new(255, 255, 255, 255));
    }
}
