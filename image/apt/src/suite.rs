//! Single package files of one suite of the system's Debian archive, also for other machines than this one. The
//! archive's address is taken from the system's own sources, so that a user's mirror is used and no host is named.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::{self, Archive};
use super::config::{self, Lists, Sources};
use super::{AptError, absolute, create_dir, remove_dir, run};

/// What a suite offers under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The package's name.
    pub name: String,
    /// Its version with the epoch.
    pub version: String,
    /// Its architecture, `all` where it has none.
    pub arch: String,
    /// SHA-256 of the package file in hex, as the signed package list has it.
    pub sha256: String,
    /// The size of the package file in bytes.
    pub size: u64,
    /// The source package that it was built from.
    pub source: String,
    /// That source package's version.
    pub source_version: String,
    /// Further source packages that it contains parts of, as `name version`.
    pub built_using: Vec<String>,
    /// What it depends on, in Debian's own words.
    pub depends: String,
    /// The package file's path in the archive: where it stays for a while after the suite has a newer one.
    pub file: String,
}

/// apt's own program for single files: with its proxies, and its ways to reach an archive.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// One suite (`trixie`) of the archive that the system itself uses.
#[derive(Debug, Clone)]
pub struct Suite {
    home: PathBuf,
    name: String,
    components: String,
    architectures: Vec<String>,
    mirror: Option<String>,
}

impl Suite {
    /// A client that keeps its files in `<cache>/apt-<name>`. `mirror` replaces the archive's address, for systems
    /// whose own sources are not Debian's.
    #[must_use]
    pub fn new(
        cache: &Path,
        name: &str,
        components: &[&str],
        architectures: &[&str],
        mirror: Option<&str>,
    ) -> Self {
        Self {
            home: absolute(cache).join(format!("apt-{name}")),
            name: name.to_owned(),
            components: components.join(" "),
            architectures: architectures.iter().map(ToString::to_string).collect(),
            mirror: mirror.map(str::to_owned),
        }
    }

    /// What the suite offers now under a package's name; with `fresh`, after its lists were fetched anew.
    ///
    /// # Errors
    /// [`AptError`]: no apt here, no network, no such package.
    pub fn candidate(&self, package: &str, arch: &str, fresh: bool) -> Result<Candidate, AptError> {
        let _lock = self.lock()?;
        let config = self.configure(fresh)?;
        let show = |wanted: String| {
            let mut command = Command::new("apt-cache");
            command.env("APT_CONFIG", &config).args(["show", "--no-all-versions"]);
            match run(command.arg(wanted), "apt-cache") {
                // Also its way to say that there is none.
                Err(AptError::Failed { .. }) => Ok(None),
                other => other.map(|output| parse(&String::from_utf8_lossy(&output.stdout))),
            }
        };
        let found = match show(format!("{package}:{arch}"))? {
            // What is for all machines has the name of none.
            None => show(package.to_owned())?.filter(|found| found.arch == "all"),
            found => found,
        };
        found.ok_or_else(|| AptError::NoPackage {
            package: package.to_owned(),
            arch: arch.to_owned(),
            suite: self.name.clone(),
        })
    }

    /// Downloads one version of a package into the folder `into` and returns the file. Its hash is the caller's to
    /// check against what he pinned; apt has checked it against the signed list.
    ///
    /// # Errors
    /// [`AptError`]: as above; archives keep only the newest version of a suite.
    pub fn download(
        &self,
        package: &str,
        version: &str,
        arch: &str,
        into: &Path,
    ) -> Result<PathBuf, AptError> {
        let _lock = self.lock()?;
        let config = self.configure(false)?;
        let folder = self.home.join("download");
        remove_dir(&folder)?;
        create_dir(&folder)?;
        let fetch = |config: &Path| {
            let mut command = Command::new("apt-get");
            command.env("APT_CONFIG", config).current_dir(&folder).args(["-q", "download"]);
            let arch = if arch == "all" { String::new() } else { format!(":{arch}") };
            run(command.arg(format!("{package}{arch}={version}")), "apt-get")
        };
        if fetch(&config).is_err() {
            // The lists may be older than the version that was pinned.
            fetch(&self.configure(true)?)?;
        }
        let mut files = fs::read_dir(&folder).map_err(AptError::io("list", &folder))?;
        let file = files.next().ok_or_else(|| AptError::NoPackage {
            package: package.to_owned(),
            arch: arch.to_owned(),
            suite: self.name.clone(),
        })?;
        let from = file.map_err(AptError::io("list", &folder))?.path();
        create_dir(into)?;
        let to = into.join(from.file_name().unwrap_or_default());
        fs::copy(&from, &to).map_err(AptError::io("write", &to))?;
        remove_dir(&folder)?;
        Ok(to)
    }

