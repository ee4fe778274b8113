//! The image of a board with the programs that are built here: composed once in a run, for all tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sosna_image::Error;
use sosna_image::board::Board;
use sosna_image::compose::{self, Request};
use sosna_image::package::Cache;
use sosna_image::personal::Personal;
use xtask::dist::Architecture;
use xtask::paths::Tree;

use super::tools;

/// What was composed, and why it could not be.
static COMPOSED: Mutex<BTreeMap<String, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());

/// A board's image; or why there is none.
pub(super) fn composed(board: &str) -> Result<PathBuf, String> {
    let mut composed = COMPOSED.lock().unwrap_or_else(PoisonError::into_inner);
    composed.entry(board.to_owned()).or_insert_with(|| compose(board)).clone()
}

fn compose(board: &str) -> Result<PathBuf, String> {
    let cache = Cache::new(&tools().join("image"), None);
    let board = match Board::find(board).unwrap().obtainable(&cache) {
        Ok((board, changes)) => {
            if !changes.is_empty() {
                let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                eprintln!("PINS GONE: {}: tested with {}", board.name, changes.join(", "));
            }
            board
        }
        Err(error @ (Error::Package { .. } | Error::Hash { .. })) => return Err(format!("{error:?}")),
        Err(error) => panic!("{error:?}"),
    };
    let [agent, init] = programs(&board)?;
    let request = Request {
        board: &board,
        version: env!("CARGO_PKG_VERSION"),
        agent: &agent,
        init: &init,
        epoch: 1_700_000_000,
    };
    let folder = tools().join("guests");
    fs::create_dir_all(&folder).unwrap();
    let (place, new) = (
        folder.join(format!("{}.img", board.name)),
        folder.join(format!("{}.{}", board.name, std::process::id())),
    );
    match compose::image(&request, &Personal::default(), None, &cache, &new, &|_| {}) {
        Ok(_) => {}
        Err(error @ (Error::Package { .. } | Error::Hash { .. })) => return Err(format!("{error:?}")),
        Err(error) => panic!("{error:?}"),
    }
    // At once, so that nobody reads half an image.
    fs::rename(&new, &place).unwrap();
    Ok(place)
}

/// The programs of a device for a board, as `cargo xtask dist` left them.
fn programs(board: &Board) -> Result<[Vec<u8>; 2], String> {
    let tree = Tree::find().map_err(|error| error.to_string())?;
    let debian = board.description.architecture.as_str();
    let architecture = Architecture::ALL
        .into_iter()
        .find(|one| one.debian() == debian)
        .ok_or_else(|| format!("there are no programs for {debian}"))?;
    let folder = tree.target().join("dist").join(architecture.name());
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|_| {
            format!(
                "{} is not built; run `cargo xtask dist --target {}`",
                path.display(),
                architecture.name()
            )
        })
    };
    Ok([read("sosna-agent")?, read("sosna-init")?])
}
