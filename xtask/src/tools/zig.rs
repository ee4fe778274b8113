//! Zig, for what a compiler of Rust lacks for other machines: a C compiler, a linker, and musl, which it builds from
//! source for any processor. Comes as a package for Python.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exec::{self, Log};
use crate::paths::Tree;

/// The version that is used, no other: another one may make other bytes.
pub const VERSION: &str = "0.17.1";

/// SHA-256 of the package for the machines that it can run on here: x86_64 and aarch64.
const HASHES: [&str; 2] = [
    "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
    "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
];

/// What of a C library a static program is linked with that may lie anywhere in memory, in zig's words.
const PARTS: [&str; 5] = ["rcrt1.o", "libc.a", "libzigc.a", "libcompiler_rt.a", "libunwind.a"];

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ZigError {
    /// Neither here nor to be had.
    #[error(
        "zig {VERSION} is not on PATH, and Python's pip does not give it (its words are in {log}); installing python3-pip, or zig {VERSION} itself, helps", log = log.display()
    )]
    Missing {
        /// What pip said.
        log: PathBuf,
    },
    /// The C library was not built.
    #[error("zig does not build the C library for {target}; its words are in {log}", log = log.display())]
    Library {
        /// For which machine.
        target: String,
        /// What zig said.
        log: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot use {path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ZigError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Zig in the one version.
#[derive(Debug, Clone)]
pub struct Zig {
    /// The program.
    pub program: PathBuf,
    cache: PathBuf,
}

impl Zig {
    /// Finds zig on PATH, or obtains it.
    ///
    /// # Errors
    /// [`ZigError`].
    pub fn obtain(tree: &Tree, log: &mut Log, watch: &mut dyn FnMut(&str)) -> Result<Self, ZigError> {
        let folder = tree.tools().join("zig");
        let own = folder.join("ziglang/zig");
        let cache = tree.tools().join("zig-cache");
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = env::split_paths(&path).map(|folder| folder.join("zig"));
        if let Some(program) = [own.clone()].into_iter().chain(installed).find(|program| fits(program)) {
            return Ok(Self { program, cache });
        }
        watch("fetching zig");
        let part = tree.tools().join("zig.part");
        let list = tree.tools().join("zig.txt");
        let hashes: Vec<String> = HASHES.iter().map(|hash| format!("--hash=sha256:{hash}")).collect();
        fs::create_dir_all(tree.tools()).map_err(ZigError::io(&tree.tools()))?;
        fs::write(&list, format!("ziglang=={VERSION} {}\n", hashes.join(" ")))
            .map_err(ZigError::io(&list))?;
        remove(&part)?;
        let mut command = Command::new("python3");
        command
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--no-deps", "--no-compile", "--only-binary", ":all:", "--require-hashes", "--target"])
            .arg(&part)
            .arg("-r")
            .arg(&list);
        let done = exec::run(&mut command, None, log, &mut *watch).is_ok_and(|status| status.success());
        if !done || !fits(&part.join("ziglang/zig")) {
            return Err(ZigError::Missing { log: log.path().to_path_buf() });
        }
        remove(&folder)?;
        fs::rename(&part, &folder).map_err(ZigError::io(&folder))?;
        Ok(Self { program: own, cache })
    }

    /// Where it keeps what it has made.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Zig, told where to keep what it has made.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("ZIG_GLOBAL_CACHE_DIR", &self.cache).env("ZIG_LOCAL_CACHE_DIR", &self.cache);
        command
    }

    /// Puts the C library for a machine, and what a program begins with, into `folder`, unless it is there.
    ///
    /// # Errors
    /// [`ZigError`].
    pub fn library(
        &self,
        machine: Machine,
        folder: &Path,
        log: &mut Log,
        watch: &mut dyn FnMut(&str),
    ) -> Result<(), ZigError> {
        if folder.is_dir() {
            return Ok(());
        }
        watch("building the C library");
        let part = folder.with_extension("part");
        remove(&part)?;
        fs::create_dir_all(&part).map_err(ZigError::io(&part))?;
        let source = part.join("empty.c");
        fs::write(&source, "int main(void) { return 0; }\n").map_err(ZigError::io(&source))?;
        let mut command = self.command();
        // Whatever it links it builds; it says what that is and where.
        command.current_dir(&part).env("ZIG_VERBOSE_LINK", "1").arg("cc");
        machine.arguments(&mut command);
        command.args(["-Os", "-static", "-pie", "-fPIE", "empty.c", "-o", "empty", "-lunwind"]);
        let before = log.lines().len();
        let good = exec::run(&mut command, None, log, |_| {}).is_ok_and(|status| status.success());
        let failed =
            || ZigError::Library { target: machine.triple.to_owned(), log: log.path().to_path_buf() };
        let linked = log.lines()[before..].iter().rfind(|line| line.starts_with("ld.lld ")).filter(|_| good);
        let linked = linked.ok_or_else(failed)?;
        for name in PARTS {
            let mut words = linked.split(' ').map(Path::new);
            let path = words.find(|path| path.ends_with(name)).ok_or_else(failed)?;
            let path = part.join(path);
            fs::copy(&path, part.join(name)).map_err(ZigError::io(&path))?;
        }
        for name in ["empty.c", "empty"] {
            let path = part.join(name);
            fs::remove_file(&path).map_err(ZigError::io(&path))?;
        }
        fs::rename(&part, folder).map_err(ZigError::io(folder))
    }
}

/// A machine in zig's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Processor, system, C library.
    pub triple: &'static str,
    /// The least that the processor can do.
    pub cpu: &'static str,
}

impl Machine {
    /// The arguments by which zig knows it.
    pub fn arguments(&self, command: &mut Command) {
        command.args(["-target", self.triple]).arg(format!("-mcpu={}", self.cpu));
    }
}

fn fits(program: &Path) -> bool {
    let said = Command::new(program).arg("version").output();
    said.is_ok_and(|said| said.status.success() && said.stdout.trim_ascii() == VERSION.as_bytes())
}

fn remove(path: &Path) -> Result<(), ZigError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ZigError::io(path)(error)),
        _ => Ok(()),
    }
}
