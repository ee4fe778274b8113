//! A whole job for each point at which something is made durable, sent, or done to a container (`sosna-fault`): the process
//! dies there, or the step fails. Whatever it is, the job ends well, the books balance, and nothing is left behind.
//!
//! A life without faults notes the points first. Then come lives with one fault, and lives with two: one of the hub's, one of
//! a device's. A run tries a few of them, by the commit; all with `SOSNA_TEST_ALL=1`.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use sosna_tests::{
    books::{items, text},
    opening::prepare,
    world::{Person, World},
};
use xtask::rotation;

/// So many faults a run, where it does not run all.
const TRIED: usize = 4;
const TEST: &str = "a_job_survives_every_fault";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    Hub,
    Agents,
}

#[derive(Debug, Clone)]
struct Fault {
    program: Program,
    point: String,
    passage: u32,
    what: &'static str,
}

/// How often a process passed each point, as far as it notes that.
type Points = BTreeMap<(Program, String), u32>;

#[test]
fn a_job_survives_every_fault() {
    let Some((noted, _)) = life(&[]) else { return };
    assert!(noted.len() > 20, "there are more points than these: {noted:?}");
    let faults: Vec<Fault> = noted
        .iter()
        // At its first passage, its last, and one between.
        .flat_map(|(place, count)| {
            BTreeSet::from([1, 1 + count / 2, *count]).into_iter().map(move |n| (place, n))
        })
        .flat_map(|((program, point), passage)| {
            let fault = move |what| Fault { program: *program, point: point.clone(), passage, what };
            ["kill", "fail"].map(fault)
        })
        // Where nothing can fail, dying is all that can happen.
        .filter(|fault| fault.what == "kill" || can_fail(&fault.point))
        .collect();
    let alone = faults.chunks(1).map(<[Fault]>::to_vec);
    if try_some("faults", "faults", &alone.collect::<Vec<_>>(), TRIED).is_none() {
        return;
    }
    // Each of the hub's with one of the agents', so that both fall in one life: every seventh, so that not all of them are
    // faults of the first few points.
    let of = |program| faults.iter().filter(move |fault| fault.program == program);
    let pairs = of(Program::Hub).zip(of(Program::Agents).cycle().skip(1).step_by(7));
    let pairs: Vec<_> = pairs.map(|(hub, agents)| vec![hub.clone(), agents.clone()]).collect();
    try_some("pairs", "faults pairs", &pairs, 1);
}

/// Tries some of these, or all. `None` where it cannot run here.
fn try_some(what: &str, turn: &str, all: &[Vec<Fault>], at_most: usize) -> Option<()> {
    let chosen = rotation::some(turn, all.len(), at_most);
    let mut met = 0;
    for place in &chosen {
        let faults = &all[*place];
        let began = Instant::now();
        let (_, came) = life(faults)?;
        let took = began.elapsed();
        for (Fault { program, point, passage, what }, is_met) in faults.iter().zip(&came) {
            let came = if *is_met { "survived" } else { "did not come about" };
            eprintln!("FAULT {program:?} {point}@{passage} {what}: {came} in {took:.1?}");
            // Another fault may keep a life from passing there as often.
            assert!(*is_met || *passage > 1 || faults.len() > 1, "each life passes {point} once");
        }
        met += usize::from(came.contains(&true));
    }
    eprintln!("{met} of {} {what} came about, and were survived", chosen.len());
    assert!(met * 2 > chosen.len(), "most late passages are passed again");
    Some(())
}

/// Steps that return an error; the others are moments.
fn can_fail(point: &str) -> bool {
    let steps = ["sync", "rename", "link", "hub-store/commit", "agent-store/commit", "runtime/remove"];
    steps.iter().any(|step| point.contains(step)) && !point.ends_with("committed")
}