    /// Downloads a package file by its path in the archive into the folder `into`, whether or not the suite still names
    /// it, and returns the file. Nobody has checked it: its hash is the caller's to compare with what he pinned.
    ///
    /// # Errors
    /// [`AptError`]: no apt here, no network, no such file.
    pub fn fetch(&self, path: &str, into: &Path) -> Result<PathBuf, AptError> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_plain = |part: &str| !part.is_empty() && part != ".." && part != ".";
        if !path.split('/').all(is_plain) {
            return Err(AptError::Failed {
                command: format!("{HELPER} download-file {path}"),
                reason: "this is no path in an archive".to_owned(),
            });
        }
        let _lock = self.lock()?;
        let lists = Lists::kept(&self.home);
        let config = config::write(&self.home, &lists, None)?;
        create_dir(into)?;
        let to = into.join(name);
        let address = format!("{}/{path}", self.archive()?.trim_end_matches('/'));
        let mut command = Command::new(HELPER);
        command.env("APT_CONFIG", config).args(["-q", "download-file", &address]).arg(&to);
        run(&mut command, "apt-helper")?;
        Ok(to)
    }

    fn lock(&self) -> Result<File, AptError> {
        create_dir(&self.home)?;
        let path = self.home.join("lock");
        let lock = File::create(&path).map_err(AptError::io("create", &path))?;
        lock.lock().map_err(AptError::io("lock", &path))?;
        Ok(lock)
    }

    /// The configuration file, with lists that are at most a week old, or new ones.
    fn configure(&self, fresh: bool) -> Result<PathBuf, AptError> {
        let mut lists = Lists::own(&self.home, fresh)?;
        let archive = self.archive()?;
        let lines = archive::line(&archive, &self.name, &self.components, &self.architectures);
        let sources = Sources { lines: &lines, architectures: &self.architectures };
        let config = config::write(&self.home, &lists, Some(&sources))?;
        if lists.must_update() {
            run(Command::new("apt-get").env("APT_CONFIG", &config).args(["-q", "update"]), "apt-get")?;
            lists.updated();
        }
        Ok(config)
    }

    /// The address of the archive.
    fn archive(&self) -> Result<String, AptError> {
        match &self.mirror {
            Some(mirror) => Ok(mirror.clone()),
            None => Ok(Archive::of_system(&self.name)?.address),
        }
    }
}

/// One entry as `apt-cache show` prints it.
fn parse(text: &str) -> Option<Candidate> {
    let field = |name: &str| {
        text.lines()
            .take_while(|line| !line.is_empty())
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .map(|value| value.trim().to_owned())
    };
    let (name, version) = (field("Package")?, field("Version")?);
    // `Source: name (version)`, and nothing where both are the package's own.
    let (source, source_version) = match field("Source") {
        None => (name.clone(), version.clone()),
        Some(text) => match text.split_once(" (") {
            Some((source, rest)) => (source.to_owned(), rest.trim_end_matches(')').to_owned()),
            None => (text, version.clone()),
        },
    };
    Some(Candidate {
        arch: field("Architecture")?,
        sha256: field("SHA256")?,
        size: field("Size")?.parse().ok()?,
        built_using: ["Built-Using", "Static-Built-Using"]
            .into_iter()
            .filter_map(field)
            .flat_map(|list| using(&list))
            .collect(),
        depends: field("Depends").unwrap_or_default(),
        file: field("Filename").unwrap_or_default(),
        name,
        version,
        source,
        source_version,
    })
}

/// `linux (= 6.12.1-1), glibc (= 2.41-1)` to `linux 6.12.1-1` and `glibc 2.41-1`.
fn using(list: &str) -> Vec<String> {
    list.split(',').map(|one| one.trim().replace(" (= ", " ").replace(')', "")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn entries_are_read_with_their_source() {
        let text = "Package: linux-image-amd64\nSource: linux-signed-amd64 (6.12.1+1)\nVersion: 6.12.1-1\n\
                    Architecture: amd64\nDepends: linux-image-6.12 (= 6.12.1-1)\nFilename: pool/l.deb\nSize: 12\nSHA256: ab\n\
                    Built-Using: linux (= 6.12.1-1), b (= 2)\n\nPackage: b\n";
        let entry = parse(text).unwrap();
        assert_eq!(
            (entry.source.as_str(), entry.source_version.as_str()),
            ("linux-signed-amd64", "6.12.1+1")
        );
        assert_eq!((entry.version.as_str(), entry.size), ("6.12.1-1", 12));
        assert_eq!(entry.file, "pool/l.deb");
        assert_eq!(entry.built_using, ["linux 6.12.1-1", "b 2"]);
        let own = parse("Package: a\nVersion: 1\nArchitecture: all\nSize: 1\nSHA256: ab\n").unwrap();
        assert_eq!((own.source.as_str(), own.source_version.as_str()), ("a", "1"));
        assert!(parse("N: no packages found\n").is_none());
    }
}
