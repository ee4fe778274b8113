//! The partition table: GPT, with a hybrid MBR for firmware that knows no GPT.
//! Source: UEFI specification 2.10, chapter 5.

use std::io::{self, Read, Seek, SeekFrom, Write};

use flate2::Crc;
use sha2::{Digest as _, Sha256};

/// Bytes of a sector: images for disks with larger ones do not exist here.
pub const SECTOR: u64 = 512;
/// Partitions begin at multiples of this, as flash memory likes it.
pub const ALIGN: u64 = 1 << 20;
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
/// Table and header, in sectors: 32 and 1.
const TABLE: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;

/// What a partition is for, as firmware and other systems see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An EFI system partition.
    Efi,
    /// A FAT that is no EFI system partition.
    Basic,
    /// Anything of Linux.
    Linux,
    /// Something that this program never writes.
    Other([u8; 16]),
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name: what the device finds it by.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its own number.
    pub guid: [u8; 16],
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A number that follows from texts, instead of a random one.
#[must_use]
pub fn derive_guid(texts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update([0]);
        hash.update(text);
    }
    let mut guid = [0; 16];
    guid.copy_from_slice(&hash.finalize()[..16]);
    // Version 8 (of one's own making), RFC 9562; the third group is stored with its low byte first.
    guid[7] = guid[7] & 0x0f | 0x80;
    guid[8] = guid[8] & 0x3f | 0x80;
    guid
}

