//! `cargo xtask demo`: the main job, set up from nothing on this machine: a hub, four devices of three owners (one of
//! which lies), a picture rendered in tiles by two devices each, and everybody's due. With `--vm` the devices are
//! machines that boot the device's own system. A device is a process or a machine (`world::Body`); job, judge and
//! tables are the same.

mod chain;
mod judge;
mod machine;
mod run;
mod view;
mod vm;
mod witness;
pub(crate) mod world;

use std::path::{Path, PathBuf};

use sosna_apt::AptError;
use sosna_host::identity::IdentityError;

use crate::chain::ChainError;
use crate::dist::DistError;
use crate::exec::{self, Log};
use crate::live::{Line, Live, Mark};
use crate::oci::layout::Image;
use crate::paths::Tree;
use crate::picture::{self, JoinError};
use crate::povray::{self, ComposeError};
use crate::tables;

/// Into how many tiles the scene is cut.
pub const TILES: usize = 12;

/// Pixels of the picture, as `render-tile` makes it when it is told nothing else.
pub const SIZE: (u32, u32) = (960, 540);

/// What can go wrong in the demo's own steps.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The programs do not compile.
    #[error("the programs do not compile; the compiler's words are in {log}", log = log.display())]
    Build {
        /// Cargo's output.
        log: PathBuf,
    },
    /// A program could not be started, or a log not be written.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The programs of a device do not compile.
    #[error("the device's own programs do not compile")]
    Programs(#[source] DistError),
    /// No emulator.
    #[error("an emulator could not be had")]
    Emulator(#[source] AptError),
    /// A machine has ended by itself.
    #[error("the machine {name} has ended by itself; its console is {console}, the emulator's words are beside it", console = console.display())]
    Ended {
        /// Which.
        name: String,
        /// What it said.
        console: PathBuf,
    },
    /// The image could not be composed.
    #[error("the image for the rendering could not be composed")]
    Compose(#[source] ComposeError),
    /// A process did not come up.
    #[error("{what} does not answer; what it said is in {log}", log = log.display())]
    Silent {
        /// Which.
        what: &'static str,
        /// Its output.
        log: PathBuf,
    },
    /// A command failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// Which.
        command: String,
        /// What it said.
        said: String,
    },
    /// A command's JSON is not what it should be.
    #[error("the answer of `{what}` cannot be read")]
    Json {
        /// Which.
        what: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// It took too long.
    #[error("{what} within {seconds} s; the logs are in {folder}", folder = folder.display())]
    Late {
        /// What did not happen.
        what: String,
        /// How long it was waited for.
        seconds: u64,
        /// Where the processes' logs are.
        folder: PathBuf,
    },
    /// There is no chain, or it does not do what it should.
    #[error("cannot {what}")]
    Chain {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: Box<ChainError>,
    },
    /// A key could not be made, or does not sign.
    #[error("the key in {path} cannot be made or used", path = path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: IdentityError,
    },
    /// Something is not as the story has it.
    #[error("{0}")]
    Wrong(String),
    /// The tiles make no picture.
    #[error("the tiles could not be joined")]
    Join(#[source] JoinError),
}

/// The demo's steps, with what is watched.
#[derive(Debug)]
pub struct Demo<'a> {
    tree: &'a Tree,
    live: Live,
}

impl<'a> Demo<'a> {
    /// In this work tree, with names of steps of up to 12 characters.
    #[must_use]
    pub fn new(tree: &'a Tree) -> Self {
        Self { tree, live: Live::new(12) }
    }

    /// The same for machines: progress goes to standard error.
    #[must_use]
    pub fn quiet(tree: &'a Tree) -> Self {
        Self { tree, live: Live::quiet(12) }
    }

    /// Progress, for the steps that are not in here.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Builds every program, with the features that the tests use too: nothing compiles twice.
    ///
    /// # Errors
    /// [`DemoError::Build`] when they do not compile.
    pub fn build(&self) -> Result<(), DemoError> {
        let io = |what| move |source| DemoError::Io { what, source };
        let mut log = Log::begin(&self.tree.logs().join("demo-build.log")).map_err(io("write a log"))?;
        let mut command = exec::cargo();
        command.current_dir(self.tree.root()).args(["build", "--workspace"]);
        self.step("build", |line| {
            let status =
                exec::run(&mut command, None, &mut log, |text| line.now(text)).map_err(io("start cargo"))?;
            match status.success() {
                true => Ok(((), "hub, agent, command line".to_owned())),
                false => Err(DemoError::Build { log: log.path().to_path_buf() }),
            }
        })
    }

    /// Composes the image that renders.
    ///
    /// # Errors
    /// [`DemoError::Compose`].
    pub fn compose(&self) -> Result<Image, DemoError> {
        self.step("image", |line| {
            line.now("POV-Ray and its libraries");
            let image = povray::compose(self.tree).map_err(DemoError::Compose)?;
            let said =
                format!("{} in {}, {}", tables::megabytes(image.bytes), image.dir.display(), image.digest);
            Ok((image, said))
        })
    }

    /// Joins the tiles, from the top down, into `into`.
    ///
    /// # Errors
    /// [`DemoError::Join`] when a tile is missing or of the wrong size.
    fn join(&self, tiles: &[PathBuf], size: (u32, u32), into: &Path) -> Result<(), DemoError> {
        self.step("picture", |line| {
            line.now("joining the tiles");
            picture::join(tiles, size, into).map_err(DemoError::Join)?;
            Ok(((), into.display().to_string()))
        })
    }

    fn step<T>(
        &self,
        name: &str,
        act: impl FnOnce(&Line) -> Result<(T, String), DemoError>,
    ) -> Result<T, DemoError> {
        let line = self.live.line(name);
        match act(&line) {
            Ok((value, said)) => {
                line.end(Mark::Good, &said);
                Ok(value)
            }
            Err(error) => {
                line.end(Mark::Bad, &error.to_string());
                Err(error)
            }
        }
    }
}

/// A row of the table of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// Name and what it was to be (honest, liar).
    pub device: String,
    /// Its owner.
    pub owner: String,
    /// Results accepted.
    pub accepted: u32,
    /// Results refused.
    pub refused: u32,
    /// Its reputation afterwards.
    pub reputation: String,
    /// What it is owed, SNM.
    pub earned: String,
    /// Whether its voucher verifies and says the same amount.
    pub voucher: bool,
}

