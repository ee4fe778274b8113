//! A finished image of real packages: whole, the same each time, personalised, flashed, published, and refused when a
//! bit of it is wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

mod standin;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sosna_image::Error;
use sosna_image::block::{fat::Fat, region::Region, uki};
use sosna_image::board::Board;
use sosna_image::compose::{self, Request, SLOT_A};
use sosna_image::flash::{self, Target};
use sosna_image::inspect::{Image, PartsState, SlotState};
use sosna_image::package::Cache;
use sosna_image::personal::{self, Interface, Personal, Secret, Wifi};
use sosna_image::{publish, sources};

const BOARD: &str = "x86_64-uefi-cloud";

fn cache() -> Cache {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/tools/image");
    Cache::new(&tools, None)
}

fn compose_into(board: &Board, path: &Path) {
    let architecture = &board.description.architecture;
    let (agent, init) = (standin::program(architecture, "agent\n"), standin::program(architecture, "init\n"));
    let request = Request { board, version: "0.1.0", agent: &agent, init: &init, epoch: 1_700_000_000 };
    compose::image(&request, &Personal::default(), None, &cache(), path, &|_| {}).unwrap();
}

/// A copy of an image that all tests of this file share; none, with a message, where packages cannot be had.
fn image(test: &str, folder: &Path) -> Option<PathBuf> {
    static SHARED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images.img");
        compose_into(&standin::board(test, BOARD, &cache())?, &path);
        Some(path)
    });
    let Some(shared) = shared else {
        eprintln!("SKIPPED {test}: there is no archive, as was said");
        return None;
    };
    let path = folder.join("sosna.img");
    sosna_image::run::copy_sparse(shared, &path).unwrap();
    Some(path)
}

fn flip(path: &Path, at: u64) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[test]
fn the_same_inputs_make_the_same_bytes_and_a_wrong_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = image("the_same_inputs_make_the_same_bytes_and_a_wrong_bit_is_found", folder.path())
    else {
        return;
    };
    let again = folder.path().join("again.img");
    let Some(board) = standin::board("", BOARD, &cache()) else { panic!("it was there before") };
    compose_into(&board, &again);
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());

    let found = Image::open(&path).unwrap();
    let slot = found.partition(SLOT_A).unwrap().start;
    let used = found.used_of_slot();
    let state = || Image::open(&path).unwrap().inspect().unwrap().boots.remove(0).state;
    assert_eq!(state(), SlotState::Sound);
    for (at, reason) in [(slot + 5000, "root hash"), (slot + used - 4096, "hash tree")] {
        flip(&path, at);
        let SlotState::Damaged(text) = state() else { panic!("the bit at {at} was not found") };
        assert!(text.contains(reason), "{text}");
        flip(&path, at);
    }
    assert_eq!(state(), SlotState::Sound);
    // Behind the slot nothing counts.
    flip(&path, slot + used + 100);
    assert_eq!(state(), SlotState::Sound);
}

/// Turns a bit in the middle of what `part` finds in a file of the boot partition.
fn flip_in_boot(path: &Path, file: &str, part: impl Fn(&[u8]) -> Range<usize>) {
    let partition = Image::open(path).unwrap().partition(compose::BOOT).unwrap().clone();
    let disk = File::options().read(true).write(true).open(path).unwrap();
    let fat = Fat::open(Region::new(disk, partition.start, partition.bytes)).unwrap();
    let mut content = fat.read(file).unwrap().unwrap();
    let range = part(&content);
    content[range.start + range.len() / 2] ^= 4;
    fat.write(file, &content).unwrap();
    fat.finish().unwrap();
}

fn parts(path: &Path) -> PartsState {
    Image::open(path).unwrap().inspect().unwrap().boots.remove(0).parts
}

