//! Finds the kernel modules that a stage of the boot needs: those that are always loaded, in their order, and drivers,
//! each with the order of what it needs and the names by which hardware asks for it.
//!
//! Debian's kernel packages carry neither `modules.dep` nor `modules.alias` (they are made when a package is installed),
//! so both are read from the modules themselves: the lines `depends=`, `softdep=` and `alias=` of their `.modinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use crate::Error;

/// All modules of one kernel.
#[derive(Debug, Default)]
pub struct Modules {
    /// File name without folders and packing, dashes as underscores, to the packed file.
    packed: BTreeMap<String, (String, Vec<u8>)>,
    builtin: BTreeSet<String>,
}

/// A module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its file name without packing: `dm-verity.ko`.
    pub file: String,
    /// The unpacked file.
    pub content: Vec<u8>,
}

/// A driver and the hardware that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The files that it needs in load order; the last is its own.
    pub files: Vec<String>,
    /// Patterns of the names by which devices ask for it, sorted.
    pub aliases: Vec<String>,
}

/// What one stage of the boot loads.
#[derive(Debug, Default)]
pub struct Stage {
    /// What is always loaded, in this order: file names, some with ` unless NAME` behind them, a module in whose
    /// presence they are not needed.
    pub always: Vec<String>,
    /// What is loaded where its hardware is.
    pub drivers: Vec<Driver>,
    /// All files.
    pub modules: Vec<Module>,
}

// === impl Modules ===

impl Modules {
    /// Adds a module file of the kernel's package (`…/dm-verity.ko.xz`).
    pub fn add(&mut self, path: &str, content: Vec<u8>) {
        let file = path.rsplit('/').next().unwrap_or(path);
        self.packed.insert(normal(file), (file.to_owned(), content));
    }

    /// Adds the text of `modules.builtin`.
    pub fn add_builtin(&mut self, text: &str) {
        self.builtin.extend(text.lines().map(|line| normal(line.rsplit('/').next().unwrap_or(line))));
    }

    /// The modules that `always` names, and the drivers, with what they need. What is built into the kernel, and what
    /// is among the files `there`, is left out. A name that ends with `?` may be missing; ` unless OTHER` behind a name
    /// is for the device.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the kernel has no such module, one cannot be read, or hardware never asks for a driver.
    pub fn resolve(&self, always: &[String], drivers: &[String], there: &[String]) -> Result<Stage, Error> {
        let mut resolver = Resolver { modules: self, read: BTreeMap::new() };
        let mut stage = Stage::default();
        let mut order = Vec::new();
        for wanted in always {
            let (name, unless) =
                wanted.split_once(" unless ").map_or((&wanted[..], None), |(n, u)| (n, Some(u)));
            let known = order.len();
            resolver.visit(&normal(name.trim_end_matches('?')), !name.ends_with('?'), &mut order)?;
            for module in order.get(known..).unwrap_or_default() {
                let file = &resolver.of(module)?.file;
                let is_it = *module == normal(name);
                stage.always.push(match unless.filter(|_| is_it) {
                    Some(other) => format!("{file} unless {}", normal(other)),
                    None => file.clone(),
                });
            }
        }
        let mut all = order;
        for name in drivers {
            let mut order = Vec::new();
            resolver.visit(&normal(name.trim_end_matches('?')), !name.ends_with('?'), &mut order)?;
            let Some(own) = order.last() else { continue };
            let aliases = resolver.of(own)?.info.aliases.clone();
            if aliases.is_empty() {
                return Err(Error::malformed(
                    format!("the driver {name}"),
                    "no hardware asks for it by a name; what only the kernel asks for belongs under [modules]",
                ));
            }
            let files =
                order.iter().map(|one| Ok(resolver.of(one)?.file.clone())).collect::<Result<_, Error>>()?;
            stage.drivers.push(Driver { files, aliases });
            all.extend(order);
        }
        stage.always.retain(|line| !there.contains(line));
        for name in all {
            if let Some(read) = resolver.read.remove(&name)
                && !there.contains(&read.file)
            {
                stage.modules.push(Module { file: read.file, content: read.content });
            }
        }
        Ok(stage)
    }
}

/// A module that was read.
struct Read {
    file: String,
    content: Vec<u8>,
    info: Info,
}

struct Resolver<'a> {
    modules: &'a Modules,
    read: BTreeMap<String, Read>,
}

// === impl Resolver ===

