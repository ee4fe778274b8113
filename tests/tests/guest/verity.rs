//! One bit that is not what it was when the image was composed.

use sosna_image::block::uki;
use sosna_image::personal::Personal;
use sosna_tests::guest::Guest;
use sosna_tests::world::World;

use crate::scene::{CONNECTED, PATIENCE, Scene};

fn fresh(test: &str, board: &str) -> Option<(World, Guest)> {
    let world = World::new(PATIENCE);
    let guest = Guest::make(test, &world, board, "lamp", &Personal::default())?;
    Some((world, guest))
}

/// The slot is refused by its name, and the boot loader gets its turn.
fn is_refused(world: &World, mut guest: Guest) {
    if !guest.start() {
        return;
    }
    guest.until_says(world, "cannot start: slot a on /dev/");
    guest.until_says(world, " is refused: it is not what version ");
    guest.until_says(world, "the machine restarts in 10 seconds");
    let console = guest.console();
    assert!(!console.contains("data area") && !console.contains("agent started"), "{console}");
    guest.cut_power();
}

/// In a block that every boot reads.
pub(crate) fn data_bit(test: &str, board: &str) {
    let Some((world, guest)) = fresh(test, board) else { return };
    guest.disk.flip(guest.disk.middle_of("usr/bin/sosna-agent"));
    is_refused(&world, guest);
}

/// In the topmost block of its hash tree.
pub(crate) fn tree_bit(test: &str, board: &str) {
    let Some((world, guest)) = fresh(test, board) else { return };
    guest.disk.flip(guest.disk.hash_tree() + 100);
    is_refused(&world, guest);
}

/// In the hash that the boot image demands.
pub(crate) fn root_hash(test: &str, board: &str) {
    let Some((world, guest)) = fresh(test, board) else { return };
    let boot = guest.disk.boot_image();
    let path = if board == "rpi" { format!("{}/cmdline.txt", boot.path) } else { boot.path };
    guest.disk.on_boot(|fat| {
        let mut content = fat.read(&path).unwrap().unwrap();
        let mark = b"sosna.verity=";
        let at = content.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len();
        content[at] = if content[at] == b'0' { b'1' } else { b'0' };
        fat.write(&path, &content).unwrap();
    });
    is_refused(&world, guest);
}

/// In a program that the boot can do without: who reads it is told, and the device works.
pub(crate) fn unneeded_bit(test: &str, board: &str) {
    let Some(mut scene) = Scene::set(test, board) else { return };
    scene.guest.disk.flip(scene.guest.disk.middle_of("usr/sbin/e2fsck"));
    if !scene.enrol() {
        return;
    }
    scene.guest.until_says(&scene.opening.world, CONNECTED);
    let console = scene.guest.console();
    assert!(console.contains("the data area was not checked: /usr/sbin/e2fsck"), "{console}");
    assert!(console.contains("device-mapper: verity:") && console.contains("is corrupted"), "{console}");
    assert_eq!(scene.work("echo well"), "well");
    scene.end();
}

/// In the kernel, which nothing verifies before it runs, in the middle of what unpacks itself: it does not come up, or
/// the device finds out and says so.
pub(crate) fn kernel_bit(test: &str, board: &str) {
    let _ = with_another_kernel(test, board, |length| length / 2);
}

/// In the part of the kernel that a start by UEFI leaves alone: the device works, finds out, and tells everybody.
pub(crate) fn idle_kernel_bit(test: &str, board: &str) {
    if let Some(end) = with_another_kernel(test, board, |_| REAL_MODE) {
        assert_eq!(end, End::Told);
    }
}

/// Within the code for the processor's first mode (Documentation/arch/x86/boot.rst), which only a BIOS starts.
const REAL_MODE: usize = 0x2000;

/// What becomes of a machine with a wrong kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    DidNotStart,
    Told,
}

fn with_another_kernel(test: &str, board: &str, place: impl Fn(usize) -> usize) -> Option<End> {
    const WARNING: &str =
        "WARNING: the boot image is not what this system was composed with: differs: .linux";
    let mut scene = Scene::set(test, board)?;
    let boot = scene.guest.disk.boot_image();
    scene.guest.disk.on_boot(|fat| {
        let mut content = fat.read(&boot.path).unwrap().unwrap();
        let kernel = uki::section(&content, ".linux").unwrap();
        let at = kernel.as_ptr() as usize - content.as_ptr() as usize + place(kernel.len());
        content[at] ^= 0x10;
        fat.write(&boot.path, &content).unwrap();
    });
    if !scene.guest.start() {
        return None;
    }
    let mut end = None;
    scene.opening.world.until("the kernel's end, or the device's word", || {
        let console = scene.guest.console();
        // What the kernel's own loader says of itself, or the firmware of a program that goes wild.
        let broken = ["System halted", "Kernel panic", "data is corrupt", "!!!! "]
            .iter()
            .any(|word| console.contains(word));
        end = match () {
            () if console.contains(WARNING) => Some(End::Told),
            () if broken || !scene.guest.is_on() => Some(End::DidNotStart),
            () => None,
        };
        end.is_some()
    });
    eprintln!("{test}: {end:?}");
    if end == Some(End::Told) {
        scene.opening.world.until_online(1);
        let told = || scene.device()["system"]["boot_image"] == "differs: .linux";
        scene.opening.world.until("the hub knows of it", told);
        scene.end();
        return end;
    }
    let console = scene.guest.console();
    assert!(!console.contains("agent started"), "{console}");
    if scene.guest.is_on() {
        scene.guest.cut_power();
    }
    scene.opening.world.finish();
    end
}
