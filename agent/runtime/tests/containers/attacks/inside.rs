//! The attacks themselves, as they run in a container: each says that it succeeded (exit code 0), or what refused it.

use std::{
    ffi::{CString, c_void},
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::{SocketAddr as UnixAddress, UnixStream},
    process::{Command, exit},
    ptr,
    time::{Duration, Instant},
};

use super::conntrack;

/// What refused an attack: the step, and the kernel's answer.
pub(super) type Refused = (&'static str, io::Error);
/// An attack's own part, as it runs in a container.
pub(super) type Make = fn() -> Result<(), Refused>;

/// An attack that reached its aim.
pub(super) const REACHED: i32 = 0;
/// One that was refused.
pub(super) const REFUSED: i32 = 10;
/// One for which this kernel has no such thing, whoever asks.
pub(super) const ABSENT: i32 = 11;

/// What an attack says first: without it, there was none.
pub(super) const BEGUN: &str = "begun";

/// How much an attack on quantities takes: more than ours grants, less than what could harm the machine of the test.
const PROCESSES: usize = 150;
const MEMORY: usize = 200 << 20;
const DISK: usize = 64 << 20;
const INODES: usize = 5_000;
pub(super) const LOG: usize = 5 << 20;
/// Entries of connections.
pub(super) const CONNECTIONS: u32 = 2_000;

pub(crate) fn main(args: &[String]) -> ! {
    if args.first().is_some_and(|a| a == "who-am-i") {
        exit(if nix::unistd::geteuid().is_root() { REACHED } else { REFUSED });
    }
    let name = args.first().expect("the name of an attack");
    eprintln!("{BEGUN}");
    let attack = super::ATTACKS.iter().find(|attack| attack.name == name).expect("an attack of the list");
    match (attack.make)() {
        Ok(()) => exit(REACHED),
        Err((step, e)) => {
            eprintln!("{step}: {e}");
            let absent = e.raw_os_error() == Some(libc::ENOSYS) && !under_seccomp();
            exit(if absent { ABSENT } else { REFUSED })
        }
    }
}

/// A filter may answer ENOSYS as well: then it says nothing of the kernel.
fn under_seccomp() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Seccomp:\t2"))
}

/// What the test laid out for an attack to reach.
fn bait(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("the test gives {name}"))
}

fn victim() -> i32 {
    bait("VICTIM").parse().unwrap()
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Refused>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &'static str) -> Result<T, Refused> {
        self.map_err(|e| (step, e))
    }
}

impl<T> Step<T> for nix::Result<T> {
    fn step(self, step: &'static str) -> Result<T, Refused> {
        self.map_err(|e| (step, e.into()))
    }
}

/// A call as the kernel takes it.
fn call(step: &'static str, number: libc::c_long, args: [usize; 5]) -> Result<usize, Refused> {
    // SAFETY: callers pass what the kernel may read or write for this call, alive until it returns.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    usize::try_from(result).map_err(|_| (step, io::Error::last_os_error()))
}

/// A number as an argument of a call.
const fn word(number: i32) -> usize {
    number.cast_unsigned() as usize
}

fn nothing(step: &'static str, what: &str) -> Refused {
    (step, io::Error::other(what.to_owned()))
}

pub(super) fn mount() -> Result<(), Refused> {
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), "/tmp", Some("tmpfs"), flags, None::<&str>).step("mount")
}

pub(super) fn unshare() -> Result<(), Refused> {
    // A user namespace would bring all capabilities over what is in it, and with them much of the kernel's code.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).step("unshare")
}

pub(super) fn ptrace() -> Result<(), Refused> {
    let seize = libc::PTRACE_SEIZE as usize;
    call("ptrace", libc::SYS_ptrace, [seize, usize::try_from(victim()).unwrap(), 0, 0, 0]).map(drop)
}

pub(super) fn signal() -> Result<(), Refused> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim()), nix::sys::signal::Signal::SIGKILL)
        .step("kill")
}

