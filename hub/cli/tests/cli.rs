//! The program itself, as people and scripts run it, against a hub that is scripted (the command line and the hub
//! are tested together in the workspace's end-to-end tests).
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod scripted_hub;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use scripted_hub::{ScriptedHub, TOKEN, chunk, detail, field, is_replicated, job_id, spec, task};
use serde_json::{Value, json};
use sosna_api::{
    Code, Problem,
    task::{Task, TaskState},
};
use sosna_host::{
    manifest::{Blob, Manifest, Output, OutputKind},
    token::JoinToken,
};
use sosna_protocol::{Hash, hash::sha256, message::log::Stream, result::Cause};
use tempfile::TempDir;
use tokio::process::Command;

/// A person: a home, a hub, a token.
struct Person {
    home: TempDir,
    hub: Option<String>,
    token: Option<&'static str>,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Person {
    fn new(hub: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), hub: Some(hub.to_owned()), token: Some(TOKEN) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    async fn says(&self, args: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sosna"));
        command.args(args).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.stdin(Stdio::null()).kill_on_drop(true);
        if let Some(hub) = &self.hub {
            command.env("SOSNA_HUB", hub);
        }
        if let Some(token) = self.token {
            command.env("SOSNA_TOKEN", token);
        }
        let output = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What is expected to work: its output.
    async fn does(&self, args: &[&str]) -> String {
        let said = self.says(args).await;
        assert_eq!(said.code, 0, "{args:?}\n{}{}", said.out, said.err);
        said.out
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.does(args).await).unwrap()
    }
}

async fn start() -> (ScriptedHub, Person) {
    let hub = ScriptedHub::default();
    let person = Person::new(&hub.start().await);
    (hub, person)
}

// === Help, connection, login ===

#[tokio::test]
async fn help_fits_on_a_screen_and_names_every_command() {
    let person = Person { home: tempfile::tempdir().unwrap(), hub: None, token: None };
    let help = person.does(&["--help"]).await;
    let words = ["login", "run", "submit", "jobs", "logs", "results", "cancel", "devices", "owner", "ledger"];
    for word in words.into_iter().chain(["wallet", "payouts", "hubs"]) {
        assert!(help.lines().any(|line| line.trim_start().starts_with(word)), "{word}");
    }
    let alone = ["run", "submit", "results", "device", "owner", "ledger", "login", "logs", "payouts", "hubs"];
    let of_hubs = ["list", "show", "register", "describe", "payday", "withdraw"].map(|word| ["hubs", word]);
    let of_payouts = ["settle", "relay"].map(|word| ["payouts", word]);
    let below = of_hubs.into_iter().chain(of_payouts).map(Vec::from);
    for command in alone.into_iter().map(|word| vec![word]).chain(below) {
        let help = person.does(&[&command[..], &["--help"]].concat()).await;
        assert!(help.contains("Examples:"), "{command:?}");
        for line in help.lines() {
            assert!(line.chars().count() <= 100 && !line.ends_with(' '), "{command:?}: `{line}`");
        }
    }
    assert!(person.does(&["--version"]).await.starts_with("sosna 0."));
}

#[tokio::test]
async fn who_is_not_there_or_not_welcome_has_an_exit_code() {
    let (_hub, mut person) = start().await;
    person.token = Some("somebody-elses");
    let said = person.says(&["jobs"]).await;
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("Nobody is known by this token: no user has this token; ask"), "{}", said.err);
    assert!(!said.err.contains("somebody-elses"));
    person.token = Some(TOKEN);

    let missing = "00".repeat(16);
    assert_eq!(person.says(&["job", &missing]).await.code, 3);
    assert_eq!(person.says(&["job", "beef"]).await.code, 3);
    assert_eq!(person.says(&["job", "xyz"]).await.code, 2);
    assert_eq!(person.says(&["device", "nobody"]).await.code, 3);
    assert_eq!(person.says(&["run", "--cpu", "none", "image"]).await.code, 2);
    assert_eq!(person.says(&["run", "oci:nowhere"]).await.code, 3);

    // A port that nobody listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = person.says(&["jobs", "--hub", &format!("http://127.0.0.1:{port}")]).await;
    assert_eq!(said.code, 5, "{}", said.err);
    assert!(said.err.contains("does not answer; is the hub running"), "{}", said.err);

    let said = person.says(&["jobs", "--hub", "http://hub.test"]).await;
    assert_eq!(said.code, 2);
    assert!(said.err.contains("--insecure-http"), "{}", said.err);
    person.hub = None;
    let said = person.says(&["jobs"]).await;
    assert_eq!((said.code, said.err.contains("sosna login")), (2, true));
}

