//! A running agent, from its first lock to its last word.

use std::{sync::Arc, time::Duration};

use sosna_host::{
    clock::{Clock as _, SharedClock, SystemClock},
    content::ContentStore,
    file::FileError,
    identity::IdentityError,
    report::Exit,
    token::{JoinToken, TokenError},
};
use sosna_layers::{ImageError, ImageStore, Reach, StoreOptions};
use sosna_privsep::SeparateError;
use sosna_protocol::{Address, identity::AddressError};
use sosna_runtime::{Runtime, RuntimeError};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    clock::DeviceClock,
    config::AgentConfig,
    device::{self, DeviceError},
    identity::{Enrolment, EnrolmentError, KeysError, LockError},
    node::{Node, Offer},
    rights::{Laid, Started},
    room::{self, Ballast},
    status,
    store::{Store, StoreError, record::TaskRecord},
    system::System,
    task::{Engine, container::ContainerRuntime, make_folders},
    uplink::{self, EnrolError, UplinkError, bootstrap::Bootstrap},
    wallet::{
        payee,
        reader::{self, Reader},
    },
};

/// How long receipts are kept after a voucher has covered them, and records of what is over.
const RETENTION_MS: u64 = 30 * 24 * 3_600_000;
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// How often what was needed of the program, for the start or a task, is let go of; what is needed again comes back by a
/// few dozen page faults.
const REST: Duration = Duration::from_secs(10);

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration in force.
    pub config: AgentConfig,
    /// A token to enrol by.
    pub join: Option<JoinToken>,
}

/// Wraps the container runtime.
pub type WrapRuntime = Box<dyn FnOnce(Arc<dyn ContainerRuntime>) -> Arc<dyn ContainerRuntime> + Send>;

/// What a program that is built around this library may replace. The shipped one replaces nothing.
#[derive(Default)]
pub struct Hooks {
    /// Stands between the agent and the runtime.
    pub runtime: Option<WrapRuntime>,
    /// Stands in the place of the machine's clock.
    pub clock: Option<SharedClock>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("runtime", &self.runtime.is_some()).field("clock", &self.clock).finish()
    }
}

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The line to the hub, for good.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The enrolment's file.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The hub does not admit the device.
    #[error("this device cannot be enrolled")]
    Enrol(#[source] EnrolError),
    /// No hub and no token.
    #[error(
        "this device is not enrolled; start it once with --join TOKEN (the hub prints one: `sosna-hub token`)"
    )]
    NotEnrolled,
    /// A token for another hub.
    #[error(
        "this device is enrolled with hub {own}, and the token is for hub {other}; to serve that one too, start \
         another agent with a folder of its own (--data)"
    )]
    OtherHub {
        /// The hub that the device serves.
        own: String,
        /// The token's.
        other: String,
    },
    /// The token's file.
    #[error("the join token in {path} cannot be used")]
    Token {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: TokenError,
    },
    /// The address in the configuration.
    #[error("the setting `payout_to` cannot be used")]
    Payee(#[from] AddressError),
    /// The chain in the configuration.
    #[error("the settings `chain` cannot be used")]
    Chain(#[from] reader::SettingError),
    /// The machine.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The container runtime.
    #[error("the container runtime cannot be used")]
    Runtime(#[from] RuntimeError),
    /// The image store.
    #[error("the image store cannot be used")]
    Images(#[from] ImageError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The registries' credentials.
    #[error(
        "{path} does not hold registry credentials; write {{\"host\": {{\"username\": …, \"password\": …}}}}"
    )]
    Credentials {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Processes of its own user.
    #[error(
        "what an earlier agent left behind as user {user} cannot be ended; end it, or restart the machine"
    )]
    LeftBehind {
        /// The user.
        user: u32,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The rights.
    #[error("the agent cannot give up its rights")]
    Separate(#[from] SeparateError),
    /// The monitor.
    #[error("the agent's monitor, which starts containers for it, is gone; the next start has another one")]
    MonitorGone,
    /// Signals.
    #[error("signals cannot be handled")]
    Signals(#[source] std::io::Error),
}

// === impl AgentError ===

impl AgentError {
    /// The program's exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Enrol(_) | Self::OtherHub { .. } | Self::Uplink(UplinkError::Revoked { .. }) => {
                Exit::Refused
            }
            Self::NotEnrolled | Self::Token { .. } | Self::Payee(_) | Self::Chain(_) => Exit::Usage,
            Self::Keys(KeysError::Identity(IdentityError::File(_))) => Exit::Failed,
            _ => Exit::Failed,
        }
    }
}