impl Resolver<'_> {
    /// Adds a module to the order, what it needs before it.
    fn visit(&mut self, name: &str, required: bool, order: &mut Vec<String>) -> Result<(), Error> {
        if self.modules.builtin.contains(name) || order.iter().any(|known| known == name) {
            return Ok(());
        }
        if !self.modules.packed.contains_key(name) {
            if required {
                return Err(Error::malformed("the kernel", format!("it has no module {name}")));
            }
            return Ok(());
        }
        let info = &self.of(name)?.info;
        let (depends, before) = (info.depends.clone(), info.before.clone());
        for dependency in depends {
            self.visit(&dependency, true, order)?;
        }
        for dependency in before {
            // These are names or aliases (`crypto-crc32c`); an alias is answered by another module of the list.
            self.visit(&dependency, false, order)?;
        }
        // One that needs itself, by a detour, is in it now.
        if !order.iter().any(|known| known == name) {
            order.push(name.to_owned());
        }
        Ok(())
    }

    fn of(&mut self, name: &str) -> Result<&Read, Error> {
        if !self.read.contains_key(name) {
            let (file, packed) = self
                .modules
                .packed
                .get(name)
                .ok_or_else(|| Error::malformed("the kernel", format!("it has no module {name}")))?;
            let content = unpack(file, packed)?;
            let info = modinfo(&content).ok_or_else(|| {
                Error::malformed(format!("the module {file}"), "it has no .modinfo section")
            })?;
            let file = file.trim_end_matches(".xz").trim_end_matches(".zst").to_owned();
            self.read.insert(name.to_owned(), Read { file, content, info });
        }
        self.read.get(name).ok_or_else(|| Error::malformed("the kernel", "a module that was read is gone"))
    }
}

// === impl Stage ===

impl Stage {
    /// The file `order` for the device.
    #[must_use]
    pub fn order(&self) -> String {
        self.always.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// The file `drivers` for the device.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for driver in &self.drivers {
            text.push_str(&driver.files.join(" "));
            text.push('\n');
            for alias in &driver.aliases {
                text.push_str(&format!(" {alias}\n"));
            }
        }
        text
    }
}