/// A hub and two devices from nothing to a job that has ended, with at most one fault of each program; the points that were
/// passed, and which faults came about. `None` where it cannot run here.
fn life(faults: &[Fault]) -> Option<(Points, Vec<bool>)> {
    let (mut world, image) = prepare(TEST, Duration::from_secs(90))?;
    // Agents have no rights, and each is a user of its own.
    let folder = world.dir().join("faults");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    for program in [Program::Hub, Program::Agents] {
        let list = folder.join(format!("{program:?}.points"));
        fs::write(&list, "").unwrap();
        fs::set_permissions(&list, fs::Permissions::from_mode(0o666)).unwrap();
    }
    let met = |fault: &Fault| folder.join(format!("{:?}.met", fault.program));
    let environment = |program: Program| {
        let list = folder.join(format!("{program:?}.points"));
        let mut environment = vec![("SOSNA_FAULT_LIST", list.display().to_string())];
        if let Some(fault) = faults.iter().find(|fault| fault.program == program) {
            environment.push(("SOSNA_FAULT", format!("{}@{}={}", fault.point, fault.passage, fault.what)));
            environment.push(("SOSNA_FAULT_ONCE", met(fault).display().to_string()));
        }
        environment
    };
    world.set_hub("times.ask_again_ms", "500");
    world.set_hub_environment(&environment(Program::Hub));
    world.insist_on_hub();
    let mut told = Told { world, tokens: Vec::new() };
    let alice = told.buyer();
    let owners: Vec<_> = ["one", "two"].iter().map(|owner| told.token(owner)).collect();
    let own = environment(Program::Agents);
    let own: Vec<_> = own.iter().map(|(key, value)| (*key, value.as_str())).collect();
    for token in owners {
        told.world.add_agent(&token, &own);
        told.tokens.push(token);
    }
    let line =
        ["run", "--detach", "--verify", "replicate:2", "--memory", "64M", "--disk", "8M", "--output", "/out"];
    let command = ["--", "sh", "-c", "mkdir -p /out && echo result > /out/file && echo said"];
    let line = [&line[..], &[&image], &command[..]].concat();
    told.insist(&alice, &line);
    told.until("every job's end", |told| {
        let jobs = told.ask(&alice, &["jobs"])?;
        let jobs = items(&jobs["jobs"]);
        (!jobs.is_empty() && jobs.iter().all(|job| text(&job["state"]) == "succeeded")).then_some(())
    });
    if !faults.is_empty() {
        // What comes late may come a little later still.
        let end = Instant::now() + Duration::from_secs(5);
        told.until("the faults", |_| {
            (faults.iter().all(|fault| met(fault).exists()) || Instant::now() > end).then_some(())
        });
    }
    // From now on they do not come about any more.
    let came = faults
        .iter()
        .map(|fault| fs::OpenOptions::new().write(true).create_new(true).open(met(fault)).is_err());
    let came: Vec<_> = came.collect();
    // What died with it is started again before the books are asked for.
    told.until("everybody back", |told| {
        let devices = told.ask(&told.world.admin(), &["devices"])?;
        items(&devices["devices"]).iter().all(|device| device["online"] == true).then_some(())
    });
    told.world.assert_books();
    let mut by_process: BTreeMap<(Program, &str), u32> = BTreeMap::new();
    let notes = [Program::Hub, Program::Agents]
        .map(|program| (program, fs::read_to_string(folder.join(format!("{program:?}.points"))).unwrap()));
    for (program, text) in &notes {
        text.lines().for_each(|line| *by_process.entry((*program, line)).or_default() += 1);
    }
    let mut points = Points::new();
    for ((program, line), count) in by_process {
        let (point, _) = line.rsplit_once(' ').unwrap();
        let most = points.entry((program, point.to_owned())).or_default();
        *most = count.max(*most);
    }
    assert_enrolled(told.world.dir());
    told.world.finish();
    Some((points, came))
}

/// Each device has its enrolment, whole.
fn assert_enrolled(folder: &Path) {
    for place in ["a0", "a1"] {
        let data = folder.join(place);
        let enrolment = fs::read(data.join("enrolment.json")).unwrap();
        let _: Value = serde_json::from_slice(&enrolment).unwrap();
    }
}

/// A world in which anything may have to be said twice.
struct Told {
    world: World,
    tokens: Vec<String>,
}

impl Told {
    /// Starts again what has ended, and looks, until something is so.
    #[track_caller]
    fn until<T>(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            self.world.insist_on_hub();
            let tokens = self.tokens.clone();
            self.world.revive_agents(&tokens);
            if let Some(found) = is_so(self) {
                return found;
            }
            assert!(self.world.has_time(), "never came: {what}");
            self.world.rest();
        }
    }

    /// A command that may have to be given again: its answer.
    #[track_caller]
    fn insist(&mut self, who: &Person, arguments: &[&str]) -> String {
        self.until(&arguments.join(" "), |told| {
            let done = told.world.cli(who, arguments);
            (done.code == Some(0)).then(|| done.ok().to_owned())
        })
    }

    /// The answer in JSON, if there is one now.
    fn ask(&self, who: &Person, arguments: &[&str]) -> Option<Value> {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        let done = self.world.cli(who, &arguments);
        (done.code == Some(0)).then(|| serde_json::from_str(done.ok()).unwrap())
    }

    /// A buyer with credit. Each attempt has a name of its own: the one before may have been heard.
    fn buyer(&mut self) -> Person {
        let mut attempt = 0;
        self.until("a buyer with credit", |told| {
            attempt += 1;
            let name = format!("alice{attempt}");
            let buyer = told.world.try_buyer(&name)?;
            let admin = told.world.admin();
            (told.world.cli(&admin, &["ledger", "credit", &name, "100"]).code == Some(0)).then_some(buyer)
        })
    }

    fn token(&mut self, owner: &str) -> String {
        let key = self.world.dir().join(format!("{owner}.key"));
        let key = key.to_str().unwrap().to_owned();
        let admin = self.world.admin();
        let address = self.insist(&admin, &["owner", "key", "--key", &key]);
        let token = self.insist(&admin, &["owner", "delegate", "--key", &key, "--uses", "1"]);
        self.insist(&admin, &["owner", "admit", &address]);
        token
    }
}
