//! What stays in the content store, who may put how much there, and who may name what.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};
use sosna_api::route;
use sosna_host::clock::SystemClock;
use sosna_hub::{
    Hub,
    content::{Collected, collect},
};
use sosna_protocol::{Hash, hash::sha256, identity::JobId};
use sosna_store::{Holder, JobState};

use crate::support::Setup;

fn path(bytes: &[u8]) -> String {
    route::fill(route::CONTENT, sha256(bytes))
}

async fn head(setup: &Setup, who: &str, bytes: &[u8]) -> StatusCode {
    let request = setup.request(Method::HEAD, &path(bytes), Some(who)).body(Body::empty()).unwrap();
    setup.send(request).await.status
}

/// The usual job with one input of these bytes.
fn with_input(setup: &Setup, bytes: &[u8]) -> Value {
    let mut job = setup.job();
    job["inputs"] =
        json!([{ "sha256": sha256(bytes).to_string(), "length": bytes.len(), "destination": "/in" }]);
    job
}

#[tokio::test]
async fn a_hash_is_no_key() {
    let setup = Setup::new().await;
    setup.device(1).await;
    setup.credit("buyer", "10").await;
    setup.credit("stranger", "10").await;
    let secret = b"the buyer's own";
    assert_eq!(setup.put(&path(secret), "buyer", secret).await.status, StatusCode::CREATED);
    assert_eq!(head(&setup, "buyer", secret).await, StatusCode::OK);
    // Who knows the name has no use for it, and does not even learn that it is here.
    for who in ["stranger", "admin", "owner"] {
        assert_eq!(head(&setup, who, secret).await, StatusCode::NOT_FOUND, "{who}");
    }
    let refused = setup.submit("stranger", "a", &with_input(&setup, secret)).await;
    let unknown = setup.submit("stranger", "b", &with_input(&setup, b"nowhere")).await;
    assert_eq!((refused.problem(), unknown.problem()), ("missing-content".into(), "missing-content".into()));
    let blank =
        |answer: &Value, bytes| answer["detail"].as_str().unwrap().replace(&sha256(bytes).to_string(), "-");
    let (one, other) = (refused.json(), unknown.json());
    assert_eq!(blank(&one, &secret[..]).replace("wrong", ""), blank(&other, b"nowhere"));
    // An image, likewise: nobody but the buyer has sent it.
    let image = setup.submit("stranger", "c", &setup.job()).await;
    assert_eq!(image.problem(), "missing-content");
    assert!(image.json()["detail"].as_str().unwrap().contains("manifest"), "{:?}", image.body);
    // Whoever has the bytes shows them, all of them, and gets the same answer as if they were new here.
    assert_eq!(setup.put(&path(secret), "stranger", b"the buyer's 0wn").await.problem(), "wrong-digest");
    assert_eq!(head(&setup, "stranger", secret).await, StatusCode::NOT_FOUND);
    assert_eq!(setup.put(&path(secret), "stranger", secret).await.status, StatusCode::CREATED);
    assert_eq!(setup.put(&path(secret), "stranger", secret).await.status, StatusCode::OK);
    assert_eq!(head(&setup, "stranger", secret).await, StatusCode::OK);
    let parts = setup.submit("buyer", "d", &with_input(&setup, secret)).await;
    assert_eq!(parts.status, StatusCode::CREATED, "{:?}", parts.body);
    // What a job of one's own has returned may be named, too.
    let job: JobId = parts.json()["id"].as_str().unwrap().parse().unwrap();
    let output = setup.hub.content.put(b"an output").unwrap();
    setup.write(move |tx| Box::pin(async move { tx.add_job_content(&job, &output).await })).await;
    let chained = setup.submit("buyer", "e", &with_input(&setup, b"an output")).await;
    assert_eq!(chained.status, StatusCode::CREATED, "{:?}", chained.body);
    let foreign = setup.submit("stranger", "f", &with_input(&setup, b"an output")).await;
    assert_eq!(foreign.problem(), "missing-content");
}

