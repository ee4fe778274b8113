//! The private configuration of apt: the system's own, minus the hooks that would change the system, plus
//! state and cache in our folder. Must never name an archive, and never write outside our folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{AptError, create_dir, run, sibling};

/// Package lists older than this may name files that a mirror has already dropped.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which package lists are in use.
#[derive(Debug)]
pub(super) enum Lists {
    /// The system's, read and never written.
    System(PathBuf),
    /// Ours.
    Own {
        /// Where they are kept.
        dir: PathBuf,
        /// They are fetched before they are used.
        update: bool,
    },
}

impl Lists {
    /// Our own when they are fresh; else the system's when they are; else our own, to be updated.
    pub(super) fn choose(home: &Path) -> Result<Self, AptError> {
        let own = home.join("lists");
        if fresh(&own) {
            return Ok(Self::Own { dir: own, update: false });
        }
        let system = system_lists()?;
        if fresh(&system) {
            return Ok(Self::System(system));
        }
        Self::own_updated(home)
    }

    /// Our own, updated first where they are stale or that is `wanted`.
    pub(super) fn own(home: &Path, wanted: bool) -> Result<Self, AptError> {
        let own = home.join("lists");
        if !wanted && fresh(&own) {
            return Ok(Self::Own { dir: own, update: false });
        }
        Self::own_updated(home)
    }

    /// Our own, to be updated first.
    pub(super) fn own_updated(home: &Path) -> Result<Self, AptError> {
        let dir = home.join("lists");
        create_dir(&dir.join("partial"))?;
        Ok(Self::Own { dir, update: true })
    }

    /// Our own as they are: for what needs none.
    pub(super) fn kept(home: &Path) -> Self {
        Self::Own { dir: home.join("lists"), update: false }
    }

    pub(super) fn must_update(&self) -> bool {
        matches!(self, Self::Own { update: true, .. })
    }

    pub(super) fn updated(&mut self) {
        if let Self::Own { dir, update } = self {
            *update = false;
            // apt dates its files as the server does; our stamp dates the update. Beside the folder: apt
            // removes from it what it does not know.
            let _ = fs::write(sibling(dir, "updated"), "");
        }
    }

    /// A download that failed may work with lists that are updated now.
    pub(super) fn could_be_fresher(&self) -> bool {
        match self {
            Self::System(_) => true,
            Self::Own { dir, .. } => {
                age(&sibling(dir, "updated")).is_none_or(|a| a > Duration::from_secs(60))
            }
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Self::System(dir) | Self::Own { dir, .. } => dir,
        }
    }
}

fn age(path: &Path) -> Option<Duration> {
    let modified = fs::metadata(path).and_then(|m| m.modified()).ok()?;
    SystemTime::now().duration_since(modified).ok()
}

/// Whether a folder holds package lists, and they were fetched lately.
fn fresh(dir: &Path) -> bool {
    let names: Vec<PathBuf> =
        fs::read_dir(dir).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    let has = |part: &str| names.iter().any(|n| n.to_string_lossy().contains(part));
    has("_Packages") && names.iter().filter_map(|n| age(n)).min().is_some_and(|a| a < FRESH)
}

fn system_lists() -> Result<PathBuf, AptError> {
    let mut command = Command::new("apt-config");
    let output = run(command.args(["shell", "DIR", "Dir::State::lists/d"]), "apt-config")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = text.trim().strip_prefix("DIR=").unwrap_or_default();
    Ok(PathBuf::from(value.trim_matches('\'')))
}

/// Sources other than the system's.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    /// The lines of a `sources.list`.
    pub(super) lines: &'a str,
    /// Debian's names of the machines that packages are wanted for; none for this one.
    pub(super) architectures: &'a [String],
}

/// Writes the configuration and returns the file for `APT_CONFIG`.
pub(super) fn write(home: &Path, lists: &Lists, sources: Option<&Sources<'_>>) -> Result<PathBuf, AptError> {
    let dump = run(Command::new("apt-config").arg("dump"), "apt-config")?;
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    let (state, cache, status) = (home.join("state"), home.join("cache"), home.join("status"));
    create_dir(&state)?;
    create_dir(&cache)?;
    fs::write(&status, "").map_err(AptError::io("write", &status))?;

    let mut text: String = dump.lines().filter(|l| keeps(l)).flat_map(|l| [l, "\n"]).collect();
    for (key, path) in [
        // The dump above is the whole configuration: its parts must not be read, nor hooks run, twice.
        ("Dir::Etc::parts", Path::new("/dev/null")),
        ("Dir::Etc::main", Path::new("/dev/null")),
        ("Dir::State", &state),
        ("Dir::State::lists", lists.dir()),
        ("Dir::State::status", &status),
        ("Dir::Cache", &cache),
        ("Dir::Log", home),
    ] {
        text.push_str(&format!("{key} \"{}\";\n", path.display()));
    }
    if let Some(sources) = sources {
        let list = home.join("sources.list");
        fs::write(&list, sources.lines).map_err(AptError::io("write", &list))?;
        // Some systems keep no index of the lists; without it every question reads them all.
        text.push_str(
            "Dir::Cache::pkgcache \"pkgcache.bin\";\nDir::Cache::srcpkgcache \"srcpkgcache.bin\";\n",
        );
        text.push_str("Dir::Etc::sourceparts \"/dev/null\";\n");
        text.push_str(&format!("Dir::Etc::sourcelist \"{}\";\n", list.display()));
        if !sources.architectures.is_empty() {
            text.push_str("#clear APT::Architectures;\n");
        }
        for arch in sources.architectures {
            text.push_str(&format!("APT::Architectures:: \"{arch}\";\n"));
        }
    }
    let file = home.join("apt.conf");
    fs::write(&file, text).map_err(AptError::io("write", &file))?;
    Ok(file)
}

/// Whether a line of the system's configuration is taken over.
fn keeps(line: &str) -> bool {
    let hook = line.starts_with("APT::Update::") || line.starts_with("DPkg::") || line.contains("-Invoke");
    let replaced = ["Dir::Etc::parts ", "Dir::Etc::main ", "Dir::State::status "];
    !hook && !replaced.iter().any(|key| line.starts_with(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn hooks_are_left_out_and_proxies_kept() {
        assert!(!keeps("DPkg::Post-Invoke:: \"rm -f /var/cache/apt/archives/*.deb\";"));
        assert!(!keeps("APT::Update::Post-Invoke-Success:: \"something\";"));
        assert!(!keeps("Dir::Etc::parts \"apt.conf.d\";"));
        assert!(keeps("Acquire::http::Proxy \"http://127.0.0.1:3142\";"));
        assert!(keeps("Dir::Etc::sourceparts \"sources.list.d\";"));
    }

    #[test]
    fn lists_without_packages_are_not_fresh() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!fresh(dir.path()));
        fs::write(dir.path().join("a_InRelease"), "").unwrap();
        assert!(!fresh(dir.path()));
        fs::write(dir.path().join("a_main_binary-amd64_Packages.lz4"), "").unwrap();
        assert!(fresh(dir.path()));
        assert!(!fresh(&dir.path().join("nothing")));
    }
}
