//! What one hub bears: connections that are held, what each costs, how fast devices come, and come back after a restart,
//! how much is written durably, dispatched and verified. The hub is a process of its own, with its real store on disk; the
//! devices are those of `sosna-swarm`, on the same machine: they use the same processors, so that the hub's own time is
//! told beside. `cargo xtask bench hub` builds and runs it. One line of JSON for each figure.
#![allow(clippy::unwrap_used, reason = "a bench: what fails here ends it with the reason")]

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sosna_host::token::JoinToken;
use sosna_protocol::{hash::sha256, message::result::Judgement, resources::Arch};
use sosna_swarm::{
    Figures, Population, Settings, Span, Swarm,
    attack::{Assault, Attack},
};
use tokio::runtime::Runtime;

/// From a few to as many as a hub promises to hold.
const CROWDS: [usize; 4] = [100, 1_000, 5_000, 18_000];
/// How long a crowd is held before its memory is read.
const SETTLE: Duration = Duration::from_secs(12);
/// Until everybody has come, and until a job has ended.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let most = std::env::args().nth(1).map_or(usize::MAX, |most| most.parse().unwrap());
    let mut bench = Bench::new();
    bench.start();
    let idle = bench.memory();
    figure("idle hub RSS", idle, "MiB");
    let crowds: Vec<_> = CROWDS.into_iter().filter(|crowd| *crowd <= most).collect();
    for crowd in &crowds {
        bench.hold(&runtime, *crowd, idle, Some(crowd) == crowds.last());
    }
    bench.durable(&runtime);
    bench.attacked(&runtime);
    bench.work(&runtime);
    bench.stop();
}

