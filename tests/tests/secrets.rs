//! A device's key stays in its file: no message, log, store or core file has it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{fs, path::PathBuf, process::Command, time::Duration};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use sosna_tests::{
    books::all_held,
    opening::{Opening, prepare},
    secrets::Needle,
    world::World,
};

/// Core files in the folder where all programs run.
fn cores(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.dir()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("core")).collect()
}

#[test]
fn a_devices_key_never_leaves_it() {
    const TEST: &str = "a_devices_key_never_leaves_it";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    // All that anybody can be made to say, and a core of whatever crashes.
    world.set_hub("log", "trace");
    world.set_agents("log", "trace");
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
    let mut opening = Opening::start(world, image, &["one"]);
    assert_eq!(
        opening.run(&["--output", "/tmp/it"], &["sh", "-c", "echo done > /tmp/it; env"]).code,
        Some(0)
    );
    let world = &mut opening.world;
    world.until("vouchers", || all_held(&world.ask(&world.admin(), &["devices"])));
    assert!(world.agent_log(0).contains("TRACE"), "the log is not as talkative as it can be");

    // A program that crashes here leaves a core, and the agent that crashes does not.
    let done = world.run(Command::new("sh").args(["-c", "kill -ABRT $$"]).current_dir(world.dir()));
    assert_ne!(done.code, Some(0), "{done}");
    let usual = cores(world);
    if usual.is_empty() {
        eprintln!(
            "SKIPPED {TEST}: the part about core files: this machine writes none into a program's folder"
        );
    }
    usual.iter().for_each(|core| fs::remove_file(core).unwrap());
    world.crash_agent(0, Signal::SIGABRT);
    assert_eq!(cores(world), Vec::<PathBuf>::new());
    world.crash_hub(Signal::SIGABRT);
    assert_eq!(cores(world), Vec::<PathBuf>::new());

    for (holder, key) in [(world.agent(0).data.clone(), "identity.key"), (world.hub_data(), "hub.key")] {
        let key = holder.join(key);
        let needle = Needle::of_file(&fs::read(&key).unwrap());
        assert_eq!(needle.files_with_it(world.dir()), [key]);
    }
    world.start_hub();
    world.start_agent(0, None);
    world.until_online(1);
    opening.world.finish();
}
