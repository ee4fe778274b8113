//! What can befall the data area: the device says so, keeps its identity, and obeys its owner.

use sosna_image::compose::DATA;
use sosna_image::personal::{Personal, personalise};
use sosna_image::run::Network;
use sosna_tests::guest::{Guest, Setting};
use sosna_tests::world::World;

use crate::scene::{CONNECTED, ENROLLED, PATIENCE, Scene, WORK, turn_off};

const HELD: &str = "the agent does not run: the data area is held";
const WAITS: &str = "the device keeps its identity and waits for its owner";
const REPAIR: &str = "sosna/repair-data";
const ERASE: &str = "sosna/erase-data";

/// Nothing is free, down to the last block: the device gives up what it keeps for that, stays connected, and lends no
/// disk; with room again it works.
pub(crate) fn is_full(test: &str, board: &str) {
    let Some(mut scene) = Scene::set_on(test, board, 4 << 30) else { return };
    if !scene.enrol() {
        return;
    }
    assert_eq!(scene.work("echo room"), "room");
    let address = scene.device()["address"].clone();
    scene.turn_off();
    let stats = scene.guest.disk.debugfs(&["stats"]);
    let stat = |what: &str| {
        let value = stats.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        value.trim().parse::<u64>().unwrap()
    };
    // The kernel itself never gives these away (ext4_calculate_resv_clusters, reserved blocks): full is when they are
    // all that is left.
    let kept = (stat("Block count:") / 50).min(4096) + stat("Reserved block count:");
    let fill = format!("fallocate filler 0 {}", stat("Free blocks:") - kept - 20);
    scene.guest.disk.debugfs(&["write /dev/null filler", &fill]);

    scene.come_back();
    scene.guest.until_says(&scene.opening.world, "; the data area is full: less than ");
    assert_eq!(scene.device()["address"], address);
    scene.opening.run(WORK, &["echo", "late"]).fails(4, &["No device has that much"]);
    scene.turn_off();
    assert!(!scene.guest.disk.debugfs(&["ls agent"]).contains("ballast"), "it is given up");

    scene.guest.disk.debugfs(&["rm filler"]);
    scene.come_back();
    assert_eq!(scene.work("echo late"), "late");
    assert!(!scene.guest.console().contains("the data area is full"));
    assert_eq!(scene.device()["address"], address);
    scene.opening.world.assert_books();
    scene.turn_off();
    assert!(scene.guest.disk.debugfs(&["ls agent"]).contains("ballast"), "it is kept again");
    scene.opening.world.finish();
}

/// Its beginning is overwritten. The owner has it repaired; then it happens again, worse, and he has it erased.
pub(crate) fn is_overwritten(test: &str, board: &str) {
    let Some(mut scene) = Scene::set(test, board) else { return };
    if !scene.enrol() {
        return;
    }
    assert_eq!(scene.work("echo before"), "before");
    let address = scene.device()["address"].clone();
    scene.turn_off();
    let (start, _) = scene.guest.disk.partition(DATA);
    scene.guest.disk.write(start, &[0xaa; 4096]);
    let before = scene.guest.disk.read(start, 1 << 20);

    assert!(scene.guest.start());
    let world = &scene.opening.world;
    scene.guest.until_says(world, "the data area is not used: /dev/");
    scene.guest.until_says(world, " is neither empty nor a file system that can be recognised");
    scene.guest.until_says(world, WAITS);
    scene.guest.until_says(world, HELD);
    assert_eq!(scene.device()["online"], false, "the hub has not heard of it");
    scene.turn_off();
    assert_eq!(scene.guest.disk.read(start, 1 << 20), before, "nothing was written");

    scene.guest.disk.put_boot_file(REPAIR, b"");
    assert!(scene.guest.start());
    scene.guest.until_says(&scene.opening.world, "data area: ready, after a repair");
    scene.guest.until_says(&scene.opening.world, CONNECTED);
    scene.opening.world.until_online(1);
    assert_eq!(scene.device()["address"], address, "the same device");
    assert_eq!(scene.work("echo repaired"), "repaired");
    // While it still holds its vouchers.
    scene.opening.world.assert_books();
    scene.turn_off();
    assert!(!scene.guest.disk.has_boot_file(REPAIR), "the wish was fulfilled");

    scene.guest.disk.write(start, &[0xaa; 1 << 20]);
    scene.guest.disk.put_boot_file(ERASE, b"");
    let join = Personal { join: Some(scene.opening.world.owner_token("two", 1)), ..Personal::default() };
    personalise(scene.guest.disk.path(), &join, false).unwrap();
    assert!(scene.guest.start());
    scene.guest.until_says(&scene.opening.world, "data area: made anew");
    scene.guest.until_says(&scene.opening.world, ENROLLED);
    scene.opening.world.until_online(1);
    let devices = scene.devices();
    assert_eq!(devices.len(), 2, "erased, it is another device");
    assert_eq!(scene.work("echo anew"), "anew");
    scene.turn_off();
    assert!(!scene.guest.disk.has_boot_file(ERASE), "the wish was fulfilled");
    scene.opening.world.finish();
}

