//! One stream of a container's output: a pipe on one side, a file on the other. Keeps the head, counts the rest.
//! Must never make the container wait because its log is full.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::fcntl::{SpliceFFlags, splice};

/// How much is read at once: the default size of a pipe.
const CHUNK: usize = 64 << 10;

/// A pipe that is read into a file up to a limit.
#[derive(Debug)]
pub(super) struct Stream {
    pipe: Option<File>,
    file: File,
    room: u64,
    /// Where the rest goes, without being copied through this process.
    null: File,
    pub(super) total: u64,
    pub(super) dropped: u64,
    /// Why the file does not hold what it should.
    pub(super) failed: Option<io::Error>,
}

impl Stream {
    /// Reads `pipe` (which must not block) into a new file at `path`.
    pub(super) fn new(pipe: OwnedFd, path: &Path, limit: u64) -> io::Result<Self> {
        let file = File::create(path)?;
        let null = File::options().write(true).open("/dev/null")?;
        Ok(Self { pipe: Some(pipe.into()), file, room: limit, null, total: 0, dropped: 0, failed: None })
    }

    /// The pipe to wait for, unless it has ended.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there, once. Returns whether there may be more.
    pub(super) fn pump(&mut self) -> bool {
        let Some(pipe) = self.pipe.as_mut() else { return false };
        let got = if self.room == 0 {
            splice(&*pipe, None, &self.null, None, CHUNK * 16, SpliceFFlags::SPLICE_F_NONBLOCK)
                .map_err(io::Error::from)
                .inspect(|n| self.dropped += *n as u64)
        } else {
            let mut chunk = [0; CHUNK];
            pipe.read(&mut chunk).inspect(|n| {
                let keep = usize::try_from(self.room).map_or(*n, |room| room.min(*n));
                // A host disk that is full must not make the container wait.
                match self.file.write_all(&chunk[..keep]) {
                    Ok(()) => {
                        self.room -= keep as u64;
                        self.dropped += (*n - keep) as u64;
                    }
                    Err(error) => {
                        self.room = 0;
                        self.dropped += *n as u64;
                        self.failed = Some(error);
                    }
                }
            })
        };
        match got {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(n) => {
                self.total += n as u64;
                true
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => true,
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    /// Makes the file durable.
    pub(super) fn finish(&mut self) {
        self.pipe = None;
        // Syncing costs more than a short task; an empty file is not worth it.
        if self.total > 0
            && let Err(error) = self.file.sync_all()
        {
            self.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use nix::{fcntl::OFlag, unistd::pipe2};

    use super::*;

    #[test]
    fn keeps_the_head_and_counts_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (read, write) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let path = dir.path().join("stdout");
        let mut stream = Stream::new(read, &path, 10).unwrap();
        let mut write = File::from(write);
        write.write_all(b"12345678").unwrap();
        assert!(stream.pump());
        assert!(!stream.pump(), "nothing there must not block");
        write.write_all(b"90abc").unwrap();
        assert!(stream.pump());
        write.write_all(&[b'x'; 5000]).unwrap();
        assert!(stream.pump());
        drop(write);
        assert!(!stream.pump());
        assert!(stream.pipe().is_none());
        assert_eq!((stream.total, stream.dropped), (5013, 5003));
        assert_eq!(std::fs::read(path).unwrap(), b"1234567890");
    }
}
