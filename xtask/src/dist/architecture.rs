//! The kinds of processors that devices have, with the names that others have for them.

use std::env::consts::ARCH;
use std::fmt;
use std::str::FromStr;

use crate::tools::zig::Machine;

/// A kind of processor that Sosna's programs are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// PCs and servers.
    X86_64,
    /// 64-bit ARM: Raspberry Pi 3 and newer, servers, routers.
    Aarch64,
    /// 32-bit ARM with floating point: older boards and routers.
    Armv7,
}

/// A name that is none of [`Architecture::ALL`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no architecture that programs are made for; there are: x86_64, aarch64, armv7")]
pub struct UnknownArchitecture(String);

// === impl Architecture ===

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Armv7];

    /// This machine's, where it is one of them.
    #[must_use]
    pub fn here() -> Option<Self> {
        ARCH.parse().ok()
    }

    /// As the kernel's `uname -m` has it, but for armv7, which has no `l` here.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// The compiler's name for it, with the C library that the programs are linked with.
    #[must_use]
    pub fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
            Self::Armv7 => "armv7-unknown-linux-musleabihf",
        }
    }

    /// Zig's name for it. The processor is the least that the compiler's target promises, too: for armv7 that is
    /// floating point with 16 registers, and no NEON.
    #[must_use]
    pub fn machine(self) -> Machine {
        let (triple, cpu) = match self {
            Self::X86_64 => ("x86_64-linux-musl", "x86_64"),
            Self::Aarch64 => ("aarch64-linux-musl", "generic"),
            Self::Armv7 => ("arm-linux-musleabihf", "generic+v7a+vfp3d16-neon"),
        };
        Machine { triple, cpu }
    }

    /// QEMU's name.
    #[must_use]
    pub fn emulated(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "arm",
        }
    }

    /// Debian's name.
    #[must_use]
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(text: &str) -> Result<Self, UnknownArchitecture> {
        let known = Self::ALL.into_iter().find(|one| one.name() == text);
        known.ok_or_else(|| UnknownArchitecture(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for one in Architecture::ALL {
            assert_eq!(one.to_string().parse::<Architecture>().unwrap(), one);
        }
        assert!("mips".parse::<Architecture>().unwrap_err().to_string().contains("aarch64"));
    }
}