/// A device without a network that has made its identity; off again.
fn lived(test: &str, board: &str) -> Option<(World, Guest, String)> {
    let world = World::new(PATIENCE);
    let mut guest = Guest::make(test, &world, board, "lamp", &Personal::default())?;
    guest.setting = Setting { network: Network::Absent, ..Setting::default() };
    if !guest.start() {
        return None;
    }
    // By its end it has made its identity.
    guest.until_says(&world, "the agent ended ");
    turn_off(&mut guest, board);
    if board == "rpi" {
        // After a power cut the journal has to be read first, which is what the next boot does.
        assert!(guest.start());
        guest.until_says(&world, "data area: ready");
        guest.until_says(&world, "the agent ended ");
        guest.cut_power();
    }
    let identity = identity(&guest);
    Some((world, guest, identity))
}

fn identity(guest: &Guest) -> String {
    let identity = guest.disk.debugfs(&["cat agent/identity.key"]);
    assert!(!identity.is_empty());
    identity
}

/// Where an inode is kept, in bytes from the disk's beginning.
fn inode(guest: &Guest, number: u32) -> u64 {
    let told = guest.disk.debugfs(&[&format!("imap <{number}>")]);
    let word = |before: &str| {
        let at = told.find(before).unwrap() + before.len();
        told[at..].split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap().to_owned()
    };
    let block: u64 = word("located at block ").parse().unwrap();
    let offset = u64::from_str_radix(word("offset ").trim_start_matches("0x"), 16).unwrap();
    guest.disk.partition(DATA).0 + block * 4096 + offset
}

/// As the kernel notes it when it meets what is wrong: then the next boot looks at everything.
const NOTED: &str = "set_super_value state 2";

/// A bit turns in the root folder's own record.
pub(crate) fn rots_a_little(test: &str, board: &str) {
    let Some((world, mut guest, before)) = lived(test, board) else { return };
    guest.disk.flip(inode(&guest, 2) + 0x10);
    guest.disk.debugfs(&[NOTED]);
    assert!(guest.start());
    guest.until_says(&world, "data area: ready, after a repair");
    guest.until_says(&world, "agent started as process");
    turn_off(&mut guest, board);
    assert_eq!(identity(&guest), before);
}

/// What is lost cannot be mended without a decision.
pub(crate) fn rots_more(test: &str, board: &str) {
    let Some((world, mut guest, before)) = lived(test, board) else { return };
    let record = inode(&guest, 7);
    guest.disk.write(record, &[0; 256]);
    guest.disk.debugfs(&[NOTED]);
    assert!(guest.start());
    guest
        .until_says(&world, " has damage that cannot be repaired without loss (e2fsck: 4, errors are left; ");
    guest.until_says(&world, WAITS);
    guest.until_says(&world, HELD);
    assert!(!guest.console().contains("agent started"), "{}", guest.console());
    turn_off(&mut guest, board);
    guest.disk.put_boot_file(REPAIR, b"");
    assert!(guest.start());
    guest.until_says(&world, "data area: ready, after a repair");
    guest.until_says(&world, "agent started as process");
    // The wish is removed before the agent starts.
    turn_off(&mut guest, board);
    assert!(!guest.disk.has_boot_file(REPAIR), "the wish was fulfilled");
    if board != "rpi" {
        assert_eq!(identity(&guest), before);
    }
}

/// The partition is not in the table any more: no wish makes one, and the device says what does.
pub(crate) fn is_missing(test: &str, board: &str) {
    let Some((world, mut guest, _)) = lived(test, board) else { return };
    let (start, _) = guest.disk.partition(DATA);
    let before = guest.disk.read(start, 1 << 20);
    guest.disk.forget_partition(4);
    guest.disk.put_boot_file(ERASE, b"");
    assert!(guest.start());
    guest.until_says(&world, "the data area is not used: ");
    guest.until_says(&world, "write the image to the disk again");
    guest.until_says(&world, HELD);
    turn_off(&mut guest, board);
    assert_eq!(guest.disk.read(start, 1 << 20), before, "nothing was written");
    assert!(guest.disk.has_boot_file(ERASE), "a wish that was not fulfilled stays");
}
