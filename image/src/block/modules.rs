//! Finds the kernel modules that a list of names needs, and the order in which to load them.
//!
//! Debian's kernel packages carry no `modules.dep` (it is made when they are installed), so the dependencies are read
//! from the modules themselves: the `depends=` and `softdep=` lines of their `.modinfo` section.

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

/// A module that is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its file name without packing: `dm-verity.ko`.
    pub file: String,
    /// The unpacked file.
    pub content: Vec<u8>,
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

    /// The modules that `wanted` names, with what they need, in load order. What is built into the kernel is left
    /// out; a name that ends with `?` may be missing.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the kernel has no such module, or one cannot be read.
    pub fn resolve(&self, wanted: &[String]) -> Result<Vec<Module>, Error> {
        let mut resolved = Resolved { order: Vec::new(), seen: BTreeSet::new() };
        for name in wanted {
            match name.strip_suffix('?') {
                Some(name) => self.visit(&normal(name), false, &mut resolved)?,
                None => self.visit(&normal(name), true, &mut resolved)?,
            }
        }
        Ok(resolved.order)
    }

    fn visit(&self, name: &str, required: bool, resolved: &mut Resolved) -> Result<(), Error> {
        if self.builtin.contains(name) || resolved.seen.contains(name) {
            return Ok(());
        }
        let Some((file, packed)) = self.packed.get(name) else {
            if required {
                return Err(Error::malformed("the kernel", format!("it has no module {name}")));
            }
            return Ok(());
        };
        resolved.seen.insert(name.to_owned());
        let content = unpack(file, packed)?;
        let info = modinfo(&content)
            .ok_or_else(|| Error::malformed(format!("the module {file}"), "it has no .modinfo section"))?;
        for dependency in info.depends {
            self.visit(&dependency, true, resolved)?;
        }
        for dependency in info.before {
            // These are names or aliases (`crypto-crc32c`); an alias is answered by another module of the list.
            self.visit(&dependency, false, resolved)?;
        }
        let file = file.trim_end_matches(".xz").trim_end_matches(".zst").to_owned();
        resolved.order.push(Module { file, content });
        Ok(())
    }
}

struct Resolved {
    order: Vec<Module>,
    seen: BTreeSet<String>,
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

    fn files(wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        kernel().resolve(&wanted).unwrap().into_iter().map(|m| m.file).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        assert_eq!(files(&["dm_verity", "dm-mod"]), ["dm-mod.ko", "dm-bufio.ko", "dm-verity.ko"]);
        assert_eq!(files(&["ext4", "crc32c_generic"]), ["crc32c_generic.ko", "ext4.ko"]);
        assert_eq!(files(&["crc16", "nothing?"]), [""; 0]);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let error = kernel().resolve(&["nothing".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("nothing"), "{error}");
        let mut modules = Modules::default();
        modules.add("k/a.ko.xz", b"not xz".to_vec());
        modules.add("k/b.ko", module("depends=\0")[..70].to_vec());
        assert!(modules.resolve(&["a".to_owned()]).unwrap_err().to_string().contains("a.ko.xz"));
        assert!(modules.resolve(&["b".to_owned()]).unwrap_err().to_string().contains(".modinfo"));
        let whole = module("depends=x\0");
        for cut in 0..whole.len() {
            let _ = modinfo(&whole[..cut]);
        }
    }
}
