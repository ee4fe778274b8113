//! Knows what is in the store, how large it is, who uses it, and what goes first when room is needed: content that
//! belongs to no image, then the layers whose last use is longest ago. It never evicts what is pinned or held.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sosna_privsep::{Launcher, Streams};
use tokio::sync::Notify;

use crate::{
    digest::Digest,
    disk::{Disk, names, read_note, remove},
    error::ImageError,
    helper,
    prepared::OverlayMode,
};

/// How long a layer may take to go.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Unpacked layers.
    pub layers: usize,
    /// Blobs, among them unfinished ones.
    pub blobs: usize,
    /// Bytes, as the store counts them.
    pub bytes: u64,
}

/// The note beside a layer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LayerNote {
    pub(crate) bytes: u64,
    pub(crate) root_opaque: bool,
    pub(crate) mode: OverlayMode,
}

/// The note of an image that was complete once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageNote {
    pub(crate) last_use: u64,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
}

#[derive(Debug)]
struct Layer {
    note: LayerNote,
    last_use: u64,
    pins: u32,
}

#[derive(Debug, Default)]
struct Blob {
    bytes: u64,
    holds: u32,
}

#[derive(Debug, Default)]
struct State {
    layers: HashMap<Digest, Layer>,
    blobs: HashMap<Digest, Blob>,
    images: HashMap<Digest, ImageNote>,
    /// Promised to downloads.
    reserved: u64,
    /// Promised to an unpacking child.
    unpacking: u64,
    /// Out of the account, not yet gone.
    deleting: u64,
    /// Layers of which that is so.
    leaving: HashSet<Digest>,
    /// The last use handed out: only grows, even when the device's clock is set back.
    clock: u64,
}

/// The account of one store.
#[derive(Debug)]
pub(crate) struct Ledger {
    disk: Arc<Disk>,
    launcher: Launcher,
    limit: u64,
    state: Mutex<State>,
    changed: Notify,
}

/// Room promised to a download until dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    ledger: Arc<Ledger>,
    bytes: u64,
}

/// Room promised to an unpacking child until dropped.
#[derive(Debug)]
pub(crate) struct UnpackRoom {
    ledger: Arc<Ledger>,
    pub(crate) bytes: u64,
}

/// What is being removed counts until it is gone.
#[derive(Debug)]
struct Buried {
    ledger: Arc<Ledger>,
    bytes: u64,
    layers: Vec<Digest>,
}

/// Keeps a blob from being collected while it is worked with; measures it when dropped.
#[derive(Debug)]
pub(crate) struct BlobHold {
    ledger: Arc<Ledger>,
    digest: Digest,
}

/// Keeps a layer from being collected until dropped.
#[derive(Debug)]
pub(crate) struct LayerPin {
    ledger: Arc<Ledger>,
    pub(crate) diff_id: Digest,
    pub(crate) note: LayerNote,
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

// === impl State ===

impl State {
    fn used(&self) -> u64 {
        sum(self.layers.values().map(|l| l.note.bytes).chain(self.blobs.values().map(|b| b.bytes)))
            .saturating_add(self.reserved)
            .saturating_add(self.unpacking)
            .saturating_add(self.deleting)
    }

    /// What running tasks and work in progress keep in place.
    fn fixed(&self) -> u64 {
        let layers = self.layers.values().filter(|l| l.pins > 0).map(|l| l.note.bytes);
        let blobs = self.blobs.values().filter(|b| b.holds > 0).map(|b| b.bytes);
        sum(layers.chain(blobs)).saturating_add(self.reserved).saturating_add(self.unpacking)
    }

