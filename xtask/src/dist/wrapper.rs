//! This very program under other names: what cargo and build scripts call as compiler of C, linker and archiver for
//! another machine. It hands on to zig what zig understands, and adds what belongs to the machine, so that no path
//! has to be among the compiler's flags, where it would show in what is built.
//!
//! A folder for each machine holds the names, `zig` (a link to the program) and `lib` (the C library).

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::Architecture;

/// The C compiler's name.
pub(super) const CC: &str = "sosna-cc";
/// The linker's.
pub(super) const LD: &str = "sosna-ld";
/// The archiver's.
pub(super) const AR: &str = "sosna-ar";

/// When this program was started as one of the tools, becomes zig and does not return, unless that fails.
#[must_use]
pub fn when_called_as_tool() -> Option<ExitCode> {
    let mut arguments = env::args_os();
    let path = PathBuf::from(arguments.next()?);
    let tool = [CC, LD, AR].into_iter().find(|tool| path.ends_with(tool))?;
    let error = match command(tool, &path, arguments.collect()) {
        Some(mut command) => command.exec(),
        None => io::Error::other("its folder has not the name of an architecture"),
    };
    eprintln!("{}: {error}", path.display());
    Some(ExitCode::FAILURE)
}

/// What zig is started with.
fn command(tool: &str, path: &Path, arguments: Vec<OsString>) -> Option<Command> {
    let folder = path.parent()?;
    let library = folder.join("lib");
    let mut command = Command::new(folder.join("zig"));
    match tool {
        CC => {
            let architecture: Architecture = folder.file_name()?.to_str()?.parse().ok()?;
            let cache = folder.parent()?.join("cache");
            command.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
            command.arg("cc");
            architecture.machine().arguments(&mut command);
            // Its own ideas of safety come with a library of their own.
            command.arg("-fno-sanitize=undefined");
            command.args(arguments.into_iter().filter(|argument| !names_machine(argument)));
        }
        LD => {
            // The compiler knows no static program for these targets that may lie anywhere, and says nothing of it.
            command.args(["ld.lld", "-pie", "--no-dynamic-linker", "-z", "text"]);
            command.arg(library.join("rcrt1.o")).args(arguments).arg("-L").arg(&library);
            command.args(["libzigc.a", "libcompiler_rt.a"].map(|name| library.join(name)));
        }
        _ => {
            command.arg("ar").args(arguments);
        }
    }
    Some(command)
}

/// What build scripts say about the machine, in the words of other compilers.
fn names_machine(argument: &OsString) -> bool {
    let text = argument.to_string_lossy();
    ["--target=", "-march=", "-mfpu=", "-mfloat-abi="].iter().any(|known| text.starts_with(known))
        || ["-m64", "-mthumb", "-marm"].contains(&text.as_ref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn words(tool: &str, arguments: &[&str]) -> Vec<String> {
        let path = Path::new("/x/aarch64").join(tool);
        let command = command(tool, &path, arguments.iter().map(OsString::from).collect()).unwrap();
        assert_eq!(command.get_program(), "/x/aarch64/zig");
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_compiler_of_c_is_told_the_machine_in_zigs_words_only() {
        let words = words(CC, &["--target=aarch64-unknown-linux-musl", "-march=armv8-a", "-c", "a.c"]);
        assert_eq!(words[..3], ["cc", "-target", "aarch64-linux-musl"]);
        assert_eq!(words[words.len() - 2..], ["-c", "a.c"]);
        assert!(!words.iter().any(|word| word.contains("unknown") || word.contains("armv8")));
    }

    #[test]
    fn the_linker_begins_and_ends_with_the_c_librarys_parts() {
        let words = words(LD, &["-o", "a", "b.o"]);
        assert_eq!(words[..2], ["ld.lld", "-pie"]);
        assert!(words.contains(&"/x/aarch64/lib/rcrt1.o".to_owned()));
        assert_eq!(words.last().unwrap(), "/x/aarch64/lib/libcompiler_rt.a");
    }

    #[test]
    fn a_folder_that_is_no_architecture_is_refused() {
        assert!(command(CC, Path::new("/x/mips/sosna-cc"), vec![]).is_none());
    }
}
