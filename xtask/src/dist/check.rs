//! What was built is what it is to be: one static file for the right processor that may lie anywhere in memory, and
//! that starts — here, or in an emulator of the processor.

use std::fs;
use std::path::Path;
use std::process::Command;

use object::Endianness;
use object::elf::{EM_AARCH64, EM_ARM, EM_X86_64, ET_DYN, FileHeader32, FileHeader64, PT_DYNAMIC, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

use super::{Architecture, Programs};
use crate::paths::Tree;
use crate::tools::programs;

/// Why a program must not be given to anybody.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    /// It is no ELF file of the right width.
    #[error("it is no program for {0}")]
    Other(Architecture, #[source] object::read::Error),
    /// It is for other processors.
    #[error("it is for another processor than {0}")]
    Machine(Architecture),
    /// It asks for a loader.
    #[error("it is not static: it asks for a loader")]
    Loader,
    /// It has one place in memory.
    #[error("it lies at the same place in memory at each start")]
    Fixed,
    /// Tests could make it fail: it was compiled with debug assertions.
    #[error("it has the switch by which tests let programs die (sosna-fault)")]
    Faults,
    /// It does not start.
    #[error("it does not start")]
    Start(#[source] std::io::Error),
    /// It says something else than it should.
    #[error("asked what it is, it ends with {status} and says: {said}")]
    Said {
        /// How it ended.
        status: String,
        /// Its words.
        said: String,
    },
}

/// What starts programs of an architecture: nothing, or an emulator.
///
/// # Errors
/// Why there is none, in words.
pub fn starter(tree: &Tree, architecture: Architecture) -> Result<Option<Command>, String> {
    if Architecture::here() == Some(architecture) {
        return Ok(None);
    }
    let program = format!("usr/bin/qemu-{}", architecture.emulated());
    match programs::find(tree, "qemu-user", &program) {
        Ok(path) => Ok(Some(Command::new(path))),
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Err(format!("there is no qemu-{}: {error}{cause}", architecture.emulated()))
        }
    }
}

/// The command that starts a program of another architecture.
#[must_use]
pub fn start(starter: &Option<Command>, program: &Path) -> Command {
    match starter {
        None => Command::new(program),
        Some(emulator) => {
            let mut command = Command::new(emulator.get_program());
            command.arg(program);
            command
        }
    }
}

/// Looks at both programs and starts them where that can be done; in words, what proves them.
///
/// # Errors
/// [`CheckError`], with the program.
pub fn check(tree: &Tree, programs: &Programs) -> Result<String, (String, CheckError)> {
    let named = |path: &Path| {
        let name = path.display().to_string();
        move |error| (name, error)
    };
    for path in [&programs.agent, &programs.init] {
        look(path, programs.architecture).map_err(named(path))?;
    }
    let starter = match starter(tree, programs.architecture) {
        Ok(starter) => starter,
        Err(reason) => return Ok(format!("not started: {reason}")),
    };
    let version = format!("sosna-agent {}\n", env!("CARGO_PKG_VERSION"));
    let says = |path: &Path, argument: &[&str], code: i32, what: &str| {
        let output = start(&starter, path).args(argument).output().map_err(CheckError::Start)?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        match output.status.code() == Some(code) && said.starts_with(what) {
            true => Ok(()),
            false => Err(CheckError::Said { status: output.status.to_string(), said }),
        }
    };
    says(&programs.agent, &["--version"], 0, &version).map_err(named(&programs.agent))?;
    says(&programs.init, &[], 2, "sosna-init: ").map_err(named(&programs.init))?;
    Ok(match &starter {
        None => "started here".to_owned(),
        Some(_) => format!("started in qemu-{}", programs.architecture.emulated()),
    })
}

fn look(path: &Path, architecture: Architecture) -> Result<(), CheckError> {
    let data = fs::read(path).map_err(CheckError::Read)?;
    match architecture {
        Architecture::Armv7 => parts::<FileHeader32<Endianness>>(&data, architecture, EM_ARM),
        Architecture::Aarch64 => parts::<FileHeader64<Endianness>>(&data, architecture, EM_AARCH64),
        Architecture::X86_64 => parts::<FileHeader64<Endianness>>(&data, architecture, EM_X86_64),
    }?;
    if has_faults(&data) { Err(CheckError::Faults) } else { Ok(()) }
}

/// Whether the variable by which tests let programs die is in it.
fn has_faults(program: &[u8]) -> bool {
    const SWITCH: &[u8] = b"SOSNA_FAULT_ONCE";
    program.windows(SWITCH.len()).any(|bytes| bytes == SWITCH)
}

fn parts<H: FileHeader<Endian = Endianness>>(
    data: &[u8],
    architecture: Architecture,
    machine: u16,
) -> Result<(), CheckError> {
    let other = |error| CheckError::Other(architecture, error);
    let header = H::parse(data).map_err(other)?;
    let endian = header.endian().map_err(other)?;
    if header.e_machine(endian) != machine {
        return Err(CheckError::Machine(architecture));
    }
    let segments = header.program_headers(endian, data).map_err(other)?;
    if segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP) {
        return Err(CheckError::Loader);
    }
    match header.e_type(endian) == ET_DYN && segments.iter().any(|s| s.p_type(endian) == PT_DYNAMIC) {
        true => Ok(()),
        false => Err(CheckError::Fixed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_program_with_the_switch_of_tests_is_known() {
        assert!(has_faults(b"\x7fELF...SOSNA_FAULT_ONCE\0") && !has_faults(b"\x7fELF...SOSNA_FAUL"));
    }

    #[test]
    fn what_asks_for_a_loader_is_not_static() {
        let here = Architecture::here().unwrap();
        let own = std::env::current_exe().unwrap();
        assert!(matches!(look(&own, here), Err(CheckError::Loader)));
        let other = Architecture::ALL.into_iter().find(|one| *one != here && *one != Architecture::Armv7);
        assert!(matches!(look(&own, other.unwrap()), Err(CheckError::Machine(_))));
        assert!(matches!(look(&own, Architecture::Armv7), Err(CheckError::Other(..))));
    }
}
