//! Streams of changes and of output.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    http::Method,
};
use data_encoding::BASE64;
use futures_util::StreamExt as _;
use serde_json::Value;
use sosna_api::{job::JobState as Shown, route};
use sosna_host::manifest::{Blob, Manifest, Output, OutputKind};
use sosna_hub::hub::Event;
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    identity::{AssignmentId, JobId},
    message::{log::Stream, result::Judgement},
    result::{Cause, Usage},
};
use sosna_store::{JobState, NewAssignment, Revealed, Task, TaskEnd, TaskState};

use crate::support::Setup;

const PATIENCE: Duration = Duration::from_secs(10);

/// The events of a stream, one by one.
struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    async fn open(setup: &Setup, path: &str, who: &str) -> Self {
        let request = setup.request(Method::GET, path, Some(who)).body(Body::empty()).unwrap();
        let response = setup.open(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event's name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let found = field("event:").map(|name| {
                    let data = field("data:").expect("events without data are not dispatched");
                    (name.to_owned(), serde_json::from_str(data).unwrap_or(Value::Null))
                });
                self.text = rest.to_owned();
                match found {
                    Some(found) => return Some(found),
                    None => continue,
                }
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an event in time")?;
            self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    }
}

/// Gives a task to a device, and ends it with a result of this standard output and one output file.
async fn finish(setup: &Setup, task: &Task, device: Address, stdout: &[u8]) -> AssignmentId {
    let assignment = AssignmentId(sosna_host::random());
    finish_as(setup, task, device, stdout, assignment).await;
    assignment
}

async fn finish_as(setup: &Setup, task: &Task, device: Address, stdout: &[u8], assignment: AssignmentId) {
    let (job, id) = (task.job, task.id);
    let content = &setup.hub.content;
    let picture = content.put(b"BM a picture").unwrap();
    let manifest = Manifest {
        version: 1,
        cause: "exited".to_owned(),
        exit_code: 0,
        stdout: Blob::new(&content.put(stdout).unwrap(), stdout.len() as u64),
        stderr: Blob::new(&content.put(b"").unwrap(), 0),
        left_out: Vec::new(),
        outputs: vec![Output {
            kind: OutputKind::File,
            path: "out/tile \"1\".bmp".to_owned(),
            mode: 0o644,
            length: 12,
            sha256: picture.to_string(),
        }],
    };
    let root = manifest.root(false).unwrap();
    let name = content.put(&manifest.to_json()).unwrap();
    let now = setup.hub.now_ms();
    setup
        .write(move |tx| {
            Box::pin(async move {
                let price: Amount = "0.25".parse().unwrap();
                let owner = Address([device.0[0] | 0x80; 20]);
                let new = NewAssignment {
                    id: assignment,
                    task: id,
                    device,
                    owner,
                    price,
                    lease_until_ms: now,
                    created_ms: now,
                    time_ms: 60_000,
                };
                tx.put_assignment(&new).await?;
                tx.accept_assignment(&assignment, now + 1000, now).await?;
                let revealed = Revealed {
                    root,
                    manifest: name,
                    cause: Cause::Exited,
                    exit_code: 0,
                    usage: Usage { cpu_ns: 1, peak_memory: 2, wall_ms: 3 },
                    receipt: Signature([0; 65]),
                    receipt_digest: Hash::ZERO,
                };
                tx.reveal_assignment(&assignment, &revealed, now).await?;
                tx.judge_assignment(&assignment, Judgement::Accepted, price, "", now).await?;
                let end = TaskEnd { root, manifest: name, cause: Cause::Exited, exit_code: 0 };
                tx.end_task(&id, TaskState::Accepted, Some(&end), "", now).await?;
                for hash in [name, picture] {
                    tx.add_job_content(&job, &hash).await?;
                }
                if tx.tasks_of(&job).await?.iter().all(|task| task.ended_ms.is_some()) {
                    tx.set_job_state(&job, JobState::Succeeded, Some(now)).await?;
                }
                Ok(())
            })
        })
        .await;
    setup.hub.tell(Event::Assignment(job, id, assignment));
    setup.hub.tell(Event::Task(job, id));
}

async fn begun(setup: &Setup) -> (String, Vec<Task>, Address) {
    let device = setup.device(1).await;
    let id = setup.submitted().await;
    let job: JobId = id.parse().unwrap();
    let tasks = setup.write(move |tx| Box::pin(async move { tx.tasks_of(&job).await })).await;
    (id, tasks, device)
}

#[tokio::test]
async fn a_jobs_stream_begins_with_all_of_it_and_ends_with_it() {
    let setup = Setup::new().await;
    let (id, tasks, device) = begun(&setup).await;
    let mut events = Events::open(&setup, &route::fill(route::JOB_EVENTS, &id), "buyer").await;
    let mut first = Vec::new();
    for _ in 0..3 {
        let (name, change) = events.next().await.unwrap();
        assert_eq!(name, "change");
        first.push(change);
    }
    assert_eq!((&first[0]["type"], &first[0]["job"]["state"]), (&"job".into(), &"queued".into()));
    assert_eq!((&first[2]["type"], &first[2]["task"]["index"]), (&"task".into(), &1.into()));

    // What happens elsewhere is not told here.
    setup.hub.tell(Event::Device(device));
    setup.hub.tell(Event::Job(JobId([9; 16])));
    finish(&setup, &tasks[0], device, b"").await;
    let (_, task) = events.next().await.unwrap();
    assert_eq!(task["task"]["state"], "succeeded", "{task}");
    assert_eq!(task["task"]["assignments"][0]["verdict"], "accepted");
    assert_eq!(task["task"]["assignments"][0]["class"], "x86-64-v3");
    assert_eq!(task["task"]["price"], "0.25");
    let (_, job) = events.next().await.unwrap();
    assert_eq!((&job["type"], &job["job"]["counts"]["succeeded"]), (&"job".into(), &1.into()));

    finish(&setup, &tasks[1], device, b"").await;
    let mut last = Value::Null;
    while let Some((_, change)) = events.next().await {
        last = change;
    }
    assert_eq!(last["job"]["state"], Shown::Succeeded.word(), "{last}");
}

