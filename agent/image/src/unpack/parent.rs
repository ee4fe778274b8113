//! The helper's side of unpacking: starts the child, listens to it with a bound and a time-out, sets the marks that need
//! its own power, flushes, and puts the layer in its place. It believes the child's word only where a lie would hurt that
//! layer alone, and stops when nobody waits for the layer any more.

use std::{
    fs,
    io::{self, Read as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, XattrFlags, chmod, fsetxattr, open, syncfs},
    io::Errno,
};

use sosna_privsep::{chain, this_program_as};

use super::{
    ARGV0, REQUEST,
    message::{ChildFailure, Message, Order, Refusal, Told, Unpacked},
    tree::open_folder,
};
use crate::{
    digest::Digest,
    disk::{publish, remove},
    helper::{Place, say},
    prepared::OverlayMode,
};

/// Longest line that the child may say: a path of 4095 bytes in hexadecimal, and some.
const LINE_BYTES: usize = 32 * 1024;

/// Most that the child may say about opaque folders, so that it cannot fill this process's memory.
const OPAQUE_BYTES: usize = 16 * 1024 * 1024;

/// A child that is silent for so long is stuck: it speaks at every megabyte.
pub(super) const SILENCE: Duration = Duration::from_secs(300);

/// Why there is no layer.
enum Stop {
    Told(Told),
    /// Nobody waits for it.
    Alone,
}

/// Unpacks what is on standard input as the order says.
pub(crate) fn helper(place: &Place, order: &str) -> i32 {
    let Ok(order) = serde_json::from_str::<Order>(order) else {
        eprintln!("the order to unpack is malformed");
        return 2;
    };
    let target = place.aside("new");
    let order = Order { limits: order.limits.clamped(), ..order };
    let done = unpack(place, &order, &target).and_then(|told| match is_alone() {
        true => Err(Stop::Alone),
        false => publish_layer(place, order.diff_id, &target).map(|()| told),
    });
    if done.is_err()
        && let Err(error) = remove(&target)
    {
        eprintln!("a half-unpacked layer stays until the next start: {}", chain(&error));
    }
    match done {
        Ok(told) | Err(Stop::Told(told)) => i32::from(say(&told).is_err()),
        Err(Stop::Alone) => 3,
    }
}

fn unpack(place: &Place, order: &Order, target: &Path) -> Result<Told, Stop> {
    make(target).map_err(|error| finish(&error))?;
    let text = serde_json::to_string(order).map_err(|error| child(error.to_string()))?;
    let mut command = this_program_as(ARGV0);
    command.args([REQUEST, &text]).current_dir(target).stdout(Stdio::piped());
    // Nothing of the blob was read yet.
    command.stdin(Stdio::inherit());
    let mut unpacker = command.spawn().map_err(|error| child(error.to_string()))?;
    let heard = listen(&mut unpacker);
    if heard.is_err() {
        let _ = unpacker.kill();
    }
    let status = unpacker.wait().map_err(|error| child(error.to_string()))?;
    let heard = heard?;
    let unpacked = match heard.end {
        Some(Ok(unpacked)) if status.success() => unpacked,
        Some(Err(refusal)) => return Err(Stop::Told(Told::Refused(refusal))),
        _ => return Err(Stop::Told(Told::Failed(ChildFailure::Died(status.into_raw())))),
    };
    complete(target, &heard.opaque, place.mode).map_err(|error| finish(&error))?;
    Ok(Told::Done { unpacked, root_opaque: heard.opaque.iter().any(String::is_empty) })
}

fn child(problem: String) -> Stop {
    Stop::Told(Told::Failed(ChildFailure::Child(problem)))
}

fn finish(error: &io::Error) -> Stop {
    Stop::Told(Told::Finish(error.to_string(), error.raw_os_error()))
}

/// An empty folder.
fn make(target: &Path) -> io::Result<()> {
    // Of a process of the same number, which is no more.
    remove(target).map_err(io::Error::other)?;
    fs::create_dir(target)?;
    // An image's root is open to its users, whatever this process's umask is.
    Ok(chmod(target, Mode::from_raw_mode(0o755))?)
}

/// Puts a finished layer in its place; one that is there, and whose note was lost, gives way.
fn publish_layer(place: &Place, diff_id: Digest, target: &Path) -> Result<(), Stop> {
    let old = place.clear(diff_id).map_err(|error| finish(&io::Error::other(error)))?;
    publish(target, &place.layer(diff_id)).map_err(|error| finish(&error))?;
    if let Some(old) = old
        && let Err(error) = remove(&old)
    {
        eprintln!("an old layer stays until the next start: {}", chain(&error));
    }
    Ok(())
}

/// Whether whoever asked for the layer is gone, or does not want it any more.
fn is_alone() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_ok()
        && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[derive(Default)]
struct Heard {
    opaque: Vec<String>,
    opaque_bytes: usize,
    end: Option<Result<Unpacked, Refusal>>,
}

/// Hears the child to its last word, and passes on what it says meanwhile.
fn listen(unpacker: &mut Child) -> Result<Heard, Stop> {
    let mut out = unpacker.stdout.take().ok_or_else(|| child("no pipe to it".into()))?;
    let (mut heard, mut rest) = (Heard::default(), Vec::new());
    let mut piece = vec![0; LINE_BYTES];
    while heard.end.is_none() {
        let until = Timespec::try_from(SILENCE).map_err(|error| child(error.to_string()))?;
        let ours = io::stdout();
        let mut fds =
            [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::IN), PollFd::new(&ours, PollFlags::empty())];
        match poll(&mut fds, Some(&until)) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(child(io::Error::from(errno).to_string())),
            Ok(0) => return Err(Stop::Told(Told::Failed(ChildFailure::Silent))),
            Ok(_) => {}
        }
        if fds[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Stop::Alone);
        }
        let length = out.read(&mut piece).map_err(|error| child(error.to_string()))?;
        if length == 0 {
            break;
        }
        rest.extend_from_slice(&piece[..length]);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let message = serde_json::from_slice(&line)
                .map_err(|error| Stop::Told(Told::Failed(ChildFailure::Protocol(error.to_string()))))?;
            heard.hear(message)?;
        }
        if rest.len() > LINE_BYTES || heard.opaque_bytes > OPAQUE_BYTES {
            return Err(child("it said more than it may".into()));
        }
    }
    Ok(heard)
}

// === impl Heard ===

impl Heard {
    fn hear(&mut self, message: Message) -> Result<(), Stop> {
        let told = match message {
            Message::Sandbox(report) => Told::Sandbox(report),
            Message::Progress(bytes) => Told::Progress(bytes),
            Message::Opaque(path) => {
                self.opaque_bytes += path.len();
                self.opaque.push(path);
                return Ok(());
            }
            Message::Done(unpacked) => {
                self.end = Some(Ok(unpacked));
                return Ok(());
            }
            Message::Refused(refusal) => {
                self.end = Some(Err(refusal));
                return Ok(());
            }
        };
        say(&told).map_err(|_| Stop::Alone)
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
