//! Which tests take turns: those of which each run has one, so that all of them are run by and by, and none of them makes
//! every run longer. `SOSNA_TEST_ALL=1` runs all; `cargo xtask test --all` sets it.

use std::process::Command;
use std::sync::LazyLock;

/// Set by `cargo xtask test --all`.
pub const ALL: &str = "SOSNA_TEST_ALL";

/// The kinds of devices: a run compiles the programs of one and boots its machines. A PC has every second turn.
pub const KINDS: &[&str] = &[PC, "arm64-uefi", PC, "rpi", PC, ARMV7];
const KINDS_GROUP: &str = "kinds of devices";

/// By its board's name.
pub const PC: &str = "x86_64-uefi";
/// Of which there are programs, and no board yet.
pub const ARMV7: &str = "armv7";

/// What the turn goes by: the commit, so that a run can be repeated, and one that changes nothing tests the same.
static COMMIT: LazyLock<String> = LazyLock::new(|| {
    let asked = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let commit = asked.ok().filter(|done| done.status.success()).map(|done| done.stdout).unwrap_or_default();
    String::from_utf8_lossy(&commit).trim().to_owned()
});

/// Whether everything is to run, and nothing takes turns.
#[must_use]
pub fn is_all() -> bool {
    std::env::var_os(ALL).is_some_and(|value| value == "1")
}

/// The kind of device that has the turn; `None` where all have.
#[must_use]
pub fn kind() -> Option<&'static str> {
    (!is_all()).then(|| KINDS[turn(&COMMIT, KINDS_GROUP, KINDS.len())])
}

/// Whether a test that is about one of [`KINDS`] is to run now. Whose turn it is instead is said.
#[must_use]
pub fn is_kinds_turn(kind: &str, test: &str) -> bool {
    match self::kind() {
        None => true,
        Some(chosen) if chosen == kind => {
            eprintln!("TURN {KINDS_GROUP}: at commit {} it is {kind}", short());
            true
        }
        Some(chosen) => {
            eprintln!(
                "SKIPPED {test}: of \"{KINDS_GROUP}\" each run has one, now {chosen}; {ALL}=1 runs all"
            );
            false
        }
    }
}

fn short() -> &'static str {
    COMMIT.get(..10).unwrap_or("unknown")
}

/// Whether a test is to run now, of a group of which one does. Whose turn it is instead is said.
#[must_use]
pub fn has_turn(group: &str, test: &str, members: &[&str]) -> bool {
    if is_all() {
        return true;
    }
    let chosen = members[turn(&COMMIT, group, members.len())];
    if chosen == test {
        eprintln!("TURN {group}: at commit {} it is {test}, one of {}", short(), members.len());
        return true;
    }
    eprintln!("SKIPPED {test}: of \"{group}\" each run has one, now {chosen}; {ALL}=1 runs all");
    false
}

/// Which `count` of so many have the turn now, one after the other from a place that goes by the commit; all of them where
/// everything runs.
#[must_use]
pub fn some(group: &str, members: usize, count: usize) -> Vec<usize> {
    if is_all() || count >= members {
        return (0..members).collect();
    }
    let first = turn(&COMMIT, group, members);
    // Far from each other: neighbours are alike.
    let step = (members / count).max(1);
    eprintln!("TURN {group}: at commit {} {count} of {members} from {first} on; {ALL}=1 runs all", short());
    (0..count).map(|n| (first + n * step) % members).collect()
}

/// The place of the member that has the turn: the commit's hash by the group's name, so that groups do not go in step.
fn turn(commit: &str, group: &str, members: usize) -> usize {
    // FNV-1a: no more than that every member shall come.
    let hash = commit.bytes().chain(group.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % members.max(1) as u64).unwrap_or(0)
}

/// Tests that take turns, as `rotated! { "group"; name => function, argument; … }`: each becomes a test that calls its
/// function with its own name and what follows. One group a module. `"group" of "kind"` runs only when that kind of device
/// has the turn among [`KINDS`].
#[macro_export]
macro_rules! rotated {
    ($group:literal of $kind:literal; $($name:ident => $function:path $( , $argument:expr )*;)+) => {
        /// Of these each run has one, when it is their kind's turn.
        const MEMBERS: &[&str] = &[$(stringify!($name)),+];
        $(
            #[test]
            fn $name() {
                let name = stringify!($name);
                if $crate::rotation::is_kinds_turn($kind, name)
                    && $crate::rotation::has_turn($group, name, MEMBERS)
                {
                    $function(name $(, $argument)*);
                }
            }
        )+
    };
    ($group:literal; $($name:ident => $function:path $( , $argument:expr )*;)+) => {
        /// Of these each run has one.
        const MEMBERS: &[&str] = &[$(stringify!($name)),+];
        $(
            #[test]
            fn $name() {
                if $crate::rotation::has_turn($group, stringify!($name), MEMBERS) {
                    $function(stringify!($name) $(, $argument)*);
                }
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_and_groups_do_not_go_in_step() {
        let turns = |group: &str| -> Vec<usize> {
            (0..64).map(|commit| turn(&format!("{commit:040x}"), group, 5)).collect()
        };
        let (one, other) = (turns("one"), turns("other"));
        assert!((0..5).all(|member| one.contains(&member) && other.contains(&member)));
        assert_ne!(one, other);
        assert_eq!(turn("abc", "one", 5), turn("abc", "one", 5));
        assert_eq!(some("few", 3, 4), [0, 1, 2]);
        let picked = some("many", 100, 4);
        assert!(picked.len() == 4 && picked.iter().all(|place| *place < 100));
    }
}
