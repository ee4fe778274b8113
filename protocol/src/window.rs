//! What a receiver remembers of a sender's counters, so that nothing counts twice.
//!
//! Counters are compared within one epoch: how often the sender's store has been restored from a backup.

/// How a counter stands to those that were seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never before.
    Fresh,
    /// Before.
    Replay,
    /// So long ago, or in so early an epoch, that nobody remembers: to be refused like a replay.
    Stale,
    /// So far ahead that what lies between could not be remembered: not taken, to be sent again later.
    Ahead,
}

const WORDS: usize = 8;
/// How many counters beside the newest (or beyond the contiguous ones) are remembered.
pub const WIDTH: u64 = 64 * WORDS as u64;
/// The bytes that a window takes in a store.
pub const STORED: usize = 4 + 8 + 8 * WORDS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Bits([u64; WORDS]);

impl Bits {
    fn get(&self, place: u64) -> bool {
        self.word(place).is_some_and(|word| self.0[word] >> (place % 64) & 1 == 1)
    }

    fn set(&mut self, place: u64) {
        if let Some(word) = self.word(place) {
            self.0[word] |= 1 << (place % 64);
        }
    }

    fn word(&self, place: u64) -> Option<usize> {
        usize::try_from(place / 64).ok().filter(|word| *word < self.0.len())
    }

    /// Moves every bit `by` places towards the higher ones.
    fn raise(&mut self, by: u64) {
        let old = *self;
        *self = Self::default();
        (by..WIDTH).filter(|place| old.get(place - by)).for_each(|place| self.set(place));
    }

    /// Drops the lowest bit.
    fn lower(&mut self) {
        let mut carried = 0;
        for word in self.0.iter_mut().rev() {
            let lowest = *word & 1;
            *word = *word >> 1 | carried << 63;
            carried = lowest;
        }
    }
}

fn store(epoch: u32, counter: u64, bits: &Bits) -> [u8; STORED] {
    let mut stored = [0; STORED];
    stored[..4].copy_from_slice(&epoch.to_be_bytes());
    stored[4..12].copy_from_slice(&counter.to_be_bytes());
    for (bytes, word) in stored[12..].chunks_exact_mut(8).zip(bits.0) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    stored
}

fn load(stored: &[u8]) -> Option<(u32, u64, Bits)> {
    let stored: &[u8; STORED] = stored.try_into().ok()?;
    let mut bits = Bits::default();
    for (word, bytes) in bits.0.iter_mut().zip(stored[12..].chunks_exact(8)) {
        *word = u64::from_be_bytes(bytes.try_into().ok()?);
    }
    Some((
        u32::from_be_bytes(stored[..4].try_into().ok()?),
        u64::from_be_bytes(stored[4..12].try_into().ok()?),
        bits,
    ))
}

/// For senders whose counters have gaps (a hub's run across all its devices): remembers the newest and
/// [`WIDTH`] before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sliding {
    epoch: u32,
    newest: u64,
    /// Bit i stands for `newest - i`.
    before: Bits,
}

impl Sliding {
    /// Judges a counter and remembers it if it is fresh. Counters start at 1.
    pub fn accept(&mut self, epoch: u32, counter: u64) -> Seen {
        if counter == 0 || epoch < self.epoch {
            return Seen::Stale;
        }
        if epoch > self.epoch {
            *self = Self { epoch, ..Self::default() };
        }
        if counter > self.newest {
            self.before.raise(counter - self.newest);
            self.newest = counter;
        } else if self.newest - counter >= WIDTH {
            return Seen::Stale;
        }
        let place = self.newest - counter;
        if self.before.get(place) {
            return Seen::Replay;
        }
        self.before.set(place);
        Seen::Fresh
    }

    /// The form that a store keeps.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; STORED] {
        store(self.epoch, self.newest, &self.before)
    }

    /// Reads [`Sliding::to_bytes`].
    #[must_use]
    pub fn from_bytes(stored: &[u8]) -> Option<Self> {
        load(stored).map(|(epoch, newest, before)| Self { epoch, newest, before })
    }
}

/// For senders that send again until they are acknowledged (a device's outbox has no gaps): knows up to where
/// everything has come in, and what has beyond that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Contiguous {
    epoch: u32,
    contiguous: u64,
    /// Bit i stands for `contiguous + 1 + i`.
    beyond: Bits,
}

impl Contiguous {
    /// The sender's epoch, and the counter up to which everything has come in.
    #[must_use]
    pub const fn position(&self) -> (u32, u64) {
        (self.epoch, self.contiguous)
    }

    /// Judges a counter and remembers it if it is fresh. Counters start at 1.
    pub fn accept(&mut self, epoch: u32, counter: u64) -> Seen {
        if counter == 0 || epoch < self.epoch {
            return Seen::Stale;
        }
        if epoch > self.epoch {
            *self = Self { epoch, ..Self::default() };
        }
        if counter <= self.contiguous {
            return Seen::Replay;
        }
        let place = counter - self.contiguous - 1;
        if place >= WIDTH {
            return Seen::Ahead;
        }
        if self.beyond.get(place) {
            return Seen::Replay;
        }
        self.beyond.set(place);
        while self.beyond.get(0) {
            self.beyond.lower();
            self.contiguous += 1;
        }
        Seen::Fresh
    }

    /// The form that a store keeps.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; STORED] {
        store(self.epoch, self.contiguous, &self.beyond)
    }

    /// Reads [`Contiguous::to_bytes`]; `None` for what it never writes, which a damaged store may hold.
    #[must_use]
    pub fn from_bytes(stored: &[u8]) -> Option<Self> {
        let (epoch, contiguous, beyond) = load(stored)?;
        let room = u64::MAX - contiguous;
        let is_whole = !beyond.get(0) && (room..WIDTH).all(|place| !beyond.get(place));
        is_whole.then_some(Self { epoch, contiguous, beyond })
    }
}
