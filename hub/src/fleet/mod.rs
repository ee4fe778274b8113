//! The fleet as it is at this moment: who is connected, what each lends, how much of it is taken.
//!
//! A picture in memory of what the store and the broker know; it is drawn again from the store at every start.

use std::collections::HashMap;

use sosna_protocol::{Address, identity::AssignmentId, resources::Resources};
use sosna_store::{Device, DeviceState, Store, StoreError};

use crate::job::JobSpec;

/// All devices.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: Vec<Live>,
    places: HashMap<Address, usize>,
    loads: HashMap<AssignmentId, (Address, Resources)>,
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
    /// From where its session comes, cut to its network (IPv4 /24, IPv6 /48).
    pub network: Option<std::net::IpAddr>,
    /// What its open assignments take.
    pub taken: Resources,
    /// How many those are.
    pub open: u32,
    /// When it last said anything.
    pub seen_ms: u64,
    /// Latest moments at which one session took over from another, to notice clones.
    pub takeovers: Vec<u64>,
}

impl Live {
    fn new(device: Device) -> Self {
        let (seen_ms, region) = (device.last_seen_ms, region(&device.labels));
        Self {
            device,
            region,
            online: false,
            network: None,
            taken: Resources::default(),
            open: 0,
            seen_ms,
            takeovers: Vec::new(),
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

    /// What its past is worth, 0 to 1000 (Laplace's rule of succession): a new device is worth half.
    #[must_use]
    pub fn score(&self) -> u16 {
        let good = self.device.valid + 1;
        // A wrong result weighs more than one that did not come.
        let bad = self.device.invalid * 4 + self.device.failed + 1;
        u16::try_from(good * 1000 / (good + bad)).unwrap_or(1000)
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
    /// [`StoreError`].
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        let (devices, open) = store
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
                    Ok::<_, StoreError>((tx.devices().await?, open))
                })
            })
            .await?;
        let mut fleet = Self::default();
        devices.into_iter().for_each(|device| fleet.describe(device));
        for (assignment, spec) in open {
            if let Some(spec) = JobSpec::read(&spec) {
                fleet.take(assignment.id, assignment.device, spec.resources());
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
    pub fn take(&mut self, assignment: AssignmentId, device: Address, resources: Resources) {
        if self.loads.insert(assignment, (device, resources)).is_none()
            && let Some(live) = self.get_mut(&device)
        {
            live.taken = live.taken.plus(&resources);
            live.open += 1;
        }
    }

    /// An assignment gives its share back.
    pub fn release(&mut self, assignment: &AssignmentId) {
        if let Some((device, resources)) = self.loads.remove(assignment)
            && let Some(live) = self.get_mut(&device)
        {
            live.taken = live.taken.minus(&resources);
            live.open = live.open.saturating_sub(1);
        }
    }

    /// How many are connected.
    #[must_use]
    pub fn online(&self) -> usize {
        self.devices.iter().filter(|live| live.online).count()
    }
}
