//! What a taken-over unpacker could do: this program started again enters the sandbox and tries. And a whole pull as
//! a user without any rights.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat},
    thread::{CapabilitySet, capabilities},
};
use sosna_layers::{
    ImageStore, OverlayMode, Source, StoreOptions,
    unpack::{
        Limits,
        sandbox::{SandboxReport, Wall, enter},
    },
};

use crate::{
    Ran, Test, is_root,
    layers::{LIMIT, Scene, ensure, request},
    make::{Layer, Meta, Recipe, meta},
    tree::{list, xattr},
};

pub(crate) const TESTS: &[Test] = &[
    ("probes::the_sandbox_holds", the_sandbox_holds),
    ("probes::the_unpacker_reports_its_sandbox", the_unpacker_reports_its_sandbox),
    ("probes::without_any_rights", without_any_rights),
];

const SANDBOX: &str = "probe-sandbox";
const ROOTLESS: &str = "probe-rootless";
/// Followed by the store's folder, a content server's address and a manifest's digest.
pub(crate) const AGENT: &str = "probe-agent";

/// A helper that is none: the first argument says how.
pub(crate) const ODD: &str = "sosna-odd";

pub(crate) fn run_if_requested() {
    if std::env::args().next().as_deref() == Some(ODD) {
        if std::env::args().nth(1).as_deref() == Some("odd") {
            println!("what is a layer?");
        }
        std::process::exit(0)
    }
    match std::env::args().nth(1).as_deref() {
        Some(SANDBOX) => probe_sandbox(),
        Some(ROOTLESS) => probe_rootless(),
        Some(AGENT) => probe_agent(),
        Some(crate::confined::KEEPER) => {
            crate::confined::keeper(&std::env::args().skip(2).collect::<Vec<_>>())
        }
        _ => {}
    }
}

