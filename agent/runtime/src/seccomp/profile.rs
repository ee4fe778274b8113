//! Docker's default profile and the evaluation of its conditions. The data is in `default.json` (see `NOTICE`).

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde::Deserialize;

use super::{Result, SeccompError, arch::Architecture};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    call: LinuxSyscall,
    #[serde(default)]
    includes: Conditions,
    #[serde(default)]
    excludes: Conditions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Docker's default profile as it applies to a process with these capabilities in its bounding set (`CAP_…`) on
/// this kernel and architecture.
///
/// # Errors
/// [`SeccompError::Architecture`] where no filter can be made.
pub fn default_profile(capabilities: &[&str]) -> Result<LinuxSeccomp> {
    let native = Architecture::native().ok_or(SeccompError::Architecture(std::env::consts::ARCH))?;
    default_profile_for(native, capabilities, kernel())
}

pub(super) fn default_profile_for(
    architecture: Architecture,
    capabilities: &[&str],
    kernel: (u32, u32),
) -> Result<LinuxSeccomp> {
    evaluate(include_str!("default.json"), capabilities, architecture.profile_names(), kernel)
}

fn evaluate(text: &str, capabilities: &[&str], arches: &[&str], kernel: (u32, u32)) -> Result<LinuxSeccomp> {
    let profile: Profile = serde_json::from_str(text).map_err(SeccompError::Profile)?;
    let has = |cap: &String| capabilities.contains(&cap.as_str());
    let here = |arch: &String| arches.contains(&arch.as_str());
    let calls = profile.syscalls.into_iter().filter(|e| {
        let (i, x) = (&e.includes, &e.excludes);
        let included = (i.arches.is_empty() || i.arches.iter().any(here))
            && i.caps.iter().all(has)
            && i.min_kernel.as_deref().is_none_or(|v| kernel >= version(v));
        let excluded = x.arches.iter().any(here)
            || x.caps.iter().any(has)
            || x.min_kernel.as_deref().is_some_and(|v| kernel >= version(v));
        included && !excluded
    });
    let mut seccomp = LinuxSeccomp::default();
    seccomp.set_default_action(profile.default_action);
    seccomp.set_default_errno_ret(profile.default_errno_ret);
    seccomp.set_syscalls(Some(calls.map(|e| e.call).collect()));
    Ok(seccomp)
}

/// The running kernel's version; 0.0 when it cannot be told, which includes nothing that asks for a newer one.
fn kernel() -> (u32, u32) {
    nix::sys::utsname::uname().map_or((0, 0), |u| version(&u.release().to_string_lossy()))
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn rules<'a>(s: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
        s.syscalls().as_ref().unwrap().iter().filter(|c| c.names().iter().any(|n| n == name)).collect()
    }

    fn with(caps: &[&str], arches: &[&str], kernel: (u32, u32)) -> LinuxSeccomp {
        evaluate(include_str!("default.json"), caps, arches, kernel).unwrap()
    }

    #[test]
    fn capabilities_include_and_exclude() {
        let plain = with(&[], &["amd64"], (6, 1));
        assert!(rules(&plain, "mount").is_empty());
        assert_eq!(rules(&plain, "clone").len(), 1);
        assert!(rules(&plain, "clone")[0].args().is_some());
        assert_eq!(rules(&plain, "clone3")[0].errno_ret(), Some(38));
        let admin = with(&["CAP_SYS_ADMIN"], &["amd64"], (6, 1));
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert!(rules(&admin, "clone")[0].args().is_none());
        assert_eq!(rules(&admin, "clone3")[0].action(), LinuxSeccompAction::ScmpActAllow);
    }

    #[test]
    fn architectures_and_kernels_count() {
        assert_eq!(rules(&with(&[], &["amd64"], (6, 1)), "arch_prctl").len(), 1);
        assert!(rules(&with(&[], &["arm64"], (6, 1)), "arch_prctl").is_empty());
        assert_eq!(rules(&with(&[], &["arm64"], (6, 1)), "ptrace").len(), 1);
        assert!(rules(&with(&[], &["arm64"], (4, 7)), "ptrace").is_empty());
        assert!(version("4.19.0-27-amd64") > version("4.8"));
    }

    #[test]
    fn dangerous_calls_are_in_no_rule() {
        let plain = with(&[], &["amd64"], (6, 18));
        for name in ["io_uring_setup", "keyctl", "userfaultfd", "kexec_load", "bpf", "unshare", "setns"] {
            assert!(rules(&plain, name).is_empty(), "{name}");
        }
        assert!(rules(&plain, "socket").iter().all(|r| r.args().is_some()));
    }
}
