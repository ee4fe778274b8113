//! Brings one blob onto the disk: from the first source that can, going on where an earlier attempt stopped, hashing
//! as it comes, and visible only when size and digest are right.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    time::Duration,
};

use reqwest::{Response, StatusCode, header::CONTENT_RANGE};
use sha2::{Digest as _, Sha256};
use sosna_registry::{Kind, reason};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::{
    digest::Digest,
    disk::{Disk, publish, remove},
    error::{Failures, ImageError, SourceError, SourceFailure},
    http::Http,
    request::Source,
};

/// Attempts in a row without a single new byte before a source is given up.
const FRUITLESS: u32 = 3;
/// Attempts at all on one source: a server must not keep us busy byte by byte.
const ATTEMPTS: u32 = 100;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    /// For messages.
    pub(crate) what: &'static str,
    pub(crate) digest: Digest,
    /// From a verified document; a manifest's size is not known.
    pub(crate) size: Option<u64>,
    /// Bound when the size is not known.
    pub(crate) max: u64,
}

/// The sources of one request; one that is unreachable is not asked again for the next blob.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    list: &'a [Source],
    given_up: Vec<Option<SourceError>>,
}

enum Attempt {
    /// Complete and flushed.
    Complete,
    /// Worth another attempt from where the file ends now.
    Again(String),
}

enum Trouble {
    Source(SourceError),
    Local(ImageError),
}

// === impl Sources ===

impl<'a> Sources<'a> {
    pub(crate) fn new(list: &'a [Source]) -> Self {
        Self { list, given_up: vec![None; list.len()] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<ImageError> for Trouble {
    fn from(error: ImageError) -> Self {
        Self::Local(error)
    }
}

/// Fetches `wanted` into its place. `tell` hears how many bytes are on disk.
pub(crate) async fn fetch(
    http: &Http,
    disk: &Disk,
    patience: Duration,
    sources: &mut Sources<'_>,
    wanted: Wanted,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<(), ImageError> {
    if sources.is_empty() {
        return Err(ImageError::NoSource { digest: wanted.digest });
    }
    let mut failures = Vec::new();
    for (source, given_up) in sources.list.iter().zip(&mut sources.given_up) {
        let error = match given_up {
            Some(error) => error.clone(),
            None => match from_source(http, disk, patience, source, wanted, tell).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Local(error)) => return Err(error),
                Err(Trouble::Source(error)) => {
                    tracing::info!(%source, digest = %wanted.digest, %error, "the source failed");
                    if error.is_about_the_source() {
                        *given_up = Some(error.clone());
                    }
                    error
                }
            },
        };
        failures.push(SourceFailure { source: source.to_string(), error });
    }
    Err(ImageError::Sources { what: wanted.what, digest: wanted.digest, failures: Failures(failures) })
}

async fn from_source(
    http: &Http,
    disk: &Disk,
    patience: Duration,
    source: &Source,
    wanted: Wanted,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<(), Trouble> {
    let part = disk.part(wanted.digest);
    if wanted.size.is_none() {
        remove(&part)?;
    }
    let mut fruitless = 0;
    let mut before = length(&part);
    for _ in 0..ATTEMPTS {
        let why = match attempt(http, patience, source, wanted, &part, tell).await? {
            Attempt::Complete => {
                let place = disk.blob(wanted.digest);
                let published = publish(&part, &place);
                return published.map_err(|e| ImageError::io("publishing", place, e).into());
            }
            Attempt::Again(why) => why,
        };
        let now = length(&part);
        fruitless = if now > before { 0 } else { fruitless + 1 };
        before = now;
        tracing::debug!(%source, bytes = now, why, "the download broke off");
        if fruitless >= FRUITLESS {
            return Err(SourceError::Broken { done: now, reason: why }.into());
        }
        tokio::time::sleep(Duration::from_millis(200 << fruitless)).await;
    }
    Err(SourceError::Broken { done: before, reason: format!("{ATTEMPTS} attempts") }.into())
}

fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.len())
}

/// One request and its body. The part file holds a prefix of the content, or what a wrong source sent: then it goes.
async fn attempt(
    http: &Http,
    patience: Duration,
    source: &Source,
    wanted: Wanted,
    part: &Path,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<Attempt, Trouble> {
    let local = |e: io::Error| Trouble::Local(ImageError::io("writing", part, e));
    let bound = wanted.size.unwrap_or(wanted.max);
    let path = part.to_owned();
    let opened = tokio::task::spawn_blocking(move || open_part(&path, bound)).await;
    let (file, mut hash, mut done) = opened.map_err(io::Error::other).and_then(|o| o).map_err(local)?;
    let mut file = tokio::fs::File::from_std(file);
    let resumed = done > 0;
    tell(done);
    if wanted.size != Some(done) || done == 0 {
        let mut response = http.get(source, wanted.kind, wanted.digest, done).await?;
        if done > 0 && !goes_on_from(&response, done) {
            // No ranges there, or not those: from the beginning.
            file.set_len(0).await.map_err(local)?;
            file.seek(SeekFrom::Start(0)).await.map_err(local)?;
            (hash, done) = (Sha256::new(), 0);
            if response.status() != StatusCode::OK {
                return Ok(Attempt::Again("the range was not understood".into()));
            }
        }
        loop {
            let chunk = match tokio::time::timeout(patience, response.chunk()).await {
                Err(_) => {
                    file.flush().await.map_err(local)?;
                    return Err(SourceError::Stalled { seconds: patience.as_secs(), done }.into());
                }
                Ok(Err(error)) => {
                    file.flush().await.map_err(local)?;
                    return Ok(Attempt::Again(reason(error)));
                }
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => chunk,
            };
            let after = done + u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            if after > bound {
                drop(file);
                remove(part)?;
                return Err(SourceError::WrongSize { expected: bound, found: after }.into());
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(local)?;
            done = after;
            tell(done);
        }
        file.flush().await.map_err(local)?;
    }
    let found = Digest::from_bytes(hash.finalize().into());
    if found == wanted.digest && wanted.size.is_none_or(|size| size == done) {
        sosna_fault::point("layers/sync-blob").map_err(local)?;
        file.sync_all().await.map_err(local)?;
        return Ok(Attempt::Complete);
    }
    drop(file);
    remove(part)?;
    if resumed {
        // Another source, or a power cut, may have spoilt the beginning: this source gets a clean try.
        return Ok(Attempt::Again("what an earlier attempt left was wrong".into()));
    }
    Err(match wanted.size {
        Some(expected) if expected != done => SourceError::WrongSize { expected, found: done }.into(),
        _ => SourceError::WrongDigest { found }.into(),
    })
}

/// Opens the part file behind what it holds already, and the hash of that.
fn open_part(path: &Path, bound: u64) -> io::Result<(fs::File, Sha256, u64)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut hash = Sha256::new();
    let mut done = 0;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        done += u64::try_from(read).unwrap_or(u64::MAX);
    }
    if done > bound {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        return Ok((file, Sha256::new(), 0));
    }
    Ok((file, hash, done))
}

fn goes_on_from(response: &Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start = range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && start == Some(from)
}
