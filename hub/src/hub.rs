//! The hub: what all its parts share, and what they do after a commit.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sosna_broker::{Broker, CertificateAuthority};
use sosna_host::{clock::SharedClock, content::ContentStore, file::FileError, identity::IdentityKey};
use sosna_protocol::{
    Address, Amount,
    codec::EncodeError,
    eip712::Domain,
    identity::{AssignmentId, JobId, Sign as _, TaskId},
    message::{Message, ack::Position, log::Stream},
    topic::Kind,
};
use sosna_registry::{Reach, Registries};
use sosna_store::{Store, StoreError};
use tokio::sync::{Notify, broadcast, mpsc};

use crate::{
    config::HubConfig, content::Keeping, curve::Signer, error::HubError, fleet::Fleet, ledger::chain::Chain,
    metrics::Metrics,
};

/// How many events a slow listener may be behind before it is told that it missed some.
const EVENTS: usize = 4096;
/// How many frames may wait to be signed and sent.
const OUTBOUND: usize = 65_536;

/// Everything that the hub's parts share.
#[derive(Debug)]
pub struct Hub {
    /// What is configured.
    pub config: HubConfig,
    /// The time.
    pub clock: SharedClock,
    /// The hub's own key.
    pub key: IdentityKey,
    /// The same, for what is signed often.
    pub(crate) signer: Signer,
    /// The key of the hub's own devices' owner, by which `sosna-hub token` delegates.
    pub owner: IdentityKey,
    /// What is remembered.
    pub store: Store,
    /// Images, inputs, results.
    pub content: ContentStore,
    /// Who may store more of them, and what must stay.
    pub keeping: Keeping,
    /// Where images' names are looked up.
    pub(crate) registries: Registries,
    /// Who is connected, and how busy.
    fleet: Mutex<Fleet>,
    /// The chain that devices are paid on, where there is one.
    pub chain: Option<Arc<Chain>>,
    /// What every voucher is for: the wallet on that chain, or the hub itself.
    domain: Domain,
    /// Issues certificates.
    pub authority: tokio::sync::RwLock<CertificateAuthority>,
    /// The way to the devices, once it is open.
    pub broker: OnceLock<Arc<dyn Broker>>,
    /// Where the hub can be reached, once that is known.
    pub addresses: OnceLock<Addresses>,
    /// How often the store was restored.
    pub epoch: u32,
    /// Upper half: how often the hub was started; lower half: how many frames it has sent since. So no counter
    /// is ever used twice, and none needs a place on disk.
    counter: AtomicU64,
    outbound: mpsc::Sender<Outbound>,
    events: broadcast::Sender<Event>,
    /// Wakes the scheduler.
    pub work: Notify,
    /// Counted for the operator.
    pub metrics: Metrics,
}

/// `host:port` of each listener, as others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The host alone, as join tokens carry it.
    pub host: String,
    /// REST and pages, with scheme.
    pub http: String,
    /// MQTT with certificates.
    pub main: String,
    /// MQTT without: the port.
    pub bootstrap: u16,
    /// The content store's base URL.
    pub content: String,
}

/// A frame that waits to be signed.
#[derive(Debug)]
pub struct Outbound {
    pub(crate) to: To,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
}

/// Who gets a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// A device's session.
    Device(Address),
    /// Somebody on the bootstrap listener.
    Bootstrap(Address),
}

/// Something has changed; whoever is interested looks it up.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job.
    Job(JobId),
    /// A task.
    Task(JobId, TaskId),
    /// An assignment.
    Assignment(JobId, TaskId, AssignmentId),
    /// A device.
    Device(Address),
    /// A task has written something.
    Log {
        /// Whose job.
        job: JobId,
        /// The task's place in it.
        index: u32,
        /// Who wrote.
        assignment: AssignmentId,
        /// Where.
        stream: Stream,
        /// At which byte.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
}

/// What follows from a change once it is on disk.
#[derive(Debug)]
pub enum Effect {
    /// Tell a device.
    Send(Outbound),
    /// Tell a device up to where its messages have been taken.
    Ack(Address, Position),
    /// End a device's session.
    Disconnect(Address),
    /// A device was described anew.
    Describe(Box<sosna_store::Device>),
    /// A device has done something with a class of images.
    Record(Address, String, sosna_store::Record),
    /// A device is owed so much that is in no voucher which it holds.
    Owed(Address, Amount),
    /// A device has taken on, or is rid of, an assignment's load.
    Freed(AssignmentId),
    /// There may be something to place.
    Schedule,
    /// Tell whoever watches.
    Event(Event),
}

