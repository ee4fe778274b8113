//! Commands that only print.

use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;
use sosna_image::Error;
use sosna_image::board::Board;

use sosna_image::inspect::{Image, PartsState, SlotState};

use super::args::{BoardsArgs, InspectArgs};

pub(super) fn boards(args: &BoardsArgs) -> Result<(), Error> {
    let boards = Board::names().map(Board::find).collect::<Result<Vec<_>, _>>()?;
    let kernel =
        |board: &Board| board.lock.find("linux-image-").map_or_else(String::new, |pin| pin.version.clone());
    if args.json {
        let rows: Vec<_> = boards
            .iter()
            .map(|board| {
                json!({
                    "board": board.name,
                    "description": board.description.description,
                    "kernel": kernel(board),
                    "boot": board.description.chain,
                    "tested": board.description.tested,
                    "wifi": board.description.wifi.as_ref().map(|wifi| &wifi.models),
                })
            })
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return Ok(());
    }
    let mut table = Table::new();
    // Wrapped to a terminal's width; in a file each board is one line.
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.load_style(presets::NOTHING).set_header(["BOARD", "FOR", "KERNEL", "BOOT", "WI-FI", "TESTED"]);
    for board in &boards {
        let description = &board.description;
        table.add_row([
            board.name.as_str(),
            &description.description,
            &kernel(board),
            &description.chain,
            description.wifi.as_ref().map_or("no", |wifi| &wifi.models),
            &description.tested,
        ]);
    }
    println!("{table}");
    Ok(())
}

pub(super) fn inspect(args: &InspectArgs) -> Result<(), Error> {
    let found = Image::open(&args.image)?.inspect()?;
    let damaged = found.boots.iter().find(|boot| boot.state != SlotState::Sound);
    if args.json {
        println!("{}", serde_json::to_string(&found).map_err(|error| Error::malformed("the image", error))?);
    } else {
        println!("{}: {} bytes", args.image.display(), found.bytes);
        for (name, start, bytes) in &found.partitions {
            println!("  {name:<12} at {start:>12}, {bytes:>12} bytes");
        }
        for boot in &found.boots {
            println!("{}: {} for {}, slot {}", boot.path, boot.version, boot.board, boot.slot);
            let state = match &boot.state {
                SlotState::Sound => "sound".to_owned(),
                SlotState::Damaged(reason) => format!("DAMAGED: {reason}"),
            };
            println!("  slot       {state}");
            println!("  root       {}", boot.root);
            println!("  boot image {}", boot.sha256);
            match &boot.parts {
                PartsState::Sound => println!("             is what the slot was composed with"),
                PartsState::Differs(parts) => println!("             DIFFERS: {}", parts.join(", ")),
                PartsState::Unchecked => println!("             unchecked: the slot does not say its parts"),
            }
            if let Some(kernel) = &boot.kernel {
                println!("  kernel     {kernel}");
            }
            if let Some(tries) = boot.tries {
                println!("  tries left {tries}");
            }
            for package in &boot.packages {
                println!("  package    {package}");
            }
        }
        if let Some(name) = &found.hostname {
            println!("host name {name}");
        }
        match &found.join {
            Some(join) => println!(
                "join token for hub {} at {}, owner {}, {} uses, {}",
                join.hub,
                join.host,
                join.owner,
                join.uses,
                validity(join.expires)
            ),
            None => println!("no join token: the device is enrolled, or waits for one"),
        }
        if let Some(address) = &found.payout_to {
            println!("earnings go to {address}");
        }
        if !found.wifi.is_empty() {
            println!("wireless networks {}", found.wifi.join(", "));
        }
    }
    let wrong = |reason: String| Err(Error::malformed(args.image.display().to_string(), reason));
    if let Some(boot) = damaged {
        return wrong(format!("slot {} is damaged", boot.slot));
    }
    match found.boots.iter().find(|boot| matches!(boot.parts, PartsState::Differs(_))) {
        Some(boot) => wrong(format!("{} is not the boot image that slot {} has", boot.path, boot.slot)),
        None => Ok(()),
    }
}

/// How long something holds that ends at `expires`, in seconds since 1970.
fn validity(expires: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let words = |seconds: u64| match seconds {
        0..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    match expires.checked_sub(now) {
        Some(left) => format!("for another {}", words(left)),
        None => format!("EXPIRED {} ago", words(now - expires)),
    }
}
