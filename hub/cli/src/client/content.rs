//! Content by its SHA-256: asked for, sent, fetched. What arrives is compared with its name while it arrives.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    time::Duration,
};

use futures_util::stream;
use reqwest::{Body, Method, header};
use sha2::{Digest as _, Sha256};
use sosna_api::route;
use sosna_host::retry::Backoff;
use sosna_protocol::Hash;

use super::{ATTEMPTS, Hub, PATIENCE, is_passing};
use crate::{
    error::Error,
    image::{Blob, Source},
};

/// How much is read and sent at once.
const CHUNK: u64 = 256 << 10;
/// A download that gives nothing for so long is broken.
const SILENCE: Duration = Duration::from_secs(60);

/// What became of a download.
#[derive(Debug)]
pub enum Received {
    /// It is there, and is what its name says.
    Whole,
    /// It is something else.
    Differs,
}

impl Hub {
    /// Whether the hub has it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has_content(&self, name: &Hash) -> Result<bool, Error> {
        let path = route::fill(route::CONTENT, name);
        self.again(|| async {
            let request = self.request(Method::HEAD, &path).timeout(PATIENCE);
            let response = request.send().await.map_err(|error| self.broken(error))?;
            match response.status().as_u16() {
                200..300 => Ok(true),
                404 => Ok(false),
                // An answer to HEAD has no body that could say why, but the same as GET of one byte has.
                _ => {
                    let request = self.request(Method::GET, &path).timeout(PATIENCE);
                    self.send(&path, request.header(header::RANGE, "bytes=0-0")).await.map(|_| true)
                }
            }
        })
        .await
    }

    /// Sends it. Where the connection breaks, it is sent again from its start, and `progress` is told to go back.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put_content(
        &self,
        blob: &Blob,
        progress: impl Fn(u64) + Send + Sync + Clone + 'static,
    ) -> Result<(), Error> {
        let path = route::fill(route::CONTENT, blob.sha256);
        self.again(|| async {
            progress(0);
            let body = body(blob, progress.clone());
            let request = self
                .request(Method::PUT, &path)
                .header(header::CONTENT_LENGTH, blob.length)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(body);
            self.send(&path, request).await.map(|_| ())
        })
        .await
    }

    /// Fetches all of it into memory, where it is at most `most` bytes long; `None` where it is longer, or is not
    /// what its name says.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn small_content(&self, name: &Hash, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = route::fill(route::CONTENT, name);
        self.again(|| async {
            let mut response = self.send(&path, self.request(Method::GET, &path).timeout(PATIENCE)).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > most {
                    return Ok(None);
                }
            }
            Ok(Some(bytes).filter(|bytes| sosna_protocol::hash::sha256(bytes) == *name))
        })
        .await
    }

    /// Fetches it into a new, empty file; where the connection breaks, it goes on from there. Never writes more than
    /// `length` bytes.
    ///
    /// # Errors
    /// [`Error`], of the hub or of the file.
    pub async fn fetch_content(
        &self,
        name: &Hash,
        length: u64,
        file: &mut File,
        mut progress: impl FnMut(u64),
    ) -> Result<Received, Error> {
        let mut hasher = Sha256::new();
        let mut have = 0;
        let mut left = ATTEMPTS;
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(8));
        while have < length {
            let before = have;
            match self.fetch_from(name, &mut have, length, file, &mut hasher, &mut progress).await {
                Ok(()) if have < length => return Ok(Received::Differs),
                Ok(()) => {}
                Err(error) if is_passing(&error) => {
                    if have > before {
                        left = ATTEMPTS;
                        backoff.reset();
                    }
                    left -= 1;
                    if left == 0 {
                        return Err(error);
                    }
                    tokio::time::sleep(backoff.wait()).await;
                }
                Err(error) => return Err(error),
            }
        }
        let whole = have == length && Hash(hasher.finalize().into()) == *name;
        Ok(if whole { Received::Whole } else { Received::Differs })
    }

    async fn fetch_from(
        &self,
        name: &Hash,
        have: &mut u64,
        length: u64,
        file: &mut File,
        hasher: &mut Sha256,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Error> {
        let path = route::fill(route::CONTENT, name);
        let mut request = self.request(Method::GET, &path);
        if *have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let mut response = tokio::time::timeout(SILENCE, self.send(&path, request))
            .await
            .map_err(|_| self.silent("it took the request and said nothing"))??;
        // Whoever does not know ranges begins at the start again.
        let mut skip = if response.status().as_u16() == 206 { 0 } else { *have };
        loop {
            let chunk = tokio::time::timeout(SILENCE, response.chunk())
                .await
                .map_err(|_| self.silent("it stopped in the middle of content"))?
                .map_err(|error| self.broken(error))?;
            let Some(chunk) = chunk else { return Ok(()) };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let new = &chunk[known..];
            if *have + new.len() as u64 > length {
                // More than announced: it is something else, and is not written any further.
                *have = length + 1;
                return Ok(());
            }
            file.write_all(new).map_err(Error::Output)?;
            hasher.update(new);
            *have += new.len() as u64;
            progress(*have);
        }
    }
}

/// The content as a request's body, read piece by piece as it is sent.
fn body(blob: &Blob, progress: impl Fn(u64) + Send + Sync + 'static) -> Body {
    let length = blob.length;
    let source = blob.source.clone();
    let pieces = stream::unfold((0_u64, progress), move |(sent, progress)| {
        let source = source.clone();
        async move {
            progress(sent);
            if sent >= length {
                return None;
            }
            let count = CHUNK.min(length - sent);
            let read = tokio::task::spawn_blocking(move || piece(&source, sent, count)).await;
            let bytes = read.unwrap_or_else(|error| Err(io::Error::other(error)));
            // After an error, nothing more comes.
            let next = if bytes.is_ok() { sent + count } else { length };
            Some((bytes, (next, progress)))
        }
    });
    Body::wrap_stream(pieces)
}

fn piece(source: &Source, from: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(count).map_err(io::Error::other)?];
    match source {
        Source::Memory(memory) => {
            let mut cursor = io::Cursor::new(memory);
            cursor.seek(SeekFrom::Start(from))?;
            cursor.read_exact(&mut bytes)?;
        }
        Source::File { path, offset } => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset + from))?;
            // A file that has become shorter since it was hashed ends the upload, and the hub refuses it.
            file.read_exact(&mut bytes)?;
        }
    }
    Ok(bytes)
}
