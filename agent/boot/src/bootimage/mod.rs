//! Whether the boot image that runs is the one that the slot was composed with: kernel and initramfs lie on the boot
//! partition, which nothing verifies. The slot, which is verified, holds a list of the hashes of their parts. This does
//! not keep a stranger out, who would change what looks at it here as well; it tells of cards that lose bits, of updates
//! that were cut short, and of files that somebody exchanged.

mod pe;

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    console,
    disk::boot::{self, BootError},
    first::CommandLine,
    sysfs,
};

/// The composer's list, in the slot.
const LIST: &str = "/usr/share/sosna/boot-image";
/// systemd's stub says here which file it is: four bytes of attributes, then UTF-16.
const RUNNING: &str = "/sys/firmware/efi/efivars/StubImageIdentifier-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Where unified images are on the boot partition.
const UNIFIED: &str = "EFI/Linux";
/// The words of the command line that a slot's boot image speaks in.
const OURS: &str = "sosna.";
/// More files than this no boot partition of ours has.
const MOST_FILES: usize = 64;

type Digest = [u8; 32];

/// A part of a boot image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: String,
    digest: Digest,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All parts are what the slot says.
    Sound,
    /// These are not.
    Differs(Vec<String>),
    /// It cannot be known; why.
    Unchecked(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound => f.write_str("sound"),
            Self::Differs(parts) => write!(f, "differs: {}", parts.join(", ")),
            Self::Unchecked(why) => write!(f, "unchecked: {why}"),
        }
    }
}

/// Reads the boot image that runs and compares it with the slot's list. Takes seconds on a slow machine.
#[must_use]
pub fn check(disk: &str) -> Verdict {
    let list = match fs::read_to_string(LIST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Verdict::Unchecked("this system does not say what it was composed with".to_owned());
        }
        Err(error) => return Verdict::Unchecked(format!("cannot read {LIST}: {error}")),
    };
    let Some(list) = parse(&list) else {
        return Verdict::Unchecked(format!("{LIST} is not understood"));
    };
    let line = sysfs::text("/proc/cmdline").unwrap_or_default();
    let looked = boot::look(disk, |folder| {
        compare(folder, &list, &line, running().as_deref())
            .map_err(|source| BootError::File { path: folder.to_owned(), source })
    });
    looked.unwrap_or_else(|error| Verdict::Unchecked(console::chain(&error)))
}

/// Compares what is in the boot partition's folder.
fn compare(folder: &Path, list: &[Part], line: &str, running: Option<&str>) -> io::Result<Verdict> {
    let unified = unified(folder, running);
    if unified.is_empty() {
        let Ok(known) = CommandLine::parse(line) else {
            return Ok(Verdict::Unchecked("the kernel's command line names no slot".to_owned()));
        };
        return own_folder(&folder.join(format!("slot-{}", known.slot)), list, line);
    }
    let mut other = None;
    for path in unified {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((parts, its_line)) = pe::parts(&mut File::open(&path)?)? else {
            other.get_or_insert(Verdict::Differs(vec![format!("{name} is no boot image")]));
            continue;
        };
        let mut wrong = differences(list, &parts);
        if !same_words(&its_line, line) {
            wrong.push(pe::COMMAND_LINE.to_owned());
            // Another slot's, where it is not known which one runs.
            other.get_or_insert(Verdict::Differs(wrong));
            continue;
        }
        return Ok(if wrong.is_empty() { Verdict::Sound } else { Verdict::Differs(wrong) });
    }
    Ok(other.unwrap_or_else(|| Verdict::Unchecked("there is no boot image".to_owned())))
}

/// Unified images: the one that says that it runs, else all, in the order of their names.
fn unified(folder: &Path, running: Option<&str>) -> Vec<PathBuf> {
    let folder = folder.join(UNIFIED);
    let is_one = |path: &PathBuf| path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("efi"));
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all: Vec<_> = entries.filter(is_one).take(MOST_FILES).collect();
    all.sort();
    let named = running.and_then(|name| name.rsplit(['\\', '/']).next());
    let is_named = |path: &&PathBuf| {
        named.is_some_and(|name| path.file_name().is_some_and(|file| file.eq_ignore_ascii_case(name)))
    };
    match all.iter().find(is_named) {
        Some(path) => vec![path.clone()],
        // It was renamed since, because it was found good, or there is no such word.
        None => all,
    }
}

fn own_folder(folder: &Path, list: &[Part], line: &str) -> io::Result<Verdict> {
    let mut parts = Vec::new();
    let mut its_line = String::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Verdict::Unchecked("the boot partition has no boot image of this slot".to_owned()));
        }
        entries => entries?,
    };
    for entry in entries.take(MOST_FILES) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "cmdline.txt" {
            its_line = sysfs::text(entry.path()).unwrap_or_default();
        } else if entry.file_type()?.is_file() {
            parts.push(Part { name, digest: digest(File::open(entry.path())?)? });
        }
    }
    let mut wrong = differences(list, &parts);
    if !same_words(&its_line, line) {
        wrong.push("cmdline.txt".to_owned());
    }
    Ok(if wrong.is_empty() { Verdict::Sound } else { Verdict::Differs(wrong) })
}