#[tokio::test]
async fn login_keeps_a_token_that_works() {
    let (_hub, mut person) = start().await;
    let url = person.hub.take().unwrap();
    person.token = None;
    fs::write(person.path("token"), format!("{TOKEN}\n")).unwrap();
    fs::write(person.path("wrong"), "wrong").unwrap();
    assert_eq!(person.says(&["login", &url]).await.code, 2, "without a token");
    assert_eq!(person.says(&["login", &url, "--token-file", "wrong"]).await.code, 4);
    let kept = person.path(".config/sosna/credentials.toml");
    assert!(!kept.exists(), "what does not work is not kept");
    let said = person.says(&["login", &url, "--token-file", "token"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("alice (admin) at hub 0x"), "{}", said.err);
    assert!(!said.err.contains(TOKEN) && !said.out.contains(TOKEN));
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(person.does(&["jobs"]).await, "no jobs\n");
}

// === Running ===

/// An OCI layout of one layer.
fn layout(folder: &Path) -> Hash {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let name = sha256(bytes);
        fs::write(blobs.join(name.to_string()), bytes).unwrap();
        json!({ "mediaType": kind, "digest": format!("sha256:{name}"), "size": bytes.len() })
    };
    let content = vec![7_u8; 700_000];
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &content);
    let diff_id = format!("sha256:{}", sha256(&content));
    let config = json!({ "architecture": "arm64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [diff_id] } });
    let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] }).to_string();
    let index = json!({ "schemaVersion": 2, "manifests": [blob(kind, manifest.as_bytes())] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    sha256(manifest.as_bytes())
}

#[tokio::test]
async fn run_brings_a_local_image_streams_and_ends_as_the_task_ends() {
    let (hub, person) = start().await;
    let manifest = layout(&person.path("image"));
    fs::write(person.path("scene"), "a scene").unwrap();
    hub.inner().exit_codes = vec![7];
    hub.inner().logs = vec![
        chunk(0, Stream::Stdout, 0, "hello\nwor"),
        chunk(0, Stream::Stderr, 0, "oh\n"),
        chunk(0, Stream::Stdout, 9, "ld"),
    ];
    let args = [
        "run",
        "--input",
        "scene:/in/",
        "--output",
        "/out",
        "--env",
        "A=b=c",
        "--memory",
        "1GiB",
        "--timeout",
        "90s",
        "--max-price",
        "2.50",
        "--verify",
        "replicate:2",
        "oci:image",
        "--",
        "render",
        "-x",
    ];
    let said = person.says(&args).await;
    assert_eq!((said.code, said.out.as_str()), (7, "hello\nworld"), "{}", said.err);
    assert!(said.err.contains("oh\n"), "{}", said.err);
    assert!(said.err.contains("task 0 waits: no device has 1 GiB of memory free"), "{}", said.err);
    assert!(said.err.contains("task 0: exited, exit code 7"), "{}", said.err);

    {
        let inner = hub.inner();
        let spec = &inner.submitted[0];
        let json = serde_json::to_value(spec).unwrap();
        assert_eq!(*field(&json, "/image/content/manifest"), manifest.to_string());
        assert_eq!(*field(&json, "/image/content/platform"), "arm64");
        assert_eq!(*field(&json, "/image/content/name"), "oci:image");
        assert_eq!(*field(&json, "/inputs/0/destination"), "/in/scene");
        assert_eq!(*field(&json, "/inputs/0/sha256"), sha256(b"a scene").to_string());
        assert_eq!(*field(&json, "/env/A"), "b=c");
        assert_eq!(*field(&json, "/max_price"), "2.5");
        assert_eq!(*field(&json, "/timeout_ms"), 90_000);
        assert_eq!(*field(&json, "/resources/memory"), 1_u64 << 30);
        assert_eq!(*field(&json, "/command"), json!(["render", "-x"]));
        assert!(is_replicated(spec));
        assert_eq!(inner.puts, 4, "layer, configuration, manifest, input");
        assert!(inner.content.contains_key(&manifest.to_string()));
    }

    hub.inner().exit_codes.clear();
    let id = person.does(&["run", "--detach", "oci:image"]).await;
    assert_eq!(id, format!("{}\n", job_id(2)));
    assert_eq!(hub.inner().puts, 4, "nothing is sent twice");
}

#[tokio::test]
async fn run_marks_the_lines_of_many_tasks_and_survives_broken_connections() {
    let (hub, person) = start().await;
    hub.inner().breaks = 2;
    hub.inner().exit_codes = vec![0, 0, 5];
    hub.inner().logs = vec![
        chunk(0, Stream::Stdout, 0, "first "),
        chunk(2, Stream::Stdout, 0, "two\nlines\n"),
        chunk(0, Stream::Stdout, 6, "task\n"),
        chunk(1, Stream::Stdout, 0, "no end"),
    ];
    let said = person.says(&["run", "-n", "3", "registry.test/tool:1"]).await;
    assert_eq!(said.code, 5, "{}", said.err);
    assert_eq!(said.out, "[2] two\n[2] lines\n[0] first task\n[1] no end\n");
    assert!(said.err.contains("2 of 3 tasks succeeded"), "{}", said.err);
    assert_eq!(hub.inner().breaks, 0, "both streams broke");
}

#[tokio::test]
async fn submissions_are_tried_again_under_one_key() {
    let (hub, person) = start().await;
    hub.inner().busy = 2;
    fs::create_dir(person.path("jobs")).unwrap();
    fs::write(person.path("jobs/in.txt"), "x").unwrap();
    let file =
        "name = \"night\"\nimage = \"registry.test/tool:1\"\ntasks = 2\ninputs = [\"in.txt:/in.txt\"]\n";
    fs::write(person.path("jobs/job.toml"), file).unwrap();
    let job = person.json(&["submit", "jobs/job.toml", "--detach", "--json"]).await;
    assert_eq!(*field(&job, "/counts/total"), 2);
    assert_eq!(*field(&job, "/name"), "night");
    let keys = hub.inner().keys.clone();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32), "{keys:?}");
    person.does(&["submit", "jobs/job.toml", "--detach"]).await;
    assert_ne!(hub.inner().keys[3], keys[0], "another act, another key");
}

