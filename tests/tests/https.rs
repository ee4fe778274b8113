//! A hub that speaks HTTPS with people, and whose certificates and devices' certificates renew while everybody works.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use sosna_host::token::JoinToken;
use sosna_protocol::Hash;
use sosna_tests::books::{states, text};
use sosna_tests::opening::prepare;
use sosna_tests::world::{Person, World};

/// Two thirds of it are over before a task of this test is.
const DEVICES: &str = "15000";
const LISTENERS: &str = "9000";

/// The hub's authority, as its operator learns it.
fn authority(world: &World) -> Hash {
    let mut command = world.hub_command(&world.hub_data());
    let token: JoinToken = world.run(command.arg("token")).ok().parse().unwrap();
    token.authority
}

#[test]
fn people_come_by_https_and_certificates_renew_under_work() {
    const TEST: &str = "people_come_by_https_and_certificates_renew_under_work";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    world.set_hub("https", "true");
    world.set_hub("times.listener_certificate_ms", LISTENERS);
    world.set_hub("times.certificate_ms", DEVICES);
    world.start_hub();
    let url = world.http();
    assert!(url.starts_with("https://"), "{url}");
    let pin = authority(&world).to_string();
    let admin = world.admin();

    // Another hub, no hub that anybody vouches for, and no encryption.
    let wrong = Hash([7; 32]).to_string();
    world
        .cli(&admin, &["login", &url, "--authority", &wrong])
        .fails(4, &["does not prove to be the hub", "--authority"]);
    world.cli(&admin, &["login", &url]).fails(4, &["does not prove to be the hub", "--authority"]);
    let plain = url.replace("https://", "http://");
    let done = world.cli(&admin, &["--hub", &plain, "jobs"]);
    assert_ne!(done.code, Some(0), "{done}");
    assert!(done.err.contains("HTTPS only"), "{done}");
    let _ = world.cli(&admin, &["login", &url, "--authority", &pin]).ok();

    let alice = world.buyer("alice", "10");
    for owner in ["one", "two"] {
        let token = world.owner_token(owner, 1);
        world.add_agent(&token, &[]);
    }
    world.until_online(2);
    let until = |world: &World| [0, 1].map(|place| world.agent_status(place)["certificate_until_ms"].clone());
    let before = until(&world);
    let line = ["--verify", "replicate:2", "--memory", "64M", "--disk", "8M", &image, "--", "sleep", "18"];
    let id = world.submit(&alice, &line);
    let job = world.until_over(&id);
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(states(&job).get("judged"), Some(&2), "nobody lost its work: {job:#}");
    assert_eq!(states(&job).len(), 1, "{job:#}");
    let renewals = world.hub_log().matches("the listeners have a new certificate").count();
    assert!(renewals >= 2, "{renewals} renewals:\n{}", world.hub_log());
    let after = until(&world);
    for (before, after) in before.iter().zip(&after) {
        assert!(after.as_u64() > before.as_u64(), "{before} is to be replaced: {after}");
    }

    // Whoever comes anew still finds the hub that they know.
    world.kill_agent(0);
    world.start_agent(0, None);
    world.until_online(2);
    let nobody = Person { token: "nonsense".into() };
    world.cli(&nobody, &["jobs"]).fails(4, &[]);
    assert_eq!(text(&world.ask(&alice, &["job", &id])["state"]), "succeeded");
    world.assert_books();
    world.finish();
}

/// Devices know it by a name that leads nowhere from here: behind a router, or from within an emulated machine.
#[test]
fn the_hubs_own_commands_reach_it_whatever_others_call_it() {
    for https in ["false", "true"] {
        let mut world = World::new(Duration::from_secs(60));
        world.set_hub("public_address", "hub.invalid");
        world.set_hub("https", https);
        world.start_hub();
        let mut command = world.hub_command(&world.hub_data());
        let token: JoinToken = world.run(command.arg("token")).ok().parse().unwrap();
        assert_eq!(token.host, "hub.invalid");
        let log = world.hub_log();
        let local = format!("local    {}, from this machine", world.http());
        assert!(log.contains("hub.invalid") && log.contains(&local), "{log}");
        let pin = token.authority.to_string();
        let _ = world.cli(&world.admin(), &["login", &world.http(), "--authority", &pin]).ok();
        world.finish();
    }
}
