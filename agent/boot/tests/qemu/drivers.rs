//! Drivers by need: the composer's own image of `x86_64-uefi`, with all drivers of that board, in machines with little
//! hardware. Kernel and initramfs are taken out of the boot image; firmware and boot loader have tests of their own.

use std::{
    fs::{self, File},
    path::Path,
};

use sosna_image::{
    Error,
    block::{fat::Fat, region::Region, uki},
    board::Board,
    compose::{self, Request},
    inspect::Image,
    package::Cache,
    personal::Personal,
};
use tempfile::TempDir;
use xtask::paths::Tree;

use crate::{
    kit::{Kit, kit},
    machine::{Machine, UNHURRIED},
};

/// What is promised for a machine with virtio devices (docs/specification.md).
const PROMISED: usize = 25;
/// What the promise is missed by: Intel's watchdog (lpc_ich, mfd_core, iTCO_wdt, iTCO_vendor_support), which this
/// machine's chipset has.
const MOST: usize = PROMISED + 4;

/// The image and the parts of its boot image.
struct Composed {
    folder: TempDir,
    command_line: String,
}

fn compose(test: &str, kit: &Kit) -> Option<Composed> {
    let cache = Cache::new(&Tree::find().unwrap().tools().join("image"), None);
    let board = match Board::find("x86_64-uefi").unwrap().obtainable(&cache) {
        Ok((board, changes)) => {
            if !changes.is_empty() {
                let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                eprintln!("PINS GONE: {}: tested with {}", board.name, changes.join(", "));
            }
            board
        }
        Err(error @ (Error::Package { .. } | Error::Hash { .. })) => {
            eprintln!("SKIPPED {test}: {error:?}");
            return None;
        }
        Err(error) => panic!("{error:?}"),
    };
    let (agent, init) = (fs::read(&kit.stand_in).unwrap(), fs::read(&kit.init).unwrap());
    let request =
        Request { board: &board, version: "0.1.0", agent: &agent, init: &init, epoch: 1_700_000_000 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let report = compose::image(&request, &Personal::default(), None, &cache, &path, &|_| {}).unwrap();
    assert!(report.modules > 60 && report.modules_always < PROMISED, "{report:?}");
    let image = Image::open(&path).unwrap();
    let boot = &image.boot_images().unwrap()[0];
    let unified = image.boot().unwrap().read(&boot.path).unwrap().unwrap();
    for (section, name) in [(".linux", "vmlinuz"), (".initrd", "initrd")] {
        fs::write(folder.path().join(name), uki::section(&unified, section).unwrap()).unwrap();
    }
    Some(Composed { folder, command_line: boot.command_line.clone() })
}

impl Composed {
    fn flip_a_bit_of_the_kernel(&self) {
        let path = self.folder.path().join("disk.img");
        let image = Image::open(&path).unwrap();
        let file = &image.boot_images().unwrap()[0].path;
        let unified = image.boot().unwrap().read(file).unwrap().unwrap();
        let kernel = uki::section(&unified, ".linux").unwrap();
        let mut changed = unified.clone();
        let at = kernel.as_ptr() as usize - unified.as_ptr() as usize + kernel.len() / 2;
        changed[at] ^= 1;
        let partition = image.partition(compose::BOOT).unwrap();
        let disk = File::options().read(true).write(true).open(&path).unwrap();
        let fat = Fat::open(Region::new(disk, partition.start, partition.bytes)).unwrap();
        fat.write(file, &changed).unwrap();
        fat.finish().unwrap();
    }
}

fn start(kit: &Kit, composed: &Composed, name: &'static str, machine: &str, devices: &[&str]) -> Machine {
    let folder = composed.folder.path();
    let at = |name: &str| Path::new(folder).join(name);
    let mut command = kit.qemu();
    command
        .args(["-M", machine, "-drive"])
        .arg(format!("file={},format=raw,if=none,id=d,snapshot=on", at("disk.img").display()))
        .arg("-kernel")
        .arg(at("vmlinuz"))
        .arg("-initrd")
        .arg(at("initrd"))
        .args(["-append", &format!("{} {UNHURRIED}", composed.command_line)]);
    for device in devices {
        command.args(["-device", device]);
    }
    command.args(["-netdev", "user,id=n0"]);
    Machine::begin(command, folder, name)
}

pub(crate) fn drivers_are_loaded_for_the_hardware_that_is_there(test: &str) {
    let Some(kit) = kit(test) else { return };
    let Some(composed) = compose(test, kit) else { return };

    // The machine of `sosna-image run`.
    let machine = Board::find("x86_64-uefi").unwrap().description.run.machine;
    let devices =
        ["virtio-blk-pci,drive=d", "virtio-net-pci,netdev=n0,romfile=", "virtio-rng-pci", "i6300esb"];
    let mut virtio = start(kit, &composed, "virtio", &machine, &devices);
    let said = virtio.expect(" kernel modules are loaded");
    let loaded: usize = said.split_whitespace().rev().nth(4).unwrap().parse().unwrap();
    assert!((10..=MOST).contains(&loaded), "{said}");
    eprintln!("{test}: {loaded} modules with virtio");
    let told = virtio.expect("child: boot ");
    assert!(told.contains(&format!("\"modules\":{loaded},")), "{told}");
    assert_eq!(virtio.expect("child: drivers ").rsplit("drivers ").next(), Some("eth0=virtio_net"));
    virtio.expect_at_any_time("10.0.2.15/24 on eth0");
    // It was started from a copy, but the file that its words belong to is there, and whole.
    virtio.expect_at_any_time("sosna: the boot image is sound");
    virtio.tell("system_powerdown");
    let said = virtio.end();
    assert!(said.contains("turning off: everything is written"), "the button has a driver: {said}");
    assert!(!said.contains("cannot load the kernel module"), "{said}");

    // A bit of the kernel's file is another one now; the machine starts from the copy all the same.
    composed.flip_a_bit_of_the_kernel();
    // A disk that comes late, behind a controller that must be driven first; a card of a PC; one that comes later.
    let devices = ["qemu-xhci,id=usb", "usb-storage,bus=usb.0,drive=d", "e1000e,netdev=n0,romfile="];
    let mut real = start(kit, &composed, "usb", "q35", &devices);
    assert_eq!(real.expect("child: drivers ").rsplit("drivers ").next(), Some("eth0=e1000e"));
    real.expect("child: waits");
    real.expect_at_any_time("10.0.2.15/24 on eth0");
    real.expect_at_any_time(
        "WARNING: the boot image is not what this system was composed with: differs: .linux",
    );
    real.expect_at_any_time("child: told differs: .linux");
    real.tell("netdev_add user,id=n1,net=10.0.9.0/24");
    real.tell("device_add usb-net,netdev=n1,bus=usb.0");
    let told = real.expect("10.0.9.15/24 on ");
    assert!(told.contains("10.0.2.15/24 on eth0"), "the first card is still there: {told}");
    real.tell("system_powerdown");
    let said = real.end();
    assert!(!said.contains("cannot load the kernel module"), "{said}");
}
