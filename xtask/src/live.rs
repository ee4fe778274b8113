//! Progress that people watch: some lines that move on a terminal, plain lines that stay elsewhere (a pipe, a
//! CI run, a dumb terminal).

use std::env;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A group of progress lines.
#[derive(Debug)]
pub struct Live {
    multi: Option<MultiProgress>,
    width: usize,
    quiet: bool,
}

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Well.
    Good,
    /// Badly.
    Bad,
    /// It was left out.
    Skipped,
}

impl Mark {
    fn text(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Bad => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

impl Live {
    /// Moving lines where there is a terminal that can show them; names are padded to `width` characters.
    #[must_use]
    pub fn new(width: usize) -> Self {
        let set = |name| env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|t| t == "dumb");
        let moving = io::stderr().is_terminal() && !dumb && !set("CI");
        Self { multi: moving.then(MultiProgress::new), width, quiet: false }
    }

    /// The same, with everything but [`Live::say`] on standard error: what a machine reads is alone on the output.
    #[must_use]
    pub fn quiet(width: usize) -> Self {
        Self { quiet: true, ..Self::new(width) }
    }

    /// Begins a line.
    #[must_use]
    pub fn line(&self, name: &str) -> Line {
        let name = format!("{name:<width$}", width = self.width);
        let bar = self.multi.as_ref().map(|multi| {
            let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed:>4}  {wide_msg}");
            let bar = multi.add(ProgressBar::new_spinner());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Line { bar, name, begun: Instant::now(), moving: self.multi.clone(), quiet: self.quiet }
    }

    /// Begins a line that counts up to `total`, such as the tiles of a picture.
    #[must_use]
    pub fn meter(&self, name: &str, total: u64) -> Meter {
        let line = self.line(name);
        if let Some(bar) = &line.bar {
            let style = ProgressStyle::with_template(
                "{spinner} {prefix}  {elapsed:>4}  {bar:24} {pos}/{len}  {wide_msg}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▒░"));
            bar.set_length(total);
        }
        Meter { line, done: 0, total }
    }

    /// Says something that stays, above the moving lines.
    pub fn say(&self, text: &str) {
        match &self.multi {
            Some(multi) => multi.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }
}

/// One line.
#[derive(Debug)]
pub struct Line {
    bar: Option<ProgressBar>,
    moving: Option<MultiProgress>,
    name: String,
    begun: Instant,
    quiet: bool,
}

impl Line {
    /// What is happening just now: shown on a terminal only.
    pub fn now(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
    }

    /// A step worth a line in a log as well.
    pub fn step(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.put(&format!("{}  {text}", self.name)),
        }
    }

    fn put(&self, text: &str) {
        if self.quiet {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// Ends the line, which stays where it is printed.
    pub fn end(self, mark: Mark, text: &str) {
        let seconds = self.begun.elapsed().as_secs_f32();
        let line = format!("{}  {:>7}  {seconds:6.1} s  {text}", self.name, mark.text());
        let line = line.trim_end();
        match (&self.bar, &self.moving) {
            (Some(bar), Some(multi)) => {
                bar.finish_and_clear();
                multi.suspend(|| self.put(line));
            }
            _ => self.put(line),
        }
    }
}

/// A line that counts.
#[derive(Debug)]
pub struct Meter {
    line: Line,
    done: u64,
    total: u64,
}

impl Meter {
    /// Counts one more, and says which.
    pub fn one_more(&mut self, text: &str) {
        self.done += 1;
        match &self.line.bar {
            Some(bar) => {
                bar.set_position(self.done);
                bar.set_message(text.to_owned());
            }
            None => self.line.step(&format!("{}/{}  {text}", self.done, self.total)),
        }
    }

    /// What is happening just now: shown on a terminal only.
    pub fn now(&self, text: &str) {
        self.line.now(text);
    }

    /// Ends the line.
    pub fn end(self, mark: Mark, text: &str) {
        self.line.end(mark, &format!("{}/{}  {text}", self.done, self.total));
    }
}
