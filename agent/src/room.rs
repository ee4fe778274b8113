//! Room on a disk that others fill, or that images have filled: some is kept in hand, unused images go when it gets
//! short, and what the device lends follows what there is.
//!
//! A store cannot be written on a disk without a free block, and then not even the result that would free some can be
//! delivered. So the device keeps a file that it can do without, and starts by giving it up where it must.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{errno::Errno, fcntl::posix_fallocate};
use sosna_host::report;

use crate::{
    config::AgentConfig,
    device::{self, DeviceError},
    node::Offer,
    store::StoreError,
    task::Engine,
};

/// The file that is given up.
const NAME: &str = "ballast";
/// Its size: the store and the logs of many results.
const BYTES: u64 = 4 << 20;
/// It is given up below so many free bytes,
const SPEND_BELOW: u64 = 2 << 20;
/// and made above so many. Far enough apart that giving it up does not make it come back.
const LAY_ABOVE: u64 = 12 << 20;
/// How often the disk is looked at. The first time not at once: tasks that go on after a start hold their images by
/// then.
const LOOK: Duration = Duration::from_secs(10);

/// Bytes that are taken only so that they can be given up.
#[derive(Debug)]
pub(crate) struct Ballast {
    folder: PathBuf,
    /// This disk does not let it be made, or be given up: said once.
    is_hopeless: bool,
}

/// Why the room could not be looked after.
#[derive(Debug, thiserror::Error)]
enum RoomError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("unused images cannot be removed")]
    Images(#[from] sosna_layers::ImageError),
}

// === impl Ballast ===

impl Ballast {
    /// That of a data folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), is_hopeless: false }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// Gives it up where the disk is full.
    pub(crate) fn spend_if_full(&mut self) {
        match device::disk_free(&self.folder) {
            Ok((free, _)) if free < SPEND_BELOW => {}
            // A disk that does not answer is somebody else's to tell.
            _ => return,
        }
        let spent = fs::remove_file(self.path()).and_then(|()| {
            // The blocks are free when the removal is on the disk.
            File::open(&self.folder)?.sync_all()
        });
        match spent {
            Ok(()) => tracing::warn!(
                "the disk of {} is full: {} MiB that were kept for this are given up; make room, and they are kept \
                 again",
                self.folder.display(),
                BYTES >> 20
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.despair("given up", &error),
        }
    }

    /// Makes it where there is room and it is missing or too small.
    pub(crate) fn lay_if_roomy(&mut self) {
        let path = self.path();
        let is_there = fs::metadata(&path).is_ok_and(|meta| meta.len() >= BYTES);
        let is_roomy = device::disk_free(&self.folder).is_ok_and(|(free, _)| free >= LAY_ABOVE);
        if is_there || !is_roomy || self.is_hopeless {
            return;
        }
        if let Err(error) = lay(&path) {
            self.despair("made", &error);
        }
    }

    fn despair(&mut self, what: &str, error: &io::Error) {
        if !self.is_hopeless {
            tracing::warn!("{} cannot be {what}: {error}", self.path().display());
        }
        self.is_hopeless = true;
    }
}

fn lay(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let length = i64::try_from(BYTES).map_err(io::Error::other)?;
    match posix_fallocate(&file, 0, length) {
        Ok(()) => Ok(()),
        // Not every file system can take blocks without writing them.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
            let piece = [0; 1 << 16];
            (0..BYTES / 65_536).try_for_each(|_| file.write_all(&piece))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Looks after the disk for as long as the agent runs.
pub(crate) async fn keep(engine: Arc<Engine>, mut ballast: Ballast, config: AgentConfig) {
    let mut last = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = look(&engine, &mut ballast, &config).await.err().map(|error| report::line(&error));
        // Every few seconds the same would say nothing.
        if let Some(trouble) = now.as_ref().filter(|_| now != last) {
            tracing::warn!("room on the disk: {trouble}");
        }
        last = now;
    }
}

async fn look(engine: &Engine, ballast: &mut Ballast, config: &AgentConfig) -> Result<(), RoomError> {
    ballast.spend_if_full();
    let node = &engine.node;
    let (free, _) = device::disk_free(&node.data).map_err(DeviceError::from)?;
    let reserve = node.offer().lent.disk_reserve;
    if free < reserve {
        let gone = engine.images.make_room(reserve - free).await?;
        if gone.bytes > 0 {
            tracing::info!(
                bytes = gone.bytes,
                layers = gone.layers,
                "the disk was getting full: unused images are gone"
            );
        }
    }
    ballast.lay_if_roomy();
    let tasks = node.store.open_tasks()?;
    // What a task writes comes and goes: the room is judged when there is none.
    if tasks.iter().any(|task| task.is_open()) {
        return Ok(());
    }
    let (old, new) = (node.offer(), Offer::now(config, &tasks)?);
    if is_another(&old, &new) {
        tracing::info!(
            disk = new.lent.resources.disk,
            inodes = new.lent.resources.inodes,
            "there is another amount of room on the disk: the device lends what it has"
        );
        node.set_offer(new);
    }
    Ok(())
}

/// Whether the hub should hear of it: by a quarter more or less, so that it does not hear of every image.
fn is_another(old: &Offer, new: &Offer) -> bool {
    let differs = |old: u64, new: u64| old.abs_diff(new) > old.max(new) / 4;
    let (old, new) = (&old.lent.resources, &new.lent.resources);
    differs(old.disk, new.disk) || differs(old.inodes, new.inodes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn ballast_takes_its_room_and_stays_where_there_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::of(folder.path());
        // Cut off by a power cut.
        fs::write(ballast.path(), [0; 100]).unwrap();
        ballast.lay_if_roomy();
        let meta = fs::metadata(ballast.path()).unwrap();
        assert_eq!(meta.len(), BYTES);
        assert!(meta.blocks() * 512 >= BYTES, "blocks, not a hole");
        ballast.spend_if_full();
        assert!(ballast.path().exists(), "the disk is not full");
    }

    #[test]
    fn the_hub_hears_of_much_and_not_of_little() {
        let offer = |disk: u64| Offer {
            lent: device::Lent {
                resources: sosna_protocol::resources::Resources { disk, ..Default::default() },
                images: 0,
                disk_reserve: 0,
            },
            exposure_limit: sosna_protocol::Amount::ZERO,
            exposure_start: sosna_protocol::Amount::ZERO,
        };
        for (old, new, another) in
            [(0, 1 << 30, true), (1 << 30, 0, true), (1000, 900, false), (1000, 700, true)]
        {
            assert_eq!(is_another(&offer(old), &offer(new)), another, "{old} to {new}");
        }
    }
}