/// `dm-verity.ko.xz` to `dm_verity`.
fn normal(file: &str) -> String {
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn unpack(file: &str, packed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let done = match file.rsplit('.').next() {
        Some("xz") => liblzma::read::XzDecoder::new(packed).read_to_end(&mut out).map(drop),
        Some("zst") => zstd::Decoder::new(packed).and_then(|mut d| d.read_to_end(&mut out)).map(drop),
        _ => {
            out = packed.to_vec();
            Ok(())
        }
    };
    done.map_err(|error| Error::malformed(format!("the module {file}"), error))?;
    Ok(out)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    depends: Vec<String>,
    before: Vec<String>,
    aliases: Vec<String>,
}

/// Whether devices ask by such a name. Others are what the kernel itself asks for: `fs-ext4`, `crypto-crc32c`,
/// `block-major-8-*`, `devname:loop-control`.
fn is_of_a_device(alias: &str) -> bool {
    let bus = alias.split_once(':').map_or("", |(bus, _)| bus.trim_end_matches('*'));
    let is_name = bus.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    !bus.is_empty() && is_name && bus != "devname" && bus != "symbol" && !alias.contains(char::is_whitespace)
}

/// Reads the section `.modinfo` of a 64-bit little-endian ELF file: `key=value` texts, each ended by a zero.
fn modinfo(elf: &[u8]) -> Option<Info> {
    let number = |at: usize, bytes: usize| {
        let slice = elf.get(at..at.checked_add(bytes)?)?;
        let value = slice.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, entry, count, names) = (number(40, 8)?, number(58, 2)?, number(60, 2)?, number(62, 2)?);
    let header = |n: usize| table.checked_add(n.checked_mul(entry)?);
    let section = |n: usize| {
        let at = header(n)?;
        let (offset, size) = (number(at + 24, 8)?, number(at + 32, 8)?);
        elf.get(offset..offset.checked_add(size)?)
    };
    let names = section(names)?;
    let wanted = (0..count).find(|&n| {
        let name = header(n).and_then(|at| number(at, 4)).and_then(|at| names.get(at..));
        name.is_some_and(|name| name.starts_with(b".modinfo\0"))
    })?;
    let mut info = Info::default();
    for text in section(wanted)?.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(text);
        if let Some(list) = text.strip_prefix("depends=") {
            info.depends.extend(list.split(',').filter(|name| !name.is_empty()).map(normal));
        } else if let Some(alias) = text.strip_prefix("alias=") {
            info.aliases.extend(is_of_a_device(alias).then(|| alias.to_owned()));
        } else if let Some(list) = text.strip_prefix("softdep=") {
            let mut before = false;
            for word in list.split_whitespace() {
                match word {
                    "pre:" => before = true,
                    "post:" => before = false,
                    name if before => info.before.push(normal(name)),
                    _ => {}
                }
            }
        }
    }
    info.aliases.sort();
    info.aliases.dedup();
    Some(info)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// An ELF file that has nothing but a section `.modinfo` with this text.
    fn module(text: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0";
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let names_at = elf.len();
        elf.extend_from_slice(names);
        let info_at = elf.len();
        elf.extend_from_slice(text.as_bytes());
        let table = elf.len();
        for (name, at, size) in [(0_u32, 0, 0), (1, info_at, text.len()), (0, names_at, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        elf[58..60].copy_from_slice(&64_u16.to_le_bytes());
        elf[60..62].copy_from_slice(&3_u16.to_le_bytes());
        elf[62..64].copy_from_slice(&2_u16.to_le_bytes());
        elf
    }

    fn kernel() -> Modules {
        let mut modules = Modules::default();
        modules.add("k/dm-verity.ko", module("license=GPL\0depends=dm-mod,dm-bufio,reed_solomon\0"));
        modules.add("k/dm-mod.ko", module("depends=\0"));
        modules.add("k/dm-bufio.ko", module("depends=dm-mod\0"));
        modules.add("k/ext4.ko", module("softdep=pre: crc32c_generic crypto-x post: late\0depends=crc16\0"));
        modules.add("k/crc32c_generic.ko", module("depends=\0"));
        modules.add("k/late.ko", module("depends=\0"));
        modules.add_builtin("kernel/lib/reed_solomon/reed_solomon.ko\nkernel/lib/crc16.ko\n");
        modules
    }

    fn names(wanted: &[&str]) -> Vec<String> {
        wanted.iter().map(ToString::to_string).collect()
    }

    fn files(wanted: &[&str]) -> Vec<String> {
        kernel().resolve(&names(wanted), &[], &[]).unwrap().always
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        assert_eq!(files(&["dm_verity", "dm-mod"]), ["dm-mod.ko", "dm-bufio.ko", "dm-verity.ko"]);
        assert_eq!(files(&["ext4", "crc32c_generic"]), ["crc32c_generic.ko", "ext4.ko"]);
        assert_eq!(files(&["crc16", "nothing?"]), [""; 0]);
        assert_eq!(
            files(&["dm_bufio unless dm-other"]),
            ["dm-mod.ko", "dm-bufio.ko unless dm_other"],
            "what it needs is needed by others, too"
        );
    }

    #[test]
    fn drivers_have_the_names_by_which_hardware_asks() {
        let mut kernel = kernel();
        let aliases = "alias=pci:v2*\0alias=pci:v1*\0alias=pci:v2*\0alias=acpi*:X:*\0alias=devname:x\0alias=fs-x\0\
                       alias=crypto-x\0alias=net-pf-16-proto-16\0alias=pci:with space\0";
        kernel.add("k/card.ko.xz", packed(&module(&format!("depends=dm-bufio\0{aliases}"))));
        kernel.add("k/usb.ko", module("depends=card\0alias=usb:*\0"));
        let stage =
            kernel.resolve(&names(&["dm-mod"]), &names(&["usb", "card", "crc16", "none?"]), &[]).unwrap();
        assert_eq!(stage.order(), "dm-mod.ko\n");
        let table = "dm-mod.ko dm-bufio.ko card.ko usb.ko\n usb:*\ndm-mod.ko dm-bufio.ko card.ko\n acpi*:X:*\n \
                     pci:v1*\n pci:v2*\n";
        assert_eq!(stage.table(), table);
        let shipped: Vec<_> = stage.modules.iter().map(|module| module.file.as_str()).collect();
        assert_eq!(shipped, ["dm-mod.ko", "dm-bufio.ko", "card.ko", "usb.ko"]);
        let there = names(&["dm-mod.ko"]);
        let second = kernel.resolve(&names(&["dm-mod", "late"]), &names(&["card"]), &there).unwrap();
        assert_eq!((second.order().as_str(), second.modules.len()), ("late.ko\n", 3));
        assert!(second.table().starts_with("dm-mod.ko dm-bufio.ko card.ko\n"));
        let error = kernel.resolve(&[], &names(&["late"]), &[]).unwrap_err().to_string();
        assert!(error.contains("late") && error.contains("[modules]"), "{error}");
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let error = kernel().resolve(&names(&["nothing"]), &[], &[]).unwrap_err().to_string();
        assert!(error.contains("nothing"), "{error}");
        let mut modules = Modules::default();
        modules.add("k/a.ko.xz", b"not xz".to_vec());
        modules.add("k/b.ko", module("depends=\0")[..70].to_vec());
        assert!(modules.resolve(&names(&["a"]), &[], &[]).unwrap_err().to_string().contains("a.ko.xz"));
        assert!(modules.resolve(&[], &names(&["b"]), &[]).unwrap_err().to_string().contains(".modinfo"));
        let whole = module("depends=x\0");
        for cut in 0..whole.len() {
            let _ = modinfo(&whole[..cut]);
        }
    }
}
