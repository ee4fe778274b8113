//! The store of images on one device: one folder, one owner process, one disk limit.
//!
//! An image is made ready by [`ImageStore::ensure`]: manifest and configuration by digest, then layer by layer
//! download, unpack, forget the compressed form. The returned [`Image`] keeps its layers in place until dropped.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use sosna_privsep::{Launcher, Monitor, Streams};
use sosna_registry::{Kind, Reach};

use crate::{
    config::{Config, Descriptor, Manifest, RunConfig},
    digest::Digest,
    disk::{Disk, remove},
    error::ImageError,
    fetch::{Sources, Wanted, fetch},
    helper,
    http::Http,
    ledger::{BlobHold, Collected, LayerNote, LayerPin, Ledger},
    locks::{Key, Locks},
    prepared::{OverlayMode, Prepared},
    request::{ImageRequest, Progress},
    unpack::{Job, Limits, Refusal, UnpackError, sandbox::SandboxReport, unpack},
    user::{ACCOUNT_BYTES, PASSWD, ResolvedUser, UserError, resolve},
};

/// No manifest or configuration is larger (distribution-spec recommends registries to allow 4 MiB).
const DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;

/// How long a helper may take to read two files.
const HELPER: Duration = Duration::from_secs(30);

/// How a store works; the default is right for an agent.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Bounds on one layer; by default [`Limits::for_store`].
    pub limits: Option<Limits>,
    /// The HTTP client for registries; by default one with the system's certificate authorities.
    pub registry_client: Option<reqwest::Client>,
    /// Which registries may be on this machine or in a private network; a client that is given goes wherever it goes.
    pub reach: Reach,
    /// How long a source may be silent.
    pub patience: Duration,
}

/// Images and their layers on this device.
#[derive(Debug)]
pub struct ImageStore {
    disk: Arc<Disk>,
    ledger: Arc<Ledger>,
    locks: Locks,
    http: Http,
    options: StoreOptions,
    mode: OverlayMode,
    launcher: Launcher,
    /// One layer is unpacked at a time: a small device has neither the memory nor the cores for more.
    unpacking: tokio::sync::Mutex<()>,
    sandbox: Mutex<Option<SandboxReport>>,
    /// Locked as long as the store is open.
    _owner: File,
}

/// An image whose layers are all on disk, verified, and stay there until this is dropped.
#[derive(Debug)]
pub struct Image {
    /// What was asked for.
    pub manifest_digest: Digest,
    /// Folders for overlayfs, bottom first; read-only to everybody.
    pub layers: Vec<PathBuf>,
    /// How the image wants to be started.
    pub config: RunConfig,
    /// Bytes of the unpacked layers on disk.
    pub size_bytes: u64,
    _pins: Vec<LayerPin>,
}

// === impl StoreOptions ===

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            limits: None,
            registry_client: None,
            reach: Reach::default(),
            patience: Duration::from_secs(30),
        }
    }
}

// === impl ImageStore ===

impl ImageStore {
    /// Opens or makes the store in `folder`, with at most `limit_bytes` on disk, and works on layers with this process's
    /// own rights; for programs that have none to give up. Blocks for a moment.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process has it open.
    pub fn open(folder: &Path, limit_bytes: u64, options: StoreOptions) -> Result<Self, ImageError> {
        let prepared = Prepared::new(folder, None, None)?;
        let monitor = Monitor::new(prepared.helpers()).and_then(Monitor::beside);
        let launcher = monitor.map_err(|e| ImageError::io("starting a monitor for", folder, e))?;
        Self::new(&prepared, launcher, limit_bytes, options)
    }

