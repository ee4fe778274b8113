//! The side that has no rights: asks for helpers, and hears how they end.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::{AsyncReadExt as _, Interest, unix::AsyncFd};

use crate::wire::{self, Order, STATUS_BYTES};

/// Has a monitor start helpers. When its last copy goes, nobody can ask any more: a monitor [beside](crate::Monitor::beside)
/// its caller ends then, another one when its caller has.
#[derive(Debug, Clone)]
pub struct Launcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    orders: OwnedFd,
    names: Vec<&'static str>,
}

/// A helper's standard input and output, nothing where they are not given, and error, which is this process's then.
#[derive(Debug, Default)]
pub struct Streams {
    /// What it reads.
    pub stdin: Option<OwnedFd>,
    /// Where it writes.
    pub stdout: Option<OwnedFd>,
    /// Where it complains.
    pub stderr: Option<OwnedFd>,
}

/// A helper that was asked for. Dropping it gives up on one that ends with its caller.
#[derive(Debug)]
pub struct Running(UnixStream);

// === impl Streams ===

impl Streams {
    /// With this input, whole.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn reading(input: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(c"order", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(input)?;
        io::Seek::rewind(&mut file)?;
        Ok(Self { stdin: Some(file.into()), ..Self::default() })
    }
}

// === impl Launcher ===

impl Launcher {
    pub(crate) fn new(orders: OwnedFd, names: Vec<&'static str>) -> Self {
        Self(Arc::new(Inner { orders, names }))
    }

    /// Returns when no monitor is left.
    pub async fn gone(&self) {
        let watched = self.0.orders.try_clone().and_then(|orders| {
            // SAFETY: an `OwnedFd` keeps its descriptor, open, until it is dropped, and the registration goes before it.
            let watched = unsafe { AsyncFd::register_with_interest(orders, Interest::READABLE) };
            Ok(watched?)
        });
        match watched {
            // It says nothing: there is only its end.
            Ok(watched) => drop(watched.readable().await),
            // What it is asked for will tell.
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks for a helper.
    ///
    /// # Errors
    /// When there is none of this name, its argument is longer than 4096 bytes, or no monitor is left. That a helper could
    /// not be started is told by [`Running`].
    pub fn start(&self, helper: &str, argument: &str, streams: Streams) -> io::Result<Running> {
        let place = self.0.names.iter().position(|name| *name == helper).ok_or(io::ErrorKind::NotFound)?;
        let nothing = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let or_nothing = |stream: Option<OwnedFd>| stream.map_or_else(nothing, Ok);
        let stderr = streams.stderr.map_or_else(|| io::stderr().as_fd().try_clone_to_owned(), Ok)?;
        let (ours, theirs) = UnixStream::pair()?;
        let order = Order {
            helper: u8::try_from(place).map_err(io::Error::other)?,
            argument: argument.to_owned(),
            stdin: or_nothing(streams.stdin)?,
            stdout: or_nothing(streams.stdout)?,
            stderr,
            status: theirs.into(),
        };
        order.send(&self.0.orders)?;
        Ok(Running(ours))
    }

    /// Asks for a helper and waits for its end: how it ended, and what it wrote, at most `most` bytes. Blocks.
    ///
    /// # Errors
    /// As [`Launcher::start`]; that it could not be started; `TimedOut` after `patience`.
    pub fn call(
        &self,
        (helper, argument): (&str, &str),
        streams: Streams,
        most: u64,
        patience: Duration,
    ) -> io::Result<(ExitStatus, Vec<u8>)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(patience))?;
        let running = self.start(helper, argument, Streams { stdout: Some(theirs.into()), ..streams })?;
        let mut said = Vec::new();
        ours.take(most).read_to_end(&mut said).map_err(timed_out)?;
        Ok((running.wait(patience)?, said))
    }
}

// === impl Running ===

impl Running {
    /// Waits for the helper's end. Blocks.
    ///
    /// # Errors
    /// That it could not be started; that the monitor is gone; `TimedOut` after `patience`.
    pub fn wait(mut self, patience: Duration) -> io::Result<ExitStatus> {
        self.0.set_read_timeout(Some(patience))?;
        let mut status = [0; STATUS_BYTES];
        self.0.read_exact(&mut status).map_err(timed_out).map_err(gone)?;
        wire::read_status(status)
    }

    /// Waits for the helper's end.
    ///
    /// # Errors
    /// That it could not be started; that the monitor is gone.
    pub async fn ended(self) -> io::Result<ExitStatus> {
        self.0.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(self.0)?;
        let mut status = [0; STATUS_BYTES];
        stream.read_exact(&mut status).await.map_err(gone)?;
        wire::read_status(status)
    }
}

fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the monitor is gone"),
        _ => error,
    }
}
