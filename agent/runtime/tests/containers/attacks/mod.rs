//! What hostile programs try. Each attack is first made in a container without walls, where it must succeed, so that
//! its failure in one of ours means something; then with each wall alone, which tells how many stand against it.
//!
//! What could harm the machine is bounded: attacks on quantities take more than ours grants and no more, and weakened
//! containers live below a control group of their own.

mod bait;
mod conntrack;
mod inside;
mod weak;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use sosna_runtime::{ContainerSpec, EndCause, ExitRecord, Input};

pub(crate) use self::inside::main;
use self::{
    bait::Bait,
    inside::{ABSENT, REACHED, REFUSED},
    weak::{Ended, Order, Outer, Wall, Workshop},
};
use crate::{Env, processes};

/// What must not come out of the host.
const SECRET: &str = "of the host only";

pub(crate) const ALL: &[crate::Case] = &[("attacks", attacks)];

/// How an attack went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Reached,
    Held,
    /// This kernel has no such thing.
    Absent,
}

/// How it is known that an attack succeeded.
#[derive(Clone, Copy, Debug)]
enum Proof {
    /// It says so: it holds what it wanted.
    Said,
    /// The host has changed. Walls alone tell as much.
    Host(fn(&mut Scene, &Ran) -> bool),
    /// As before, but what stands against it is how the agent runs containers, and no single wall.
    Agent(fn(&mut Scene, &Ran) -> bool),
}

/// What is known of a program that has ended, wherever it ran.
struct Ran {
    code: i32,
    said: String,
    log_bytes: usize,
    image: PathBuf,
    deaf: bool,
    record: Option<ExitRecord>,
}

/// One attack.
struct Attack {
    name: &'static str,
    /// What it is, for a person.
    aim: &'static str,
    make: inside::Make,
    proof: Proof,
    /// How many of the walls hold it each by itself, at least.
    least: usize,
}

const fn attack(
    name: &'static str,
    aim: &'static str,
    make: inside::Make,
    proof: Proof,
    least: usize,
) -> Attack {
    Attack { name, aim, make, proof, least }
}

