//! Turns the seccomp section of an OCI specification into BPF.
//!
//! seccompiler knows one action for matches in a filter, so there is one filter for each action; the kernel takes
//! the strictest answer of all installed filters. The last filter answers with the default action for whatever no
//! rule names; the others answer with their action for what their rules name and allow the rest. A call that one
//! rule allows and another one refuses is refused.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Op,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{Compiled, Result, SeccompError, arch::Architecture};

/// For each call, by its number, its rules; each is a list of conditions, none for "always".
type Rules = BTreeMap<i64, Vec<Vec<SeccompCondition>>>;

/// Compiles a section for this machine.
pub(super) fn compile(seccomp: &LinuxSeccomp) -> Result<Compiled> {
    let native = Architecture::native().ok_or(SeccompError::Architecture(std::env::consts::ARCH))?;
    compile_for(seccomp, native)
}

/// Compiles a section for an architecture.
pub(super) fn compile_for(seccomp: &LinuxSeccomp, architecture: Architecture) -> Result<Compiled> {
    if seccomp.listener_path().is_some() {
        return Err(SeccompError::Unsupported("listenerPath".into()));
    }
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let allow = SeccompAction::Allow;
    let strict = default != allow;
    let mut by_action: BTreeMap<u32, (SeccompAction, Rules)> = BTreeMap::new();
    let mut all = Rules::new();
    let mut known: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for rule in seccomp.syscalls().iter().flatten() {
        let act = action(rule.action(), rule.errno_ret())?;
        let conditions = conditions(rule.args().as_deref().unwrap_or_default(), architecture)?;
        for name in rule.names() {
            let number = *known.entry(name).or_insert_with(|| architecture.number(name));
            let Some(number) = number else {
                // A call that does not exist here needs no permission; but what must be forbidden must be known.
                if strict && act == allow {
                    continue;
                }
                return Err(SeccompError::UnknownSyscall(name.clone()));
            };
            if act != default {
                let entry = by_action.entry(u32::from(act.clone()));
                let of_action = &mut entry.or_insert((act.clone(), Rules::new())).1;
                add(of_action, number, conditions.clone());
            }
            add(&mut all, number, conditions.clone());
        }
    }
    let forbidding = ["seccomp", "prctl"].map(|name| architecture.number(name));
    let mut filters = Vec::new();
    for (act, rules) in by_action.into_values() {
        if act != allow {
            let forbids = forbidding.iter().flatten().any(|number| rules.contains_key(number));
            filters.push((forbids, allow.clone(), act, rules));
        }
    }
    // A filter that forbids installing filters comes after those that do not.
    filters.sort_by_key(|(forbids, ..)| *forbids);
    if strict {
        filters.push((true, default, allow, all));
    }
    if filters.iter().filter(|(forbids, ..)| *forbids).count() > 1 && filters[filters.len() - 2].0 {
        return Err(SeccompError::Unsupported(
            "several actions of which one forbids seccomp or prctl".into(),
        ));
    }
    let mut programs = Vec::new();
    for (_, mismatch, matching, rules) in filters {
        programs.push(build(mismatch, matching, rules, architecture)?);
    }
    Ok(Compiled { flags: flags(seccomp.flags().as_deref().unwrap_or_default())?, programs })
}

/// Adds a rule; an unconditional one makes the conditional ones of the same call superfluous.
fn add(rules: &mut Rules, number: i64, conditions: Vec<SeccompCondition>) {
    let of_call = rules.entry(number).or_default();
    if of_call.iter().any(Vec::is_empty) {
        return;
    }
    if conditions.is_empty() {
        of_call.clear();
    }
    of_call.push(conditions);
}

fn build(
    mismatch: SeccompAction,
    matching: SeccompAction,
    rules: Rules,
    architecture: Architecture,
) -> Result<BpfProgram> {
    let mut chains = BTreeMap::new();
    for (number, of_call) in rules {
        // To seccompiler a call without rules is one that always matches.
        let conditional = of_call.into_iter().filter(|conditions| !conditions.is_empty());
        let chain: Result<Vec<_>, _> = conditional.map(SeccompRule::new).collect();
        chains.insert(number, chain.map_err(backend)?);
    }
    let filter = SeccompFilter::new(chains, mismatch, matching, architecture.target()).map_err(backend)?;
    architecture.own(filter.try_into().map_err(backend)?)
}