/// Runs an agent until it is told to stop (SIGTERM, SIGINT). Containers are left running: they outlive the agent.
///
/// # Errors
/// [`AgentError`]; once the device is enrolled, troubles with the hub are waited out; only a hub that revokes it
/// ends it.
pub async fn run(started: Started, hooks: Hooks) -> Result<(), AgentError> {
    let launcher = started.launcher.clone();
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;

    let serving = start(started, hooks, stopped);
    let mut serving = std::pin::pin!(serving);
    let running = tokio::select! {
        running = &mut serving => running?,
        () = launcher.gone() => return Err(AgentError::MonitorGone),
        // Before it is enrolled there is nothing to say goodbye to.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let Running { node, mut uplink } = running;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // Without it no container can be made, nor its end be settled: a new start has another one.
        () = launcher.gone() => return Err(AgentError::MonitorGone),
        // It ends by itself only where the store is broken, which a new start may mend, or the device was revoked.
        ended = &mut uplink => return ended.unwrap_or(Ok(())).map_err(AgentError::Uplink),
    }
    tracing::info!("stopping; containers go on without the agent");
    node.drain();
    stop.send_replace(true);
    if tokio::time::timeout(Duration::from_secs(4), uplink).await.is_err() {
        tracing::warn!("the line to the hub did not close in time");
    }
    // A time that no hub has told may be decades ahead, and the device would never come back from it.
    if let Some(now_ms) = node.clock.trusted_ms() {
        node.store.write(|tx| tx.save_time(now_ms))?;
    }
    let _ = std::fs::remove_file(status::socket_path(&node.data));
    Ok(())
}

struct Running {
    node: Arc<Node>,
    uplink: tokio::task::JoinHandle<Result<(), UplinkError>>,
}

async fn start(
    mut started: Started,
    hooks: Hooks,
    stopped: watch::Receiver<bool>,
) -> Result<Running, AgentError> {
    let config = started.laid.config.clone();
    let config = &config;
    let data = &config.data;
    let mut ballast = Ballast::of(data);
    ballast.lay_if_roomy();
    let keys = started.laid.keys.clone();
    let store = Arc::new(Store::open(data, keys.identity.clone())?);
    let system = System::new(&config.system);
    let machine = hooks.clock.clone().map_or_else(SystemClock::default, SystemClock::over);
    let clock = DeviceClock::new(machine, store.saved_time()?, system.clock(&started.launcher));
    if !config.payout_to.is_empty() {
        payee::set(&store, &Address::of_person(&config.payout_to)?)?;
    }
    // What can be wrong on this machine is told before the hub is asked for anything.
    let (runtime, images) = open_containers(&started, store.open_tasks()?.as_slice(), hooks)?;
    let reader = Reader::new(&config.chain)?;
    let bootstrap = Bootstrap { keys: &keys, store: &store, clock: &clock };
    let enrolment = enrolment(config, started.laid.join.take(), bootstrap).await?;
    system.trouble(None);
    system.enrolled();

    let Started { laid: Laid { credentials, labels, .. }, walls: own, missing: none, .. } = started;
    let missing: Vec<String> = runtime.missing_limits().into_iter().chain(none).collect();
    for limit in &missing {
        tracing::warn!("not enforced on this machine: {limit}");
    }
    let told = (runtime.walls().into_iter().chain(own).collect(), missing, labels);
    let offer = Offer::now(config, &store.open_tasks()?)?;
    let node = Node::new(config, keys, Arc::clone(&store), clock, enrolment, (offer, reader), told)?;
    let node = Arc::new(node);
    tracing::info!(
        device = %node.device, hub = %node.hub, class = %node.class,
        cpu_millis = offer.lent.resources.cpu_millis, memory = offer.lent.resources.memory,
        disk = offer.lent.resources.disk,
        "{}", device::VERSION
    );
    make_folders(data)?;
    let inputs = ContentStore::open(&data.join("content"))?;
    let (engine, live) = Engine::new(Arc::clone(&node), runtime, images, inputs, credentials);
    engine.resume().await?;
    tokio::spawn(status::serve(Arc::clone(&engine)));
    tokio::spawn(keep_house(Arc::clone(&engine)));
    tokio::spawn(settle());
    tokio::spawn(room::keep(Arc::clone(&engine), ballast, config.clone()));
    reader::begin(&node)?;
    tokio::spawn(reader::watch(Arc::clone(&node)));
    // Else the first offers after every start would be refused for what a moment later is known.
    node.reader.first_look().await;
    let uplink = tokio::spawn(uplink::serve(engine, live, stopped));
    Ok(Running { node, uplink })
}

