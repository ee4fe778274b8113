//! What a device takes from its power button to its hub, how much memory its agent has, and what it writes while it is
//! idle: an image for each board that has programs here, in QEMU. Prints a line of JSON for each figure; started by
//! `cargo xtask bench device`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot measure ends")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use sosna_image::personal::Personal;
use sosna_tests::guest::{Guest, HOST};
use sosna_tests::world::World;
use xtask::bench::Measured;

const BOARDS: [&str; 4] = ["x86_64-uefi", "x86_64-uefi-cloud", "arm64-uefi", "rpi"];
/// On one board: what is written does not depend on it.
const IDLE_BOARD: &str = "x86_64-uefi";
/// Minutes of idling that are measured; an hour is extrapolated from them.
const IDLE: &str = "SOSNA_BENCH_IDLE_MINUTES";
/// After so long a device that has nothing to do has freed and written what its start took.
const SETTLED: Duration = Duration::from_secs(90);

fn main() {
    for board in BOARDS {
        let figures = measure(board);
        for figure in figures.unwrap_or_default() {
            println!("{}", serde_json::to_string(&figure).unwrap());
        }
    }
}

fn measure(board: &str) -> Option<Vec<Measured>> {
    let minutes: u64 = std::env::var(IDLE).ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut world = World::new(Duration::from_secs(1200 + minutes * 60));
    world.set_hub("public_address", HOST);
    world.set_hub("times.beat_ms", "10000");
    world.set_hub("times.lease_ms", "60000");
    world.start_hub();
    let personal = Personal { join: Some(world.owner_token("one", 1)), ..Personal::default() };
    let mut guest = Guest::make(board, &world, board, "device", &personal)?;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    guest.setting.page = Some(port);
    if !guest.start() {
        return None;
    }
    let mut figures = Vec::new();
    let mut figure = |what: &str, value: f64, unit: &str| {
        figures.push(Measured::new(&format!("{board}: {what}"), value, unit));
    };
    let enrolled = guest.until_says(&world, "enrolled: the join token is removed");
    figure("power on to enrolled", enrolled.as_secs_f64(), "s");
    world.until_online(1);
    thread::sleep(SETTLED);
    let page = page(port);
    let at = |what: &str| f64::from(u32::try_from(page["times"][what].as_u64().unwrap()).unwrap()) / 1000.0;
    figure("kernel to PID 1", at("began"), "s");
    figure("PID 1 to enrolled", at("enrolled") - at("began"), "s");
    figure("network up to enrolled", at("enrolled") - at("network"), "s");
    let memory = page["health"]["memory"].as_u64().unwrap();
    figure("agent PSS", f64::from(u32::try_from(memory / 1000).unwrap()) / 1000.0, "MB");
    if board == IDLE_BOARD {
        let before = guest.written();
        thread::sleep(Duration::from_secs(minutes * 60));
        let after = guest.written();
        let hour =
            |before: u64, after: u64| f64::from(u32::try_from((after - before) * 60 / minutes).unwrap());
        let what = format!("written in an idle hour, from {minutes} minutes");
        figure(&what, hour(before.0, after.0) / 1000.0, "kB");
        figure(&format!("{what}, operations"), hour(before.1, after.1), "");
    }
    guest.cut_power();
    world.finish();
    Some(figures)
}

/// What the device says of itself.
fn page(port: u16) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /status.json HTTP/1.1\r\nHost: device\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}
