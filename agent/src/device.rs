//! What this machine is and has: architecture and level, processors, memory, disk. Read once at the start.

use std::{fs, path::Path, time::Duration};

use nix::sys::statvfs::{Statvfs, statvfs};
use sosna_host::file::FileError;
use sosna_protocol::resources::{Arch, Class, Resources};
use sosna_runtime::Limits;

use crate::config::{AgentConfig, ValueError, size};

/// The version that the agent gives of itself.
pub const VERSION: &str = concat!("sosna-agent ", env!("CARGO_PKG_VERSION"));

/// How many inodes there are where a file system (btrfs) counts none and says 0: the bytes bound them.
const UNCOUNTED: u64 = 1 << 30;

/// What the device lends, and the disk that it keeps for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// All that tasks may use together.
    pub resources: Resources,
    /// Bytes for images.
    pub images: u64,
    /// Free bytes below which no work is accepted.
    pub disk_reserve: u64,
}

/// Why the machine cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A setting means nothing.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The kernel does not tell.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The architecture and instruction-set level of this machine (x86-64 psABI levels; 8 for armv8-a, 7 for armv7).
#[must_use]
pub fn class() -> Class {
    #[cfg(target_arch = "x86_64")]
    return Class { arch: Arch::X86_64, level: x86_level() };
    #[cfg(target_arch = "aarch64")]
    return Class { arch: Arch::Aarch64, level: 8 };
    #[cfg(target_arch = "arm")]
    return Class { arch: Arch::Armv7, level: 7 };
    #[cfg(target_arch = "riscv64")]
    return Class { arch: Arch::Riscv64, level: 0 };
}

#[cfg(target_arch = "x86_64")]
fn x86_level() -> u8 {
    // The levels of the x86-64 psABI, section 3.1.1, as far as Rust can ask for their parts.
    let v2 = is_x86_feature_detected!("cmpxchg16b")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("sse3")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("ssse3");
    let v3 = v2
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe")
        && is_x86_feature_detected!("xsave");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    1 + u8::from(v2) + u8::from(v3) + u8::from(v4)
}

/// What the device lends: its limits from the configuration, the rest from the machine. `held` bytes of disk are what
/// the device's tasks have been promised already.
///
/// # Errors
/// [`DeviceError`].
pub fn lent(config: &AgentConfig, held: u64) -> Result<Lent, DeviceError> {
    let limits = &config.limits;
    let (free, inodes) = disk_free(&config.data)?;
    let disk_reserve = size("limits.disk_reserve", &limits.disk_reserve)?.unwrap_or(64 << 20);
    let usable = free.saturating_sub(disk_reserve).saturating_add(held);
    let disk = size("limits.disk", &limits.disk)?.map_or(usable / 2, |disk| disk.min(usable));
    let images = size("limits.images", &limits.images)?.unwrap_or((usable / 4).max(256 << 20));
    Ok(Lent {
        resources: Resources {
            cpu_millis: cpu_millis(config),
            memory: memory(config)?,
            disk,
            inodes: if inodes == 0 { UNCOUNTED } else { inodes / 2 },
            pids: limits.pids,
        },
        images,
        disk_reserve,
    })
}

/// What no task may have more of, however much it is promised: what the configuration lends, and the size of the disk,
/// of which the free part changes.
///
/// # Errors
/// [`DeviceError`].
pub fn most(config: &AgentConfig) -> Result<Limits, DeviceError> {
    let disk = size("limits.disk", &config.limits.disk)?;
    let (bytes, inodes) = disk_size(&config.data)?;
    Ok(Limits {
        cpu_millis: cpu_millis(config),
        memory_bytes: memory(config)?,
        pids: config.limits.pids,
        disk_bytes: disk.map_or(bytes, |disk| disk.min(bytes)),
        // Some file systems make more as they are needed.
        disk_inodes: if inodes == 0 { UNCOUNTED } else { inodes.max(bytes / 512) },
        wall: Duration::MAX,
        log_bytes: bytes,
    })
}

fn cpu_millis(config: &AgentConfig) -> u32 {
    match config.limits.cpu_millis {
        0 => std::thread::available_parallelism()
            .map_or(1000, |cores| u32::try_from(cores.get()).unwrap_or(1).saturating_mul(1000)),
        set => set,
    }
}

fn memory(config: &AgentConfig) -> Result<u64, DeviceError> {
    if let Some(memory) = size("limits.memory", &config.limits.memory)? {
        return Ok(memory);
    }
    let total = memory_total()?;
    // The kernel, this program and its shims live too.
    Ok(total.saturating_sub((total / 8).max(64 << 20)))
}

/// Free bytes and inodes of the file system that holds `path`.
///
/// # Errors
/// [`FileError`].
pub fn disk_free(path: &Path) -> Result<(u64, u64), FileError> {
    let (stat, unit) = disk(path)?;
    Ok((stat.blocks_available().saturating_mul(unit), stat.files_available()))
}

/// All bytes and inodes of it.
fn disk_size(path: &Path) -> Result<(u64, u64), FileError> {
    let (stat, unit) = disk(path)?;
    Ok((stat.blocks().saturating_mul(unit), stat.files()))
}

/// What the kernel says of a file system, and how many bytes its blocks have.
#[allow(clippy::useless_conversion, reason = "32-bit machines count its bytes in 32 bits")]
fn disk(path: &Path) -> Result<(Statvfs, u64), FileError> {
    let stat = statvfs(path).map_err(|errno| FileError::of("ask for the space of", path)(errno.into()))?;
    let unit = u64::from(stat.fragment_size());
    Ok((stat, unit))
}

fn memory_total() -> Result<u64, FileError> {
    let path = Path::new("/proc/meminfo");
    let text = fs::read_to_string(path).map_err(FileError::of("read", path))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| {
        FileError::of("find the memory's size in", path)(std::io::Error::from(
            std::io::ErrorKind::InvalidData,
        ))
    })
}

/// Bytes of memory that this process takes: its share of all pages (PSS); none where the kernel does not tell.
#[must_use]
pub fn own_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kib: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kib * 1024)
}

/// Which boot of the machine this is; empty where the kernel does not tell.
#[must_use]
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// What people call the device: what its owner configured, else the machine's host name; cut to what the protocol
/// carries.
#[must_use]
pub fn name(config: &AgentConfig) -> String {
    let machine = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = Some(config.name.clone()).filter(|name| !name.is_empty()).or_else(machine);
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "device".to_owned());
    sosna_host::report::cut(&name, 64).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_machine_is_described_and_limits_override_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = AgentConfig { data: dir.path().into(), ..AgentConfig::default() };
        let machine = lent(&config, 0).unwrap();
        assert!(machine.resources.cpu_millis >= 1000 && machine.resources.memory > 64 << 20);
        assert!(machine.resources.disk > 0 && machine.resources.inodes > 0);
        config.limits.cpu_millis = 1500;
        config.limits.memory = "128MiB".into();
        config.limits.disk = "1GiB".into();
        let limited = lent(&config, 0).unwrap().resources;
        assert_eq!((limited.cpu_millis, limited.memory, limited.disk), (1500, 128 << 20, 1 << 30));
        // A disk that others have filled: nothing but what tasks hold already.
        config.limits.disk_reserve = "1000TiB".into();
        assert_eq!(lent(&config, 0).unwrap().resources.disk, 0);
        assert_eq!(lent(&config, 1000).unwrap().resources.disk, 1000);
    }

    #[test]
    fn the_class_has_a_level() {
        let class = class();
        assert!(class.arch == Arch::Riscv64 || class.level >= 1, "{class}");
        assert!(own_memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}
