//! The programs and the kernel that the tests need, unpacked from Debian's packages and never installed, and our own
//! programs linked statically.

use std::{
    collections::{BTreeMap, BTreeSet},
    env::consts::ARCH,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use sosna_apt::{Apt, qemu::Qemu};
use xtask::{
    paths::Tree,
    tools::programs::{self, Unpacked},
};

/// Everything that was found.
pub(crate) struct Kit {
    pub(crate) vmlinuz: PathBuf,
    modules: PathBuf,
    /// The folder that stands for `/` of the packages of [`WIRELESS`], in the kit that has them.
    pub(crate) wireless: Option<PathBuf>,
    qemu: Qemu,
    tools: BTreeMap<&'static str, Unpacked>,
    pub(crate) e2fsck: PathBuf,
    pub(crate) init: PathBuf,
    pub(crate) stand_in: PathBuf,
}

const TOOLS: [(&str, &str, &str); 6] = [
    ("zstd", "zstd", "usr/bin/zstd"),
    ("mksquashfs", "squashfs-tools", "usr/bin/mksquashfs"),
    ("sfdisk", "fdisk", "sbin/sfdisk"),
    ("mcopy", "mtools", "usr/bin/mcopy"),
    ("mkfs.fat", "dosfstools", "sbin/mkfs.fat"),
    ("mke2fs", "e2fsprogs", "sbin/mke2fs"),
];

/// The supplicant as images have it; and what the air around a device is made of.
const WIRELESS: [&str; 5] = ["wpasupplicant", "wireless-regdb", "hostapd", "iw", "busybox-static"];

/// The kit, made once; none, with the reason printed, where it cannot be had.
pub(crate) fn kit(test: &str) -> Option<&'static Kit> {
    static KIT: OnceLock<Result<Kit, String>> = OnceLock::new();
    or_skip(test, KIT.get_or_init(|| find("cloud-amd64", false)))
}

/// The kit with a kernel that has wireless cards, and with [`WIRELESS`].
pub(crate) fn wireless_kit(test: &str) -> Option<&'static Kit> {
    static KIT: OnceLock<Result<Kit, String>> = OnceLock::new();
    or_skip(test, KIT.get_or_init(|| find("amd64", true)))
}

fn or_skip(test: &str, found: &'static Result<Kit, String>) -> Option<&'static Kit> {
    match found {
        Ok(kit) => Some(kit),
        Err(reason) => {
            eprintln!("SKIPPED {test}: {reason}");
            None
        }
    }
}

fn find(flavour: &str, with_wireless: bool) -> Result<Kit, String> {
    if ARCH != "x86_64" {
        return Err(format!("the machine that is emulated is an x86_64, and this is {ARCH}"));
    }
    let tree = Tree::find().map_err(|e| e.to_string())?;
    let unpack = |package, program| {
        programs::unpack(&tree, package, program)
            .map_err(|e| format!("{package} cannot be had: {}", sosna_boot::console::chain(&e)))
    };
    let qemu = Qemu::obtain(&tree.tools(), "qemu-system-x86", "qemu-system-x86_64")
        .map_err(|e| format!("QEMU cannot be had: {}", sosna_boot::console::chain(&e)))?;
    if let Some(doubt) = &qemu.doubt {
        eprintln!("{doubt}");
    }
    let mut tools = BTreeMap::new();
    for (name, package, program) in TOOLS {
        tools.insert(name, unpack(package, program)?);
    }
    let e2fsck = unpack("e2fsck-static", "sbin/e2fsck.static")?.program;
    let apt = Apt::new(&tree.tools());
    let obtain = |packages: &[&str], into: PathBuf| {
        apt.unpack(packages, true, &into)
            .map(|_| into)
            .map_err(|e| format!("{} cannot be had: {}", packages[0], sosna_boot::console::chain(&e)))
    };
    let folder = flavour.trim_end_matches("-amd64");
    let kernel =
        obtain(&[&format!("linux-image-6.12-{flavour}")], tree.tools().join(format!("kernel-{folder}")))?;
    let wireless = with_wireless.then(|| obtain(&WIRELESS, tree.tools().join("wireless"))).transpose()?;
    let vmlinuz = only(&kernel.join("boot"), "vmlinuz-")?;
    let modules = only(&kernel.join("lib/modules"), "")?;
    depmod(&kernel, &modules)?;
    // Tests find a mistake of ours here: it is not a reason to skip them.
    let programs = build(&tree);
    Ok(Kit {
        vmlinuz,
        modules,
        wireless,
        qemu,
        tools,
        e2fsck,
        init: programs.join("sosna-init"),
        stand_in: programs.join("stand-in"),
    })
}

fn only(folder: &Path, prefix: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let name = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    entries
        .flatten()
        .map(|e| e.path())
        .find(name)
        .ok_or_else(|| format!("no {prefix}* in {}", folder.display()))
}

/// The package's own `depmod`, which runs at a package's installation otherwise.
fn depmod(kernel: &Path, modules: &Path) -> Result<(), String> {
    if modules.join("modules.dep").exists() {
        return Ok(());
    }
    let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|l| kernel.join(l));
    // The C library must be the one of the system's loader, so only the others are offered.
    let own = tempfile::tempdir().map_err(|e| e.to_string())?;
    for library in libraries.iter().filter_map(|l| fs::read_dir(l).ok()).flatten().flatten() {
        let name = library.file_name();
        if ["libkmod", "liblzma", "libzstd", "libcrypto"]
            .iter()
            .any(|l| name.to_string_lossy().starts_with(l))
        {
            let _ = fs::copy(library.path(), own.path().join(name));
        }
    }
    let done = Command::new(kernel.join("bin/kmod"))
        // It does what the name says that it is started by.
        .arg0("depmod")
        .env("LD_LIBRARY_PATH", own.path())
        .arg("-b")
        .arg(kernel)
        .arg(modules.file_name().unwrap_or_default())
        .output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!("depmod: {}", String::from_utf8_lossy(&done.stderr))),
        Err(error) => Err(format!("depmod: {error}")),
    }
}

