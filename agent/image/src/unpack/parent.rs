//! The parent's side of unpacking: starts the child, listens to it with a bound and a time-out, sets the marks that
//! need its own power, flushes. It believes the child's word only where a lie would hurt that layer alone.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, XattrFlags, fsetxattr, open, syncfs},
    io::Errno,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

use super::{
    REQUEST,
    message::{Limits, Message, Order, Refusal, Unpacked},
    sandbox::SandboxReport,
    tree::open_folder,
};
use crate::{digest::Digest, store::OverlayMode};

/// Longest line that the child may say: a path of 4095 bytes in hexadecimal, and some.
const LINE_BYTES: u64 = 32 * 1024;

/// Most that the child may say about opaque folders, so that it cannot fill the parent's memory.
const OPAQUE_BYTES: usize = 16 * 1024 * 1024;

/// A child that is silent for so long is stuck: it speaks at every megabyte.
const SILENCE: Duration = Duration::from_secs(300);

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The layer itself is at fault, or the disk is full.
    #[error("the layer was refused")]
    Refused(#[source] Refusal),
    /// The child could not be started or talked to.
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
    #[error("the unpacker's report is not understood")]
    Protocol(#[source] serde_json::Error),
    /// The finished folder could not be marked or flushed.
    #[error("the unpacked folder could not be completed")]
    Finish(#[source] io::Error),
}

/// One layer to unpack.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// The program to start; it calls [`super::run_if_requested`] first.
    pub(crate) program: &'a Path,
    /// The compressed layer, at its first byte.
    pub(crate) blob: File,
    /// An empty folder of its own.
    pub(crate) target: PathBuf,
    pub(crate) diff_id: Digest,
    pub(crate) limits: Limits,
    pub(crate) mode: OverlayMode,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) unpacked: Unpacked,
    /// The layer hides everything below it.
    pub(crate) root_opaque: bool,
    pub(crate) sandbox: SandboxReport,
}

/// Unpacks one layer. When this future is dropped the child is killed.
pub(crate) async fn unpack(job: Job<'_>) -> Result<Outcome, UnpackError> {
    let order = Order { diff_id: job.diff_id, limits: job.limits };
    let order = serde_json::to_string(&order).map_err(UnpackError::Protocol)?;
    let mut child = Command::new(job.program)
        .arg0("sosna-unpack")
        .args([REQUEST, &order])
        .env_clear()
        .current_dir(&job.target)
        .stdin(Stdio::from(job.blob))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(UnpackError::Child)?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(UnpackError::Child(io::Error::other("no pipe to the child")));
    };
    let words = tokio::spawn(async move {
        let mut words = Vec::new();
        // What was read before an error is all there is to say.
        let _ = err.take(4096).read_to_end(&mut words).await;
        String::from_utf8_lossy(&words).trim().to_owned()
    });
    let mut out = BufReader::new(out);
    let mut heard = Heard::default();
    while heard.end.is_none() {
        let mut line = Vec::new();
        let mut bounded = (&mut out).take(LINE_BYTES);
        match tokio::time::timeout(SILENCE, bounded.read_until(b'\n', &mut line)).await {
            Err(_) => return Err(UnpackError::Silent),
            Ok(Err(error)) => return Err(UnpackError::Child(error)),
            Ok(Ok(0)) => break,
            Ok(Ok(_)) => heard.hear(serde_json::from_slice(&line).map_err(UnpackError::Protocol)?),
        }
        if heard.opaque_bytes > OPAQUE_BYTES {
            return Err(UnpackError::Child(io::Error::other("it reported too many opaque folders")));
        }
    }
    drop(out);
    let status = match tokio::time::timeout(SILENCE, child.wait()).await {
        Err(_) => return Err(UnpackError::Silent),
        Ok(status) => status.map_err(UnpackError::Child)?,
    };
    let unpacked = match heard.end {
        Some(Ok(unpacked)) if status.success() => unpacked,
        Some(Err(refusal)) => return Err(UnpackError::Refused(refusal)),
        _ => {
            // A grandchild cannot exist, so the pipe ends with the child.
            let words = words.await.unwrap_or_default();
            return Err(UnpackError::Died { status, words });
        }
    };
    let root_opaque = heard.opaque.iter().any(String::is_empty);
    let finish = move || complete(&job.target, &heard.opaque, job.mode);
    match tokio::task::spawn_blocking(finish).await {
        Ok(done) => done.map_err(UnpackError::Finish)?,
        Err(join) => return Err(UnpackError::Finish(io::Error::other(join))),
    }
    Ok(Outcome { unpacked, root_opaque, sandbox: heard.sandbox })
}

#[derive(Default)]
struct Heard {
    sandbox: SandboxReport,
    opaque: Vec<String>,
    opaque_bytes: usize,
    end: Option<Result<Unpacked, Refusal>>,
}

// === impl Heard ===

impl Heard {
    fn hear(&mut self, message: Message) {
        match message {
            Message::Sandbox(report) => self.sandbox = report,
            Message::Progress(bytes) => tracing::trace!(bytes, "unpacking"),
            Message::Opaque(path) => {
                self.opaque_bytes += path.len();
                self.opaque.push(path);
            }
            Message::Done(unpacked) => self.end = Some(Ok(unpacked)),
            Message::Refused(refusal) => self.end = Some(Err(refusal)),
        }
    }
}

/// Marks opaque folders and flushes the whole tree. The marks are set here because `trusted.*` wants CAP_SYS_ADMIN,
/// which the child has given up.
fn complete(target: &Path, opaque: &[String], mode: OverlayMode) -> io::Result<()> {
    let root = open(target, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for path in opaque.iter().filter(|path| !path.is_empty()) {
        let path = from_hex(path).ok_or_else(|| io::Error::other("the unpacker named a folder wrongly"))?;
        let folder = open_folder(&root, &path, OFlags::RDONLY)?;
        match fsetxattr(&folder, mode.opaque_attribute(), b"y", XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP) => {
                return Err(io::Error::other(
                    "the store's file system has no extended attributes for overlayfs",
                ));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    sosna_fault::point("layers/sync-unpacked")?;
    Ok(syncfs(&root)?)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
