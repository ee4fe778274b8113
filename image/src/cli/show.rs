//! Commands that only print.

use comfy_table::{Table, presets};
use serde_json::json;
use sosna_image::Error;
use sosna_image::board::Board;

use super::args::BoardsArgs;

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
                })
            })
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["BOARD", "FOR", "KERNEL", "BOOT", "TESTED"]);
    for board in &boards {
        let description = &board.description;
        table.add_row([
            &board.name,
            &description.description,
            &kernel(board),
            &description.chain,
            &description.tested,
        ]);
    }
    println!("{table}");
    Ok(())
}