    /// Blobs that no complete image names come first, then the layer that was used longest ago (the largest of an
    /// image's, because one is enough to make the image incomplete).
    fn victim(&self) -> Option<Victim> {
        let named = |digest: &Digest| {
            self.images.iter().any(|(manifest, i)| manifest == digest || i.config == *digest)
        };
        let blob = self.blobs.iter().find(|(digest, blob)| blob.holds == 0 && !named(digest));
        if let Some((digest, _)) = blob {
            return Some(Victim::Blob(*digest));
        }
        let free = self.layers.iter().filter(|(_, layer)| layer.pins == 0);
        free.min_by_key(|(_, layer)| (layer.last_use, std::cmp::Reverse(layer.note.bytes)))
            .map(|(digest, _)| Victim::Layer(*digest))
    }
}

#[derive(Clone, Copy)]
enum Victim {
    Blob(Digest),
    Layer(Digest),
}

// === impl Ledger ===

impl Ledger {
    /// Reads the store's notes and removes what does not belong together.
    pub(crate) fn open(
        disk: Arc<Disk>,
        launcher: Launcher,
        limit: u64,
        mode: OverlayMode,
    ) -> Result<Self, ImageError> {
        let mut state = State::default();
        for name in names(&disk.layers())? {
            let diff_id = Digest::from_hex(&name).ok();
            let note = diff_id.and_then(|diff_id| read_note::<LayerNote>(&disk.layer_note(diff_id)));
            match (diff_id, note) {
                (Some(diff_id), Some(note)) if note.mode == mode => {
                    state.layers.insert(diff_id, Layer { note, last_use: 0, pins: 0 });
                }
                // Without a note it goes at the next start, or gives way.
                _ => remove(&disk.layer_note_of(&name))?,
            }
        }
        let notes = disk.root().join("index/layers");
        for name in names(&notes)? {
            if !note_digest(&name).is_some_and(|digest| state.layers.contains_key(&digest)) {
                remove(&notes.join(name))?;
            }
        }
        for name in names(&disk.blobs())? {
            match Digest::from_hex(name.strip_suffix(".part").unwrap_or(&name)) {
                Ok(digest) => {
                    state.blobs.entry(digest).or_default().bytes += length(&disk.blobs().join(name))
                }
                Err(_) => remove(&disk.blobs().join(name))?,
            }
        }
        for name in names(&disk.image_notes())? {
            let path = disk.image_notes().join(&name);
            match (note_digest(&name), read_note::<ImageNote>(&path)) {
                (Some(manifest), Some(note)) => {
                    state.clock = state.clock.max(note.last_use);
                    for diff_id in &note.layers {
                        if let Some(layer) = state.layers.get_mut(diff_id) {
                            layer.last_use = layer.last_use.max(note.last_use);
                        }
                    }
                    state.images.insert(manifest, note);
                }
                _ => remove(&path)?,
            }
        }
        Ok(Self { disk, launcher, limit, state: Mutex::new(state), changed: Notify::new() })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// Bytes in use that are not on their way out.
    pub(crate) fn staying(&self) -> u64 {
        let state = self.state();
        state.used().saturating_sub(state.deleting)
    }

    /// Digests of images that were complete once and still have a note.
    pub(crate) fn images(&self) -> Vec<Digest> {
        self.state().images.keys().copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete in itself; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- pins and holds

    pub(crate) fn has_layer(&self, diff_id: Digest) -> bool {
        self.state().layers.contains_key(&diff_id)
    }

    pub(crate) fn pin_layer(self: &Arc<Self>, diff_id: Digest) -> Option<LayerPin> {
        let mut state = self.state();
        let layer = state.layers.get_mut(&diff_id)?;
        layer.pins += 1;
        Some(LayerPin { ledger: Arc::clone(self), diff_id, note: layer.note })
    }

    /// Takes a layer into the account that has just been published.
    pub(crate) fn add_layer(self: &Arc<Self>, diff_id: Digest, note: LayerNote) -> LayerPin {
        self.state().layers.insert(diff_id, Layer { note, last_use: 0, pins: 1 });
        LayerPin { ledger: Arc::clone(self), diff_id, note }
    }

    pub(crate) fn hold_blob(self: &Arc<Self>, digest: Digest) -> BlobHold {
        self.state().blobs.entry(digest).or_default().holds += 1;
        BlobHold { ledger: Arc::clone(self), digest }
    }

    /// Takes the blob's present size into the account.
    pub(crate) fn measure(&self, digest: Digest) {
        let bytes = length(&self.disk.blob(digest)) + length(&self.disk.part(digest));
        let mut state = self.state();
        if let Some(blob) = state.blobs.get_mut(&digest) {
            blob.bytes = bytes;
            if bytes == 0 && blob.holds == 0 {
                state.blobs.remove(&digest);
            }
        }
    }

    /// Marks an image as complete and used now.
    pub(crate) fn used_now(
        &self,
        manifest: Digest,
        config: Digest,
        layers: &[Digest],
    ) -> Result<(), ImageError> {
        let note = {
            let mut state = self.state();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            state.clock = now.max(state.clock + 1);
            let note = ImageNote { last_use: state.clock, config, layers: layers.to_vec() };
            for diff_id in layers {
                if let Some(layer) = state.layers.get_mut(diff_id) {
                    layer.last_use = note.last_use;
                }
            }
            state.images.insert(manifest, note.clone());
            note
        };
        self.disk.write_note(&self.disk.image_note(manifest), &note)
    }

    // --- room

    /// Promises `bytes` under the limit, evicting what is unused; waits while an unpacking child holds room that it
    /// may give back.
    pub(crate) async fn reserve(self: &Arc<Self>, what: &str, bytes: u64) -> Result<Reservation, ImageError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let busy = {
                let mut state = self.state();
                let used = state.used();
                if used.saturating_add(bytes) <= self.limit {
                    state.reserved += bytes;
                    return Ok(Reservation { ledger: Arc::clone(self), bytes });
                }
                if state.fixed().saturating_sub(state.unpacking).saturating_add(bytes) > self.limit {
                    return Err(self.too_large(&state, what, bytes));
                }
                state.unpacking > 0 || state.deleting > 0
            };
            if self.evict_to(self.limit.saturating_sub(bytes)).await?.bytes > 0 {
                continue;
            }
            if !busy {
                return Err(self.too_large(&self.state(), what, bytes));
            }
            changed.await;
        }
    }