#[tokio::test]
async fn a_person_stores_so_much_that_no_job_uses() {
    let setup = Setup::with(|config| config.content.person_bytes = 25_000).await;
    setup.device(1).await;
    setup.credit("buyer", "10").await;
    let pieces: Vec<Vec<u8>> = (0..4).map(|number| vec![number; 10_000]).collect();
    for piece in &pieces[..2] {
        assert_eq!(setup.put(&path(piece), "stranger", piece).await.status, StatusCode::CREATED);
    }
    let full = setup.put(&path(&pieces[2]), "stranger", &pieces[2]).await;
    assert_eq!((full.status, full.problem()), (StatusCode::PAYLOAD_TOO_LARGE, "quota".to_owned()));
    assert!(full.json()["detail"].as_str().unwrap().contains("content.person_bytes"));
    assert_eq!(setup.hub.content.length(&sha256(&pieces[2])), None);
    // Everybody has a limit of their own, and what a job uses does not count: here the image's three parts, which are
    // tiny and count for a block each, and the piece that it is given.
    assert_eq!(setup.put(&path(&pieces[0]), "buyer", &pieces[0]).await.status, StatusCode::CREATED);
    assert_eq!(setup.put(&path(&pieces[1]), "buyer", &pieces[1]).await.problem(), "quota");
    let job = setup.submit("buyer", "a", &with_input(&setup, &pieces[0])).await;
    assert_eq!(job.status, StatusCode::CREATED, "{:?}", job.body);
    for piece in &pieces[1..3] {
        assert_eq!(setup.put(&path(piece), "buyer", piece).await.status, StatusCode::CREATED);
    }
    assert_eq!(setup.put(&path(&pieces[3]), "buyer", &pieces[3]).await.problem(), "quota");
    // Of two that arrive at once and do not fit together, no more than one is taken.
    let big = [vec![7; 20_000], vec![8; 20_000]];
    let (first, second) = (path(&big[0]), path(&big[1]));
    let both = tokio::join!(setup.put(&first, "owner", &big[0]), setup.put(&second, "owner", &big[1]));
    let taken = [both.0.status, both.1.status].iter().filter(|status| status.is_success()).count();
    assert!(taken <= 1, "{taken}");
}

#[tokio::test]
async fn many_tiny_pieces_are_not_little() {
    let setup = Setup::with(|config| config.content.person_bytes = 5 * 4096).await;
    for piece in 0..5_u8 {
        assert_eq!(setup.put(&path(&[piece]), "stranger", &[piece]).await.status, StatusCode::CREATED);
    }
    assert_eq!(setup.put(&path(b"more"), "stranger", b"more").await.problem(), "quota");
    // What they hold they may send again.
    assert_eq!(setup.put(&path(&[1]), "stranger", &[1]).await.status, StatusCode::OK);
}

/// A job's input may be named again in another one, long after it was sent: who asks for it holds it from then on.
#[tokio::test]
async fn what_a_job_has_returned_stays_for_who_has_asked_for_it() {
    let setup = Setup::with(|config| {
        config.content.unused_ms = 2000;
        config.content.results_ms = 100;
        config.content.person_bytes = 6 * 4096;
    })
    .await;
    setup.device(1).await;
    let job: JobId = setup.submitted().await.parse().unwrap();
    let outputs: Vec<Hash> =
        [&b"wanted"[..], b"not wanted"].iter().map(|bytes| setup.hub.content.put(bytes).unwrap()).collect();
    let large = setup.hub.content.put(&[7; 20_000]).unwrap();
    let end = setup.hub.now_ms();
    setup
        .write(move |tx| {
            Box::pin(async move {
                for output in outputs.iter().chain([&large]) {
                    tx.add_job_content(&job, output).await?;
                }
                tx.set_job_state(&job, JobState::Succeeded, Some(end)).await
            })
        })
        .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(head(&setup, "buyer", b"wanted").await, StatusCode::OK);
    assert_eq!(
        head(&setup, "buyer", &[7; 20_000]).await,
        StatusCode::PAYLOAD_TOO_LARGE,
        "it would be theirs"
    );
    tokio::time::sleep(Duration::from_millis(700)).await;
    collect(&setup.hub).await.unwrap();
    let is_there = |bytes: &[u8]| setup.hub.content.length(&sha256(bytes)).is_some();
    assert!(is_there(b"wanted") && !is_there(b"not wanted"));
    let next = setup.submit("buyer", "next", &with_input(&setup, b"wanted")).await;
    assert_eq!(next.status, StatusCode::CREATED, "{:?}", next.body);
}

#[tokio::test]
async fn the_store_and_the_disk_have_limits() {
    // The image's three parts count for a block each, and so does what comes.
    let setup = Setup::with(|config| config.content.store_bytes = 5 * 4096 - 1).await;
    collect(&setup.hub).await.unwrap();
    assert_eq!(setup.hub.keeping.stored(), 3 * 4096);
    // A hub that starts knows it before anybody sends anything.
    let again = Hub::open(setup.hub.config.clone(), SystemClock::shared()).await.unwrap().0;
    assert_eq!(again.keeping.stored(), 3 * 4096);
    let piece = vec![1; 4000];
    assert_eq!(setup.put(&path(&piece), "buyer", &piece).await.status, StatusCode::CREATED);
    let more = setup.put(&path(&[2; 4000]), "buyer", &[2; 4000]).await;
    assert_eq!((more.status, more.problem()), (StatusCode::INSUFFICIENT_STORAGE, "disk-full".to_owned()));
    assert!(more.json()["detail"].as_str().unwrap().contains("content.store_bytes"), "{:?}", more.body);
    let setup = Setup::with(|config| config.content.free_bytes = u64::MAX).await;
    let none = setup.put(&path(b"x"), "buyer", b"x").await;
    assert_eq!((none.status, none.problem()), (StatusCode::INSUFFICIENT_STORAGE, "disk-full".to_owned()));
    assert!(none.json()["detail"].as_str().unwrap().contains("content.free_bytes"), "{:?}", none.body);
}

