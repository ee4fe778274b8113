//! A hub and its devices at work for a long time (an hour where everything runs, a minute and a half else): memory,
//! descriptors and threads stay level, and the disk grows by no more than the records of what was done.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sosna_tests::books::{all_held, assert_sums, text};
use sosna_tests::held::{Held, disk_kib};
use sosna_tests::lives::{LIVED, LIVES};
use sosna_tests::opening::{Opening, TWICE, open};
use xtask::rotation::{has_turn, is_all};

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_secs(90);
/// Samples in all; the first third is for caches to fill.
const SAMPLES: u32 = 30;
/// Jobs that are under way at a time.
const UNDER_WAY: usize = 3;

/// What a job may leave on the disk for good, KiB: results are kept for some days, of which one in nine has 64 KiB and
/// one 200.
const KIB_A_JOB: u64 = 64;

/// Options, command, and how the job ends.
const JOBS: &[(&[&str], &[&str], &str)] = &[
    (&[], &["echo", "done"], "succeeded"),
    (TWICE, &["seq", "100"], "succeeded"),
    (&["--output", "/out"], &["sh", "-c", "dd if=/dev/zero of=/out/x bs=1024 count=64"], "succeeded"),
    (&["--tasks", "4"], &["sh", "-c", "echo $SOSNA_TASK_INDEX"], "succeeded"),
    (&[], &["sh", "-c", "exit 3"], "failed"),
    (&["--timeout", "2s"], &["sleep", "60"], "failed"),
    (&[], &["tail", "/dev/zero"], "failed"),
    (&[], &["no-such-program"], "failed"),
    (&[], &["sh", "-c", "yes | head -c 200000"], "succeeded"),
];

/// What all of them hold at a moment.
#[derive(Debug)]
struct Sample {
    seconds: u64,
    jobs: usize,
    held: Vec<Held>,
    disk_kib: Vec<u64>,
}

struct Watched {
    names: Vec<String>,
    processes: Vec<u32>,
    folders: Vec<PathBuf>,
}

impl Watched {
    fn of(opening: &Opening) -> Self {
        let world = &opening.world;
        let devices = 0..2;
        Self {
            names: ["hub".to_owned()]
                .into_iter()
                .chain(devices.clone().map(|n| format!("device {n}")))
                .collect(),
            processes: [world.hub_process()]
                .into_iter()
                .chain(devices.clone().map(|n| world.agent_process(n)))
                .collect(),
            folders: [world.hub_data()]
                .into_iter()
                .chain(devices.map(|n| world.agent(n).data.clone()))
                .collect(),
        }
    }

    fn sample(&self, began: Instant, jobs: usize) -> Sample {
        Sample {
            seconds: began.elapsed().as_secs(),
            jobs,
            held: self.processes.iter().map(|process| Held::by(*process)).collect(),
            disk_kib: self.folders.iter().map(|folder| disk_kib(folder)).collect(),
        }
    }
}

#[test]
fn a_long_time_of_work_leaves_nothing_behind() {
    const TEST: &str = "a_long_time_of_work_leaves_nothing_behind";
    if !has_turn(LIVES, TEST, LIVED) {
        return;
    }
    let long = if is_all() { HOUR } else { SHORT };
    let Some(opening) = open(TEST, long + Duration::from_secs(300), &["one", "two"]) else { return };
    let world = &opening.world;
    let watched = Watched::of(&opening);
    let (began, mut samples) = (Instant::now(), Vec::new());
    let mut under_way: Vec<(String, &str)> = Vec::new();
    let (mut submitted, mut over) = (0, 0);
    while began.elapsed() < long {
        if began.elapsed() * SAMPLES > long * u32::try_from(samples.len()).unwrap() {
            samples.push(watched.sample(began, over));
        }
        while under_way.len() < UNDER_WAY {
            let (options, command, end) = JOBS[submitted % JOBS.len()];
            // Cheap enough for the buyer's ten SNM to last.
            let cheap: &[&str] = if options.contains(&"--timeout") { &[] } else { &["--timeout", "20s"] };
            let options = [cheap, options].concat();
            under_way.push((opening.submit(&options, command), end));
            submitted += 1;
        }
        under_way.retain(|(id, end)| {
            let job = world.job(id);
            let state = text(&job["state"]);
            let is_over = ["succeeded", "failed", "cancelled"].contains(&state);
            assert!(!is_over || state == *end, "{job:#}");
            over += usize::from(is_over);
            !is_over
        });
        std::thread::sleep(Duration::from_millis(200));
    }
    for (id, end) in under_way {
        assert_eq!(world.until_over(&id)["state"], end);
        over += 1;
    }
    world.until("idle devices", || (0..2).all(|place| world.agent_idle(place)));
    samples.push(watched.sample(began, over));
    tell(&watched, &samples);
    judge(&watched, &samples);
    // In an hour there are more jobs than a list shows.
    if over < 1000 {
        world.assert_books();
    }
    let devices = || world.ask(&world.admin(), &["devices"]);
    world.until("vouchers for everything", || all_held(&devices()));
    assert_sums(&world.ask(&world.admin(), &["ledger"]), &devices());
    opening.world.finish();
}

fn tell(watched: &Watched, samples: &[Sample]) {
    for (n, name) in watched.names.iter().enumerate() {
        eprintln!("\n{name}\n  seconds    jobs  descriptors  threads  memory KiB  disk KiB");
        for sample in samples {
            let (held, disk) = (&sample.held[n], sample.disk_kib[n]);
            eprintln!(
                "  {:>7} {:>7} {:>12} {:>8} {:>11} {:>9}",
                sample.seconds, sample.jobs, held.descriptors, held.threads, held.memory_kib, disk
            );
        }
    }
}

fn judge(watched: &Watched, samples: &[Sample]) {
    // When caches are full.
    let settled = &samples[samples.len() / 3..];
    let (first, last) = settled.split_at(settled.len() / 2);
    let jobs = (settled.last().unwrap().jobs - settled[0].jobs) as u64;
    for (n, name) in watched.names.iter().enumerate() {
        let most =
            |part: &[Sample], of: &dyn Fn(&Held) -> u64| part.iter().map(|s| of(&s.held[n])).max().unwrap();
        for (what, of, allowed) in [
            ("descriptors", &(|held: &Held| held.descriptors as u64) as &dyn Fn(&Held) -> u64, 12),
            ("threads", &|held| held.threads as u64, 12),
            ("memory in KiB", &|held| held.memory_kib, 4096),
        ] {
            let (before, after) = (most(first, of), most(last, of));
            assert!(after <= before + allowed, "{name}: {what} at most {before}, and then {after}");
        }
        let grown = samples.last().unwrap().disk_kib[n].saturating_sub(settled[0].disk_kib[n]);
        // Records of jobs, with their results while they are kept, and what databases lay out ahead.
        assert!(grown <= 4096 + jobs * KIB_A_JOB, "{name}: {grown} KiB more on the disk after {jobs} jobs");
    }
}
