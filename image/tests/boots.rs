//! Images of real packages boot in QEMU from the image file, through firmware and boot loader, to their first
//! program. The programs are stand-ins: what `sosna-init` does is tested where it is built.
#![allow(clippy::unwrap_used, reason = "tests")]

mod standin;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sosna_image::Error;
use sosna_image::board::Board;
use sosna_image::compose::{self, Report, Request};
use sosna_image::inspect::{Image, SlotState};
use sosna_image::package::Cache;
use sosna_image::personal::Personal;
use sosna_image::run::{self, Options};

const LINE: &str = "the stand-in for sosna-init runs\n";
/// Software emulation of an ARM processor on a busy machine.
const PATIENCE: Duration = Duration::from_secs(170);

static TURN: Mutex<()> = Mutex::new(());

/// Packages and programs are kept between runs, as those of the other tests.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/tools")
}

/// None, with a message, where packages cannot be had.
fn compose(test: &str, board: &str, into: &Path) -> Option<Report> {
    let cache = Cache::new(&tools().join("image"), None);
    let board = standin::board(test, board, &cache)?;
    let architecture = &board.description.architecture;
    let (agent, init) = (standin::program(architecture, "agent\n"), standin::program(architecture, LINE));
    let request =
        Request { board: &board, version: "0.1.0", agent: &agent, init: &init, epoch: 1_700_000_000 };
    Some(compose::image(&request, &Personal::default(), None, &cache, into, &|_| {}).unwrap())
}

/// What the serial console says until the machine switches itself off.
fn serial(test: &str, image: &Path) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("serial.log");
    let options = Options { serial: format!("file:{}", log.display()), memory: 768, ..Options::default() };
    let mut machine = match run::prepare(image, &options, &tools(), &|_| {}) {
        Ok(machine) => machine,
        Err(error @ Error::Package { .. }) => {
            eprintln!("SKIPPED {test}: {error:?}");
            return None;
        }
        Err(error) => panic!("{error:?}"),
    };
    // One at a time: each takes a processor for itself.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = machine.command.stdin(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    let read = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    while child.try_wait().unwrap().is_none() && started.elapsed() < PATIENCE && !read().contains(LINE.trim())
    {
        std::thread::sleep(Duration::from_millis(200));
    }
    eprintln!("{test}: {:.1} s to the first program", started.elapsed().as_secs_f64());
    child.kill().unwrap();
    child.wait().unwrap();
    Some(read())
}

fn boots(test: &str, board: &str) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("sosna.img");
    let started = Instant::now();
    let Some(report) = compose(test, board, &image) else { return };
    eprintln!("{test}: composed in {:.1} s: {report:?}", started.elapsed().as_secs_f64());
    let found = Image::open(&image).unwrap().inspect().unwrap();
    assert_eq!(found.boots.len(), 1);
    assert_eq!(found.boots[0].state, SlotState::Sound);
    assert_eq!(found.boots[0].root, report.root);
    assert!(found.boots[0].packages[0].starts_with("linux-image-"));
    if Board::find(board).unwrap().description.wifi.is_some() {
        has_wireless_parts(&image);
    }
    let Some(log) = serial(test, &image) else { return };
    assert!(log.contains(LINE.trim()), "{log}");
}

/// The supplicant can be loaded, the firmware is behind its links, and nothing else has come along.
fn has_wireless_parts(image: &Path) {
    let image = Image::open(image).unwrap();
    let tree = image.slot_tree(&image.boot_images().unwrap()[0]).unwrap();
    let whole: Vec<_> = tree.iter().map(|(path, _)| path).collect();
    let loads = "usr/lib/aarch64-linux-gnu";
    for path in [
        "usr/sbin/wpa_supplicant",
        "lib",
        "usr/lib/ld-linux-aarch64.so.1",
        &format!("{loads}/libcrypto.so.3"),
        "usr/lib/firmware/brcm/brcmfmac43455-sdio.bin",
        "usr/lib/firmware/regulatory.db.p7s",
        "usr/share/sosna/licences/firmware-brcm80211/copyright",
    ] {
        assert!(whole.contains(&path), "{path}: {whole:?}");
    }
    assert!(tree.content("usr/lib/firmware/cypress/cyfmac43455-sdio.bin").is_some());
    let programs: Vec<_> =
        whole.iter().filter(|p| p.starts_with("usr/bin/") || p.starts_with("usr/sbin/")).collect();
    assert_eq!(programs, [&"usr/bin/sosna-agent", &"usr/sbin/e2fsck", &"usr/sbin/wpa_supplicant"]);
    assert!(!whole.iter().any(|path| path.contains("hwsim") || path.contains("gconv")), "{whole:?}");
    let order = String::from_utf8_lossy(tree.content("usr/lib/modules/order").unwrap()).into_owned();
    // The driver asks for its vendor's part by name, and nobody here answers: it must be there before the firmware is.
    assert!(order.contains("brcmfmac.ko\nbrcmfmac-wcc.ko\nbrcmfmac-cyw.ko\n"), "{order}");
}

// Whole devices boot when it is their kind's turn (tests/tests/guest).
xtask::rotated! {
    "boards with a stand-in";
    x86_64_uefi_boots_from_its_image_file => boots, "x86_64-uefi-cloud";
    arm64_uefi_boots_from_its_image_file => boots, "arm64-uefi-cloud";
    // QEMU's Pi has no firmware; kernel, device tree and command line are read from the card as the firmware would.
    a_raspberry_pi_boots_from_its_card => boots, "rpi";
}
