//! Everything that a hub is, in one file, and back: store, keys, authority, content.
//!
//! A backup is a tar archive that ends with a list of all its files and their SHA-256s, so that one which was cut
//! off or damaged is never restored. It holds keys: mode 0600, and to be kept like them. Restoring raises the
//! epoch, because counters that were used after the backup must never be used again.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sosna_host::file::{FileError, create_folder, sync_folder_of};
use sosna_protocol::Hash;
use sosna_store::{Store, StoreError};

/// The store's file in a data folder.
const STORE: &str = "hub.sqlite";
/// The archive's last entry.
const LIST: &str = "sosna-backup.json";
/// The longest list that is read: some 10 million pieces of content.
const MAX_LIST: u64 = 2 << 30;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The hub's folder, or the backup, cannot be used.
    #[error("the backup stopped at a file")]
    File(#[from] FileError),
    /// The store failed.
    #[error("the backup stopped at the store")]
    Store(#[from] StoreError),
    /// There is no hub in the folder.
    #[error("{} holds no hub; name the data folder of one", path.display())]
    NoHub {
        /// The folder.
        path: PathBuf,
    },
    /// Something is in the way.
    #[error("{} is there already; name another place", path.display())]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// The file is no whole backup. Nothing was restored.
    #[error("{} is not a whole backup: {what}; use another one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The work was cut off by the end of the program.
    #[error("the backup was cut off")]
    CutOff(#[source] tokio::task::JoinError),
}

/// The archive's last entry: what must be in it.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: u32,
    files: BTreeMap<String, Listed>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    sha256: String,
    length: u64,
}

/// Writes all of the hub in the folder `data` into `file`, which must not be there yet, and says how many bytes
/// that are. The hub may run meanwhile: the store is copied as of one moment, and content never changes.
///
/// # Errors
/// [`BackupError`]; then there is no file.
pub async fn backup(data: &Path, file: &Path) -> Result<u64, BackupError> {
    let store_path = data.join(STORE);
    if !store_path.is_file() {
        return Err(BackupError::NoHub { path: data.to_owned() });
    }
    if file.exists() {
        return Err(BackupError::Exists { path: file.to_owned() });
    }
    let copy = aside(file, ".sqlite");
    remove(&copy)?;
    // First: whatever the copy names is in the content store by then, and what comes later does no harm.
    let copied = Store::open(&store_path).await?.copy_to(&copy).await;
    let (data, target, store) = (data.to_owned(), file.to_owned(), copy.clone());
    let written = match copied {
        Ok(()) => tokio::task::spawn_blocking(move || write(&data, &store, &target))
            .await
            .unwrap_or_else(|error| Err(BackupError::CutOff(error))),
        Err(error) => Err(error.into()),
    };
    remove(&copy)?;
    if written.is_err() {
        remove(&aside(file, ".part"))?;
    }
    written
}

/// Restores a backup into the folder `data`, which must be empty or not there yet, and returns the new epoch.
///
/// # Errors
/// [`BackupError`]; then nothing is in the folder.
pub async fn restore(file: &Path, data: &Path) -> Result<u32, BackupError> {
    if fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::Exists { path: data.to_owned() });
    }
    let part = aside(data, ".restoring");
    remove_folder(&part)?;
    let (from, to) = (file.to_owned(), part.clone());
    let unpacked = tokio::task::spawn_blocking(move || unpack(&from, &to))
        .await
        .unwrap_or_else(|error| Err(BackupError::CutOff(error)));
    let done = match unpacked {
        Ok(()) => raise_epoch(&part.join(STORE)).await,
        Err(error) => Err(error),
    };
    // Only now does the folder become a hub's: one without the new epoch must never be started.
    let done = done.and_then(|epoch| {
        fs::rename(&part, data).map_err(FileError::of("put in place", data))?;
        sync_folder_of(data)?;
        Ok(epoch)
    });
    if done.is_err() {
        remove_folder(&part)?;
    }
    done
}