const ATTACKS: &[Attack] = &[
    attack("mount", "mounts a file system", inside::mount, Proof::Said, 2),
    attack(
        "unshare",
        "makes a user namespace, to have all capabilities in it",
        inside::unshare,
        Proof::Said,
        1,
    ),
    attack("ptrace", "takes over a process of the host", inside::ptrace, Proof::Said, 2),
    attack(
        "signal",
        "kills a process of the host",
        inside::signal,
        Proof::Host(|scene, _| !scene.bait.victim_lives()),
        2,
    ),
    attack("keyctl", "reads a key from the kernel's ring", inside::keyctl, Proof::Said, 2),
    attack("bpf", "loads a map into the kernel", inside::bpf, Proof::Said, 2),
    attack("io_uring", "makes calls that no filter sees", inside::io_uring, Proof::Said, 1),
    attack("perf", "watches a whole processor", inside::perf, Proof::Said, 2),
    attack("kernel_log", "reads the kernel's log", inside::kernel_log, Proof::Said, 1),
    attack("clock", "sets the clock", inside::clock, Proof::Said, 2),
    attack("host_name", "sets the host's name", inside::host_name, Proof::Said, 2),
    attack(
        "core_pattern",
        "names a program that the kernel runs as root",
        inside::core_pattern,
        Proof::Said,
        2,
    ),
    attack("kernel_state", "reads what the kernel shows of itself", inside::kernel_state, Proof::Said, 1),
    attack(
        "file_by_handle",
        "opens a file of the host by its number",
        inside::file_by_handle,
        Proof::Said,
        2,
    ),
    attack(
        "disk_by_node",
        "reads the host's disk through a node of its own",
        inside::disk_by_node,
        Proof::Said,
        2,
    ),
    attack(
        "root_of_a_process",
        "reads a file of the host through /proc",
        inside::root_of_a_process,
        Proof::Said,
        2,
    ),
    attack("set_uid", "becomes root through a program of its image", inside::set_uid, Proof::Said, 1),
    attack("own_limits", "raises its own limits", inside::own_limits, Proof::Said, 2),
    attack("ping_socket", "forges packets", inside::ping_socket, Proof::Said, 2),
    attack("packet_socket", "listens to the network's packets", inside::packet_socket, Proof::Said, 2),
    attack("scan", "connects to the host and its network", inside::scan, Proof::Said, 1),
    attack(
        "abstract_socket",
        "connects to a service of the host without a file",
        inside::abstract_socket,
        Proof::Said,
        1,
    ),
    attack("shared_memory", "reads shared memory of the host", inside::shared_memory, Proof::Said, 1),
    attack(
        "conntrack",
        "fills the host's table of connections",
        inside::connections,
        Proof::Host(|_, _| connections() > 1_000),
        2,
    ),
    attack("fork_bomb", "makes processes", inside::fork_bomb, Proof::Said, 1),
    attack("memory_hog", "takes memory", inside::memory_hog, Proof::Said, 1),
    attack("processor_hog", "takes the processor", inside::processor_hog, Proof::Said, 1),
    attack(
        "disk_filler",
        "fills the disk",
        inside::disk_filler,
        Proof::Agent(|_, ran| ran.code == REACHED),
        0,
    ),
    attack(
        "inode_filler",
        "makes files",
        inside::inode_filler,
        Proof::Agent(|_, ran| ran.code == REACHED),
        0,
    ),
    attack(
        "endless_log",
        "fills the disk with what it prints",
        inside::endless_log,
        Proof::Agent(|_, ran| ran.log_bytes >= inside::LOG),
        0,
    ),
    attack(
        "deaf_to_sigterm",
        "does not end when asked",
        inside::deaf_to_sigterm,
        Proof::Agent(|_, ran| ran.deaf),
        0,
    ),
    attack(
        "outlives_its_container",
        "leaves a process behind",
        inside::outlives_its_container,
        Proof::Host(|scene, _| !processes(&format!("sleep\0{}", scene.marker)).is_empty()),
        1,
    ),
    attack(
        "delete_the_root",
        "deletes its root, which is the image",
        inside::delete_the_root,
        Proof::Host(|_, ran| !ran.image.join("bin/probe").exists()),
        1,
    ),
];

/// Which two at a time would take from each other, or together take too much.
const ONE_BY_ONE: [&str; 4] = ["ptrace", "fork_bomb", "memory_hog", "processor_hog"];

/// Entries of connections on the host now.
fn connections() -> u32 {
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or_default();
    count.trim().parse().unwrap_or(0)
}

struct Scene<'a> {
    env: &'a Env,
    bait: Bait,
    workshop: Workshop,
    _outer: Outer,
    marker: String,
    runs: u32,
}