#[tokio::test]
async fn what_the_hub_refuses_is_told_with_its_reason() {
    let (hub, person) = start().await;
    for (code, exit) in [
        (Code::NoCredit, 4),
        (Code::UnknownImage, 3),
        (Code::ImpossibleResources, 4),
        (Code::Conflict, 4),
        (Code::TooLarge, 4),
        (Code::MissingContent, 3),
        (Code::Invalid, 2),
        (Code::KeyReused, 1),
        (Code::WrongDigest, 1),
    ] {
        hub.inner().refusal = Some(Problem::new(code, "this is why; do that"));
        let said = person.says(&["run", "registry.test/tool:1"]).await;
        assert_eq!(said.code, exit, "{}", said.err);
        assert_eq!(said.err, format!("sosna: {}: this is why; do that\n", code.title()));
    }
}

// === Jobs ===

#[tokio::test]
async fn jobs_are_listed_shown_followed_and_cancelled() {
    let (hub, person) = start().await;
    hub.inner().jobs = vec![
        detail(0xaa, spec(1), vec![task(0, TaskState::Succeeded)]),
        detail(0xab, spec(2), vec![task(0, TaskState::Succeeded), task(1, TaskState::Failed)]),
    ];
    hub.inner().logs = vec![chunk(0, Stream::Stdout, 0, "zero\n"), chunk(1, Stream::Stderr, 0, "one\n")];
    let list = person.does(&["jobs"]).await;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(lines[0].starts_with("JOB           NAME  STATE      DONE"), "{list}");
    assert!(lines[1].starts_with("aaaaaaaaaaaa  -     succeeded  1/1"), "{list}");
    let failed = person.json(&["jobs", "--state", "failed", "--json"]).await;
    assert_eq!(field(&failed, "/jobs").as_array().unwrap().len(), 1);

    assert_eq!(person.says(&["job", "aaab"]).await.code, 3);
    let shown = person.does(&["job", "abab"]).await;
    for part in ["failed (1m 1s)", "1.5 cores, 1 GiB memory", "2: 1 succeeded, 1 failed", "TASK  STATE"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let shown = person.json(&["job", &job_id(0xab).to_string(), "--json"]).await;
    assert_eq!(*field(&shown, "/tasks/1/state"), "failed");

    let said = person.says(&["logs", "abab"]).await;
    assert_eq!((said.out.as_str(), said.err.as_str()), ("[0] zero\n", "[1] one\n"));
    assert_eq!(person.does(&["logs", "abab", "-f", "--task", "0"]).await, "zero\n");
    assert_eq!(person.does(&["logs", "abab", "--stream", "stdout", "--json"]).await.lines().count(), 1);
    assert_eq!(person.says(&["logs", "abab", "--task", "9"]).await.code, 3);

    assert_eq!(person.does(&["cancel", "aaaa"]).await, format!("job {} cancelled\n", job_id(0xaa)));
    assert_eq!(person.says(&["results", "aaaa"]).await.code, 3, "no results");
}

// === Results ===

struct Store<'a>(&'a ScriptedHub);

