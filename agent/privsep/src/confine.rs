//! Gives up the rights of this process, for good. What this machine or this user cannot do is named, and the rest holds.

use std::{io, path::Path};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};

use crate::owner::User;

/// What a process is left with.
#[derive(Debug, Clone, Copy)]
pub struct Confinement<'a> {
    /// Who it becomes; none where it is an ordinary user already.
    pub user: Option<User>,
    /// The folders in which it may make, change and remove files.
    pub writes: &'a [&'a Path],
}

/// What stands around a process that gave up its rights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walls {
    /// The walls that stand, in words.
    pub standing: Vec<&'static str>,
    /// The others, and why not.
    pub missing: Vec<(&'static str, String)>,
}

impl Walls {
    fn note(&mut self, wall: &'static str, built: Result<(), String>) {
        match built {
            Ok(()) => self.standing.push(wall),
            Err(reason) => self.missing.push((wall, reason)),
        }
    }
}

/// Builds every wall that can be built around this process, which must have one thread. There is no way back.
#[must_use]
pub fn confine(to: &Confinement<'_>) -> Walls {
    let mut walls = Walls::default();
    // Opened while it can be; a folder that is not there would be a fault of ours, and nothing could be written.
    let files = files(to.writes);
    if let Some(user) = to.user {
        walls.note("a user of its own", become_user(user).map_err(|error| error.to_string()));
    }
    // Another user has none any more; where it is still root, it is root without them.
    walls.note("no capabilities", no_capabilities().map_err(|error| error.to_string()));
    let no_new = nix::sys::prctl::set_no_new_privs().map_err(|error| error.to_string());
    walls.note("no way to new privileges", no_new);
    walls.note("a file system that it cannot write to", files.and_then(restrict));
    walls.note("a filter of system calls", system_calls());
    walls
}

/// Leaving the user 0 takes all capabilities along (capabilities(7)).
fn become_user(User(id): User) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}

fn no_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // Kernels before 4.3 have no ambient set, and then nothing to clear.
    let _ = clear_ambient_capability_set();
    Ok(set_capabilities(None, sets)?)
}

fn files(writes: &[&Path]) -> Result<Vec<(PathFd, bool)>, String> {
    let open = |path: &Path| PathFd::new(path).map_err(|error| error.to_string());
    let mut opened = vec![(open(Path::new("/dev/null"))?, false)];
    for path in writes {
        opened.push((open(path)?, true));
    }
    Ok(opened)
}

/// No program is executed, nothing is written elsewhere, no port is listened at. Reading is what the user may.
fn restrict(writes: Vec<(PathFd, bool)>) -> Result<(), String> {
    // ABI 2 is the first that can allow files to move between folders; below it, do without.
    let needed = AccessFs::from_write(ABI::V2) | AccessFs::Execute;
    let within = AccessFs::from_write(ABI::V5);
    let build = || -> Result<RulesetStatus, landlock::RulesetError> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(needed)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(within)?
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::from_all(ABI::V6))?
            .create()?;
        for (folder, is_folder) in writes {
            let access = if is_folder { within } else { AccessFs::WriteFile.into() };
            rules = rules.add_rule(PathBeneath::new(folder, access))?;
        }
        Ok(rules.restrict_self()?.ruleset)
    };
    match build() {
        Ok(RulesetStatus::NotEnforced) => Err("the kernel does not enforce Landlock".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn system_calls() -> Result<(), String> {
    Err("there is none for this processor".into())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn system_calls() -> Result<(), String> {
    for program in filters().map_err(|error| error.to_string())? {
        #[cfg(target_arch = "x86_64")]
        let program: Vec<_> = no_x32().into_iter().chain(program).collect();
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Instructions that refuse calls by the numbers of x32, which the same processor has and which no rule names (seccomp(2)).
#[cfg(target_arch = "x86_64")]
fn no_x32() -> [seccompiler::sock_filter; 3] {
    const X32: u32 = 0x4000_0000;
    const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
    // BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JGE | BPF_K, BPF_RET | BPF_K (linux/filter.h).
    let [load, at_least, return_now] = [0x20_u16, 0x35, 0x06];
    let step = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    [
        // The number is the first word of what a filter sees.
        step(load, 0, 0, 0),
        step(at_least, 0, 1, X32),
        step(return_now, 0, 0, SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
    ]
}

/// A list of what is denied, not of what is allowed: an asynchronous runtime, a database, TLS and two C libraries call for
/// more than anybody can list, and what they never need is known.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn filters() -> Result<[seccompiler::BpfProgram; 2], seccompiler::BackendError> {
    use std::collections::BTreeMap;

    use seccompiler::{
        SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
        SeccompFilter, SeccompRule as Rule,
    };

    let arch = || std::env::consts::ARCH.try_into();
    let mut denied: BTreeMap<i64, Vec<Rule>> = DENIED.iter().map(|call| (*call, vec![])).collect();
    let flag = |flag: i32| {
        let flag = u64::from(flag.unsigned_abs());
        Rule::new(vec![Condition::new(0, Len::Qword, Op::MaskedEq(flag), flag)?])
    };
    denied.insert(libc::SYS_clone, NAMESPACES.into_iter().map(flag).collect::<Result<_, _>>()?);
    let other = |family: i32| Condition::new(0, Len::Dword, Op::Ne, u64::from(family.unsigned_abs()));
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let others = families.into_iter().map(other).collect::<Result<_, _>>()?;
    denied.insert(libc::SYS_socket, vec![Rule::new(others)?]);
    let refuse = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let first = SeccompFilter::new(denied, SeccompAction::Allow, refuse(libc::EPERM), arch()?)?;
    // Its flags lie in memory, where no filter sees them; C libraries go on with clone.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    let second = SeccompFilter::new(clone3, SeccompAction::Allow, refuse(libc::ENOSYS), arch()?)?;
    Ok([first.try_into()?, second.try_into()?])
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

#[cfg(target_arch = "x86_64")]
const KEXEC_FILE_LOAD: i64 = libc::SYS_kexec_file_load;
/// From asm-generic/unistd.h: the libc crate does not name it for every C library.
#[cfg(target_arch = "aarch64")]
const KEXEC_FILE_LOAD: i64 = 294;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const DENIED: &[i64] = &[
    // Other programs
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    // Mounts and namespaces
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    // The kernel, and large parts of it that are not needed
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    // The machine's name and time
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
];