async fn raise_epoch(path: &Path) -> Result<u32, BackupError> {
    let store = Store::open(path).await?;
    let epoch = store.write(|tx| Box::pin(async move { tx.raise_epoch().await })).await?;
    drop(store);
    // The last connection takes the log with it when it closes, which happens beside this task.
    let log = path.with_extension("sqlite-wal");
    for _ in 0..100 {
        if !log.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(FileError::of("flush", path))?;
    Ok(epoch)
}

fn write(data: &Path, store: &Path, target: &Path) -> Result<u64, BackupError> {
    let part = aside(target, ".part");
    remove(&part)?;
    let failed = || FileError::of("write", &part);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed())?;
    let mut archive = tar::Builder::new(BufWriter::new(file));
    let mut list = List { version: 1, files: BTreeMap::new() };
    add(&mut archive, &mut list, STORE, store, &part)?;
    let mut files = Vec::new();
    walk(data, Path::new(""), &mut files)?;
    for name in files {
        add(&mut archive, &mut list, &name, &data.join(&name), &part)?;
    }
    let text = serde_json::to_vec(&list).expect("texts and numbers are JSON");
    archive.append_data(&mut header(text.len() as u64), LIST, text.as_slice()).map_err(failed())?;
    let mut file =
        archive.into_inner().map_err(failed())?.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.flush().and_then(|()| file.sync_all()).map_err(failed())?;
    let length = file.metadata().map_err(failed())?.len();
    // A link fails where a rename would replace what somebody put there meanwhile.
    fs::hard_link(&part, target).map_err(FileError::of("put in place", target))?;
    remove(&part)?;
    sync_folder_of(target)?;
    Ok(length)
}

fn add(
    archive: &mut tar::Builder<BufWriter<File>>,
    list: &mut List,
    name: &str,
    path: &Path,
    part: &Path,
) -> Result<(), BackupError> {
    let file = match File::open(path) {
        Ok(file) => file,
        // Content that was collected since the folder was read: the store's copy does not name it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::of("read", path)(error).into()),
    };
    let length = file.metadata().map_err(FileError::of("read", path))?.len();
    let mut hashing = Hashing { from: file.take(length), hasher: Sha256::new() };
    archive.append_data(&mut header(length), name, &mut hashing).map_err(FileError::of("write", part))?;
    let sha256 = Hash(hashing.hasher.finalize().into()).to_string();
    list.files.insert(name.to_owned(), Listed { sha256, length });
    Ok(())
}

fn header(length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    header
}

/// Every file of the hub but the store's own, which are copied otherwise, and what is half-written.
fn walk(data: &Path, folder: &Path, into: &mut Vec<String>) -> Result<(), BackupError> {
    let path = data.join(folder);
    let failed = || FileError::of("read", &path);
    let mut entries: Vec<_> =
        fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed())?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let relative = folder.join(entry.file_name());
        let Some(name) = relative.to_str() else { continue };
        let kind = entry.file_type().map_err(failed())?;
        if kind.is_dir() && name != "content/incoming" {
            walk(data, &relative, into)?;
        } else if kind.is_file() && !name.starts_with(STORE) && !name.ends_with(".new") {
            into.push(name.to_owned());
        }
    }
    Ok(())
}

fn unpack(from: &Path, to: &Path) -> Result<(), BackupError> {
    let damaged = |what: String| BackupError::Damaged { path: from.to_owned(), what };
    let failed = |error: io::Error| damaged(error.to_string());
    let file = File::open(from).map_err(FileError::of("read", from))?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    create_folder(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).map_err(FileError::of("close", to))?;
    let mut found = BTreeMap::new();
    let mut list = None;
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let name = path.to_str().filter(|_| is_plain(&path)).map(str::to_owned);
        let name = name.ok_or_else(|| damaged(format!("it holds {}", path.display())))?;
        if list.is_some() || !entry.header().entry_type().is_file() || found.contains_key(&name) {
            return Err(damaged(format!("`{name}` does not belong there")));
        }
        if name == LIST {
            let mut text = Vec::new();
            entry.take(MAX_LIST).read_to_end(&mut text).map_err(failed)?;
            list = Some(serde_json::from_slice::<List>(&text).map_err(|error| damaged(error.to_string()))?);
        } else {
            let listed = put(&mut entry, &to.join(&path), from)?;
            found.insert(name, listed);
        }
    }
    let list = list.ok_or_else(|| damaged("it was cut off".to_owned()))?;
    if list.version != 1 {
        return Err(damaged(format!("its version is {}; a newer program wrote it", list.version)));
    }
    if let Some((name, _)) = list.files.iter().find(|(name, listed)| found.get(*name) != Some(listed)) {
        return Err(damaged(format!("`{name}` is missing or was changed")));
    }
    if found.len() != list.files.len() || !list.files.contains_key(STORE) {
        return Err(damaged("its files are not those that it lists".to_owned()));
    }
    Ok(())
}

fn put(entry: &mut impl Read, path: &Path, from: &Path) -> Result<Listed, BackupError> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    let failed = || FileError::of("write", path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed())?;
    let mut hasher = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = entry.read(&mut buffer).map_err(FileError::of("read", from))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
        file.write_all(&buffer[..read]).map_err(failed())?;
    }
    file.sync_all().map_err(failed())?;
    sync_folder_of(path)?;
    Ok(Listed { sha256: Hash(hasher.finalize().into()).to_string(), length })
}

/// Whether a path stays below the folder that it is joined to.
fn is_plain(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// A name beside a path.
fn aside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

fn remove_folder(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    from: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