pub(super) fn keyctl() -> Result<(), Refused> {
    const GET_KEYRING: usize = 0;
    const SEARCH: usize = 10;
    const READ: usize = 11;
    const USER_KEYRING: i32 = -4;
    let keyring = call("keyctl", libc::SYS_keyctl, [GET_KEYRING, word(USER_KEYRING), 0, 0, 0])?;
    let (kind, name) = (c"user", CString::new(bait("KEY")).unwrap());
    let find = [SEARCH, keyring, kind.as_ptr() as usize, name.as_ptr() as usize, 0];
    let key = call("keyctl search", libc::SYS_keyctl, find)?;
    let mut secret = [0_u8; 64];
    let length =
        call("keyctl read", libc::SYS_keyctl, [READ, key, secret.as_mut_ptr() as usize, secret.len(), 0])?;
    told(&secret[..length])
}

/// Whether what was read is the host's secret.
fn told(found: &[u8]) -> Result<(), Refused> {
    if found.starts_with(super::SECRET.as_bytes()) { Ok(()) } else { Err(nothing("read", "another content")) }
}

pub(super) fn bpf() -> Result<(), Refused> {
    const MAP_CREATE: usize = 0;
    // A hash of one entry: kind, sizes of key and value, entries, flags.
    let attributes: [u32; 32] = std::array::from_fn(|n| [1, 4, 4, 1].get(n).copied().unwrap_or(0));
    let args = [MAP_CREATE, attributes.as_ptr() as usize, size_of_val(&attributes), 0, 0];
    call("bpf", libc::SYS_bpf, args).map(drop)
}

pub(super) fn io_uring() -> Result<(), Refused> {
    let mut parameters = [0_u32; 64];
    call("io_uring_setup", libc::SYS_io_uring_setup, [1, parameters.as_mut_ptr() as usize, 0, 0, 0]).map(drop)
}

pub(super) fn perf() -> Result<(), Refused> {
    // Everything that the first processor does: kind software, its size, the processor's clock.
    let mut attributes = [0_u32; 34];
    (attributes[0], attributes[1]) = (1, u32::try_from(size_of_val(&attributes)).unwrap());
    let (every_process, first, no_group) = (usize::MAX, 0, usize::MAX);
    let args = [attributes.as_ptr() as usize, every_process, first, no_group, 0];
    call("perf_event_open", libc::SYS_perf_event_open, args).map(drop)
}

pub(super) fn kernel_log() -> Result<(), Refused> {
    const READ_AND_KEEP: usize = 3;
    let mut text = vec![0_u8; 1024];
    call("syslog", libc::SYS_syslog, [READ_AND_KEEP, text.as_mut_ptr() as usize, text.len(), 0, 0]).map(drop)
}

pub(super) fn clock() -> Result<(), Refused> {
    // Sets what it is already.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).step("clock_gettime")?;
    nix::time::clock_settime(nix::time::ClockId::CLOCK_REALTIME, now).step("clock_settime")
}

pub(super) fn host_name() -> Result<(), Refused> {
    let name = nix::unistd::gethostname().step("gethostname")?;
    nix::unistd::sethostname(name).step("sethostname")
}

pub(super) fn core_pattern() -> Result<(), Refused> {
    // The program that the kernel starts as root, outside, when something crashes. Written back as it is.
    let path = "/proc/sys/kernel/core_pattern";
    let pattern = fs::read(path).step("read core_pattern")?;
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut f| f.write_all(&pattern))
        .step("write core_pattern")
}

pub(super) fn kernel_state() -> Result<(), Refused> {
    use std::io::Read;
    // What of it there is depends on the kernel.
    let mut last = nothing("read", "none of them");
    for path in ["/proc/kcore", "/proc/timer_list", "/proc/interrupts"] {
        let mut head = [0_u8; 4];
        match fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)) {
            Ok(()) => return Ok(()),
            Err(error) => last = (path, error),
        }
    }
    Err(last)
}

