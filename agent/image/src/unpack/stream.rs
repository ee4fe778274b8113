//! The layer's bytes on their way in: decompression chosen by the first bytes (never by a media type, which is the
//! network's word), then counting, bounding and hashing of what comes out.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use sha2::{Digest as _, Sha256};

use super::message::Refusal;
use crate::digest::Digest;

/// Largest zstd window accepted: what `zstd --ultra -22 --long=27` writes. Larger ones are asked for only by bombs.
const ZSTD_WINDOW_BYTES: u64 = 128 * 1024 * 1024;

/// The parent hears of progress, and the child of its parent's death, this often.
const PROGRESS_EVERY: u64 = 1024 * 1024;

/// Opens a layer that is plain, gzip or zstd.
pub(super) fn open<'a>(source: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Refusal> {
    let mut source = BufReader::with_capacity(128 * 1024, source);
    let start = source.fill_buf().map_err(|e| damaged(&e))?;
    Ok(match start {
        [] => return Err(Refusal::Truncated { place: "its first byte".into() }),
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(source)),
        // A frame, or a skippable frame in front of one (RFC 8878, 3.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(ZstdFrames::new(source))
        }
        _ => Box::new(source),
    })
}

/// Turns an error of reading or decompressing into the layer's refusal.
pub(super) fn damaged(error: &io::Error) -> Refusal {
    if let Some(Limit(limit)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Refusal::Stream { limit: *limit };
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Refusal::Truncated { place: "its compressed data".into() },
        _ => Refusal::Damaged { detail: error.to_string() },
    }
}

#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
struct Limit(u64);

/// Counts, bounds and hashes the uncompressed stream.
pub(super) struct Measured<R, F> {
    source: R,
    hash: Sha256,
    count: u64,
    limit: u64,
    told: u64,
    tell: F,
}

// === impl Measured ===

impl<R: Read, F: FnMut(u64)> Measured<R, F> {
    pub(super) fn new(source: R, limit: u64, tell: F) -> Self {
        Self { source, hash: Sha256::new(), count: 0, limit, told: 0, tell }
    }

    /// Reads what is left (the padding after the archive's end belongs to the diff_id) and gives length and digest.
    pub(super) fn finish(mut self) -> Result<(u64, Digest), Refusal> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read(&mut buffer).map_err(|e| damaged(&e))? > 0 {}
        Ok((self.count, Digest::from_bytes(self.hash.finalize().into())))
    }
}

impl<R: Read, F: FnMut(u64)> Read for Measured<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let bytes = buffer.get(..read).ok_or_else(|| io::Error::other("a decompressor counted wrongly"))?;
        self.hash.update(bytes);
        self.count += u64::try_from(read).unwrap_or(u64::MAX);
        if self.count > self.limit {
            return Err(io::Error::other(Limit(self.limit)));
        }
        if self.count - self.told >= PROGRESS_EVERY {
            self.told = self.count;
            (self.tell)(self.count);
        }
        Ok(read)
    }
}

/// All frames of a zstd stream, one after the other; `ruzstd` reads one frame at a time.
struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    inside: bool,
}

// === impl ZstdFrames ===

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_BYTES);
        Self { source, decoder, inside: false }
    }

    /// Goes on to the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.inside = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.inside = false;
        }
    }
}
