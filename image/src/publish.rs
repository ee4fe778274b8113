//! What is put on a web server beside an image: the packed image, checksums, a block map, the list of packages, and
//! what Raspberry Pi Imager reads.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sosna_apt::digest;

use crate::Error;
use crate::board::Board;
use crate::compose;
use crate::inspect::{BootImage, Image};
use crate::sbom::timestamp;

/// Bytes of a block in a block map.
const BLOCK: u64 = 4096;
/// An image is mostly holes: more effort gains little.
const LEVEL: i32 = 15;

/// The files that belong to a published image.
#[derive(Debug)]
pub struct Published {
    /// What was written, in order.
    pub files: Vec<PathBuf>,
    /// The image's entry for Raspberry Pi Imager, where it is for a Raspberry Pi.
    pub imager: Option<Value>,
}

/// Writes into `folder`, for an image that will be found below the address `url`.
///
/// # Errors
/// [`Error`]: no sound image of ours, or files cannot be written.
pub fn publish(image: &Path, folder: &Path, url: &str) -> Result<Published, Error> {
    let opened = Image::open(image)?;
    let boots = opened.boot_images()?;
    let boot =
        boots.first().ok_or_else(|| Error::malformed(image.display().to_string(), "it has no boot image"))?;
    let tree = opened.slot_tree(boot)?;
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let at = |suffix: &str| folder.join(format!("{name}{suffix}"));

    let (packed, packed_sha256, image_sha256) = pack(image, &at(".zst"))?;
    let ranges = compose::written(&opened.partitions, opened.bytes, opened.used_of_slot());
    let write = |path: PathBuf, content: &[u8]| {
        fs::write(&path, content).map_err(Error::io("write", &path)).map(|()| path)
    };
    let map = write(at(".bmap"), block_map(image, opened.bytes, &ranges)?.as_bytes())?;
    let spdx = tree
        .content("usr/share/sosna/sbom/image.spdx.json")
        .ok_or_else(|| Error::malformed("the slot", "it has no list of packages"))?;
    let spdx = write(at(".spdx.json"), spdx)?;
    let epoch = Image::lock(&tree)?.epoch;
    let sizes =
        Sizes { image: opened.bytes, image_sha256: &image_sha256, packed, packed_sha256: &packed_sha256 };
    let imager = imager(
        &Board::find(&boot.board)?,
        boot,
        &format!("{}/{name}.zst", url.trim_end_matches('/')),
        &sizes,
        epoch,
    );
    let mut sums = format!("{image_sha256}  {name}\n{packed_sha256}  {name}.zst\n");
    for file in [&map, &spdx] {
        let content = fs::read(file).map_err(Error::io("read", file))?;
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(sums, "{}  {file}", digest::of(&content).hex());
    }
    let sums = write(at(".sha256"), sums.as_bytes())?;
    let mut files = vec![at(".zst"), map, spdx, sums];
    if let Some(entry) = &imager {
        let text = serde_json::to_string_pretty(&json!({ "os_list": [entry] }))
            .map_err(|error| Error::malformed("the list for Raspberry Pi Imager", error))?;
        files.push(write(folder.join("sosna.svg"), include_bytes!("../assets/sosna.svg"))?);
        files.push(write(folder.join("os_list.json"), format!("{text}\n").as_bytes())?);
    }
    Ok(Published { files, imager })
}

/// Packs the image; the packed file's size and hash, and the image's hash.
fn pack(image: &Path, to: &Path) -> Result<(u64, String, String), Error> {
    let mut source = File::open(image).map_err(Error::io("open", image))?;
    let file = File::create(to).map_err(Error::io("create", to))?;
    let pack = || -> std::io::Result<(u64, String, String)> {
        let mut encoder = zstd::Encoder::new(digest::Hashing::new(BufWriter::new(file)), LEVEL)?;
        let mut hash = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            let n = source.read(&mut block)?;
            if n == 0 {
                break;
            }
            hash.update(&block[..n]);
            encoder.write_all(&block[..n])?;
        }
        let (mut writer, packed, bytes) = encoder.finish()?.finish();
        writer.flush()?;
        Ok((bytes, packed.hex(), data_encoding::HEXLOWER.encode(&hash.finalize())))
    };
    pack().map_err(Error::io("write", to))
}

