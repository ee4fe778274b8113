//! What every part of a running agent shares: who it is, its store, its clock, what it lends and asks. It holds
//! state and never acts by itself.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sosna_protocol::{
    Address, Amount,
    resources::{Ask, Class, Resources},
};

use tokio::sync::Notify;

use crate::{
    clock::DeviceClock,
    config::{AgentConfig, size},
    content::ContentClient,
    device::{self, DeviceError, Lent},
    identity::{Enrolment, Keys},
    store::{Store, record::TaskRecord},
    system::System,
    wallet::reader::Reader,
};

const HOUR_MS: u64 = 3_600_000;

/// The shared state of a running agent.
#[derive(Debug)]
pub struct Node {
    /// The data folder.
    pub data: PathBuf,
    /// The device's keys.
    pub keys: Keys,
    /// Its name.
    pub device: Address,
    /// Its hub.
    pub hub: Address,
    /// Its owner.
    pub owner: Address,
    /// Its store.
    pub store: Arc<Store>,
    /// Its clock.
    pub clock: DeviceClock,
    /// What it is.
    pub class: Class,
    /// What it asks.
    pub ask: Ask,
    /// Limits that do not hold here, for people.
    pub missing_limits: Vec<String>,
    /// What holds here, for people.
    pub walls: Vec<String>,
    /// Sees whether the hub's wallet can pay.
    pub reader: Reader,
    /// HTTP to the hub's content store.
    pub content: ContentClient,
    /// The owner's own words about the device.
    pub labels: BTreeMap<String, String>,
    /// The image that the agent is part of.
    pub system: System,
    /// Whether the configuration says that traffic costs money, and what one task may then have fetched.
    metered: (bool, u64),
    enrolment: RwLock<Arc<Enrolment>>,
    offer: RwLock<Offer>,
    offered: Notify,
    draining: AtomicBool,
    is_connected: AtomicBool,
    refused_frames: AtomicU64,
}

/// What a device lends now, and what it is willing to be owed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// What it lends.
    pub lent: Lent,
    /// What it is willing to be owed.
    pub exposure_limit: Amount,
    /// The same at the start, and in doubt: never more.
    pub exposure_start: Amount,
}

// === impl Offer ===

impl Offer {
    /// What the configuration and the machine's state allow, beside the tasks that the device has.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn now(config: &AgentConfig, tasks: &[TaskRecord]) -> Result<Self, DeviceError> {
        let lent = device::lent(config, Node::taken(tasks).disk)?;
        let ask = config.ask.ask()?;
        let earned = |ms| ask.price(&lent.resources, ms).unwrap_or(Amount::from_units(u128::MAX));
        let exposure_limit = match config.exposure.limit.trim() {
            "" => earned(24 * HOUR_MS),
            text => crate::config::amount("exposure.limit", text)?,
        };
        let exposure_start = match config.exposure.start.trim() {
            "" => earned(HOUR_MS).max(Amount::SNM),
            text => crate::config::amount("exposure.start", text)?,
        };
        Ok(Self { lent, exposure_limit, exposure_start: exposure_start.min(exposure_limit) })
    }
}

// === impl Node ===

impl Node {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn new(
        config: &AgentConfig,
        keys: Keys,
        store: Arc<Store>,
        clock: DeviceClock,
        enrolment: Enrolment,
        (offer, reader): (Offer, Reader),
        (walls, missing_limits, labels): (Vec<String>, Vec<String>, BTreeMap<String, String>),
    ) -> Result<Self, DeviceError> {
        let ask = config.ask.ask()?;
        let metered_download = size("network.metered_download", &config.network.metered_download)?;
        let enrolment = Arc::new(enrolment);
        Ok(Self {
            labels,
            system: System::new(&config.system),
            metered: (config.network.metered, metered_download.unwrap_or(u64::MAX)),
            data: config.data.clone(),
            device: keys.device(),
            keys,
            hub: enrolment.hub,
            owner: enrolment.owner,
            store,
            reader,
            content: ContentClient::default(),
            clock,
            class: device::class(),
            ask,
            missing_limits,
            walls,
            enrolment: RwLock::new(enrolment),
            offer: RwLock::new(offer),
            offered: Notify::new(),
            draining: AtomicBool::new(false),
            is_connected: AtomicBool::new(false),
            refused_frames: AtomicU64::new(0),
        })
    }

    /// What it lends now, and for how much it trusts the hub.
    #[must_use]
    pub fn offer(&self) -> Offer {
        *self.offer.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends something else from now on.
    pub fn set_offer(&self, offer: Offer) {
        *self.offer.write().unwrap_or_else(PoisonError::into_inner) = offer;
        self.offered.notify_one();
    }

    /// Returns once it lends something else, so that the hub can be told.
    pub async fn offered(&self) {
        self.offered.notified().await;
    }

    /// The enrolment in force.
    #[must_use]
    pub fn enrolment(&self) -> Arc<Enrolment> {
        Arc::clone(&self.enrolment.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new enrolment in force; it is on disk already.
    pub fn set_enrolment(&self, enrolment: Enrolment) {
        *self.enrolment.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(enrolment);
        // Its certificate is the content store's key too.
        self.content.forget();
    }

    /// Whether traffic costs money now.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.metered.0 || self.system.is_metered()
    }

    /// What one task may have fetched, where traffic costs money now.
    #[must_use]
    pub fn allowance(&self) -> Option<u64> {
        self.is_metered().then_some(self.metered.1)
    }

    /// Stops taking work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether no work is taken any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Tells whether the hub has welcomed the device.
    pub fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    /// Whether the hub has welcomed the device on a session that stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Counts a frame that was not accepted, and returns how many there were.
    pub fn count_refused(&self) -> u64 {
        self.refused_frames.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many frames were not accepted since the start.
    #[must_use]
    pub fn refused_frames(&self) -> u64 {
        self.refused_frames.load(Ordering::Relaxed)
    }

    /// What these tasks take: all that runs, and the disk under results that are still kept.
    #[must_use]
    pub fn taken(tasks: &[TaskRecord]) -> Resources {
        tasks.iter().fold(Resources::default(), |sum, task| {
            if task.is_active() {
                sum.plus(&task.resources)
            } else {
                let kept =
                    task.result.as_ref().filter(|_| task.is_open()).map_or(0, |result| result.kept_bytes);
                sum.plus(&Resources { disk: kept, ..Resources::default() })
            }
        })
    }
}
