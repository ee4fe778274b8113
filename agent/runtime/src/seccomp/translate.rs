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
use seccompiler::{BpfProgram, compile_from_json};
use serde_json::{Value, json};

use super::{Compiled, Result, SeccompError, arch};

/// One rule for one call: its conditions, none for "always".
type Rules = BTreeMap<String, Vec<Vec<Value>>>;

/// Compiles a section for this machine.
pub(super) fn compile(seccomp: &LinuxSeccomp) -> Result<Compiled> {
    let native = arch::native().ok_or(SeccompError::Architecture(std::env::consts::ARCH))?;
    if seccomp.listener_path().is_some() {
        return Err(SeccompError::Unsupported("listenerPath".into()));
    }
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let allow = json!("allow");
    let strict = default != allow;
    let mut by_action: BTreeMap<String, (Value, Rules)> = BTreeMap::new();
    let mut all = Rules::new();
    let mut known: BTreeMap<&str, bool> = BTreeMap::new();
    for rule in seccomp.syscalls().iter().flatten() {
        let act = action(rule.action(), rule.errno_ret())?;
        let conditions = conditions(rule.args().as_deref().unwrap_or_default())?;
        for name in rule.names() {
            let is_known = *known.entry(name).or_insert_with(|| is_known(name, native));
            if !is_known {
                // A call that does not exist here needs no permission; but what must be forbidden must be known.
                if strict && act == allow {
                    continue;
                }
                return Err(SeccompError::UnknownSyscall(name.clone()));
            }
            if act != default {
                let of_action =
                    &mut by_action.entry(act.to_string()).or_insert((act.clone(), Rules::new())).1;
                add(of_action, name, conditions.clone());
            }
            add(&mut all, name, conditions.clone());
        }
    }
    let mut filters = Vec::new();
    for (act, rules) in by_action.into_values() {
        if act != allow {
            filters.push((
                rules.contains_key("seccomp") || rules.contains_key("prctl"),
                allow.clone(),
                act,
                rules,
            ));
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
        let mut program = arch::prologue(native);
        program.extend(build(&mismatch, &matching, &rules, native)?);
        programs.push(program);
    }
    Ok(Compiled { flags: flags(seccomp.flags().as_deref().unwrap_or_default())?, programs })
}

/// Adds a rule; an unconditional one makes the conditional ones of the same call superfluous.
fn add(rules: &mut Rules, name: &str, conditions: Vec<Value>) {
    let of_call = rules.entry(name.to_owned()).or_default();
    if of_call.iter().any(Vec::is_empty) {
        return;
    }
    if conditions.is_empty() {
        of_call.clear();
    }
    of_call.push(conditions);
}

fn build(mismatch: &Value, matching: &Value, rules: &Rules, native: arch::Native) -> Result<BpfProgram> {
    let list: Vec<Value> = rules
        .iter()
        .flat_map(|(name, of_call)| {
            of_call.iter().map(move |conditions| {
                if conditions.is_empty() {
                    json!({ "syscall": name })
                } else {
                    json!({ "syscall": name, "args": conditions })
                }
            })
        })
        .collect();
    let text = json!({ "f": { "mismatch_action": mismatch, "match_action": matching, "filter": list } });
    let mut map =
        compile_from_json(text.to_string().as_bytes(), native.target).map_err(SeccompError::Compile)?;
    map.remove("f").ok_or_else(|| SeccompError::Unsupported("an empty filter".into()))
}

/// Whether the call exists here. seccompiler keeps its tables to itself, so it is asked.
fn is_known(name: &str, native: arch::Native) -> bool {
    let rules = Rules::from([(name.to_owned(), vec![vec![]])]);
    build(&json!("allow"), &json!("log"), &rules, native).is_ok()
}

fn action(action: Action, errno: Option<u32>) -> Result<Value> {
    // runc's and libseccomp's default for SCMP_ACT_ERRNO and SCMP_ACT_TRACE.
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    Ok(match action {
        Action::ScmpActAllow => json!("allow"),
        Action::ScmpActLog => json!("log"),
        Action::ScmpActTrap => json!("trap"),
        Action::ScmpActErrno => json!({ "errno": errno }),
        Action::ScmpActTrace => json!({ "trace": errno }),
        Action::ScmpActKill | Action::ScmpActKillThread => json!("kill_thread"),
        Action::ScmpActKillProcess => json!("kill_process"),
        Action::ScmpActNotify => return Err(SeccompError::Unsupported("SCMP_ACT_NOTIFY".into())),
    })
}

fn conditions(args: &[LinuxSeccompArg]) -> Result<Vec<Value>> {
    args.iter()
        .map(|a| {
            let (op, value) = match a.op() {
                Op::ScmpCmpNe => (json!("ne"), a.value()),
                Op::ScmpCmpLt => (json!("lt"), a.value()),
                Op::ScmpCmpLe => (json!("le"), a.value()),
                Op::ScmpCmpEq => (json!("eq"), a.value()),
                Op::ScmpCmpGe => (json!("ge"), a.value()),
                Op::ScmpCmpGt => (json!("gt"), a.value()),
                // libseccomp: (argument & value) == valueTwo
                Op::ScmpCmpMaskedEq => (json!({ "masked_eq": a.value() }), a.value_two().unwrap_or(0)),
            };
            if a.index() > 5 {
                return Err(SeccompError::Unsupported(format!("argument {} of a system call", a.index())));
            }
            Ok(json!({ "index": a.index(), "type": "qword", "op": op, "val": value }))
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
