//! What a task needs, what a device has, what it asks for it, and what may be compared with what.

use core::fmt;

use crate::{
    amount::Amount,
    codec::{Decode, DecodeError, Encode, EncodeError, Reader, Writer, structure},
};

structure! {
    /// An amount of a machine.
    #[derive(Copy, Eq, Default)]
    pub struct Resources {
        /// Thousandths of a processor core.
        pub cpu_millis: u32,
        /// Bytes of memory.
        pub memory: u64,
        /// Bytes of disk that may be written.
        pub disk: u64,
        /// Files and folders that may be made.
        pub inodes: u64,
        /// Processes and threads.
        pub pids: u32,
    }
}

impl Resources {
    /// Whether `self` has room for `other`.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        self.cpu_millis >= other.cpu_millis
            && self.memory >= other.memory
            && self.disk >= other.disk
            && self.inodes >= other.inodes
            && self.pids >= other.pids
    }

    /// What is left of `self` after `other` has been taken; nothing goes below zero.
    #[must_use]
    pub const fn minus(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory: self.memory.saturating_sub(other.memory),
            disk: self.disk.saturating_sub(other.disk),
            inodes: self.inodes.saturating_sub(other.inodes),
            pids: self.pids.saturating_sub(other.pids),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory: self.memory.saturating_add(other.memory),
            disk: self.disk.saturating_add(other.disk),
            inodes: self.inodes.saturating_add(other.inodes),
            pids: self.pids.saturating_add(other.pids),
        }
    }
}

structure! {
    /// A device's price list. A task's price follows from it and from what the buyer declared, never from what
    /// the device reports afterwards.
    #[derive(Copy, Eq, Default)]
    pub struct Ask {
        /// For one core for one second.
        pub core_second: Amount,
        /// For one GiB of memory for one second.
        pub gib_second: Amount,
        /// The least that any task costs.
        pub minimum: Amount,
    }
}

impl Ask {
    /// The price of a task that may use `resources` for `timeout_ms`; `None` where no amount could hold it.
    #[must_use]
    pub fn price(&self, resources: &Resources, timeout_ms: u64) -> Option<Amount> {
        let time = u128::from(timeout_ms);
        let cpu =
            self.core_second.checked_scale(u128::from(resources.cpu_millis).checked_mul(time)?, 1_000_000)?;
        let memory =
            self.gib_second.checked_scale(u128::from(resources.memory).checked_mul(time)?, 1000 << 30)?;
        Some(cpu.checked_add(memory)?.max(self.minimum))
    }
}

/// A processor architecture, by the names that OCI images use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Arch {
    /// `amd64`.
    X86_64 = 1,
    /// `arm64`.
    Aarch64 = 2,
    /// `arm`, variant `v7`.
    Armv7 = 3,
    /// `riscv64`.
    Riscv64 = 4,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 4] = [Self::X86_64, Self::Aarch64, Self::Armv7, Self::Riscv64];

    /// The architecture's name in OCI image configurations.
    #[must_use]
    pub const fn oci(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "arm",
            Self::Riscv64 => "riscv64",
        }
    }

    /// The architecture with this OCI name.
    #[must_use]
    pub fn from_oci(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.oci() == name)
    }
}

/// Architecture and instruction-set level: results that must be equal bit for bit are compared within one class,
/// because libraries choose other code, with other rounding, on other levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The architecture.
    pub arch: Arch,
    /// The level within it: 1 to 4 for x86-64 (psABI levels), 7 for armv7, 8 for armv8-a, 0 where there are none.
    pub level: u8,
}

impl Class {
    /// Whether there is such a level.
    #[must_use]
    pub const fn is_known(self) -> bool {
        match self.arch {
            Arch::X86_64 => matches!(self.level, 1..=4),
            // armv8-a and armv9-a.
            Arch::Aarch64 => matches!(self.level, 8..=9),
            Arch::Armv7 => self.level == 7,
            Arch::Riscv64 => self.level == 0,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arch {
            Arch::X86_64 => write!(f, "x86-64-v{}", self.level),
            Arch::Aarch64 => write!(f, "armv{}-a", self.level),
            Arch::Armv7 => f.write_str("armv7"),
            Arch::Riscv64 => f.write_str("riscv64"),
        }
    }
}

impl Encode for Class {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.unsigned(u64::from(self.arch as u8) << 8 | u64::from(self.level))
    }
}

impl<'a> Decode<'a> for Class {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let [arch, level] = u16::decode(reader)?.to_be_bytes();
        let arch = Arch::ALL.into_iter().find(|known| *known as u8 == arch).ok_or(DecodeError::Value)?;
        // A class of one's own would keep all others from being compared with it.
        Some(Self { arch, level }).filter(|class| class.is_known()).ok_or(DecodeError::Value)
    }
}
