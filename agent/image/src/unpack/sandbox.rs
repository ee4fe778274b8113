//! Takes away from this process everything but writing below one directory. Meant for the single-threaded unpacking
//! child, once, before it reads a byte that came over the network. It must never run in the agent itself.
//!
//! A mechanism that this kernel or this user does not have is named in the report, and the rest still holds.

use std::{fmt, io, os::fd::AsFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::{
    fs::{Gid, Uid},
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::{self, CapabilitySet, CapabilitySets, UnshareFlags},
};
use serde::{Deserialize, Serialize};

use super::message::Limits;

/// One wall of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Wall {
    /// Bounds on memory, file size, descriptors, and no core dumps.
    Rlimits,
    /// A network namespace of its own, with nothing in it.
    Network,
    /// A user of its own, so that nothing on this machine is the unpacker's but what it makes.
    User,
    /// Only the capabilities that unpacking needs, and no way to others.
    Capabilities,
    /// Setuid programs give nothing (also needed by the next two).
    NoNewPrivileges,
    /// The file system ends at the target folder.
    Landlock,
    /// Only the system calls that unpacking needs; device nodes only as whiteouts.
    Seccomp,
}

/// The unpacker's user and group: below all ranges that containers are given by default, above what people and
/// services have.
const USER: u32 = (1 << 30) - 1;

/// How far the sandbox could be built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxReport {
    /// The walls that stand.
    pub standing: Vec<Wall>,
    /// The walls that this machine or user cannot have, and why.
    pub missing: Vec<(Wall, String)>,
}

/// What the unpacker may do as root: give files away, write into folders of others, set modes, set-gid bits and times
/// of files that are not its own any more, set file capabilities. CAP_MKNOD is for whiteouts on kernels before 5.8;
/// the system call filter allows no other device.
fn needed() -> CapabilitySet {
    CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::MKNOD
        | CapabilitySet::SETFCAP
}

// === impl SandboxReport ===

impl SandboxReport {
    fn note(&mut self, wall: Wall, built: Result<(), String>) {
        match built {
            Ok(()) => self.standing.push(wall),
            Err(reason) => self.missing.push((wall, reason)),
        }
    }
}

impl fmt::Display for SandboxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standing: {:?}", self.standing)?;
        for (wall, reason) in &self.missing {
            write!(f, "; missing: {wall:?} ({reason})")?;
        }
        Ok(())
    }
}

/// Builds every wall that can be built around this single-threaded process; nothing but `folder` stays reachable
/// by name. There is no way back.
pub fn enter(folder: impl AsFd, limits: &Limits) -> SandboxReport {
    let mut report = SandboxReport::default();
    report.note(Wall::Rlimits, rlimits(limits).map_err(|e| e.to_string()));
    report.note(Wall::Network, network().map_err(|e| e.to_string()));
    report.note(Wall::User, user().map_err(|e| e.to_string()));
    report.note(Wall::Capabilities, capabilities().map_err(|e| e.to_string()));
    report.note(Wall::NoNewPrivileges, thread::set_no_new_privs(true).map_err(|e| e.to_string()));
    report.note(Wall::Landlock, file_system(folder));
    report.note(Wall::Seccomp, system_calls());
    report
}

fn rlimits(limits: &Limits) -> io::Result<()> {
    let set = |resource, value| setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    set(Resource::Core, 0)?;
    set(Resource::Nofile, 64)?;
    set(Resource::Fsize, limits.stream_bytes)?;
    set(Resource::As, limits.memory_bytes)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn network() -> io::Result<()> {
    let kinds = UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
    // SAFETY: the process has one thread and keeps no sockets or System V objects, so no other code can be surprised
    // by the change of namespaces.
    unsafe { thread::unshare_unsafe(kinds) }.map_err(io::Error::from)
}

/// Becomes a user that owns nothing, and keeps what it has been permitted to do until the next wall takes it away.
fn user() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
    // Groups first: they need what the user loses.
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_keep_capabilities(true)?;
    let became = thread::set_thread_res_uid(uid, uid, uid);
    thread::set_keep_capabilities(false)?;
    Ok(became?)
}

fn capabilities() -> io::Result<()> {
    let had = thread::capabilities(None)?;
    let keep = had.permitted & needed();
    if had.permitted.contains(CapabilitySet::SETPCAP) {
        // Becoming another user has put it to rest.
        let awake = CapabilitySets { effective: had.permitted, ..had };
        thread::set_capabilities(None, awake)?;
        // The kernel's list may be longer than this crate's: ask for every number.
        for capability in (0..64).map(|n| CapabilitySet::from_bits_retain(1 << n)) {
            if !keep.contains(capability)
                && thread::capability_is_in_bounding_set(capability).unwrap_or(false)
            {
                thread::remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    // Kernels before 4.3 have no ambient set, and then nothing to clear.
    let _ = thread::clear_ambient_capability_set();
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    Ok(thread::set_capabilities(None, sets)?)
}

fn file_system(folder: impl AsFd) -> Result<(), String> {
    // ABI 2 is the first that can allow links between folders, which unpacking needs; below it, do without.
    let needed = AccessFs::from_all(ABI::V2);
    let build = || -> Result<RulesetStatus, landlock::RulesetError> {
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(needed)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V5))?
            .handle_access(AccessNet::from_all(ABI::V4))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .add_rule(PathBeneath::new(folder, needed & !AccessFs::Execute))?
            .restrict_self()?;
        Ok(status.ruleset)
    };
    match build() {
        Ok(RulesetStatus::NotEnforced) => Err("the kernel does not enforce it".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn system_calls() -> Result<(), String> {
    Err("no filter for this processor".into())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn system_calls() -> Result<(), String> {
    let program = filter().map_err(|e| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

/// The allow-list. Whatever is not on it answers EPERM: it fails closed all the same, and a C library that tries
/// something harmless on its way out is not killed for it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn filter() -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
        SeccompFilter, SeccompRule as Rule,
    };

    let mut rules: std::collections::BTreeMap<i64, Vec<Rule>> =
        ALLOWED.iter().map(|call| (*call, vec![])).collect();
    // mknodat(dirfd, path, mode, dev): a FIFO, or the character device 0:0 which is a whiteout.
    let format = u64::from(libc::S_IFMT);
    let kind = |kind: u32| Condition::new(2, Len::Dword, Op::MaskedEq(format), u64::from(kind));
    let no_number = || Condition::new(3, Len::Qword, Op::Eq, 0);
    rules.insert(
        libc::SYS_mknodat,
        vec![Rule::new(vec![kind(libc::S_IFIFO)?])?, Rule::new(vec![kind(libc::S_IFCHR)?, no_number()?])?],
    );
    // Memory only without execution.
    let no_exec = || Condition::new(2, Len::Dword, Op::MaskedEq(4), 0);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![Rule::new(vec![no_exec()?])?]);
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?.try_into()
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ALLOWED: &[i64] = &[
    // The input, the report, the files
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fsetxattr,
    libc::SYS_utimensat,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    // The language's run time
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
