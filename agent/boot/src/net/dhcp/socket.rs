//! DHCP's sockets: one below IP for a card that may have no address, which hears everything, and while there is an
//! address an ordinary one that speaks from it, and keeps the kernel from refusing the answers.

use std::{
    io, mem,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use super::packet;

const IP: u16 = 0x0800;
/// Nothing of DHCP is longer than a frame.
const LARGEST: usize = 2048;

/// A card's sockets.
#[derive(Debug)]
pub(in crate::net) struct Socket {
    raw: OwnedFd,
    card: u32,
    own: Option<(Ipv4Addr, UdpSocket)>,
}

// === impl Socket ===

impl Socket {
    pub(in crate::net) fn open(card: u32) -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: nothing is heard before the filter is in place and the card is chosen.
        // SAFETY: no memory is passed.
        let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let raw = unsafe { OwnedFd::from_raw_fd(raw) };
        filter(&raw)?;
        let address = link_address(card);
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
        // SAFETY: the address is whole, its length is its size, and it outlives the call.
        let done = unsafe { libc::bind(raw.as_raw_fd(), (&raw const address).cast(), length) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { raw, card, own: None }) }
    }

    /// The next packet that came in, if there is one.
    pub(in crate::net) fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; LARGEST];
        let length = nix::unistd::read(&self.raw, &mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Sends a message to everybody.
    pub(in crate::net) fn broadcast(&self, message: &[u8]) -> io::Result<()> {
        let packet = packet::wrap(message);
        let address = link_address(self.card);
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
        let to = (&raw const address).cast();
        // SAFETY: packet and address are whole, their lengths are their sizes, and they outlive the call.
        let sent = unsafe {
            libc::sendto(self.raw.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, to, length)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends a message from an address that is ours.
    pub(in crate::net) fn unicast(&mut self, from: Ipv4Addr, to: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        self.hold(Some(from))?;
        match &self.own {
            Some((_, socket)) => socket.send_to(message, (to, 67)).map(drop),
            None => Ok(()),
        }
    }

    /// Holds the port at an address, or lets it go.
    pub(in crate::net) fn hold(&mut self, address: Option<Ipv4Addr>) -> io::Result<()> {
        if self.own.as_ref().map(|(own, _)| *own) != address {
            self.own = None;
            if let Some(address) = address {
                let socket = UdpSocket::bind((address, 68))?;
                socket.set_nonblocking(true)?;
                self.own = Some((address, socket));
            }
        }
        if let Some((_, socket)) = &self.own {
            // Its packets were heard below.
            let mut buffer = [0; LARGEST];
            while socket.recv(&mut buffer).is_ok() {}
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// Everybody on the card's network.
fn link_address(card: u32) -> libc::sockaddr_ll {
    // SAFETY: it is made of numbers, for which zeros are values.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = IP.to_be();
    address.sll_ifindex = i32::try_from(card).unwrap_or_default();
    address.sll_halen = 6;
    address.sll_addr[..6].fill(255);
    address
}

/// Lets through what is UDP to port 68 and no fragment: a busy network must not wake PID 1.
fn filter(socket: &OwnedFd) -> io::Result<()> {
    let step = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(0x30, 0, 0, 9),
        step(0x15, 0, 6, 17),
        step(0x28, 0, 0, 6),
        step(0x45, 4, 0, 0x1fff),
        step(0xb1, 0, 0, 0),
        step(0x48, 0, 0, 2),
        step(0x15, 0, 1, 68),
        step(0x06, 0, 0, u32::MAX),
        step(0x06, 0, 0, 0),
    ];
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: the program is whole, says its length, and outlives the call, which copies it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
