//! The unpacking child: one thread, no environment, standard input is the compressed layer, the working directory is
//! the empty target, standard output is the report. It reads nothing before the sandbox stands.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::umask,
    thread::{CapabilitySet, capabilities},
};

use super::{
    archive::Archive,
    message::{Message, Order, Refusal, Unpacked},
    sandbox, stream,
    tree::Tree,
};

/// Unpacks as the arguments say and leaves the process; never returns.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ! {
    let order = arguments.next().and_then(|text| serde_json::from_str::<Order>(text.to_str()?).ok());
    let Some(order) = order else {
        eprintln!("the unpacker is started by the agent, not by hand: its order is missing or malformed");
        std::process::exit(2);
    };
    // Modes in the archive are meant as they are.
    umask(Mode::empty());
    let root = match openat(CWD, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => root,
        Err(errno) => {
            tell(&Message::Refused(Refusal::System {
                action: "opening".into(),
                path: "the target folder".into(),
                detail: io::Error::from(errno).to_string(),
            }));
            std::process::exit(1);
        }
    };
    // Asked before the sandbox, which keeps this capability but forbids the question.
    let owners = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN));
    let report = sandbox::enter(&root, &order.limits);
    tell(&Message::Sandbox(report));
    let tree = Tree::new(root, &order.limits, owners);
    match unpack(tree, &order) {
        Ok((unpacked, opaque)) => {
            for path in opaque {
                tell(&Message::Opaque(to_hex(&path)));
            }
            tell(&Message::Done(unpacked));
            std::process::exit(0);
        }
        Err(refusal) => {
            tell(&Message::Refused(refusal));
            std::process::exit(1);
        }
    }
}

fn unpack(mut tree: Tree<'_>, order: &Order) -> Result<(Unpacked, Vec<Vec<u8>>), Refusal> {
    let limits = &order.limits;
    let input = stream::open(io::stdin().lock())?;
    let measured = stream::Measured::new(input, limits.stream_bytes, |bytes| tell(&Message::Progress(bytes)));
    let mut archive = Archive::new(measured, limits);
    while let Some(entry) = archive.next()? {
        tree.apply(&entry, &mut archive)?;
    }
    let (stream_bytes, found) = archive.into_source().finish()?;
    if found != order.diff_id {
        return Err(Refusal::DiffId { expected: order.diff_id, found });
    }
    let (unpacked, opaque) = tree.finish()?;
    Ok((Unpacked { stream_bytes, ..unpacked }, opaque))
}

/// Says one line to the parent. When nobody listens the parent is dead, and there is nobody to unpack for.
fn tell(message: &Message) {
    let mut out = io::stdout().lock();
    let said = serde_json::to_writer(&mut out, message).map_err(io::Error::from);
    if said.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
