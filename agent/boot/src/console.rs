//! Words for whoever looks at the machine: every console that the kernel has, because nobody knows which one has the
//! screen. Must never fail, and never wait for a console that does not take what is written.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

/// Writes a line on every console; into the kernel's log, from which it reaches them, where none can be opened.
pub fn say(text: &str) {
    let line = format!("sosna: {}\r\n", clean(text));
    let mut told = false;
    for console in consoles() {
        // Not blocking: a serial line with flow control and nobody at its end must not hold up the boot.
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(&console);
        told |= opened.is_ok_and(|mut console| console.write_all(line.as_bytes()).is_ok());
    }
    if !told {
        // Level 3 (error): `quiet` lets it through to the consoles.
        let _ = OpenOptions::new()
            .write(true)
            .open("/dev/kmsg")
            .and_then(|mut log| log.write_all(format!("<3>sosna: {}\n", clean(text)).as_bytes()));
    }
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The kernel's active consoles; `/dev/console` where it does not tell.
fn consoles() -> Vec<PathBuf> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let named: Vec<_> = active.split_whitespace().map(device).filter(|path| path.exists()).collect();
    if named.is_empty() { vec!["/dev/console".into()] } else { named }
}

/// `tty0` is whichever virtual terminal is shown.
fn device(name: &str) -> PathBuf {
    PathBuf::from("/dev").join(name)
}

/// One line without what a terminal would obey: names of networks and files come from outside.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_written() {
        assert_eq!(clean("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(clean(&"x".repeat(5000)).len(), 1000);
    }
}
