//! What a person sees: data on standard output, everything else on standard error, progress only on a terminal.

use std::{
    io::{self, Write as _},
    sync::OnceLock,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{error::Error, show::plain_lines};

/// All progress bars of this process, so that other output does not tear them.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Whether progress can be drawn.
#[must_use]
pub fn is_live() -> bool {
    !bars().is_hidden()
}

/// Writes data.
///
/// # Errors
/// [`Error::Output`].
pub fn data(bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    };
    bars().suspend(write).map_err(Error::Output)
}

/// Writes a line of data.
///
/// # Errors
/// [`Error::Output`].
pub fn line(text: &str) -> Result<(), Error> {
    data(format!("{text}\n").as_bytes())
}

/// Writes a value as JSON for people and programs.
///
/// # Errors
/// [`Error::Output`].
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).expect("the interface's types are JSON");
    line(&text)
}

/// Writes what is not data, byte for byte: a task's standard error.
pub fn aside(bytes: &[u8]) {
    // Where standard error is gone, nobody is left to be told.
    bars().suspend(|| {
        let _ = io::stderr().lock().write_all(bytes);
    });
}

/// Says something beside the data. Much of it is of hubs, devices and buyers: nothing in it steers the terminal.
pub fn note(text: &str) {
    aside(format!("{}\n", plain_lines(text)).as_bytes());
}

/// A bar of bytes; invisible where there is no terminal.
#[must_use]
pub fn byte_bar(what: &'static str, total: u64) -> ProgressBar {
    bar(total, "{msg} {bar:32.green/dim} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}")
        .with_message(what)
}

/// A bar of tasks; invisible where there is no terminal.
#[must_use]
pub fn task_bar(total: u64) -> ProgressBar {
    let bar = bar(total, "{spinner} {bar:32.green/dim} {pos}/{len} tasks  {elapsed}  {msg}");
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

/// A bar of things that are counted, by their name; invisible where there is no terminal.
#[must_use]
pub fn count_bar(what: &'static str, total: u64) -> ProgressBar {
    let bar = bar(total, "{spinner} {bar:32.green/dim} {pos}/{len} {msg}  {elapsed}").with_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

/// Says that something is waited for; invisible where there is no terminal.
#[must_use]
pub fn spinner(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
    let bar = bars().add(ProgressBar::new_spinner());
    bar.set_style(style.expect("the templates are ours and good"));
    bar.set_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates are ours and good");
    let bar = bars().add(ProgressBar::new(total));
    bar.set_style(style.progress_chars("━╸─"));
    bar
}
