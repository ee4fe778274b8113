//! The lists that roots are over, for whoever wants to see or to prove a line. Reckoning a tree over many devices takes
//! a while, so the last ones are kept.

use std::sync::{Arc, Mutex, PoisonError};

use sosna_contracts::payouts::{Line, Payouts, PayoutsError};
use sosna_protocol::{Address, Amount, Hash};
use sosna_store::{Root, Store};

use crate::error::HubError;

/// Two roots can be claimed by at a time, and one more may be on its way.
const KEPT: usize = 3;

/// A root with its tree.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) root: Root,
    pub(crate) tree: Payouts,
}

/// The last that were asked for.
#[derive(Debug, Default)]
pub(super) struct Lists {
    kept: Mutex<Vec<Arc<List>>>,
}

// === impl List ===

impl List {
    /// When it can be claimed by, milliseconds since 1970; `None` while it is not certain to be on the chain.
    pub(crate) fn active_ms(&self) -> Option<u64> {
        self.root.active_at.map(|at| at.saturating_mul(1000))
    }

    /// A device's line, with its way up; `None` where it has none.
    pub(crate) fn proof(&self, device: &Address) -> Option<(Amount, Vec<Hash>)> {
        let at = self.tree.lines().iter().position(|line| line.device == *device)?;
        Some((self.tree.lines()[at].cumulative, self.tree.path(at)?))
    }
}

// === impl Lists ===

impl Lists {
    /// The list of a root by its name, or of the newest that is certain to be on the chain. Those of old roots, by which
    /// nothing can be claimed any more, are not kept.
    pub(super) async fn find(
        &self,
        store: &Store,
        named: Option<Hash>,
    ) -> Result<Option<Arc<List>>, HubError> {
        let found = store.read(move |tx| {
            Box::pin(async move { tx.newest_root(named.as_ref()).await.map_err(HubError::from) })
        });
        let Some(root) = found.await? else { return Ok(None) };
        if let Some(known) = self.kept().iter().find(|known| known.root == root) {
            return Ok(Some(Arc::clone(known)));
        }
        let id = root.id;
        let lines =
            store.read(move |tx| Box::pin(async move { tx.root_lines(id).await.map_err(HubError::from) }));
        let lines = lines.await?;
        if lines.is_empty() {
            return Ok(None);
        }
        let reckoned = tokio::task::spawn_blocking(move || {
            let lines = lines.into_iter().map(|(device, cumulative)| Line { device, cumulative }).collect();
            Ok::<_, PayoutsError>(List { root, tree: Payouts::new(lines)? })
        });
        let list = reckoned
            .await
            .map_err(|error| HubError::internal("a list could not be reckoned", error))?
            .map_err(|error| HubError::internal("a list is not what its root was made of", error))?;
        let list = Arc::new(list);
        let mut kept = self.kept();
        kept.retain(|known| known.root.id != list.root.id);
        kept.insert(0, Arc::clone(&list));
        kept.truncate(KEPT);
        Ok(Some(list))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Arc<List>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