#[tokio::test]
async fn what_nothing_needs_is_collected() {
    let setup = Setup::with(|config| {
        config.content.unused_ms = 300;
        config.content.results_ms = 1500;
    })
    .await;
    setup.device(1).await;
    setup.credit("buyer", "10").await;
    let buyer = || Holder::Person("buyer".to_owned());
    for bytes in [&b"input"[..], b"unused"] {
        setup.hold(buyer(), bytes).await;
    }
    assert_eq!(collect(&setup.hub).await.unwrap(), Collected::default(), "all of it is young");
    let job = setup.submit("buyer", "a", &with_input(&setup, b"input")).await;
    assert_eq!(job.status, StatusCode::CREATED, "{:?}", job.body);
    let id = job.json()["id"].as_str().unwrap().to_owned();
    let job: JobId = id.parse().unwrap();
    let result = setup.hub.content.put(b"result").unwrap();
    setup.write(move |tx| Box::pin(async move { tx.add_job_content(&job, &result).await })).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    // An upload that has just begun, and one that was sent again, stay.
    let mut incoming = setup.hub.content.incoming_content().unwrap();
    incoming.write(b"slow").unwrap();
    setup.hold(buyer(), b"asked for").await;
    assert_eq!(collect(&setup.hub).await.unwrap(), Collected { pieces: 1, bytes: 6 });
    let is_there = |bytes: &[u8]| setup.hub.content.length(&sha256(bytes)).is_some();
    assert!(!is_there(b"unused") && is_there(b"asked for"));
    assert!(is_there(b"input") && is_there(b"a layer") && is_there(b"result"), "a job needs them");
    assert_eq!(incoming.keep().unwrap(), sha256(b"slow"));
    assert_eq!(head(&setup, "buyer", b"unused").await, StatusCode::NOT_FOUND);
    // Once the job is over, its results stay longer than what it was given.
    let end = setup.hub.now_ms();
    setup
        .write(move |tx| {
            Box::pin(async move { tx.set_job_state(&job, JobState::Succeeded, Some(end)).await })
        })
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    collect(&setup.hub).await.unwrap();
    assert!(!is_there(b"input") && !is_there(b"a layer") && is_there(b"result"));
    assert_eq!(setup.get(&path(b"result"), "buyer").await.status, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    collect(&setup.hub).await.unwrap();
    assert!(!is_there(b"result"));
    for who in ["buyer", "admin"] {
        let gone = setup.get(&path(b"result"), who).await;
        assert_eq!((gone.status, gone.problem()), (StatusCode::GONE, "expired".to_owned()), "{who}");
        assert!(gone.json()["detail"].as_str().unwrap().contains("have expired"), "{:?}", gone.body);
    }
    assert_eq!(setup.get(&path(b"result"), "stranger").await.problem(), "not-found");
    let metrics = setup.get("/metrics", "admin").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(
        metrics.contains("sosna_content_collected_total") && metrics.contains("sosna_content_bytes 0"),
        "{metrics}"
    );
    assert!(!metrics.contains("sosna_content_collected_total 0"), "{metrics}");
}

/// Everything is collected at once that nothing needs; a job that was taken has all it names, whatever happened at
/// the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_was_taken_has_its_inputs() {
    let setup = Setup::with(|config| config.content.unused_ms = 0).await;
    setup.device(1).await;
    setup.credit("buyer", "1000").await;
    // From here on a job needs the image.
    assert_eq!(setup.submit("buyer", "first", &setup.job()).await.status, StatusCode::CREATED);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let collecting = tokio::spawn({
        let (hub, stop) = (setup.hub.clone(), stop.clone());
        async move {
            let mut pieces = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                pieces += collect(&hub).await.unwrap().pieces;
                tokio::task::yield_now().await;
            }
            pieces
        }
    });
    let (mut taken, mut missing, mut inputs) = (0, 0, Vec::<Hash>::new());
    for number in 0..120_u32 {
        let bytes = number.to_le_bytes();
        assert!(setup.put(&path(&bytes), "buyer", &bytes).await.status.is_success());
        let answer = setup.submit("buyer", &format!("key {number}"), &with_input(&setup, &bytes)).await;
        if answer.status == StatusCode::CREATED {
            taken += 1;
            inputs.push(sha256(&bytes));
        } else {
            assert_eq!(answer.problem(), "missing-content");
            missing += 1;
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let pieces = collecting.await.unwrap();
    for name in &inputs {
        assert!(setup.hub.content.length(name).is_some(), "a job's input was collected");
    }
    assert!(pieces > 0 || missing == 0, "{taken} taken, {missing} missing, {pieces} collected");
    eprintln!(
        "{taken} jobs taken, {missing} refused for what was collected before, {pieces} pieces collected"
    );
}