async fn enrolment(
    config: &AgentConfig,
    token: Option<JoinToken>,
    bootstrap: Bootstrap<'_>,
) -> Result<Enrolment, AgentError> {
    match (Enrolment::load(&config.data)?, token) {
        (Some(own), None) => Ok(own),
        (Some(own), Some(token)) if own.hub == token.hub => {
            tracing::info!(hub = %own.hub, "already enrolled with this hub; the token is not needed");
            Ok(own)
        }
        (Some(own), Some(token)) => Err(AgentError::OtherHub {
            own: own.hub.checksummed().as_str().to_owned(),
            other: token.hub.checksummed().as_str().to_owned(),
        }),
        (None, Some(token)) => bootstrap.enrol(config, &token).await.map_err(AgentError::Enrol),
        (None, None) => Err(AgentError::NotEnrolled),
    }
}

fn open_containers(
    started: &Started,
    tasks: &[TaskRecord],
    hooks: Hooks,
) -> Result<(Arc<dyn ContainerRuntime>, Arc<ImageStore>), AgentError> {
    let Started { laid: Laid { config, containers, images, .. }, launcher, .. } = started;
    let runtime: Arc<dyn ContainerRuntime> = Arc::new(Runtime::new(containers.clone(), launcher.clone()));
    let runtime = match hooks.runtime {
        Some(wrap) => wrap(runtime),
        None => runtime,
    };
    let lent = device::lent(config, Node::taken(tasks).disk)?;
    let options = StoreOptions { reach: Reach::new(&config.registry.private), ..StoreOptions::default() };
    let images = ImageStore::new(images, launcher.clone(), lent.images, options)?;
    Ok((runtime, Arc::new(images)))
}

/// Lets go of code that took part in the start, and then of what tasks have needed.
async fn settle() {
    loop {
        tokio::time::sleep(REST).await;
        sosna_privsep::drop_code_pages();
    }
}

/// Forgets what is over and old.
async fn keep_house(engine: Arc<Engine>) {
    loop {
        let before_ms = engine.node.clock.now_ms().saturating_sub(RETENTION_MS);
        // An untrusted clock may be far ahead: nothing is forgotten by it.
        if engine.node.clock.trusted_ms().is_some() {
            let forgotten = engine.node.store.write(|tx| {
                Ok::<_, StoreError>((tx.forget_tasks(before_ms)?, tx.forget_receipts(before_ms)?))
            });
            match forgotten {
                Ok((0, 0)) => {}
                Ok((tasks, receipts)) => tracing::info!(tasks, receipts, "forgot what was over"),
                Err(error) => tracing::warn!("housekeeping: {}", sosna_host::report::line(&error)),
            }
        }
        match engine.node.store.open_tasks() {
            Ok(tasks) => engine.collect_inputs(&tasks),
            Err(error) => tracing::warn!("housekeeping: {}", sosna_host::report::line(&error)),
        }
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}
