//! What goes between a launcher and its monitor: one packet for an order, with four descriptors; one for a helper's end.
//!
//! ```text
//! order   helper (1 byte, its place in the list), argument (UTF-8); standard input, output, error, status
//! status  0, wait status (4 bytes, little-endian)    the helper has ended
//!         1, errno (4 bytes, little-endian)          it could not be started
//! ```

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

/// Longest argument of an order, bytes.
pub(crate) const ARGUMENT_BYTES: usize = 4096;
/// Length of a status.
pub(crate) const STATUS_BYTES: usize = 5;

/// One order.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) helper: u8,
    pub(crate) argument: String,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) status: OwnedFd,
}

impl Order {
    pub(crate) fn send(&self, to: impl AsFd) -> io::Result<()> {
        if self.argument.len() > ARGUMENT_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let fds = [&self.stdin, &self.stdout, &self.stderr, &self.status].map(AsRawFd::as_raw_fd);
        let parts =
            [IoSlice::new(std::slice::from_ref(&self.helper)), IoSlice::new(self.argument.as_bytes())];
        let control = [ControlMessage::ScmRights(&fds)];
        // A monitor that is gone is an error, not a signal.
        sendmsg::<()>(to.as_fd().as_raw_fd(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next order; none when nobody is left to give one. What is no order is an error of
    /// [`io::ErrorKind::InvalidData`].
    pub(crate) fn receive(from: impl AsFd) -> io::Result<Option<Self>> {
        let mut bytes = [0; 1 + ARGUMENT_BYTES];
        // As many as the kernel passes at once (SCM_MAX_FD), so that none is cut off, but where this process can have
        // no more: then it is at its end.
        let mut space = cmsg_space!([RawFd; 253]);
        let (length, mut fds, whole) = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(from.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(message) => {
                    let mut fds = Vec::new();
                    for part in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(numbers) = part {
                            // SAFETY: the kernel has just made these for us, and nobody else knows them.
                            fds.extend(numbers.into_iter().map(|n| unsafe { OwnedFd::from_raw_fd(n) }));
                        }
                    }
                    let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
                    break (message.bytes, fds, !message.flags.intersects(cut));
                }
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let argument = std::str::from_utf8(&bytes[1..length]).ok().filter(|text| !text.contains('\0'));
        match (argument, fds.len(), whole) {
            (Some(argument), 4, true) => {
                let mut next = || fds.remove(0);
                let argument = argument.to_owned();
                let (stdin, stdout, stderr, status) = (next(), next(), next(), next());
                Ok(Some(Self { helper: bytes[0], argument, stdin, stdout, stderr, status }))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// How a helper ended, or why it did not begin.
pub(crate) fn status(ended: &io::Result<ExitStatus>) -> [u8; STATUS_BYTES] {
    let (kind, number) = match ended {
        Ok(status) => (0, status.into_raw()),
        Err(error) => (1, error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let [a, b, c, d] = number.to_le_bytes();
    [kind, a, b, c, d]
}

/// Reads [`status`] back.
pub(crate) fn read_status([kind, a, b, c, d]: [u8; STATUS_BYTES]) -> io::Result<ExitStatus> {
    let number = i32::from_le_bytes([a, b, c, d]);
    match kind {
        0 => Ok(ExitStatus::from_raw(number)),
        _ => Err(io::Error::from_raw_os_error(number)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{io::Read as _, os::unix::net::UnixDatagram};

    use super::*;

    /// Sends the write end of a pipe so often; the other end tells when all are closed.
    fn send(to: &UnixDatagram, bytes: &[u8], descriptors: usize) -> io::PipeReader {
        let (read, write) = io::pipe().unwrap();
        let fds = vec![write.as_raw_fd(); descriptors];
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if descriptors == 0 { &rights[..0] } else { &rights[..] };
        sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::empty(), None).unwrap();
        read
    }

    #[test]
    fn what_is_no_order_is_said_to_be_none_and_its_descriptors_are_closed() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let long = [b'x'; ARGUMENT_BYTES + 2];
        for (bytes, descriptors) in [
            (&b"\0a"[..], 0),
            (b"\0a", 3),
            (b"\0a", 5),
            (b"\0a", 253),
            (b"\0a\0b", 4),
            (b"\0\xff", 4),
            (&long, 4),
        ] {
            let mut closed = send(&theirs, bytes, descriptors);
            let kind = Order::receive(&ours).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidData, "{descriptors} descriptors");
            assert_eq!(closed.read(&mut [0]).unwrap(), 0);
        }
        let _open = send(&theirs, b"\x07a", 4);
        let order = Order::receive(&ours).unwrap().unwrap();
        assert_eq!((order.helper, order.argument.as_str()), (7, "a"));
    }

    #[test]
    fn ends_come_back() {
        for ended in [0, 7 << 8, 9] {
            assert_eq!(read_status(status(&Ok(ExitStatus::from_raw(ended)))).unwrap().into_raw(), ended);
        }
        let error = read_status(status(&Err(Errno::EAGAIN.into()))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    }
}
