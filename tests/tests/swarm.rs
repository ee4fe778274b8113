//! A crowd of devices at one hub: simulated (`sosna-swarm`), over the same sockets, TLS and MQTT as real ones.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::{Duration, Instant};

use sosna_protocol::{Amount, message::result::Judgement, resources::Arch};
use sosna_swarm::{Conduct, Figures, Population, Settings, Swarm, show};
use sosna_tests::books::{items, text, units};
use sosna_tests::opening::prepare;
use sosna_tests::world::World;
use tokio::runtime::Runtime;

/// More than replicas, so that a task whose replicas fail finds others.
const OWNERS: [&str; 8] = ["ada", "bob", "cyn", "dan", "eve", "fay", "gil", "hal"];

/// Every way to cheat but that of those who agree upon a wrong result: where they are the most, they are believed.
const CHEATS: [Conduct; 12] = [
    Conduct::Liar,
    Conduct::Withholder,
    Conduct::Resalter,
    Conduct::Copier,
    Conduct::Hasty,
    Conduct::Tardy,
    Conduct::Idler,
    Conduct::Deserter,
    Conduct::Refuser,
    Conduct::Replayer,
    Conduct::Boaster,
    Conduct::Mistimed,
];

fn runtime() -> Runtime {
    // A second installation cannot happen: tests of one process share it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn settings(world: &World, population: Population) -> Settings {
    let uses = u32::try_from(population.devices.div_ceil(OWNERS.len())).unwrap();
    let tokens = OWNERS.map(|owner| world.owner_token(owner, uses).parse().unwrap());
    Settings::new(tokens.to_vec(), population)
}

fn account(figures: &Figures, conduct: Conduct) -> sosna_swarm::Account {
    figures.accounts.get(&conduct).cloned().unwrap_or_default()
}

/// Waits for something among the devices, within the test's time.
#[track_caller]
fn until(runtime: &Runtime, swarm: &Swarm, what: &str, is_so: impl FnMut(&Figures) -> bool) {
    let is_so = runtime.block_on(swarm.until(Duration::from_secs(60), is_so));
    assert!(is_so, "never came: {what}\n{}", show::figures(&swarm.figures()));
}

