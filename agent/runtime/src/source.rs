//! Where a container's layers and inputs come from. An agent names them; where its word is not enough, they are opened so
//! that no name, link or file of somebody else's can stand for another one.

use std::{
    os::fd::OwnedFd,
    path::{Component, Path},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, SFlag, fstat},
};

use crate::{
    error::{At, Result, RuntimeError},
    settings::Sources,
    sys,
};

/// A detached mount of a layer.
pub(crate) fn layer(path: &Path, sources: Option<&Sources>) -> Result<OwnedFd> {
    let Some(sources) = sources else { return sys::clone_tree(path).at("open", path) };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_name = name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if path.parent() != Some(&sources.layers) || !is_name {
        return Err(foreign("layers", path, &sources.layers));
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = open(path, flags, Mode::empty()).at("open", path)?;
    sys::clone_tree_of(&folder).at("open", path)
}

/// A detached mount of an input, and whose it is where that matters.
pub(crate) fn input(path: &Path, sources: Option<&Sources>) -> Result<(OwnedFd, Option<u32>)> {
    let Some(sources) = sources else { return Ok((sys::clone_tree(path).at("open", path)?, None)) };
    let root = &sources.inputs;
    let below = path.strip_prefix(root).ok();
    let is_plain = |below: &&Path| {
        below.components().all(|part| matches!(part, Component::Normal(_))) && *below != Path::new("")
    };
    let below = below.filter(is_plain).ok_or_else(|| foreign("inputs", path, root))?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = open(root, flags | OFlag::O_DIRECTORY, Mode::empty()).at("open", root)?;
    let within =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let file = openat2(&folder, below, OpenHow::new().flags(flags).resolve(within)).at("open", path)?;
    let (owner, found) = (fstat(&folder).at("look at", root)?, fstat(&file).at("look at", path)?);
    let is_file = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    // A second name of another's file has another owner.
    if !is_file || found.st_uid != owner.st_uid {
        return Err(foreign("inputs", path, root));
    }
    Ok((sys::clone_tree_of(&file).at("open", path)?, Some(found.st_uid)))
}

fn foreign(field: &'static str, path: &Path, root: &Path) -> RuntimeError {
    RuntimeError::BadSpec { field, problem: format!("{} is not of {}", path.display(), root.display()) }
}
