//! The agent while it has the rights that it was started with, and how it gives them up.
//!
//! Whatever needs them is done here, before there is a thread or a connection: the folder is locked and laid out, the
//! machine is tried, keys and credentials are read. Then a monitor is left behind that can start helpers, and what goes on
//! is a user without rights.
//!
//! ```text
//! data/                 root's, and the agent's to make files in; sticky, so that it cannot move what is root's
//!   lock, *.key         root's: the agent has the keys in memory, and cannot make itself another device
//!   containers/         shims'; the agent reads what containers left
//!   images/layers work  helpers'; the agent reads layers
//!   anything else       the agent's
//! state/                shims' sockets and settings; the agent speaks to them
//! ```

mod machine;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sosna_host::{
    file::{self, FileError},
    token::JoinToken,
};
use sosna_layers::RegistryAuth;
use sosna_privsep::{
    Charge, Confinement, Launcher, Monitor, SeparateError, User, confine, drop_code_pages, end_all_of, give,
};
use sosna_protocol::{Address, hash::sha256, topic::shard_of};
use sosna_runtime::{RuntimeConfig, Sources};

pub use machine::MachineClock;

use crate::{
    config::{AgentConfig, ContainersConfig, ValueError},
    device::{self, DeviceError},
    identity::{FolderLock, KEY_FILES, Keys},
    room::Ballast,
    run::{AgentError, Options},
    system::System,
};

/// How many users there are that agents become, as a power of two.
const USER_BITS: u32 = 20;

/// The first of them: below what the unpacker and containers are, above what people and services have.
const FIRST_USER: u32 = (1 << 30) - 1 - (1 << USER_BITS);

/// What was laid down with all rights, and what it takes to give them up.
#[derive(Debug)]
pub struct Prepared {
    laid: Laid,
    lock: FolderLock,
    system: System,
    user: Option<User>,
    /// Why it becomes nobody else, where that is so.
    stays: Option<String>,
}

/// What an agent goes on with.
#[derive(Debug)]
pub(crate) struct Laid {
    pub(crate) config: AgentConfig,
    pub(crate) join: Option<JoinToken>,
    pub(crate) keys: Keys,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) credentials: HashMap<String, RegistryAuth>,
    pub(crate) containers: sosna_runtime::Prepared,
    pub(crate) images: sosna_layers::Prepared,
}

/// An agent that is ready to serve.
#[derive(Debug)]
pub struct Started {
    pub(crate) laid: Laid,
    pub(crate) launcher: Launcher,
    /// Walls that stand around the agent itself.
    pub(crate) walls: Vec<String>,
    /// Those that do not, and why.
    pub(crate) missing: Vec<String>,
}

/// Becomes the helper that this process was started as; returns at once where it was not. Call it first in `main`.
pub fn run_if_requested() {
    sosna_runtime::shim::run_if_requested();
    sosna_layers::helper::run_if_requested();
    machine::run_if_requested();
}

/// Does all that needs rights. What can be wrong on this machine is told before the hub is asked for anything. Blocks.
///
/// # Errors
/// [`AgentError`].
pub fn prepare(options: Options) -> Result<Prepared, AgentError> {
    let Options { mut config, join } = options;
    let lock = FolderLock::take_soon(&config.data)?;
    // Without links on the way, which the agent might not pass.
    config.data = config.data.canonicalize().map_err(FileError::of("find", &config.data))?;
    let data = config.data.clone();
    // Where not even a key could be written.
    Ballast::of(&data).spend_if_full();
    let keys = Keys::load_or_create(&data)?;
    let join = join.map_or_else(|| read_token(&config.join_file), |join| Ok(Some(join)))?;
    let credentials = read_credentials(&config.registry.credentials)?;
    let system = System::new(&config.system);
    let labels = system.labels();

    let state = state_folder(&config, &keys.device())?;
    let (user, stays) = alone(user_for([&data, &state], &keys.device())?)?;
    let images = sosna_layers::Prepared::new(&data.join("images"), user, None)?;
    let mut settings = RuntimeConfig::new(data.join("containers"), state.clone());
    (settings.uid_base, settings.uid_count) = containers_users(&config.containers, &keys.device())?;
    settings.reader = user.map(|user| user.0);
    settings.sources = Some(Sources { layers: images.layers(), inputs: data.join("content") });
    settings.most = Some(device::most(&config)?);
    let containers = sosna_runtime::Prepared::new(settings)?;
    if let Some(user) = user {
        hand_over(&data, &state, user).map_err(FileError::of("hand over", &data))?;
    }
    system.make_told(user)?;
    let laid = Laid { config, join, keys, labels, credentials, containers, images };
    Ok(Prepared { laid, lock, system, user, stays })
}

