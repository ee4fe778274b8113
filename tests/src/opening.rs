//! How most tests open: a hub, devices that are connected, a buyer with credit, and a small image; or the word that
//! this machine cannot do it.

use std::time::Duration;

use crate::{
    image::busybox_for,
    program::Done,
    world::{Person, World, can_run},
};

/// A hub at work.
#[derive(Debug)]
pub struct Opening {
    /// The hub and its devices.
    pub world: World,
    /// A buyer with ten SNM.
    pub alice: Person,
    /// The image as the command line names it.
    pub image: String,
}

/// A world without a hub yet, and the image; `None` where the test `test` cannot run here, which is said.
#[must_use]
pub fn prepare(test: &str, patience: Duration) -> Option<(World, String)> {
    prepare_for("amd64", test, patience)
}

/// The same with an image for another kind of processor, by Debian's name.
#[must_use]
pub fn prepare_for(architecture: &str, test: &str, patience: Duration) -> Option<(World, String)> {
    if !can_run(test) {
        return None;
    }
    let world = World::new(patience);
    let place = world.dir().join("image");
    match busybox_for(architecture, &place) {
        Ok(_) => Some((world, format!("oci:{}", place.display()))),
        Err(reason) => {
            eprintln!("SKIPPED {test}: {reason}");
            None
        }
    }
}

/// A hub with a device for each of `owners`, by name: the same name is the same owner. All are connected.
#[must_use]
pub fn open(test: &str, patience: Duration, owners: &[&str]) -> Option<Opening> {
    let (world, image) = prepare(test, patience)?;
    Some(Opening::start(world, image, owners))
}

// === impl Opening ===

impl Opening {
    /// Starts the hub of a prepared world, and its devices.
    #[must_use]
    pub fn start(mut world: World, image: String, owners: &[&str]) -> Self {
        world.start_hub();
        let alice = world.buyer("alice", "10");
        let mut tokens: Vec<(&str, String)> = Vec::new();
        for owner in owners {
            if !tokens.iter().any(|(known, _)| known == owner) {
                let uses = owners.iter().filter(|other| *other == owner).count();
                tokens.push((owner, world.owner_token(owner, u32::try_from(uses).unwrap())));
            }
        }
        for owner in owners {
            let (_, token) = tokens.iter().find(|(known, _)| known == owner).unwrap();
            world.add_agent(token, &[]);
        }
        world.until_online(owners.len());
        Self { world, alice, image }
    }

    /// Runs a small job of the buyer's to its end: `sosna run` with these options, and this command in the image.
    #[must_use]
    pub fn run(&self, options: &[&str], command: &[&str]) -> Done {
        self.run_image(&self.image, options, command)
    }

    /// The same with another image.
    #[must_use]
    pub fn run_image(&self, image: &str, options: &[&str], command: &[&str]) -> Done {
        let line = [&["run"], SMALL, options, &[image, "--"], command].concat();
        self.world.cli(&self.alice, &line)
    }

    /// The same without waiting for it; its id.
    #[must_use]
    #[track_caller]
    pub fn submit(&self, options: &[&str], command: &[&str]) -> String {
        let line = [SMALL, options, &[&self.image, "--"], command].concat();
        self.world.submit(&self.alice, &line)
    }
}

/// What a small task asks for.
const SMALL: &[&str] = &["--memory", "64M", "--disk", "8M"];

/// The options of a job that two owners' devices must agree on.
pub const TWICE: &[&str] = &["--verify", "replicate:2"];
