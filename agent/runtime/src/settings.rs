//! What is laid down for all containers before the rights are given up: folders, ranges, walls, where layers and inputs
//! may come from. Shims read it from a file that is root's, and never from whoever asks for a container.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sosna_privsep::{Helper, check_own, this_program_as};

use crate::{
    durable,
    enforcement::Enforcement,
    error::{At, Result, RuntimeError},
    shim,
    spec::{ContainerId, ContainerSpec, Limits},
    uids::{Ranges, WIDTH},
};

/// The file in the state folder.
const FILE: &str = "settings.json";

/// Where the runtime keeps what, and how much it may use.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// For task folders, formatted disk images, compiled filters and who has which user ids; survives a reboot.
    pub data_dir: PathBuf,
    /// For the sockets of running shims; best on a tmpfs such as `/run`.
    pub state_dir: PathBuf,
    /// First host user id that containers may have. Two agents on one machine need ranges that do not overlap.
    pub uid_base: u32,
    /// How many ids from there on; each container takes 65,536.
    pub uid_count: u32,
    /// How long the making of a container may take.
    pub create_timeout: Duration,
    /// The group that may read what containers leave and speak to their shims, where the agent is another user than they.
    pub reader: Option<u32>,
    /// Where layers and inputs must come from; from anywhere where that is not said.
    pub sources: Option<Sources>,
    /// What no container may have more of; whatever it asks for where that is not said.
    pub most: Option<Limits>,
}

impl RuntimeConfig {
    /// The usual numbers: ids from 2^30 for 1024 containers at a time (far above what systems give to people and
    /// services), and half a minute to make a container.
    #[must_use]
    pub fn new(data_dir: PathBuf, state_dir: PathBuf) -> Self {
        Self {
            data_dir,
            state_dir,
            uid_base: 1 << 30,
            uid_count: WIDTH * 1024,
            create_timeout: Duration::from_secs(30),
            reader: None,
            sources: None,
            most: None,
        }
    }
}

/// The folders that an agent without rights may name things of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Layers are folders in this one, which only root writes to.
    pub layers: PathBuf,
    /// Inputs are files below this one, and of its owner.
    pub inputs: PathBuf,
}

/// What shims go by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) uid_base: u32,
    pub(crate) uid_ranges: u32,
    pub(crate) create_timeout: Duration,
    pub(crate) sources: Option<Sources>,
    pub(crate) most: Option<Limits>,
    /// What control groups have in their names, so that nobody's word for a container reaches another agent's.
    pub(crate) owner: String,
    pub(crate) enforcement: Enforcement,
}

/// A runtime whose folders are there and whose machine is known.
#[derive(Clone, Debug)]
pub struct Prepared(pub(crate) Settings);

// === impl Prepared ===

impl Prepared {
    /// Prepares the folders, and finds out what this machine enforces by trying it in a process of its own (some
    /// tens of milliseconds; blocks). With the rights that shims are to have.
    ///
    /// # Errors
    /// When a folder cannot be made or this program cannot be started as its own shim (its `main` must call
    /// [`shim::run_if_requested`] first).
    pub fn new(config: RuntimeConfig) -> Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path).at("find", path);
        let (data_dir, state_dir) = (absolute(&config.data_dir)?, absolute(&config.state_dir)?);
        let scratch = data_dir.join("scratch");
        for folder in [&data_dir.join("tasks"), &scratch, &state_dir] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).at("create", folder)?;
        }
        for folder in [&data_dir, &data_dir.join("tasks"), &scratch, &state_dir] {
            check_own(folder).at("use", folder)?;
        }
        if let Some(group) = config.reader {
            open_to(&data_dir, group, 0o750)?;
            for folder in [&data_dir.join("tasks"), &state_dir] {
                // What is made in it is the group's too.
                open_to(folder, group, 0o2750)?;
            }
        }
        // No two folders of a machine are the same file.
        let found = fs::metadata(&data_dir).at("look at", &data_dir)?;
        let settings = Settings {
            owner: format!("{:x}-{:x}", found.dev(), found.ino()),
            most: config.most,
            enforcement: probe(&scratch)?,
            data_dir,
            state_dir,
            uid_base: config.uid_base,
            uid_ranges: config.uid_count / WIDTH,
            create_timeout: config.create_timeout,
            sources: config.sources,
        };
        settings.write()?;
        Ok(Self(settings))
    }

    /// What a monitor must know, so that there can be containers.
    #[must_use]
    pub fn helpers(&self) -> Vec<Helper> {
        let helper = |name| Helper {
            name,
            argv0: shim::ARGV0,
            arguments: vec![name.into(), self.0.state_dir.clone().into()],
            // Containers outlive the agent, and what clears up after them goes to its end.
            ends_with_caller: false,
            // As many as there are ranges of ids, and a rootless agent has none.
            most: usize::try_from(self.0.uid_ranges).unwrap_or(usize::MAX).clamp(64, 4096),
        };
        [shim::RUN, shim::SETTLE, shim::REMOVE].map(helper).into()
    }
}