fn attacks(env: &Env) {
    let folder = env.folder.join("attacks");
    fs::create_dir_all(folder.join("input")).unwrap();
    let image = image(env, &folder);
    let config = configuration(env, &image);
    let mut scene = Scene {
        env,
        bait: Bait::lay(&folder),
        workshop: Workshop { folder, config, image },
        _outer: Outer::make(),
        marker: format!("77{}", std::process::id()),
        runs: 0,
    };
    let mut table = header();
    let mut wrong = Vec::new();
    for attack in ATTACKS {
        scene.one(attack, &mut table, &mut wrong);
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn header() -> String {
    let walls = Wall::ALL.map(|wall| format!("{:>11}", wall.name())).concat();
    format!("\n  attack                  no wall{walls}   ours\n")
}

impl Scene<'_> {
    fn one(&mut self, attack: &Attack, table: &mut String, wrong: &mut Vec<String>) {
        let Attack { name, aim, proof, least, .. } = attack;
        let (open, said) = self.weakened(name, None, *proof);
        if open == Outcome::Held {
            wrong.push(format!(
                "{name} ({aim}) failed where nothing stood against it, so it proves nothing: {said}"
            ));
        }
        let alone = if matches!(proof, Proof::Agent(_)) { Vec::new() } else { self.alone(name, *proof) };
        let (ours, ran) = self.ours(name, *proof);
        if ours == Outcome::Reached {
            wrong.push(format!("{name} ({aim}) SUCCEEDED in a container of ours: {}", ran.said));
        }
        if let Some(problem) = ran.record.as_ref().and_then(|record| untold(name, record)) {
            wrong.push(format!("{name} ({aim}) was held, but its record does not tell: {problem}"));
        }
        let holding = alone.iter().filter(|o| **o == Outcome::Held).count();
        if open == Outcome::Reached && holding < *least {
            wrong.push(format!("{name} ({aim}) is held by {holding} walls by themselves, not by {least}"));
        }
        let word = |outcome: &Outcome| match outcome {
            Outcome::Reached => "reached",
            Outcome::Held => "held",
            Outcome::Absent => "absent",
        };
        let cells = if alone.is_empty() {
            format!("{:>11}", "").repeat(Wall::ALL.len())
        } else {
            alone.iter().map(|o| format!("{:>11}", word(o))).collect()
        };
        writeln!(
            table,
            "  {name:<24}{:<7}{cells}   {:<7}  {}",
            word(&open),
            word(&ours),
            ran.said.trim_start_matches(inside::BEGUN).trim()
        )
        .unwrap();
    }

    fn environment(&self) -> Vec<String> {
        let kind = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "cgroup2" } else { "cgroup" };
        let mut env = self.bait.environment();
        env.extend([format!("MARKER={}", self.marker), format!("CGROUP_KIND={kind}")]);
        env
    }

    /// With each wall alone. Those that change nothing on the host are made at once: most of the time is waiting.
    fn alone(&mut self, name: &str, proof: Proof) -> Vec<Outcome> {
        if !matches!(proof, Proof::Said) || ONE_BY_ONE.contains(&name) {
            return Wall::ALL.map(|wall| self.weakened(name, Some(wall), proof).0).to_vec();
        }
        let orders = Wall::ALL.map(|wall| (self.order(name), wall));
        let workshop = &self.workshop;
        let ended = std::thread::scope(|scope| {
            let all = orders.each_ref().map(|(order, wall)| scope.spawn(|| workshop.run(order, Some(*wall))));
            all.map(|one| one.join().unwrap())
        });
        ended.into_iter().map(|ended| self.judge(name, ended, proof).0).collect()
    }

    /// In a container with one wall or none.
    fn weakened(&mut self, name: &str, left: Option<Wall>, proof: Proof) -> (Outcome, String) {
        let order = self.order(name);
        let ended = self.workshop.run(&order, left);
        let judged = self.judge(name, ended, proof);
        if name == "conntrack" {
            conntrack::clear(inside::CONNECTIONS).unwrap();
        }
        judged
    }

    fn order(&mut self, name: &str) -> Order {
        self.runs += 1;
        let id = format!("w{}-{}", std::process::id(), self.runs);
        let mut env = self.environment();
        env.push(format!("CGROUP={}/{id}", weak::OUTER));
        let args = ["probe", "as-attack", name].map(str::to_owned).to_vec();
        Order { id, args, env, ask: name == "deaf_to_sigterm" }
    }

    /// What came of it; and what it left is cleared away.
    fn judge(&mut self, name: &str, ended: Ended, proof: Proof) -> (Outcome, String) {
        let Ended { code, stdout, stderr, root, deaf } = ended;
        assert!(stderr.starts_with(inside::BEGUN), "{name} was never made: {stderr}");
        let (code, log_bytes) = (code.unwrap_or(-1), stdout.len());
        let ran = Ran { code, said: stderr, log_bytes, image: root.clone(), deaf, record: None };
        let outcome = self.outcome(&ran, proof);
        weak::sweep();
        self.bait.victim_lives();
        fs::remove_dir_all(root.parent().unwrap()).unwrap();
        (outcome, ran.said)
    }

    /// In one of ours, as the agent runs it.
    fn ours(&mut self, name: &str, proof: Proof) -> (Outcome, Ran) {
        let mut spec = self.env.script("");
        spec.layers = vec![self.workshop.image.clone()];
        spec.args = ["probe", "as-attack", name].map(str::to_owned).to_vec();
        spec.env = self.environment();
        spec.env.extend(["PATH=/bin".to_owned(), format!("CGROUP=sosna/{}", spec.id)]);
        spec.cwd = "/work".into();
        // A file system of the host within reach.
        spec.inputs = vec![Input { source: self.workshop.folder.join("input"), destination: "/in".into() }];
        spec.limits.cpu_millis = if name == "processor_hog" { 300 } else { 1_000 };
        // What it may delete, it may: its own copy.
        spec.read_only_root = name != "delete_the_root";
        let mut deaf = false;
        if name == "deaf_to_sigterm" {
            self.env.tokio.block_on(self.env.runtime.start(&spec)).unwrap();
            self.env.until_written(&spec.id, "deaf");
            let begun = Instant::now();
            self.env.tokio.block_on(self.env.runtime.stop(&spec.id, Duration::from_millis(300))).unwrap();
            deaf = begun.elapsed() > Duration::from_secs(5);
        }
        let (record, _, stderr) = self.env.run(&spec);
        let log = self.env.runtime.task_dir(&spec.id).join("stdout");
        let ran = Ran {
            code: record.exit_code,
            said: stderr,
            log_bytes: fs::metadata(log).map_or(0, |m| usize::try_from(m.len()).unwrap()),
            image: self.workshop.image.clone(),
            deaf,
            record: Some(record),
        };
        assert!(ran.said.starts_with(inside::BEGUN), "{name} was never made: {:?}", ran.record);
        let outcome = self.outcome(&ran, proof);
        self.env.tokio.block_on(self.env.runtime.remove(&spec.id)).unwrap();
        (outcome, ran)
    }

    fn outcome(&mut self, ran: &Ran, proof: Proof) -> Outcome {
        let reached = match proof {
            Proof::Said => ran.code == REACHED,
            Proof::Host(proof) | Proof::Agent(proof) => proof(self, ran),
        };
        if reached {
            Outcome::Reached
        } else if ran.code == ABSENT {
            Outcome::Absent
        } else {
            Outcome::Held
        }
    }
}

