//! What is done to layers, in a process of its own with the rights that it takes: they are unpacked (by a child in a
//! sandbox, see [`crate::unpack`]), removed, and asked for their accounts. A layer is named by its digest, and is where it
//! belongs; whoever asks names no path.

use std::{
    env,
    ffi::OsStr,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process,
};

use serde::Serialize;
use sosna_privsep::chain;

use crate::{
    Digest,
    disk::{self, remove},
    error::ImageError,
    merged,
    prepared::OverlayMode,
    unpack,
    user::{ACCOUNT_BYTES, GROUP, PASSWD},
};

/// What these helpers are called by.
pub(crate) const ARGV0: &str = "sosna-layers";
/// Unpacks the layer on standard input and puts it in its place.
pub(crate) const LAYER: &str = "layer";
/// Removes a layer.
pub(crate) const REMOVE: &str = "remove-layer";
/// Reads the files of accounts of an image, which the store cannot look into.
pub(crate) const ACCOUNTS: &str = "accounts";
pub(crate) const NAMES: [&str; 3] = [LAYER, REMOVE, ACCOUNTS];

/// Longer lists of layers there are not, bytes.
const NAMES_BYTES: u64 = 1 << 20;

/// The files of accounts, or why they cannot be read.
pub(crate) type Accounts = Result<[Option<String>; 2], String>;

/// Where a helper works.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
    pub(crate) mode: OverlayMode,
}

/// Does what this process was started for, and exits; returns at once where it was not. Call it as the first line of
/// `main`, before any thread, runtime or log exists.
pub fn run_if_requested() {
    unpack::run_if_requested();
    let mut arguments = env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(ARGV0)) {
        return;
    }
    let words: Vec<String> = arguments.filter_map(|argument| argument.into_string().ok()).collect();
    let [name, root, mode, order] = words.as_slice() else { strange() };
    let Some(mode) = OverlayMode::of_word(mode) else { strange() };
    let place = Place { root: root.into(), mode };
    process::exit(match name.as_str() {
        LAYER => unpack::helper(&place, order),
        REMOVE => place.remove(order),
        ACCOUNTS => place.accounts(),
        _ => strange(),
    })
}

fn strange() -> ! {
    eprintln!("{ARGV0} is started by the agent, not by hand");
    process::exit(2)
}

/// Says one line of JSON; whether anybody heard it.
pub(crate) fn say(what: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    out.flush()
}

// === impl Place ===

impl Place {
    /// A name for half-done things that no other process has now.
    pub(crate) fn aside(&self, what: &str) -> PathBuf {
        disk::work(&self.root).join(format!("{what}-{}", process::id()))
    }

    pub(crate) fn layer(&self, diff_id: Digest) -> PathBuf {
        disk::layers(&self.root).join(diff_id.hex())
    }

    /// Takes a layer's place, if it has one, and says where it is now.
    pub(crate) fn clear(&self, diff_id: Digest) -> Result<Option<PathBuf>, ImageError> {
        let (place, grave) = (self.layer(diff_id), self.aside("gone"));
        remove(&grave)?;
        match std::fs::rename(&place, &grave) {
            Ok(()) => Ok(Some(grave)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("removing", place, error)),
        }
    }

    fn remove(&self, order: &str) -> i32 {
        let removed = Digest::from_hex(order).map_err(|error| error.to_string()).and_then(|diff_id| {
            let grave = self.clear(diff_id);
            grave
                .and_then(|grave| grave.map_or(Ok(()), |grave| remove(&grave)))
                .map_err(|error| chain(&error))
        });
        // Nobody may be left to hear it, and it is done all the same.
        let _ = say(&removed);
        0
    }

    fn accounts(&self) -> i32 {
        let read = || -> Accounts {
            let mut order = String::new();
            let read = io::stdin().lock().take(NAMES_BYTES).read_to_string(&mut order);
            read.map_err(|error| error.to_string())?;
            let names =
                order.split(',').map(|name| Digest::from_hex(name).map_err(|error| error.to_string()));
            let layers: Vec<PathBuf> =
                names.map(|name| Ok(self.layer(name?))).collect::<Result<_, String>>()?;
            let file = |path| {
                let text =
                    merged::read(&layers, path, ACCOUNT_BYTES).map_err(|error| format!("{path}: {error}"));
                text.map(|text| text.map(|text| String::from_utf8_lossy(&text).into_owned()))
            };
            Ok([file(PASSWD)?, file(GROUP)?])
        };
        let _ = say(&read());
        0
    }
}
