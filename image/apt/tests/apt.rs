//! apt's client under our private configuration, against the system's own archive.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use sosna_apt::qemu::{self, Qemu};
use sosna_apt::{Apt, AptError, Suite};

/// What of the system's apt must stay as it is.
fn system() -> Vec<(String, Option<std::time::SystemTime>)> {
    ["/etc/apt", "/var/lib/apt/lists", "/var/cache/apt", "/var/cache/apt/archives", "/var/lib/dpkg/status"]
        .map(|path| (path.to_owned(), fs::metadata(path).and_then(|m| m.modified()).ok()))
        .to_vec()
}

#[test]
fn a_package_is_unpacked_once_and_the_system_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let apt = Apt::new(dir.path());
    let into = dir.path().join("busybox");
    let before = system();
    let packages = match apt.unpack(&["busybox-static"], false, &into) {
        Ok(packages) => packages,
        Err(error @ (AptError::Missing(_) | AptError::Failed { .. })) => {
            eprintln!("SKIPPED a_package_is_unpacked_once_and_the_system_left_alone: {error}");
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!(packages.len(), 1);
    assert_eq!(packages[0].name, "busybox-static");
    assert_eq!(packages[0].sha256.len(), 64);
    assert!(into.join("bin/busybox").is_file());
    assert_eq!(system(), before);

    // A second time nothing is made anew: a mark that we left in the folder is still there.
    fs::write(into.join("mark"), "").unwrap();
    assert_eq!(apt.unpack(&["busybox-static"], false, &into).unwrap(), packages);
    assert!(into.join("mark").exists());

    // Another request for the same folder replaces it.
    let more = apt.unpack(&["busybox-static"], true, &into).unwrap();
    assert!(more.iter().any(|p| p.name == "busybox-static"));
    assert!(!into.join("mark").exists());
    assert_eq!(system(), before);
}

#[test]
fn a_package_that_does_not_exist_is_an_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("x");
    let error = Apt::new(dir.path()).unpack(&["sosna-no-such-package"], true, &into).unwrap_err();
    assert!(!Path::new(&into).exists());
    match error {
        AptError::Failed { reason, .. } => assert!(!reason.is_empty()),
        AptError::Missing(tool) => eprintln!("SKIPPED a_package_that_does_not_exist: {tool} is not here"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_suite_and_machine_can_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let before = system();
    let suite = Suite::new(dir.path(), "trixie", &["main"], &["amd64", "arm64"], None);
    let found = match suite.candidate("e2fsck-static", "arm64", false) {
        Ok(found) => found,
        Err(error @ (AptError::Missing(_) | AptError::Failed { .. } | AptError::Archive { .. })) => {
            eprintln!("SKIPPED another_suite_and_machine_can_be_asked: {error}");
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!((found.source.as_str(), found.arch.as_str()), ("e2fsprogs", "arm64"));
    let file = suite.download(&found.name, &found.version, &found.arch, dir.path()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), found.size);
    let hash = sosna_apt::digest::of_reader(&mut fs::File::open(&file).unwrap()).unwrap().hex();
    assert_eq!(hash, found.sha256);
    // By its path alone, as when the suite has moved on.
    let by_path = suite.fetch(&found.file, &dir.path().join("by-path")).unwrap();
    assert_eq!(fs::read(&by_path).unwrap(), fs::read(&file).unwrap());
    for path in ["pool/../../etc/passwd", "/etc/passwd", "", "pool/main/n/none_1_all.deb"] {
        assert!(matches!(suite.fetch(path, dir.path()), Err(AptError::Failed { .. })), "{path}");
    }
    let error = suite.candidate("sosna-no-such-package", "arm64", false).unwrap_err();
    assert!(matches!(error, AptError::NoPackage { .. }), "{error:?}");
    assert_eq!(system(), before);
}

/// Kept where the other tests find it: it is large.
#[test]
fn an_emulator_that_is_new_enough_can_be_had() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("target/tools");
    let before = system();
    let found = match Qemu::obtain(&tools, "qemu-system-x86", "qemu-system-x86_64") {
        Ok(found) => found,
        Err(error) => {
            eprintln!("SKIPPED an_emulator_that_is_new_enough_can_be_had: {error}");
            return;
        }
    };
    if let Some(doubt) = &found.doubt {
        eprintln!("SKIPPED an_emulator_that_is_new_enough_can_be_had: {doubt}");
        return;
    }
    assert!(found.version() >= Some(qemu::OLDEST), "{found:?}");
    // Its own files are found: it loads a machine's BIOS, and ends when it is told to.
    let order = tools.join("quit");
    fs::write(&order, "quit\n").unwrap();
    let output = found
        .command()
        .args(["-M", "q35", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"])
        .stdin(fs::File::open(&order).unwrap())
        .output()
        .unwrap();
    fs::remove_file(&order).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(system(), before);
}