#[test]
fn a_wrong_bit_of_a_boot_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = image("a_wrong_bit_of_a_boot_image_is_named", folder.path()) else { return };
    assert_eq!(parts(&path), PartsState::Sound);
    let file = Image::open(&path).unwrap().boot_images().unwrap()[0].path.clone();
    for section in [".linux", ".initrd", ".text"] {
        let place = |image: &[u8]| {
            let found = uki::section(image, section).unwrap();
            let start = found.as_ptr() as usize - image.as_ptr() as usize;
            start..start + found.len()
        };
        flip_in_boot(&path, &file, place);
        assert_eq!(parts(&path), PartsState::Differs(vec![section.to_owned()]));
        flip_in_boot(&path, &file, place);
    }
    assert_eq!(parts(&path), PartsState::Sound);

    let card = folder.path().join("card.img");
    let test = "a_wrong_bit_of_a_boot_image_is_named (a device tree)";
    let Some(board) = standin::board(test, "rpi", &cache()) else { return };
    compose_into(&board, &card);
    assert_eq!(parts(&card), PartsState::Sound);
    flip_in_boot(&card, "slot-a/bcm2711-rpi-4-b.dtb", |tree| 0..tree.len());
    assert_eq!(parts(&card), PartsState::Differs(vec!["bcm2711-rpi-4-b.dtb".to_owned()]));
}

#[test]
fn a_finished_image_is_personalised_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = image("a_finished_image_is_personalised_in_place", folder.path()) else { return };
    let mut settings = Personal::default();
    settings.settings.hostname = Some("lamp".to_owned());
    settings
        .settings
        .network
        .interfaces
        .push(Interface::parse("eth0=192.168.1.5/24,gateway=192.168.1.1").unwrap());
    personal::personalise(&path, &settings, false).unwrap();
    let found = Image::open(&path).unwrap().inspect().unwrap();
    assert_eq!(found.hostname.as_deref(), Some("lamp"));
    assert!(found.join.is_none() && found.payout_to.is_none());
    assert_eq!(found.boots[0].state, SlotState::Sound);
    let mut owner = Personal::default();
    owner.pay_to("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed").unwrap();
    personal::personalise(&path, &owner, false).unwrap();
    let found = Image::open(&path).unwrap().inspect().unwrap();
    assert_eq!(found.payout_to.as_deref(), Some("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"));
    assert_eq!(found.hostname.as_deref(), Some("lamp"));
    assert!(found.wifi.is_empty());
    settings.settings.wifi = Some(Wifi {
        ssid: Some("lab".to_owned()),
        password: Some(Secret::new("very secret".to_owned())),
        ..Wifi::default()
    });
    personal::personalise(&path, &settings, false).unwrap();
    let found = Image::open(&path).unwrap().inspect().unwrap();
    assert_eq!(found.wifi, ["lab"]);
    assert!(!serde_json::to_string(&found).unwrap().contains("secret"));
    settings.join = Some("sosna1nonsense".to_owned());
    assert!(matches!(personal::personalise(&path, &settings, false), Err(Error::Refused(_))));

    // Another program reads the same files, where there is one.
    let boot = Image::open(&path).unwrap().partition(compose::BOOT).unwrap().start;
    let drive = format!("{}@@{boot}", path.display());
    match std::process::Command::new("mtype").args(["-i", &drive, "::/sosna/device.toml"]).output() {
        Ok(output) => assert!(String::from_utf8_lossy(&output.stdout).contains("hostname = \"lamp\"")),
        Err(_) => eprintln!("SKIPPED a part of a_finished_image_is_personalised_in_place: mtype is not here"),
    }
}

#[test]
fn what_is_flashed_is_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = image("what_is_flashed_is_the_image", folder.path()) else { return };
    let card = folder.path().join("card");
    fs::write(&card, "").unwrap();
    let small = Target::find(&card).unwrap();
    assert!(matches!(flash::flash(&path, &small, &|_, _, _| {}), Err(Error::Room { .. })));

    // A used card, larger than the image: what is on it shines through where nothing is written.
    let bytes = 480_u64 << 20;
    let mut file = File::create(&card).unwrap();
    for _ in 0..bytes >> 20 {
        file.write_all(&[0xa5; 1 << 20]).unwrap();
    }
    drop(file);
    let seen = std::cell::RefCell::new(Vec::new());
    let target = Target::find(&card).unwrap();
    flash::flash(&path, &target, &|step, done, total| {
        seen.borrow_mut().push((step.to_owned(), done, total));
    })
    .unwrap();
    let seen = seen.into_inner();
    assert!(seen.iter().any(|(step, done, total)| step == "writing" && done == total));
    assert!(seen.iter().any(|(step, done, total)| step == "verifying" && done == total));
    let found = Image::open(&card).unwrap().inspect().unwrap();
    assert_eq!(found.boots[0].state, SlotState::Sound);

    let (image, card) = (fs::read(&path).unwrap(), fs::read(&card).unwrap());
    let opened = Image::open(&path).unwrap();
    let ranges = compose::written(&opened.partitions, opened.bytes, opened.used_of_slot());
    for (start, length) in &ranges {
        let range = usize::try_from(*start).unwrap()..usize::try_from(start + length).unwrap();
        assert!(image[range.clone()] == card[range]);
    }
    let b = usize::try_from(opened.partition(compose::SLOT_B).unwrap().start).unwrap();
    assert_eq!(card[b], 0xa5, "the empty slot is not written");
}

