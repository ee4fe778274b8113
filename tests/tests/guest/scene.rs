//! What most of these tests begin with: a hub that a guest reaches, and a device with its owner's files.

use std::time::Duration;

use serde_json::Value;
use sosna_image::board::Board;
use sosna_image::personal::Personal;
use sosna_tests::guest::{Guest, HOST};
use sosna_tests::opening::{Opening, prepare_for};
use sosna_tests::world::World;

/// Emulated machines on a busy one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);
/// How long a device may take to turn itself off.
const FAREWELL: Duration = Duration::from_secs(120);
/// What the console says once the token is of no use any more.
pub(crate) const ENROLLED: &str = "enrolled: the join token is removed from the boot partition";
/// What it says while a session stands.
pub(crate) const CONNECTED: &str = " connected, ";

/// What a small task asks for.
pub(crate) const WORK: &[&str] = &["--cpu", "0.5", "--timeout", "120s"];

/// A hub, and a device that is off and has never been on.
pub(crate) struct Scene {
    pub(crate) opening: Opening,
    pub(crate) guest: Guest,
    board: String,
}

impl Scene {
    /// Where the test can run here; it says so where not.
    pub(crate) fn set(test: &str, board: &str) -> Option<Self> {
        Self::set_on(test, board, 8 << 30)
    }

    /// The same with a card of so many bytes.
    pub(crate) fn set_on(test: &str, board: &str, bytes: u64) -> Option<Self> {
        let architecture = Board::find(board).unwrap().description.architecture;
        let (mut world, image) = prepare_for(&architecture, test, PATIENCE)?;
        world.set_hub("public_address", HOST);
        world.set_hub("times.lease_ms", "30000");
        world.set_hub("times.offer_ms", "30000");
        let opening = Opening::start(world, image, &[]);
        let personal = owners_files(&opening.world);
        let guest = Guest::make_on(test, &opening.world, board, "lamp", &personal, bytes)?;
        Some(Self { opening, guest, board: board.to_owned() })
    }

    /// Turns the device on and waits until the hub has it; false where there is no emulator, which is said.
    pub(crate) fn enrol(&mut self) -> bool {
        if !self.guest.start() {
            return false;
        }
        let enrolled = self.guest.until_says(&self.opening.world, ENROLLED);
        self.opening.world.until_online(1);
        eprintln!("{}: enrolled {enrolled:.1?} after power on", self.board);
        true
    }

    /// Turns the device on again and waits until the hub has it.
    pub(crate) fn come_back(&mut self) {
        assert!(self.guest.start());
        self.guest.until_says(&self.opening.world, CONNECTED);
        self.opening.world.until_online(1);
    }

    /// Turns the device off in order, where it has a button for that; a Pi has none, and loses its power.
    pub(crate) fn turn_off(&mut self) {
        turn_off(&mut self.guest, &self.board);
    }

    /// Every device that the hub knows.
    pub(crate) fn devices(&self) -> Vec<Value> {
        let world = &self.opening.world;
        world.ask(&world.admin(), &["devices"])["devices"].as_array().unwrap().clone()
    }

    /// The one device that the hub knows.
    pub(crate) fn device(&self) -> Value {
        let devices = self.devices();
        assert_eq!(devices.len(), 1, "{devices:?}");
        devices[0].clone()
    }

    /// Runs a small task on the device; what it wrote.
    #[track_caller]
    pub(crate) fn work(&self, script: &str) -> String {
        self.opening.run(WORK, &["sh", "-c", script]).ok().to_owned()
    }

    /// The device goes off, everything balances, and nothing is left.
    pub(crate) fn end(mut self) {
        self.opening.world.assert_books();
        self.turn_off();
        self.opening.world.finish();
    }
}

/// A device's name, its labels, and the token of an owner.
pub(crate) fn owners_files(world: &World) -> Personal {
    let mut personal = Personal { join: Some(world.owner_token("one", 1)), ..Personal::default() };
    personal.settings.hostname = Some("lamp".to_owned());
    personal.settings.labels.insert("room".to_owned(), "cellar".to_owned());
    personal
}

pub(crate) fn turn_off(guest: &mut Guest, board: &str) {
    if board == "rpi" {
        guest.cut_power();
        return;
    }
    guest.press_power(FAREWELL);
    let console = guest.console();
    assert!(console.contains("turning off: everything is written and unmounted"), "{console}");
}
