//! Loads kernel modules from a folder that the composer has made. `order` names what is always loaded, because only the
//! kernel itself would ask for it, by a program that an image does not have: file systems, the device mapper, character
//! sets. `drivers` names the drivers with the hardware that asks for each ([`table`]); they are loaded where that is
//! there. Dependencies and orders were resolved when the image was composed.
//!
//! Must never end the boot by itself: what is really missing shows at what needed it.

mod events;
mod glob;
mod hardware;
mod table;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

pub use events::Events;
use table::Table;

/// The kernel unpacks the file itself (`include/uapi/linux/module.h`).
const COMPRESSED: libc::c_int = 4;

/// Why a module is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// There is no list.
    #[error("cannot read {path}, a list of kernel modules; the image is incomplete", path = path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The name has folders or is not one of a module.
    #[error("{path} names {name:?}, which is not a module's file", path = path.display())]
    Name {
        /// The list.
        path: PathBuf,
        /// The line.
        name: String,
    },
    /// The kernel refused it.
    #[error("cannot load the kernel module {path}", path = path.display())]
    Load {
        /// The module.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The modules of one folder.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
    order: String,
    drivers: Table,
    /// The names of what was loaded when this folder was opened.
    loaded: BTreeSet<String>,
    /// The names of what has been tried.
    tried: BTreeSet<String>,
    /// By which names hardware has asked already.
    asked: BTreeSet<String>,
}

/// The kernel's own list.
const LOADED: &str = "/proc/modules";
const SYS: &str = "/sys";
/// Drivers that bring new devices, which bring new devices: no machine goes deeper.
const DEEPEST: usize = 16;

// === impl Modules ===

impl Modules {
    /// Reads the folder's lists, and what is wrong with them. A kernel without drivers as modules has no table.
    #[must_use]
    pub fn open(folder: &Path) -> (Self, Vec<ModuleError>) {
        let mut wrong = Vec::new();
        let mut read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| wrong.push(ModuleError::List { path, source }))
        };
        let order = read("order").unwrap_or_default();
        let drivers =
            if folder.join("drivers").exists() { read("drivers").unwrap_or_default() } else { String::new() };
        let (drivers, unknown) = Table::parse(drivers);
        let path = folder.join("drivers");
        wrong.extend(unknown.into_iter().map(|name| ModuleError::Name { path: path.clone(), name }));
        let (tried, asked) = (BTreeSet::new(), BTreeSet::new());
        (Self { folder: folder.to_owned(), order, drivers, loaded: loaded(), tried, asked }, wrong)
    }

    /// Loads what is always loaded, and returns what went wrong.
    pub fn load_always(&mut self) -> Vec<ModuleError> {
        let mut wrong = Vec::new();
        for line in lines(&self.order.clone()) {
            let (name, unless) = line.split_once(" unless ").unwrap_or((line, ""));
            if !is_module(name) {
                wrong.push(ModuleError::Name { path: self.folder.join("order"), name: name.to_owned() });
            } else if !self.loaded.contains(&normal(unless)) {
                let _ = self.load(name, &mut wrong);
            }
        }
        wrong
    }

    /// Loads the drivers of all hardware that is there now and was not before, with what that brings.
    pub fn look(&mut self) -> Vec<ModuleError> {
        let mut wrong = Vec::new();
        for _ in 0..DEEPEST {
            let aliases = hardware::aliases(Path::new(SYS));
            if !self.answer(aliases, &mut wrong) {
                break;
            }
        }
        wrong
    }

    /// Waits for new hardware and loads its drivers, without end. `told` hears of it each time.
    ///
    /// # Errors
    /// When the kernel tells no more.
    pub fn follow(mut self, events: &Events, told: impl Fn(&[ModuleError])) -> io::Result<Infallible> {
        loop {
            let news = events.wait()?;
            let before = self.tried.len();
            let mut wrong = Vec::new();
            let is_new = self.answer(news.aliases, &mut wrong);
            if is_new || news.look {
                // What a driver has brought in the meantime is heard, too; a PHY is only seen.
                wrong.extend(self.look());
            }
            if self.tried.len() > before || !wrong.is_empty() {
                told(&wrong);
            }
        }
    }

    /// Loads the drivers for these names, and tells whether any was new.
    fn answer(&mut self, aliases: impl IntoIterator<Item = String>, wrong: &mut Vec<ModuleError>) -> bool {
        let new: Vec<String> = aliases.into_iter().filter(|alias| !self.asked.contains(alias)).collect();
        if new.is_empty() {
            return false;
        }
        let files: Vec<String> = self.drivers.files(&new).map(str::to_owned).collect();
        self.asked.extend(new);
        let mut is_new = false;
        for file in files {
            is_new |= self.load(&file, wrong);
        }
        is_new
    }

    /// Loads one module unless it is there; true where it has been tried now.
    fn load(&mut self, file: &str, wrong: &mut Vec<ModuleError>) -> bool {
        let name = normal(file);
        if self.loaded.contains(&name) || !self.tried.insert(name) {
            return false;
        }
        let path = self.folder.join(file);
        if let Err(source) = load(&path) {
            wrong.push(ModuleError::Load { path, source });
        }
        true
    }
}

