//! The data partition: what makes a device this device. Made from the image's empty template where nothing ever was,
//! checked at every boot, grown to the disk's end, mounted on `/data`.
//!
//! Must never replace an identity by itself. A partition that is neither blank nor sound is held: nothing is mounted,
//! the agent does not start, the device says so on console and status page, and its owner decides with a file on the
//! boot partition (`repair-data`, `erase-data`).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::mount::MsFlags;
use ruzstd::decoding::StreamingDecoder;

pub use super::gpt::GptError;
use super::{
    DATA, DiskError, Partition,
    ext4::{self, Content},
    gpt, on_disk,
};
use crate::{
    console, file,
    mounts::{self, MountError},
    sysfs,
};

/// Where it is mounted.
pub const MOUNT: &str = "/data";
const TEMPLATE: &str = "/usr/share/sosna/data.ext4.zst";
const CHECKER: &str = "/usr/sbin/e2fsck";
/// Written last: until it is there, a template that was cut off counts as blank.
const FIRST_BLOCK: usize = 4096;
/// A template is a few MiB of mostly nothing.
const LARGEST_TEMPLATE: u64 = 1 << 30;
/// Runs of a repair at most; one that finds nothing more is the last.
const REPAIRS: usize = 4;
/// Less than this is not worth a change of the file system.
const WORTH_GROWING: u64 = 4 << 20;

/// What an owner can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Repair at any price; what is beyond it is lost.
    Repair,
    /// Begin anew, with a new identity.
    Erase,
}

/// What was done to the partition before it was mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// It was made from the template.
    pub made: bool,
    /// The check found something and repaired it.
    pub repaired: bool,
    /// Its size afterwards, in bytes.
    pub bytes: u64,
    /// What did not work and does not matter much.
    pub remarks: Vec<String>,
}

/// Why the partition is held.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// There is none.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It cannot be read or written.
    #[error("cannot read or write {path}; the disk may be failing", path = path.display())]
    Io {
        /// The partition or the template.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not ours, or so damaged that it does not show.
    #[error("{device} is neither empty nor a file system that can be recognised", device = device.display())]
    Strange {
        /// The partition.
        device: PathBuf,
    },
    /// The check gave up.
    #[error("{device} has damage that cannot be repaired without loss (e2fsck: {code})", device = device.display())]
    Damaged {
        /// The partition.
        device: PathBuf,
        /// What e2fsck ended with.
        code: String,
    },
    /// It does not mount.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Clean,
    Repaired,
    /// The program could not be started at all.
    Unchecked(String),
    /// It needs a person, or could not be read.
    Damaged(String),
}

/// Makes `/data` of the disk that the system is on ready.
///
/// # Errors
/// [`DataError`]: then nothing is mounted, and what was on the partition is as it was.
pub fn prepare(disk: &str, wish: Option<Wish>) -> Result<Ready, DataError> {
    let partition = on_disk(disk, DATA)?;
    let mut ready = Ready::default();
    if let Err(error) = grow_partition(&partition) {
        ready.remarks.push(console::chain(&error));
    }
    let failed = io_error(&partition.device);
    let mut device = OpenOptions::new().read(true).write(true).open(&partition.device).map_err(&failed)?;
    let size = device.seek(SeekFrom::End(0)).map_err(&failed)?;
    let content = ext4::look(&mut device, size).map_err(&failed)?;
    match (content, wish) {
        (Content::Blank, _) | (_, Some(Wish::Erase)) => {
            write_template(&mut device, size, &partition.device)?;
            ready.made = true;
        }
        (Content::Other, None) => return Err(DataError::Strange { device: partition.device }),
        // The check can work with a copy of the super block.
        (Content::Other, Some(Wish::Repair)) | (Content::Ext4 { .. }, _) => {}
    }
    // The checker wants the device for itself.
    drop(device);
    let verdict = match wish {
        Some(Wish::Repair) => repair(&partition.device),
        _ => check(&partition.device, "-p"),
    };
    match verdict {
        Verdict::Clean => {}
        Verdict::Repaired => ready.repaired = true,
        Verdict::Unchecked(why) => ready.remarks.push(why),
        Verdict::Damaged(code) => return Err(DataError::Damaged { device: partition.device, code }),
    }
    mounts::device(
        &partition.device,
        "ext4",
        Path::new(MOUNT),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME,
        "errors=remount-ro",
    )?;
    match grow_file_system(&partition.device) {
        Ok(bytes) => ready.bytes = bytes,
        Err(error) => ready.remarks.push(format!("the data area keeps its size: {error}")),
    }
    Ok(ready)
}

