//! Enters connections that nobody has made into the kernel's table of connections (ctnetlink,
//! `linux/netfilter/nfnetlink_conntrack.h`), which is how its owner is kept from making more.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};

/// `NFNL_SUBSYS_CTNETLINK`, and what is asked of it.
const NEW: u16 = 0x0100;
const DELETE: u16 = 0x0102;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const EXCLUSIVE_CREATE: u16 = 0x200 | 0x400;
const NESTED: u16 = 0x8000;
const UDP: u8 = 17;
/// How long an entry would last, in seconds.
const LIFE: u32 = 60;

/// Makes `count` entries.
pub(super) fn fill(count: u32) -> io::Result<()> {
    let socket = Socket::open()?;
    let life = attribute(7, &LIFE.to_be_bytes());
    (0..count).try_for_each(|n| socket.ask(NEW, EXCLUSIVE_CREATE, n, &[tuples(n), life.clone()].concat()))
}

/// Removes them again; those that are not there are no error.
pub(super) fn clear(count: u32) -> io::Result<()> {
    let socket = Socket::open()?;
    (0..count).try_for_each(|n| match socket.ask(DELETE, 0, n, &tuples(n)) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    })
}

struct Socket(OwnedFd);

impl Socket {
    fn open() -> io::Result<Self> {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
        Ok(Self(socket::socket(AddressFamily::Netlink, kind.0, kind.1, kind.2)?))
    }

    fn ask(&self, what: u16, flags: u16, number: u32, attributes: &[u8]) -> io::Result<()> {
        // nfgenmsg: IPv4, version 0.
        let length = u32::try_from(16 + 4 + attributes.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(what.to_ne_bytes());
        message.extend((REQUEST | ACKNOWLEDGE | flags).to_ne_bytes());
        message.extend(number.to_ne_bytes());
        message.extend([0; 4]);
        message.extend([2, 0, 0, 0]);
        message.extend(attributes);
        socket::send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0_u8; 1024];
        let length = socket::recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let code =
            answer[..length].get(16..20).map_or(0, |code| i32::from_ne_bytes(code.try_into().unwrap()));
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
    }
}

/// One connection, there and back, between addresses of TEST-NET-2 (RFC 5737).
fn tuples(n: u32) -> Vec<u8> {
    let port = u16::try_from(1024 + n).unwrap();
    let (from, to) = (([198, 51, 100, 1], port), ([198, 51, 100, 2], 53));
    [attribute(1 | NESTED, &tuple(from, to)), attribute(2 | NESTED, &tuple(to, from))].concat()
}

type End = ([u8; 4], u16);

fn tuple((source, source_port): End, (target, target_port): End) -> Vec<u8> {
    let addresses = [attribute(1, &source), attribute(2, &target)].concat();
    let ports = [
        attribute(1, &[UDP]),
        attribute(2, &source_port.to_be_bytes()),
        attribute(3, &target_port.to_be_bytes()),
    ];
    [attribute(1 | NESTED, &addresses), attribute(2 | NESTED, &ports.concat())].concat()
}

/// A netlink attribute: length, kind, content, filled up to four bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + content.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
