//! The bytes of DHCP: messages (RFC 2131, 2132), and the IP and UDP around them that a machine without an address has
//! to make itself. Everything read comes from anybody in the network and is bounded by the frame that it came in.

use std::net::Ipv4Addr;

/// BOOTP's fixed part and the cookie.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Older servers drop what is shorter.
const SHORTEST: usize = 300;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// More than anybody offers.
const MOST_ADDRESSES: usize = 8;

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    Discover = 1,
    Request = 3,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Offer,
    Ack,
    Nak,
}

/// A client's message.
#[derive(Debug, Clone)]
pub(super) struct Query<'a> {
    pub(super) say: Say,
    pub(super) transaction: u32,
    pub(super) seconds: u16,
    pub(super) hardware: [u8; 6],
    pub(super) host: &'a str,
    /// The address that the client has, when it renews.
    pub(super) own: Option<Ipv4Addr>,
    /// The address that it wants.
    pub(super) wanted: Option<Ipv4Addr>,
    /// The server that it chose.
    pub(super) server: Option<Ipv4Addr>,
}

/// A server's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    pub(super) transaction: u32,
    pub(super) hardware: [u8; 6],
    pub(super) address: Ipv4Addr,
    pub(super) server: Option<Ipv4Addr>,
    pub(super) mask: Option<u32>,
    pub(super) routers: Vec<Ipv4Addr>,
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) mtu: Option<u16>,
    pub(super) lease: Option<u32>,
    pub(super) renew: Option<u32>,
    pub(super) rebind: Option<u32>,
}

// === impl Query ===

impl Query<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(self.transaction.to_be_bytes());
        bytes.extend(self.seconds.to_be_bytes());
        // Whoever has no address asks for answers to all: some drivers drop what is for an address not yet theirs.
        bytes.extend(if self.own.is_some() { [0, 0] } else { [0x80, 0] });
        bytes.extend(self.own.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        bytes.resize(28, 0);
        bytes.extend(self.hardware);
        bytes.resize(FIXED, 0);
        bytes.extend(COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            let length = value.len().min(255);
            bytes.extend([code, u8::try_from(length).unwrap_or(u8::MAX)]);
            bytes.extend(&value[..length]);
        };
        option(53, &[self.say as u8]);
        let mut identifier = vec![1];
        identifier.extend(self.hardware);
        option(61, &identifier);
        if let Some(wanted) = self.wanted {
            option(50, &wanted.octets());
        }
        if let Some(server) = self.server {
            option(54, &server.octets());
        }
        option(57, &1472u16.to_be_bytes());
        option(60, b"sosna");
        if !self.host.is_empty() {
            option(12, self.host.as_bytes());
        }
        // Mask, routers, name servers, MTU, lease, server, renewal, rebinding.
        option(55, &[1, 3, 6, 26, 51, 54, 58, 59]);
        bytes.push(255);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }
}

// === impl Reply ===

impl Reply {
    /// Reads a server's message; none for everything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        if fixed[..3] != [2, 1, 6] || bytes.get(FIXED..FIXED + 4)? != COOKIE {
            return None;
        }
        let options = Options::read(bytes)?;
        let kind = match options.get(53).as_slice() {
            [2] => Kind::Offer,
            [5] => Kind::Ack,
            [6] => Kind::Nak,
            _ => return None,
        };
        Some(Self {
            kind,
            transaction: u32::from_be_bytes(fixed[4..8].try_into().ok()?),
            hardware: fixed[28..34].try_into().ok()?,
            address: address(&fixed[16..20])?,
            server: address(&options.get(54)),
            mask: options.number(1),
            routers: options.addresses(3),
            dns: options.addresses(6),
            mtu: options.get(26).try_into().ok().map(u16::from_be_bytes),
            lease: options.number(51),
            renew: options.number(58),
            rebind: options.number(59),
        })
    }
}

/// A message's options: of each code all parts, one after the other (RFC 3396).
#[derive(Debug, Default)]
struct Options(Vec<(u8, Vec<u8>)>);

// === impl Options ===

impl Options {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        options.area(bytes.get(FIXED + 4..)?)?;
        // Some servers go on in the fields for a file's and a server's name.
        let more = options.get(52).first().copied().unwrap_or(0);
        if more & 1 != 0 {
            options.area(bytes.get(108..236)?)?;
        }
        if more & 2 != 0 {
            options.area(bytes.get(44..108)?)?;
        }
        Some(options)
    }

    fn area(&mut self, mut bytes: &[u8]) -> Option<()> {
        loop {
            match *bytes.first().unwrap_or(&255) {
                255 => return Some(()),
                0 => bytes = &bytes[1..],
                code => {
                    let length = usize::from(*bytes.get(1)?);
                    let value = bytes.get(2..2 + length)?;
                    self.0.push((code, value.to_vec()));
                    bytes = &bytes[2 + length..];
                }
            }
        }
    }

    fn get(&self, code: u8) -> Vec<u8> {
        self.0.iter().filter(|(c, _)| *c == code).flat_map(|(_, value)| value.iter().copied()).collect()
    }

    fn number(&self, code: u8) -> Option<u32> {
        self.get(code).try_into().ok().map(u32::from_be_bytes)
    }

    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        self.get(code).chunks(4).filter_map(address).filter(is_usable).take(MOST_ADDRESSES).collect()
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

/// Whether it can be a host's.
pub(super) fn is_usable(address: &Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast() && !address.is_loopback()
}

