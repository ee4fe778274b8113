//! A disk of Sosna as the contract between the parts describes it, made with tools that are not ours and a tree of
//! hashes of this file's own: a second opinion on what the first stage believes.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::kit::Kit;

const MIB: u64 = 1 << 20;
/// Partitions: name and size in MiB. The data partition is as small as an image's.
const LAYOUT: [(&str, u64); 4] = [("sosna-boot", 8), ("sosna-a", 24), ("sosna-b", 24), ("sosna-data", 16)];
const SALT: [u8; 16] = *b"salt of the test";

/// A disk with its kernel's command line and its initramfs.
pub(crate) struct Disk {
    folder: TempDir,
    pub(crate) command_line: String,
}

/// What a disk is made of beyond the usual.
#[derive(Default)]
pub(crate) struct Wishes<'a> {
    /// Files of `/sosna/` on the boot partition.
    pub(crate) boot: &'a [(&'a str, &'a str)],
    /// The disk's size in MiB, at least 80: larger than the image that was written to it.
    pub(crate) size: u64,
    /// What the data partition begins with: the template as an image has it, or nothing.
    pub(crate) with_data: bool,
    /// Modules of the slot beyond the usual, and what else goes into its tree.
    pub(crate) modules: &'a [&'a str],
    pub(crate) furnish: Option<fn(&Kit, &Path)>,
}

impl Disk {
    pub(crate) fn make(kit: &Kit, wishes: &Wishes<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().to_owned();
        initramfs(kit, path);
        let template = path.join("data.ext4");
        make_template(kit, &template);
        let slot = path.join("slot.squashfs");
        squashfs(kit, path, &slot, &template, wishes);
        let root = append_tree(&slot);
        let boot = boot_partition(kit, path, wishes.boot);

        let image = File::create(path.join("disk.img")).unwrap();
        image.set_len((LAYOUT.iter().map(|(_, size)| size).sum::<u64>() + 2) * MIB).unwrap();
        let mut script = String::from("label: gpt\n");
        for (name, size) in LAYOUT {
            script.push_str(&format!("size={size}MiB, name={name}\n"));
        }
        let mut sfdisk = kit.tool("sfdisk");
        sfdisk.arg("--quiet").arg(path.join("disk.img")).stdin(std::process::Stdio::piped());
        let mut child = sfdisk.spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "sfdisk");

        let disk = Self { folder, command_line: String::new() };
        disk.put("sosna-boot", &boot);
        disk.put("sosna-a", &slot);
        if wishes.with_data {
            disk.put("sosna-data", &template);
        }
        // The card is larger than the image.
        image.set_len(wishes.size.max(80) * MIB).unwrap();
        let blocks = fs::metadata(path.join("slot.squashfs.data")).unwrap().len() / 4096;
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let command_line = format!(
            "console=ttyS0 quiet panic=-1 sosna.slot=a sosna.verity={}:{}:{blocks} sosna.board=qemu sosna.version=0.1.0",
            hex(&root),
            hex(&SALT)
        );
        Self { command_line, ..disk }
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    pub(crate) fn initramfs(&self) -> PathBuf {
        self.folder.path().join("initramfs")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a partition begins, in bytes.
    pub(crate) fn start(name: &str) -> u64 {
        let before = LAYOUT.iter().take_while(|(other, _)| *other != name);
        (1 + before.map(|(_, size)| size).sum::<u64>()) * MIB
    }

    fn put(&self, name: &str, file: &Path) {
        let content = fs::read(file).unwrap();
        let room = LAYOUT.iter().find(|(n, _)| *n == name).map(|(_, size)| size * MIB).unwrap();
        assert!(content.len() as u64 <= room, "{name} needs {} bytes", content.len());
        self.write(Self::start(name), &content);
    }

    /// Writes into the disk.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        let mut image = OpenOptions::new().write(true).open(self.image()).unwrap();
        image.seek(SeekFrom::Start(at)).unwrap();
        image.write_all(bytes).unwrap();
    }

    /// Reads from the disk.
    pub(crate) fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut image = File::open(self.image()).unwrap();
        image.seek(SeekFrom::Start(at)).unwrap();
        let mut bytes = vec![0; length];
        image.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Turns one bit within the agent's program in slot a.
    pub(crate) fn flip_a_bit(&self) {
        // Its data are the first behind the super block: small files are packed together at the end.
        let at = Self::start("sosna-a") + 64 * 1024;
        let byte = self.read(at, 1)[0];
        self.write(at, &[byte ^ 0x10]);
    }

    /// Puts a file into `/sosna/` of the boot partition, as an owner does with a card reader.
    pub(crate) fn put_boot_file(&self, kit: &Kit, name: &str) {
        let file = self.folder.path().join(name);
        fs::write(&file, "").unwrap();
        let image = format!("{}@@{}", self.image().display(), Self::start("sosna-boot"));
        run(kit.tool("mcopy").env("MTOOLS_SKIP_CHECK", "1").args(["-i", &image]).arg(&file).arg("::/sosna/"));
    }