pub(super) fn file_by_handle() -> Result<(), Refused> {
    use std::io::Read;
    use std::os::fd::FromRawFd;
    // As "shocker" did it: a handle is a guess at an inode's number, good for any file system that one has a file of.
    let handle: Vec<u8> = bait("HANDLE").split(',').map(|b| b.parse().unwrap()).collect();
    // The input lies on a file system of the host, and so does the root where nothing is laid over it.
    let mut tried = Err(nothing("open", "nothing to try"));
    for near in ["/in", "/"] {
        let near = fs::File::open(near).step("open")?;
        let near = word(std::os::fd::AsRawFd::as_raw_fd(&near));
        let args = [near, handle.as_ptr() as usize, word(libc::O_RDONLY), 0, 0];
        tried = call("open_by_handle_at", libc::SYS_open_by_handle_at, args);
        if tried.is_ok() {
            break;
        }
    }
    let file = tried?;
    // SAFETY: the kernel has just given us this descriptor.
    let mut file = unsafe { fs::File::from_raw_fd(i32::try_from(file).unwrap()) };
    let mut secret = Vec::new();
    file.read_to_end(&mut secret).step("read")?;
    told(&secret)
}

pub(super) fn disk_by_node() -> Result<(), Refused> {
    use std::io::Read;
    let path = "/tmp/disk";
    let (kind, mode) = (nix::sys::stat::SFlag::S_IFBLK, nix::sys::stat::Mode::from_bits_truncate(0o600));
    nix::sys::stat::mknod(path, kind, mode, bait("DISK").parse().unwrap()).step("mknod")?;
    let mut secret = vec![0; super::SECRET.len()];
    fs::File::open(path).and_then(|mut disk| disk.read_exact(&mut secret)).step("read the disk")?;
    told(&secret)
}

pub(super) fn root_of_a_process() -> Result<(), Refused> {
    let path = format!("/proc/{}/root{}", victim(), bait("SECRET_FILE"));
    told(&fs::read(path).step("read through /proc")?)
}

pub(super) fn set_uid() -> Result<(), Refused> {
    // The test has put a copy of this program with the bit into the image; it is run as an ordinary user.
    nix::unistd::setgid(nix::unistd::Gid::from_raw(1000)).step("setgid")?;
    nix::unistd::setuid(nix::unistd::Uid::from_raw(1000)).step("setuid")?;
    let status =
        Command::new("/bin/probe-set-uid").args(["as-attack", "who-am-i"]).status().step("execute")?;
    if status.code() == Some(REACHED) { Ok(()) } else { Err(nothing("execute", "an ordinary user still")) }
}

pub(super) fn own_limits() -> Result<(), Refused> {
    // Which file is the limit, the test knows.
    let place = "/tmp/groups";
    fs::create_dir_all(place).step("mkdir")?;
    let kind = bait("CGROUP_KIND");
    let option = (kind == "cgroup").then_some("pids");
    nix::mount::mount(Some("c"), place, Some(kind.as_str()), nix::mount::MsFlags::empty(), option)
        .step("mount")?;
    let file = format!("{place}/{}/pids.max", bait("CGROUP"));
    fs::OpenOptions::new().write(true).open(file).and_then(|mut f| f.write_all(b"299")).step("write pids.max")
}

pub(super) fn ping_socket() -> Result<(), Refused> {
    raw_socket(libc::AF_INET, libc::IPPROTO_ICMP)
}

pub(super) fn packet_socket() -> Result<(), Refused> {
    // ETH_P_ALL, as the network has it.
    raw_socket(libc::AF_PACKET, 0x0300)
}

fn raw_socket(family: i32, protocol: i32) -> Result<(), Refused> {
    let kind = word(libc::SOCK_RAW);
    call("socket", libc::SYS_socket, [word(family), kind, word(protocol), 0, 0]).map(drop)
}

pub(super) fn scan() -> Result<(), Refused> {
    let mut last = nothing("connect", "no address to try");
    for address in bait("LISTENERS").split(' ') {
        let address: SocketAddr = address.parse().unwrap();
        match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
            Ok(_) => return Ok(()),
            Err(e) => last = ("connect", e),
        }
    }
    Err(last)
}

