//! The parts of a unified kernel image: a PE file of 64 bits with kernel, initramfs and command line as sections.
//! Whoever can write the boot partition made every byte of it: all numbers are checked, and what is read is bounded by
//! the file itself.

use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};

use super::{Digest, Part};

/// Header and table of sections fit into it, with room for a hundred.
const LARGEST_HEADER: u64 = 8192;
const ENTRY: usize = 40;
/// The section with the command line.
pub(super) const COMMAND_LINE: &str = ".cmdline";
/// The kernel cuts longer ones off.
const LONGEST_LINE: u64 = 4096;
/// As the composer names what is before the sections.
const HEADER: &str = "header";

struct Section {
    name: String,
    at: u64,
    size: u64,
}

/// Hashes all parts but the command line, which is given as it is; none where the file is not such an image.
///
/// # Errors
/// The file's.
pub(super) fn parts(file: &mut (impl Read + Seek)) -> io::Result<Option<(Vec<Part>, String)>> {
    let length = file.seek(SeekFrom::End(0))?;
    let Some((header, sections)) = sections(&bytes(file, 0, length.min(LARGEST_HEADER))?) else {
        return Ok(None);
    };
    let total = sections.iter().try_fold(0_u64, |total, section| total.checked_add(section.size));
    let is_within = |section: &Section| section.at.checked_add(section.size).is_some_and(|end| end <= length);
    if total.is_none_or(|total| total > length) || !sections.iter().all(is_within) {
        return Ok(None);
    }
    let mut parts = vec![Part { name: HEADER.to_owned(), digest: Sha256::digest(header).into() }];
    let mut line = None;
    for section in sections {
        if section.name == COMMAND_LINE {
            let text = bytes(file, section.at, section.size.min(LONGEST_LINE))?;
            if line.replace(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()).is_some() {
                return Ok(None);
            }
            continue;
        }
        let digest = digest(file, section.at, section.size)?;
        parts.push(Part { name: section.name, digest });
    }
    Ok(line.map(|line| (parts, line)))
}

/// The header without the numbers that depend on the command line's length, and what the table of sections says.
fn sections(file: &[u8]) -> Option<(Vec<u8>, Vec<Section>)> {
    let short = |at: usize| Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if file.get(..2)? != b"MZ" {
        return None;
    }
    let pe = usize::try_from(long(0x3c)?).ok()?;
    let optional = pe.checked_add(24)?;
    if file.get(pe..pe.checked_add(4)?)? != b"PE\0\0" || short(optional)? != 0x20b {
        return None;
    }
    let table = optional.checked_add(usize::from(short(pe + 20)?))?;
    let mut header = file.get(..table)?.to_vec();
    // SizeOfInitializedData, SizeOfImage, CheckSum.
    for at in [8, 56, 64] {
        header.get_mut(optional + at..optional + at + 4)?.fill(0);
    }
    let mut sections = Vec::new();
    for number in 0..usize::from(short(pe + 6)?) {
        let at = table.checked_add(number.checked_mul(ENTRY)?)?;
        let name = String::from_utf8_lossy(file.get(at..at.checked_add(8)?)?);
        sections.push(Section {
            name: name.trim_end_matches('\0').to_owned(),
            at: long(at + 20)?.into(),
            size: long(at + 8)?.min(long(at + 16)?).into(),
        });
    }
    Some((header, sections))
}

fn bytes(file: &mut (impl Read + Seek), at: u64, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn digest(file: &mut (impl Read + Seek), at: u64, size: u64) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(at))?;
    super::digest(file.take(size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use proptest::prelude::*;
    use sosna_image::{block::uki, bootparts};

    use super::*;

    /// The smallest stub that the composer takes: headers and one section.
    fn stub() -> Vec<u8> {
        let mut stub = vec![0; 1024];
        let mut set = |at: usize, bytes: &[u8]| stub[at..at + bytes.len()].copy_from_slice(bytes);
        set(0, b"MZ");
        set(0x3c, &[0x40]);
        set(0x40, b"PE\0\0");
        set(0x46, &[1]);
        set(0x54, &[240]);
        set(0x58, &0x20b_u16.to_le_bytes());
        set(0x58 + 36, &512_u32.to_le_bytes());
        set(0x58 + 60, &1024_u32.to_le_bytes());
        let table = 0x58 + 240;
        set(table, b".text");
        for (offset, value) in [(8, 100), (12, 0x1000), (16, 512), (20, 512_u32)] {
            set(table + offset, &value.to_le_bytes());
        }
        stub
    }

    fn image(line: &str) -> Vec<u8> {
        let (stub, kernel) = (stub(), vec![7; 3000]);
        let parts = uki::Parts {
            stub: &stub,
            os_release: "VERSION_ID=1\n",
            command_line: line,
            uname: "6.12",
            initramfs: b"rd",
            kernel: &kernel,
        };
        uki::build(&parts).unwrap()
    }

    /// Two programs, one list.
    #[test]
    fn the_composer_and_the_device_see_the_same_parts() {
        for line in ["quiet", &"sosna.slot=a ".repeat(90)] {
            let image = image(line);
            let (parts, found) = parts(&mut Cursor::new(&image)).unwrap().unwrap();
            assert_eq!(found, line);
            let list = bootparts::text(&bootparts::of([("a.efi", image.as_slice())]).unwrap());
            assert_eq!(parts.len(), 6);
            assert_eq!(super::super::differences(&super::super::parse(&list).unwrap(), &parts), [""; 0]);
        }
    }

    #[test]
    fn what_is_not_whole_is_not_believed() {
        let image = image("quiet");
        for cut in 0..image.len() {
            let _ = parts(&mut Cursor::new(&image[..cut])).unwrap();
        }
        assert!(parts(&mut Cursor::new(b"MZ")).unwrap().is_none());
        assert!(parts(&mut Cursor::new(&image[..1500])).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(changes in prop::collection::vec((0..600_usize, any::<u8>()), 1..8)) {
            let mut image = image("quiet");
            for (at, byte) in changes {
                image[at] = byte;
            }
            let _ = parts(&mut Cursor::new(&image)).unwrap();
        }
    }
}
