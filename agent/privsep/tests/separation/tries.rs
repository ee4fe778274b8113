//! What somebody would try who has taken over the process that speaks to the network.

use std::{
    fs::{self, File},
    io,
    net::{TcpListener, UdpSocket},
    os::unix::fs::chown,
    path::Path,
    process::{Command, ExitCode},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, Uid, setuid},
};
use sosna_privsep::{Charge, Launcher, Monitor};

use super::{USER, call, give_up};

struct Place<'a> {
    folder: &'a Path,
    root: Pid,
    same_user: Pid,
    launcher: &'a Launcher,
}

type Try = (&'static str, fn(&Place<'_>) -> io::Result<()>);

const TRIES: &[Try] = &[
    ("reads a file of root's", |at| fs::read(at.folder.join("secret")).map(drop)),
    ("writes a file of root's", |at| File::options().append(true).open(at.folder.join("secret")).map(drop)),
    ("makes a file beside its folder", |at| fs::write(at.folder.join("beside"), "")),
    ("removes a file beside its folder", |at| {
        let path = at.folder.join("secret");
        fs::copy(&path, at.folder.join("own/copy"))?;
        fs::rename(&path, at.folder.join("own/taken"))?;
        fs::rename(at.folder.join("own/taken"), path)
    }),
    ("writes where everybody may (/tmp)", |_| {
        let path = std::env::temp_dir().join(format!("sosna-separation-{}", std::process::id()));
        fs::write(&path, "").and_then(|()| fs::remove_file(path))
    }),
    ("gives a file away", |at| {
        let path = at.folder.join("own/given");
        fs::write(&path, "")?;
        chown(&path, Some(4242), Some(4242))
    }),
    ("runs a program", |_| Command::new("/bin/true").status().map(drop)),
    ("runs a program that it wrote itself", |at| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = at.folder.join("own/program");
        fs::copy("/bin/true", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Command::new(&path).status().map(drop)
    }),
    ("runs a program from memory", |_| {
        let flags = nix::sys::memfd::MFdFlags::empty();
        let mut memory = File::from(nix::sys::memfd::memfd_create(c"x", flags)?);
        io::copy(&mut File::open("/bin/true")?, &mut memory)?;
        let path = sosna_privsep::fd_path(std::os::fd::AsFd::as_fd(&memory));
        Command::new(path).status().map(drop)
    }),
    ("becomes root", |_| Ok(setuid(Uid::from_raw(0))?)),
    ("takes over a process of root's", |at| take_over(at.root)),
    ("takes over a process of the same user", |at| take_over(at.same_user)),
    ("reads the memory of a process of the same user", |at| {
        File::open(format!("/proc/{}/mem", at.same_user)).map(drop)
    }),
    ("signals a process of root's", |at| Ok(kill(at.root, Signal::SIGCONT)?)),
    ("signals a process of the same user", |at| {
        // Nothing keeps one user's processes apart on older kernels (Landlock's scope of signals).
        if !nix::unistd::geteuid().is_root() && !is_at_least(6, 12) {
            return Err(io::Error::other("not held before Linux 6.12"));
        }
        Ok(kill(at.same_user, Signal::SIGCONT)?)
    }),
    ("mounts a file system", |at| {
        let (fs, flags) = (Some("tmpfs"), MsFlags::empty());
        Ok(mount(fs, &at.folder.join("own"), fs, flags, None::<&str>)
            .and_then(|()| nix::mount::umount(&at.folder.join("own")))?)
    }),
    ("makes a user namespace, to have all capabilities in it", |_| {
        in_a_child(|| unshare(CloneFlags::CLONE_NEWUSER))
    }),
    #[cfg(target_arch = "x86_64")]
    ("does the same by the numbers of x32", |_| {
        in_a_child(|| {
            // SAFETY: no pointers.
            Errno::result(unsafe { libc::syscall(0x4000_0000 | libc::SYS_unshare, libc::CLONE_NEWUSER) })
                .map(drop)
        })
    }),
    ("makes a device node", |at| {
        let kind = nix::sys::stat::SFlag::S_IFCHR;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        let path = at.folder.join("own/null");
        nix::sys::stat::mknod(&path, kind, mode, nix::sys::stat::makedev(1, 3))?;
        fs::remove_file(path)
    }),
    ("listens on a port", |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("forges packets", |_| {
        // SAFETY: no pointers.
        answer(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) }.into())
    }),
    ("loads a map into the kernel (bpf)", |_| {
        // A map of one number: type array, keys of 4 bytes, values of 4, one entry.
        let attributes: [u32; 32] = std::array::from_fn(|n| [2, 4, 4, 1].get(n).copied().unwrap_or(0));
        // SAFETY: the attributes are valid for the call.
        answer(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) })
    }),
    ("makes calls that no filter sees (io_uring)", |_| {
        let mut parameters = [0_u8; 120];
        // SAFETY: the structure is larger than what the kernel fills in.
        answer(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
    }),
    ("keeps something in the kernel's key ring", |_| {
        // SAFETY: static C strings, and a payload of the length that is said.
        answer(unsafe {
            libc::syscall(libc::SYS_add_key, c"user".as_ptr(), c"sosna".as_ptr(), c"x".as_ptr(), 1, -2)
        })
    }),
    ("sets the clock", |_| {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME)?;
        Ok(nix::time::clock_settime(nix::time::ClockId::CLOCK_REALTIME, now)?)
    }),
    ("reads the kernel's log", |_| {
        // SAFETY: no pointers: only the size of the buffer is asked for.
        answer(unsafe { libc::syscall(libc::SYS_syslog, 10, 0, 0) })
    }),
    ("needs: a file in its folder, moved within", |at| {
        let own = at.folder.join("own");
        fs::create_dir_all(own.join("a"))?;
        fs::write(own.join("file"), "x")?;
        fs::rename(own.join("file"), own.join("a/file"))?;
        File::open(own.join("a"))?.sync_all()?;
        fs::remove_dir_all(own.join("a"))
    }),
    ("needs: what all may read", |_| {
        fs::read("/etc/passwd").and_then(|_| fs::read("/proc/meminfo")).map(drop)
    }),
    ("needs: connections", |_| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect("127.0.0.1:9")?;
        let refused = std::net::TcpStream::connect("127.0.0.1:1").unwrap_err();
        if refused.kind() == io::ErrorKind::ConnectionRefused { Ok(()) } else { Err(refused) }
    }),
    ("needs: threads", |_| {
        std::thread::Builder::new().spawn(|| ())?.join().map_err(|_| io::ErrorKind::Other.into())
    }),
    ("needs: a socket in its folder", |at| {
        let path = at.folder.join("own/sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path)?;
        std::os::unix::net::UnixStream::connect(&path)?;
        fs::remove_file(path)
    }),
    ("needs: a helper, which has all rights", |at| {
        let said = call(at.launcher, "echo", "x", "y")?;
        if said.starts_with("x|y|0|") { Ok(()) } else { Err(io::Error::other(said)) }
    }),
];

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let folder = Path::new(&arguments[1]);
    if arguments[0] == "walls" {
        let (_launcher, walls) = give_up(folder, None);
        println!("{}", walls.standing.join(", "));
        return ExitCode::SUCCESS;
    }
    let pid = |text: &str| Pid::from_raw(text.parse().unwrap());
    let launcher = if arguments[0] == "with" {
        Monitor::new(super::helpers()).unwrap().separate(Charge::default()).unwrap()
    } else {
        let (launcher, walls) = give_up(&folder.join("own"), Some(USER));
        if !walls.missing.is_empty() {
            eprintln!("not here: {:?}", walls.missing);
        }
        launcher
    };
    let place =
        Place { folder, root: pid(&arguments[2]), same_user: pid(&arguments[3]), launcher: &launcher };
    for (what, attempt) in TRIES {
        match attempt(&place) {
            Ok(()) => println!("{what}\tdone"),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS)) => {
                println!("{what}\tnot here: {error}")
            }
            Err(error) => println!("{what}\t{error}"),
        }
        // What was made with all rights is not in the way of the next.
        if nix::unistd::geteuid().is_root() {
            for name in ["beside", "own/copy", "own/given", "own/program"] {
                let _ = fs::remove_file(folder.join(name));
            }
        }
    }
    ExitCode::SUCCESS
}

fn is_at_least(major: u32, minor: u32) -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
}

fn take_over(pid: Pid) -> io::Result<()> {
    ptrace::attach(pid)?;
    waitpid(pid, None)?;
    Ok(ptrace::detach(pid, None)?)
}

fn answer(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where it works, this process would be another one after it.
fn in_a_child(act: impl FnOnce() -> nix::Result<()>) -> io::Result<()> {
    // SAFETY: the child makes one system call and leaves.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => {
            let code = act().err().map_or(0, |errno| errno as i32);
            // SAFETY: leaves without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        nix::unistd::ForkResult::Parent { child } => match waitpid(child, None)? {
            nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
            nix::sys::wait::WaitStatus::Exited(_, code) => Err(Errno::from_raw(code).into()),
            other => Err(io::Error::other(format!("{other:?}"))),
        },
    }
}
