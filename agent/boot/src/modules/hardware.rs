//! By which names the hardware that is there asks for its driver: what stands in the files `modalias` of /sys. Read
//! anew at every look, because a driver brings new devices: a USB controller its bus, a SCSI controller its disks.

use std::{collections::BTreeSet, fs, path::Path};

use crate::sysfs;

/// Longer ones are not the kernel's.
const LONGEST: usize = 4096;

/// All aliases of the devices below `sys`, which is /sys but in tests.
pub(super) fn aliases(sys: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut take = |text: Option<String>| {
        found.extend(text.filter(|text| !text.is_empty() && text.len() <= LONGEST));
    };
    for bus in entries(&sys.join("bus")) {
        let is_mdio = bus.ends_with("mdio_bus");
        for device in entries(&bus.join("devices")) {
            take(sysfs::text(device.join("modalias")));
            if is_mdio {
                take(sysfs::text(device.join("phy_id")).and_then(|id| phy(&id)));
            }
        }
    }
    // Neither processors nor what reports keys is on a bus of its own.
    take(sysfs::text(sys.join("devices/system/cpu/modalias")));
    for input in entries(&sys.join("class/input")) {
        take(sysfs::text(input.join("modalias")));
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The alias of a network chip's PHY. There is no file with it: the kernel asks for these drivers itself, by a program
/// that an image does not have, in the binary digits that are made here (`include/linux/mod_devicetable.h`).
fn phy(id: &str) -> Option<String> {
    let id = u32::from_str_radix(id.strip_prefix("0x")?, 16).ok()?;
    (id != 0).then(|| format!("mdio:{id:032b}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn devices_of_all_kinds_are_found() {
        let sys = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = sys.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("bus/pci/devices/0000:00:01.0/modalias", "pci:v1d2\n");
        put("bus/pci/devices/0000:00:02.0/vendor", "0x8086\n");
        put("bus/usb/devices/1-1:1.0/modalias", "usb:v3\n");
        put("bus/usb/devices/1-2:1.0/modalias", "usb:v3\n");
        put("bus/mdio_bus/devices/r8169-0:00/phy_id", "0x001cc800\n");
        put("bus/mdio_bus/devices/x:01/phy_id", "nonsense\n");
        put("bus/scsi/devices/0:0:0:0/modalias", "");
        put("bus/acpi/devices/LONG/modalias", &"x".repeat(5000));
        put("devices/system/cpu/modalias", "cpu:type:x86,ven0000:feature:,0094,\n");
        put("class/input/input0/modalias", "input:b0019\n");
        let expected = [
            "cpu:type:x86,ven0000:feature:,0094,",
            "input:b0019",
            "mdio:00000000000111001100100000000000",
            "pci:v1d2",
            "usb:v3",
        ];
        assert_eq!(aliases(sys.path()).into_iter().collect::<Vec<_>>(), expected);
        assert!(aliases(&sys.path().join("nothing")).is_empty());
    }
}