fn backend(error: seccompiler::BackendError) -> SeccompError {
    SeccompError::Compile(seccompiler::Error::Backend(error))
}

fn action(action: Action, errno: Option<u32>) -> Result<SeccompAction> {
    // runc's and libseccomp's default for SCMP_ACT_ERRNO and SCMP_ACT_TRACE.
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    Ok(match action {
        Action::ScmpActAllow => SeccompAction::Allow,
        Action::ScmpActLog => SeccompAction::Log,
        Action::ScmpActTrap => SeccompAction::Trap,
        Action::ScmpActErrno => SeccompAction::Errno(errno),
        Action::ScmpActTrace => SeccompAction::Trace(errno),
        Action::ScmpActKill | Action::ScmpActKillThread => SeccompAction::KillThread,
        Action::ScmpActKillProcess => SeccompAction::KillProcess,
        Action::ScmpActNotify => return Err(SeccompError::Unsupported("SCMP_ACT_NOTIFY".into())),
    })
}

fn conditions(args: &[LinuxSeccompArg], architecture: Architecture) -> Result<Vec<SeccompCondition>> {
    args.iter()
        .map(|a| {
            let (op, value) = match a.op() {
                Op::ScmpCmpNe => (SeccompCmpOp::Ne, a.value()),
                Op::ScmpCmpLt => (SeccompCmpOp::Lt, a.value()),
                Op::ScmpCmpLe => (SeccompCmpOp::Le, a.value()),
                Op::ScmpCmpEq => (SeccompCmpOp::Eq, a.value()),
                Op::ScmpCmpGe => (SeccompCmpOp::Ge, a.value()),
                Op::ScmpCmpGt => (SeccompCmpOp::Gt, a.value()),
                // libseccomp: (argument & value) == valueTwo
                Op::ScmpCmpMaskedEq => (SeccompCmpOp::MaskedEq(a.value()), a.value_two().unwrap_or(0)),
            };
            let index = u8::try_from(a.index()).ok().filter(|index| *index <= 5);
            let index = index.ok_or_else(|| {
                SeccompError::Unsupported(format!("argument {} of a system call", a.index()))
            })?;
            if a.value().max(value) > architecture.largest_argument() {
                // It would never match: what it is to forbid would be allowed.
                return Err(SeccompError::Unsupported(format!(
                    "the value {:#x} for an argument of 32 bits",
                    a.value().max(value)
                )));
            }
            SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).map_err(backend)
        })
        .collect()
}

/// `SECCOMP_FILTER_FLAG_LOG` and `SECCOMP_FILTER_FLAG_SPEC_ALLOW` of linux/seccomp.h.
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;

fn flags(flags: &[Flag]) -> Result<u32> {
    let mut bits = 0;
    for flag in flags {
        bits |= match flag {
            Flag::SeccompFilterFlagLog => LOG,
            Flag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
            // The process that installs the filter has one thread.
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagWaitKillableRecv => {
                return Err(SeccompError::Unsupported("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()));
            }
        };
    }
    Ok(bits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::seccomp::default_profile;

    fn section(text: &str) -> LinuxSeccomp {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn dockers_profile_needs_two_filters() {
        let compiled = compile(&default_profile(&[]).unwrap()).unwrap();
        // clone3 is answered with ENOSYS, all else that is not listed with EPERM.
        assert_eq!(compiled.programs.len(), 2);
        assert!(compiled.programs[0].len() < 20);
        assert!(compiled.programs[1].len() > 1000);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for text in [
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["no_such_call"],"action":"SCMP_ACT_ERRNO"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(compile(&section(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_calls_need_no_permission() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["no_such_call","read"],
            "action":"SCMP_ACT_ALLOW"}]}"#;
        assert_eq!(compile(&section(text)).unwrap().programs.len(), 1);
    }

    #[test]
    fn a_permissive_default_needs_no_last_filter() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["getcwd"],"action":"SCMP_ACT_ERRNO"},{"names":["chmod"],"action":"SCMP_ACT_KILL"}]}"#;
        assert_eq!(compile(&section(text)).unwrap().programs.len(), 2);
        assert!(compile(&section(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#)).unwrap().programs.is_empty());
    }
}
