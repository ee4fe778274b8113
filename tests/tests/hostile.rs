//! Strangers and devices that bear down on a hub's listeners in every way at once, and what others see of it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::{Duration, Instant};

use sosna_protocol::{message::result::Judgement, resources::Arch};
use sosna_swarm::{
    Figures, Population, Settings, Span, Swarm,
    attack::{Assault, Attack},
    show,
};
use sosna_tests::opening::prepare;

const HONEST: usize = 12;
/// Of each attack.
const LINES: usize = 8;
/// Longer than the hub waits for a handshake and then for a CONNECT.
const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn others_are_served_while_somebody_bears_down_on_the_listeners() {
    const TEST: &str = "others_are_served_while_somebody_bears_down_on_the_listeners";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(150)) else { return };
    world.start_hub();
    let alice = world.buyer("alice", "100");
    // A second installation cannot happen: tests of one process share it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tokens = ["ada", "bob"].map(|owner| world.owner_token(owner, 20).parse().unwrap());
    let hostile = world.owner_token("mallory", 200).parse().unwrap();
    let population = Population {
        devices: HONEST,
        arch: Some(Arch::X86_64),
        task: Duration::from_millis(50),
        ..Population::default()
    };
    let settings = Settings { chatter: 1, ..Settings::new(tokens.to_vec(), population.clone()) };
    let start = |settings: &Settings| {
        let _on = runtime.enter();
        Swarm::start(settings.clone()).unwrap()
    };
    let swarm = start(&settings);
    let until = |swarm: &Swarm, is_so: &dyn Fn(&Figures) -> bool| {
        let came = runtime.block_on(swarm.until(Duration::from_secs(60), is_so));
        assert!(came, "it never came\n{}", show::figures(&swarm.figures()));
    };
    until(&swarm, &|figures| figures.online == HONEST as u64);
    swarm.begin_times();
    std::thread::sleep(Duration::from_secs(3));
    let quiet = swarm.figures();

    swarm.begin_times();
    let assaults: Vec<_> = Attack::ALL
        .iter()
        .map(|attack| (*attack, runtime.block_on(Assault::start(*attack, &hostile, LINES, 0)).unwrap()))
        .collect();
    // Meanwhile others come for the first time, and work is done.
    let newcomers = Settings {
        chatter: 0,
        ..Settings::new(settings.tokens.clone(), Population { devices: 4, seed: 2, ..population })
    };
    let came = start(&newcomers);
    let line =
        ["--verify", "replicate:2", "--tasks", "6", "--timeout", "10s", "--memory", "64M", "--disk", "8M"];
    let job = world.submit(&alice, &[&line[..], &[&image, "--", "echo", "all the same"]].concat());
    let state = world.until_over(&job);
    let began = Instant::now();
    let goes_on = |(attack, assault): &(Attack, Assault)| {
        *attack != Attack::Unsigned && assault.outcome().ended < LINES as u64
    };
    while assaults.iter().any(goes_on) && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
    let busy = swarm.figures();
    let outcomes: Vec<_> =
        assaults.into_iter().map(|(attack, assault)| (attack, runtime.block_on(assault.end()))).collect();
    until(&came, &|figures| figures.online == 4);
    let new = runtime.block_on(came.end());
    let figures = runtime.block_on(swarm.end());

    for (attack, outcome) in &outcomes {
        eprintln!("{attack:?}: {outcome:?}");
    }
    for (name, figures) in [("before", &quiet), ("under attack", &busy)] {
        let times = figures.times[&Span::Publish];
        eprintln!(
            "{name}: {} frames on disk, p50 {:.1} ms, p99 {:.1} ms",
            times.count, times.p50_ms, times.p99_ms
        );
    }
    let shown = format!("{}\n{}", show::figures(&figures), show::figures(&new));
    assert_eq!(state["state"], "succeeded", "{state:#}");
    assert_eq!(figures.verdicts(Judgement::Accepted) + new.verdicts(Judgement::Accepted), 12, "{shown}");
    assert!(figures.failures.is_empty() && figures.breaches.is_empty(), "nobody was disturbed:\n{shown}");
    assert_eq!(figures.sessions, HONEST as u64, "nobody was thrown out:\n{shown}");
    assert!(busy.acknowledged > quiet.acknowledged, "{shown}");
    for (attack, outcome) in outcomes {
        let is_met = match attack {
            // Nothing comes of it, and soon only one a second of each device is looked at.
            Attack::Unsigned => (1..=(16 + 2 * PATIENCE.as_secs()) * LINES as u64).contains(&outcome.taken),
            _ => outcome.ended >= LINES as u64,
        };
        assert!(is_met, "{attack:?} was let be: {outcome:?}");
    }
    world.finish();
}
