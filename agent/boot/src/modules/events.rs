//! What the kernel says about devices that come (`NETLINK_KOBJECT_UEVENT`): each message is `add@/devices/…` and
//! `KEY=value` texts, every one with its zero. Only the kernel is believed.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket},
};

/// The kernel's own messages; the second group is udev's.
const KERNEL: u32 = 1;
/// What the kernel writes at most (`UEVENT_BUFFER_SIZE` and the path in front).
const LONGEST: usize = 8192;
/// Of one burst; what is more is taken at the next call.
const MOST: usize = 256;

/// The kernel's messages about devices.
#[derive(Debug)]
pub struct Events {
    socket: OwnedFd,
}

/// What came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// By which names new devices ask for a driver.
    pub(super) aliases: Vec<String>,
    /// Messages were lost, or do not say all: everything must be looked at.
    pub(super) look: bool,
}

// === impl Events ===

impl Events {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the kernel has no such messages for us.
    pub fn listen() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkKObjectUEvent)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
        Ok(Self { socket })
    }

    /// Waits for news.
    pub(super) fn wait(&self) -> io::Result<News> {
        let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok(News::default()),
            other => other?,
        };
        let mut news = News::default();
        let mut bytes = [0; LONGEST];
        for _ in 0..MOST {
            // A message of another process has its number as the sender.
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut bytes) {
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    news.take(bytes.get(..length).unwrap_or_default());
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => news.look = true,
                Err(error) => return Err(error.into()),
            }
            let mut more = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut more, PollTimeout::ZERO) != Ok(1) {
                break;
            }
        }
        Ok(news)
    }
}

// === impl News ===

impl News {
    fn take(&mut self, message: &[u8]) {
        let mut parts = message.split(|byte| *byte == 0);
        // `bind` and `change` come for devices that were added before.
        if !parts.next().unwrap_or_default().starts_with(b"add@") {
            return;
        }
        for part in parts {
            if let Some(alias) = part.strip_prefix(b"MODALIAS=") {
                self.aliases.extend(str::from_utf8(alias).ok().map(str::to_owned));
            }
            // What it is stands in a file only.
            self.look |= part == b"SUBSYSTEM=mdio_bus";
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn news(message: &[u8]) -> News {
        let mut news = News::default();
        news.take(message);
        news
    }

    #[test]
    fn a_device_that_comes_tells_its_alias() {
        let added =
            b"add@/devices/pci0000:00/0000:00:05.0\0ACTION=add\0SUBSYSTEM=pci\0MODALIAS=pci:v1\0SEQNUM=7\0";
        assert_eq!(news(added), News { aliases: vec!["pci:v1".to_owned()], look: false });
        assert_eq!(news(&added[3..]), News::default(), "no action");
        assert_eq!(news(b"remove@/x\0MODALIAS=pci:v1\0"), News::default());
        assert!(news(b"add@/x\0SUBSYSTEM=mdio_bus\0").look);
        assert_eq!(news(b"add@/x\0MODALIAS=\xff\xfe\0"), News::default());
    }

    #[test]
    fn the_kernel_is_listened_to() {
        let test = "the_kernel_is_listened_to";
        let events = match Events::listen() {
            Ok(events) => events,
            Err(error) => {
                eprintln!("SKIPPED {test}: {error}");
                return;
            }
        };
        // A message that every device's file makes the kernel say again.
        if let Err(error) = std::fs::write("/sys/class/mem/null/uevent", "add") {
            eprintln!("SKIPPED {test}: the kernel cannot be asked to speak: {error}");
            return;
        }
        let mut waiting = [PollFd::new(events.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, PollTimeout::from(2000_u16)) != Ok(1) {
            eprintln!("SKIPPED {test}: messages do not reach this network namespace");
            return;
        }
        events.wait().unwrap();
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut whole = b"add@".to_vec();
            whole.extend(&message);
            let _ = (news(&message), news(&whole));
        }
    }
}
