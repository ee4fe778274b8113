//! What a task leaves behind, as a tree that two devices which did the same work agree on.

use crate::{
    codec::{Decode, DecodeError, Encode, EncodeError, Reader, Writer, structure},
    hash::{Hash, keccak256, word},
    identity::{Address, AssignmentId},
    merkle::{Builder, Domain, TreeError},
};

/// The longest path of an output in bytes.
pub const MAX_PATH: usize = 1024;

/// What a leaf of the tree describes. The numbers are hashed: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// The exit code, in the place of the length; no path.
    Exit = 1,
    /// Standard output, where it is part of the result; no path.
    Stdout = 2,
    /// A regular file.
    File = 3,
    /// A folder.
    Folder = 4,
    /// A symbolic link; length and hash are its target's.
    Link = 5,
}

/// One leaf: (type, path, mode, length, sha256).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// Bytes, relative to the container's root, without a leading slash.
    pub path: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Bytes of content (or the exit code).
    pub length: u64,
    /// Of the content; all zero where there is none.
    pub sha256: Hash,
}

/// Why entries are not a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// Not in the order exit, stdout, then paths by their bytes; or twice the same.
    #[error("the entries of a result are not in order, or one is there twice")]
    Order,
    /// Not a path that a container can have relative to its root.
    #[error("an entry's path is empty, absolute, too long, or has an empty, `.` or `..` part")]
    Path,
    /// Too many entries, or none.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl<'a> Entry<'a> {
    /// The entry that says how the task ended; the cause stands in the place of the mode.
    #[must_use]
    pub const fn exit(cause: Cause, code: u8) -> Self {
        Self { kind: EntryKind::Exit, path: b"", mode: cause as u32, length: code as u64, sha256: Hash::ZERO }
    }

    /// The entry of standard output.
    #[must_use]
    pub const fn stdout(length: u64, sha256: Hash) -> Self {
        Self { kind: EntryKind::Stdout, path: b"", mode: 0, length, sha256 }
    }

    fn leaf(&self) -> Hash {
        Domain::Result.leaf(&[
            word(self.kind as u128),
            keccak256(&[self.path]).0,
            word(u128::from(self.mode)),
            word(u128::from(self.length)),
            self.sha256.0,
        ])
    }

    /// Exit first, then stdout, then everything else by path.
    fn place(&self) -> (u8, &'a [u8]) {
        (self.kind.min(EntryKind::File) as u8, self.path)
    }

    fn has_good_path(&self) -> bool {
        match self.kind {
            EntryKind::Exit | EntryKind::Stdout => self.path.is_empty(),
            _ => {
                self.path.len() <= MAX_PATH
                    && self.path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
            }
        }
    }
}

/// The root of a result.
///
/// # Errors
/// [`ResultError`]: entries out of order, twice, or with paths that cannot be.
pub fn root<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Result<Hash, ResultError> {
    let mut builder = Builder::new(Domain::Result);
    let mut last: Option<(u8, &[u8])> = None;
    for entry in entries {
        if !entry.has_good_path() {
            return Err(ResultError::Path);
        }
        if last.is_some_and(|last| last >= entry.place()) {
            return Err(ResultError::Order);
        }
        last = Some(entry.place());
        builder.push(entry.leaf())?;
    }
    Ok(builder.root()?)
}

/// What a device says before it shows a result: it cannot show another one afterwards, nor learn this one from
/// somebody else's commitment.
#[must_use]
pub fn commitment(
    hub: &Address,
    assignment: &AssignmentId,
    device: &Address,
    root: &Hash,
    salt: &Hash,
) -> Hash {
    let mut id = [0; 32];
    id[..16].copy_from_slice(&assignment.0);
    keccak256(&[&keccak256(&[b"sosna commitment v1"]).0, &hub.word(), &id, &device.word(), &root.0, &salt.0])
}

structure! {
    /// What an assignment took, as its device measured it.
    #[derive(Copy, Eq, Default)]
    pub struct Usage {
        /// Processor time in nanoseconds.
        pub cpu_ns: u64,
        /// The most memory at once, in bytes.
        pub peak_memory: u64,
        /// From start to end, in milliseconds.
        pub wall_ms: u64,
    }
}

/// Numbers on the wire that stand for one of a few cases, and the words that people see.
macro_rules! code {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$case_meta:meta])* $case:ident = $number:literal $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$case_meta])* $case = $number,)+ }

        impl $name {
            /// The word that people and stores use.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$case => $word,)+ }
            }

            /// The case that a word names.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$case),)+ _ => None }
            }
        }

        impl Encode for $name {
            fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
                writer.unsigned(u64::from(*self as u8))
            }
        }

        impl<'a> Decode<'a> for $name {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match reader.unsigned()? { $($number => Ok(Self::$case),)+ _ => Err(DecodeError::Value) }
            }
        }
    };
}
pub(crate) use code;

code! {
    /// How a task ended on its device.
    pub enum Cause {
        /// By itself; the exit code says how.
        Exited = 1 "exited",
        /// By a signal.
        Signalled = 2 "signalled",
        /// It needed more memory than it had asked for.
        OutOfMemory = 3 "out-of-memory",
        /// It took longer than it was given.
        TimedOut = 4 "timed-out",
        /// It wrote more than it had asked for.
        DiskFull = 5 "disk-full",
        /// The command cannot be started.
        CannotStart = 6 "cannot-start",
        /// The image cannot be had.
        NoImage = 7 "no-image",
        /// An input cannot be had.
        NoInput = 8 "no-input",
        /// The device itself failed: a full disk, a lost container.
        DeviceFailed = 9 "device-failed",
        /// It was cancelled.
        Cancelled = 10 "cancelled",
        /// Image and task make no container on the device: there is a file where it works in a folder, say.
        NoContainer = 11 "no-container",
    }
}

impl Cause {
    /// Whether this end follows from the task itself, and so should be the same on every honest device: a result
    /// like any other, verified and paid for. The rest says something about one device.
    #[must_use]
    pub const fn is_result(self) -> bool {
        matches!(
            self,
            Self::Exited
                | Self::Signalled
                | Self::CannotStart
                | Self::OutOfMemory
                | Self::TimedOut
                | Self::DiskFull
        )
    }

    /// Whether the task may be at fault as well as the device: what it names may be no image, nowhere to be had, or make
    /// no container anywhere. Only another device can tell.
    #[must_use]
    pub const fn may_be_the_tasks(self) -> bool {
        matches!(self, Self::NoImage | Self::NoInput | Self::NoContainer)
    }

    /// Whether what the task wrote until then belongs to its result. Where it was cut off, that depends on the
    /// moment, and no two devices would agree on it.
    #[must_use]
    pub const fn has_outputs(self) -> bool {
        matches!(self, Self::Exited | Self::Signalled)
    }
}
