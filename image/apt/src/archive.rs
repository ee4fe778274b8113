//! The Debian archive that the system itself uses: other suites of it are read, so that a user's own mirror serves
//! them and no host is named here.

use std::path::Path;
use std::process::Command;

use super::{AptError, run};

/// Keys of Debian's archive, where the system has them as a file of its own.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An archive and the release that the system takes from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Archive {
    /// Its address.
    pub(super) address: String,
    /// The release's code name: `bookworm`.
    pub(super) release: String,
}

impl Archive {
    /// The one that holds the system's own main suite; `wanted` is the suite that it is needed for.
    pub(super) fn of_system(wanted: &str) -> Result<Self, AptError> {
        let mut command = Command::new("apt-get");
        command.args([
            "indextargets",
            "--format",
            "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(CODENAME) $(REPO_URI)",
        ]);
        let output = run(&mut command, "apt-get")?;
        Self::among(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| AptError::Archive { suite: wanted.to_owned() })
    }

    /// The first whose suite is a whole release: updates, security and backports have a dash in their name and may
    /// live elsewhere.
    fn among(targets: &str) -> Option<Self> {
        targets.lines().find_map(|line| {
            let [kind, component, release, name, address] =
                line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            let release = if name.is_empty() { release } else { name };
            (kind == "Packages" && component == "main" && !release.contains('-'))
                .then(|| Self { address: address.to_owned(), release: release.to_owned() })
        })
    }
}

/// A line of a `sources.list`. Without `architectures`, the system's own.
pub(super) fn line(address: &str, suite: &str, components: &str, architectures: &[String]) -> String {
    let mut options = Vec::new();
    if !architectures.is_empty() {
        options.push(format!("arch={}", architectures.join(",")));
    }
    if Path::new(KEYRING).exists() {
        options.push(format!("signed-by={KEYRING}"));
    }
    let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
    format!("deb {options}{address} {suite} {components}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_archive_is_the_one_of_the_systems_release() {
        let text = "Packages main bookworm-security bookworm-security http://a/security/\n\
                    DEP-11 main bookworm bookworm http://b/debian/\nPackages main stable bookworm http://c/debian/\n";
        let found = Archive::among(text).unwrap();
        assert_eq!((found.address.as_str(), found.release.as_str()), ("http://c/debian/", "bookworm"));
        assert_eq!(Archive::among(""), None);
        // Lists that were never fetched have no code name.
        let found = Archive::among("Packages main trixie  http://c/debian/\n").unwrap();
        assert_eq!(found.release, "trixie");
    }

    #[test]
    fn a_line_names_architectures_where_they_are_given() {
        assert!(
            line("http://a/", "x", "main", &["amd64".to_owned(), "arm64".to_owned()])
                .contains("arch=amd64,arm64")
        );
        let own = line("http://a/", "x", "main contrib", &[]);
        assert!(!own.contains("arch=") && own.ends_with(" http://a/ x main contrib\n"), "{own}");
    }
}