fn figure(metric: &str, value: f64, unit: &str) {
    let line = json!({ "metric": metric, "value": value, "unit": unit });
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// A time of the hub's while something is done to it, beside the same in quiet.
fn beside_quiet(metric: &str, (value, quiet): (f64, f64)) {
    let line =
        json!({ "metric": metric, "value": value, "unit": "ms", "peer": "in quiet", "peer_value": quiet });
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Has perf look at the hub while something is done, where `cargo xtask flame` asks for it.
struct Recording(Option<Child>);

impl Recording {
    fn of(hub: &Child, part: &str) -> Self {
        let told = ["SOSNA_BENCH_PERF", "SOSNA_BENCH_HERTZ", "SOSNA_BENCH_RECORDS"].map(std::env::var_os);
        let [Some(perf), Some(hertz), Some(records)] = told else { return Self(None) };
        let record = PathBuf::from(records).join(part).with_extension("data");
        let mut command = Command::new(perf);
        command.args(["record", "-g", "-p", &hub.id().to_string(), "-F"]).arg(hertz).arg("-o").arg(record);
        Self(Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(perf) = &mut self.0 else { return };
        // It writes what it has when it is interrupted.
        let id = i32::try_from(perf.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGINT).unwrap();
        perf.wait().unwrap();
    }
}

struct Bench {
    folder: tempfile::TempDir,
    programs: PathBuf,
    hub: Option<Child>,
    admin: String,
}

impl Bench {
    fn new() -> Self {
        let example = std::env::current_exe().unwrap();
        let programs = example.ancestors().find(|above| above.join("sosna-hub").is_file());
        let programs = programs.expect("sosna-hub is built beside this bench").to_owned();
        let folder = tempfile::tempdir().unwrap();
        let ports: [u16; 4] = std::array::from_fn(|_| {
            std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
        });
        let [http, main, bootstrap, content] = ports;
        let text = format!(
            "[ports]\nhttp = {http}\nmain = {main}\nbootstrap = {bootstrap}\ncontent = {content}\n\
             [probation]\ncheck_budget = \"0\"\nassignments = 64\ndelay_ms = 0\n[times]\nvoucher_ms = 1000\n"
        );
        fs::write(folder.path().join("hub.toml"), text).unwrap();
        Self { folder, programs, hub: None, admin: String::new() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.programs.join("sosna-hub"));
        command.arg("--data").arg(self.data()).arg("--config").arg(self.folder.path().join("hub.toml"));
        command
    }

    fn start(&mut self) {
        let running = self.data().join("running.json");
        let _ = fs::remove_file(&running);
        let log = File::create(self.folder.path().join("hub.log")).unwrap();
        let mut command = self.command();
        // Each device that comes or goes is a line of the log otherwise.
        command
            .arg("serve")
            .env("SOSNA_HUB_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.hub = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !running.is_file() {
            assert!(began.elapsed() < Duration::from_secs(60), "the hub does not serve");
            sleep(Duration::from_millis(20));
        }
        self.admin = fs::read_to_string(self.data().join("admin.token")).unwrap().trim().to_owned();
    }

    fn stop(&mut self) {
        let mut hub = self.hub.take().unwrap();
        hub.kill().unwrap();
        hub.wait().unwrap();
    }

    fn sosna(&self, arguments: &[&str]) -> String {
        let running: Value =
            serde_json::from_slice(&fs::read(self.data().join("running.json")).unwrap()).unwrap();
        let address = running["http"].as_str().unwrap().to_owned();
        let output = Command::new(self.programs.join("sosna"))
            .args(arguments)
            .env("SOSNA_HUB", address)
            .env("SOSNA_TOKEN", &self.admin)
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Tokens of four owners, who are admitted.
    fn tokens(&self, uses: usize) -> Vec<JoinToken> {
        ["a", "b", "c", "d"].map(|owner| self.token(owner, uses.div_ceil(4))).to_vec()
    }

    fn token(&self, owner: &str, uses: usize) -> JoinToken {
        let key = self.folder.path().join(format!("{owner}.key"));
        let key = key.to_str().unwrap();
        let address = self.sosna(&["owner", "key", "--key", key]);
        let token = self.sosna(&["owner", "delegate", "--key", key, "--uses", &uses.to_string()]);
        self.sosna(&["owner", "admit", &address]);
        token.parse().unwrap()
    }

    fn record(&self, part: &str) -> Recording {
        Recording::of(self.hub.as_ref().unwrap(), part)
    }

    /// What of the hub is in memory, in MiB.
    fn memory(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    fn proc(&self, name: &str) -> String {
        let id = self.hub.as_ref().unwrap().id();
        fs::read_to_string(format!("/proc/{id}/{name}")).unwrap()
    }

    /// Processor time that the hub has used, in seconds (proc(5): in hundredths).
    fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let after = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<_> = after.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    fn swarm(&self, runtime: &Runtime, settings: Settings) -> Swarm {
        let _on = runtime.enter();
        Swarm::start(settings).unwrap()
    }

    fn until(&self, runtime: &Runtime, swarm: &Swarm, what: &str, is_so: impl FnMut(&Figures) -> bool) {
        if !runtime.block_on(swarm.until(PATIENCE, is_so)) {
            eprintln!("{}", sosna_swarm::show::figures(&swarm.figures()));
            let log = fs::read_to_string(self.folder.path().join("hub.log")).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("the hub says, newest first:\n{}", end.join("\n"));
            panic!("never came: {what}");
        }
    }

    /// A crowd enrols, connects and stays; the last one is also cut off by a restart of the hub, and comes back.
    fn hold(&mut self, runtime: &Runtime, crowd: usize, idle: f64, is_last: bool) {
        let population = Population { devices: crowd, seed: crowd as u64, ..Population::default() };
        let settings = Settings { verifies: false, ..Settings::new(self.tokens(crowd), population) };
        let (began, cpu) = (Instant::now(), self.cpu());
        let swarm = self.swarm(runtime, settings);
        self.until(runtime, &swarm, "everybody online", |figures| figures.online == crowd as u64);
        let (took, busy) = (began.elapsed().as_secs_f64(), self.cpu() - cpu);
        figure(&format!("{crowd} devices: enrolled and online"), crowd as f64 / took, "1/s");
        figure(
            &format!("{crowd} devices: hub's time for each, enrolment and all"),
            busy * 1e3 / crowd as f64,
            "ms",
        );
        sleep(SETTLE);
        let (memory, cpu) = (self.memory(), self.cpu());
        figure(&format!("{crowd} devices: RSS each"), (memory - idle) * 1024.0 / crowd as f64, "KiB");
        sleep(Duration::from_secs(10));
        figure(
            &format!("{crowd} devices: idle load, a beat in 10 s each"),
            (self.cpu() - cpu) * 10.0,
            "% of a core",
        );
        assert_eq!(swarm.figures().online, crowd as u64, "all of them stay");
        if is_last {
            self.stop();
            self.start();
            let (began, cpu) = (Instant::now(), self.cpu());
            swarm.begin_times();
            self.until(runtime, &swarm, "everybody back", |figures| {
                figures.times.get(&Span::Greet).is_some_and(|times| times.count >= crowd as u64)
            });
            let (took, busy) = (began.elapsed().as_secs_f64(), self.cpu() - cpu);
            figure("handshakes, in the herd after a restart", crowd as f64 / took, "1/s");
            figure("handshakes, by the hub's own time", crowd as f64 / busy, "1/s of a core");
            figure("herd after a restart: everybody back", took, "s");
        }
        runtime.block_on(swarm.end());
    }

    /// Fifty devices that always have frames on their way which count only once they are on disk: few and many.
    fn durable(&self, runtime: &Runtime) {
        const DEVICES: usize = 50;
        for chatter in [1, 4, 16] {
            let population =
                Population { devices: DEVICES, seed: 50 + chatter as u64, ..Population::default() };
            let settings =
                Settings { verifies: false, chatter, ..Settings::new(self.tokens(DEVICES), population) };
            let swarm = self.swarm(runtime, settings);
            self.until(runtime, &swarm, "everybody online", |figures| figures.online == DEVICES as u64);
            sleep(Duration::from_secs(3));
            swarm.begin_times();
            let recording = (chatter == 16).then(|| self.record("durable"));
            let (before, began, cpu) = (swarm.figures().acknowledged, Instant::now(), self.cpu());
            sleep(Duration::from_secs(10));
            let (after, took, busy) = (swarm.figures(), began.elapsed().as_secs_f64(), self.cpu() - cpu);
            drop(recording);
            let count = (after.acknowledged - before) as f64;
            let name = format!("durable, {chatter} on their way each");
            figure(&name, count / took, "1/s");
            figure(&format!("{name}: by the hub's own time"), count / busy, "1/s of a core");
            let times = after.times[&Span::Publish];
            figure(&format!("{name}: p50"), times.p50_ms, "ms");
            figure(&format!("{name}: p99"), times.p99_ms, "ms");
            runtime.block_on(swarm.end());
        }
    }

    /// How long twelve devices, each with one frame on its way, wait until it is on disk, while somebody bears down on the
    /// hub's listeners: in each way, on eight lines, and in all ways at once. The attackers use the same processors.
    fn attacked(&self, runtime: &Runtime) {
        const DEVICES: usize = 12;
        const LINES: usize = 8;
        let population = Population { devices: DEVICES, seed: 12, ..Population::default() };
        let settings =
            Settings { verifies: false, chatter: 1, ..Settings::new(self.tokens(DEVICES), population) };
        let swarm = self.swarm(runtime, settings);
        self.until(runtime, &swarm, "everybody online", |figures| figures.online == DEVICES as u64);
        let token = self.token("mallory", 2 * LINES * Attack::ALL.len());
        let begin = |attack: Attack, round: u64| {
            let began = Instant::now();
            loop {
                match runtime.block_on(Assault::start(attack, &token, LINES, round)) {
                    Ok(assault) => break assault,
                    // Strangers are let in so many a minute.
                    Err(_) if began.elapsed() < Duration::from_secs(120) => sleep(Duration::from_secs(2)),
                    Err(error) => panic!("{attack:?} cannot begin: {error:?}"),
                }
            }
        };
        let listen = || {
            swarm.begin_times();
            loop {
                sleep(Duration::from_secs(5));
                // It may be that none came through yet.
                if let Some(times) = swarm.figures().times.get(&Span::Publish) {
                    break *times;
                }
            }
        };
        sleep(Duration::from_secs(2));
        let quiet = listen();
        figure("others' frames, in quiet: p50", quiet.p50_ms, "ms");
        figure("others' frames, in quiet: p99", quiet.p99_ms, "ms");
        let compare = |what: &str| {
            let times = listen();
            beside_quiet(&format!("others' frames, {what}: p50"), (times.p50_ms, quiet.p50_ms));
            beside_quiet(&format!("others' frames, {what}: p99"), (times.p99_ms, quiet.p99_ms));
        };
        for attack in Attack::ALL {
            let assault = begin(attack, 0);
            compare(&format!("{attack:?}").to_lowercase());
            runtime.block_on(assault.end());
        }
        let all = Attack::ALL.map(|attack| begin(attack, 1));
        compare("all at once");
        for assault in all {
            runtime.block_on(assault.end());
        }
        assert_eq!(swarm.figures().online, DEVICES as u64, "nobody is thrown out");
        runtime.block_on(swarm.end());
    }

    /// A thousand devices that are to do tasks, each of which takes so long.
    fn workers(&self, runtime: &Runtime, seed: u64, task: Duration) -> Swarm {
        const DEVICES: usize = 1000;
        let population =
            Population { devices: DEVICES, seed, arch: Some(Arch::X86_64), task, ..Population::default() };
        let settings =
            Settings { verifies: false, bringing: 256, ..Settings::new(self.tokens(DEVICES), population) };
        let swarm = self.swarm(runtime, settings);
        self.until(runtime, &swarm, "everybody online", |figures| figures.online == DEVICES as u64);
        swarm
    }

    fn submit(&self, image: &str, (verify, tasks, timeout): (&str, u64, &str)) -> String {
        let tasks = tasks.to_string();
        let task =
            ["--timeout", timeout, "--cpu", "0.25", "--memory", "64M", "--disk", "8M", image, "--", "true"];
        self.sosna(&[&["run", "--detach", "--verify", verify, "--tasks", &tasks][..], &task].concat())
    }

    /// From the submission of tasks until devices have accepted all of them, while nobody has a result to bring.
    fn dispatch(&self, runtime: &Runtime, image: &str) {
        const TASKS: u64 = 4000;
        let swarm = self.workers(runtime, 76, Duration::from_secs(60));
        let (began, cpu) = (Instant::now(), self.cpu());
        let recording = self.record("dispatch");
        let job = self.submit(image, ("none", TASKS, "3m"));
        self.until(runtime, &swarm, "everything accepted", |figures| accepted(figures) >= TASKS);
        let (took, busy) = (began.elapsed().as_secs_f64(), self.cpu() - cpu);
        drop(recording);
        figure("assignments dispatched, no results coming", TASKS as f64 / took, "1/s");
        figure(
            "assignments dispatched, no results coming: by the hub's own time",
            TASKS as f64 / busy,
            "1/s of a core",
        );
        self.sosna(&["cancel", &job]);
        runtime.block_on(swarm.end());
    }

    /// A thousand devices do tasks that take no time.
    fn work(&self, runtime: &Runtime) {
        let image = self.image();
        self.sosna(&["ledger", "credit", "admin", "1000000"]);
        self.dispatch(runtime, &image);
        let swarm = self.workers(runtime, 77, Duration::ZERO);
        for (verify, tasks, replicas) in [("none", 4000_u64, 1_u64), ("replicate:2", 2000, 2)] {
            let before = swarm.figures();
            let (began, cpu) = (Instant::now(), self.cpu());
            let recording = (replicas == 1).then(|| self.record("results"));
            self.submit(&image, (verify, tasks, "10s"));
            let wanted = tasks * replicas;
            let mut dispatched = None;
            self.until(runtime, &swarm, "all verdicts", |figures| {
                if accepted(figures) - accepted(&before) >= wanted {
                    dispatched.get_or_insert_with(|| began.elapsed());
                }
                figures.verdicts(Judgement::Accepted) - before.verdicts(Judgement::Accepted) >= wanted
            });
            let (took, busy) = (began.elapsed().as_secs_f64(), self.cpu() - cpu);
            drop(recording);
            let dispatched = dispatched.unwrap_or_else(|| began.elapsed()).as_secs_f64();
            figure(&format!("{verify}: assignments dispatched"), wanted as f64 / dispatched, "1/s");
            figure(&format!("{verify}: verified tasks"), tasks as f64 / took, "1/s");
            figure(
                &format!("{verify}: verified tasks, by the hub's own time"),
                tasks as f64 / busy,
                "1/s of a core",
            );
        }
        eprintln!("{}", sosna_swarm::show::figures(&swarm.figures()));
        runtime.block_on(swarm.end());
    }

    /// An image with nothing in it, which nobody runs.
    fn image(&self) -> String {
        let layout = self.folder.path().join("image");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |kind: &str, bytes: &[u8]| {
            let name = sha256(bytes).to_string();
            fs::write(blobs.join(&name), bytes).unwrap();
            json!({ "mediaType": kind, "digest": format!("sha256:{name}"), "size": bytes.len() })
        };
        // The end of an archive, and nothing before it.
        let layer = vec![0_u8; 1024];
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
        });
        let layer = put("application/vnd.oci.image.layer.v1.tar", &layer);
        let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let mut manifest = put(kind, manifest.to_string().as_bytes());
        manifest["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        write(&layout.join("index.json"), &index);
        write(&layout.join("oci-layout"), &json!({ "imageLayoutVersion": "1.0.0" }));
        format!("oci:{}", layout.display())
    }
}

/// Offers that devices have accepted.
fn accepted(figures: &Figures) -> u64 {
    figures.accounts.values().map(|one| one.accepted).sum()
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(hub) = &mut self.hub {
            // It is over, one way or the other.
            let _ = hub.kill();
            let _ = hub.wait();
        }
    }
}
