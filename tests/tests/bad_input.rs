//! What people and machines do wrong: a clear message and the right exit code each.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use sosna_host::token::JoinToken;
use sosna_protocol::Hash;
use sosna_tests::image::package;
use sosna_tests::opening::{Opening, TWICE, open, prepare};
use sosna_tests::world::{World, can_run};

#[test]
fn join_tokens_that_do_not_hold_are_told() {
    if !can_run("join_tokens_that_do_not_hold_are_told") {
        return;
    }
    let mut world = World::new(Duration::from_secs(60));
    world.start_hub();

    // None at all, none that could be one, a damaged one.
    world.try_agent("none", None).fails(2, &["not enrolled", "--join"]);
    world.try_agent("text", Some("hello")).fails(2, &["sosna1", "sosna-hub token"]);
    let token = world.owner_token("one", 1);
    let mut damaged: Vec<char> = token.chars().collect();
    damaged[40] = if damaged[40] == 'a' { 'b' } else { 'a' };
    let damaged: String = damaged.into_iter().collect();
    world.try_agent("damaged", Some(&damaged)).fails(2, &["damaged"]);
    world.try_agent("short", Some(&token[..token.len() - 3])).fails(2, &["damaged"]);

    // Another authority than the hub's: whoever answers there is not the hub that the token means.
    let parsed: JoinToken = token.parse().unwrap();
    let pinned = JoinToken { authority: Hash([7; 32]), ..parsed.clone() };
    world.try_agent("pin", Some(&pinned.to_string())).fails(4, &["127.0.0.1"]);
    // An owner who did not sign it.
    let forged = JoinToken { uses: 1000, ..parsed };
    world.try_agent("forged", Some(&forged.to_string())).fails(2, &["delegation"]);

    // Used up.
    world.add_agent(&token, &[]);
    world.until_online(1);
    world.try_agent("second", Some(&token)).fails(4, &["does not admit", "used"]);

    // Expired.
    let key = world.dir().join("one.key");
    let short = ["owner", "delegate", "--ttl", "1s", "--key", key.to_str().unwrap()];
    let expired = world.cli(&world.admin(), &short).ok().to_owned();
    std::thread::sleep(Duration::from_millis(2100));
    world.try_agent("late", Some(&expired)).fails(4, &["does not admit", "expired"]);

    // The device that is in has lost nothing by all this.
    world.until_online(1);
    world.finish();
}

#[test]
fn jobs_that_cannot_be_are_told() {
    const TEST: &str = "jobs_that_cannot_be_are_told";
    let Some(opening) = open(TEST, Duration::from_secs(60), &["one", "one"]) else { return };
    let Opening { mut world, alice, image } = opening;
    let poor = world.buyer("poor", "0");
    let run = |who, extra: &[&str]| {
        let line: Vec<_> =
            ["run"].iter().chain(extra).copied().chain([image.as_str(), "--", "true"]).collect();
        world.cli(who, &line)
    };

    run(&alice, &["--memory", "900G"]).fails(4, &["ask for less"]);
    run(&alice, &["--cpu", "1000"]).fails(4, &["ask for less"]);
    run(&alice, &["--memory", "a lot"]).fails(2, &["512M"]);
    run(&alice, &["--verify", "replicate:1"]).fails(2, &["replicate:N"]);
    run(&alice, &["--output", "relative"]).fails(2, &["absolute"]);
    run(&alice, &["--input", "/nowhere/at/all:/in"]).fails(3, &["/nowhere/at/all"]);
    run(&poor, &["--memory", "64M"]).fails(4, &["credit"]);
    // More than there is.
    run(&alice, &["--memory", "64M", "--max-price", "11"]).fails(4, &["credit"]);
    // Nothing of all that was taken.
    let ledger = world.ask(&world.admin(), &["ledger"]);
    let accounts = sosna_tests::books::items(&ledger["accounts"]);
    let own = accounts.iter().find(|account| account["buyer"] == "alice").unwrap();
    assert_eq!(own["available"], "10", "{own}");
    assert!(world.jobs().is_empty());

    // Nobody, and nobody's business.
    let nobody = sosna_tests::world::Person { token: "nonsense".into() };
    world.cli(&nobody, &["jobs"]).fails(4, &[]);
    world.cli(&alice, &["ledger", "credit", "alice", "5"]).fails(4, &[]);
    world.cli(&alice, &["job", "00000000"]).fails(3, &[]);
    world.cli(&alice, &["results", "00000000"]).fails(3, &[]);
    // A second replica has nowhere to go; the reason is told, and the job can be stopped.
    let id = world.submit(&alice, &["--verify", "replicate:2", "--memory", "64M", &image, "--", "true"]);
    world.until("the reason", || {
        let job = world.job(&id);
        job["tasks"][0]["unplaced_reason"]["explanation"].as_str().is_some_and(|text| text.contains("owner"))
    });
    let _ = world.cli(&alice, &["cancel", &id]).ok();
    assert_eq!(world.until_over(&id)["state"], "cancelled");

    world.until("an end of the cancelled task", || world.agent_idle(0) && world.agent_idle(1));
    let _ = world.cli(&alice, &["jobs"]).ok();
    world.assert_books();

    // Nobody answers.
    world.stop_hub();
    world.cli(&alice, &["jobs"]).fails(5, &["does not answer"]);
    world.start_hub();
    world.until_online(2);
    world.finish();
}

#[test]
fn a_full_disk_is_told_and_gets_over() {
    const TEST: &str = "a_full_disk_is_told_and_gets_over";
    let Some((world, image)) = prepare(TEST, Duration::from_secs(60)) else { return };
    fs::create_dir(world.hub_data()).unwrap();
    let small = Some("size=24m,mode=0700");
    mount(Some("sosna-e2e"), &world.hub_data(), Some("tmpfs"), MsFlags::empty(), small).unwrap();
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;

    let filler = world.hub_data().join("filler");
    let mut file = File::create(&filler).unwrap();
    assert!(std::io::copy(&mut std::io::repeat(1), &mut file).is_err(), "it is full now");
    opening.run(&[], &["echo", "hi"]).fails(1, &["room"]);
    // The machines that watch the hub are told too.
    world.until("the hub is not ready", || readiness(world).is_err());
    drop(file);
    fs::remove_file(&filler).unwrap();
    world.until("the hub is ready", || readiness(world).is_ok());
    assert_eq!(opening.run(&[], &["echo", "hi"]).ok(), "hi");
    world.assert_books();
    let data = world.hub_data();
    opening.world.finish_but(&[&data]);
}

/// What `/readyz` says: an error is the whole answer.
fn readiness(world: &World) -> Result<(), String> {
    let address = world.http().replace("http://", "");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
}

#[test]
fn a_device_whose_clock_is_years_off_works_by_its_hubs_time() {
    const TEST: &str = "a_device_whose_clock_is_years_off_works_by_its_hubs_time";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(60)) else { return };
    let library = package("libfaketime")
        .map(|folder| folder.join("usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"));
    let library = match library {
        Ok(library) if library.is_file() => library,
        library => {
            eprintln!("SKIPPED {TEST}: {library:?}");
            return;
        }
    };
    world.start_hub();
    let alice = world.buyer("alice", "10");
    for (owner, offset) in [("ahead", "+5y"), ("behind", "-20y")] {
        let token = world.owner_token(owner, 1);
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME", offset),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        world.add_agent(&token, &environment);
    }
    world.until_online(2);
    let opening = Opening { world, alice, image };
    assert_eq!(opening.run(TWICE, &["echo", "hi"]).ok(), "hi");
    opening.world.assert_books();
    opening.world.finish();
}
