//! Counts connections: how many there are in all, and how many of one party.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who has a connection.
#[derive(Debug)]
pub(crate) struct Places<P> {
    /// How many there may be at once.
    most: usize,
    /// And of one party.
    most_of_one: usize,
    taken: Mutex<Taken<P>>,
}

#[derive(Debug)]
struct Taken<P> {
    all: usize,
    parties: HashMap<P, usize>,
}

/// A place in all, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Place<P: Eq + Hash + fmt::Debug> {
    places: Arc<Places<P>>,
    /// Whose it is, once that is known.
    party: Option<P>,
}

// === impl Places ===

impl<P: Copy + Eq + Hash + fmt::Debug> Places<P> {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        let taken = Mutex::new(Taken { all: 0, parties: HashMap::new() });
        Arc::new(Self { most, most_of_one, taken })
    }

    /// A place for a connection; `None` where all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place<P>> {
        let mut taken = self.taken();
        if taken.all >= self.most {
            return None;
        }
        taken.all += 1;
        Some(Place { places: self.clone(), party: None })
    }

    /// A place for a connection of somebody; `None` where all are taken, or all that they may have.
    pub(crate) fn take_for(self: &Arc<Self>, party: P) -> Option<Place<P>> {
        self.take()?.of(party)
    }
}

impl<P> Places<P> {
    fn taken(&self) -> MutexGuard<'_, Taken<P>> {
        // Counters only: a panic while they were held leaves nothing half-done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl<P: Copy + Eq + Hash + fmt::Debug> Place<P> {
    /// The same place, now that it is known whose it is; `None`, and it is free again, where they have too many.
    pub(crate) fn of(mut self, party: P) -> Option<Self> {
        {
            let mut taken = self.places.taken();
            let own = taken.parties.entry(party).or_default();
            if *own >= self.places.most_of_one {
                return None;
            }
            *own += 1;
        }
        self.party = Some(party);
        Some(self)
    }
}

impl<P: Eq + Hash + fmt::Debug> Drop for Place<P> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(party) = self.party.take()
            && let Some(own) = taken.parties.get_mut(&party)
        {
            *own -= 1;
            if *own == 0 {
                taken.parties.remove(&party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nobody_has_more_than_their_share_and_what_is_let_go_is_free() {
        let places = Places::new(4, 2);
        let first = places.take_for('a').unwrap();
        let second = places.take().unwrap().of('a').unwrap();
        assert!(places.take_for('a').is_none());
        assert!(places.take().unwrap().of('a').is_none());
        let _others = [places.take_for('b').unwrap(), places.take().unwrap()];
        assert!(places.take().is_none() && places.take_for('c').is_none(), "no place is left");
        drop(first);
        let third = places.take_for('a').unwrap();
        assert!(places.take_for('a').is_none());
        drop((second, third));
        assert_eq!(places.taken().parties.len(), 1);
        assert_eq!(places.taken().all, 2);
    }
}