/// Writes the template, its first block last.
fn write_template(device: &mut File, size: u64, path: &Path) -> Result<(), DataError> {
    let failed = io_error(path);
    let template = File::open(TEMPLATE).map_err(io_error(Path::new(TEMPLATE)))?;
    let unpacked = StreamingDecoder::new(io::BufReader::new(template))
        .map_err(|e| io_error(Path::new(TEMPLATE))(io::Error::other(e.to_string())))?;
    write_last_block_first(&mut *device, unpacked.take(LARGEST_TEMPLATE.min(size))).map_err(failed)
}

/// Despite what was there: the first block is cleared first, and written when all the others are on the disk.
fn write_last_block_first(device: &mut File, mut content: impl Read) -> io::Result<()> {
    device.seek(SeekFrom::Start(0))?;
    device.write_all(&[0; FIRST_BLOCK])?;
    device.sync_data()?;
    let mut first = vec![0; FIRST_BLOCK];
    content.read_exact(&mut first)?;
    io::copy(&mut content, device)?;
    device.sync_data()?;
    device.seek(SeekFrom::Start(0))?;
    device.write_all(&first)?;
    device.sync_data()
}

/// As the owner asked: whatever helps. What a copy of the super block brings back is finished by the next run.
fn repair(device: &Path) -> Verdict {
    for _ in 1..REPAIRS {
        match check(device, "-fy") {
            Verdict::Clean => return Verdict::Repaired,
            Verdict::Unchecked(why) => return Verdict::Unchecked(why),
            Verdict::Repaired | Verdict::Damaged(_) => {}
        }
    }
    check(device, "-fy")
}

fn check(device: &Path, mode: &str) -> Verdict {
    // Without a battery the clock is behind what the file system remembers; that is no damage.
    let settings = Path::new("/run/sosna/e2fsck.conf");
    let _ = file::write_whole(settings, b"[options]\nbroken_system_clock = true\n", 0o644);
    let done = Command::new(CHECKER)
        .arg(mode)
        .arg(device)
        .env("E2FSCK_CONFIG", settings)
        .stdin(Stdio::null())
        .output();
    match done {
        // A page of it could not be read: that says nothing about what it was to check.
        Ok(done) if done.status.signal() == Some(libc::SIGBUS) => Verdict::Unchecked(format!(
            "the data area was not checked: {CHECKER} cannot be read in whole, this slot is damaged"
        )),
        Ok(done) => match judge(done.status.code()) {
            Verdict::Damaged(code) => {
                Verdict::Damaged(format!("{code}; {}", last_words(&done.stdout, &done.stderr)))
            }
            other => other,
        },
        Err(error) => Verdict::Unchecked(format!("the data area was not checked: {CHECKER}: {error}")),
    }
}

/// The end of what the checker said: why it gave up.
fn last_words(stdout: &[u8], stderr: &[u8]) -> String {
    let text = [stdout, b"\n", stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

/// e2fsck(8), EXIT CODE: a sum of bits.
fn judge(code: Option<i32>) -> Verdict {
    match code {
        Some(0) => Verdict::Clean,
        // 2 asks for a restart, which matters to a root that is mounted.
        Some(1..=3) => Verdict::Repaired,
        Some(code) if code & 4 != 0 => Verdict::Damaged(format!("{code}, errors are left")),
        Some(code) => Verdict::Damaged(format!("{code}, it could not do its work")),
        None => Verdict::Damaged("killed".to_owned()),
    }
}

/// Lets the partition take the room behind it, and tells the kernel.
fn grow_partition(partition: &Partition) -> Result<(), GptError> {
    let path = Path::new("/dev").join(&partition.disk);
    let mut disk = OpenOptions::new().read(true).write(true).open(path)?;
    let size = disk.seek(SeekFrom::End(0))?;
    let sector = sysfs::value(format!("/sys/class/block/{}/queue/logical_block_size", partition.disk));
    let Some(extent) = gpt::grow(&mut disk, size, sector.unwrap_or(512), partition.number)? else {
        return Ok(());
    };
    Ok(tell_kernel(&disk, partition.number, extent)?)
}

/// `struct blkpg_partition` and `struct blkpg_ioctl_arg` of `linux/blkpg.h`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    names: [u8; 128],
}

#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut BlkpgPartition,
}