impl Store<'_> {
    fn put(&self, bytes: &[u8]) -> Hash {
        let name = sha256(bytes);
        self.0.inner().content.insert(name.to_string(), bytes.to_vec());
        name
    }

    fn output(&self, kind: OutputKind, path: &str, mode: u32, bytes: &[u8]) -> Output {
        let sha256 = if kind == OutputKind::Folder { Hash::ZERO } else { self.put(bytes) };
        Output { kind, path: path.to_owned(), mode, length: bytes.len() as u64, sha256: sha256.to_string() }
    }

    fn task(&self, index: u32, outputs: Vec<Output>) -> Task {
        let stdout = Blob::new(&self.put(b"said\n"), 5);
        let stderr = Blob::new(&sha256(b""), 0);
        let cause = Cause::Exited.word().to_owned();
        let left_out = vec!["/none: was not made\u{1b}[2J".to_owned()];
        let manifest = Manifest { version: 1, cause, exit_code: 0, stdout, stderr, outputs, left_out };
        let raw = manifest.to_json();
        let root = manifest.root(false).ok();
        Task {
            manifest: Some(self.put(&raw).into()),
            result_root: root.map(Into::into),
            stdout_counts: false,
            ..task(index, TaskState::Succeeded)
        }
    }
}

#[tokio::test]
async fn results_are_written_as_they_were() {
    let (hub, person) = start().await;
    let store = Store(&hub);
    let outputs = vec![
        store.output(OutputKind::Folder, "out", 0o555, b""),
        store.output(OutputKind::File, "out/a.bmp", 0o640, &[1; 300_000]),
        store.output(OutputKind::File, "out/run.sh", 0o4755, b"#!/bin/sh\n"),
        store.output(OutputKind::Folder, "out/sub", 0o750, b""),
        store.output(OutputKind::File, "out/sub/empty", 0o600, b""),
        store.output(OutputKind::Link, "out/sub/up", 0o777, b"../a.bmp"),
        store.output(OutputKind::Link, "out/way-out", 0o777, b"../../../etc/passwd"),
        store.output(OutputKind::File, "stdout.log", 0o644, b"mine"),
    ];
    let tasks = vec![store.task(0, outputs), store.task(1, Vec::new()), task(2, TaskState::Failed)];
    hub.inner().jobs = vec![detail(1, spec(3), tasks)];
    let said = person.says(&["results", "0101", "-o", "all"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.out, "2 tasks, 4 files, 292.9 KiB, verified, in all\n");

    assert!(said.err.contains("left out out/way-out: a link that leads out of the result"), "{}", said.err);
    assert!(said.err.contains("left out /none: was not made"), "{}", said.err);
    assert!(!said.err.contains('\u{1b}'), "a device's word moves no cursor: {:?}", said.err);
    assert!(said.err.contains("task 2 is failed and has no result"), "{}", said.err);
    let path = |name: &str| person.path("all/0").join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(fs::read(path("out/a.bmp")).unwrap(), [1; 300_000]);
    assert_eq!(
        [mode("out"), mode("out/a.bmp"), mode("out/run.sh"), mode("out/sub")],
        [0o555, 0o640, 0o755, 0o750]
    );
    assert_eq!(fs::read_link(path("out/sub/up")).unwrap(), Path::new("../a.bmp"));
    assert!(fs::symlink_metadata(path("out/way-out")).is_err());
    assert_eq!(fs::read(path("stdout.log")).unwrap(), b"mine");
    assert_eq!(fs::read(person.path("all/1/stdout.log")).unwrap(), b"said\n");
    assert!(Manifest::from_json(&fs::read(path("manifest.json")).unwrap()).is_ok());

    assert_eq!(person.says(&["results", "0101", "-o", "all"]).await.code, 1, "nothing is overwritten");
    let one = person.json(&["results", "0101", "--task", "1", "-o", "one", "--json"]).await;
    assert_eq!(*field(&one, "/0/index"), 1);
    assert_eq!(fs::read(person.path("one/stdout.log")).unwrap(), b"said\n");
    // So that the folder can be removed by whoever is not root.
    fs::set_permissions(path("out"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn results_that_lie_are_not_written() {
    let (hub, person) = start().await;
    let store = Store(&hub);
    let fails = async |number: u8, task: Task, part: &str| {
        hub.inner().jobs = vec![detail(number, spec(1), vec![task])];
        let folder = format!("out{number}");
        let said = person.says(&["results", &job_id(number).to_string(), "-o", &folder]).await;
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(said.err.contains(part), "{part}\n{}", said.err);
        person.path(&folder)
    };
    let file = |path: &str| store.output(OutputKind::File, path, 0o644, b"x");
    let escape = fails(1, store.task(0, vec![file("../escaped")]), "the result of task 0").await;
    assert!(!escape.exists() && !person.path("escaped").exists());
    fails(2, store.task(0, vec![file("/absolute")]), "the result of task 0").await;
    let through = vec![store.output(OutputKind::Link, "a", 0o777, b"/tmp"), file("a/b")];
    fails(3, store.task(0, through), "lies in something that is no folder").await;

    // The paths of a task that was cut off are no part of its root, and still are not believed.
    let mut manifest: Value = {
        let task = store.task(0, vec![file("ok")]);
        let name = task.manifest.unwrap().to_string();
        serde_json::from_slice(&hub.inner().content[&name]).unwrap()
    };
    manifest["cause"] = json!("timed-out");
    manifest["outputs"][0]["path"] = json!("../../escaped");
    let raw = manifest.to_string().into_bytes();
    let cut_off =
        Task { manifest: Some(store.put(&raw).into()), result_root: None, ..task(0, TaskState::Failed) };
    fails(4, cut_off, "which leads elsewhere").await;
    assert!(!person.path("escaped").exists());

    // Each is good by itself; the second would be written through the first one's link.
    let links = store.task(0, vec![store.output(OutputKind::Link, "a", 0o777, b".")]);
    let written = store.task(0, vec![store.output(OutputKind::Folder, "a", 0o755, b""), file("a/escaped")]);
    hub.inner().jobs = vec![detail(8, spec(2), vec![links, written])];
    let said = person.says(&["results", &job_id(8).to_string(), "-o", "out8"]).await;
    assert!(said.code == 1 && said.err.contains("names task 0 twice"), "{}", said.err);
    assert!(!person.path("out8/0").exists() || fs::read_dir(person.path("out8/0")).unwrap().count() == 0);

    let other = Task { result_root: Some(Hash([1; 32]).into()), ..store.task(0, vec![file("ok")]) };
    fails(5, other, "the manifest of task 0 is not what its digest says").await;

    let mut wrong = file("ok");
    wrong.length = 9;
    let folder = fails(6, store.task(0, vec![wrong]), "ok of task 0 is not what its digest says").await;
    assert!(!folder.join("ok").exists());
    let good = store.task(0, vec![file("changed")]);
    hub.inner().content.insert(sha256(b"x").to_string(), b"y".to_vec());
    let folder = fails(7, good, "changed of task 0 is not what its digest says").await;
    assert!(!folder.join("changed").exists());
}

// === Fleet, owners, books ===

#[tokio::test]
async fn devices_are_shown_and_decided_about() {
    let (hub, person) = start().await;
    let list = person.does(&["devices"]).await;
    assert!(list.contains("kitchen-pi  trusted  online  armv8-a"), "{list}");
    let shown = person.does(&["device", "kitchen-pi"]).await;
    for part in [
        "cannot limit  disk: no project quota",
        "9 right (2 in a row), 1 wrong",
        "0.25 SNM, 0.2 in vouchers",
        "2.5 SNM, signed",
        "0.9 SNM without a voucher",
        "registry.test/tool",
        "5e5e5e5e",
        "nothing proves it",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(person.does(&["device", "drain", "0x5a5a"]).await.contains("(kitchen-pi) draining"));
    assert!(person.does(&["device", "drain", "kitchen-pi", "--off"]).await.contains("trusted"));
    person.does(&["device", "label", "kitchen-pi", "region=eu", "room=a=b"]).await;
    let said = person.does(&["device", "label", "kitchen-pi", "region-"]).await;
    assert!(said.ends_with(" room=a=b\n"), "{said}");
    assert_eq!(hub.inner().labels.len(), 1);
    assert_eq!(person.says(&["device", "label", "kitchen-pi", "region"]).await.code, 2);
    let whole = person.json(&["device", "kitchen-pi", "--json"]).await;
    assert_eq!(*field(&whole, "/reputation/valid"), 9);
    assert_eq!(*field(&whole, "/voucher/signature"), "07".repeat(65));
}

#[tokio::test]
async fn owners_delegate_with_a_key_that_stays() {
    let (hub, person) = start().await;
    hub.inner().authority = [0xcd; 32];
    let address = person.does(&["owner", "key"]).await;
    assert_eq!(person.does(&["owner", "key"]).await, address, "made once");
    let key = person.path(".config/sosna/owner.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    let text =
        person.does(&["owner", "delegate", "--uses", "4", "--ttl", "1h", "--label", "region=eu"]).await;
    // Reading a token verifies its owner's signature.
    let token: JoinToken = text.trim().parse().unwrap();
    assert_eq!((token.uses, token.host.as_str(), token.bootstrap_port), (4, "hub.test", 8884));
    assert_eq!(token.authority, Hash([0xcd; 32]));
    assert_eq!(token.owner.checksummed().as_str(), address.trim());

    hub.inner().lies = true;
    let said = person.says(&["owner", "delegate"]).await;
    assert_eq!((said.code, said.out.as_str()), (4, ""), "{}", said.err);

    let second = person.does(&["owner", "key", "--key", "second.key"]).await;
    assert_ne!(second, address);
    assert_eq!(
        person.does(&["owner", "admit", second.trim()]).await,
        format!("{} admitted\n", second.trim())
    );
    assert!(person.does(&["owner", "list"]).await.contains("yes"));
}

#[tokio::test]
async fn the_books_are_shown_and_credit_is_granted() {
    let (_hub, person) = start().await;
    assert!(person.does(&["ledger"]).await.contains("alice  12.5"));
    assert_eq!(person.does(&["ledger", "credit", "bob", "0.250"]).await, "bob: 0.25 SNM available\n");
    assert_eq!(person.says(&["ledger", "credit", "bob", "1e3"]).await.code, 2);
    let ledger = person.json(&["ledger", "--json"]).await;
    assert_eq!(*field(&ledger, "/accounts/0/available"), "12.5");
}
