//! Signals as bytes in a pipe, so that one `poll` waits for everything. Handlers and not a signal file descriptor:
//! blocked signals would be inherited by every child.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd},
    sync::atomic::{AtomicI32, Ordering},
};

use nix::{
    fcntl::OFlag,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{pipe2, read},
};

static WRITER: AtomicI32 = AtomicI32::new(-1);

/// The pipe's end that is read.
#[derive(Debug)]
pub(super) struct Signals {
    reader: OwnedFd,
}

// === impl Signals ===

impl Signals {
    /// From now on these signals are noted and have no other effect.
    pub(super) fn note(signals: &[Signal]) -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Never closed: a handler may run at any time.
        WRITER.store(writer.into_raw_fd(), Ordering::SeqCst);
        let flags = SaFlags::SA_RESTART | SaFlags::SA_NOCLDSTOP;
        let action = SigAction::new(SigHandler::Handler(handle), flags, SigSet::empty());
        for signal in signals {
            // SAFETY: the handler calls nothing but `write`, which signal-safety(7) allows, and keeps errno.
            unsafe { sigaction(*signal, &action) }?;
        }
        Ok(Self { reader })
    }

    /// What has come since the last call.
    pub(super) fn take(&self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        let length = read(&self.reader, &mut bytes).unwrap_or(0);
        bytes[..length].iter().filter_map(|byte| Signal::try_from(i32::from(*byte)).ok()).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

extern "C" fn handle(signal: libc::c_int) {
    let Ok(byte) = u8::try_from(signal) else { return };
    // SAFETY: errno belongs to this thread, and the byte outlives the call. A full pipe has woken its reader already.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(WRITER.load(Ordering::SeqCst), (&raw const byte).cast(), 1);
        *libc::__errno_location() = errno;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::fd::AsRawFd as _;

    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_is_a_byte() {
        let signals = Signals::note(&[Signal::SIGUSR1, Signal::SIGUSR2]).unwrap();
        assert!(signals.take().is_empty());
        raise(Signal::SIGUSR2).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        assert_eq!(signals.take(), [Signal::SIGUSR2, Signal::SIGUSR1]);
        assert!(signals.reader.as_raw_fd() > 2);
    }
}
