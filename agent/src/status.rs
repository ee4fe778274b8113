//! What a person asks a device: who it is, whose, how its work and its earnings stand. A running agent answers over a
//! socket in its data folder; of one that does not run, the files tell.

use std::{
    io::{self, Read as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sosna_host::{
    clock::Clock as _,
    file::FileError,
    identity::{IdentityError, IdentityKey},
};
use sosna_protocol::{Address, Amount, identity::Sign as _, message::pay::Statement, resources::Resources};
use tokio::{io::AsyncWriteExt as _, net::UnixListener};

use crate::{
    device,
    identity::{Enrolment, EnrolmentError, FolderLock, LockError, key_path},
    node::Node,
    store::{
        Store, StoreError,
        record::{PayoutLine, State, TaskRecord},
    },
    task::{Engine, phase},
    wallet::{payee, reader::WalletReport},
};

/// The answer to `sosna-agent status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The agent's version.
    pub agent: String,
    /// Whether an agent is running.
    pub running: bool,
    /// The device's name; none before its first start.
    pub device: Option<String>,
    /// Architecture and level.
    pub class: String,
    /// Its hub, if it is enrolled.
    pub hub: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
    /// Whether the hub has welcomed it on a session that stands.
    pub connected: bool,
    /// When its certificate ends, milliseconds since 1970.
    pub certificate_until_ms: Option<u64>,
    /// The device's clock, milliseconds since 1970; none while nobody has told it the time.
    pub time_ms: Option<u64>,
    /// What it lends; only a running agent knows.
    pub lent: Option<Room>,
    /// What of it is free.
    pub free: Option<Room>,
    /// Which walls stand around each task here; only a running agent knows.
    #[serde(default)]
    pub walls: Vec<String>,
    /// What does not hold here.
    pub missing_limits: Vec<String>,
    /// Assignments that are not over.
    pub tasks: Vec<TaskReport>,
    /// What it has earned.
    pub earnings: Earnings,
    /// What the chain says of the hub's wallet; only a running agent knows, and none where no chain is concerned.
    #[serde(default)]
    pub wallet: Option<WalletReport>,
    /// Messages that the hub has not acknowledged.
    pub waiting_messages: u64,
    /// Frames that were refused since the start: forged, replayed, unknown.
    pub refused_frames: u64,
    /// Bytes of memory that the running agent takes: its share of all pages (PSS).
    #[serde(default)]
    pub memory: Option<u64>,
}

/// An amount of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
}

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its name.
    pub assignment: String,
    /// How far it is.
    pub phase: String,
    /// What will be owed for it, in SNM.
    pub price: String,
}

/// Earnings, in SNM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// All that the hub has signed for.
    pub voucher: String,
    /// The voucher itself, for whoever wants to check it: EIP-712, for this device.
    #[serde(default)]
    pub signed: Option<Signed>,
    /// Accepted work in no voucher yet.
    pub uncovered: String,
    /// Work that is not judged yet.
    pub open: String,
    /// To whom a payout goes.
    pub payout_to: Option<String>,
    /// What roots on the chain commit to this device, each with the way up that proves it.
    #[serde(default)]
    pub lines: Vec<PayoutLine>,
}

/// The best voucher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The chain; 0 for none.
    pub chain_id: u64,
    /// The hub's wallet there, or the hub itself.
    pub wallet: String,
    /// The amount in units of 10^-18 SNM, decimal.
    pub units: String,
    /// The root of the receipts that it was the first to cover.
    pub receipts: String,
    /// The hub's signature, hexadecimal.
    pub signature: String,
}