#[test]
fn a_crowd_in_which_many_cheat_does_its_work_through_churn_and_a_crash_of_the_hub() {
    const TEST: &str = "a_crowd_in_which_many_cheat_does_its_work_through_churn_and_a_crash_of_the_hub";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    for (key, value) in [
        ("times.offer_ms", "1000"),
        ("times.lease_ms", "2000"),
        // Beside the four seconds of a task, for a hub that is away for a moment.
        ("times.beside_ms", "4000"),
        ("times.reveal_ms", "1500"),
        ("times.ask_again_ms", "500"),
        ("limits.attempts", "12"),
    ] {
        world.set_hub(key, value);
    }
    world.start_hub();
    let alice = world.buyer("alice", "1000");
    let population = Population {
        devices: 80,
        seed: 2,
        arch: Some(Arch::X86_64),
        conducts: CHEATS.map(|cheat| (cheat, 0.04)).to_vec(),
        task: Duration::from_millis(100),
        stay: Duration::from_secs(20),
        away: Duration::from_secs(2),
        ..Population::default()
    };
    let present = |conduct: Conduct| {
        (0..population.devices).filter(|index| population.profile(*index).conduct == conduct).count()
    };
    for cheat in CHEATS {
        assert!(present(cheat) > 0, "the seed makes no {cheat}");
    }
    let began = Instant::now();
    let runtime = runtime();
    let settings = settings(&world, population.clone());
    let swarm = {
        let _on = runtime.enter();
        Swarm::start(settings).unwrap()
    };
    until(&runtime, &swarm, "nearly all of them online", |figures| figures.online >= 65);

    let submit = |verify: &str| {
        let line =
            ["--verify", verify, "--tasks", "12", "--timeout", "4s", "--memory", "64M", "--disk", "8M"];
        world.submit(&alice, &[&line[..], &[&image, "--", "echo", "a crowd"]].concat())
    };
    eprintln!("online after {:.1?}", began.elapsed());
    let first = [submit("replicate:3"), submit("replicate:2")];
    until(&runtime, &swarm, "half of the work", |figures| figures.verdicts(Judgement::Accepted) >= 30);
    eprintln!("crash after {:.1?}", began.elapsed());
    world.kill_hub();
    world.start_hub();
    let line =
        ["--verify", "replicate:3", "--tasks", "12", "--timeout", "4s", "--memory", "64M", "--disk", "8M"];
    let last = world.submit(&alice, &[&line[..], &[&image, "--", "echo", "after the crash"]].concat());
    for id in first.iter().chain([&last]) {
        let job = world.until_over(id);
        assert_eq!(job["state"], "succeeded", "{job:#}");
    }
    eprintln!("all ended after {:.1?}", began.elapsed());
    world.assert_books();
    eprintln!("books after {:.1?}", began.elapsed());
    let figures = runtime.block_on(swarm.end());
    let shown = show::figures(&figures);
    eprintln!("{shown}");

    assert!(figures.breaches.is_empty(), "the hub kept its word to everybody:\n{shown}");
    assert!(figures.sessions > 2 * 65, "all came back after the crash, and some besides:\n{shown}");
    for (conduct, account) in &figures.accounts {
        if !conduct.is_right() {
            assert_eq!(account.vouched, Amount::ZERO, "a {conduct} is paid for nothing:\n{shown}");
            assert_eq!(account.verdicts.get("accepted"), None, "{conduct}\n{shown}");
        }
    }
    // Each kind of cheat had its chance.
    let met = |conduct, did: fn(&sosna_swarm::Account) -> u64| {
        assert!(did(&account(&figures, conduct)) > 0, "no {conduct} did what it does:\n{shown}");
    };
    met(Conduct::Liar, |account| account.verdicts.get("wrong").copied().unwrap_or_default());
    met(Conduct::Refuser, |account| account.refused);
    met(Conduct::Replayer, |account| account.verdicts.get("accepted").copied().unwrap_or_default());
    met(Conduct::Boaster, |account| account.verdicts.get("accepted").copied().unwrap_or_default());
    let takers = [
        Conduct::Withholder,
        Conduct::Resalter,
        Conduct::Copier,
        Conduct::Tardy,
        Conduct::Idler,
        Conduct::Deserter,
    ];
    for conduct in takers {
        met(conduct, |account| account.accepted);
    }
    // Half of the mistimed ones, whose clocks are ahead, hear nothing that counts.
    assert!(figures.deaf.keys().any(|why| why.contains("expired")), "{shown}");
    // What devices hold in vouchers is what the hub says that they have earned.
    let devices = world.ask(&world.admin(), &["devices"]);
    let earned: u128 = items(&devices["devices"]).iter().map(|device| units(&device["earned"])).sum();
    let vouched: u128 = figures.accounts.values().map(|account| account.vouched.units()).sum();
    assert_eq!(earned, vouched, "{shown}");
    world.finish();
}

#[test]
fn the_same_crowd_comes_again_under_the_same_names() {
    const TEST: &str = "the_same_crowd_comes_again_under_the_same_names";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    world.start_hub();
    let alice = world.buyer("alice", "100");
    let population = Population {
        devices: 12,
        arch: Some(Arch::X86_64),
        task: Duration::from_millis(20),
        ..Population::default()
    };
    let runtime = runtime();
    let settings = settings(&world, population);
    let names = |world: &World| -> Vec<String> {
        let devices = world.ask(&world.admin(), &["devices"]);
        let mut names: Vec<_> =
            items(&devices["devices"]).iter().map(|device| text(&device["address"]).to_owned()).collect();
        names.sort();
        names
    };
    let mut before = Vec::new();
    for round in 1..=2 {
        let swarm = {
            let _on = runtime.enter();
            Swarm::start(settings.clone()).unwrap()
        };
        until(&runtime, &swarm, "all of them online", |figures| figures.online == 12);
        let line =
            ["--verify", "replicate:2", "--tasks", "6", "--timeout", "4s", "--memory", "64M", "--disk", "8M"];
        let id = world.submit(&alice, &[&line[..], &[&image, "--", "echo", "again"]].concat());
        assert_eq!(world.until_over(&id)["state"], "succeeded");
        world.assert_books();
        let figures = runtime.block_on(swarm.end());
        let shown = show::figures(&figures);
        assert_eq!(figures.verdicts(Judgement::Accepted), 12, "{shown}");
        assert!(figures.failures.is_empty() && figures.breaches.is_empty(), "{shown}");
        let now = names(&world);
        assert_eq!(now.len(), 12);
        assert!(round == 1 || now == before, "they are the same devices");
        before = now;
    }
    world.finish();
}