impl Effect {
    /// A message to a device.
    ///
    /// # Errors
    /// [`EncodeError`], where a field is beyond its bounds.
    pub fn send<M: Message>(device: Address, message: &M) -> Result<Self, EncodeError> {
        let body = sosna_host::seal::body(message)?;
        Ok(Self::Send(Outbound { to: To::Device(device), kind: M::KIND, body }))
    }

    /// An answer on the bootstrap listener.
    ///
    /// # Errors
    /// [`EncodeError`], where a field is beyond its bounds.
    pub fn answer<M: Message>(device: Address, message: &M) -> Result<Self, EncodeError> {
        let body = sosna_host::seal::body(message)?;
        Ok(Self::Send(Outbound { to: To::Bootstrap(device), kind: M::KIND, body }))
    }
}

impl From<EncodeError> for HubError {
    fn from(error: EncodeError) -> Self {
        Self::internal("a message could not be written", error)
    }
}

/// Books are kept for one wallet from the first work on: a device's voucher counts all that it ever earned, and a sum
/// cannot be owed twice, once by one wallet and once by another.
async fn settle_domain(tx: &mut sosna_store::Tx, wanted: Domain, hub: Address) -> Result<Domain, HubError> {
    // Those who kept books before there was a word for it kept them for no chain.
    let known = match tx.is_in_use().await? {
        true => Some(tx.domain().await?.unwrap_or(Domain::off_chain(hub))),
        false => None,
    };
    if let Some(known) = known.filter(|known| *known != wanted) {
        let name = |domain: &Domain| match domain.chain_id {
            0 => "no chain".to_owned(),
            id => format!("the wallet {} on chain {id}", domain.wallet.checksummed()),
        };
        return Err(HubError::refused(
            sosna_api::Code::Conflict,
            format!(
                "these books are kept for {}, and the settings name {}; devices work for the former, which cannot be \
                 changed. Set `[chain]` back, or begin a hub with a data folder of its own",
                name(&known),
                name(&wanted)
            ),
        ));
    }
    tx.set_domain(&wanted).await?;
    Ok(wanted)
}

/// Deposits that are credit here are looked at in the one escrow where they are: whoever stopped looking would not see
/// that they are taken back.
async fn settle_escrow(tx: &mut sosna_store::Tx, wanted: Option<Address>) -> Result<(), HubError> {
    let Some(known) = tx.escrow().await?.filter(|known| Some(*known) != wanted) else { return Ok(()) };
    let named = wanted.map_or_else(|| "none".to_owned(), |wanted| wanted.checksummed().as_str().to_owned());
    Err(HubError::refused(
        sosna_api::Code::Conflict,
        format!(
            "buyers of this hub deposit in the escrow {}, and the settings name {named}; set `chain.escrow` back",
            known.checksummed()
        ),
    ))
}

// === impl Hub ===

