//! Filters as the kernel would judge by them: every number of a system call on every architecture, compared with what
//! the section says in words. (Tests.)

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Op,
};
use seccompiler::sock_filter;

use super::{arch::Architecture, profile::default_profile_for, translate::compile_for};

/// What a filter looks at: `struct seccomp_data`.
struct Call {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;

impl Call {
    /// The word at an offset, as the kernel's classic BPF reads it on a little-endian machine.
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.architecture.to_le_bytes());
        bytes.extend([0; 8]);
        self.arguments.iter().for_each(|argument| bytes.extend(argument.to_le_bytes()));
        let at = offset as usize;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }
}

/// Runs one filter.
fn run(program: &[sock_filter], call: &Call) -> u32 {
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    loop {
        let i = &program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            0x20 => accumulator = call.word(i.k),
            0x54 => accumulator &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(accumulator == i.k),
            0x25 => at += jump(accumulator > i.k),
            0x35 => at += jump(accumulator >= i.k),
            0x06 => return i.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// The kernel takes the strictest answer: the action with the smallest number, the first two bits being a sign.
fn judge(programs: &[Vec<sock_filter>], call: &Call) -> u32 {
    let strictness = |answer: &u32| (answer & 0xffff_0000).cast_signed();
    programs.iter().map(|program| run(program, call)).min_by_key(strictness).unwrap_or(ALLOW)
}

fn audit(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X86_64 => 0xc000_003e,
        Architecture::Aarch64 => 0xc000_00b7,
        Architecture::Riscv64 => 0xc000_00f3,
        Architecture::Arm => 0x4000_0028,
    }
}

fn holds(condition: &LinuxSeccompArg, arguments: &[u64; 6]) -> bool {
    let argument = arguments[condition.index()];
    let value = condition.value();
    match condition.op() {
        Op::ScmpCmpNe => argument != value,
        Op::ScmpCmpLt => argument < value,
        Op::ScmpCmpLe => argument <= value,
        Op::ScmpCmpEq => argument == value,
        Op::ScmpCmpGe => argument >= value,
        Op::ScmpCmpGt => argument > value,
        Op::ScmpCmpMaskedEq => argument & value == condition.value_two().unwrap_or(0),
    }
}

/// The section in words: the strictest of all actions whose rule matches, else the default.
fn expected(section: &LinuxSeccomp, names: &[&str], arguments: &[u64; 6]) -> u32 {
    let number = |action: Action, errno: Option<u32>| match action {
        Action::ScmpActAllow => ALLOW,
        Action::ScmpActErrno => ERRNO | errno.unwrap_or(1),
        Action::ScmpActKillProcess => KILL_PROCESS,
        other => panic!("{other:?}"),
    };
    let rules = section.syscalls().iter().flatten();
    let matching = rules.filter(|rule| {
        rule.names().iter().any(|name| names.contains(&name.as_str()))
            && rule.args().iter().flatten().all(|condition| holds(condition, arguments))
    });
    let answers = matching.map(|rule| number(rule.action(), rule.errno_ret()));
    let strictest = answers.min_by_key(|answer| (answer & 0xffff_0000).cast_signed());
    strictest.unwrap_or_else(|| number(section.default_action(), section.default_errno_ret()))
}

/// Arguments at the edges of everything that Docker's profile compares.
fn arguments() -> Vec<[u64; 6]> {
    let edges = [
        0,
        1,
        7,
        8,
        9,
        37,
        38,
        39,
        40,
        41,
        0x2_0000,
        0x2_0008,
        0x7e02_0000,
        0x1000_0000,
        0x0200_0000,
        0x11,
        0xffff_ffff,
    ];
    edges.iter().flat_map(|a| [[*a, 0, 0, 0, 0, 0], [0, *a, 0, 0, 0, 0], [*a, *a, *a, *a, *a, *a]]).collect()
}

fn compare(section: &LinuxSeccomp, architecture: Architecture) -> (usize, usize) {
    let compiled = compile_for(section, architecture).unwrap();
    let names = section.syscalls().iter().flatten().flat_map(|rule| rule.names());
    let mut by_number: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for name in names {
        if let Some(number) = architecture.number(name) {
            by_number.entry(number).or_default().push(name);
        }
    }
    let (mut allowed, mut refused) = (0, 0);
    for number in (0..1200).chain(0xf_0000..0xf_0010).chain([0x90_0001, 0x3fff_ffff]) {
        let names = by_number.get(&i64::from(number)).map(Vec::as_slice).unwrap_or_default();
        for arguments in arguments() {
            let mut call = Call { number, architecture: audit(architecture), arguments };
            let answer = judge(&compiled.programs, &call);
            assert_eq!(
                answer,
                expected(section, names, &arguments),
                "{architecture:?} {number} {arguments:x?}"
            );
            if answer == ALLOW {
                allowed += 1
            } else {
                refused += 1
            }
            // By the words of another architecture nothing at all can be done.
            call.architecture = audit(match architecture {
                Architecture::Arm => Architecture::Aarch64,
                _ => Architecture::Arm,
            });
            assert_eq!(judge(&compiled.programs, &call), KILL_PROCESS);
        }
    }
    (allowed, refused)
}

const ALL: [Architecture; 3] = [Architecture::X86_64, Architecture::Aarch64, Architecture::Arm];

#[test]
fn the_default_profile_says_of_every_call_what_it_should() {
    for architecture in ALL {
        for capabilities in [&[][..], &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]] {
            let section = default_profile_for(architecture, capabilities, (6, 12)).unwrap();
            let (allowed, refused) = compare(&section, architecture);
            assert!(allowed > 10_000 && refused > 10_000, "{architecture:?}: {allowed}, {refused}");
        }
    }
}

#[test]
fn conditions_of_every_kind_hold_on_every_architecture() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
        {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_NE"}]},
        {"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":8,"op":"SCMP_CMP_LT"}]},
        {"names":["close"],"action":"SCMP_ACT_ALLOW","args":[{"index":2,"value":8,"op":"SCMP_CMP_LE"}]},
        {"names":["openat"],"action":"SCMP_ACT_ALLOW","args":[{"index":3,"value":8,"op":"SCMP_CMP_GE"}]},
        {"names":["execve"],"action":"SCMP_ACT_ALLOW","args":[{"index":4,"value":8,"op":"SCMP_CMP_GT"}]},
        {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"},
            {"index":5,"value":40,"op":"SCMP_CMP_LT"}]},
        {"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]},
        {"names":["kill"],"action":"SCMP_ACT_ALLOW"},
        {"names":["umask","getpid"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let section: LinuxSeccomp = serde_json::from_str(text).unwrap();
    for architecture in ALL {
        compare(&section, architecture);
    }
}

#[test]
fn what_32_bits_cannot_hold_is_refused_there() {
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
        "args":[{"index":0,"value":4294967296,"op":"SCMP_CMP_EQ"}]}]}"#;
    let section: LinuxSeccomp = serde_json::from_str(text).unwrap();
    assert!(compile_for(&section, Architecture::Arm).is_err());
    assert!(compile_for(&section, Architecture::Aarch64).is_ok());
}
