//! Reads a file as a container would see it, from the layers' folders without mounting them. Links are resolved
//! within the image, component by component, each opened without following anything: no name in a layer can lead to
//! the device's own files.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fgetxattr, fstat, openat, readlinkat, statat},
    io::Errno,
};

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Folders that are merged at one place, the topmost first.
type Stack = Vec<OwnedFd>;

enum Found {
    Nothing,
    Folder(Stack),
    Link(Vec<u8>),
    /// The folder it is in.
    File(usize),
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Reads `path` of the image; nothing when it does not exist there or is no regular file.
pub(crate) fn read(layers: &[PathBuf], path: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
    let open = |layer: &PathBuf| openat(CWD, layer, folder_flags(), Mode::empty());
    let root: Stack = layers.iter().rev().map(open).collect::<Result<_, Errno>>()?;
    let mut above: Vec<Stack> = Vec::new();
    let mut here = clone(&root)?;
    let mut todo: VecDeque<Vec<u8>> = parts(path.as_bytes()).collect();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            // Above the root is the root.
            here = match above.pop() {
                Some(stack) => stack,
                None => clone(&root)?,
            };
            continue;
        }
        match look(&here, &name)? {
            Found::Nothing => return Ok(None),
            Found::Folder(stack) => above.push(std::mem::replace(&mut here, stack)),
            Found::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
                if target.starts_with(b"/") {
                    above.clear();
                    here = clone(&root)?;
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(part);
                }
            }
            Found::File(layer) => {
                return if todo.is_empty() { read_file(&here[layer], &name, max) } else { Ok(None) };
            }
        }
    }
    Ok(None)
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec)
}

fn clone(stack: &Stack) -> io::Result<Stack> {
    stack.iter().map(OwnedFd::try_clone).collect()
}

/// What overlayfs would show as `name`.
fn look(stack: &Stack, name: &[u8]) -> io::Result<Found> {
    let mut merged = Stack::new();
    for (i, folder) in stack.iter().enumerate() {
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NAMETOOLONG) => continue,
            Err(errno) => return Err(errno.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let folder = openat(folder, name, folder_flags(), Mode::empty())?;
                let opaque = is_opaque(&folder);
                merged.push(folder);
                if opaque {
                    break;
                }
            }
            // Anything else ends the merge; a whiteout, the device 0:0, is the only device in a layer.
            _ if !merged.is_empty() => break,
            FileType::CharacterDevice => return Ok(Found::Nothing),
            FileType::Symlink => {
                return Ok(Found::Link(readlinkat(folder, name, Vec::new())?.into_bytes()));
            }
            _ => return Ok(Found::File(i)),
        }
    }
    Ok(if merged.is_empty() { Found::Nothing } else { Found::Folder(merged) })
}

fn is_opaque(folder: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0_u8; 2];
        fgetxattr(folder, *name, &mut value).is_ok_and(|length| value[..length] == *b"y")
    })
}

fn read_file(folder: &OwnedFd, name: &[u8], max: u64) -> io::Result<Option<Vec<u8>>> {
    // A FIFO would wait for a writer for ever; it is opened without waiting and then refused.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut text = Vec::new();
    File::from(fd).take(max).read_to_end(&mut text)?;
    Ok(Some(text))
}