/// What is missing in the record of an attack that was held, so that nobody could say why the task ended.
fn untold(name: &str, record: &ExitRecord) -> Option<String> {
    let refused = EndCause::Exited { code: REFUSED };
    let told = match name {
        "memory_hog" => record.cause == EndCause::OutOfMemory,
        "disk_filler" | "inode_filler" => record.cause == EndCause::DiskFull,
        "deaf_to_sigterm" => record.cause == EndCause::Stopped,
        "endless_log" => record.cause == EndCause::Exited { code: 0 } && record.stdout_dropped > 0,
        "outlives_its_container" | "delete_the_root" => record.cause == EndCause::Exited { code: 0 },
        _ => record.cause == refused || record.cause == EndCause::Exited { code: ABSENT },
    };
    (!told).then(|| format!("{record:?}"))
}

/// The image of the other cases, with a program whose set-user-id bit is set.
fn image(env: &Env, folder: &Path) -> PathBuf {
    let image = folder.join("image");
    let linked = Command::new("cp").arg("-al").arg(&env.layers[0]).arg(&image).status().unwrap();
    assert!(linked.success());
    for made in ["work", "in"] {
        fs::create_dir_all(image.join(made)).unwrap();
    }
    let path = image.join("bin/probe-set-uid");
    fs::copy(image.join("bin/probe"), &path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    fs::set_permissions(path, mode).unwrap();
    image
}

/// The configuration that the shim gives a container of ours, from one that runs.
fn configuration(env: &Env, image: &Path) -> Value {
    let mut spec: ContainerSpec = env.script("echo ready; sleep 1000");
    spec.layers = vec![image.to_path_buf()];
    spec.cwd = "/work".into();
    spec.limits.cpu_millis = 300;
    env.tokio.block_on(env.runtime.start(&spec)).unwrap();
    env.until_written(&spec.id, "ready");
    // It lies in the mount namespace of the shim.
    let shim = crate::kills::shim_of(env, &spec);
    let root = PathBuf::from(format!("/proc/{shim}/root"));
    let covered = ["srv", "media", "mnt", "opt", "home", "tmp"];
    let config = covered.iter().find_map(|top| fs::read(root.join(top).join("bundle/config.json")).ok());
    env.tokio.block_on(env.runtime.remove(&spec.id)).unwrap();
    serde_json::from_slice(&config.expect("the shim's stage is in one of the folders that it may cover"))
        .unwrap()
}