#[tokio::test]
async fn the_fleets_stream_tells_of_devices_and_ends_with_the_hub() {
    let setup = Setup::new().await;
    let device = setup.device(1).await;
    let mut events = Events::open(&setup, route::EVENTS, "operator").await;
    let (_, change) = events.next().await.unwrap();
    assert_eq!((&change["type"], &change["device"]["online"]), (&"device".into(), &true.into()));
    setup.hub.fleet().get_mut(&device).unwrap().online = false;
    setup.hub.tell(Event::Device(device));
    assert_eq!(events.next().await.unwrap().1["device"]["online"], false);
    // Whoever is too slow is told so.
    for _ in 0..10_000 {
        setup.hub.tell(Event::Device(device));
    }
    let mut lagged = false;
    for _ in 0..3 {
        lagged |= events.next().await.unwrap().0 == "lagged";
        if lagged {
            break;
        }
    }
    assert!(lagged);
    setup.stop.send(true).unwrap();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn output_is_told_live_and_then_completed() {
    let setup = Setup::new().await;
    let (id, tasks, device) = begun(&setup).await;
    let path = format!("{}?follow=true", route::fill(route::JOB_LOGS, &id));
    let mut events = Events::open(&setup, &path, "buyer").await;
    let stdout = b"hello, world";
    // Its beginning came before anybody listened, or was lost.
    let assignment = AssignmentId([6; 16]);
    let (job, index, stream) = (tasks[0].job, tasks[0].place, Stream::Stdout);
    let live = |offset: u64, bytes: &[u8]| {
        setup.hub.tell(Event::Log { job, index, assignment, stream, offset, bytes: bytes.into() });
    };
    live(7, b"wor");
    let (name, chunk) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &chunk["offset"], &chunk["data"]), ("log", &7.into(), &"d29y".into()));
    let mut told = vec![None; stdout.len()];
    told[7..10].copy_from_slice(&[Some(b'w'), Some(b'o'), Some(b'r')]);
    finish_as(&setup, &tasks[0], device, stdout, assignment).await;
    // What comes after the whole is told no more.
    live(7, b"wor");
    finish(&setup, &tasks[1], device, b"second").await;
    let mut ended = false;
    let mut second = Vec::new();
    while let Some((name, chunk)) = events.next().await {
        if name == "end" {
            ended = true;
            continue;
        }
        let bytes = BASE64.decode(chunk["data"].as_str().unwrap().as_bytes()).unwrap();
        let offset = usize::try_from(chunk["offset"].as_u64().unwrap()).unwrap();
        if chunk["index"] == 1 {
            second.extend(bytes);
            continue;
        }
        if chunk["assignment"] == assignment.to_string() {
            for (place, byte) in bytes.into_iter().enumerate() {
                assert_eq!(told[offset + place].replace(byte), None, "told twice");
            }
        }
    }
    assert!(ended);
    assert_eq!(told.into_iter().map(Option::unwrap).collect::<Vec<_>>(), stdout);
    assert_eq!(second, b"second");

    // Afterwards it is all there at once, and can be chosen from.
    let path = format!("{}?task=1&stream=stdout", route::fill(route::JOB_LOGS, &id));
    let mut events = Events::open(&setup, &path, "buyer").await;
    let (name, chunk) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &chunk["index"], &chunk["stream"]), ("log", &1.into(), &"stdout".into()));
    assert_eq!(events.next().await.unwrap().0, "end");
    assert!(events.next().await.is_none());
    let wrong = format!("{}?stream=stdin", route::fill(route::JOB_LOGS, &id));
    assert_eq!(setup.get(&wrong, "buyer").await.problem(), "invalid");
}

#[tokio::test]
async fn outputs_are_shown_only_as_pictures() {
    let setup = Setup::new().await;
    let (id, tasks, device) = begun(&setup).await;
    let path = |number: u32| format!("/v1/jobs/{id}/tasks/0/outputs/{number}");
    assert_eq!(setup.get(&path(0), "buyer").await.problem(), "not-found");
    finish(&setup, &tasks[0], device, b"").await;
    let picture = setup.get(&path(0), "buyer").await;
    assert_eq!((&picture.body[..], picture.header("content-type")), (&b"BM a picture"[..], "image/bmp"));
    assert_eq!(picture.header("content-disposition"), "inline; filename=\"tile__1_.bmp\"");
    assert_eq!(picture.header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!(setup.get(&path(1), "buyer").await.problem(), "not-found");
    assert_eq!(setup.get(&path(0), "stranger").await.problem(), "not-found");
}

#[tokio::test]
async fn streams_are_counted() {
    let setup = Setup::new().await;
    let mut open = Vec::new();
    let stream = || setup.request(Method::GET, route::EVENTS, Some("admin")).body(Body::empty()).unwrap();
    for _ in 0..1024 {
        let response = setup.open(stream()).await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let refused = setup.send(stream()).await;
    assert_eq!((refused.problem().as_str(), refused.header("retry-after")), ("busy", "2"));
    // Who goes makes room.
    open.clear();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(setup.open(stream()).await.status(), 200);
}
