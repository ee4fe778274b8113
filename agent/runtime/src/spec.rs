//! What to run: the agent's description of one container. Holds no runtime state and touches no file.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::error::{Result, RuntimeError};

/// The name of a container: `[a-z0-9-]{1,64}`, so that it can be a file, a cgroup and a host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`RuntimeError::BadId`] for anything but 1 to 64 of `a-z`, `0-9` and `-`.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(name)) } else { Err(RuntimeError::BadId(name)) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = RuntimeError;
    fn from_str(s: &str) -> Result<Self> {
        Self::new(s)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = RuntimeError;
    fn try_from(s: String) -> Result<Self> {
        Self::new(s)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

/// Who the program runs as, in the container's own numbering.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default)]
    pub additional: Vec<u32>,
}

/// What a container may use up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time: 1000 is one core.
    pub cpu_millis: u32,
    /// Memory with swap, bytes; page cache and tmpfs of the container count.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes of all that the container writes, outputs included.
    pub disk_bytes: u64,
    /// Files, folders and links that the container makes.
    pub disk_inodes: u64,
    /// Wall-clock time from start to end.
    pub wall: Duration,
    /// Bytes kept of each of stdout and stderr; the rest is read, counted and dropped.
    pub log_bytes: u64,
}

impl Limits {
    /// What of these is more than in the others, in words.
    pub(crate) fn over(&self, most: &Self) -> Option<&'static str> {
        let pairs = [
            ("processor time", u64::from(self.cpu_millis), u64::from(most.cpu_millis)),
            ("memory", self.memory_bytes, most.memory_bytes),
            ("processes", u64::from(self.pids), u64::from(most.pids)),
            ("disk", self.disk_bytes, most.disk_bytes),
            ("files", self.disk_inodes, most.disk_inodes),
            ("output", self.log_bytes, most.log_bytes),
        ];
        let over = pairs.into_iter().find(|(_, asked, most)| asked > most).map(|(what, ..)| what);
        over.or_else(|| (self.wall > most.wall).then_some("time"))
    }
}

/// A file or folder of the host that appears read-only in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub destination: String,
}

/// What of the network a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Network {
    /// Its own loopback only.
    #[default]
    None,
    /// The internet without private ranges and the host. Refused by this build.
    Internet,
}

/// One container: what the agent makes of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name; starting the same name twice with the same content is one container.
    pub id: ContainerId,
    /// Unpacked image layers, bottom first, as overlayfs lower folders.
    pub layers: Vec<PathBuf>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working folder, absolute; made when missing.
    pub cwd: String,
    /// Who it runs as.
    pub user: UserSpec,
    /// What it may use up.
    pub limits: Limits,
    /// What it gets to read.
    pub inputs: Vec<Input>,
    /// Files and folders to keep, as absolute paths in the container. With a read-only root a path that is a
    /// folder in the image stays writable; of another path its parent folder does, and a path directly under the
    /// root is made as a folder. A trailing `/` says "folder".
    pub outputs: Vec<String>,
    /// Its network.
    pub network: Network,
    /// Whether all but outputs, working folder, `/tmp` and `/dev/shm` is read-only.
    pub read_only_root: bool,
    /// Host name; empty for the first 12 characters of the id.
    pub hostname: String,
}