fn probe_sandbox() -> ! {
    let here = openat(CWD, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    // Opened before: even so it must not be usable as a way out.
    let etc = openat(CWD, "/etc", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let parent = rustix::process::getppid().unwrap();
    let report = enter(&here, &Limits::for_store(64 << 20));
    let node = |kind, number| mknodat(&here, "node", kind, Mode::from_raw_mode(0o666), number).is_ok();
    let done = [
        ("write inside", fs::write("inside", "x").is_ok()),
        (
            "link inside",
            mkdirat(&here, "sub", Mode::RWXU).is_ok() && fs::hard_link("inside", "sub/linked").is_ok(),
        ),
        ("whiteout", mknodat(&here, "w", FileType::CharacterDevice, Mode::empty(), 0).is_ok()),
        ("read /etc/passwd", fs::read("/etc/passwd").is_ok()),
        ("read through an old descriptor", openat(&etc, "passwd", OFlags::RDONLY, Mode::empty()).is_ok()),
        ("write outside", fs::write("../outside", "x").is_ok()),
        ("write /tmp", fs::write("/tmp/sosna-probe", "x").is_ok()),
        ("list /proc", fs::read_dir("/proc").is_ok()),
        ("socket", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("unix socket", std::os::unix::net::UnixDatagram::unbound().is_ok()),
        ("run a program", Command::new("/bin/true").status().is_ok()),
        ("a thread", std::thread::Builder::new().spawn(|| ()).is_ok()),
        ("device null", node(FileType::CharacterDevice, rustix::fs::makedev(1, 3))),
        ("block device", node(FileType::BlockDevice, rustix::fs::makedev(8, 0))),
        ("block device 0", node(FileType::BlockDevice, 0)),
        ("kill the parent", rustix::process::test_kill_process(parent).is_ok()),
        ("rename", fs::rename("inside", "renamed").is_ok()),
        ("change folder", std::env::set_current_dir("/").is_ok()),
        ("set-uid to another", rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(1)).is_ok()),
        ("be root", fs::metadata("inside").is_ok_and(|made| made.uid() == 0 || made.gid() == 0)),
        ("become root", rustix::thread::set_thread_uid(rustix::fs::Uid::ROOT).is_ok()),
        ("all memory", Vec::<u8>::new().try_reserve_exact(1 << 30).is_ok()),
    ];
    println!("{}", serde_json::to_string(&(report, done)).unwrap());
    std::process::exit(0)
}

fn the_sandbox_holds() -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("target");
    fs::create_dir(&inside).unwrap();
    let output = Command::new("/proc/self/exe").arg(SANDBOX).current_dir(&inside).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (report, done): (SandboxReport, Vec<(String, bool)>) =
        serde_json::from_slice(&output.stdout).unwrap();
    let allowed = ["write inside", "link inside", "whiteout"];
    let standing = |wall| report.standing.contains(&wall);
    for (what, succeeded) in &done {
        // Named exceptions where a wall cannot stand on this machine; everything else must hold.
        let excused = match what.as_str() {
            "read /etc/passwd" | "write /tmp" | "list /proc" | "write outside" => !standing(Wall::Landlock),
            "be root" => !standing(Wall::User),
            "all memory" => !standing(Wall::Rlimits),
            _ => !standing(Wall::Seccomp),
        };
        if allowed.contains(&what.as_str()) {
            assert!(succeeded, "{what} ({report})");
        } else if !excused {
            assert!(!succeeded, "{what} ({report})");
        }
    }
    assert_eq!(done.len(), 22);
    assert!(!folder.path().join("outside").exists());
    if report.missing.is_empty() { Ran::Passed } else { Ran::Skipped(format!("in part: {report}")) }
}

fn the_unpacker_reports_its_sandbox() -> Ran {
    let scene = Scene::new();
    assert!(scene.store.sandbox().is_none());
    ensure(&scene, &Recipe::of([Layer::new().file("f", b"x").tar()])).unwrap();
    let report = scene.store.sandbox().unwrap();
    assert_eq!(report.standing.len() + report.missing.len(), 7, "{report}");
    for wall in [Wall::Rlimits, Wall::Capabilities, Wall::NoNewPrivileges] {
        assert!(report.standing.contains(&wall), "{report}");
    }
    eprintln!("the sandbox on this machine: {report}");
    Ran::Passed
}

fn probe_rootless() -> ! {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    assert!(!is_root() && capabilities(None).unwrap().effective == CapabilitySet::empty());
    let owned = Meta { uid: 12, gid: 34, ..meta(0o640) };
    let layer = Layer::new()
        .entry(tar::EntryType::Regular, "owned", "", &owned, b"x")
        .entry(tar::EntryType::Directory, "closed", "", &meta(0o500), b"")
        .file("closed/inside", b"i")
        .pax(&[(
            "SCHILY.xattr.security.capability",
            &[1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        )])
        .file("capable", b"c")
        .dir("o")
        .file("o/.wh..wh..opq", b"")
        .file(".wh.gone", b"")
        .tar();
    let scene = Scene::new();
    assert_eq!(scene.store.overlay_mode(), OverlayMode::UserXattr);
    let image = ensure(&scene, &Recipe::of([layer])).unwrap();
    let root = &image.layers[0];
    let found = list(root);
    assert_eq!(found["owned"], "file 640 x");
    assert_eq!(found["closed"], "dir 700");
    assert_eq!(found["closed/inside"], "file 644 i");
    assert_eq!(found["gone"], "whiteout");
    assert_eq!(xattr(&root.join("o"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert_eq!(xattr(&root.join("capable"), "security.capability"), None);
    let report = scene.store.sandbox().unwrap();
    assert!(report.standing.contains(&Wall::NoNewPrivileges) && !report.missing.is_empty(), "{report}");
    println!("{report}");
    drop(image);
    crate::block_on(scene.store.remove_unused()).unwrap();
    scene.assert_clean();
    std::process::exit(0)
}

/// Another process that pulls an image, to be killed by the test that started it.
fn probe_agent() -> ! {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let store = ImageStore::open(Path::new(&arguments[0]), LIMIT, StoreOptions::default()).unwrap();
    let source = Source::Content { base_url: arguments[1].clone(), client: reqwest::Client::new() };
    crate::block_on(store.ensure(&request(arguments[2].parse().unwrap(), vec![source]))).unwrap();
    std::process::exit(0)
}

fn without_any_rights() -> Ran {
    if !is_root() {
        return Ran::Skipped(
            "becoming another user needs root; the other tests ran without rights already".into(),
        );
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let Some(program) = readable_copy(folder.path()) else {
        return Ran::Skipped("the test program cannot be copied".into());
    };
    let output = Command::new(program)
        .arg(ROOTLESS)
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("without rights: {}", String::from_utf8_lossy(&output.stdout).trim());
    Ran::Passed
}

/// The build folder may be closed to other users.
fn readable_copy(folder: &Path) -> Option<std::path::PathBuf> {
    let copy = folder.join("program");
    fs::copy("/proc/self/exe", &copy).ok()?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).ok()?;
    Some(copy)
}