impl Signed {
    fn of(statement: &Statement) -> Self {
        Self {
            chain_id: statement.chain_id,
            wallet: statement.wallet.checksummed().as_str().to_owned(),
            units: statement.cumulative.units().to_string(),
            receipts: statement.receipts.to_string(),
            signature: statement.signature.to_string(),
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The folder is not there.
    #[error("there is no agent's data in {path}; name the folder with --data")]
    NoData {
        /// The folder.
        path: String,
    },
    /// A running agent does not answer.
    #[error("the agent that runs on {path} does not answer")]
    Silent {
        /// The folder.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The enrolment.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder's lock.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Where a running agent listens.
#[must_use]
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("agent.sock")
}

/// Answers for as long as the agent lives.
pub(crate) async fn serve(engine: Arc<Engine>) {
    let path = socket_path(&engine.node.data);
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("`status` will read files: cannot listen on {}: {error}", path.display());
            return;
        }
    };
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        match running(&engine) {
            Ok(report) => {
                let mut line = serde_json::to_vec(&report).expect("texts and numbers are JSON");
                line.push(b'\n');
                let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&line)).await;
            }
            Err(error) => tracing::warn!("status: {}", sosna_host::report::line(&error)),
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // The folder is locked: what is left there is of an agent that is gone.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn running(engine: &Engine) -> Result<Report, StatusError> {
    let node = &engine.node;
    let tasks = node.store.open_tasks()?;
    let mut report = of_store(&node.store, &tasks)?;
    let enrolment = node.enrolment();
    report.running = true;
    report.device = Some(checksummed(&node.device));
    report.connected = node.is_connected();
    report.time_ms = node.clock.trusted_ms().or_else(|| Some(node.clock.now_ms()));
    let lent = node.offer().lent.resources;
    report.lent = Some(room(&lent));
    report.free = Some(room(&lent.minus(&Node::taken(&tasks))));
    report.walls.clone_from(&node.walls);
    report.missing_limits.clone_from(&node.missing_limits);
    report.wallet = node.reader.report(&node.hub, &node.store.held()?);
    report.refused_frames = node.refused_frames();
    report.memory = device::own_memory();
    of_enrolment(&mut report, &enrolment);
    Ok(report)
}

fn of_store(store: &Store, tasks: &[TaskRecord]) -> Result<Report, StatusError> {
    let (exposure, proven) = (store.exposure()?, store.held()?);
    let held = store.voucher()?;
    let voucher = held.map_or(Amount::ZERO, |voucher| voucher.cumulative);
    Ok(Report {
        tasks: tasks.iter().filter(|task| task.is_open()).map(task_report).collect(),
        earnings: Earnings {
            voucher: voucher.to_string(),
            signed: held.as_ref().map(Signed::of),
            uncovered: exposure.uncovered.to_string(),
            open: exposure.open.to_string(),
            payout_to: store.setting(payee::SETTING)?,
            lines: proven.domain.map_or_else(Vec::new, |domain| proven.lines(&domain).to_vec()),
        },
        waiting_messages: store.outbox_length()?,
        ..empty()
    })
}

fn task_report(task: &TaskRecord) -> TaskReport {
    let phase = match task.state {
        State::Revealed => "judged",
        _ => phase(task).word(),
    };
    TaskReport {
        assignment: task.assignment.to_string(),
        phase: phase.to_owned(),
        price: task.price.to_string(),
    }
}

fn of_enrolment(report: &mut Report, enrolment: &Enrolment) {
    report.hub = Some(checksummed(&enrolment.hub));
    report.owner = Some(checksummed(&enrolment.owner));
    report.certificate_until_ms = Some(enrolment.valid_until_ms);
}

fn empty() -> Report {
    Report {
        agent: device::VERSION.to_owned(),
        running: false,
        device: None,
        class: device::class().to_string(),
        hub: None,
        owner: None,
        connected: false,
        certificate_until_ms: None,
        time_ms: None,
        lent: None,
        free: None,
        walls: Vec::new(),
        missing_limits: Vec::new(),
        tasks: Vec::new(),
        earnings: Earnings {
            voucher: Amount::ZERO.to_string(),
            signed: None,
            uncovered: Amount::ZERO.to_string(),
            open: Amount::ZERO.to_string(),
            payout_to: None,
            lines: Vec::new(),
        },
        wallet: None,
        waiting_messages: 0,
        refused_frames: 0,
        memory: None,
    }
}

