//! The fleet as it is at this moment: who is connected, what each lends, how much of it is taken.
//!
//! A picture in memory of what the store and the broker know; it is drawn again from the store at every start.

mod dropped;
pub mod reputation;

use std::collections::HashMap;

use sosna_protocol::{Address, Amount, identity::AssignmentId, resources::Resources};
use sosna_store::{Device, DeviceState, Record, Store};

pub use dropped::Dropped;

use crate::{error::HubError, job::JobSpec, ledger};

/// All devices.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: Vec<Live>,
    places: HashMap<Address, usize>,
    loads: HashMap<AssignmentId, (Address, Resources, Amount)>,
}

/// A device at this moment.
#[derive(Debug, Clone)]
pub struct Live {
    /// What the store knows.
    pub device: Device,
    /// Its label `region`: read once, because every choice of a device asks for it.
    pub region: Option<String>,
    /// Whether it has a session and has greeted.
    pub online: bool,
    /// Whether it has greeted since this hub was started.
    pub has_greeted: bool,
    /// From where its session comes, cut to its network (IPv4 /24, IPv6 /48).
    pub network: Option<std::net::IpAddr>,
    /// What its open assignments take.
    pub taken: Resources,
    /// How many those are.
    pub open: u32,
    /// What it is to get for these.
    pub promised: Amount,
    /// What it is owed for accepted work, and has no voucher for.
    pub owed: Amount,
    /// How it has done, by class of images.
    pub records: HashMap<String, Record>,
    /// When it last said anything.
    pub seen_ms: u64,
    /// Latest moments at which one session took over from another, to notice clones.
    pub takeovers: Vec<u64>,
    /// Its messages that had to be dropped.
    pub dropped: Dropped,
}

impl Live {
    fn new(device: Device) -> Self {
        let (seen_ms, region) = (device.last_seen_ms, region(&device.labels));
        Self {
            device,
            region,
            online: false,
            has_greeted: false,
            network: None,
            taken: Resources::default(),
            open: 0,
            promised: Amount::ZERO,
            owed: Amount::ZERO,
            records: HashMap::new(),
            seen_ms,
            takeovers: Vec::new(),
            dropped: Dropped::default(),
        }
    }

    /// What is left to lend.
    #[must_use]
    pub const fn free(&self) -> Resources {
        self.device.described.resources.minus(&self.taken)
    }

    /// Whether it may get anything new at all.
    #[must_use]
    pub const fn is_employable(&self) -> bool {
        matches!(self.device.state, DeviceState::Probation | DeviceState::Trusted) && !self.device.draining
    }

    /// What its whole past is worth, 0 to 1000.
    #[must_use]
    pub fn score(&self) -> u16 {
        reputation::overall(&self.device)
    }

    /// What its past with a class of images is worth, 0 to 1000.
    #[must_use]
    pub fn score_in(&self, class: &str) -> u16 {
        reputation::within(&self.device, self.records.get(class))
    }

    /// Whether its single result with a class of images is not to be believed.
    #[must_use]
    pub fn wants_check(&self, class: &str, results: u64) -> bool {
        reputation::wants_check(&self.device, self.records.get(class), results)
    }

    /// Whether it is willing to be owed so much more; `true` where it has named no limit.
    #[must_use]
    pub fn trusts_for(&self, price: Amount) -> bool {
        let Some(limit) = self.device.described.exposure_limit else { return true };
        let owed = self.owed.checked_add(self.promised).and_then(|owed| owed.checked_add(price));
        owed.is_some_and(|owed| owed <= limit)
    }
}

fn region(labels: &str) -> Option<String> {
    let labels: serde_json::Value = serde_json::from_str(labels).ok()?;
    labels.get("region")?.as_str().map(str::to_owned)
}

// === impl Fleet ===

impl Fleet {
    /// Draws the picture from the store: nobody is connected yet.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn load(store: &Store) -> Result<Self, HubError> {
        let (devices, open, owed, records) = store
            .read(|tx| {
                Box::pin(async move {
                    let mut open = Vec::new();
                    for assignment in tx.open_assignments().await? {
                        if let Some(task) = tx.task(&assignment.task).await?
                            && let Some(job) = tx.job(&task.job).await?
                        {
                            open.push((assignment, job.spec));
                        }
                    }
                    let devices = tx.devices().await?;
                    let mut owed = Vec::new();
                    for device in &devices {
                        owed.push((device.address, ledger::unvouchered(tx, &device.address).await?));
                    }
                    Ok::<_, HubError>((devices, open, owed, tx.records().await?))
                })
            })
            .await?;
        let mut fleet = Self::default();
        devices.into_iter().for_each(|device| fleet.describe(device));
        for (assignment, spec) in open {
            if let Some(spec) = JobSpec::read(&spec) {
                fleet.take(assignment.id, assignment.device, spec.resources(), assignment.price);
            }
        }
        for (address, owed) in owed {
            if let Some(live) = fleet.get_mut(&address) {
                live.owed = owed;
            }
        }
        for (address, class, record) in records {
            if let Some(live) = fleet.get_mut(&address) {
                live.records.insert(class, record);
            }
        }
        Ok(fleet)
    }

    /// A device is new, or has changed.
    pub fn describe(&mut self, device: Device) {
        match self.places.get(&device.address) {
            Some(place) => {
                let live = &mut self.devices[*place];
                live.region = region(&device.labels);
                live.device = device;
            }
            None => {
                self.places.insert(device.address, self.devices.len());
                self.devices.push(Live::new(device));
            }
        }
    }

    /// Everyone.
    #[must_use]
    pub fn devices(&self) -> &[Live] {
        &self.devices
    }

    /// One.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<&Live> {
        self.places.get(address).map(|place| &self.devices[*place])
    }

    /// One, to be changed.
    pub fn get_mut(&mut self, address: &Address) -> Option<&mut Live> {
        self.places.get(address).map(|place| &mut self.devices[*place])
    }

    /// An assignment takes its share of a device.
    pub fn take(&mut self, assignment: AssignmentId, device: Address, resources: Resources, price: Amount) {
        if self.loads.insert(assignment, (device, resources, price)).is_none()
            && let Some(live) = self.get_mut(&device)
        {
            live.taken = live.taken.plus(&resources);
            live.open += 1;
            live.promised = live.promised.checked_add(price).unwrap_or(Amount::from_units(u128::MAX));
        }
    }

    /// An assignment gives its share back.
    pub fn release(&mut self, assignment: &AssignmentId) {
        if let Some((device, resources, price)) = self.loads.remove(assignment)
            && let Some(live) = self.get_mut(&device)
        {
            live.taken = live.taken.minus(&resources);
            live.open = live.open.saturating_sub(1);
            live.promised = live.promised.checked_sub(price).unwrap_or_default();
        }
    }

    /// How many are connected.
    #[must_use]
    pub fn online(&self) -> usize {
        self.devices.iter().filter(|live| live.online).count()
    }
}
