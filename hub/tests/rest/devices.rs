//! Content, to and from devices: real TLS, real certificates.

use std::{net::SocketAddr, time::Duration, time::SystemTime};

use reqwest::{Client, StatusCode};
use sosna_broker::CertificateAuthority;
use sosna_host::manifest::ASSIGNMENT_HEADER;
use sosna_host::{
    clock::SystemClock,
    tls::{self, Pin, TlsKey},
};
use sosna_hub::{HubConfig, admin, content};
use sosna_protocol::{
    Address, Hash,
    hash::sha256,
    identity::{AssignmentId, JobId},
};
use sosna_store::{Certificate, NewAssignment};
use tokio::{net::TcpListener, sync::watch};

use crate::support::Setup;

struct Listening {
    setup: Setup,
    address: SocketAddr,
    device: Address,
    job: JobId,
    assignment: AssignmentId,
}

impl Listening {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(configure: impl FnOnce(&mut HubConfig)) -> Self {
        let setup = Setup::with(configure).await;
        let device = setup.device(1).await;
        let job: JobId = setup.submitted().await.parse().unwrap();
        let assignment = AssignmentId([5; 16]);
        let now = setup.hub.now_ms();
        setup
            .write(move |tx| {
                Box::pin(async move {
                    let task = tx.tasks_of(&job).await?[0].id;
                    let owner = Address([0x81; 20]);
                    let price = "0.1".parse().unwrap();
                    let new = NewAssignment {
                        id: assignment,
                        task,
                        device,
                        owner,
                        price,
                        lease_until_ms: now + 60_000,
                        created_ms: now,
                        time_ms: 60_000,
                    };
                    tx.put_assignment(&new).await?;
                    tx.accept_assignment(&assignment, now + 60_000, now).await
                })
            })
            .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = setup.hub.authority.read().await;
        let identity = authority.issue_server(&[], SystemTime::now(), Duration::from_secs(86_400)).unwrap();
        let config = content::config(&identity, &authority.trust()).unwrap();
        drop(authority);
        let (sender, receiver) = watch::channel(config);
        tokio::spawn(content::serve(setup.hub.clone(), listener, receiver, setup.stop.subscribe()));
        // As long as the listener lives, as in the hub.
        tokio::spawn(async move { sender.closed().await });
        Self { setup, address, device, job, assignment }
    }

    /// A client with a certificate for `device`, issued by the hub's authority or by another one.
    async fn client(&self, device: Address, other: Option<&CertificateAuthority>) -> Client {
        let key = TlsKey::generate().unwrap();
        let request = key.request("whatever").unwrap();
        let authority = self.setup.hub.authority.read().await;
        let signing = other.unwrap_or(&authority);
        let day = Duration::from_secs(86_400);
        let issued = signing.sign_device_csr(&request, &device, SystemTime::now(), day).unwrap();
        let certificate = Certificate {
            serial: issued.serial.0.to_vec(),
            device,
            issued_ms: 1,
            not_after_ms: u64::MAX >> 1,
        };
        if other.is_none() {
            self.setup.write(move |tx| Box::pin(async move { tx.put_certificate(&certificate).await })).await;
        }
        build(Hash(authority.spki_sha256()), Some((issued.der, &key)))
    }

    /// A request to store content for the device's assignment.
    fn put(&self, client: &Client, name: &[u8]) -> reqwest::RequestBuilder {
        client.put(self.url(name)).header(ASSIGNMENT_HEADER, self.assignment.to_string())
    }

    fn url(&self, bytes: &[u8]) -> String {
        format!("https://{}/content/sha256/{}", self.address, sha256(bytes))
    }
}

