//! A board's description file.

use serde::Deserialize;

use crate::Error;

/// What a board is and what its images are made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// One line for people.
    pub description: String,
    /// How it boots, for people.
    pub chain: String,
    /// What was tried how, for people.
    pub tested: String,
    /// Debian's name of its processor.
    pub architecture: String,
    /// How it boots.
    pub boot: Boot,
    /// Consoles, as the kernel's command line names them; the last is where the first program writes.
    pub console: Vec<String>,
    /// Further words of the kernel's command line.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Its wireless cards; none where images have no wireless parts and take no credentials.
    pub wifi: Option<Wifi>,
    /// The tags of Raspberry Pi Imager for devices that the image fits.
    #[serde(default)]
    pub imager: Vec<String>,
    /// What it is made of.
    pub packages: Packages,
    /// How large its partitions are.
    pub sizes: Sizes,
    /// The kernel modules that are always loaded: what only the kernel itself would ask for.
    pub modules: Modules,
    /// The drivers, which are loaded where their hardware is.
    pub drivers: Modules,
    /// How it is emulated.
    pub run: Run,
}

/// How a board boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// systemd-boot from an EFI system partition.
    Uefi,
    /// The firmware of a Raspberry Pi.
    RaspberryPi,
}

/// Debian packages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Where they come from.
    pub suite: String,
    /// The package that depends on the newest kernel; the lock names the kernel itself.
    pub kernel: String,
    /// The others.
    pub others: Vec<String>,
}

/// A board's wireless cards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wifi {
    /// On which models, for people.
    pub models: String,
    /// What the cards' own processors run, by the paths that the kernel asks for.
    pub firmware: Vec<String>,
}

/// Sizes of partitions in MiB.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// The boot partition: three boot images fit.
    pub boot: u64,
    /// Each of the two slots.
    pub slot: u64,
}

/// Names of kernel modules; those with `?` at the end may be missing. `X unless Y` is for what is always loaded.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// From the initramfs.
    pub first: Vec<String>,
    /// From the slot.
    pub second: Vec<String>,
}

/// How a board is emulated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// QEMU's program.
    pub emulator: String,
    /// The Debian package that has it.
    pub package: String,
    /// QEMU's machine.
    pub machine: String,
    /// QEMU's processor, where the machine does not decide.
    pub cpu: Option<String>,
    /// UEFI's firmware, where the board has it.
    pub firmware: Option<Firmware>,
    /// The device tree that QEMU is given, where it cannot boot through firmware.
    pub device_tree: Option<String>,
}

/// UEFI's firmware for QEMU.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The Debian package.
    pub package: String,
    /// The program within it.
    pub code: String,
    /// The empty variable store within it.
    pub variables: String,
}

// === impl Description ===

impl Description {
    /// Reads a description file's text.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(board: &str, text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error::malformed(format!("the description of {board}"), error))
    }

    /// The processor's name as compilers and `uname -m` have it.
    #[must_use]
    pub fn processor(&self) -> &str {
        match self.architecture.as_str() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        }
    }
}
