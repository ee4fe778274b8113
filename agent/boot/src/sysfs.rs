//! Small files of /sys and /proc: read whole, trimmed, absent when anything is wrong.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    str::FromStr,
};

/// A file's text without the white space around it.
#[must_use]
pub fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A file's text as a number or another value.
pub(crate) fn value<T: FromStr>(path: impl AsRef<Path>) -> Option<T> {
    text(path)?.parse().ok()
}

/// Longest file that somebody without rights may show, bytes.
const TOLD: u64 = 4096;

/// The text of a file that somebody without rights has written: of a regular one, not too long, and not by way of a link,
/// behind which there could be anything.
#[must_use]
pub fn told(path: impl AsRef<Path>) -> Option<String> {
    // A pipe would make whoever opens it wait for a writer.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(TOLD).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_short_files_are_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("words"), " nobody answers\n").unwrap();
        fs::write(path("long"), vec![b'x'; 10_000]).unwrap();
        std::os::unix::fs::symlink(path("words"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(told(path("words")).as_deref(), Some("nobody answers"));
        assert_eq!(told(path("long")).unwrap().len(), 4096);
        for other in ["link", "pipe", "nothing", "."] {
            assert_eq!(told(path(other)), None, "{other}");
        }
    }
}