pub(super) fn abstract_socket() -> Result<(), Refused> {
    use std::os::linux::net::SocketAddrExt;
    let address = UnixAddress::from_abstract_name(bait("ABSTRACT")).step("address")?;
    UnixStream::connect_addr(&address).map(drop).step("connect")
}

pub(super) fn shared_memory() -> Result<(), Refused> {
    let segment: i32 = bait("SEGMENT").parse().unwrap();
    // SAFETY: the kernel chooses where; the segment is only read.
    let at = unsafe { libc::shmat(segment, ptr::null(), libc::SHM_RDONLY) };
    if at as isize == -1 {
        return Err(("shmat", io::Error::last_os_error()));
    }
    // SAFETY: the segment is as long as the secret at least, and mapped.
    told(unsafe { std::slice::from_raw_parts(at.cast::<u8>(), super::SECRET.len()) })
}

pub(super) fn connections() -> Result<(), Refused> {
    conntrack::fill(CONNECTIONS).step("enter a connection")
}

pub(super) fn fork_bomb() -> Result<(), Refused> {
    for _ in 1..PROCESSES {
        // SAFETY: the child only sleeps, which is allowed after a fork.
        match unsafe { libc::fork() } {
            -1 => return Err(("fork", io::Error::last_os_error())),
            // SAFETY: no memory is involved. With its parent it ends, wherever it is.
            0 => unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::sleep(20);
                libc::_exit(0);
            },
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn memory_hog() -> Result<(), Refused> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut::<c_void>(),
            MEMORY,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(("mmap", io::Error::last_os_error()));
    }
    for page in (0..MEMORY).step_by(4096) {
        // SAFETY: within the mapping.
        unsafe { at.cast::<u8>().add(page).write_volatile(1) };
    }
    Ok(())
}

pub(super) fn processor_hog() -> Result<(), Refused> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        std::hint::black_box(0);
    }
    let used =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).step("clock_gettime")?;
    let share = Duration::from(used).as_secs_f64() / begun.elapsed().as_secs_f64();
    if share > 0.5 { Ok(()) } else { Err(nothing("spin", &format!("{:.0} % of a processor", share * 100.0))) }
}

pub(super) fn disk_filler() -> Result<(), Refused> {
    let mut file = fs::File::create("/work/filler").step("create")?;
    let piece = vec![1_u8; 1 << 20];
    for _ in 0..DISK / piece.len() {
        file.write_all(&piece).step("write")?;
    }
    file.sync_all().step("sync")
}

pub(super) fn inode_filler() -> Result<(), Refused> {
    (0..INODES).try_for_each(|n| fs::File::create(format!("/work/{n}")).map(drop).step("create"))
}

pub(super) fn endless_log() -> Result<(), Refused> {
    let line = [b'x'; 1 << 16];
    (0..LOG / line.len()).try_for_each(|_| io::stdout().write_all(&line).step("write"))
}

pub(super) fn deaf_to_sigterm() -> Result<(), Refused> {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    println!("deaf");
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

pub(super) fn outlives_its_container() -> Result<(), Refused> {
    // Away from the container's first process, its session and its streams.
    let marker = bait("MARKER");
    Command::new("/bin/sh")
        .args(["-c", &format!("setsid sleep {marker} <&- >&- 2>&- & exit 0")])
        .status()
        .map(drop)
        .step("execute")
}

pub(super) fn delete_the_root() -> Result<(), Refused> {
    let mut gone = 0;
    for entry in fs::read_dir("/").step("read /")?.flatten() {
        let path = entry.path();
        if !["/proc", "/sys", "/dev"].iter().any(|kept| path.starts_with(kept)) {
            gone += u32::from(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).is_ok());
        }
    }
    if gone > 0 { Ok(()) } else { Err(nothing("remove", "nothing could be removed")) }
}
