//! Windows against a model that remembers everything.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use sosna_protocol::window::{Contiguous, STORED, Seen, Sliding, WIDTH};

/// Everything that was ever taken in the newest epoch.
#[derive(Default)]
struct Model {
    epoch: u32,
    taken: BTreeSet<u64>,
}

impl Model {
    /// Whether the epoch goes on; a newer one begins empty.
    fn enter(&mut self, epoch: u32) -> bool {
        if epoch > self.epoch {
            *self = Self { epoch, ..Self::default() };
        }
        epoch == self.epoch
    }

    fn sliding(&mut self, epoch: u32, counter: u64) -> Seen {
        if counter == 0 || !self.enter(epoch) {
            return Seen::Stale;
        }
        let newest = self.taken.last().copied().unwrap_or(0);
        if newest.checked_sub(counter).is_some_and(|behind| behind >= WIDTH) {
            return Seen::Stale;
        }
        if self.taken.insert(counter) { Seen::Fresh } else { Seen::Replay }
    }

    fn position(&self) -> u64 {
        (1..).zip(&self.taken).take_while(|(place, taken)| place == *taken).count() as u64
    }

    fn contiguous(&mut self, epoch: u32, counter: u64) -> Seen {
        if counter == 0 || !self.enter(epoch) {
            return Seen::Stale;
        }
        if self.taken.contains(&counter) {
            return Seen::Replay;
        }
        if counter - self.position() > WIDTH {
            return Seen::Ahead;
        }
        self.taken.insert(counter);
        Seen::Fresh
    }
}

/// Counters in clusters, so that windows fill, slide, and are jumped over; now and then another epoch.
fn arrivals() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let counter = prop_oneof![
        6 => 0..40_u64,
        3 => 0..2 * WIDTH,
        2 => WIDTH - 3..WIDTH + 4,
        1 => 0..4 * WIDTH,
        1 => u64::MAX - 600..=u64::MAX,
    ];
    let epoch = prop_oneof![60 => Just(3_u32), 1 => 2..5_u32];
    vec((epoch, counter), 0..400)
}

/// Mostly in order, as real senders are, with repetitions and swaps.
fn stream() -> impl Strategy<Value = Vec<(u32, u64)>> {
    vec((0..700_u64, 0..30_u64), 0..700).prop_map(|swaps| {
        let jittered = |(place, (_, by)): (usize, (u64, u64))| (1, (place as u64 + by).max(1));
        swaps.into_iter().enumerate().map(jittered).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn sliding(arrivals in prop_oneof![arrivals(), stream()]) {
        let (mut window, mut model) = (Sliding::default(), Model::default());
        for (epoch, counter) in arrivals {
            prop_assert_eq!(window.accept(epoch, counter), model.sliding(epoch, counter), "{} {}", epoch, counter);
            let stored = window.to_bytes();
            prop_assert_eq!(Sliding::from_bytes(&stored), Some(window));
            window = Sliding::from_bytes(&stored).unwrap();
        }
    }

    #[test]
    fn contiguous(arrivals in prop_oneof![arrivals(), stream()]) {
        let (mut window, mut model) = (Contiguous::default(), Model::default());
        for (epoch, counter) in arrivals {
            prop_assert_eq!(window.accept(epoch, counter), model.contiguous(epoch, counter), "{} {}", epoch, counter);
            prop_assert_eq!(window.position(), (model.epoch, model.position()));
            let stored = window.to_bytes();
            prop_assert_eq!(Contiguous::from_bytes(&stored), Some(window));
            window = Contiguous::from_bytes(&stored).unwrap();
        }
    }

    /// A damaged store is refused or gives a window that works; nothing counts twice after it.
    #[test]
    fn windows_out_of_noise(
        mut stored in vec(any::<u8>(), STORED),
        edge in any::<bool>(),
        empty in any::<bool>(),
        steps in vec((0..3_u64, 0..WIDTH + 2), 1..20),
    ) {
        if edge {
            stored[4..11].fill(0xff);
        }
        if empty {
            stored[12..].fill(0);
        }
        stored[..4].fill(0);
        let counter = u64::from_be_bytes(stored[4..12].try_into().unwrap());
        for (around, by) in steps {
            let next = counter.saturating_add(by).saturating_sub(around);
            if let Some(mut window) = Sliding::from_bytes(&stored) {
                window.accept(0, next);
                prop_assert_ne!(window.accept(0, next), Seen::Fresh);
            }
            if let Some(mut window) = Contiguous::from_bytes(&stored) {
                window.accept(0, next);
                prop_assert_ne!(window.accept(0, next), Seen::Fresh);
            }
        }
        prop_assert_eq!(Sliding::from_bytes(&stored[1..]), None);
        prop_assert_eq!(Contiguous::from_bytes(&[&stored[..], &[0]].concat()), None);
    }
}

#[test]
fn the_last_counter_there_is() {
    let mut sliding = Sliding::default();
    assert_eq!(sliding.accept(u32::MAX, u64::MAX), Seen::Fresh);
    assert_eq!(sliding.accept(u32::MAX, u64::MAX), Seen::Replay);
    assert_eq!(sliding.accept(u32::MAX, u64::MAX - WIDTH + 1), Seen::Fresh);
    assert_eq!(sliding.accept(u32::MAX, u64::MAX - WIDTH), Seen::Stale);

    let mut stored = [0; STORED];
    stored[4..12].copy_from_slice(&(u64::MAX - 2).to_be_bytes());
    let mut contiguous = Contiguous::from_bytes(&stored).unwrap();
    assert_eq!(contiguous.accept(0, u64::MAX), Seen::Fresh);
    assert_eq!(contiguous.accept(0, u64::MAX - 1), Seen::Fresh);
    assert_eq!(contiguous.position(), (0, u64::MAX));
    assert_eq!(contiguous.accept(0, u64::MAX), Seen::Replay);
    // What stands for counters beyond the last one was never written by a window.
    stored[12..].fill(0xff);
    assert_eq!(Contiguous::from_bytes(&stored), None);
}