// === impl Prepared ===

impl Prepared {
    /// Leaves the monitor behind and gives up all rights, for good. The process must have one thread.
    ///
    /// # Errors
    /// [`AgentError::Separate`].
    pub fn separate(self) -> Result<Started, AgentError> {
        let Self { laid, lock, system, user, stays } = self;
        let told = system.told();
        let mut helpers = laid.containers.helpers();
        helpers.extend(laid.images.helpers());
        helpers.extend(told.is_some().then(machine::helper));
        let charge = Charge { user, kept: vec![lock.into()] };
        let launcher = Monitor::new(helpers).map_err(SeparateError::System)?.separate(charge)?;
        let faults = sosna_fault::folders();
        let writes = std::iter::once(laid.config.data.as_path()).chain(told.as_deref());
        let writes: Vec<&Path> = writes.chain(faults.iter().map(PathBuf::as_path)).collect();
        let walls = confine(&Confinement { user, writes: &writes });
        let stays = stays.iter().map(|why| ("a user of its own", why));
        let missing = stays.chain(walls.missing.iter().map(|(wall, why)| (*wall, why)));
        let missing: Vec<_> = missing.map(|(wall, why)| format!("{wall} for the agent: {why}")).collect();
        // One word where all stand; where some do not, the others are named.
        let walls = missing.is_empty().then(|| "an agent without rights".to_owned()).into_iter().collect();
        // Becoming another user makes a process readable to that user's others again.
        sosna_host::memory::keep_private().map_err(SeparateError::System)?;
        // Little of what it took to get here is needed again.
        drop_code_pages();
        Ok(Started { laid, launcher, walls, missing })
    }
}

/// Nobody of the agent's user is to have what is handed over but the agent that starts now.
fn alone(
    (user, stays): (Option<User>, Option<String>),
) -> Result<(Option<User>, Option<String>), AgentError> {
    let Some(user) = user else { return Ok((None, stays)) };
    match end_all_of(user) {
        Ok(()) => Ok((Some(user), stays)),
        Err(source) if source.kind() == io::ErrorKind::TimedOut => {
            Err(AgentError::LeftBehind { user: user.0, source })
        }
        Err(error) => Ok((None, Some(format!("user {} cannot be become: {error}", user.0)))),
    }
}

/// Who the agent becomes: nobody else where it is not root; and why nobody else where it is.
fn user_for(folders: [&Path; 2], device: &Address) -> Result<(Option<User>, Option<String>), AgentError> {
    if !nix::unistd::geteuid().is_root() {
        let reason = "an ordinary user cannot become another; what its helpers do is not held either";
        return Ok((None, Some(reason.to_owned())));
    }
    // Not by the device alone: a copy of its folder is the same device, and another agent.
    let own = sha256(&[&device.0[..], folders[0].as_os_str().as_encoded_bytes()].concat());
    let [a, b, c, d, ..] = own.0;
    let user = User(FIRST_USER + (u32::from_be_bytes([a, b, c, d]) >> (32 - USER_BITS)));
    if !is_mapped(user) {
        return Ok((None, Some(format!("user {} is not mapped in this user namespace", user.0))));
    }
    for folder in folders {
        if !user.reaches(folder).map_err(FileError::of("look at the folders above", folder))? {
            let closed = format!(
                "a folder above {} is closed to other users; open it with chmod o+x, or choose another",
                folder.display()
            );
            return Ok((None, Some(closed)));
        }
    }
    Ok((Some(user), None))
}

