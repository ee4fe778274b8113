//! A week in the life of a device: its certificate is renewed again and again, hub and device come and go, once it is
//! away for longer than its certificate holds, and there is work every few hours. What it keeps in hand stays level.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use nix::sys::signal::Signal;
use sosna_tests::books::{items, text};
use sosna_tests::held::Held;
use sosna_tests::lives::{LIVED, LIVES};
use sosna_tests::opening::{Opening, prepare};
use sosna_tests::time::{AGENT, Time};
use xtask::rotation::{has_turn, is_all};

const HOUR: u64 = 3600;
const WEEK: u64 = 7 * 24 * HOUR;
/// How long a certificate holds; after two thirds of it there is a new one.
const CERTIFICATE: u64 = 24 * HOUR;

#[test]
fn a_week_of_renewals_reconnects_and_tasks() {
    const TEST: &str = "a_week_of_renewals_reconnects_and_tasks";
    if !has_turn(LIVES, TEST, LIVED) {
        return;
    }
    let (step, patience) = if is_all() { (HOUR, 1500) } else { (6 * HOUR, 300) };
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(patience)) else { return };
    let mut time = match Time::new(world.dir()) {
        Ok(time) => time,
        Err(reason) => return eprintln!("SKIPPED {TEST}: {reason}"),
    };
    world.set_hub("times.certificate_ms", &(CERTIFICATE * 1000).to_string());
    world.set_hub_environment(&time.of_hub());
    world.insist_on_hub();
    world.set_agent_program(AGENT);
    let alice = world.buyer("alice", "10");
    let token = world.owner_token("one", 1);
    let (variable, file) = time.of_device();
    world.add_agent(&token, &[(variable, &file)]);
    world.until_online(1);
    let mut opening = Opening { world, alice, image };

    let began_ms = time.now_ms();
    let (mut tasks, mut level, mut last_ms) = (0, None, 0);
    for n in 1..=WEEK / step {
        let world = &mut opening.world;
        match n * step % (48 * HOUR) / HOUR {
            // The hub falls over, and comes back some hours later.
            12 => {
                world.crash_hub(Signal::SIGKILL);
                time.pass(step);
                world.insist_on_hub();
            }
            // The device is turned off for some hours.
            24 => {
                world.kill_agent(0);
                time.pass(step);
                world.start_agent(0, None);
                level = None;
            }
            // It is away until its certificate has run out.
            36 if n * step > 5 * 24 * HOUR => {
                world.kill_agent(0);
                time.pass(CERTIFICATE + step);
                world.start_agent(0, None);
                level = None;
            }
            _ => time.pass(step),
        }
        world.until("a certificate that holds", || {
            let until_ms = world.agent_status(0)["certificate_until_ms"].as_u64().unwrap_or(0);
            until_ms > time.now_ms() + CERTIFICATE / 3 * 1000 - step * 1000
        });
        world.until_online(1);
        let said = format!("step {n}");
        assert_eq!(opening.run(&[], &["echo", &said]).ok(), said);
        tasks += 1;

        let world = &opening.world;
        world.until("the device idle", || world.agent_idle(0));
        let told_ms = world.agent_status(0)["time_ms"].as_u64().unwrap();
        assert!(
            told_ms > last_ms && told_ms.abs_diff(time.now_ms()) < 60_000,
            "the device lives at {told_ms}"
        );
        last_ms = told_ms;
        let held = Held::by(world.agent_process(0));
        let first = *level.get_or_insert(held);
        assert!(held.descriptors <= first.descriptors + 4, "descriptors went from {first:?} to {held:?}");
        assert!(held.memory_kib <= first.memory_kib + 4096, "memory went from {first:?} to {held:?}");
    }

    let world = &opening.world;
    let renewals = world.agent_log(0).matches("certificate renewed").count();
    let days = (time.now_ms() - began_ms) as f64 / 86_400_000.0;
    eprintln!("{days:.1} days, {tasks} tasks, {renewals} renewals");
    // Two thirds of a certificate's life between two of them, and a step until it is noticed.
    let least = WEEK / (CERTIFICATE * 2 / 3 + step);
    assert!(renewals as u64 >= least, "{renewals} renewals in {days:.1} days, at least {least} were due");
    let jobs = world.jobs();
    assert_eq!(jobs.len(), tasks);
    assert!(jobs.iter().all(|job| text(&job["state"]) == "succeeded" && items(&job["tasks"]).len() == 1));
    world.assert_books();
    opening.world.finish();
}
