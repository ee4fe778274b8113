//! All that the seccomp code knows about processor architectures. An architecture that seccompiler does not
//! know (armv7) would get its system call table here and nowhere else.

use seccompiler::{TargetArch, sock_filter};

/// The architecture that this program was built for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Native {
    /// For seccompiler.
    pub(super) target: TargetArch,
    /// What Docker's profile calls it.
    pub(super) profile_names: &'static [&'static str],
}

/// The native architecture, or nothing where no filter can be made.
pub(super) fn native() -> Option<Native> {
    let (target, profile_names): (_, &[_]) = match std::env::consts::ARCH {
        "x86_64" => (TargetArch::x86_64, &["amd64"]),
        "aarch64" => (TargetArch::aarch64, &["arm64"]),
        "riscv64" => (TargetArch::riscv64, &["riscv64"]),
        _ => return None,
    };
    Some(Native { target, profile_names })
}

const LD_W_ABS: u16 = 0x20;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;
const RET_ERRNO: u32 = 0x0005_0000;
const X32_SYSCALL_BIT: u32 = 0x4000_0000;

/// What goes before every filter: on x86_64 the x32 calls, which carry the same architecture word as the native
/// ones and would pass by a list of forbidden numbers, do not exist.
pub(super) fn prologue(native: Native) -> Vec<sock_filter> {
    match native.target {
        TargetArch::x86_64 => vec![
            sock_filter { code: LD_W_ABS, jt: 0, jf: 0, k: 0 },
            sock_filter { code: JGE_K, jt: 0, jf: 1, k: X32_SYSCALL_BIT },
            sock_filter { code: RET_K, jt: 0, jf: 0, k: RET_ERRNO | 38 },
        ],
        TargetArch::aarch64 | TargetArch::riscv64 => Vec::new(),
    }
}