/// How many modules the kernel has now.
#[must_use]
pub fn count() -> usize {
    loaded().len()
}

fn loaded() -> BTreeSet<String> {
    let text = fs::read_to_string(LOADED).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn lines(order: &str) -> impl Iterator<Item = &str> {
    order.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `dm-verity.ko.xz` as the kernel calls it.
fn normal(file: &str) -> String {
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn is_module(name: &str) -> bool {
    !name.contains('/') && (name.ends_with(".ko") || name.ends_with(".ko.xz") || name.ends_with(".ko.zst"))
}

fn load(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = if path.extension().is_some_and(|e| e == "ko") { 0 } else { COMPRESSED };
    let parameters = CString::default();
    // SAFETY: the file is open and the parameters are a text with its zero for as long as the call takes.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Its device is not there (some say ENOENT, as Hyper-V's), or it is loaded.
        Some(libc::ENODEV | libc::ENOENT | libc::EEXIST) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn folder(order: &str, drivers: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("order"), order).unwrap();
        fs::write(folder.path().join("drivers"), drivers).unwrap();
        folder
    }

    /// The files that were tried, in their order: none of them is there.
    fn tried(wrong: &[ModuleError]) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        wrong
            .iter()
            .map(|error| match error {
                ModuleError::Load { path, source } => {
                    assert_eq!(source.kind(), io::ErrorKind::NotFound);
                    name(path)
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_list_is_read_line_by_line() {
        let order = "virtio_blk.ko.xz\n\n# network\n  virtio_net.ko \n";
        assert_eq!(lines(order).collect::<Vec<_>>(), ["virtio_blk.ko.xz", "virtio_net.ko"]);
        assert_eq!(normal("dm-verity.ko.xz"), "dm_verity");
    }

    #[test]
    fn a_missing_list_and_a_strange_name_are_told_and_end_nothing() {
        let empty = tempfile::tempdir().unwrap();
        let (mut modules, wrong) = Modules::open(empty.path());
        assert!(matches!(wrong.as_slice(), [ModuleError::List { .. }]), "{wrong:?}");
        assert!(modules.load_always().is_empty());
        let folder = folder("../evil.ko\nfile.txt\nabsent.ko\n", "../evil.ko\n pci:*\n");
        let (mut modules, wrong) = Modules::open(folder.path());
        assert!(matches!(wrong.as_slice(), [ModuleError::Name { .. }]), "{wrong:?}");
        let wrong = modules.load_always();
        assert!(matches!(wrong[0], ModuleError::Name { .. }) && matches!(wrong[1], ModuleError::Name { .. }));
        assert_eq!(tried(&wrong[2..]), ["absent.ko"]);
    }

    #[test]
    fn drivers_are_tried_once_in_the_tables_order() {
        let folder = folder(
            "none-such.ko\nother.ko unless none_such\nlast.ko unless absent\n",
            "a.ko z.ko b.ko\n pci:1*\nb.ko c.ko\n usb:*\n",
        );
        let (mut modules, _) = Modules::open(folder.path());
        modules.loaded.extend(["none_such".to_owned(), "z".to_owned()]);
        assert_eq!(tried(&modules.load_always()), ["last.ko"]);
        let mut wrong = Vec::new();
        let ask = |aliases: &[&str]| aliases.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(modules.answer(ask(&["usb:1", "pci:17"]), &mut wrong));
        assert_eq!(tried(&wrong), ["a.ko", "b.ko", "c.ko"]);
        assert!(!modules.answer(ask(&["usb:1", "usb:2", "scsi:"]), &mut wrong));
        assert_eq!(wrong.len(), 3);
    }
}