/// A message to everybody in IP and UDP.
pub(super) fn wrap(message: &[u8]) -> Vec<u8> {
    let length = |header: usize| u16::try_from(header + message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut ip = vec![0x45, 0x10];
    ip.extend(length(28));
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    let sum = checksum(&ip, 0);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = Vec::with_capacity(8 + message.len());
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(length(8));
    udp.extend([0, 0]);
    udp.extend(message);
    // Addresses, protocol and length count, too; 0 would say that there is no checksum.
    let pseudo = u32::from(u16::MAX) * 2 + 17 + u32::from(u16::from_be_bytes(length(8)));
    let sum = match checksum(&udp, pseudo) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    ip.extend(udp);
    ip
}

/// The message in an IP packet from a server to a client; none for everything else. UDP's checksum is not looked at:
/// within one machine, virtual cards leave it to nobody.
pub(super) fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < 20 || checksum(packet.get(..header)?, 0) != 0 {
        return None;
    }
    let number = |at: usize| packet.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let is_fragment = number(6)? & 0x3fff != 0;
    if packet[9] != 17 || is_fragment {
        return None;
    }
    let packet = packet.get(..usize::from(number(2)?))?;
    let ports = (number(header)?, number(header + 2)?);
    let end = header + usize::from(number(header + 4)?);
    if ports == (SERVER_PORT, CLIENT_PORT) { packet.get(header + 8..end) } else { None }
}

/// RFC 1071.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let sum = bytes.chunks(2).fold(start, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + u32::from(pair.get(1).copied().unwrap_or(0))
    });
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    /// What a server would say.
    pub(crate) fn reply(
        kind: u8,
        transaction: u32,
        hardware: [u8; 6],
        address: [u8; 4],
        options: &[(u8, &[u8])],
    ) -> Vec<u8> {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(transaction.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(address);
        bytes.resize(28, 0);
        bytes.extend(hardware);
        bytes.resize(FIXED, 0);
        bytes.extend(COOKIE);
        bytes.extend([53, 1, kind]);
        for (code, value) in options {
            bytes.extend([*code, u8::try_from(value.len()).unwrap()]);
            bytes.extend(*value);
        }
        bytes.push(255);
        bytes
    }

    fn query() -> Query<'static> {
        Query {
            say: Say::Discover,
            transaction: 0x0102_0304,
            seconds: 3,
            hardware: [0x52, 0x54, 0, 1, 2, 3],
            host: "lab-7",
            own: None,
            wanted: Some(Ipv4Addr::new(10, 0, 0, 9)),
            server: None,
        }
    }

    #[test]
    fn a_query_has_what_servers_look_for() {
        let bytes = query().encode();
        assert_eq!(bytes[..8], [1, 1, 6, 0, 1, 2, 3, 4]);
        assert_eq!(
            (bytes.len(), bytes[10], &bytes[28..34]),
            (SHORTEST, 0x80, [0x52, 0x54, 0, 1, 2, 3].as_slice())
        );
        let options = Options::read(&bytes).unwrap();
        assert_eq!(options.get(53), [1]);
        assert_eq!(options.get(12), b"lab-7");
        assert_eq!(options.get(50), [10, 0, 0, 9]);
        assert!(options.get(54).is_empty());
    }

    #[test]
    fn a_reply_is_read_with_long_and_displaced_options() {
        let dns = [&[1, 1, 1, 1][..], &[9, 9, 9, 9]];
        let mut bytes = reply(
            2,
            7,
            [1; 6],
            [10, 0, 2, 15],
            &[
                (1, &[255, 255, 255, 0]),
                (6, dns[0]),
                (6, dns[1]),
                (54, &[10, 0, 2, 2]),
                (51, &[0, 0, 1, 0]),
                (52, &[1]),
            ],
        );
        bytes[108..115].copy_from_slice(&[3, 4, 10, 0, 2, 2, 255]);
        let reply = Reply::decode(&bytes).unwrap();
        assert_eq!(reply.kind, Kind::Offer);
        assert_eq!((reply.mask, reply.lease), (Some(0xffff_ff00), Some(256)));
        assert_eq!(reply.dns, [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(9, 9, 9, 9)]);
        assert_eq!(reply.routers, [Ipv4Addr::new(10, 0, 2, 2)]);
    }

    #[test]
    fn what_is_no_reply_is_none() {
        let good = reply(2, 7, [1; 6], [10, 0, 2, 15], &[]);
        assert!(Reply::decode(&good).is_some());
        for length in 0..good.len() - 1 {
            let cut = Reply::decode(&good[..length]);
            // A missing end is forgiven, a missing kind is not.
            assert!(cut.is_none() || length >= FIXED + 7, "{length}");
        }
        assert!(Reply::decode(&query().encode()).is_none(), "a client's");
        assert!(Reply::decode(&reply(9, 7, [1; 6], [0; 4], &[])).is_none());
    }

    #[test]
    fn packets_are_wrapped_and_unwrapped() {
        let packet = wrap(b"hello");
        assert_eq!(checksum(&packet[..20], 0), 0);
        assert_eq!(unwrap(&packet), None, "a client's own");
        let mut answer = packet;
        answer[20..24].copy_from_slice(&[0, 67, 0, 68]);
        assert_eq!(unwrap(&answer), Some(b"hello".as_slice()));
        answer[6] = 0x20;
        assert_eq!(unwrap(&answer), None, "the header's checksum and a fragment");
        // The pseudo header is part of the sum.
        let packet = wrap(b"abc");
        let pseudo = [255, 255, 255, 255, 0, 17, 0, 11];
        assert_eq!(checksum(&[&pseudo[..], &packet[20..]].concat(), 0), 0);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0usize..300) {
            let _ = (Reply::decode(&bytes), unwrap(&bytes));
            let mut message = reply(2, 7, [1; 6], [10, 0, 2, 15], &[(52, &[3])]);
            message.splice(at.min(message.len()).., bytes);
            let _ = Reply::decode(&message);
        }
    }
}