impl ContainerSpec {
    /// Checks what can be checked without the host.
    ///
    /// # Errors
    /// [`RuntimeError::BadSpec`] names the field; [`RuntimeError::NotAvailable`] for [`Network::Internet`].
    pub fn validate(&self) -> Result<()> {
        let bad = |field, problem: &str| Err(RuntimeError::BadSpec { field, problem: problem.to_owned() });
        if self.network != Network::None {
            return Err(RuntimeError::NotAvailable { what: "network access for containers" });
        }
        if self.layers.is_empty() || self.layers.len() > 500 {
            return bad("layers", "there must be 1 to 500 of them");
        }
        match self.args.first() {
            None => return bad("args", "there is no program to run"),
            Some(program) if program.is_empty() => return bad("args", "the program's name is empty"),
            Some(_) => {}
        }
        let texts = self.args.iter().chain(&self.env).chain(&self.outputs);
        if texts.chain([&self.cwd, &self.hostname]).any(|t| t.contains('\0')) {
            return bad("text", "a zero byte cannot be passed to a program");
        }
        if self.env.iter().any(|e| e.find('=').is_none_or(|at| at == 0)) {
            return bad("env", "each entry must be NAME=value");
        }
        if !self.cwd.starts_with('/') {
            return bad("cwd", "it must be an absolute path");
        }
        if self.hostname.len() > 64 {
            return bad("hostname", "it must have at most 64 bytes");
        }
        for path in self.outputs.iter().chain(self.inputs.iter().map(|i| &i.destination)) {
            let plain = path.split('/').skip(1).all(|part| part != "." && part != "..");
            if !path.starts_with('/') || !plain || path.trim_matches('/').is_empty() {
                return bad("inputs and outputs", "paths must be absolute, below '/', without '.' and '..'");
            }
            let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            if ["proc", "sys", "dev"].contains(&top) {
                return bad("inputs and outputs", "nothing can be read from or kept of /proc, /sys and /dev");
            }
        }
        let l = &self.limits;
        if l.cpu_millis < 10 || l.pids == 0 || l.wall.is_zero() || l.disk_inodes < 16 {
            return bad("limits", "at least 10 millicores, 1 process, 16 inodes and some time are needed");
        }
        if l.memory_bytes < 4 << 20 || l.disk_bytes < 64 << 10 {
            return bad("limits", "at least 4 MiB of memory and 64 KiB of disk are needed");
        }
        if i64::try_from(l.memory_bytes).is_err() || l.disk_bytes > 1 << 50 || l.disk_inodes > 1 << 31 {
            return bad("limits", "a limit is larger than any machine");
        }
        Ok(())
    }

    /// The host name that the container gets.
    pub(crate) fn effective_hostname(&self) -> &str {
        if self.hostname.is_empty() { &self.id.0[..self.id.0.len().min(12)] } else { &self.hostname }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> ContainerSpec {
        ContainerSpec {
            id: ContainerId::new("a-1").unwrap(),
            layers: vec!["/layers/0".into()],
            args: vec!["true".into()],
            env: vec!["A=b".into()],
            cwd: "/".into(),
            user: UserSpec::default(),
            limits: Limits {
                cpu_millis: 1000,
                memory_bytes: 64 << 20,
                pids: 32,
                disk_bytes: 8 << 20,
                disk_inodes: 1000,
                wall: Duration::from_secs(10),
                log_bytes: 1 << 20,
            },
            inputs: vec![],
            outputs: vec!["/out".into()],
            network: Network::None,
            read_only_root: true,
            hostname: String::new(),
        }
    }

    #[test]
    fn ids_are_narrow() {
        for good in ["a", "a-0", &"x".repeat(64)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a/b", "..", "a b", &"x".repeat(65)] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
    }

    #[test]
    fn validation_names_the_field() {
        sample().validate().unwrap();
        type Change = fn(&mut ContainerSpec);
        let wrong: [(&str, Change); 9] = [
            ("layers", |s| s.layers.clear()),
            ("args", |s| s.args.clear()),
            ("env", |s| s.env.push("=x".into())),
            ("cwd", |s| s.cwd = "tmp".into()),
            ("outputs", |s| s.outputs = vec!["/a/../b".into()]),
            ("outputs", |s| s.outputs = vec!["/".into()]),
            ("outputs", |s| s.outputs = vec!["/proc/1".into()]),
            ("limits", |s| s.limits.pids = 0),
            ("text", |s| s.args.push("a\0b".into())),
        ];
        for (field, change) in wrong {
            let mut spec = sample();
            change(&mut spec);
            let message = spec.validate().unwrap_err().to_string();
            assert!(message.contains(field), "{field}: {message}");
        }
    }

    #[test]
    fn what_is_over_a_limit_is_named() {
        let most = sample().limits;
        assert_eq!(most.over(&most), None);
        type Change = fn(&mut Limits);
        let more: [(&str, Change); 7] = [
            ("processor time", |l| l.cpu_millis += 1),
            ("memory", |l| l.memory_bytes += 1),
            ("processes", |l| l.pids += 1),
            ("disk", |l| l.disk_bytes += 1),
            ("files", |l| l.disk_inodes += 1),
            ("output", |l| l.log_bytes += 1),
            ("time", |l| l.wall += Duration::from_nanos(1)),
        ];
        for (what, change) in more {
            let mut asked = most.clone();
            change(&mut asked);
            assert_eq!(asked.over(&most), Some(what));
        }
    }

    #[test]
    fn internet_is_refused_by_type() {
        let mut spec = sample();
        spec.network = Network::Internet;
        assert!(matches!(spec.validate(), Err(RuntimeError::NotAvailable { .. })));
    }
}