    /// The names in `/sosna/` of the boot partition.
    pub(crate) fn boot_files(&self, kit: &Kit) -> String {
        let mdir = kit.tool("mcopy").get_program().to_owned();
        let mdir = Path::new(&mdir).with_file_name("mdir");
        let image = format!("{}@@{}", self.image().display(), Self::start("sosna-boot"));
        let done = Command::new(mdir)
            .env("MTOOLS_SKIP_CHECK", "1")
            .args(["-b", "-i", &image, "::/sosna"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn initramfs(kit: &Kit, folder: &Path) {
    let tree = folder.join("initramfs.tree");
    kit.modules(&["dm-verity", "squashfs"], &["virtio_blk"], &tree.join("modules"));
    for empty in ["dev", "proc", "sys", "run", "slot"] {
        fs::create_dir_all(tree.join(empty)).unwrap();
    }
    fs::copy(&kit.init, tree.join("init")).unwrap();
    let mut archive = Vec::new();
    let mut number = 0;
    pack(&tree, "", &mut archive, &mut number);
    member(&mut archive, "TRAILER!!!", 0, 0, &[]);
    fs::write(folder.join("initramfs"), archive).unwrap();
}

/// Adds a folder's content to an archive in cpio's newc form.
fn pack(root: &Path, below: &str, archive: &mut Vec<u8>, number: &mut u32) {
    let mut entries: Vec<_> = fs::read_dir(root.join(below)).unwrap().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        *number += 1;
        if entry.path().is_dir() {
            member(archive, &path, 0o040_755, *number, &[]);
            pack(root, &path, archive, number);
        } else {
            member(archive, &path, 0o100_755, *number, &fs::read(entry.path()).unwrap());
        }
    }
}

fn member(archive: &mut Vec<u8>, name: &str, mode: u32, number: u32, content: &[u8]) {
    let fields = [number, mode, 0, 0, 1, 0, u32::try_from(content.len()).unwrap(), 0, 0, 0, 0];
    archive.extend(b"070701");
    for field in fields.into_iter().chain([u32::try_from(name.len() + 1).unwrap(), 0]) {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn make_template(kit: &Kit, file: &Path) {
    File::create(file).unwrap().set_len(16 * MIB).unwrap();
    run(kit
        .tool("mke2fs")
        .args(["-q", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "sosna-data", "-J", "size=4"])
        .arg(file));
}

fn squashfs(kit: &Kit, folder: &Path, slot: &Path, template: &Path, wishes: &Wishes<'_>) {
    let tree = folder.join("slot.tree");
    for empty in [
        "boot",
        "data",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "var",
        "etc",
        "usr/bin",
        "usr/sbin",
        "usr/share/sosna",
    ] {
        fs::create_dir_all(tree.join(empty)).unwrap();
    }
    let programs = [(&kit.stand_in, "usr/bin/sosna-agent"), (&kit.e2fsck, "usr/sbin/e2fsck")];
    for (from, to) in programs {
        fs::copy(from, tree.join(to)).unwrap();
        fs::set_permissions(tree.join(to), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let always = ["vfat", "nls_cp437", "overlay"];
    let always: Vec<_> = always.iter().chain(wishes.modules).copied().collect();
    let drivers = ["virtio_net", "i6300esb", "button", "evdev"];
    kit.modules(&always, &drivers, &tree.join("usr/lib/modules"));
    if let Some(furnish) = wishes.furnish {
        furnish(kit, &tree);
    }
    fs::write(tree.join("etc/os-release"), "ID=sosna\nVERSION_ID=0.1.0\n").unwrap();
    fs::write(tree.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n").unwrap();
    std::os::unix::fs::symlink("/run/resolv.conf", tree.join("etc/resolv.conf")).unwrap();
    run(kit
        .tool("zstd")
        .args(["-q", "-3", "-o"])
        .arg(tree.join("usr/share/sosna/data.ext4.zst"))
        .arg(template));
    run(kit.tool("mksquashfs").arg(&tree).arg(slot).args([
        "-comp",
        "zstd",
        "-Xcompression-level",
        "1",
        "-all-root",
        "-no-progress",
    ]));
}

/// Appends the tree of hashes (dm-verity's format 1) and returns its top. The content alone stays beside it.
fn append_tree(slot: &Path) -> [u8; 32] {
    let mut content = fs::read(slot).unwrap();
    content.resize(content.len().next_multiple_of(4096), 0);
    fs::write(slot.with_extension("squashfs.data"), &content).unwrap();
    let hash =
        |block: &[u8]| -> [u8; 32] { Sha256::new().chain_update(SALT).chain_update(block).finalize().into() };
    let mut levels: Vec<Vec<u8>> = Vec::new();
    let mut below = content.clone();
    let root = loop {
        let mut level: Vec<u8> = below.chunks(4096).flat_map(hash).collect();
        if level.len() == 32 {
            break level.try_into().unwrap();
        }
        level.resize(level.len().next_multiple_of(4096), 0);
        levels.push(level.clone());
        below = level;
    };
    content.extend(levels.iter().rev().flatten());
    fs::write(slot, content).unwrap();
    root
}

/// A FAT file system with `/sosna/` in it.
fn boot_partition(kit: &Kit, folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let image = folder.join("boot.fat");
    File::create(&image).unwrap().set_len(8 * MIB).unwrap();
    run(kit.tool("mkfs.fat").args(["-n", "SOSNA"]).arg(&image));
    let tree = folder.join("sosna");
    fs::create_dir_all(&tree).unwrap();
    for (name, text) in files {
        fs::write(tree.join(name), text).unwrap();
    }
    run(kit.tool("mcopy").env("MTOOLS_SKIP_CHECK", "1").args(["-s", "-i"]).arg(&image).arg(&tree).arg("::"));
    image
}
