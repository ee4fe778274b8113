//! A swarm: many lives at once, and what they have come to.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sosna_host::token::JoinToken;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    device::Device,
    life::{Life, Shared, raised},
    population::Population,
    tally::{Figures, Tally},
};

/// What a swarm is, and where it goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hub, and the right to enrol with it: one token for each owner, whose devices are dealt out in turn. All of them
    /// are of one hub, and have as many uses as their owner has devices.
    pub tokens: Vec<JoinToken>,
    /// Who lives in it.
    pub population: Population,
    /// Whether devices check each signature of the hub's, as the agent does. It costs as much as the hub's own work, on
    /// what may be the same processor.
    pub verifies: bool,
    /// How many enrol at a time. The bootstrap listener takes few.
    pub enrolling: usize,
    /// How many connect at a time.
    pub connecting: usize,
    /// How many bring content at a time.
    pub bringing: usize,
    /// Over how long the first connections are spread.
    pub ramp: Duration,
    /// So many frames each device keeps on their way to the hub that change nothing there, and that the hub must have on disk
    /// all the same before it acknowledges them; 0 for none.
    pub chatter: usize,
}

/// Devices that live.
#[derive(Debug)]
pub struct Swarm {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    lives: JoinSet<()>,
}

/// A swarm that could go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoHub {
    /// There is no token.
    #[error("a swarm needs a join token; ask the hub for one with `sosna-hub token`")]
    None,
    /// There are tokens of several.
    #[error("the join tokens are of different hubs; a swarm serves one")]
    Several,
}

// === impl Settings ===

impl Settings {
    /// A population that goes to the tokens' hub, as fast as a small machine allows.
    #[must_use]
    pub const fn new(tokens: Vec<JoinToken>, population: Population) -> Self {
        Self {
            tokens,
            population,
            verifies: true,
            enrolling: 32,
            connecting: 64,
            bringing: 64,
            ramp: Duration::ZERO,
            chatter: 0,
        }
    }
}

// === impl Swarm ===

impl Swarm {
    /// Lets them live, on the runtime that this is called on. A provider of cryptography must be installed for rustls.
    ///
    /// # Errors
    /// [`NoHub`].
    pub fn start(settings: Settings) -> Result<Self, NoHub> {
        let hub = match settings.tokens.split_first() {
            Some((first, others)) if others.iter().all(|other| other.hub == first.hub) => first.hub,
            Some(_) => return Err(NoHub::Several),
            None => return Err(NoHub::None),
        };
        let (stop, stopped) = watch::channel(false);
        let began = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_ms = u64::try_from(since.as_millis()).unwrap_or_default();
        let shared = Arc::new(Shared {
            tally: Tally::default(),
            began,
            enrolling: Semaphore::new(settings.enrolling.max(1)),
            connecting: Semaphore::new(settings.connecting.max(1)),
            bringing: Semaphore::new(settings.bringing.max(1)),
            settings,
        });
        let mut lives = JoinSet::new();
        let Settings { population, verifies, ramp, .. } = &shared.settings;
        for index in 0..population.devices {
            let profile = population.profile(index);
            shared.tally.device(profile.conduct);
            let device = Device::new(
                profile,
                population.key(index),
                hub,
                (started_ms, *verifies),
                population.chance(index, "life"),
            );
            let life = Life::new(device, Arc::clone(&shared), stopped.clone());
            let mut stopped = stopped.clone();
            let part = u32::try_from(index).unwrap_or(u32::MAX);
            let of = u32::try_from(population.devices).unwrap_or(u32::MAX).max(1);
            let wait = *ramp / of * part;
            lives.spawn(async move {
                tokio::select! {
                    () = sleep(wait) => life.live().await,
                    () = raised(&mut stopped) => {}
                }
            });
        }
        Ok(Self { shared, stop, lives })
    }

    /// What they have come to.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared.tally.figures()
    }

    /// Measures times anew from now on.
    pub fn begin_times(&self) {
        self.shared.tally.begin_times();
    }

    /// Waits until something is so of the figures; `false` where it is not within `patience`.
    pub async fn until(&self, patience: Duration, mut is_so: impl FnMut(&Figures) -> bool) -> bool {
        let look = async {
            while !is_so(&self.figures()) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(patience, look).await.is_ok()
    }

    /// Lets all of them hang up, and waits until they have.
    pub async fn end(mut self) -> Figures {
        // Nobody listens where there are no devices.
        let _ = self.stop.send(true);
        while self.lives.join_next().await.is_some() {}
        self.shared.tally.figures()
    }
}