    /// Opens what was prepared; the launcher's monitor knows [`Prepared::helpers`].
    ///
    /// # Errors
    /// When the folder cannot be used, or another process has it open.
    pub fn new(
        prepared: &Prepared,
        launcher: Launcher,
        limit_bytes: u64,
        options: StoreOptions,
    ) -> Result<Self, ImageError> {
        let lock = prepared.root.join("lock");
        let owner =
            File::options().append(true).open(&lock).map_err(|e| ImageError::io("opening", &lock, e))?;
        match flock(&owner, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ImageError::InUse { path: prepared.root.clone() }),
            Err(errno) => return Err(ImageError::io("locking", lock, errno.into())),
        }
        let disk = Arc::new(Disk::open(&prepared.root)?);
        let ledger = Ledger::open(Arc::clone(&disk), launcher.clone(), limit_bytes, prepared.mode)?;
        Ok(Self {
            ledger: Arc::new(ledger),
            disk,
            locks: Locks::default(),
            http: Http::new(options.registry_client.clone(), options.reach.clone(), options.patience),
            options,
            mode: prepared.mode,
            launcher,
            unpacking: tokio::sync::Mutex::new(()),
            sandbox: Mutex::new(None),
            _owner: owner,
        })
    }

    /// Resolves the user of an image, as [`crate::resolve_user`] does, by a helper: the layers are closed to a store
    /// without rights.
    ///
    /// # Errors
    /// [`UserError`].
    pub async fn user_of(&self, image: &Image, user: &str) -> Result<ResolvedUser, UserError> {
        let (layers, launcher) = (image.layers.clone(), self.launcher.clone());
        let failed = |source: io::Error| UserError::Read { path: PASSWD, source };
        let read = tokio::task::spawn_blocking(move || accounts(&launcher, &layers)).await;
        let [passwd, group] = read.map_err(io::Error::other).and_then(|read| read).map_err(failed)?;
        resolve(user, &passwd.unwrap_or_default(), &group.unwrap_or_default())
    }

    /// How to mount the layers.
    #[must_use]
    pub fn overlay_mode(&self) -> OverlayMode {
        self.mode
    }

    /// Bytes in use, with room promised to work in progress.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.ledger.used()
    }

    /// The disk limit in bytes.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.ledger.limit()
    }

    /// Manifests of images that were complete at their last use; some of their layers may be gone since.
    #[must_use]
    pub fn images(&self) -> Vec<Digest> {
        self.ledger.images()
    }

    /// How far the last unpacking child could build its sandbox; none before the first.
    #[must_use]
    pub fn sandbox(&self) -> Option<SandboxReport> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Evicts what is unused, longest ago first, until the store is within its limit. A pull does the same by
    /// itself; this is for after a lower limit, or a crash.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn collect_garbage(&self) -> Result<Collected, ImageError> {
        self.ledger.evict_to(self.ledger.limit()).await
    }

    /// Evicts what is unused, longest ago first, until `bytes` more are free on the disk, or nothing unused is left.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn make_room(&self, bytes: u64) -> Result<Collected, ImageError> {
        self.ledger.evict_to(self.ledger.staying().saturating_sub(bytes)).await
    }

    /// Evicts everything that no live [`Image`] pins.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn remove_unused(&self) -> Result<Collected, ImageError> {
        self.ledger.evict_to(0).await
    }

    /// Makes an image ready, from this disk when it is here, otherwise from the request's sources. Calls for the same
    /// image share the work. Dropping the future stops the work; what was downloaded is kept for the next call.
    ///
    /// # Errors
    /// See [`ImageError`]; after any of them nothing half-done is visible.
    pub async fn ensure(&self, request: &ImageRequest) -> Result<Arc<Image>, ImageError> {
        match self.try_ensure(request).await {
            Err(ImageError::NoSpace { .. }) => {}
            done => return done,
        }
        // Others fill the disk, too: below the limit, and yet full. What nobody uses makes room.
        self.ledger.evict_to(0).await?;
        let again = self.try_ensure(request).await;
        if matches!(again, Err(ImageError::NoSpace { .. })) {
            // What came so far would keep the disk full, and receipts could not be written.
            self.ledger.evict_to(0).await?;
        }
        again
    }

    async fn try_ensure(&self, request: &ImageRequest) -> Result<Arc<Image>, ImageError> {
        let manifest_digest = request.manifest_digest;
        let _image = self.locks.lock(Key::Image(manifest_digest)).await;
        let mut sources = Sources::new(&request.sources);

        let wanted = Wanted {
            kind: Kind::Manifest,
            what: "the manifest",
            digest: manifest_digest,
            size: None,
            max: DOCUMENT_BYTES,
        };
        let (text, _manifest_hold) = self.document(&mut sources, wanted).await?;
        let manifest = Manifest::parse(&text)
            .map_err(|source| ImageError::Document { digest: manifest_digest, source })?;

        let digest = manifest.config.digest;
        if manifest.config.size > DOCUMENT_BYTES {
            let needed = manifest.config.size;
            let (room, limit) = (DOCUMENT_BYTES, self.limit_bytes());
            return Err(ImageError::TooLarge { what: "the configuration".into(), needed, room, limit });
        }
        let wanted = Wanted {
            kind: Kind::Blob,
            what: "the configuration",
            digest,
            size: Some(manifest.config.size),
            max: DOCUMENT_BYTES,
        };
        let (text, _config_hold) = self.document(&mut sources, wanted).await?;
        let config = Config::parse(&text, manifest.layers.len())
            .map_err(|source| ImageError::Document { digest, source })?;
        if !request.platform.accepts(&config.platform) {
            return Err(ImageError::Platform {
                expected: Box::new(request.platform.clone()),
                found: Box::new(config.platform),
            });
        }

        let pins = self.layers(request, &mut sources, &manifest, &config.diff_ids).await?;
        self.ledger.used_now(manifest_digest, digest, &config.diff_ids)?;
        Ok(Arc::new(self.image(manifest_digest, config.run, pins)))
    }

    fn image(&self, manifest_digest: Digest, config: RunConfig, mut pins: Vec<LayerPin>) -> Image {
        // overlayfs merges root folders whatever their marks say, so what an opaque root hides is left out here.
        if let Some(top) = pins.iter().rposition(|pin| pin.note.root_opaque) {
            pins.drain(..top);
        }
        // It refuses the same folder twice; the lower one shows nothing that the upper one does not.
        let mut kept: Vec<LayerPin> = Vec::with_capacity(pins.len());
        for pin in pins.into_iter().rev() {
            if !kept.iter().any(|other| other.diff_id == pin.diff_id) {
                kept.push(pin);
            }
        }
        kept.reverse();
        Image {
            manifest_digest,
            layers: kept.iter().map(|pin| self.disk.layer(pin.diff_id)).collect(),
            config,
            size_bytes: kept.iter().fold(0, |sum: u64, pin| sum.saturating_add(pin.note.bytes)),
            _pins: kept,
        }
    }

    /// A manifest or configuration, from the disk or fetched, verified either way.
    async fn document(
        &self,
        sources: &mut Sources<'_>,
        wanted: Wanted,
    ) -> Result<(Vec<u8>, BlobHold), ImageError> {
        let _blob = self.locks.lock(Key::Blob(wanted.digest)).await;
        let hold = self.ledger.hold_blob(wanted.digest);
        let path = self.disk.blob(wanted.digest);
        for fetched in [false, true] {
            if fetched {
                fetch(&self.http, &self.disk, self.options.patience, sources, wanted, &mut |_| {}).await?;
                self.ledger.measure(wanted.digest);
            }
            match read_bounded(&path) {
                Ok(text) if Digest::of(&text) == wanted.digest => return Ok((text, hold)),
                // A worn card can change what was right once.
                Ok(_) => remove(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ImageError::io("reading", path, error)),
            }
        }
        Err(ImageError::io("reading back", path, io::Error::other("the disk does not keep what is written")))
    }

    async fn layers(
        &self,
        request: &ImageRequest,
        sources: &mut Sources<'_>,
        manifest: &Manifest,
        diff_ids: &[Digest],
    ) -> Result<Vec<LayerPin>, ImageError> {
        let pairs = || manifest.layers.iter().zip(diff_ids);
        let missing = pairs().filter(|(_, diff_id)| !self.ledger.has_layer(**diff_id));
        let total = missing.fold(0, |sum: u64, (layer, _)| sum.saturating_add(layer.size));
        if total > self.limit_bytes() {
            return Err(self.ledger.too_large_to_unpack("the compressed image", total));
        }
        if let Some(limit) = request.most_bytes.filter(|limit| total > *limit) {
            return Err(ImageError::Costly { needed: total, limit });
        }
        let mut before = 0;
        let mut pins = Vec::with_capacity(diff_ids.len());
        for (layer, diff_id) in pairs() {
            let mut tell = |bytes: u64| {
                if let Some(progress) = &request.progress {
                    progress(Progress { done: (before + bytes).min(total), total });
                }
            };
            let (pin, came) = self.layer(sources, layer, *diff_id, &mut tell).await?;
            before += came;
            pins.push(pin);
        }
        Ok(pins)
    }

    /// One layer, and how many compressed bytes it stood for.
    async fn layer(
        &self,
        sources: &mut Sources<'_>,
        layer: &Descriptor,
        diff_id: Digest,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(LayerPin, u64), ImageError> {
        let _layer = self.locks.lock(Key::Layer(diff_id)).await;
        if let Some(pin) = self.ledger.pin_layer(diff_id) {
            return Ok((pin, 0));
        }
        let _blob = self.locks.lock(Key::Blob(layer.digest)).await;
        let _hold = self.ledger.hold_blob(layer.digest);
        self.ledger.gone(diff_id).await;
        let path = self.disk.blob(layer.digest);
        if length(&path) != Some(layer.size) {
            remove(&path)?;
            if sources.is_empty() {
                return Err(ImageError::NoSource { digest: layer.digest });
            }
            let have = length(&self.disk.part(layer.digest)).unwrap_or(0);
            let room = self.ledger.reserve("a compressed layer", layer.size.saturating_sub(have)).await?;
            let wanted = Wanted {
                kind: Kind::Blob,
                what: "the layer",
                digest: layer.digest,
                size: Some(layer.size),
                max: layer.size,
            };
            let fetched = fetch(&self.http, &self.disk, self.options.patience, sources, wanted, tell).await;
            self.ledger.measure(layer.digest);
            drop(room);
            fetched?;
        }
        tell(layer.size);
        let unpacked = self.unpack_layer(layer, diff_id).await;
        let keep = matches!(&unpacked, Err(ImageError::NoSpace { .. } | ImageError::TooLarge { .. }))
            || matches!(&unpacked, Err(ImageError::Unpack { source, .. }) if !matches!(source, UnpackError::Refused(_)));
        if !keep {
            remove(&path)?;
        }
        Ok((unpacked?, layer.size))
    }

    async fn unpack_layer(&self, layer: &Descriptor, diff_id: Digest) -> Result<LayerPin, ImageError> {
        let _one = self.unpacking.lock().await;
        // A guess is enough to evict no more than needed; when it was too low, everything unused goes.
        let mut wanted = self.guess_unpacked(layer);
        let mut tried = 0;
        loop {
            let room = self.ledger.unpack_room(wanted).await?;
            if room.bytes <= tried {
                drop(room);
                let what = format!("the unpacked layer {}", layer.digest);
                return Err(self.ledger.too_large_to_unpack(&what, tried.saturating_add(1)));
            }
            match self.unpack_into(layer, diff_id, room.bytes).await {
                Err(ImageError::Unpack {
                    source: UnpackError::Refused(Refusal::DiskRoom { .. }), ..
                }) => {
                    tried = room.bytes;
                    wanted = self.limit_bytes();
                }
                Err(ImageError::Unpack { source: UnpackError::Refused(Refusal::NoSpace), .. }) => {
                    return Err(ImageError::NoSpace { path: self.disk.root().to_owned() });
                }
                done => return done,
            }
        }
    }

    /// About what a layer will take on disk. gzip ends with the uncompressed length modulo 2^32 (RFC 1952, 2.3.1);
    /// otherwise text and programs shrink to a third or so. A lie makes the guess wrong, nothing else.
    fn guess_unpacked(&self, layer: &Descriptor) -> u64 {
        let told = File::open(self.disk.blob(layer.digest)).and_then(|blob| {
            use std::os::unix::fs::FileExt as _;
            let (mut magic, mut length) = ([0; 2], [0; 4]);
            blob.read_exact_at(&mut magic, 0)?;
            blob.read_exact_at(&mut length, layer.size.saturating_sub(4))?;
            Ok((magic == [0x1f, 0x8b]).then(|| u64::from(u32::from_le_bytes(length))))
        });
        let bytes = match told {
            Ok(Some(told)) => told.max(layer.size),
            _ => layer.size.saturating_mul(3),
        };
        // Small files take a whole block each.
        bytes.saturating_add(bytes / 8).saturating_add(64 * 1024)
    }

    /// Unpacks within `room` bytes, and publishes.
    async fn unpack_into(
        &self,
        layer: &Descriptor,
        diff_id: Digest,
        room: u64,
    ) -> Result<LayerPin, ImageError> {
        let path = self.disk.blob(layer.digest);
        let blob = File::open(&path).map_err(|e| ImageError::io("opening", path, e))?;
        let mut limits = self.options.limits.clone().unwrap_or_else(|| Limits::for_store(self.limit_bytes()));
        limits.disk_bytes = limits.disk_bytes.min(room);
        let outcome = unpack(Job { launcher: &self.launcher, blob, diff_id, limits }).await;
        let outcome = outcome.map_err(|error| self.unpack_error(layer, error))?;
        tracing::debug!(%diff_id, unpacked = ?outcome.unpacked, "a layer is unpacked");
        self.note_sandbox(outcome.sandbox);
        let note = LayerNote {
            bytes: outcome.unpacked.disk_bytes,
            root_opaque: outcome.root_opaque,
            mode: self.mode,
        };
        // A layer without a note is thrown away at the next start.
        self.disk.write_note(&self.disk.layer_note(diff_id), &note)?;
        Ok(self.ledger.add_layer(diff_id, note))
    }

    fn unpack_error(&self, layer: &Descriptor, error: UnpackError) -> ImageError {
        match error {
            UnpackError::Finish(error) => ImageError::io("completing a layer in", self.disk.root(), error),
            source => ImageError::Unpack { digest: layer.digest, source },
        }
    }

    fn note_sandbox(&self, report: SandboxReport) {
        let mut known = self.sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&report) {
            if report.missing.is_empty() {
                tracing::debug!(%report, "the unpacker's sandbox is complete");
            } else {
                tracing::warn!(%report, "the unpacker's sandbox is incomplete on this machine");
            }
            *known = Some(report);
        }
    }
}

/// The files of accounts, read by a helper.
fn accounts(launcher: &Launcher, layers: &[PathBuf]) -> io::Result<[Option<String>; 2]> {
    let names = layers.iter().filter_map(|layer| layer.file_name()?.to_str());
    let input = Streams::reading(names.collect::<Vec<_>>().join(",").as_bytes())?;
    let (_, said) = launcher.call((helper::ACCOUNTS, ""), input, 4 * ACCOUNT_BYTES, HELPER)?;
    serde_json::from_slice::<helper::Accounts>(&said)?.map_err(io::Error::other)
}

fn length(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|meta| meta.len())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    File::open(path)?.take(DOCUMENT_BYTES + 1).read_to_end(&mut text)?;
    Ok(text)
}