#[test]
fn a_published_image_has_its_sums_map_sources_and_list() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = image("a_published_image_has_its_sums_map_sources_and_list", folder.path()) else {
        return;
    };
    let out = folder.path().join("out");
    let published = publish::publish(&path, &out, "https://images.example/").unwrap();
    assert_eq!(published.files.len(), 4);
    assert!(published.imager.is_none(), "this board is no Raspberry Pi");
    let packed = fs::read(out.join("sosna.img.zst")).unwrap();
    eprintln!("the packed image has {} bytes", packed.len());
    assert!(zstd::decode_all(&packed[..]).unwrap() == fs::read(&path).unwrap());
    let map = fs::read_to_string(out.join("sosna.img.bmap")).unwrap();
    assert_eq!(map.matches("<Range").count(), 3);
    assert!(!map.contains(&"0".repeat(64)));
    let sums = fs::read_to_string(out.join("sosna.img.sha256")).unwrap();
    assert_eq!(sums.lines().count(), 4);
    match std::process::Command::new("sha256sum")
        .args(["-c", "--ignore-missing", "sosna.img.sha256"])
        .current_dir(&out)
        .output()
    {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => eprintln!("SKIPPED a part of a_published_image_has_its_sums: sha256sum is not here"),
    }
    let spdx: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("sosna.img.spdx.json")).unwrap()).unwrap();
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    assert_eq!(spdx["packages"].as_array().unwrap().len(), 7);

    let found = sources::sources(&path).unwrap();
    let named = |name: &str| found.iter().any(|source| source.source == name);
    assert!(named("linux") && named("systemd") && named("e2fsprogs"), "{found:?}");
    let texts = sources::licences(&path, &out.join("licences")).unwrap();
    assert!(texts > 15, "{texts}");
    assert!(out.join("licences/common-licenses/GPL-2").is_file());
}

/// What a board's pins were, as they become when the archive has moved on.
#[test]
fn pins_that_are_gone_are_told_and_the_current_packages_can_be_taken() {
    let test = "pins_that_are_gone_are_told_and_the_current_packages_can_be_taken";
    let Some(mut board) = standin::board(test, BOARD, &cache()) else { return };
    let folder = tempfile::tempdir().unwrap();
    // Lists of its own, so that nothing is there already.
    let cache = Cache::new(folder.path(), None);
    let pin = board.lock.packages.iter_mut().find(|pin| pin.name == "base-files").unwrap();
    // The suite does not name this version, but the file is still in its place.
    let now = cache.candidate(&pin.suite, &pin.name, &pin.arch, false).unwrap();
    pin.version = "0.old".to_owned();
    if now.sha256 == pin.sha256 {
        pin.file = now.file;
        let file = cache.obtain(pin).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), pin.size);
        fs::remove_file(file).unwrap();
    }
    // Not even that.
    let right = pin.sha256.clone();
    pin.sha256 = "ab".repeat(32);
    pin.file = "pool/main/b/base-files/base-files_0.old_amd64.deb".to_owned();
    let error = cache.obtain(pin).unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error:?}");
    assert!(error.to_string().contains("--current") && error.to_string().contains("0.old"), "{error}");
    let (current, changes) = board.current(&cache, 7).unwrap();
    let change = changes.iter().find(|change| change.package == "base-files").unwrap();
    assert_eq!(change.pinned, "0.old");
    let found = current.lock.packages.iter().find(|pin| pin.name == "base-files").unwrap();
    assert_eq!(found.version, change.current);
    assert!(found.sha256 == right || changes.len() > 1, "the archive has moved on since it was pinned");
    cache.obtain(found).unwrap();
}
