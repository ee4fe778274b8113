//! Debian packages, obtained by apt's own client under a private configuration: unpacked into a folder with what
//! they need to run here ([`Apt`]), or single files of another suite and architecture ([`Suite`]).
//!
//! Works as root and as an ordinary user. Never changes the system's configuration, lists, cache or
//! installed packages, and never names an archive: sources, proxies and keys are the system's own.

mod archive;
mod config;
pub mod digest;
pub mod elf;
mod program;
pub mod qemu;
mod stamp;
mod suite;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use archive::Archive;
use config::{Lists, Sources};
pub use program::Unpacked;
pub use stamp::Package;
use stamp::Stamp;
pub use suite::{Candidate, Suite};

/// What can go wrong on the way to an unpacked package.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// Not a Debian-like system.
    #[error(
        "`{0}` is not here: packages can be had only on Debian and its relatives; install what is needed by hand and put it on PATH"
    )]
    Missing(&'static str),
    /// apt or dpkg refused.
    #[error("`{command}` failed: {reason}")]
    Failed {
        /// What was run.
        command: String,
        /// The error lines that it printed.
        reason: String,
    },
    /// The system's configuration names no archive whose other suites could be read.
    #[error(
        "apt's sources on this system name no Debian archive to take the suite `{suite}` from; give the address of a mirror with --mirror"
    )]
    Archive {
        /// Which suite was wanted.
        suite: String,
    },
    /// The suite has no such package.
    #[error("the suite `{suite}` has no package `{package}` for {arch}")]
    NoPackage {
        /// Its name.
        package: String,
        /// For which machine.
        arch: String,
        /// Where.
        suite: String,
    },
    /// What can be had is older than what is needed.
    #[error("the newest {package} that this system's archive has is {found}, and {wanted} is needed")]
    TooOld {
        /// Its name.
        package: String,
        /// What there is.
        found: String,
        /// What there should be.
        wanted: String,
    },
    /// A file or folder of ours could not be used.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl AptError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }
}

/// apt's client with state, cache and configuration of its own.
#[derive(Debug, Clone)]
pub struct Apt {
    home: PathBuf,
    backports: Option<Backports>,
}

/// Sources with the backports of the system's release, which are preferred.
#[derive(Debug, Clone)]
struct Backports {
    suite: String,
    lines: String,
}

impl Apt {
    /// A client that keeps its files in `<tools>/apt`.
    #[must_use]
    pub fn new(tools: &Path) -> Self {
        Self { home: absolute(tools).join("apt"), backports: None }
    }

    /// The same for the backports of the system's release, with what they need from the release itself. They need
    /// not be among the system's sources.
    ///
    /// # Errors
    /// [`AptError`]: no apt here, no archive of Debian's.
    pub fn backports(&self) -> Result<Self, AptError> {
        let Archive { address, release } = Archive::of_system("backports")?;
        let suite = format!("{release}-backports");
        let lines = [&release, &suite].map(|suite| archive::line(&address, suite, "main", &[])).concat();
        Ok(Self { home: sibling(&self.home, &suite), backports: Some(Backports { suite, lines }) })
    }

    /// The version of a package that [`unpack`](Self::unpack) would take now.
    ///
    /// # Errors
    /// [`AptError`]: no apt here, no network, no such package.
    pub fn candidate(&self, package: &str) -> Result<String, AptError> {
        let _lock = self.lock()?;
        let shown = self.with_lists(|config| {
            let mut command = Command::new("apt-cache");
            command.env("APT_CONFIG", config).args(["show", "--no-all-versions", package]);
            run(&mut command, "apt-cache")
        })?;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(str::to_owned).ok_or_else(|| AptError::Failed {
            command: format!("apt-cache show {package}"),
            reason: "it names no version".to_owned(),
        })
    }

