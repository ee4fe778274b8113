//! What the kernel makes of a scratch: mounted, filled to its end, and sound afterwards.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use super::{
    format::tests::{can_check, complaint},
    *,
};

/// Runs something in a mount namespace of its own, which ends with it.
fn apart(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let all = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, all, None::<&str>).unwrap();
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn can_mount(test: &str) -> bool {
    let may = geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !may {
        eprintln!("SKIPPED {test}: mounting needs root and loop devices");
    }
    may && can_check(test)
}

/// Mounts an image of this size, for as many bytes and inodes, has it used, and checks it.
fn use_one(bytes: u64, inodes: u64, work: impl Fn(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let (path, at) = (folder.path().join("image"), folder.path().join("at"));
    fs::create_dir(&at).unwrap();
    let size = image_size(bytes, inodes + OWN_INODES);
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.set_len(size).unwrap();
    format(&file, size, inodes + OWN_INODES).unwrap();
    let (device, keep) = crate::sys::attach_loop(&file).unwrap();
    mount(Some(&device), &at, Some("ext4"), MsFlags::empty(), Some("nobarrier")).unwrap();
    drop(keep);
    work(&at);
    unmount(&at);
    if let Some(why) = complaint(&path) {
        panic!("{bytes} bytes with {inodes} inodes: {why}");
    }
}

/// Unmounts it, once nobody has anything open there: a program that another test is just starting holds what was open
/// here until it is that program.
fn unmount(at: &Path) {
    let end = Instant::now() + Duration::from_secs(10);
    while let Err(error) = umount2(at, MntFlags::empty()) {
        assert!(error == Errno::EBUSY && Instant::now() < end, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Fills one file until it is refused; says how much there was room for.
fn fill(path: &Path) -> u64 {
    let mut file = File::create(path).unwrap();
    let piece = vec![0x5a; 1 << 20];
    loop {
        match file.write(&piece).and_then(|n| file.sync_data().map(|()| n)) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                return file.metadata().unwrap().len();
            }
        }
    }
}

#[test]
fn a_scratch_holds_what_it_is_for_and_little_more() {
    if !can_mount("a_scratch_holds_what_it_is_for_and_little_more") {
        return;
    }
    apart(|| {
        // One group, and several; many inodes to few bytes.
        for (bytes, inodes) in [(5 << 20, 100), (40 << 20, 1000), (300 << 20, 5000), (6 << 20, 100_000)] {
            use_one(bytes, inodes, |at| {
                assert_eq!(fs::read_dir(at).unwrap().count(), 0, "nothing is there at first");
                let held = fill(&at.join("full"));
                let most = bytes + bytes / 20 + (4 << 20);
                assert!((bytes..most).contains(&held), "{held} bytes of {bytes}");
            });
        }
    });
}

#[test]
fn a_scratch_is_not_full_before_its_bytes_are_written() {
    if !can_mount("a_scratch_is_not_full_before_its_bytes_are_written") {
        return;
    }
    apart(|| {
        for bytes in [5_u64 << 20, 200 << 20, 1 << 30] {
            use_one(bytes, 1000, |at| {
                let file = File::create(at.join("data")).unwrap();
                fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(bytes).unwrap()).unwrap();
                let scratch = Scratch { path: at.into(), method: DiskMethod::LoopExt4 };
                assert!(!scratch.is_full(), "{bytes}");
                drop(file);
                fill(&at.join("more"));
                assert!(scratch.is_full(), "{bytes}");
            });
        }
    });
}

#[test]
fn a_scratch_has_as_many_inodes_as_asked_for() {
    if !can_mount("a_scratch_has_as_many_inodes_as_asked_for") {
        return;
    }
    apart(|| {
        for (bytes, inodes) in [(20_u64 << 20, 300_u64), (400 << 20, 5000)] {
            use_one(bytes, inodes, |at| {
                let groups = bytes / (128 << 20) + 2;
                let mut made = 0;
                let refused = loop {
                    // Files in many folders, and some of those: the kernel spreads them over all groups.
                    let folder = at.join(format!("{}", made % 37));
                    let made_one = fs::create_dir(&folder)
                        .or_else(|_| File::create(folder.join(format!("{made}"))).map(drop));
                    match made_one {
                        Ok(()) => made += 1,
                        Err(error) => break error,
                    }
                };
                assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
                let most = inodes + OWN_INODES + 16 * groups;
                assert!((inodes..most).contains(&made), "{made} inodes of {inodes}");
            });
        }
    });
}

#[test]
fn attributes_and_removals_leave_it_sound() {
    if !can_mount("attributes_and_removals_leave_it_sound") {
        return;
    }
    apart(|| {
        use_one(200 << 20, 3000, |at| {
            for n in 0..2000_u32 {
                let path = at.join(format!("a file with a name of some length, number {n}"));
                fs::write(&path, vec![1; (n % 97) as usize * 100]).unwrap();
                let name = c"trusted.overlay.opaque";
                let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
                // SAFETY: both names are terminated, and the value is one byte long.
                let done =
                    unsafe { libc::setxattr(c_path.as_ptr(), name.as_ptr(), c"y".as_ptr().cast(), 1, 0) };
                assert_eq!(done, 0);
                if n % 3 == 0 {
                    fs::remove_file(&path).unwrap();
                }
            }
            let own = fs::metadata(at).unwrap();
            use std::os::unix::fs::MetadataExt as _;
            assert_eq!((own.uid(), own.gid(), own.mode()), (0, 0, 0o040_755));
        });
    });
}
