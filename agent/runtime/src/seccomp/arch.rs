//! All that the seccomp code knows about processor architectures: what Docker's profile calls them, the numbers of
//! their system calls, and what their filters begin with.
//!
//! seccompiler knows the 64-bit ones and keeps its tables to itself, so it is asked. For 32-bit ARM the table is ours
//! (`arm.tbl`, as of Linux 6.12), and seccompiler's filter for 64-bit ARM is changed in one place: the word that says
//! for which architecture it is. All else is the same there: the byte order, and arguments as 64-bit words, of which
//! the kernel fills the upper half with zeros.

use std::collections::HashMap;
use std::sync::LazyLock;

use seccompiler::{BpfProgram, TargetArch, compile_from_json, sock_filter};

use super::SeccompError;

/// An architecture that filters can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    Aarch64,
    Riscv64,
    Arm,
}

/// `AUDIT_ARCH_ARM` of linux/audit.h: `EM_ARM | __AUDIT_ARCH_LE`.
const AUDIT_ARM: u32 = 40 | 0x4000_0000;
/// `AUDIT_ARCH_AARCH64`.
const AUDIT_AARCH64: u32 = 183 | 0x8000_0000 | 0x4000_0000;

const LD_W_ABS: u16 = 0x20;
const JEQ_K: u16 = 0x15;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;
const RET_ERRNO: u32 = 0x0005_0000;
const X32_SYSCALL_BIT: u32 = 0x4000_0000;
/// Where the architecture's word is in what a filter looks at.
const ARCH_OFFSET: u32 = 4;

static ARM: LazyLock<HashMap<&str, i64>> = LazyLock::new(|| {
    let lines = include_str!("arm.tbl").lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(number, name)| Some((name, number.parse().ok()?))).collect()
});

// === impl Architecture ===

impl Architecture {
    /// The one that this program was built for, or nothing where no filter can be made.
    pub(super) fn native() -> Option<Self> {
        Some(match std::env::consts::ARCH {
            "x86_64" => Self::X86_64,
            "aarch64" => Self::Aarch64,
            "riscv64" => Self::Riscv64,
            // Filters read words in the byte order of the machine; arguments in ours.
            "arm" if cfg!(target_endian = "little") => Self::Arm,
            _ => return None,
        })
    }

    /// What Docker's profile calls it.
    pub(super) fn profile_names(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["amd64"],
            Self::Aarch64 => &["arm64"],
            Self::Riscv64 => &["riscv64"],
            Self::Arm => &["arm"],
        }
    }

    /// For seccompiler; see [`Self::own`].
    pub(super) fn target(self) -> TargetArch {
        match self {
            Self::X86_64 => TargetArch::x86_64,
            Self::Aarch64 | Self::Arm => TargetArch::aarch64,
            Self::Riscv64 => TargetArch::riscv64,
        }
    }

    /// The largest value that an argument of a system call can have.
    pub(super) fn largest_argument(self) -> u64 {
        match self {
            Self::Arm => u32::MAX.into(),
            Self::X86_64 | Self::Aarch64 | Self::Riscv64 => u64::MAX,
        }
    }

    /// The number of a system call, or nothing where there is none of this name.
    pub(super) fn number(self, name: &str) -> Option<i64> {
        if self == Self::Arm {
            return ARM.get(name).copied();
        }
        let text = serde_json::json!({ "f": {
            "mismatch_action": "allow", "match_action": "log", "filter": [{ "syscall": name }]
        } });
        let mut filters = compile_from_json(text.to_string().as_bytes(), self.target()).ok()?;
        // The architecture's word is compared, then the number is loaded and compared.
        let program = filters.remove("f")?;
        let load = program.iter().position(|i| i.code == LD_W_ABS && i.k == 0)?;
        program.get(load + 1).filter(|i| i.code == JEQ_K).map(|i| i.k.into())
    }

    /// Makes a filter that seccompiler has made for [`Self::target`] this architecture's own.
    pub(super) fn own(self, mut program: BpfProgram) -> Result<BpfProgram, SeccompError> {
        if self == Self::Arm {
            match program.as_mut_slice() {
                [load, compare, ..]
                    if (load.code, load.k) == (LD_W_ABS, ARCH_OFFSET)
                        && (compare.code, compare.k) == (JEQ_K, AUDIT_AARCH64) =>
                {
                    compare.k = AUDIT_ARM;
                }
                _ => {
                    return Err(SeccompError::Unsupported(
                        "this version of seccompiler on 32-bit ARM".into(),
                    ));
                }
            }
        }
        let mut whole = self.prologue();
        whole.extend(program);
        Ok(whole)
    }

    /// What goes before every filter: on x86_64 the x32 calls, which carry the same architecture word as the native
    /// ones and would pass by a list of forbidden numbers, do not exist.
    fn prologue(self) -> Vec<sock_filter> {
        match self {
            Self::X86_64 => vec![
                sock_filter { code: LD_W_ABS, jt: 0, jf: 0, k: 0 },
                sock_filter { code: JGE_K, jt: 0, jf: 1, k: X32_SYSCALL_BIT },
                sock_filter { code: RET_K, jt: 0, jf: 0, k: RET_ERRNO | 38 },
            ],
            Self::Aarch64 | Self::Riscv64 | Self::Arm => Vec::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::useless_conversion, reason = "they have 32 bits on ARM")]
    fn numbers_are_the_ones_of_the_c_library() {
        let native = Architecture::native().unwrap();
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("seccomp", libc::SYS_seccomp),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
        ] {
            assert_eq!(native.number(name), Some(i64::from(number)), "{name}");
        }
        assert_eq!(native.number("no_such_call"), None);
    }

    #[test]
    fn arms_table_is_whole_and_has_each_number_once() {
        assert_eq!(ARM.len(), include_str!("arm.tbl").lines().count());
        let mut numbers: Vec<_> = ARM.iter().filter(|(name, _)| **name != "sync_file_range2").collect();
        numbers.sort_by_key(|(_, number)| **number);
        assert!(numbers.windows(2).all(|pair| pair[0].1 < pair[1].1), "{numbers:?}");
        // Of each of the table's sources, and where ARM differs from all others.
        for (name, number) in [
            ("restart_syscall", 0),
            ("setresuid32", 208),
            ("arm_fadvise64_64", 270),
            ("openat", 322),
            ("seccomp", 383),
            ("clock_gettime64", 403),
            ("clone3", 435),
            ("mseal", 462),
            ("cacheflush", 0xf_0002),
            ("set_tls", 0xf_0005),
        ] {
            assert_eq!(Architecture::Arm.number(name), Some(number), "{name}");
        }
        assert_eq!(Architecture::Arm.number("socketcall"), None);
    }

    /// From the time when all architectures got the same numbers; two are not for 32-bit ARM.
    #[test]
    fn newer_calls_have_the_same_numbers_everywhere() {
        let same = ARM.iter().filter(|(_, number)| (424..1000).contains(*number));
        for (name, number) in same {
            // `_time64` calls (up to 423) and these exist on one side only.
            assert_eq!(Architecture::Aarch64.number(name), Some(*number), "{name}");
        }
    }
}
