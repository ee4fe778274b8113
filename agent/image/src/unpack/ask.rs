//! The store's side of unpacking: has a helper do it, and hears how it went.

use std::{
    fs::File,
    io,
    os::unix::{net::UnixStream as StdStream, process::ExitStatusExt as _},
    process::ExitStatus,
};

use sosna_privsep::{Launcher, Streams};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::{
    message::{ChildFailure, Limits, Order, Refusal, Told, Unpacked},
    parent::SILENCE,
    sandbox::SandboxReport,
};
use crate::{digest::Digest, helper};

/// Longest line that a helper says: a refusal names two paths.
const LINE_BYTES: u64 = 256 * 1024;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The layer itself is at fault, or the disk is full.
    #[error("the layer was refused")]
    Refused(#[source] Refusal),
    /// The helper or its child could not be started or talked to.
    #[error("the unpacker could not be run; check that the agent's program file is still readable")]
    Child(#[source] io::Error),
    /// The child died: killed, out of its memory bound, or a fault in it.
    #[error("the unpacker died ({status}) without saying why; its last words: {words:?}")]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it wrote to standard error.
        words: String,
    },
    /// The child said nothing for too long and was killed.
    #[error("the unpacker was silent for {} s and was stopped", SILENCE.as_secs())]
    Silent,
    /// The child spoke nonsense.
    #[error("the unpacker's report is not understood ({0})")]
    Protocol(String),
    /// The finished folder could not be marked, flushed or put in its place.
    #[error("the unpacked folder could not be completed")]
    Finish(#[source] io::Error),
}

/// One layer to unpack.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) launcher: &'a Launcher,
    /// The compressed layer, at its first byte.
    pub(crate) blob: File,
    pub(crate) diff_id: Digest,
    pub(crate) limits: Limits,
}

/// What came out, and is in its place.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) unpacked: Unpacked,
    /// The layer hides everything below it.
    pub(crate) root_opaque: bool,
    pub(crate) sandbox: SandboxReport,
}

/// Unpacks one layer. When this future is dropped the helper gives up and leaves nothing.
pub(crate) async fn unpack(job: Job<'_>) -> Result<Outcome, UnpackError> {
    let order = Order { diff_id: job.diff_id, limits: job.limits };
    let order = serde_json::to_string(&order).map_err(|error| UnpackError::Protocol(error.to_string()))?;
    let pair = || {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok::<_, io::Error>((UnixStream::from_std(ours)?, theirs))
    };
    let ((out, their_out), (err, their_err)) =
        (pair().map_err(UnpackError::Child)?, pair().map_err(UnpackError::Child)?);
    let streams = Streams {
        stdin: Some(job.blob.into()),
        stdout: Some(their_out.into()),
        stderr: Some(their_err.into()),
    };
    let running = job.launcher.start(helper::LAYER, &order, streams).map_err(UnpackError::Child)?;
    let mut out = BufReader::new(out);
    let mut sandbox = SandboxReport::default();
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut out).take(LINE_BYTES);
        // The helper's own bound comes first.
        match timeout(SILENCE * 2, bounded.read_until(b'\n', &mut line)).await {
            Err(_) => return Err(UnpackError::Silent),
            Ok(Err(error)) => return Err(UnpackError::Child(error)),
            Ok(Ok(_)) => {}
        }
        if line.is_empty() {
            let status = running.ended().await.map_err(UnpackError::Child)?;
            return Err(UnpackError::Died { status, words: last_words(err).await });
        }
        let told = serde_json::from_slice(&line).map_err(|error| UnpackError::Protocol(error.to_string()))?;
        return match told {
            Told::Sandbox(report) => {
                sandbox = report;
                continue;
            }
            Told::Progress(bytes) => {
                tracing::trace!(bytes, "unpacking");
                continue;
            }
            Told::Done { unpacked, root_opaque } => Ok(Outcome { unpacked, root_opaque, sandbox }),
            Told::Refused(refusal) => Err(UnpackError::Refused(refusal)),
            Told::Finish(words, number) => Err(UnpackError::Finish(
                number.map_or_else(|| io::Error::other(words), io::Error::from_raw_os_error),
            )),
            Told::Failed(ChildFailure::Child(words)) => Err(UnpackError::Child(io::Error::other(words))),
            Told::Failed(ChildFailure::Silent) => Err(UnpackError::Silent),
            Told::Failed(ChildFailure::Protocol(words)) => Err(UnpackError::Protocol(words)),
            Told::Failed(ChildFailure::Died(status)) => {
                let status = ExitStatus::from_raw(status);
                Err(UnpackError::Died { status, words: last_words(err).await })
            }
        };
    }
}

/// What was complained about, at most the beginning of it.
async fn last_words(err: UnixStream) -> String {
    let mut words = Vec::new();
    // What was read before an error is all there is to say.
    let _ = timeout(SILENCE / 60, err.take(4096).read_to_end(&mut words)).await;
    String::from_utf8_lossy(&words).trim().to_owned()
}