    /// Gives an unpacking child all room that is free, after trying to make at least `wanted` free.
    pub(crate) async fn unpack_room(self: &Arc<Self>, wanted: u64) -> Result<UnpackRoom, ImageError> {
        self.evict_to(self.limit.saturating_sub(wanted)).await?;
        let mut state = self.state();
        let bytes = self.limit.saturating_sub(state.used());
        state.unpacking += bytes;
        Ok(UnpackRoom { ledger: Arc::clone(self), bytes })
    }

    pub(crate) fn too_large_to_unpack(&self, what: &str, needed: u64) -> ImageError {
        self.too_large(&self.state(), what, needed)
    }

    fn too_large(&self, state: &State, what: &str, needed: u64) -> ImageError {
        let room = self.limit.saturating_sub(state.fixed());
        ImageError::TooLarge { what: what.into(), needed, room, limit: self.limit }
    }

    /// Evicts until no more than `target` bytes are used or nothing unused is left.
    pub(crate) async fn evict_to(self: &Arc<Self>, target: u64) -> Result<Collected, ImageError> {
        let mut collected = Collected::default();
        let (mut graves, mut layers) = (Vec::new(), Vec::new());
        let mut failed = Ok(());
        let buried = {
            let mut state = self.state();
            while failed.is_ok() && state.used().saturating_sub(state.deleting) > target {
                let Some(victim) = state.victim() else { break };
                failed = self.bury(&mut state, victim, &mut collected, (&mut graves, &mut layers));
            }
            Buried { ledger: Arc::clone(self), bytes: collected.bytes, layers }
        };
        // A dropped future must not take its share of the account along: the guard goes with the work.
        let removed = tokio::task::spawn_blocking(move || {
            let buried = buried;
            let files = graves.iter().try_for_each(|grave| remove(grave));
            let layers = buried.layers.iter().map(|layer| buried.ledger.remove_layer(*layer));
            // Each is tried, whatever became of the others.
            layers.fold(files, Result::and)
        });
        let removed = removed.await.map_err(io::Error::other);
        removed.map_err(|e| ImageError::io("evicting from", self.disk.root(), e))??;
        failed.map(|()| collected)
    }

