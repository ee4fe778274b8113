//! The few system calls that no library of ours wraps. Thin: no policy here.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    unistd::Pid,
};
pub(crate) use sosna_privsep::{fd_path, pidfd};

/// A path for the kernel.
fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
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

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A detached copy of the mount at `path` (`open_tree(2)` with `OPEN_TREE_CLONE`).
pub(crate) fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is a valid C string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// The same of what a descriptor stands for (`AT_EMPTY_PATH`).
pub(crate) fn clone_tree_of(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.unsigned_abs();
    // SAFETY: the empty path is a valid C string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Sets attributes of a detached mount (`mount_setattr(2)`); `user_ns` maps its owners.
pub(crate) fn set_mount_attributes(tree: &OwnedFd, set: u64, user_ns: Option<&OwnedFd>) -> io::Result<()> {
    let mut attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    if let Some(ns) = user_ns {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = u64::from(ns.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the empty path and `attributes` are valid for the call, and the size is that of the structure.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Attaches a detached mount at `path` (`move_mount(2)`).
pub(crate) fn attach_tree(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: both strings are valid for the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

/// Takes the advisory lock of a process on a whole file, or says that another process has it. Unlike `flock`, it
/// is not inherited by children, so that it tells whether this very process lives.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&whole_file_lock())) {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::EACCES | nix::errno::Errno::EAGAIN) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether another process holds the lock of [`try_lock`].
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole_file_lock();
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn whole_file_lock() -> libc::flock {
    // SAFETY: `flock` is plain data for which all zeroes is a value: the range "from the start, to the end".
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(libc::F_WRLCK).unwrap_or(1);
    lock.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or(0);
    lock
}

/// Kills this process with SIGKILL when its parent dies (`PR_SET_PDEATHSIG`).
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
}

/// Kills and reaps all children of this process, which has one thread. For what a failed creation left: without
/// control groups there is no other way to find it.
pub(crate) fn kill_children() {
    use nix::sys::{
        signal::{Signal, kill},
        wait::waitpid,
    };
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in list.split_whitespace().filter_map(|p| p.parse().ok()).map(Pid::from_raw) {
        if kill(pid, Signal::SIGKILL).is_ok() {
            let _ = waitpid(pid, None);
        }
    }
}

/// Gives all signals their default actions and blocks none, as a new program expects.
pub(crate) fn default_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    for s in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: no handler is installed.
        unsafe { signal(s, SigHandler::SigDfl)? };
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Makes writing to a pipe that nobody reads an error instead of a death.
pub(crate) fn ignore_broken_pipes() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn)? };
    Ok(())
}

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// Puts a file behind a free loop device, which the kernel frees again when its last user (a mount) goes.
/// Returns the device's path and a descriptor to keep until it is mounted.
pub(crate) fn attach_loop(file: &File) -> io::Result<(std::path::PathBuf, File)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    // Between asking for a free device and taking it somebody else may have taken it.
    for _ in 0..64 {
        // SAFETY: this request takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = std::path::PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options().read(true).write(true).open(&path)?;
        // SAFETY: plain integers and arrays, for which all zeroes is a value.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = file.as_raw_fd().unsigned_abs();
        config.info.flags = LO_FLAGS_AUTOCLEAR;
        // SAFETY: `config` has the layout of `struct loop_config` and outlives the call.
        let status = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        if status == 0 {
            return Ok((path, device));
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(last)
}

/// Brings the loopback interface of this process's network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: no pointers.
    let socket = owned(libc::c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    // SAFETY: plain data; all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(OsStr::new("lo").as_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: `request` is a valid `ifreq` with a terminated name and outlives the call.
    done(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request)
    }))
}

/// Interrupts a system call that blocks: sends SIGALRM (with a handler that does nothing) after `first` seconds
/// and then every second, until it is called with 0. Timers are not inherited by children.
pub(crate) fn interrupt_after(first: std::time::Duration) -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing at all.
    unsafe { sigaction(Signal::SIGALRM, &action)? };
    // By way of 32 bits, which both musl's and glibc's seconds hold on every processor.
    let seconds = i32::try_from(first.as_secs()).unwrap_or(i32::MAX);
    let every = i32::from(!first.is_zero());
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: every.into(), tv_usec: 0 },
        it_value: libc::timeval { tv_sec: seconds.into(), tv_usec: i64::from(first.subsec_micros()) as _ },
    };
    // SAFETY: `timer` is valid for the call and the old value is not asked for.
    done(libc::c_long::from(unsafe {
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut())
    }))
}

/// A user namespace with this mapping of users and groups (`from`.. on disk to `base`.. on the host), for idmapped mounts.
/// Only for a process with one thread.
pub(crate) fn mapping_namespace(from: u32, base: u32, count: u32) -> io::Result<OwnedFd> {
    let (ready_read, ready_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (go_read, go_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, so the child may do what it likes; it only makes system calls.
    match unsafe { nix::unistd::fork()? } {
        nix::unistd::ForkResult::Child => {
            drop(go_write);
            let ok = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok();
            let _ = nix::unistd::write(&ready_write, &[u8::from(ok)]);
            // Ends when the parent closes its end, or dies.
            let _ = nix::unistd::read(&go_read, &mut [0]);
            // SAFETY: leaves without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop(ready_write);
            drop(go_read);
            let result = (|| {
                let mut ok = [0];
                if nix::unistd::read(&ready_read, &mut ok)? != 1 || ok != [1] {
                    return Err(io::Error::other("the kernel refused a user namespace"));
                }
                for map in ["uid_map", "gid_map"] {
                    std::fs::write(format!("/proc/{child}/{map}"), format!("{from} {base} {count}"))?;
                }
                Ok(File::open(format!("/proc/{child}/ns/user"))?.into())
            })();
            drop(go_write);
            let _ = nix::sys::wait::waitpid(child, None);
            result
        }
    }
}

/// Enters a namespace given by a descriptor.
pub(crate) fn enter(ns: impl AsFd, kind: nix::sched::CloneFlags) -> io::Result<()> {
    Ok(nix::sched::setns(ns, kind)?)
}
