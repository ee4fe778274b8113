//! The boot partition: FAT32, written and edited without mounting it.

use std::io::{Cursor, Read, Seek, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

use crate::Error;

/// The label that the partition shows on other computers.
const LABEL: [u8; 11] = *b"SOSNA-BOOT ";
/// The smallest one, with clusters of 1024 bytes.
const SMALLEST: usize = 72 << 20;
/// Of one file at most this much is read.
const MOST: u64 = 256 << 20;

/// A FAT file system on anything that can be read and written: a partition of an image, or memory.
pub struct Fat<T: Read + Write + Seek> {
    fs: FileSystem<T>,
}

impl<T: Read + Write + Seek> std::fmt::Debug for Fat<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fat").finish_non_exhaustive()
    }
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = format!("the boot partition, {what}");
    move |error| Error::malformed(what, error)
}

// === impl Fat ===

impl<'a> Fat<Cursor<&'a mut [u8]>> {
    /// Makes an empty file system in memory that is all zero. `serial` is its volume number.
    ///
    /// # Errors
    /// [`Error::Room`]: it is too small for FAT32.
    pub fn format(memory: &'a mut [u8], serial: u32) -> Result<Self, Error> {
        let bytes = memory.len();
        // FAT32 wants at least 65525 clusters: with fewer, firmware takes it for FAT16.
        if bytes < SMALLEST {
            return Err(Error::Room {
                what: "the boot partition".to_owned(),
                needed: SMALLEST as u64,
                room: bytes as u64,
            });
        }
        let cluster = if bytes < 256 << 20 { 1024 } else { 2048 };
        let options = FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_cluster(cluster)
            .volume_id(serial)
            .volume_label(LABEL);
        fatfs::format_volume(Cursor::new(&mut *memory), options).map_err(failed("format"))?;
        Self::open(Cursor::new(memory))
    }
}

impl<T: Read + Write + Seek> Fat<T> {
    /// Opens a file system.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it is no FAT.
    pub fn open(disk: T) -> Result<Self, Error> {
        let options = FsOptions::new().update_accessed_date(false);
        Ok(Self { fs: FileSystem::new(disk, options).map_err(failed("open"))? })
    }

    /// Writes a file with the folders above it, replacing what was there.
    ///
    /// # Errors
    /// [`Error::Malformed`]: no room, or the file system is damaged.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let write = || {
            let root = self.fs.root_dir();
            for (at, _) in path.match_indices('/') {
                root.create_dir(&path[..at])?;
            }
            let mut file = root.create_file(path)?;
            file.truncate()?;
            file.write_all(content)?;
            file.flush()
        };
        write().map_err(failed(path))
    }

    /// The content of a file, if it exists.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let read = || {
            let file = match self.fs.root_dir().open_file(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let mut content = Vec::new();
            file.take(MOST).read_to_end(&mut content)?;
            Ok(Some(content))
        };
        read().map_err(failed(path))
    }

    /// Removes a file; false where there was none.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn remove(&self, path: &str) -> Result<bool, Error> {
        match self.fs.root_dir().remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(path)(error)),
        }
    }

    /// All files below a folder (`""` is the top) with their sizes, sorted by path.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        let mut found = Vec::new();
        self.collect(folder, 0, &mut found).map_err(failed(folder))?;
        found.sort();
        Ok(found)
    }

    fn collect(&self, folder: &str, depth: u8, found: &mut Vec<(String, u64)>) -> std::io::Result<()> {
        let root = self.fs.root_dir();
        let dir = if folder.is_empty() {
            root
        } else {
            match root.open_dir(folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            }
        };
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if !entry.is_dir() {
                found.push((path, entry.len()));
            } else if depth < 16 {
                self.collect(&path, depth + 1, found)?;
            }
        }
        Ok(())
    }

    /// Writes what is still to be written.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn finish(self) -> Result<(), Error> {
        self.fs.unmount().map_err(failed("finish"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn files_are_written_replaced_listed_and_removed() {
        let mut memory = vec![0; 80 << 20];
        let fat = Fat::format(&mut memory, 7).unwrap();
        fat.write("EFI/Linux/sosna-0.1.0+3.efi", &vec![5; 3_000_000]).unwrap();
        fat.write("sosna/join", b"a long text").unwrap();
        fat.write("sosna/join", b"short").unwrap();
        assert_eq!(fat.read("sosna/join").unwrap().unwrap(), b"short");
        assert_eq!(fat.read("sosna/none").unwrap(), None);
        assert_eq!(fat.read("none/none").unwrap(), None);
        let expected = [("EFI/Linux/sosna-0.1.0+3.efi".to_owned(), 3_000_000), ("sosna/join".to_owned(), 5)];
        assert_eq!(fat.list("").unwrap(), expected);
        assert!(fat.remove("sosna/join").unwrap());
        assert!(!fat.remove("sosna/join").unwrap());
        assert!(fat.list("sosna").unwrap().is_empty());
        assert!(fat.write("big", &vec![0; 90 << 20]).is_err());
        fat.finish().unwrap();
    }

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let make = || {
            let mut memory = vec![0; 80 << 20];
            let fat = Fat::format(&mut memory, 7).unwrap();
            fat.write("a/b", b"c").unwrap();
            fat.finish().unwrap();
            memory
        };
        assert!(make() == make());
    }

    #[test]
    fn what_is_no_file_system_is_refused() {
        assert!(Fat::open(Cursor::new(vec![0; 4096])).is_err());
        assert!(Fat::format(&mut [0; 1 << 16], 0).is_err());
    }

    /// Whoever made the card made every byte of it.
    #[test]
    fn damaged_file_systems_are_errors_and_never_panics() {
        let mut memory = vec![0; 80 << 20];
        let fat = Fat::format(&mut memory, 7).unwrap();
        fat.write("EFI/Linux/a.efi", &[5; 3000]).unwrap();
        fat.finish().unwrap();
        let mut seed = 1_u64;
        for round in 0..3000_usize {
            let mut change = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) as usize
            };
            // The boot sector, the first of the table, and the folders behind the tables.
            let at = match round % 3 {
                0 => change() % 512,
                1 => 32 * 512 + change() % 64,
                _ => (80 << 20) / 128 + change() % (1 << 16),
            };
            let (old, new) = (memory[at], change().to_le_bytes()[0]);
            memory[at] = new;
            if let Ok(fat) = Fat::open(Cursor::new(&mut memory[..])) {
                let _ = fat.list("");
                let _ = fat.read("EFI/Linux/a.efi");
                drop(fat);
            }
            memory[at] = old;
        }
    }
}
