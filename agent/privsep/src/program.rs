//! This program as a sealed copy in memory, from which helpers are started: a container that got hold of its shim's
//! executable could not change it (CVE-2019-5736), and an update of the file on disk does not mix versions.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    unistd::Pid,
};

/// The sealed copy.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Copies the running program.
    ///
    /// # Errors
    /// When it cannot be read, or there is no memory for it.
    pub fn of_this_process() -> io::Result<Self> {
        let mut source = File::open("/proc/self/exe")?;
        let mut copy = File::from(executable_memory()?);
        source.rewind()?;
        io::copy(&mut source, &mut copy)?;
        copy.flush()?;
        let seals =
            SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
        fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self(copy.into()))
    }

    /// A command that starts it as `argv0`: nothing of our environment, working folder, arguments or input.
    #[must_use]
    pub fn start_as(&self, argv0: &str) -> Command {
        start_as(&fd_path(self.0.as_fd()), argv0)
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The same of the running program's file, for what no container comes near.
#[must_use]
pub fn this_program_as(argv0: &str) -> Command {
    start_as(Path::new("/proc/self/exe"), argv0)
}

fn start_as(program: &Path, argv0: &str) -> Command {
    let mut command = Command::new(program);
    command.arg0(argv0).env_clear().current_dir("/").stdin(Stdio::null());
    sosna_fault::pass_on(&mut command);
    command
}

fn executable_memory() -> io::Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10;
    let base = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let name = c"sosna".as_ptr();
    // Kernels before 6.3 do not know MFD_EXEC and make executable files anyway.
    // SAFETY: `name` is a static C string.
    match owned(libc::c_long::from(unsafe { libc::memfd_create(name, base | MFD_EXEC) })) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            // SAFETY: as above.
            owned(libc::c_long::from(unsafe { libc::memfd_create(name, base) }))
        }
        other => other,
    }
}

/// The path by which this process reaches an open descriptor.
#[must_use]
pub fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// A descriptor that becomes readable when a child of this process ends (`pidfd_open(2)`).
///
/// # Errors
/// The kernel's; Linux has known it since 5.3.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Lets go of the pages of code and constants that are mapped: they come back from the program's file when they are
/// needed. A process that waits needs few of those that it took to start.
pub fn drop_code_pages() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let maps: Vec<_> = maps.lines().filter_map(Mapping::of).collect();
    for (place, mapping) in maps.iter().enumerate() {
        // Of what can only be read, the part that begins with the file's header and lies before its code. What the linker
        // has written addresses into, and closed then, lies behind it.
        let before_code =
            maps.get(place + 1).is_some_and(|next| next.access == "r-xp" && next.inode == mapping.inode);
        let is_constant = mapping.access == "r--p" && mapping.offset == 0 && before_code;
        if mapping.inode != "0" && (mapping.access == "r-xp" || is_constant) {
            // SAFETY: the range is a private mapping of a file that is not writable and never was (the linker refuses
            // relocations in code and header): its pages hold what the file holds, and the kernel reads them again on
            // the next access.
            unsafe {
                libc::madvise(
                    std::ptr::without_provenance_mut(mapping.from),
                    mapping.to.saturating_sub(mapping.from),
                    libc::MADV_DONTNEED,
                );
            }
        }
    }
}

/// A line of `/proc/self/maps` (proc(5)).
struct Mapping<'a> {
    from: usize,
    to: usize,
    access: &'a str,
    offset: u64,
    inode: &'a str,
}

impl<'a> Mapping<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        Some(Self {
            from: usize::from_str_radix(from, 16).ok()?,
            to: usize::from_str_radix(to, 16).ok()?,
            access: fields.next()?,
            offset: u64::from_str_radix(fields.next()?, 16).ok()?,
            inode: fields.nth(1)?,
        })
    }
}

/// What a system call returned, as an owned descriptor.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