/// The table of devices.
#[must_use]
pub fn devices_table(rows: &[DeviceRow]) -> String {
    let cells = rows.iter().map(|r| {
        let voucher = if r.voucher { "verifies" } else { "WRONG" };
        vec![
            r.device.clone(),
            r.owner.clone(),
            r.accepted.to_string(),
            r.refused.to_string(),
            r.reputation.clone(),
            r.earned.clone(),
            voucher.to_owned(),
        ]
    });
    let headings = ["device", "owner", "accepted", "refused", "reputation", "earned SNM", "voucher"];
    tables::table(&headings, &[2, 3, 4, 5], cells)
}

/// A row of the table of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineRow {
    /// Its name.
    pub device: String,
    /// The board that its image is made for.
    pub board: String,
    /// The slot that runs.
    pub slot: String,
    /// The image's version.
    pub version: String,
    /// Whether the boot image is what it was composed as.
    pub boot_image: String,
    /// The kernel that runs.
    pub kernel: String,
    /// Architecture and level.
    pub class: String,
    /// What it lends: thousandths of a core.
    pub cores: u32,
    /// And MiB.
    pub memory: u64,
}

/// The table of machines.
#[must_use]
pub fn machines_table(rows: &[MachineRow]) -> String {
    let cells = rows.iter().map(|r| {
        vec![
            r.device.clone(),
            r.board.clone(),
            r.slot.clone(),
            r.version.clone(),
            r.boot_image.clone(),
            r.kernel.clone(),
            r.class.clone(),
            format!("{}.{}", r.cores / 1000, r.cores % 1000 / 100),
            format!("{} MiB", r.memory),
        ]
    });
    let headings = ["device", "board", "slot", "version", "boot image", "kernel", "class", "cores", "memory"];
    tables::table(&headings, &[7, 8], cells)
}

/// A row of the table of tiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileRow {
    /// Its number, from the top.
    pub tile: usize,
    /// Who rendered it, in the order in which they revealed.
    pub by: Vec<String>,
    /// The root that was accepted, in hex.
    pub root: String,
    /// In words.
    pub verdict: String,
}

/// The table of tiles.
#[must_use]
pub fn tiles_table(rows: &[TileRow]) -> String {
    let cells = rows.iter().map(|r| {
        let short: String = r.root.chars().take(12).collect();
        vec![r.tile.to_string(), r.by.join(", "), short, r.verdict.clone()]
    });
    tables::table(&["tile", "rendered by", "root", "verdict"], &[0], cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_tell_a_wrong_voucher() {
        let row = DeviceRow {
            device: "d1".into(),
            owner: "anna".into(),
            accepted: 7,
            refused: 1,
            reputation: "0.5".into(),
            earned: "0.07".into(),
            voucher: false,
        };
        let text = devices_table(&[row.clone(), DeviceRow { voucher: true, ..row }]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(1).is_some_and(|l| l.ends_with("WRONG")), "{text}");
        assert!(text.lines().nth(2).is_some_and(|l| l.ends_with("verifies")), "{text}");
    }

    #[test]
    fn roots_are_shortened() {
        let row = TileRow {
            tile: 3,
            by: vec!["a".into(), "b".into()],
            root: "ab".repeat(32),
            verdict: "agreed".into(),
        };
        let text = tiles_table(&[row]);
        assert!(
            text.contains("a, b") && text.contains("abababababab ") && !text.contains("ababababababab"),
            "{text}"
        );
    }
}