fn build(pin: Hash, identity: Option<(rustls_pki_types::CertificateDer<'static>, &TlsKey)>) -> Client {
    let config = tls::client(Pin::Key(pin), identity, Some(SystemClock::shared())).unwrap();
    Client::builder().tls_backend_preconfigured(config).no_proxy().http1_only().build().unwrap()
}

#[tokio::test]
async fn a_device_reads_what_its_work_needs_and_stores_what_it_makes() {
    let listening = Listening::new().await;
    let client = listening.client(listening.device, None).await;
    let layer = listening.url(b"a layer");
    let whole = client.get(&layer).send().await.unwrap();
    assert_eq!((whole.status(), &whole.bytes().await.unwrap()[..]), (StatusCode::OK, &b"a layer"[..]));
    let part = client.get(&layer).header("range", "bytes=2-").send().await.unwrap();
    assert_eq!(
        (part.status(), &part.bytes().await.unwrap()[..]),
        (StatusCode::PARTIAL_CONTENT, &b"layer"[..])
    );
    assert_eq!(client.head(&layer).send().await.unwrap().headers()["content-length"], "7");

    // What is somebody else's looks like what is not there; storing it tells nothing either.
    listening.setup.hub.content.put(b"secret").unwrap();
    let (secret, nothing) = (listening.url(b"secret"), listening.url(b"nothing"));
    let answers = [client.get(&secret).send().await.unwrap(), client.get(&nothing).send().await.unwrap()];
    let [other, none] = answers.map(|answer| (answer.status(), answer));
    assert_eq!((other.0, none.0), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
    assert_eq!(other.1.bytes().await.unwrap(), none.1.bytes().await.unwrap());
    assert_eq!(client.head(&secret).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    for bytes in [&b"secret"[..], b"new", b""] {
        let stored = listening.put(&client, bytes).body(bytes).header("content-length", bytes.len());
        assert_eq!(stored.send().await.unwrap().status(), StatusCode::CREATED);
        assert_eq!(client.get(listening.url(bytes)).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(listening.setup.hub.content.length(&sha256(b"new")), Some(3));
    let wrong = listening.put(&client, b"right").body("wrong").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let long = listening.put(&client, b"long").body(vec![0; (1 << 20) + 1]).send().await;
    assert!(long.is_err() || long.unwrap().status() == StatusCode::PAYLOAD_TOO_LARGE);

    // Once the work is over, so is the reading. What comes late still comes.
    let (id, job) = (listening.assignment, listening.job);
    listening
        .setup
        .write(move |tx| {
            Box::pin(async move {
                tx.add_job_content(&job, &sha256(b"new")).await?;
                tx.end_assignment(&id, sosna_store::AssignmentState::Expired, "").await
            })
        })
        .await;
    assert_eq!(client.get(&layer).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let late = listening.put(&client, b"late").body("late").send().await.unwrap();
    assert_eq!(late.status(), StatusCode::CREATED);
    // Until the task is over.
    listening
        .setup
        .write(move |tx| {
            Box::pin(async move {
                let task = tx.assignment(&id).await?.unwrap().task;
                tx.end_task(&task, sosna_store::TaskState::Failed, None, "", 1).await
            })
        })
        .await;
    let late = listening.put(&client, b"later").body("later").send().await.unwrap();
    assert_eq!(late.status(), StatusCode::GONE);
}

#[tokio::test]
async fn a_device_stores_what_its_assignment_may_leave_and_no_more() {
    let listening = Listening::new().await;
    let client = listening.client(listening.device, None).await;
    let none = client.put(listening.url(b"x")).body("x").send().await.unwrap();
    assert_eq!(none.status(), StatusCode::UNPROCESSABLE_ENTITY, "for no assignment");
    let other = AssignmentId([6; 16]).to_string();
    let other =
        client.put(listening.url(b"x")).header(ASSIGNMENT_HEADER, other).body("x").send().await.unwrap();
    assert_eq!(other.status(), StatusCode::GONE, "for somebody else's");
    // Whether it was stored for this assignment, it may ask; not whether the hub has it.
    let stored = async |bytes: &[u8]| {
        let asked =
            client.head(listening.url(bytes)).header(ASSIGNMENT_HEADER, listening.assignment.to_string());
        asked.send().await.unwrap().status()
    };
    assert_eq!(stored(b"a layer").await, StatusCode::NOT_FOUND);
    let put = listening.put(&client, b"a layer").body("a layer").send().await.unwrap();
    assert_eq!(put.status(), StatusCode::CREATED);
    assert_eq!(stored(b"a layer").await, StatusCode::OK);
    // Half of it is lost: it is to be sent again, and is whole then.
    let path = listening.setup.hub.content.path(&sha256(b"a layer"));
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
    assert_eq!(stored(b"a layer").await, StatusCode::NOT_FOUND);
    listening.put(&client, b"a layer").body("a layer").send().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"a layer");
    assert_eq!(stored(b"a layer").await, StatusCode::OK);
    // No disk, the usual logs, and the largest manifest: 18 MiB, in pieces of up to one.
    let mut taken = 0;
    let refused = loop {
        assert!(taken < 19, "there is an end");
        let piece = vec![taken; 1 << 20];
        let put = listening.put(&client, &piece).body(piece).send().await.unwrap();
        if put.status() != StatusCode::CREATED {
            break put;
        }
        taken += 1;
    };
    assert_eq!((refused.status(), taken), (StatusCode::PAYLOAD_TOO_LARGE, 17));
    let problem: serde_json::Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["code"], "quota");
    // What it has stored it may send again: a connection that broke before the answer.
    let again = vec![3; 1 << 20];
    let again = listening.put(&client, &again).body(again).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(listening.setup.hub.metrics.content_refused.get(), 1);
}

#[tokio::test]
async fn a_device_stores_as_many_pieces_as_its_task_may_leave_files() {
    let listening = Listening::with(|config| config.limits.inodes = 5).await;
    let client = listening.client(listening.device, None).await;
    // Both streams and the manifest besides.
    for piece in 0..8_u8 {
        let put = listening.put(&client, &[piece]).body(vec![piece]).send().await.unwrap();
        assert_eq!(put.status(), StatusCode::CREATED, "{piece}");
    }
    let more = listening.put(&client, b"more").body("more").send().await.unwrap();
    assert_eq!(more.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_certificates_that_hold_are_let_in() {
    let listening = Listening::new().await;
    let pin = Hash(listening.setup.hub.authority.read().await.spki_sha256());
    let url = listening.url(b"a layer");
    // TLS 1.3: the client learns that it is refused when it reads.
    let nobody = build(pin, None).get(&url).send().await;
    assert!(nobody.is_err(), "{nobody:?}");
    let folder = tempfile::tempdir().unwrap();
    let other = CertificateAuthority::create(folder.path().join("other")).unwrap();
    let stranger = listening.client(listening.device, Some(&other)).await.get(&url).send().await;
    assert!(stranger.is_err(), "{stranger:?}");
    // One of the hub's own authority for a device that is not enrolled, or not under this serial number.
    let key = TlsKey::generate().unwrap();
    let authority = listening.setup.hub.authority.read().await;
    let request = key.request("x").unwrap();
    let day = Duration::from_secs(86_400);
    let issued = authority.sign_device_csr(&request, &listening.device, SystemTime::now(), day).unwrap();
    drop(authority);
    let unknown = build(pin, Some((issued.der, &key))).get(&url).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::FORBIDDEN);

    let client = listening.client(listening.device, None).await;
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::OK);
    // On the connection that is open already, too.
    admin::revoke(&listening.setup.hub, listening.device, None).await.unwrap();
    let revoked = client.get(&url).send().await.unwrap();
    assert_eq!(revoked.status(), StatusCode::FORBIDDEN);
    assert_eq!(revoked.headers()["content-type"], "application/problem+json");
    let id = listening.assignment;
    let given_up =
        listening.setup.write(move |tx| Box::pin(async move { tx.assignment(&id).await })).await.unwrap();
    assert_eq!(given_up.state, sosna_store::AssignmentState::Cancelled);
}

#[tokio::test]
async fn a_hub_that_stops_lets_go() {
    let listening = Listening::new().await;
    let client = listening.client(listening.device, None).await;
    let url = listening.url(b"a layer");
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::OK);
    listening.setup.stop.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(client.get(&url).send().await.is_err());
}
