//! Whose work an image ships: the exact source packages and the texts of their licences.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Error;
use crate::block::tree::Node;
use crate::inspect::Image;

const LICENCES: &str = "usr/share/sosna/licences/";

/// A source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name in Debian.
    pub source: String,
    /// Its exact version.
    pub version: String,
    /// The packages in the image that have parts of it.
    pub packages: Vec<String>,
}

/// The source packages of an image, by name.
///
/// # Errors
/// [`Error::Malformed`]: no sound image of ours.
pub fn sources(image: &Path) -> Result<Vec<Source>, Error> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let opened = Image::open(image)?;
    for boot in opened.boot_images()? {
        for pin in Image::lock(&opened.slot_tree(&boot)?)?.packages {
            for source in pin.sources() {
                let (name, version) = source.split_once(' ').unwrap_or((&source, ""));
                let packages = found.entry((name.to_owned(), version.to_owned())).or_default();
                if !packages.contains(&pin.name) {
                    packages.push(pin.name.clone());
                }
            }
        }
    }
    Ok(found.into_iter().map(|((source, version), packages)| Source { source, version, packages }).collect())
}

/// Writes the texts about authors and licences that the image carries into a folder; how many there are.
///
/// # Errors
/// [`Error`]: no sound image of ours, or the folder cannot be written.
pub fn licences(image: &Path, folder: &Path) -> Result<usize, Error> {
    let opened = Image::open(image)?;
    let mut count = 0;
    for boot in opened.boot_images()? {
        let tree = opened.slot_tree(&boot)?;
        for (path, node) in tree.iter() {
            let (Some(name), Node::File(_, text)) = (path.strip_prefix(LICENCES), node) else { continue };
            if name.split('/').any(|part| part == ".." || part.is_empty()) {
                return Err(Error::malformed("the slot", format!("it has a file named {path}")));
            }
            let to = folder.join(name);
            let parent = to.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            fs::write(&to, text).map_err(Error::io("write", &to))?;
            count += 1;
        }
    }
    Ok(count)
}
