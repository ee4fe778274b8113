//! What a board's packages give: kernel, modules, boot loader, firmware, tools, certificates, licences.

use std::collections::BTreeMap;

use super::wireless::{self, Shared};
use crate::Error;
use crate::block::modules::{Modules, Stage};
use crate::board::{Board, Boot, Description};
use crate::package::{Cache, Content, Entry, read};

/// The files that are taken from packages.
#[derive(Debug, Default)]
pub struct Parts {
    /// The kernel's version (`uname -r`).
    pub release: String,
    /// The kernel.
    pub kernel: Vec<u8>,
    /// Device trees by file name.
    pub device_trees: BTreeMap<String, Vec<u8>>,
    /// The boot loader's and firmware's files by file name.
    pub firmware: BTreeMap<String, Vec<u8>>,
    /// The file system check.
    pub fsck: Vec<u8>,
    /// All root certificates, as one file.
    pub certificates: Vec<u8>,
    /// What each package says about its authors and licences, by package; and the texts that these refer to.
    pub licences: BTreeMap<String, Vec<u8>>,
    /// What a wireless card may need: supplicant, libraries, firmware.
    pub(super) wireless: Shared,
    modules: Modules,
}

// === impl Parts ===

impl Parts {
    /// Obtains a board's packages and takes from them what is needed.
    ///
    /// # Errors
    /// [`Error`]: a package cannot be had, or lacks a file.
    pub fn obtain(board: &Board, cache: &Cache, progress: &dyn Fn(&str)) -> Result<Self, Error> {
        let mut parts = Self::default();
        let mut certificates = BTreeMap::new();
        for pin in &board.lock.packages {
            progress(&format!("obtaining {} {}", pin.name, pin.version));
            let path = cache.obtain(pin)?;
            progress(&format!("reading {}", pin.name));
            let with_wifi = board.description.wifi.is_some();
            let keep =
                |path: &str| wanted(path, board.description.boot) || (with_wifi && wireless::is_part(path));
            for entry in read(&path, keep)? {
                if wireless::is_part(&entry.path) {
                    parts.wireless.add(entry);
                    continue;
                }
                let Entry { path, content: Content::File(content), .. } = entry else { continue };
                parts.take(&pin.name, &path, content, &mut certificates);
            }
        }
        parts.certificates = certificates.into_values().collect::<Vec<_>>().concat();
        parts.check(board)?;
        Ok(parts)
    }

    fn take(
        &mut self,
        package: &str,
        path: &str,
        content: Vec<u8>,
        certificates: &mut BTreeMap<String, Vec<u8>>,
    ) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if path.starts_with("usr/lib/modules/") {
            if let Some(release) = path.split('/').nth(3) {
                release.clone_into(&mut self.release);
            }
            if name == "modules.builtin" {
                self.modules.add_builtin(&String::from_utf8_lossy(&content));
            } else {
                self.modules.add(path, content);
            }
        } else if path.starts_with("boot/vmlinuz-") {
            self.kernel = content;
        } else if path.ends_with(".dtb") {
            self.device_trees.insert(name.to_owned(), content);
        } else if path.starts_with("usr/lib/systemd/boot/efi/") || path.starts_with("usr/lib/raspi-firmware/")
        {
            self.firmware.insert(name.to_owned(), content);
        } else if name == "e2fsck.static" {
            self.fsck = content;
        } else if path.starts_with("usr/share/ca-certificates/") {
            certificates.insert(path.to_owned(), content);
        } else if path.starts_with("usr/share/common-licenses/") {
            self.licences.insert(format!("common-licenses/{name}"), content);
        } else if name == "copyright" {
            self.licences.insert(format!("{package}/copyright"), content);
        }
    }

    fn check(&self, board: &Board) -> Result<(), Error> {
        let lacks = |what: &str| {
            Err(Error::malformed(format!("the packages of {}", board.name), format!("{what} is missing")))
        };
        if self.kernel.is_empty() || self.release.is_empty() {
            return lacks("the kernel");
        }
        if self.fsck.is_empty() {
            return lacks("e2fsck");
        }
        if self.certificates.is_empty() {
            return lacks("the root certificates");
        }
        for pin in &board.lock.packages {
            if !self.licences.contains_key(&format!("{}/copyright", pin.name)) {
                return lacks(&format!("what {} says about its licence", pin.name));
            }
        }
        Ok(())
    }

    /// A file of the boot loader or firmware.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the packages lack it.
    pub fn firmware(&self, name: &str) -> Result<&[u8], Error> {
        let file = self.firmware.get(name).map(Vec::as_slice);
        file.ok_or_else(|| Error::malformed("the packages", format!("{name} is missing")))
    }

    /// What the first and the second stage load. The second has nothing that the first always loads.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the kernel lacks one.
    pub fn modules(&self, description: &Description) -> Result<(Stage, Stage), Error> {
        let (always, drivers) = (&description.modules, &description.drivers);
        let first = self.modules.resolve(&always.first, &drivers.first, &[])?;
        let second = self.modules.resolve(&always.second, &drivers.second, &first.always)?;
        Ok((first, second))
    }
}

/// Which files are kept while a package is read.
fn wanted(path: &str, boot: Boot) -> bool {
    let firmware = match boot {
        Boot::Uefi => path.starts_with("usr/lib/systemd/boot/efi/"),
        Boot::RaspberryPi => {
            path.starts_with("usr/lib/raspi-firmware/")
                || path.contains("/broadcom/bcm2711-rpi-")
                || path.contains("/broadcom/bcm2837-rpi-")
        }
    };
    firmware
        || path.starts_with("boot/vmlinuz-")
        || path.starts_with("usr/lib/modules/")
            && (path.contains(".ko") || path.ends_with("/modules.builtin"))
        || path == "usr/sbin/e2fsck.static"
        || path.starts_with("usr/share/ca-certificates/")
        || path.starts_with("usr/share/common-licenses/")
        || path.starts_with("usr/share/doc/") && path.ends_with("/copyright")
}
