//! Named points at every step after which something must have survived a crash: where a test may let the process die, or
//! the step fail, at its n-th passage.
//!
//! In a build without debug assertions, as devices and operators get it, a point is nothing at all, whatever the environment
//! says. With them, `SOSNA_FAULT` names what is to happen, once in all processes that share `SOSNA_FAULT_ONCE`:
//!
//! | variable | example | what |
//! |---|---|---|
//! | `SOSNA_FAULT` | `hub-store/commit@3=kill` | the process ends at its third passage of this point, without any farewell; `fail`: the step says that it failed |
//! | `SOSNA_FAULT_ONCE` | a path | made when it happens; while it is there, nothing does |
//! | `SOSNA_FAULT_LIST` | a path | the name of each point that is passed, and the process, are added to this file, a line each, [`NOTED`] times at most in a process |

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// How often one process notes that it passed a point.
pub const NOTED: u32 = 8;

/// Passes a point.
///
/// # Errors
/// Only where a test has asked for it.
#[inline]
pub fn point(name: &str) -> io::Result<()> {
    #[cfg(debug_assertions)]
    return armed::pass(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        Ok(())
    }
}

/// Passes a point on the way of a file: `name:` and the file's name, without what differs from one file to the next.
///
/// # Errors
/// As [`point`].
#[inline]
pub fn point_of(name: &str, path: &Path) -> io::Result<()> {
    #[cfg(debug_assertions)]
    return armed::pass(&format!("{name}:{}", armed::kind_of(path)));
    #[cfg(not(debug_assertions))]
    {
        let _ = (name, path);
        Ok(())
    }
}

/// Passes a point at which nothing can fail: the process may only die there.
#[inline]
pub fn passed(name: &str) {
    // A failure that was asked for cannot happen here.
    let _ = point(name);
}

/// Where a process that may write in few places only must be able to write, so that faults are noted and come once.
#[must_use]
pub fn folders() -> Vec<PathBuf> {
    #[cfg(debug_assertions)]
    {
        let names = ["SOSNA_FAULT_ONCE", "SOSNA_FAULT_LIST"];
        let paths = names.into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        paths.filter_map(|path| path.parent().map(Path::to_owned)).filter(|folder| folder.is_dir()).collect()
    }
    #[cfg(not(debug_assertions))]
    Vec::new()
}

/// Lets a program that is started with an empty environment know what is asked for.
#[inline]
pub fn pass_on(command: &mut Command) {
    #[cfg(debug_assertions)]
    for name in ["SOSNA_FAULT", "SOSNA_FAULT_ONCE", "SOSNA_FAULT_LIST"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = command;
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        collections::HashMap,
        fs::OpenOptions,
        io::{self, Write as _},
        path::{Path, PathBuf},
        sync::{LazyLock, Mutex, PoisonError},
    };

    use super::NOTED;

    static PLAN: LazyLock<Plan> = LazyLock::new(Plan::read);
    static PASSED: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);

    struct Plan {
        fault: Option<Fault>,
        once: Option<PathBuf>,
        list: Option<PathBuf>,
    }

    struct Fault {
        name: String,
        at: u32,
        kills: bool,
    }

    impl Plan {
        fn read() -> Self {
            let of = |name| std::env::var_os(name).filter(|value| !value.is_empty());
            let fault = of("SOSNA_FAULT").map(|text| {
                let text = text.to_string_lossy();
                Fault::read(&text)
                    .unwrap_or_else(|| panic!("SOSNA_FAULT: {text} is not point@3=kill or point@3=fail"))
            });
            let (once, list) = (of("SOSNA_FAULT_ONCE"), of("SOSNA_FAULT_LIST"));
            Self { fault, once: once.map(PathBuf::from), list: list.map(PathBuf::from) }
        }
    }

    impl Fault {
        fn read(text: &str) -> Option<Self> {
            let (point, what) = text.rsplit_once('=')?;
            let (name, at) = point.rsplit_once('@')?;
            let kills = match what {
                "kill" => true,
                "fail" => false,
                _ => return None,
            };
            Some(Self { name: name.to_owned(), at: at.parse().ok()?, kills })
        }
    }

    pub(super) fn pass(name: &str) -> io::Result<()> {
        let plan = &*PLAN;
        if plan.fault.is_none() && plan.list.is_none() {
            return Ok(());
        }
        let count = {
            let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
            let count = passed.get_or_insert_default().entry(name.to_owned()).or_default();
            *count += 1;
            *count
        };
        if count <= NOTED
            && let Some(list) = &plan.list
        {
            note(list, name);
        }
        match &plan.fault {
            Some(fault) if fault.name == name && fault.at == count && is_first(plan.once.as_deref()) => {
                if fault.kills {
                    // No destructor, no handler: as if the power had gone.
                    std::process::abort();
                }
                Err(io::Error::other(format!("a fault was asked for at {name}")))
            }
            _ => Ok(()),
        }
    }

    /// One write of a line to a file that is opened for appending is not torn by others'.
    fn note(list: &Path, name: &str) {
        let file = OpenOptions::new().create(true).append(true).open(list);
        // A test that finds nothing noted fails by itself.
        let _ =
            file.and_then(|mut file| file.write_all(format!("{name} {}\n", std::process::id()).as_bytes()));
    }

    fn is_first(once: Option<&Path>) -> bool {
        once.is_none_or(|path| OpenOptions::new().write(true).create_new(true).open(path).is_ok())
    }

    /// A file's name, or the kind of names where each is another one: digests, numbers, addresses.
    pub(super) fn kind_of(path: &Path) -> String {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let parts = name.split('.').map(|part| {
            let is_hex = !part.is_empty() && part.chars().all(|letter| letter.is_ascii_hexdigit());
            if is_hex && part.chars().any(|letter| letter.is_ascii_digit()) { "*" } else { part }
        });
        parts.collect::<Vec<_>>().join(".")
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used, reason = "tests")]
        use super::*;

        #[test]
        fn faults_are_read() {
            let fault = Fault::read("file/rename:epoch@2=fail").unwrap();
            assert_eq!((fault.name.as_str(), fault.at, fault.kills), ("file/rename:epoch", 2, false));
            assert!(
                ["", "a", "a@1", "a=kill", "a@x=kill", "a@1=explode"]
                    .iter()
                    .all(|text| Fault::read(text).is_none())
            );
        }

        #[test]
        fn names_that_differ_from_file_to_file_are_one_point() {
            let of = |name: &str| kind_of(Path::new(name));
            assert_eq!(of("/x/enrolment.json"), "enrolment.json");
            assert_eq!(of("/x/0123abcdef.json"), "*.json");
            assert_eq!(of("/x/17"), "*");
            assert_eq!(of("/x/epoch"), "epoch");
        }

        #[test]
        fn once_is_once_for_all_that_share_it() {
            let folder = tempfile::tempdir().unwrap();
            let once = folder.path().join("once");
            assert!(is_first(Some(&once)) && !is_first(Some(&once)) && is_first(None));
        }
    }
}
