//! `sosna-image build`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use sosna_image::Error;
use sosna_image::board::Board;
use sosna_image::compose::{self, Report, Request};
use sosna_image::package::Change;
use sosna_image::personal::{Interface, Network, Personal, Proxy, Secret, Settings, Wifi};

use super::args::{BuildArgs, PackageArgs, PersonalArgs};

pub(super) fn build(packages: &PackageArgs, args: &BuildArgs) -> Result<(), Error> {
    let started = Instant::now();
    let mut board = Board::find(&args.board)?;
    let personal = personal(&args.personal, Some(&board))?;
    personal.check()?;
    let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    let path = |given: &Option<PathBuf>, name| match given {
        Some(path) => Ok(path.clone()),
        None => program(args.programs.as_deref(), &board, name),
    };
    let (agent, init) = (read(&path(&args.agent, "sosna-agent")?)?, read(&path(&args.init, "sosna-init")?)?);
    let mut changes = Vec::new();
    if args.current {
        (board, changes) = board.current(&packages.cache(), super::lock::today())?;
        warn(&board, &changes);
    }
    let request = Request {
        board: &board,
        version: &args.os_version,
        agent: &agent,
        init: &init,
        epoch: epoch(board.lock.epoch)?,
    };
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let progress = |text: &str| bar.set_message(text.to_owned());
    let report = compose::image(&request, &personal, args.size, &packages.cache(), &args.output, &progress)?;
    bar.finish_and_clear();
    if args.json {
        let figures = Figures { report: &report, not_as_pinned: &changes };
        println!(
            "{}",
            serde_json::to_string(&figures).map_err(|error| Error::malformed("the figures", error))?
        );
        return Ok(());
    }
    let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20);
    println!("{} for {} ({})", args.output.display(), board.name, args.os_version);
    println!(
        "  kernel {}, {} modules, {} of them for every machine",
        report.kernel, report.modules, report.modules_always
    );
    println!("  slot {}, boot image {}", mib(report.slot_bytes), mib(report.boot_image_bytes));
    println!("  both compressed {}", mib(report.slot_compressed_bytes));
    println!("  image {} in {:.1} s", mib(report.image_bytes), started.elapsed().as_secs_f64());
    Ok(())
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Figures<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The packages that are others than the pinned ones.
    not_as_pinned: &'a [Change],
}

/// Says loudly what is in this image and was never tried together.
fn warn(board: &Board, changes: &[Change]) {
    if changes.is_empty() {
        eprintln!("--current: the archive has what is pinned for {}", board.name);
        return;
    }
    eprintln!("WARNING: not the packages that {} was tested with:", board.name);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["PACKAGE", "PINNED", "CURRENT"]);
    for change in changes {
        table.add_row([&change.package, &change.pinned, &change.current]);
    }
    eprintln!("{table}");
}

/// The time of all files: `SOURCE_DATE_EPOCH`, or when the packages were pinned.
fn epoch(pinned: u64) -> Result<u32, Error> {
    let seconds = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .map_err(|_| Error::Refused(format!("SOURCE_DATE_EPOCH is `{text}`, not a number")))?,
        Err(_) => pinned,
    };
    u32::try_from(seconds).map_err(|_| Error::Refused(format!("the time {seconds} is after 2106")))
}

/// What the arguments say about one device.
pub(super) fn personal(args: &PersonalArgs, board: Option<&Board>) -> Result<Personal, Error> {
    let mut labels = BTreeMap::new();
    for label in &args.labels {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Error::Refused(format!("write the label `{label}` as KEY=VALUE")))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let wifi = wifi(args, board)?;
    let interfaces = args.networks.iter().map(|text| Interface::parse(text)).collect::<Result<_, _>>()?;
    let settings = Settings {
        hostname: args.hostname.clone(),
        proxy: Proxy { http: args.proxy.clone(), without: Vec::new() },
        labels,
        wifi,
        network: Network { dns: Vec::new(), interfaces },
    };
    let mut personal = Personal { join: args.join.clone(), settings, ..Personal::default() };
    if let Some(path) = &args.agent_config {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        personal.agent = text.parse().map_err(|error| Error::malformed(path.display().to_string(), error))?;
    }
    if let Some(address) = &args.payout_to {
        personal.pay_to(address)?;
    }
    Ok(personal)
}

/// One of the device's programs: in the folder that was named, or where a release and a work tree have them.
fn program(folder: Option<&Path>, board: &Board, name: &str) -> Result<PathBuf, Error> {
    let near = || {
        let own = env::current_exe().unwrap_or_default();
        let own = own.parent().unwrap_or(Path::new("/"));
        vec![own.join("programs"), own.join("../share/sosna/programs"), own.join("../dist")]
    };
    let folders = folder.map_or_else(near, |folder| vec![folder.to_owned()]);
    let architecture = board.description.processor();
    let paths: Vec<_> = folders.iter().map(|folder| folder.join(architecture).join(name)).collect();
    paths.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let looked: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        Error::Missing {
            what: format!("{name} for {architecture}"),
            looked: looked.join(", "),
            hint: format!(
                "`cargo xtask dist --target {architecture}` makes it; --programs, --agent and --init say where it is"
            ),
        }
    })
}

/// The wireless network, where the board can join one.
fn wifi(args: &PersonalArgs, board: Option<&Board>) -> Result<Option<Wifi>, Error> {
    if args.wifi.is_none() && args.country.is_none() {
        return Ok(None);
    }
    if let Some(board) = board.filter(|board| board.description.wifi.is_none()) {
        return Err(Error::Refused(format!(
            "images of {} have no wireless parts: connect the device by cable, and leave out --wifi and --country",
            board.name
        )));
    }
    let password = args.wifi_password_file.as_ref().map(|path| {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok::<_, Error>(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    });
    Ok(Some(Wifi {
        country: args.country.as_ref().map(|country| country.to_ascii_uppercase()),
        ssid: args.wifi.clone(),
        password: password.transpose()?,
        hidden: args.wifi_hidden,
        others: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Args, Command};

    fn wanted(board: &str, words: &[&str]) -> Result<Option<Wifi>, Error> {
        let line = ["sosna-image", "personalise", "sosna.img"].iter().chain(words);
        let Command::Personalise(args) = Args::try_parse_from(line).unwrap().command else {
            panic!("{words:?}")
        };
        wifi(&args.personal, Some(&Board::find(board).unwrap()))
    }

    #[test]
    fn credentials_are_for_boards_that_can_use_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "very secret\r\n").unwrap();
        let path = file.path().to_str().unwrap();
        let words = ["--wifi", "lab", "--wifi-password-file", path, "--country", "de"];
        let found = wanted("rpi", &words).unwrap().unwrap();
        assert!(found.errors().is_empty() && found.country.as_deref() == Some("DE"));
        assert_eq!(found.password, Some(Secret::new("very secret".to_owned())));
        let error = wanted("x86_64-uefi", &words).unwrap_err().to_string();
        assert!(error.contains("x86_64-uefi have no wireless parts") && !error.contains("secret"), "{error}");
        assert!(wanted("arm64-uefi", &["--country", "DE"]).is_err());
        assert!(wanted("x86_64-uefi", &["--hostname", "x"]).unwrap().is_none());
    }
}