/// Links `sosna-init` and the stand-in for the agent statically, as a device needs them.
fn build(tree: &Tree) -> PathBuf {
    let target = "x86_64-unknown-linux-gnu";
    let done = Command::new(env!("CARGO"))
        .current_dir(tree.root())
        .args(["build", "--quiet", "--package", "sosna-boot", "--bin", "sosna-init"])
        .args(["--package", "sosna-boot-stand-in", "--bin", "stand-in"])
        .args(["--target", target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols -C opt-level=1")
        .status()
        .expect("cargo starts");
    assert!(done.success(), "sosna-init and the stand-in do not compile");
    tree.target().join(target).join("debug")
}

// === impl Kit ===

impl Kit {
    /// One of the tools, ready for arguments.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let tool = &self.tools[name];
        let mut command = Command::new(&tool.program);
        command.env("LD_LIBRARY_PATH", &tool.libraries);
        command
    }

    /// The emulator, ready for arguments.
    pub(crate) fn qemu(&self) -> Command {
        self.qemu.command()
    }

    /// Copies modules with what they need into `folder`, and writes the order of those that are always loaded and the
    /// table of drivers, as `depmod` sees both.
    pub(crate) fn modules(&self, always: &[&str], drivers: &[&str], folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let text = fs::read_to_string(self.modules.join("modules.dep")).unwrap();
        let stem = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split('.').next().unwrap_or_default().replace('-', "_")
        };
        let table: BTreeMap<String, (&str, Vec<&str>)> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| (stem(path), (path, needs.split_whitespace().collect())))
            .collect();
        let files = |name: &str| -> Vec<&str> {
            let (path, needs) =
                &table.get(&name.replace('-', "_")).unwrap_or_else(|| panic!("no module {name}"));
            // depmod names the nearest first.
            let all = needs.iter().rev().chain([path]);
            all.map(|path| {
                let file = path.rsplit('/').next().unwrap_or_default();
                fs::copy(self.modules.join(path), folder.join(file)).unwrap();
                file
            })
            .collect()
        };
        let (mut order, mut seen) = (String::new(), BTreeSet::new());
        for file in always.iter().flat_map(|name| files(name)) {
            if seen.insert(file) {
                order.push_str(&format!("{file}\n"));
            }
        }
        fs::write(folder.join("order"), order).unwrap();
        let aliases = fs::read_to_string(self.modules.join("modules.alias")).unwrap();
        let mut text = String::new();
        for name in drivers {
            text.push_str(&format!("{}\n", files(name).join(" ")));
            for line in aliases.lines() {
                let words: Vec<_> = line.split(' ').collect();
                if let ["alias", pattern, module] = words.as_slice()
                    && *module == name.replace('-', "_")
                {
                    text.push_str(&format!(" {pattern}\n"));
                }
            }
        }
        fs::write(folder.join("drivers"), text).unwrap();
    }
}
