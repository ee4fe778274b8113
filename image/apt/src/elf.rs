//! Which shared libraries a program needs, found by reading ELF files and never by running them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// What can go wrong when a program's libraries are collected.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// A file could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is no 64-bit ELF file, or a damaged one.
    #[error("{path} is not a usable ELF file", path = path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: object::read::Error,
    },
    /// A library is in none of the folders where the loader would look.
    #[error("{needed_by} needs {library}, which no unpacked package holds", needed_by = needed_by.display())]
    Missing {
        /// The library's file name.
        library: String,
        /// Who asks for it.
        needed_by: PathBuf,
    },
}

/// Where programs and libraries are looked for, by paths without a slash in front: an unpacked tree, or packages'
/// files in memory.
pub trait Files {
    /// Whether there is such a file.
    fn has(&self, path: &str) -> bool;

    /// Its content, behind links.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
}

impl Files for Path {
    fn has(&self, path: &str) -> bool {
        self.join(path).exists()
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.join(path))
    }
}

#[derive(Debug)]
struct Wants {
    machine: u16,
    interpreter: Option<String>,
    libraries: Vec<String>,
    run_paths: Vec<String>,
}

fn parse(data: &[u8]) -> Result<Wants, object::read::Error> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let mut wants = Wants {
        machine: header.e_machine(endian),
        interpreter: None,
        libraries: Vec::new(),
        run_paths: Vec::new(),
    };
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) == PT_INTERP
            && let Ok(bytes) = segment.data(endian, data)
        {
            wants.interpreter = Some(text(bytes).trim_end_matches('\0').to_owned());
        }
    }
    let sections = header.sections(endian, data)?;
    if let Some((entries, link)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, link)?;
        for entry in entries {
            match entry.tag(endian) {
                DT_NEEDED => wants.libraries.push(text(entry.string(endian, strings)?)),
                DT_RUNPATH | DT_RPATH => {
                    wants
                        .run_paths
                        .extend(text(entry.string(endian, strings)?).split(':').map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    Ok(wants)
}

/// The folders in which Debian's loader looks without a cache, in its order.
fn folders(machine: u16) -> Vec<String> {
    let own = match machine {
        EM_X86_64 => "x86_64-linux-gnu",
        EM_AARCH64 => "aarch64-linux-gnu",
        _ => return vec!["lib".to_owned(), "usr/lib".to_owned()],
    };
    vec![format!("lib/{own}"), format!("usr/lib/{own}"), "lib".to_owned(), "usr/lib".to_owned()]
}

/// All files that the loader opens to start `program` where these files are `/`: the program itself, its interpreter,
/// and every library that one of them needs.
///
/// # Errors
/// [`ElfError`]: an unreadable file, or a library that is not among the files.
pub fn closure<F: Files + ?Sized>(files: &F, program: &str) -> Result<BTreeSet<String>, ElfError> {
    let mut found = BTreeSet::new();
    let mut open = vec![program.to_owned()];
    while let Some(file) = open.pop() {
        if !found.insert(file.clone()) {
            continue;
        }
        let data =
            files.read(&file).map_err(|source| ElfError::Read { path: PathBuf::from(&file), source })?;
        let wants = parse(&data).map_err(|source| ElfError::Parse { path: PathBuf::from(&file), source })?;
        if let Some(interpreter) = wants.interpreter {
            open.push(interpreter.trim_start_matches('/').to_owned());
        }
        let origin = Path::new(&file).parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
        let run_paths = wants
            .run_paths
            .iter()
            .map(|p| p.replace("$ORIGIN", &format!("/{origin}")).trim_matches('/').to_owned());
        let folders: Vec<String> = run_paths.chain(folders(wants.machine)).collect();
        for library in wants.libraries {
            match folders.iter().map(|d| format!("{d}/{library}")).find(|f| files.has(f)) {
                Some(file) => open.push(file),
                None => return Err(ElfError::Missing { library, needed_by: PathBuf::from(&file) }),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn this_program_needs_a_c_library_and_a_loader() {
        let wants = parse(&fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap();
        assert!(wants.libraries.iter().any(|l| l.starts_with("libc.so")), "{wants:?}");
        assert!(wants.interpreter.is_some_and(|i| i.contains("ld-linux")));
    }

    #[test]
    fn text_is_no_program_and_a_missing_library_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("text"), "#!/bin/sh\n").unwrap();
        assert!(matches!(closure(dir.path(), "text"), Err(ElfError::Parse { .. })));
        fs::copy(std::env::current_exe().unwrap(), dir.path().join("program")).unwrap();
        let error = closure(dir.path(), "program").unwrap_err().to_string();
        assert!(error.contains("which no unpacked package holds"), "{error}");
    }
}