/// Which users containers are: the first, and how many. Not agents themselves, whose processes are ended by their user,
/// and not the unpacker.
fn containers_users(settings: &ContainersConfig, device: &Address) -> Result<(u32, u32), DeviceError> {
    let count = settings.uid_count;
    let first = match settings.uid_base {
        0 => (1 << 30) + (u32::from(shard_of(device)) << 22),
        set => set,
    };
    let last = (u64::from(first) + u64::from(count)).saturating_sub(1);
    let (taken_first, taken_last) = (FIRST_USER, (1 << 30) - 1);
    if first <= taken_last && last >= u64::from(taken_first) {
        return Err(ValueError::Users { first, last, taken_first, taken_last }.into());
    }
    Ok((first, count))
}

fn is_mapped(user: User) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map_while(|text| text.parse::<u64>().ok());
        let (first, length) = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
        (first..first.saturating_add(length)).contains(&u64::from(user.0))
    })
}

/// A folder that no other agent on this machine has: by the device's name, or within its data. Made where it is missing.
fn state_folder(config: &AgentConfig, device: &Address) -> Result<PathBuf, FileError> {
    let is_root = nix::unistd::geteuid().is_root();
    let set = &config.containers.state;
    let folder = if set.as_os_str().is_empty() {
        let base = if is_root {
            Some(PathBuf::from("/run"))
        } else {
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        };
        // Never in a folder that everybody may write to.
        match base.map(|base| base.join("sosna-agent")) {
            None => config.data.join("state"),
            Some(base) => {
                file::create_folder(&base)?;
                if is_root {
                    // To pass through, not to list.
                    let open = fs::set_permissions(&base, fs::Permissions::from_mode(0o711));
                    open.map_err(FileError::of("open", &base))?;
                }
                base.join(&device.to_string()[..16])
            }
        }
    } else {
        set.clone()
    };
    if let Some(above) = folder.parent() {
        file::create_folder(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(FileError::of("make the folder", &folder)(error));
        }
        _ => {}
    }
    folder.canonicalize().map_err(FileError::of("find", &folder))
}

/// Gives the agent's user what is the agent's, also what a command has made meanwhile.
fn hand_over(data: &Path, state: &Path, user: User) -> io::Result<()> {
    let is_of_root = |name: &OsStr| {
        ["lock", "containers", "images"].into_iter().chain(KEY_FILES).any(|of_root| name == of_root)
    };
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if !is_of_root(&entry.file_name()) && !state.starts_with(entry.path()) {
            give(&entry.path(), user)?;
        }
    }
    chown(data, Some(0), Some(user.0))?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o1770))
}

fn read_token(path: &Path) -> Result<Option<JoinToken>, AgentError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let Some(text) = file::read_if_there(path)? else { return Ok(None) };
    let parsed = String::from_utf8_lossy(&text).trim().parse();
    parsed.map(Some).map_err(|source| AgentError::Token { path: path.display().to_string(), source })
}

fn read_credentials(path: &Path) -> Result<HashMap<String, RegistryAuth>, AgentError> {
    #[derive(Deserialize)]
    struct Entry {
        username: String,
        password: String,
    }
    if path.as_os_str().is_empty() {
        return Ok(HashMap::new());
    }
    let text = fs::read(path).map_err(FileError::of("read", path))?;
    let entries: HashMap<String, Entry> = serde_json::from_slice(&text)
        .map_err(|source| AgentError::Credentials { path: path.display().to_string(), source })?;
    let auth = |entry: Entry| RegistryAuth::Basic { username: entry.username, password: entry.password };
    Ok(entries.into_iter().map(|(host, entry)| (host, auth(entry))).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn containers_are_nobody_that_agents_are() {
        let device = Address([255; 20]);
        let with = |uid_base, uid_count| {
            let settings = ContainersConfig { uid_base, uid_count, ..ContainersConfig::default() };
            containers_users(&settings, &device)
        };
        assert_eq!(with(0, 1 << 22).unwrap(), ((1 << 30) + (u32::from(shard_of(&device)) << 22), 1 << 22));
        assert_eq!(with(FIRST_USER - 65_536, 65_536).unwrap().0, FIRST_USER - 65_536);
        assert_eq!(with(1 << 30, 65_536).unwrap().0, 1 << 30);
        for (first, count) in
            [(FIRST_USER - 65_536, 65_537), (FIRST_USER, 65_536), ((1 << 30) - 1, 1), (1, u32::MAX)]
        {
            let refused = with(first, count).unwrap_err().to_string();
            assert!(refused.contains("containers.uid_base"), "{refused}");
        }
    }
}