/// Whether two command lines say the same of the slot.
fn same_words(one: &str, other: &str) -> bool {
    let words = |line: &str| -> Vec<String> {
        line.split_whitespace().filter(|word| word.starts_with(OURS)).map(str::to_owned).collect()
    };
    words(one) == words(other)
}

/// What differs from the list: changed, missing, or too many.
fn differences(list: &[Part], found: &[Part]) -> Vec<String> {
    let mut wrong = Vec::new();
    for listed in list {
        let mut same = found.iter().filter(|part| part.name == listed.name);
        match (same.next(), same.next()) {
            (None, _) => wrong.push(format!("{} is missing", listed.name)),
            (Some(part), None) if part.digest == listed.digest => {}
            (Some(_), _) => wrong.push(listed.name.clone()),
        }
    }
    let is_new = |part: &&Part| !list.iter().any(|listed| listed.name == part.name);
    wrong.extend(found.iter().filter(is_new).map(|part| format!("{} is new", part.name)));
    wrong
}

/// A part a line, as `sha256sum` writes it.
fn parse(text: &str) -> Option<Vec<Part>> {
    let line = |line: &str| {
        let (hex, name) = line.split_once("  ")?;
        let bytes: Option<Vec<u8>> =
            (0..32).map(|n| u8::from_str_radix(hex.get(2 * n..2 * n + 2)?, 16).ok()).collect();
        let digest: Digest = bytes?.try_into().ok()?;
        (hex.len() == 64 && !name.is_empty()).then(|| Part { name: name.to_owned(), digest })
    };
    let parts: Option<Vec<Part>> = text.lines().map(line).collect();
    parts.filter(|parts| !parts.is_empty())
}

fn digest(mut from: impl Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// The file that runs, as the stub that started the kernel has named it.
fn running() -> Option<String> {
    let value = fs::read(RUNNING).ok()?;
    let units: Vec<u16> =
        value.get(4..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Some(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "quiet sosna.slot=a sosna.verity=x sosna.board=rpi sosna.version=1";

    fn line() -> String {
        LINE.replace("=x", &format!("={}:00:5", "ab".repeat(32)))
    }

    fn list(files: &[(&str, &str)]) -> Vec<Part> {
        let part = |(name, text): &(&str, &str)| Part {
            name: (*name).to_owned(),
            digest: Sha256::digest(text.as_bytes()).into(),
        };
        files.iter().map(part).collect()
    }

    #[test]
    fn a_folder_is_compared_file_by_file() {
        let boot = tempfile::tempdir().unwrap();
        let check =
            || compare(boot.path(), &list(&[("vmlinuz", "k"), ("a.dtb", "t")]), &line(), None).unwrap();
        assert!(matches!(check(), Verdict::Unchecked(_)));
        let put = |name: &str, text: &str| {
            fs::create_dir_all(boot.path().join("slot-a")).unwrap();
            fs::write(boot.path().join("slot-a").join(name), text).unwrap();
        };
        put("vmlinuz", "k");
        put("a.dtb", "t");
        put("cmdline.txt", &format!("{}\n", line().replace("quiet", "")));
        assert_eq!(check(), Verdict::Sound);
        put("a.dtb", "u");
        assert_eq!(check().to_string(), "differs: a.dtb");
        put("cmdline.txt", "sosna.slot=b");
        put("more", "");
        fs::remove_file(boot.path().join("slot-a/vmlinuz")).unwrap();
        assert_eq!(check().to_string(), "differs: vmlinuz is missing, a.dtb, more is new, cmdline.txt");
    }

    #[test]
    fn of_several_unified_images_the_one_that_runs_counts() {
        let boot = tempfile::tempdir().unwrap();
        let folder = boot.path().join(UNIFIED);
        fs::create_dir_all(&folder).unwrap();
        for name in ["b.efi", "a.EFI", "readme.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let names = |running| {
            let all = unified(boot.path(), running);
            all.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["a.EFI", "b.efi"]);
        assert_eq!(names(Some("\\EFI\\Linux\\B.efi")), ["b.efi"]);
        assert_eq!(names(Some("\\EFI\\Linux\\renamed.efi")), ["a.EFI", "b.efi"]);
        let verdict = compare(boot.path(), &list(&[("x", "y")]), &line(), Some("b.efi")).unwrap();
        assert_eq!(verdict.to_string(), "differs: b.efi is no boot image");
    }

    #[test]
    fn lists_are_read_strictly() {
        let good = format!("{}  .linux\n{}  a b\n", "0f".repeat(32), "AB".repeat(32));
        assert_eq!(parse(&good).unwrap()[1], Part { name: "a b".into(), digest: [0xab; 32] });
        for bad in [
            "",
            "x",
            "00  x\n",
            &good.replace("0f0f", "0g0f"),
            &good.replace("  a b", ""),
            &good.replace("0f0f", "0f0f0"),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "([0-9a-fé]{60,66} {0,3}[.a-zé]{0,4}\n?){0,3}") {
            let _ = parse(&text);
        }
    }
}