const fn room(resources: &Resources) -> Room {
    Room { cpu_millis: resources.cpu_millis, memory: resources.memory, disk: resources.disk }
}

fn checksummed(address: &Address) -> String {
    address.checksummed().as_str().to_owned()
}

/// Longer reports are none: the agent has no rights, and the first program of a device asks for one.
const REPORT_BYTES: u64 = 8 << 20;

/// How long an answer may take.
const ANSWERING: Duration = Duration::from_secs(10);

/// How long an agent that starts may take until it answers.
const STARTING: Duration = Duration::from_secs(5);

/// Asks the agent of a data folder, or reads its files where none is running.
///
/// # Errors
/// [`StatusError`].
pub fn ask(data: &Path) -> Result<Report, StatusError> {
    let no_data = || StatusError::NoData { path: data.display().to_string() };
    let until = Instant::now() + STARTING;
    let (key, _lock) = loop {
        match ask_running(data) {
            Err(StatusError::Silent { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            answered => return answered,
        }
        if !data.is_dir() {
            return Err(no_data());
        }
        let key = IdentityKey::load(&key_path(data))?.ok_or_else(no_data)?;
        match FolderLock::take(data) {
            Ok(lock) => break (key, lock),
            // It is starting, and answers in a moment.
            Err(LockError::Held { .. }) if Instant::now() < until => std::thread::sleep(STARTING / 50),
            Err(error) => return Err(error.into()),
        }
    };
    let mut report = if data.join("agent.redb").exists() {
        let store = Store::open(data, key.clone())?;
        let tasks = store.open_tasks()?;
        of_store(&store, &tasks)?
    } else {
        empty()
    };
    report.device = Some(checksummed(&key.address()));
    if let Some(enrolment) = Enrolment::load(data)? {
        of_enrolment(&mut report, &enrolment);
    }
    Ok(report)
}

/// Asks the running agent of a data folder, and never opens its files.
///
/// # Errors
/// [`StatusError::Silent`].
pub fn ask_running(data: &Path) -> Result<Report, StatusError> {
    let silent = |source| StatusError::Silent { path: data.display().to_string(), source };
    let stream = UnixStream::connect(socket_path(data)).map_err(silent)?;
    let text = read_all(&stream, REPORT_BYTES, ANSWERING).map_err(silent)?;
    serde_json::from_slice(&text).map_err(|error| silent(io::Error::from(error)))
}

/// What somebody says, whole, in so long altogether: whoever says a little now and then keeps nobody waiting.
fn read_all(stream: &UnixStream, most: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let mut text = Vec::new();
    let mut stream = stream.take(most);
    loop {
        // No time at all would be for ever.
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.get_ref().set_read_timeout(Some(left))?;
        let mut piece = [0; 8192];
        match stream.read(&mut piece) {
            Ok(0) => return Ok(text),
            Ok(length) => text.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Without what a terminal would obey: an agent that was taken over says nothing to it.
fn plain(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '\u{fffd}' } else { one }).collect()
}

// === impl Report ===

impl Report {
    /// What the device has earned and where that goes, for people.
    #[must_use]
    pub fn wallet(&self) -> String {
        let device = self.device.as_deref().unwrap_or_default();
        let earnings = &self.earnings;
        let to = earnings.payout_to.as_deref().unwrap_or(device);
        let signed = format!("{} SNM", earnings.voucher);
        let unsigned = format!("{} SNM accepted, {} SNM open", earnings.uncovered, earnings.open);
        let lines = [("address", device), ("signed for", &signed), ("not yet", &unsigned), ("payout to", to)];
        lines.iter().map(|(name, value)| format!("{name:<12}{}\n", plain(value))).collect()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name:<14}{}", plain(value));
        };
        let or_none = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
        line("device", &or_none(&self.device, "no key yet"));
        line("agent", &format!("{}, {}", self.agent, self.class));
        line("hub", &or_none(&self.hub, "not enrolled; start the agent with --join TOKEN"));
        if self.hub.is_some() {
            line("owner", &or_none(&self.owner, "unknown"));
        }
        let health = match (self.running, self.connected) {
            (false, _) => "not running; this is what its files say",
            (true, true) => "connected",
            (true, false) => "running, without a session; see its log",
        };
        line("health", health);
        if let (Some(lent), Some(free)) = (self.lent, self.free) {
            let of = |millis: u32| format!("{}.{}", millis / 1000, millis % 1000 / 100);
            line("cores", &format!("{} free of {}", of(free.cpu_millis), of(lent.cpu_millis)));
            line("memory", &format!("{} MiB free of {}", free.memory >> 20, lent.memory >> 20));
            line("disk", &format!("{} MiB free of {}", free.disk >> 20, lent.disk >> 20));
        }
        if !self.walls.is_empty() {
            line("enforced", &self.walls.join(", "));
        }
        for missing in &self.missing_limits {
            line("not enforced", missing);
        }
        line("signed for", &format!("{} SNM", self.earnings.voucher));
        line(
            "not yet",
            &format!("{} SNM accepted, {} SNM open", self.earnings.uncovered, self.earnings.open),
        );
        if let Some(wallet) = &self.wallet {
            let block = wallet.block.map_or_else(String::new, |block| format!(", at block {block}"));
            line("wallet", &format!("{}: {}{block}", wallet.wallet, wallet.words));
            line("on the chain", &format!("{} SNM paid, {} SNM not covered", wallet.paid, wallet.unbacked));
        }
        if let Some(to) = &self.earnings.payout_to {
            line("payout to", to);
        }
        line("messages", &format!("{} wait for the hub", self.waiting_messages));
        if self.refused_frames > 0 {
            line("refused", &format!("{} frames that were not what they claimed", self.refused_frames));
        }
        for task in &self.tasks {
            line("task", &format!("{}  {:<10}  {} SNM", task.assignment, task.phase, task.price));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn files_tell_of_an_agent_that_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ask(dir.path()), Err(StatusError::NoData { .. })));
        let key = IdentityKey::load_or_create(&key_path(dir.path())).unwrap();
        drop(Store::open(dir.path(), key.clone()).unwrap());
        let report = ask(dir.path()).unwrap();
        assert_eq!(report.device.as_deref(), Some(key.address().checksummed().as_str()));
        assert!(!report.running && report.hub.is_none());
        assert!(report.text().contains("not running"), "{}", report.text());
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn a_report_says_nothing_to_a_terminal() {
        let nasty = "hub\u{1b}[2J\u{9b}31m\nhealth fine".to_owned();
        let report = Report { hub: Some(nasty.clone()), device: Some(nasty), ..empty() };
        for text in [report.text(), report.wallet()] {
            assert!(text.contains("fine"), "{text:?}");
            assert!(!text.chars().any(|one| one.is_control() && one != '\n'), "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("health fine")), "{text}");
        }
    }

    #[test]
    fn whoever_says_a_little_now_and_then_keeps_nobody_waiting() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let drips = std::thread::spawn(move || {
            for _ in 0..200 {
                if io::Write::write_all(&mut theirs, b" ").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let began = Instant::now();
        let error = read_all(&ours, REPORT_BYTES, Duration::from_millis(300)).unwrap_err();
        assert!(
            error.kind() == io::ErrorKind::TimedOut && began.elapsed() < Duration::from_secs(3),
            "{error}"
        );
        drop(ours);
        drips.join().unwrap();
        // And nobody fills memory.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let says = std::thread::spawn(move || io::Write::write_all(&mut theirs, &[b' '; 4096]));
        assert_eq!(read_all(&ours, 1000, Duration::from_secs(5)).unwrap().len(), 1000);
        drop(ours);
        let _ = says.join().unwrap();
    }
}
