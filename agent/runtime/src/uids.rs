//! Which container has which range of host user ids. One file for each range in use, made by `link(2)`, so that
//! two containers can never hold one range, whoever asks at the same time and whoever dies in between.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::{
    error::{At, Result, RuntimeError},
    spec::ContainerId,
};

/// How many ids a container has.
pub(crate) const WIDTH: u32 = 65_536;

/// The ranges of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    folder: PathBuf,
    base: u32,
    count: u32,
}

impl Ranges {
    pub(crate) fn new(folder: PathBuf, base: u32, count: u32) -> Self {
        Self { folder, base, count }
    }

    /// The first host id of the range that this container has or gets now.
    pub(crate) fn take(&self, id: &ContainerId) -> Result<u32> {
        let full = || RuntimeError::NoUidRange { count: self.count };
        let first = |slot: u32| self.base.checked_add(slot.checked_mul(WIDTH)?);
        if let Some(slot) = self.find(id) {
            return first(slot).ok_or_else(full);
        }
        fs::create_dir_all(&self.folder).at("create the folder", &self.folder)?;
        let aside = self.folder.join(format!(".{id}"));
        fs::write(&aside, id.as_str()).at("write", &aside)?;
        let mut taken = None;
        for slot in 0..self.count {
            match fs::hard_link(&aside, self.path(slot)) {
                Ok(()) => {
                    taken = Some(slot);
                    break;
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => {
                    let _ = fs::remove_file(&aside);
                    return Err(e).at("reserve user ids in", &self.folder);
                }
            }
        }
        let _ = fs::remove_file(&aside);
        taken.and_then(first).ok_or_else(full)
    }

    /// Gives a container's range back; that it has none is fine.
    pub(crate) fn release(&self, id: &ContainerId) -> Result<()> {
        while let Some(slot) = self.find(id) {
            let path = self.path(slot);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).at("remove", path),
                _ => {}
            }
        }
        Ok(())
    }

    /// Who holds ranges now.
    pub(crate) fn holders(&self) -> Vec<ContainerId> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|e| holder(&e.path()).ok().flatten()).collect()
    }

    fn path(&self, slot: u32) -> PathBuf {
        self.folder.join(slot.to_string())
    }

    fn find(&self, id: &ContainerId) -> Option<u32> {
        let entries = fs::read_dir(&self.folder).ok()?.flatten();
        entries
            .filter(|e| holder(&e.path()).is_ok_and(|h| h.as_ref() == Some(id)))
            .find_map(|e| e.file_name().to_str()?.parse().ok())
    }
}

fn holder(path: &Path) -> io::Result<Option<ContainerId>> {
    if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
        return Ok(None);
    }
    Ok(ContainerId::new(fs::read_to_string(path)?).ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn id(n: usize) -> ContainerId {
        ContainerId::new(format!("c{n}")).unwrap()
    }

    #[test]
    fn ranges_never_overlap_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let ranges = Ranges::new(dir.path().join("uids"), 100_000, 3);
        let firsts: Vec<_> = (0..3).map(|n| ranges.take(&id(n)).unwrap()).collect();
        assert_eq!(firsts, [100_000, 165_536, 231_072]);
        assert_eq!(ranges.take(&id(1)).unwrap(), 165_536, "asking again changes nothing");
        assert!(matches!(ranges.take(&id(3)), Err(RuntimeError::NoUidRange { count: 3 })));
        ranges.release(&id(1)).unwrap();
        ranges.release(&id(1)).unwrap();
        assert_eq!(ranges.take(&id(3)).unwrap(), 165_536);
        assert_eq!(ranges.holders().len(), 3);
    }

    #[test]
    fn many_at_once_get_different_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let ranges = Ranges::new(dir.path().into(), 0, 64);
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let ranges = ranges.clone();
                std::thread::spawn(move || ranges.take(&id(n)).unwrap())
            })
            .collect();
        let firsts: std::collections::BTreeSet<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!(firsts.len(), 16);
    }
}
