//! Lets the last partition of a disk take what room there is behind it: an image is smaller than the card that it is
//! written to. The copy of the table is written first and where the disk really ends, then the table itself; power
//! may fail between any two writes. Must never touch a table that does not check out (UEFI specification, 5.3).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

/// New ends lie on whole mebibytes, as all the rest does.
const ALIGN: u64 = 1 << 20;
const HEADER: usize = 92;

/// A partition's place in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Why a table was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The disk.
    #[error("cannot read or write the disk's partition table")]
    Io(#[from] io::Error),
    /// Not a table, or a damaged one.
    #[error("the disk's partition table does not check out ({0}); it is left as it is")]
    Damaged(&'static str),
}

/// Grows partition `number` of a disk of `size` bytes in sectors of `sector` bytes; none when it has all the room
/// that it can have, or is not the last.
pub(super) fn grow(disk: &mut File, size: u64, sector: u64, number: u32) -> Result<Option<Extent>, GptError> {
    if !(512..=4096).contains(&sector) || !sector.is_power_of_two() {
        return Err(GptError::Damaged("its sectors have a strange size"));
    }
    let mut header = read(disk, sector, sector)?;
    if header.get(..8) != Some(b"EFI PART".as_slice()) || u32_at(&header, 12) as usize != HEADER {
        return Err(GptError::Damaged("no GPT"));
    }
    if checksum_of_header(&header) != u32_at(&header, 16) || u64_at(&header, 24) != 1 {
        return Err(GptError::Damaged("its header's checksum"));
    }
    let (count, entry) = (u64::from(u32_at(&header, 80)), u64::from(u32_at(&header, 84)));
    if !(1..=1024).contains(&count) || !(128..=1024).contains(&entry) {
        return Err(GptError::Damaged("the size of its entries"));
    }
    let table_sectors = (count * entry).div_ceil(sector);
    let length = usize::try_from(count * entry).map_err(|_| GptError::Damaged("the size of its entries"))?;
    let table_at = u64_at(&header, 72);
    if table_at < 2 || table_at > size / sector {
        return Err(GptError::Damaged("the place of its entries"));
    }
    let mut table = read(disk, table_at * sector, table_sectors * sector)?;
    if crc32(&table[..length]) != u32_at(&header, 88) {
        return Err(GptError::Damaged("its entries' checksum"));
    }
    let index = u64::from(number).checked_sub(1).filter(|index| *index < count);
    let index = index.ok_or(GptError::Damaged("it has no such partition"))?;
    let at = usize::try_from(index * entry).map_err(|_| GptError::Damaged("it has no such partition"))?;
    let (first, last) = (u64_at(&table, at + 32), u64_at(&table, at + 40));
    let end = size / sector;
    // Behind the last partition lie a copy of the entries and of the header.
    let usable = end.checked_sub(table_sectors + 2).ok_or(GptError::Damaged("the disk is too small"))?;
    let new_last = ((usable + 1) / (ALIGN / sector) * (ALIGN / sector)).saturating_sub(1);
    let step = usize::try_from(entry).map_err(|_| GptError::Damaged("the size of its entries"))?;
    let is_last = table[..length].chunks(step).all(|e| e[..16] == [0; 16] || u64_at(e, 40) <= last);
    if !is_last || first > last || new_last <= last {
        return Ok(None);
    }
    table[at + 40..at + 48].copy_from_slice(&new_last.to_le_bytes());
    put(&mut header, 48, &usable.to_le_bytes());
    put(&mut header, 88, &crc32(&table[..length]).to_le_bytes());

    let mut copy = header.clone();
    put(&mut copy, 24, &(end - 1).to_le_bytes());
    put(&mut copy, 32, &1u64.to_le_bytes());
    put(&mut copy, 72, &(usable + 1).to_le_bytes());
    seal(&mut copy);
    write(disk, (usable + 1) * sector, &table)?;
    write(disk, (end - 1) * sector, &copy)?;
    disk.sync_all()?;
    put(&mut header, 32, &(end - 1).to_le_bytes());
    seal(&mut header);
    // Between these two writes the copy at the end is what counts.
    write(disk, table_at * sector, &table)?;
    write(disk, sector, &header)?;
    disk.sync_all()?;
    Ok(Some(Extent { start: first * sector, length: (new_last - first + 1) * sector }))
}

fn read(disk: &mut File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    disk.seek(SeekFrom::Start(at))?;
    disk.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write(disk: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(at))?;
    disk.write_all(bytes)
}

fn put(header: &mut [u8], at: usize, bytes: &[u8]) {
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

fn seal(header: &mut [u8]) {
    let sum = checksum_of_header(header);
    put(header, 16, &sum.to_le_bytes());
}

/// The checksum's own field counts as zero.
fn checksum_of_header(header: &[u8]) -> u32 {
    let mut header = header[..HEADER].to_vec();
    put(&mut header, 16, &[0; 4]);
    crc32(&header)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// CRC-32 as GPT has it (ISO 3309, reflected). Once in a device's life: no table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SECTOR: u64 = 512;

    /// A table of two partitions, 1 to 3 and 3 to 5 MiB, on an image of 6 MiB.
    fn image() -> File {
        let mut disk = tempfile::tempfile().unwrap();
        disk.set_len(6 << 20).unwrap();
        let mut table = vec![0; 128 * 128];
        for (index, (first, last)) in [(2048u64, 6143u64), (6144, 10239)].into_iter().enumerate() {
            let at = index * 128;
            table[at..at + 16].fill(7);
            table[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
            table[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
        }
        let mut header = vec![0; 512];
        put(&mut header, 0, b"EFI PART");
        for (at, value) in [(12, 92u32), (80, 128), (84, 128), (88, crc32(&table))] {
            put(&mut header, at, &value.to_le_bytes());
        }
        for (at, value) in [(24, 1u64), (32, 12287), (40, 34), (48, 12254), (72, 2)] {
            put(&mut header, at, &value.to_le_bytes());
        }
        seal(&mut header);
        write(&mut disk, 512, &header).unwrap();
        write(&mut disk, 1024, &table).unwrap();
        disk
    }

    #[test]
    fn a_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_last_partition_grows_once_and_the_copy_follows() {
        let mut disk = image();
        let size = 64u64 << 20;
        disk.set_len(size).unwrap();
        let grown = grow(&mut disk, size, SECTOR, 2).unwrap().unwrap();
        assert_eq!(grown, Extent { start: 3 << 20, length: 60 << 20 });
        let (head, copy) = (read(&mut disk, 512, 512).unwrap(), read(&mut disk, size - 512, 512).unwrap());
        assert_eq!((u64_at(&head, 24), u64_at(&head, 32)), (1, size / 512 - 1));
        assert_eq!((u64_at(&copy, 24), u64_at(&copy, 32)), (size / 512 - 1, 1));
        assert_eq!(checksum_of_header(&copy), u32_at(&copy, 16));
        let entries = read(&mut disk, u64_at(&copy, 72) * 512, 128 * 128).unwrap();
        assert_eq!(crc32(&entries), u32_at(&copy, 88));
        assert_eq!(grow(&mut disk, size, SECTOR, 2).unwrap(), None, "the second time there is nothing to do");
    }

    #[test]
    fn what_is_not_last_or_does_not_check_out_is_left_alone() {
        let mut disk = image();
        disk.set_len(64 << 20).unwrap();
        assert_eq!(grow(&mut disk, 64 << 20, SECTOR, 1).unwrap(), None);
        assert!(matches!(grow(&mut disk, 64 << 20, SECTOR, 200), Err(GptError::Damaged(_))));
        write(&mut disk, 1024 + 40, &[9]).unwrap();
        assert!(matches!(grow(&mut disk, 64 << 20, SECTOR, 2), Err(GptError::Damaged(_))));
        write(&mut disk, 512 + 16, &[9]).unwrap();
        assert!(matches!(grow(&mut disk, 64 << 20, SECTOR, 2), Err(GptError::Damaged(_))));
        let mut empty = tempfile::tempfile().unwrap();
        empty.set_len(1 << 20).unwrap();
        assert!(matches!(grow(&mut empty, 1 << 20, SECTOR, 1), Err(GptError::Damaged(_))));
    }
}