/// The block map of `bmaptool`, version 2.0, of these (start, bytes).
fn block_map(image: &Path, bytes: u64, ranges: &[(u64, u64)]) -> Result<String, Error> {
    let mut file = File::open(image).map_err(Error::io("open", image))?;
    let (mut mapped, mut body) = (0, String::new());
    for (start, length) in ranges {
        // Whole blocks; ranges never touch, for all begin and end far from each other.
        let (first, end) = (start / BLOCK, (start + length).min(bytes).div_ceil(BLOCK));
        mapped += end - first;
        file.seek(SeekFrom::Start(first * BLOCK)).map_err(Error::io("read", image))?;
        let mut part = (&file).take(end.min(bytes.div_ceil(BLOCK)) * BLOCK - first * BLOCK);
        let hash = digest::of_reader(&mut part).map_err(Error::io("read", image))?.hex();
        let _ = writeln!(body, "    <Range chksum=\"{hash}\"> {first}-{} </Range>", end - 1);
    }
    let zero = "0".repeat(64);
    let text = format!(
        "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n  <ImageSize> {bytes} </ImageSize>\n  \
         <BlockSize> {BLOCK} </BlockSize>\n  <BlocksCount> {} </BlocksCount>\n  \
         <MappedBlocksCount> {mapped} </MappedBlocksCount>\n  <ChecksumType> sha256 </ChecksumType>\n  \
         <BmapFileChecksum> {zero} </BmapFileChecksum>\n  <BlockMap>\n{body}  </BlockMap>\n</bmap>\n",
        bytes.div_ceil(BLOCK)
    );
    // The map's own hash is taken while zeros stand in its place.
    let hash = digest::of(text.as_bytes()).hex();
    Ok(text.replacen(&zero, &hash, 1))
}

/// Bytes and hashes of an image and its packed form.
struct Sizes<'a> {
    image: u64,
    image_sha256: &'a str,
    packed: u64,
    packed_sha256: &'a str,
}

/// An entry of `os_list`. Source: doc/json-schema/os-list-schema.json of raspberrypi/rpi-imager. Without `init_format`:
/// Imager's own settings are for systems with a shell.
fn imager(board: &Board, boot: &BootImage, url: &str, sizes: &Sizes<'_>, epoch: u64) -> Option<Value> {
    let description = &board.description;
    let base = url.rsplit_once('/').map_or("", |(base, _)| base);
    (!description.imager.is_empty()).then(|| {
        json!({
            "name": format!("Sosna {}", boot.version),
            "description": format!("Work for a fog computing network. For {}", description.description),
            "icon": format!("{base}/sosna.svg"),
            "website": env!("CARGO_PKG_REPOSITORY"),
            "url": url,
            "extract_size": sizes.image,
            "extract_sha256": sizes.image_sha256,
            "image_download_size": sizes.packed,
            "image_download_sha256": sizes.packed_sha256,
            "release_date": timestamp(epoch)[..10],
            "devices": description.imager,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::inspect::{PartsState, SlotState};

    #[test]
    fn imagers_entry_has_all_that_its_schema_requires() {
        let boot = BootImage {
            path: "slot-a".into(),
            tries: None,
            sha256: String::new(),
            slot: "a".into(),
            board: "rpi".into(),
            version: "1.2.3".into(),
            kernel: None,
            command_line: String::new(),
            root: String::new(),
            state: SlotState::Sound,
            parts: PartsState::Unchecked,
            packages: Vec::new(),
        };
        let sizes = Sizes { image: 9, image_sha256: "ab", packed: 3, packed_sha256: "cd" };
        let url = "https://x.example/y/a.img.zst";
        let entry = imager(&Board::find("rpi").unwrap(), &boot, url, &sizes, 951_782_400).unwrap();
        for key in ["name", "description", "icon", "url", "extract_sha256", "release_date"] {
            assert!(entry[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
        assert_eq!(
            (entry["extract_size"].as_u64(), entry["image_download_size"].as_u64()),
            (Some(9), Some(3))
        );
        assert_eq!(
            (&entry["release_date"], &entry["icon"]),
            (&json!("2000-02-29"), &json!("https://x.example/y/sosna.svg"))
        );
        assert!(imager(&Board::find("x86_64-uefi").unwrap(), &boot, url, &sizes, 0).is_none());
    }

    #[test]
    fn a_block_map_covers_its_ranges_and_hashes_itself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![7; 5 * 4096]).unwrap();
        let map = block_map(file.path(), 5 * 4096, &[(0, 5000), (16_384, 4096)]).unwrap();
        assert!(map.contains("<MappedBlocksCount> 3 </MappedBlocksCount>"), "{map}");
        let hash = digest::of(&[7; 8192]).hex();
        assert!(map.contains(&format!("<Range chksum=\"{hash}\"> 0-1 </Range>")), "{map}");
        let own = map.split("<BmapFileChecksum> ").nth(1).unwrap()[..64].to_owned();
        assert_eq!(digest::of(map.replace(&own, &"0".repeat(64)).as_bytes()).hex(), own);
    }
}
