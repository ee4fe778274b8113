//! `sosna-image build`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::time::Instant;

use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use sosna_image::Error;
use sosna_image::board::Board;
use sosna_image::compose::{self, Report, Request};
use sosna_image::package::Change;
use sosna_image::personal::{Interface, Network, Personal, Proxy, Settings, Wifi};

use super::args::{BuildArgs, PackageArgs, PersonalArgs};

pub(super) fn build(packages: &PackageArgs, args: &BuildArgs) -> Result<(), Error> {
    let started = Instant::now();
    let mut board = Board::find(&args.board)?;
    let personal = personal(&args.personal, Some(&board))?;
    personal.check()?;
    let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    let (agent, init) = (read(&args.agent)?, read(&args.init)?);
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
    let wifi = match &args.wifi {
        Some(_) if board.is_some_and(|board| !board.description.wifi) => {
            return Err(Error::Refused(
                "this board's images do not use a wireless network yet: connect the device by cable"
                    .to_owned(),
            ));
        }
        Some(ssid) => {
            let password = args.wifi_password_file.as_ref().map(|path| {
                let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
                Ok::<_, Error>(text.trim_end_matches(['\r', '\n']).to_owned())
            });
            Some(Wifi { ssid: ssid.clone(), password: password.transpose()? })
        }
        None => None,
    };
    let interfaces = args.networks.iter().map(|text| Interface::parse(text)).collect::<Result<_, _>>()?;
    let settings = Settings {
        hostname: args.hostname.clone(),
        proxy: Proxy { http: args.proxy.clone(), without: Vec::new() },
        labels,
        wifi,
        network: Network { dns: Vec::new(), interfaces },
    };
    Ok(Personal { join: args.join.clone(), settings })
}
