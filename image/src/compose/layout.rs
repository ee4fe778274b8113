//! Where the partitions are, and the image file itself.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use super::{BOOT, DATA, Request, SLOT_A, SLOT_B};
use crate::Error;
use crate::block::disk::{self, ALIGN, Kind, Partition, derive_guid};
use crate::block::ext4;
use crate::board::Boot;

/// A disk's partitions.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The whole disk.
    pub bytes: u64,
    guid: [u8; 16],
    /// The four partitions in their order.
    pub partitions: Vec<Partition>,
    hybrid: bool,
}

/// The smallest image of a board.
#[must_use]
pub fn needed_bytes(sizes: crate::board::Sizes) -> u64 {
    2 * ALIGN + (sizes.boot << 20) + 2 * (sizes.slot << 20) + ext4::BYTES
}

// === impl Layout ===

impl Layout {
    /// The layout of an image of `size` bytes, by default the smallest.
    ///
    /// # Errors
    /// [`Error::Room`].
    pub fn new(request: &Request<'_>, size: Option<u64>) -> Result<Self, Error> {
        let sizes = request.board.description.sizes;
        let needed = needed_bytes(sizes);
        let bytes = size.unwrap_or(needed) / ALIGN * ALIGN;
        if bytes < needed {
            return Err(Error::Room { what: "the image".to_owned(), needed, room: size.unwrap_or(bytes) });
        }
        let uefi = request.board.description.boot == Boot::Uefi;
        let (boot, slot) = (sizes.boot << 20, sizes.slot << 20);
        let data = bytes - 2 * ALIGN - boot - 2 * slot;
        let mut start = ALIGN;
        let partitions = [
            (BOOT, if uefi { Kind::Efi } else { Kind::Basic }, boot),
            (SLOT_A, Kind::Linux, slot),
            (SLOT_B, Kind::Linux, slot),
            (DATA, Kind::Linux, data),
        ]
        .map(|(name, kind, bytes)| {
            let guid = derive_guid(&["partition", name, request.version, &request.board.name]);
            let partition = Partition { name: name.to_owned(), kind, guid, start, bytes };
            start += bytes;
            partition
        });
        Ok(Self {
            bytes,
            guid: derive_guid(&["disk", request.version, &request.board.name]),
            partitions: partitions.to_vec(),
            // The Pi 3's first loader looks for an MBR.
            hybrid: !uefi,
        })
    }

    /// Writes the image, aside and then in its place.
    pub(super) fn write(&self, into: &Path, fat: &[u8], slot: &[u8]) -> Result<(), Error> {
        let mut part = into.as_os_str().to_owned();
        part.push(".part");
        let part = Path::new(&part);
        let mut file = File::create(part).map_err(Error::io("create", part))?;
        let written = self.fill(&mut file, fat, slot, &ext4::template()?).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(part, into)).map_err(|error| {
            let _ = fs::remove_file(part);
            Error::io("write", into)(error)
        })
    }

    fn fill(&self, file: &mut File, fat: &[u8], slot: &[u8], data: &[u8]) -> std::io::Result<()> {
        file.set_len(self.bytes)?;
        disk::write(file, self.bytes, self.guid, &self.partitions, self.hybrid)?;
        let [boot, a, _, last] = &self.partitions[..] else { return Ok(()) };
        for (partition, content) in [(boot, fat), (a, slot), (last, data)] {
            sparse(file, partition.start, content)?;
        }
        Ok(())
    }
}

/// Writes content and leaves holes for what is zero.
fn sparse(file: &mut File, at: u64, content: &[u8]) -> std::io::Result<()> {
    const UNIT: usize = 64 << 10;
    static ZERO: [u8; UNIT] = [0; UNIT];
    let mut position = at;
    for block in content.chunks(UNIT) {
        if *block != ZERO[..block.len()] {
            file.seek(SeekFrom::Start(position))?;
            file.write_all(block)?;
        }
        position += block.len() as u64;
    }
    Ok(())
}

/// What of an image must reach a disk, as (start, bytes): everything but the empty slot and the rest of the full one.
/// `used` is how much of the first slot is.
#[must_use]
pub fn written(partitions: &[Partition], bytes: u64, used: u64) -> Vec<(u64, u64)> {
    let find = |name: &str| partitions.iter().find(|p| p.name == name);
    let (Some(a), Some(b), Some(data)) = (find(SLOT_A), find(SLOT_B), find(DATA)) else {
        return vec![(0, bytes)];
    };
    let table = ALIGN;
    let end_of_a = a.start + used.min(a.bytes);
    let end_of_data = data.start + ext4::BYTES.min(data.bytes);
    if a.start > b.start || b.start > data.start || end_of_data > bytes - table {
        return vec![(0, bytes)];
    }
    vec![(0, end_of_a), (data.start, end_of_data - data.start), (bytes - table, table)]
}