    /// Unpacks packages into the folder `into`, replacing what was there, and says which packages these are.
    ///
    /// With `with_dependencies` everything that the packages need to run comes along, down to the C library,
    /// as if nothing were installed; recommendations do not. A folder that was made from the same request
    /// before is left as it is, and then nothing is downloaded.
    ///
    /// # Errors
    /// [`AptError`]: no apt here, no network, no such package, no room.
    pub fn unpack(
        &self,
        packages: &[&str],
        with_dependencies: bool,
        into: &Path,
    ) -> Result<Vec<Package>, AptError> {
        let _lock = self.lock()?;
        let suite = self.backports.as_ref().map(|backports| backports.suite.as_str());
        if let Some(stamp) = Stamp::read(into).filter(|s| s.answers(packages, with_dependencies, suite)) {
            return Ok(stamp.packages);
        }
        let archives = self.download(packages, with_dependencies)?;

        let fresh = sibling(into, "unpacking");
        remove_dir(&fresh)?;
        create_dir(&fresh)?;
        let mut unpacked = Vec::with_capacity(archives.len());
        for archive in &archives {
            run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&fresh), "dpkg-deb")?;
            unpacked.push(Package::of_archive(archive).map_err(AptError::io("read", archive))?);
        }
        Stamp::remove(into).map_err(AptError::io("replace", into))?;
        remove_dir(into)?;
        fs::rename(&fresh, into).map_err(AptError::io("rename to", into))?;
        let stamp = Stamp::new(packages, with_dependencies, suite, unpacked);
        stamp.write(into).map_err(AptError::io("write the stamp of", into))?;
        remove_dir(&self.archives())?;
        Ok(stamp.packages)
    }

    fn archives(&self) -> PathBuf {
        self.home.join("cache/archives")
    }

    /// Test programs run side by side and may want the same packages.
    fn lock(&self) -> Result<File, AptError> {
        self.lock_for("lock")
    }

    fn lock_for(&self, name: &str) -> Result<File, AptError> {
        create_dir(&self.home)?;
        let path = self.home.join(name);
        let lock = File::create(&path).map_err(AptError::io("create", &path))?;
        lock.lock().map_err(AptError::io("lock", &path))?;
        Ok(lock)
    }

    /// Does something under our configuration, and once more with lists of our own when it fails and the lists may
    /// be the reason.
    fn with_lists<T>(&self, act: impl Fn(&Path) -> Result<T, AptError>) -> Result<T, AptError> {
        let mut lists = match self.backports {
            None => Lists::choose(&self.home)?,
            Some(_) => Lists::own(&self.home, false)?,
        };
        let sources = self.backports.as_ref().map(|b| Sources { lines: &b.lines, architectures: &[] });
        loop {
            let config = config::write(&self.home, &lists, sources.as_ref())?;
            if lists.must_update() {
                run(Command::new("apt-get").env("APT_CONFIG", &config).args(["-q", "update"]), "apt-get")?;
                lists.updated();
            }
            match act(&config) {
                Err(_) if lists.could_be_fresher() => lists = Lists::own_updated(&self.home)?,
                done => return done,
            }
        }
    }

    fn download(&self, packages: &[&str], with_dependencies: bool) -> Result<Vec<PathBuf>, AptError> {
        self.with_lists(|config| self.fetch(config, packages, with_dependencies))?;
        let archives = self.archives();
        let mut found = Vec::new();
        for entry in fs::read_dir(&archives).map_err(AptError::io("list", &archives))? {
            let path = entry.map_err(AptError::io("list", &archives))?.path();
            if path.extension() == Some(OsStr::new("deb")) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn fetch(&self, config: &Path, packages: &[&str], with_dependencies: bool) -> Result<(), AptError> {
        let archives = self.archives();
        remove_dir(&archives)?;
        create_dir(&archives.join("partial"))?;
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", config).env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
        if with_dependencies {
            // The private status file says that nothing is installed, so everything needed is downloaded.
            command.args(["install", "--yes", "--download-only", "--no-install-recommends"]);
        } else {
            command.arg("download").current_dir(&archives);
        }
        if let Some(backports) = &self.backports {
            command.args(["--target-release", &backports.suite]);
        }
        run(command.args(packages), "apt-get").map(drop)
    }
}

/// Runs a tool to its end; its error lines become the error.
fn run(command: &mut Command, name: &'static str) -> Result<Output, AptError> {
    let output = command.env("LC_ALL", "C").output().map_err(|_| AptError::Missing(name))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let telling: Vec<&str> = text.lines().filter(|l| l.starts_with("E:") || l.contains("error")).collect();
    let reason = if telling.is_empty() { text.trim().to_owned() } else { telling.join("; ") };
    let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    Err(AptError::Failed { command: format!("{name} {}", args.join(" ")), reason })
}

/// apt joins what it is told to folders of its own: paths must begin at the root.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn create_dir(path: &Path) -> Result<(), AptError> {
    fs::create_dir_all(path).map_err(AptError::io("create", path))
}

fn remove_dir(path: &Path) -> Result<(), AptError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AptError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// `dir/name` to `dir/name.suffix`.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}
