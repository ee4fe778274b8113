//! Who is at work: found by the containers that run, not by what anybody says.

use crate::{leaks, world::World};

impl World {
    /// A device of these places whose container runs now, and the container.
    #[must_use]
    pub fn at_work(&self, places: &[usize]) -> Option<(usize, String)> {
        places.iter().find_map(|place| {
            let names = leaks::containers(&self.agent(*place).data);
            let busy = names.into_iter().find(|name| !leaks::processes(name).is_empty())?;
            Some((*place, busy))
        })
    }

    /// Waits for one.
    ///
    /// # Panics
    /// When there is none in the test's time.
    #[must_use]
    #[track_caller]
    pub fn until_at_work(&self, places: &[usize]) -> (usize, String) {
        let mut found = None;
        self.until("a container at work", || {
            found = self.at_work(places);
            found.is_some()
        });
        found.unwrap()
    }
}