/// Changes the size of one partition without reading the table again, which a disk in use does not allow.
fn tell_kernel(disk: &File, number: u32, extent: gpt::Extent) -> io::Result<()> {
    const BLKPG: u32 = 0x1269;
    const RESIZE: libc::c_int = 3;
    let mut partition = BlkpgPartition {
        start: i64::try_from(extent.start).map_err(io::Error::other)?,
        length: i64::try_from(extent.length).map_err(io::Error::other)?,
        number: libc::c_int::try_from(number).map_err(io::Error::other)?,
        names: [0; 128],
    };
    let length = libc::c_int::try_from(size_of::<BlkpgPartition>()).map_err(io::Error::other)?;
    let argument = BlkpgArgument { operation: RESIZE, flags: 0, length, data: &raw mut partition };
    // SAFETY: both structures are the call's, and outlive it.
    let done = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw const argument) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the mounted file system take the whole partition; returns its size.
fn grow_file_system(device: &Path) -> io::Result<u64> {
    let mut partition = File::open(device)?;
    let size = partition.seek(SeekFrom::End(0))?;
    let Content::Ext4 { blocks, block } = ext4::look(&mut partition, size)? else {
        return Err(io::Error::other("it is not an ext4"));
    };
    if size < blocks * block + WORTH_GROWING {
        return Ok(blocks * block);
    }
    ext4::resize(&File::open(MOUNT)?, size / block)?;
    Ok(size / block * block)
}

/// Says so where less is left than the agent keeps free; nothing while there is room.
#[must_use]
pub fn fullness() -> Option<String> {
    let stat = nix::sys::statvfs::statvfs(MOUNT).ok()?;
    #[allow(clippy::useless_conversion, reason = "32-bit machines count its bytes in 32 bits")]
    let unit = u64::from(stat.fragment_size());
    let size = stat.blocks().saturating_mul(unit);
    let free = stat.blocks_available().saturating_mul(unit);
    let least = least(size);
    let say = || format!("the data area is full: less than {} of {} MiB are free", least >> 20, size >> 20);
    (free < least).then(say)
}

/// What the agent keeps free (`limits.disk_reserve`), and less where the whole is small.
fn least(size: u64) -> u64 {
    (64 << 20).min(size / 10)
}

/// Whether the kernel has made `/data` read-only because of an error.
#[must_use]
pub fn has_failed() -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(MOUNT)
            && fields.nth(1).is_some_and(|options| options.split(',').any(|o| o == "ro"))
    })
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> DataError + use<> {
    let path = path.to_owned();
    move |source| DataError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_checkers_answers_are_told_apart() {
        assert_eq!(judge(Some(0)), Verdict::Clean);
        for code in 1..=3 {
            assert_eq!(judge(Some(code)), Verdict::Repaired);
        }
        for code in [4, 5, 6, 8, 12, 16, 32, 128] {
            assert!(matches!(judge(Some(code)), Verdict::Damaged(_)), "{code}");
        }
        assert!(matches!(judge(None), Verdict::Damaged(_)));
    }

    #[test]
    fn a_small_disk_is_full_later() {
        assert_eq!((least(8 << 30), least(100 << 20)), (64 << 20, 10 << 20));
    }

    #[test]
    fn a_template_that_is_cut_off_leaves_a_blank_beginning() {
        let mut device = tempfile::tempfile().unwrap();
        device.set_len(1 << 20).unwrap();
        device.write_all(&[9; 8192]).unwrap();
        // The power fails after the first block and a half.
        struct Cut(usize);
        impl Read for Cut {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(self.0);
                self.0 -= length;
                buffer[..length].fill(5);
                if length == 0 { Err(io::Error::other("power")) } else { Ok(length) }
            }
        }
        assert!(write_last_block_first(&mut device, Cut(FIRST_BLOCK + 2048)).is_err());
        let size = device.seek(SeekFrom::End(0)).unwrap();
        assert_eq!(ext4::look(&mut device, size).unwrap(), Content::Blank);
        write_last_block_first(&mut device, [7; 10000].as_slice()).unwrap();
        let mut head = [0; 10000];
        device.seek(SeekFrom::Start(0)).unwrap();
        device.read_exact(&mut head).unwrap();
        assert_eq!(head, [7; 10000]);
    }
}
