//! The agent's whole path against a scripted hub, over a real broker, TLS, HTTP and containers.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod hostile;
mod rights;
mod support;

use std::{path::Path, time::Duration};

use sosna_host::{identity::IdentityKey, manifest::Manifest};
use sosna_protocol::{
    Address, Amount, Hash,
    codec::{Bounded, List, Text},
    eip712::{Domain, Receipt, Typed as _},
    identity::{AssignmentId, JobId, Sign as _, TaskId},
    message::{
        enrol::{self, Refusal},
        log, pay,
        result::{Closed, Judgement, Missing, Reveal, Up, Verdict},
        work::{self, Assign, MAX_TEXT, Network, Source, SourceKind},
    },
    resources::Resources,
    result::{Cause, commitment},
    topic::Kind,
};
use support::{
    Heard, ScriptedHub,
    agent::Agent,
    now_ms,
    opening::{self, Opening, enrolled, enrolling},
};

const SOURCES: &[Source<'static>] = &[Source { kind: SourceKind::Hub, name: Bounded("") }];

fn texts(texts: &[&'static str]) -> List<'static, Text<'static, MAX_TEXT>, 256> {
    List::new(texts.iter().map(|text| Bounded(*text)).collect::<Vec<_>>().leak())
}

fn assign(hub: &ScriptedHub, image: Hash, script: &'static str, commits: bool) -> Assign<'static> {
    Assign {
        assignment: AssignmentId(sosna_host::random()),
        task: TaskId([8; 16]),
        job: JobId([9; 16]),
        index: 2,
        count: 5,
        price: Amount::SNM,
        chain_id: 0,
        wallet: hub.key.address(),
        image,
        sources: List::new(SOURCES),
        entrypoint: texts(&["/bin/sh", "-c"]),
        command: texts(Box::leak(Box::new([script]))),
        environment: texts(&["NAME=tile"]),
        working_dir: Bounded(""),
        resources: Resources { cpu_millis: 500, memory: 64 << 20, disk: 8 << 20, inodes: 512, pids: 32 },
        timeout_ms: 60_000,
        log_bytes: 1 << 20,
        network: Network::None,
        inputs: List::default(),
        outputs: texts(&["/out/tile"]),
        stdout_counts: true,
        commits,
        lease_until_ms: now_ms() + 60_000,
    }
}

fn accepted(heard: &Heard) -> AssignmentId {
    match work::Up::read(&heard.frame()).unwrap() {
        work::Up::Accept(accept) => accept.assignment,
        work::Up::Refuse(refuse) => panic!("refused: {}", refuse.explanation.0),
    }
}

fn revealed(heard: &Heard) -> Reveal {
    match Up::read(&heard.frame()).unwrap() {
        Up::Reveal(reveal) => reveal,
        other => panic!("expected a reveal: {other:?}"),
    }
}

/// Everything that a hub would check of a reveal.
fn check(hub: &ScriptedHub, device: Address, assign: &Assign<'_>, reveal: &Reveal) -> (Manifest, Receipt) {
    assert_eq!(reveal.assignment, assign.assignment);
    let json = hub.content.get(&reveal.manifest).expect("the manifest is uploaded before the reveal");
    assert_eq!(json.len() as u64, reveal.manifest_length);
    let manifest = Manifest::from_json(&json).unwrap();
    assert_eq!(manifest.root(assign.stdout_counts).unwrap(), reveal.root);
    for (name, length) in manifest.content().unwrap() {
        assert_eq!(hub.content.get(&name).expect("all content is uploaded").len() as u64, length);
    }
    let receipt = Receipt {
        hub: hub.key.address(),
        device,
        assignment: assign.assignment,
        task: assign.task,
        image: assign.image,
        result: reveal.root,
        usage: reveal.usage,
        price: assign.price,
    };
    receipt.verify(&Domain::off_chain(hub.key.address()), &reveal.receipt, &device).unwrap();
    (manifest, receipt)
}

async fn accept_verdict(hub: &mut ScriptedHub, device: Address, receipt: &Receipt, cumulative: Amount) {
    let verdict = Verdict {
        assignment: receipt.assignment,
        judgement: Judgement::Accepted,
        owed: receipt.price,
        explanation: Bounded(""),
        earned: Some(cumulative),
    };
    hub.say(device, &verdict).await;
    hub.pay(device, cumulative, &[*receipt]).await;
    let heard = hub.hear(&[Kind::Pay]).await;
    let pay::Up::Held(held) = pay::Up::read(&heard.frame()).unwrap() else { panic!("no voucher is held") };
    assert_eq!(held.cumulative, cumulative);
}

/// Containers that are left in a data folder, after the agent has had time to remove them.
async fn containers_left(data: &Path) -> usize {
    let folder = data.join("containers/tasks");
    for _ in 0..100 {
        if std::fs::read_dir(&folder).unwrap().count() == 0 {
            return 0;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    std::fs::read_dir(&folder).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_enrols_works_and_is_owed() {
    let Some(opening) = enrolled("a_device_enrols_works_and_is_owed", true).await else { return };
    let Opening { folder, mut hub, image, agent, device } = opening;

    // A stranger's assignment, and one for another device, are not even answered.
    let script =
        "echo $NAME-$SOSNA_TASK_INDEX-of-$SOSNA_TASK_COUNT > /out/tile; echo done; echo warning >&2; exit 3";
    let work = assign(&hub, image, script, true);
    let stranger = IdentityKey::generate();
    let forged = hub.seal_as(&stranger, device, &work);
    hub.publish(device, Kind::Work, forged).await;
    let misled = hub.seal(stranger.address(), &work);
    hub.publish(device, Kind::Work, misled).await;
    hub.publish(device, Kind::Work, b"\x93\x03nonsense".to_vec()).await;
    hub.hear_nothing(&[Kind::Work], Duration::from_secs(2)).await;

    let frame = hub.say(device, &work).await;
    assert_eq!(accepted(&hub.hear(&[Kind::Work]).await), work.assignment);
    let heard = hub.hear(&[Kind::Result]).await;
    let Up::Commit(commit) = Up::read(&heard.frame()).unwrap() else { panic!("expected a commitment") };
    let before = hub.content.count();
    // A replay of the assignment starts nothing, and nothing of the result leaves before it is closed.
    hub.publish(device, Kind::Work, frame).await;
    hub.hear_nothing(&[Kind::Result, Kind::Log], Duration::from_secs(2)).await;
    assert_eq!(hub.content.count(), before, "content left the device before commitments were closed");
    hub.say(device, &Closed { assignment: work.assignment, reveal_by_ms: now_ms() + 60_000 }).await;

    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    assert_eq!((reveal.cause, reveal.exit_code), (Cause::Exited, 3));
    let expected = commitment(&hub.key.address(), &work.assignment, &device, &reveal.root, &reveal.salt);
    assert_eq!(commit.commitment, expected);
    assert_ne!(reveal.salt, Hash::ZERO);
    let (manifest, receipt) = check(&hub, device, &work, &reveal);
    let tile = manifest.outputs.iter().find(|output| output.path == "out/tile").expect("the declared output");
    assert_eq!(&*hub.content.get(&tile.sha256.parse::<Hash>().unwrap()).unwrap(), b"tile-2-of-5\n");
    assert_eq!(&*hub.content.get(&manifest.stdout.name().unwrap()).unwrap(), b"done\n");
    assert_eq!(&*hub.content.get(&manifest.stderr.name().unwrap()).unwrap(), b"warning\n");

    // The hub loses a part of it: it is brought again, and nothing runs again.
    let lost: Hash = tile.sha256.parse().unwrap();
    hub.content.lose(&lost);
    hub.say(device, &Missing { assignment: work.assignment, content: lost }).await;
    assert_eq!(revealed(&hub.hear(&[Kind::Result]).await), reveal);
    check(&hub, device, &work, &reveal);

    let status = agent.status();
    assert!(status.running && status.connected);
    assert!(status.refused_frames >= 4, "{status:?}");
    accept_verdict(&mut hub, device, &receipt, Amount::SNM).await;
    assert_eq!(containers_left(folder.path()).await, 0);
    let status = agent.status();
    assert_eq!((status.earnings.voucher.as_str(), status.tasks.len()), ("1", 0), "{status:?}");
    let (end, time) = agent.stop();
    assert!(end.success() && time < Duration::from_secs(5), "{end} after {time:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_outlives_its_agent() {
    let Some(opening) = enrolled("a_container_outlives_its_agent", true).await else { return };
    let Opening { folder, mut hub, image, agent, device } = opening;
    let script = "echo begin; i=0; while [ $i -lt 8 ]; do sleep 1; i=$((i+1)); done; echo $i > /out/tile";
    let work = assign(&hub, image, script, false);
    hub.say(device, &work).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    // Its live output shows that it runs; then the agent is killed.
    let heard = hub.hear(&[Kind::Log]).await;
    let log::Up::Chunk(chunk) = log::Up::read(&heard.frame()).unwrap();
    assert_eq!((chunk.assignment, chunk.bytes.0), (work.assignment, b"begin\n".as_slice()));
    agent.kill();
    let agent = Agent::start(folder.path(), None);
    assert_eq!(hub.welcome(1000).await, [work.assignment], "it still holds the assignment");
    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    assert_eq!((reveal.cause, reveal.exit_code, reveal.salt), (Cause::Exited, 0, Hash::ZERO));
    let (manifest, receipt) = check(&hub, device, &work, &reveal);
    assert_eq!(&*hub.content.get(&manifest.stdout.name().unwrap()).unwrap(), b"begin\n", "it ran once");
    assert!(reveal.usage.wall_ms >= 8000, "{:?}", reveal.usage);
    accept_verdict(&mut hub, device, &receipt, Amount::SNM).await;
    assert_eq!(containers_left(folder.path()).await, 0);
    assert!(agent.stop().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_a_power_cut_took_runs_once_more() {
    let Some(opening) = enrolled("a_container_that_a_power_cut_took_runs_once_more", true).await else {
        return;
    };
    let Opening { folder, mut hub, image, agent, device } = opening;
    let work = assign(&hub, image, "echo begin; sleep 4; echo done > /out/tile", false);
    hub.say(device, &work).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    hub.hear(&[Kind::Log]).await;
    agent.kill();
    assert_eq!(support::agent::kill_shims(folder.path()), 1);
    let agent = Agent::start(folder.path(), None);
    assert_eq!(hub.welcome(1000).await, [work.assignment]);
    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    assert_eq!((reveal.cause, reveal.exit_code), (Cause::Exited, 0));
    let (_, receipt) = check(&hub, device, &work, &reveal);
    assert!(reveal.usage.wall_ms >= 4000, "the second run is the one that counts: {:?}", reveal.usage);
    accept_verdict(&mut hub, device, &receipt, Amount::SNM).await;
    assert_eq!(containers_left(folder.path()).await, 0);
    assert!(agent.stop().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_without_the_hub() {
    let Some(opening) = enrolled("work_goes_on_without_the_hub", true).await else { return };
    let Opening { folder: _folder, mut hub, image, agent, device } = opening;
    let work = assign(&hub, image, "sleep 3; echo late > /out/tile", true);
    hub.say(device, &work).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    hub.go_away();
    for _ in 0..100 {
        let status = agent.status();
        if !status.connected && status.tasks.iter().any(|task| task.phase == "committed") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let status = agent.status();
    assert!(!status.connected && status.waiting_messages >= 1, "{status:?}");
    hub.come_back().await;
    assert_eq!(hub.welcome(1000).await, [work.assignment]);
    let heard = hub.hear(&[Kind::Result]).await;
    assert!(matches!(Up::read(&heard.frame()).unwrap(), Up::Commit(_)));
    hub.say(device, &Closed { assignment: work.assignment, reveal_by_ms: now_ms() + 60_000 }).await;
    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    let (_, receipt) = check(&hub, device, &work, &reveal);
    accept_verdict(&mut hub, device, &receipt, Amount::SNM).await;
    assert!(agent.stop().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_are_given_and_a_cancelled_container_is_gone() {
    let Some(opening) = enrolled("inputs_are_given_and_a_cancelled_container_is_gone", true).await else {
        return;
    };
    let Opening { folder, mut hub, image, agent, device } = opening;

    let scene = b"a scene to be rendered".repeat(1000);
    let inputs = [work::Input {
        sha256: hub.content.put(&scene),
        length: scene.len() as u64,
        destination: Bounded("/in/scene"),
    }];
    let mut work = assign(&hub, image, "cat /in/scene > /out/tile && ! echo x > /in/scene", false);
    work.inputs = List::new(&inputs);
    hub.say(device, &work).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    assert_eq!((reveal.cause, reveal.exit_code), (Cause::Exited, 0), "an input can be read and not written");
    let (manifest, _) = check(&hub, device, &work, &reveal);
    let tile = manifest.outputs.iter().find(|output| output.path == "out/tile").unwrap();
    assert_eq!(tile.sha256, inputs[0].sha256.to_string());

    let endless = assign(&hub, image, "echo begin; while true; do sleep 1; done", false);
    hub.say(device, &endless).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    hub.hear(&[Kind::Log]).await;
    let verdict = |assignment| Verdict {
        assignment,
        judgement: Judgement::Surplus,
        owed: Amount::ZERO,
        explanation: Bounded(""),
        earned: None,
    };
    hub.say(device, &verdict(work.assignment)).await;
    let explanation = Bounded("the buyer has changed their mind");
    hub.say(device, &work::Cancel { assignment: endless.assignment, explanation }).await;
    assert_eq!(containers_left(folder.path()).await, 0);
    let status = agent.status();
    assert!(status.tasks.is_empty(), "{status:?}");
    assert_eq!((status.earnings.open.as_str(), status.earnings.uncovered.as_str()), ("0", "0"));
    assert!(agent.stop().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_renews_itself() {
    let Some((folder, mut hub, agent)) = enrolling("a_certificate_renews_itself").await else { return };
    let heard = hub.hear(&[Kind::Enrol]).await;
    let enrol::Up::Request(request) = enrol::Up::read(&heard.frame()).unwrap() else { panic!("no request") };
    let (certificate, _) = hub.sign(request.csr.0, &heard.device);
    // Two thirds of it are over when the device looks.
    hub.grant(heard.device, request.nonce, &certificate, now_ms() + 3000).await;
    hub.welcome(1000).await;
    let heard = hub.hear(&[Kind::Enrol]).await;
    let enrol::Up::Renew(renew) = enrol::Up::read(&heard.frame()).unwrap() else { panic!("no renewal") };
    let (certificate, valid_until_ms) = hub.sign(renew.csr.0, &heard.device);
    hub.grant(heard.device, renew.nonce, &certificate, valid_until_ms).await;
    hub.welcome(1000).await;
    assert_eq!(agent.status().certificate_until_ms, Some(valid_until_ms));
    assert!(agent.stop().0.success());
    let kept = sosna_agent::identity::Enrolment::load(folder.path()).unwrap().unwrap();
    assert_eq!(kept.certificate.to_vec(), certificate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expired_on_a_shelf_is_renewed() {
    let Some((_folder, mut hub, agent)) = enrolling("a_certificate_that_expired_on_a_shelf_is_renewed").await
    else {
        return;
    };
    let heard = hub.hear(&[Kind::Enrol]).await;
    let enrol::Up::Request(request) = enrol::Up::read(&heard.frame()).unwrap() else { panic!("no request") };
    let (expired, _) = hub.sign_until(request.csr.0, &heard.device, Some(2020));
    // Its own clock tells it nothing; the broker does.
    hub.grant(heard.device, request.nonce, &expired, now_ms() + 86_400_000).await;
    let heard = hub.hear(&[Kind::Enrol]).await;
    let enrol::Up::Renew(renew) = enrol::Up::read(&heard.frame()).unwrap() else { panic!("no renewal") };
    let (certificate, valid_until_ms) = hub.sign(renew.csr.0, &heard.device);
    hub.grant(heard.device, renew.nonce, &certificate, valid_until_ms).await;
    hub.welcome(1000).await;
    assert!(agent.stop().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_nobody_has_is_a_clear_failure() {
    let Some(opening) = enrolled("an_image_that_nobody_has_is_a_clear_failure", false).await else { return };
    let Opening { folder: _folder, mut hub, agent: _agent, device, .. } = opening;
    let work = assign(&hub, Hash([3; 32]), "true", false);
    hub.say(device, &work).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    let heard = hub.hear(&[Kind::Result]).await;
    let Up::Failed(failed) = Up::read(&heard.frame()).unwrap() else { panic!("expected a failure") };
    assert_eq!(failed.cause, Cause::NoImage);
    assert!(failed.explanation.0.contains("could not be had from any source"), "{}", failed.explanation.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_pins_and_used_tokens_are_refused_clearly() {
    let Some((folder, mut hub)) = opening::hub("wrong_pins_and_used_tokens_are_refused_clearly", false).await
    else {
        return;
    };
    let run = |token: String| {
        let data = folder.path().to_owned();
        tokio::task::spawn_blocking(move || Agent::run_to_end(&data, Some(&token)))
    };

    let wrong = sosna_host::token::JoinToken { authority: Hash([1; 32]), ..hub.token() };
    let output = run(wrong.to_string()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("is not the hub that this device was told to trust"), "{text}");

    let running = run(hub.token().to_string());
    hub.turn_away(Refusal::UsedToken, "the token is used up; ask the operator for another one").await;
    let output = running.await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("ask the operator for another one"), "{text}");

    // Enrolled here, a token for another hub is refused.
    let agent = Agent::start(folder.path(), Some(&hub.token().to_string()));
    hub.admit().await;
    hub.welcome(1000).await;
    assert!(agent.stop().0.success());
    let other = ScriptedHub::start().await;
    let output = run(other.token().to_string()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("--data"), "{text}");
}