// === impl Settings ===

impl Settings {
    fn write(&self) -> Result<()> {
        let path = self.state_dir.join(FILE);
        let text = serde_json::to_vec(self)
            .map_err(|source| RuntimeError::Damaged { path: path.clone(), source })?;
        durable::replace(&path, &text, 0o600).at("write", path)
    }

    pub(crate) fn read(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join(FILE);
        let text = fs::read(&path).at("read", &path)?;
        serde_json::from_slice(&text).map_err(|source| RuntimeError::Damaged { path, source })
    }

    /// A container's folder.
    pub(crate) fn task_dir(&self, id: &ContainerId) -> PathBuf {
        self.data_dir.join("tasks").join(id.as_str())
    }

    /// The name of its control groups, below [`cgroup::PARENT`](crate::cgroup::PARENT).
    pub(crate) fn group_of(&self, id: &ContainerId) -> String {
        format!("{id}.{}", self.owner)
    }

    /// Whether a container may be what was asked for.
    pub(crate) fn check(&self, spec: &ContainerSpec) -> Result<()> {
        spec.validate()?;
        match self.most.as_ref().and_then(|most| spec.limits.over(most)) {
            Some(what) => Err(RuntimeError::BadSpec {
                field: "limits",
                problem: format!("more {what} than the device lends"),
            }),
            None => Ok(()),
        }
    }

    /// The folder of its shim's socket.
    pub(crate) fn state_of(&self, id: &ContainerId) -> PathBuf {
        self.state_dir.join(id.as_str())
    }

    /// Who has which ids.
    pub(crate) fn ranges(&self) -> Ranges {
        Ranges::new(self.data_dir.join("uids"), self.uid_base, self.uid_ranges)
    }

    /// All containers that have a folder.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let tasks = self.data_dir.join("tasks");
        let entries = fs::read_dir(&tasks).at("read", &tasks)?;
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|n| ContainerId::new(n).ok()).collect())
    }
}

/// Opens a folder of ours to a group; when it was another's, what is in it first, so that what was interrupted is done
/// again.
fn open_to(folder: &Path, group: u32, mode: u32) -> Result<()> {
    let was = fs::symlink_metadata(folder).at("look at", folder)?.gid();
    if was != group && mode & 0o2000 != 0 {
        for entry in fs::read_dir(folder).at("read", folder)? {
            let entry = entry.at("read", folder)?;
            let (path, kind) = (entry.path(), entry.file_type().at("look at", folder)?);
            if kind.is_dir() {
                open_to(&path, group, mode)?;
            } else if kind.is_file() {
                set(&path, group, 0o640)?;
            }
        }
    }
    set(folder, group, mode)
}

fn set(path: &Path, group: u32, mode: u32) -> Result<()> {
    chown(path, None, Some(group)).at("set the group of", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the permissions of", path)
}

fn probe(scratch: &Path) -> Result<Enforcement> {
    let failed = |problem: String| RuntimeError::Shim {
        id: "(probe)".into(),
        problem,
        log: PathBuf::from("this program's stderr"),
    };
    // No container is near it: the file itself will do.
    let output = this_program_as(shim::ARGV0)
        .arg(shim::PROBE)
        .arg(scratch)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e: io::Error| failed(format!("could not be started: {e}")))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|e| failed(format!("did not say what this machine enforces ({}, {e})", output.status)))
}