    /// Takes a victim out of the account and out of sight, within the lock, so that nobody can find it any more.
    fn bury(
        &self,
        state: &mut State,
        victim: Victim,
        collected: &mut Collected,
        (graves, layers): (&mut Vec<PathBuf>, &mut Vec<Digest>),
    ) -> Result<(), ImageError> {
        let (bytes, paths) = match victim {
            Victim::Blob(digest) => {
                collected.blobs += 1;
                let bytes = state.blobs.remove(&digest).map_or(0, |blob| blob.bytes);
                (bytes, vec![self.disk.blob(digest), self.disk.part(digest)])
            }
            Victim::Layer(diff_id) => {
                collected.layers += 1;
                let bytes = state.layers.remove(&diff_id).map_or(0, |layer| layer.note.bytes);
                state.leaving.insert(diff_id);
                layers.push(diff_id);
                (bytes, vec![self.disk.layer_note(diff_id)])
            }
        };
        collected.bytes += bytes;
        state.deleting += bytes;
        for path in paths.into_iter().filter(|path| path.symlink_metadata().is_ok()) {
            let grave = self.disk.aside();
            std::fs::rename(&path, &grave).map_err(|e| ImageError::io("evicting", path, e))?;
            graves.push(grave);
        }
        self.forget_images(state)
    }

    /// Returns once a layer is not on its way out, so that it can come again.
    pub(crate) async fn gone(&self, diff_id: Digest) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.state().leaving.contains(&diff_id) {
                return;
            }
            changed.await;
        }
    }

    /// Has a layer removed that is out of sight. Blocks.
    fn remove_layer(&self, diff_id: Digest) -> Result<(), ImageError> {
        let failed = |error: io::Error| ImageError::io("removing", self.disk.layer(diff_id), error);
        let order = (helper::REMOVE, diff_id.hex());
        let called = self.launcher.call((order.0, &order.1), Streams::default(), 1 << 16, PATIENCE);
        let (_, said) = called.map_err(failed)?;
        let removed: Result<(), String> =
            serde_json::from_slice(&said).map_err(io::Error::from).map_err(failed)?;
        removed.map_err(io::Error::other).map_err(failed)
    }

    /// An image without any of its layers is no image; its documents may go too.
    fn forget_images(&self, state: &mut State) -> Result<(), ImageError> {
        let State { images, layers, .. } = state;
        let gone = |note: &ImageNote| !note.layers.iter().any(|diff_id| layers.contains_key(diff_id));
        let manifests: Vec<Digest> = images.iter().filter(|(_, note)| gone(note)).map(|(m, _)| *m).collect();
        for manifest in manifests {
            images.remove(&manifest);
            remove(&self.disk.image_note(manifest))?;
        }
        Ok(())
    }
}

fn note_digest(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_suffix(".json")?).ok()
}

fn length(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |meta| meta.len())
}

// === impl the guards ===

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.state().reserved -= self.bytes;
        self.ledger.changed.notify_waiters();
    }
}

impl Drop for Buried {
    fn drop(&mut self) {
        {
            let mut state = self.ledger.state();
            state.deleting -= self.bytes;
            state.leaving.retain(|layer| !self.layers.contains(layer));
        }
        self.ledger.changed.notify_waiters();
    }
}

impl Drop for UnpackRoom {
    fn drop(&mut self) {
        self.ledger.state().unpacking -= self.bytes;
        self.ledger.changed.notify_waiters();
    }
}

impl Drop for BlobHold {
    fn drop(&mut self) {
        if let Some(blob) = self.ledger.state().blobs.get_mut(&self.digest) {
            blob.holds -= 1;
        }
        self.ledger.measure(self.digest);
        self.ledger.changed.notify_waiters();
    }
}

impl Drop for LayerPin {
    fn drop(&mut self) {
        if let Some(layer) = self.ledger.state().layers.get_mut(&self.diff_id) {
            layer.pins -= 1;
        }
        self.ledger.changed.notify_waiters();
    }
}