impl Hub {
    /// Opens a hub's folder: keys, authority, store, content; makes what is not there.
    ///
    /// # Errors
    /// [`HubError`].
    pub async fn open(
        config: HubConfig,
        clock: SharedClock,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Outbound>), HubError> {
        let data = Path::new(&config.data);
        sosna_host::file::create_folder(data)?;
        // Jobs' environments lie in the store, and may hold what is nobody else's business on this machine.
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))
            .map_err(FileError::of("close to others", data))?;
        let load = |name: &str| {
            IdentityKey::load_or_create(&data.join(name)).map_err(|error| HubError::internal("no key", error))
        };
        let (key, owner) = (load("hub.key")?, load("owner.key")?);
        let authority = CertificateAuthority::open_or_create(data.join("authority"))
            .map_err(|error| HubError::internal("no certificate authority", error))?;
        let store = Store::open(&data.join("hub.sqlite")).await?;
        let content = ContentStore::open(&data.join("content"))?;
        let all = content.clone();
        let keeping = tokio::task::spawn_blocking(move || Keeping::count(&all))
            .await
            .map_err(|error| HubError::internal("content could not be counted", error))??;
        let (epoch, start) = store
            .write(|tx| {
                Box::pin(async move { Ok::<_, StoreError>((tx.epoch().await?, tx.count_start().await?)) })
            })
            .await?;
        let chain = Chain::new(&config.chain)
            .map_err(|error| HubError::refused(sosna_api::Code::Invalid, sosna_host::report::line(&error)))?
            .map(Arc::new);
        let wanted = chain.as_ref().map_or(Domain::off_chain(key.address()), |chain| chain.domain);
        let own = key.address();
        let domain = store.write(move |tx| Box::pin(settle_domain(tx, wanted, own))).await?;
        let escrow = chain.as_ref().and_then(|chain| chain.escrow).map(|escrow| escrow.wallet);
        store.write(move |tx| Box::pin(settle_escrow(tx, escrow))).await?;
        let fleet = Fleet::load(&store).await?;
        let (outbound, waiting) = mpsc::channel(OUTBOUND);
        let reach = Reach::new(&config.registry.private);
        let registries = Registries::new(reach, crate::registry::PATIENCE, None);
        let hub = Self {
            config,
            clock,
            signer: Signer::of(&key),
            key,
            owner,
            store,
            content,
            keeping,
            registries,
            chain,
            domain,
            fleet: Mutex::new(fleet),
            authority: tokio::sync::RwLock::new(authority),
            broker: OnceLock::new(),
            addresses: OnceLock::new(),
            epoch,
            counter: AtomicU64::new(u64::from(start) << 32),
            outbound,
            events: broadcast::channel(EVENTS).0,
            work: Notify::new(),
            metrics: Metrics::default(),
        };
        Ok((Arc::new(hub), waiting))
    }

    /// The hub's name.
    #[must_use]
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// What every voucher and receipt is for: a wallet on a chain, or the hub itself.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        self.domain
    }

    /// The time.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The next counter of the frames that the hub signs.
    pub(crate) fn next_counter(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The fleet as it is now. Held for moments only, never over an await.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        // A panic elsewhere leaves a picture that the next greeting of each device corrects.
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Tells whoever watches.
    pub fn tell(&self, event: Event) {
        // Nobody may be watching.
        let _ = self.events.send(event);
    }

    /// Does what follows from a change that is on disk.
    pub async fn perform(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(outbound) => self.queue(outbound).await,
                Effect::Ack(device, position) => self.acknowledge(device, position).await,
                Effect::Disconnect(device) => {
                    if let Some(broker) = self.broker.get() {
                        broker.disconnect(&device).await;
                    }
                }
                Effect::Describe(device) => self.fleet().describe(*device),
                Effect::Record(device, class, record) => {
                    if let Some(live) = self.fleet().get_mut(&device) {
                        live.records.insert(class, record);
                    }
                }
                Effect::Owed(device, amount) => {
                    if let Some(live) = self.fleet().get_mut(&device) {
                        live.owed = amount;
                    }
                }
                Effect::Freed(assignment) => self.fleet().release(&assignment),
                Effect::Schedule => self.work.notify_one(),
                Effect::Event(event) => self.tell(event),
            }
        }
    }

    async fn acknowledge(&self, device: Address, position: Position) {
        let positions = [position];
        let message =
            sosna_protocol::message::ack::Ack { positions: sosna_protocol::codec::List::new(&positions) };
        match sosna_host::seal::body(&message) {
            Ok(body) => self.queue(Outbound { to: To::Device(device), kind: Kind::Ack, body }).await,
            Err(error) => tracing::error!(%error, "an acknowledgement could not be written"),
        }
    }

    async fn queue(&self, outbound: Outbound) {
        // Only a hub that stops has nobody who sends. What is lost here is sent again at the next greeting.
        let _ = self.outbound.send(outbound).await;
    }

    /// Does something in a transaction, and what follows from it once that is on disk.
    ///
    /// # Errors
    /// The work's own: then nothing of it has happened.
    pub async fn change<T, F>(self: &Arc<Self>, work: F) -> Result<T, HubError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(
                &'t mut sosna_store::Tx,
                Arc<Self>,
            ) -> sosna_store::Work<'t, (T, Vec<Effect>), HubError>
            + Send
            + 'static,
    {
        let (hub, inner) = (self.clone(), self.clone());
        // Apart from who asked: a client that goes away, or a session that ends, must not come between a change
        // that is on disk and what follows from it.
        let done = tokio::spawn(async move {
            let (value, effects) = hub.store.write(move |tx| work(tx, inner)).await?;
            hub.perform(effects).await;
            Ok(value)
        });
        done.await.map_err(|error| HubError::internal("a change was cut off", error))?
    }
}