/// Writes the table at both ends of a disk of `bytes`. With `hybrid` the first partition also stands in the MBR.
///
/// # Errors
/// The disk's; and where a partition lies outside or over another.
pub fn write(
    disk: &mut (impl Write + Seek),
    bytes: u64,
    guid: [u8; 16],
    partitions: &[Partition],
    hybrid: bool,
) -> io::Result<()> {
    let last = bytes / SECTOR - 1;
    check(partitions, last)?;
    let mut entries = vec![0; ENTRIES * ENTRY];
    for (partition, entry) in partitions.iter().zip(entries.chunks_mut(ENTRY)) {
        entry[..16].copy_from_slice(&partition.kind.guid());
        entry[16..32].copy_from_slice(&partition.guid);
        entry[32..40].copy_from_slice(&(partition.start / SECTOR).to_le_bytes());
        let end = (partition.start + partition.bytes) / SECTOR - 1;
        entry[40..48].copy_from_slice(&end.to_le_bytes());
        for (at, unit) in partition.name.encode_utf16().take(36).enumerate() {
            entry[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let sum = crc(&entries);
    disk.seek(SeekFrom::Start(0))?;
    disk.write_all(&mbr(last, guid, partitions.first().filter(|_| hybrid)))?;
    disk.write_all(&header(1, last, 2, last, guid, sum))?;
    disk.write_all(&entries)?;
    disk.seek(SeekFrom::Start((last - TABLE) * SECTOR))?;
    disk.write_all(&entries)?;
    disk.write_all(&header(last, 1, last - TABLE, last, guid, sum))
}

fn check(partitions: &[Partition], last: u64) -> io::Result<()> {
    let mut end = (2 + TABLE) * SECTOR;
    for partition in partitions {
        if partition.start < end || partition.start % SECTOR != 0 || partition.bytes % SECTOR != 0 {
            return Err(io::Error::other(format!("the partition {} lies over another", partition.name)));
        }
        end = partition.start + partition.bytes;
    }
    if end > (last - TABLE) * SECTOR || partitions.len() > ENTRIES {
        return Err(io::Error::other("the partitions are larger than the disk"));
    }
    Ok(())
}

fn header(own: u64, other: u64, table: u64, last: u64, guid: [u8; 16], entries: u32) -> [u8; 512] {
    let mut header = [0; 512];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
    header[12..16].copy_from_slice(&92_u32.to_le_bytes());
    for (at, value) in [(24, own), (32, other), (40, 2 + TABLE), (48, last - TABLE - 1), (72, table)] {
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[56..72].copy_from_slice(&guid);
    header[80..84].copy_from_slice(&128_u32.to_le_bytes());
    header[84..88].copy_from_slice(&128_u32.to_le_bytes());
    header[88..92].copy_from_slice(&entries.to_le_bytes());
    let sum = crc(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The protective MBR. In a hybrid one the first entry is the FAT and the second protects the rest.
fn mbr(last: u64, guid: [u8; 16], fat: Option<&Partition>) -> [u8; 512] {
    let mut mbr = [0; 512];
    mbr[440..444].copy_from_slice(&guid[..4]);
    let sector = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut entry = |n: usize, kind: u8, first: u64, count: u64| {
        let at = 446 + 16 * n;
        mbr[at..at + 16].fill(0);
        mbr[at + 1..at + 4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        mbr[at + 4] = kind;
        mbr[at + 5..at + 8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        mbr[at + 8..at + 12].copy_from_slice(&sector(first));
        mbr[at + 12..at + 16].copy_from_slice(&sector(count));
    };
    match fat {
        Some(fat) => {
            entry(0, 0x0c, fat.start / SECTOR, fat.bytes / SECTOR);
            entry(1, 0xee, 1, fat.start / SECTOR - 1);
        }
        None => entry(0, 0xee, 1, last),
    }
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

/// Reads the table: the first one, and where that is damaged the second.
///
/// # Errors
/// The disk's; and where neither table is sound.
pub fn read(disk: &mut (impl Read + Seek)) -> io::Result<Vec<Partition>> {
    let last = disk.seek(SeekFrom::End(0))? / SECTOR;
    for at in [1, last.saturating_sub(1)] {
        if let Some(partitions) = read_at(disk, at)? {
            return Ok(partitions);
        }
    }
    Err(io::Error::other("it has no sound partition table"))
}

fn read_at(disk: &mut (impl Read + Seek), sector: u64) -> io::Result<Option<Vec<Partition>>> {
    let mut header = [0; 512];
    disk.seek(SeekFrom::Start(sector * SECTOR))?;
    if disk.read_exact(&mut header).is_err() || &header[..8] != b"EFI PART" {
        return Ok(None);
    }
    let sum = u32_at(&header, 16);
    header[16..20].fill(0);
    let sound = u32_at(&header, 12) == 92 && crc(&header[..92]) == sum;
    if !sound || u32_at(&header, 80) != 128 || u32_at(&header, 84) != 128 {
        return Ok(None);
    }
    let mut entries = vec![0; ENTRIES * ENTRY];
    disk.seek(SeekFrom::Start(u64_at(&header, 72).saturating_mul(SECTOR)))?;
    if disk.read_exact(&mut entries).is_err() || crc(&entries) != u32_at(&header, 88) {
        return Ok(None);
    }
    let used = entries.chunks(ENTRY).filter(|entry| entry[..16] != [0; 16]);
    Ok(Some(used.filter_map(partition).collect()))
}

fn partition(entry: &[u8]) -> Option<Partition> {
    let (first, end) = (u64_at(entry, 32), u64_at(entry, 40).checked_add(1)?);
    let units: Vec<u16> = entry[56..128].chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
    Some(Partition {
        name: String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned(),
        kind: Kind::of(entry[..16].try_into().ok()?),
        guid: entry[16..32].try_into().ok()?,
        start: first.checked_mul(SECTOR)?,
        bytes: end.checked_sub(first)?.checked_mul(SECTOR)?,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

// === impl Kind ===

impl Kind {
    const EFI: [u8; 16] = *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
    const BASIC: [u8; 16] = *b"\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7";
    const LINUX: [u8; 16] = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";

    fn guid(self) -> [u8; 16] {
        match self {
            Self::Efi => Self::EFI,
            Self::Basic => Self::BASIC,
            Self::Linux => Self::LINUX,
            Self::Other(guid) => guid,
        }
    }

    fn of(guid: [u8; 16]) -> Self {
        match guid {
            Self::EFI => Self::Efi,
            Self::BASIC => Self::Basic,
            Self::LINUX => Self::Linux,
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::process::Command;

    const SIZE: u64 = 64 << 20;

    fn partitions() -> Vec<Partition> {
        [
            ("sosna-boot", Kind::Efi, 1, 20),
            ("sosna-a", Kind::Linux, 21, 10),
            ("sosna-data", Kind::Linux, 40, 23),
        ]
        .map(|(name, kind, start, length)| Partition {
            name: name.to_owned(),
            kind,
            guid: derive_guid(&["test", name]),
            start: start << 20,
            bytes: length << 20,
        })
        .to_vec()
    }

    fn disk(hybrid: bool) -> io::Cursor<Vec<u8>> {
        let mut disk = io::Cursor::new(vec![0; usize::try_from(SIZE).unwrap()]);
        write(&mut disk, SIZE, derive_guid(&["disk"]), &partitions(), hybrid).unwrap();
        disk
    }

    #[test]
    fn what_is_written_is_read_from_either_end() {
        let mut disk = disk(false);
        assert_eq!(read(&mut disk).unwrap(), partitions());
        disk.get_mut()[600] ^= 1;
        assert_eq!(read(&mut disk).unwrap(), partitions(), "the second table");
        let end = disk.get_ref().len() - 500;
        disk.get_mut()[end] ^= 1;
        assert!(read(&mut disk).is_err());
    }

    #[test]
    fn partitions_that_do_not_fit_are_refused() {
        let mut list = partitions();
        list[1].start = 20 << 20;
        let mut memory = io::Cursor::new(vec![0; usize::try_from(SIZE).unwrap()]);
        assert!(write(&mut memory, SIZE, [0; 16], &list, false).is_err());
        list = partitions();
        list[2].bytes = 24 << 20;
        assert!(write(&mut memory, SIZE, [0; 16], &list, false).is_err());
    }

    #[test]
    fn another_program_reads_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), disk(false).into_inner()).unwrap();
        let Some(output) = ["sfdisk", "/sbin/sfdisk"]
            .iter()
            .find_map(|program| Command::new(program).arg("--json").arg(file.path()).output().ok())
        else {
            eprintln!("SKIPPED another_program_reads_the_same: sfdisk is not here");
            return;
        };
        let table: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let table = &table["partitiontable"];
        assert_eq!(table["label"], "gpt");
        assert_eq!(table["partitions"][0]["name"], "sosna-boot");
        assert_eq!(table["partitions"][0]["type"], "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
        assert_eq!(table["partitions"][2]["type"], "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
        assert_eq!(table["partitions"][2]["start"], 40 * 2048);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn a_hybrid_record_names_the_fat() {
        let disk = disk(true).into_inner();
        assert_eq!((disk[446 + 4], disk[462 + 4]), (0x0c, 0xee));
        assert_eq!(u32_at(&disk, 454), 2048);
        assert_eq!(read(&mut io::Cursor::new(disk)).unwrap(), partitions());
    }
}
