//! A hub with people, a buyer's credit and devices, without listeners; and a client that speaks to its router.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header::AUTHORIZATION},
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sosna_host::{clock::SystemClock, identity::IdentityKey};
use sosna_hub::{Hub, HubConfig, admin, api, hub::Addresses};
use sosna_protocol::{
    Address, Amount, Hash,
    eip712::{Delegation, Domain, Typed as _},
    hash::sha256,
    identity::Sign as _,
    resources::{Arch, Ask, Class, Resources},
};
use sosna_store::{Described, Holder, JoinToken, NewDevice, Owner, Role, StoreError};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;

pub(crate) struct Setup {
    pub(crate) hub: Arc<Hub>,
    pub(crate) router: Router,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) tokens: BTreeMap<&'static str, String>,
    pub(crate) folder: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of a problem, which must be one in every respect.
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{:?}", self.body);
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        let code = body["code"].as_str().unwrap().to_owned();
        assert_eq!(body["type"], format!("urn:sosna:problem:{code}"));
        assert!(!body["title"].as_str().unwrap().is_empty() && !body["detail"].as_str().unwrap().is_empty());
        code
    }
}

impl Setup {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A hub that is configured in some way of its own.
    pub(crate) async fn with(configure: impl FnOnce(&mut HubConfig)) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        let mut config =
            HubConfig { data: folder.path().join("hub").display().to_string(), ..HubConfig::default() };
        config.limits.content_bytes = 1 << 20;
        config.probation.check_budget = Amount::ZERO.into();
        config.content.free_bytes = 1 << 20;
        // The tests' registries.
        config.registry.private = vec!["127.0.0.1".to_owned()];
        configure(&mut config);
        let (hub, mut outbound) = Hub::open(config, SystemClock::shared()).await.unwrap();
        tokio::spawn(async move { while outbound.recv().await.is_some() {} });
        hub.addresses
            .set(Addresses {
                host: "hub.test".to_owned(),
                http: "http://hub.test:8080".to_owned(),
                main: "hub.test:8883".to_owned(),
                bootstrap: 8884,
                content: "https://hub.test:8885/content".to_owned(),
            })
            .unwrap();
        let mut tokens = BTreeMap::new();
        for (name, role) in [
            ("admin", Role::Admin),
            ("operator", Role::Operator),
            ("buyer", Role::Buyer),
            ("stranger", Role::Buyer),
            ("owner", Role::Owner),
        ] {
            tokens.insert(name, admin::add_user(&hub.store, name, role, hub.now_ms()).await.unwrap().token);
        }
        let (stop, shutdown) = watch::channel(false);
        let router = api::router(hub.clone(), shutdown);
        let setup = Self { hub, router, stop, tokens, folder };
        for part in image_parts() {
            setup.hold(Holder::Person("buyer".to_owned()), part.as_bytes()).await;
        }
        setup
    }

    /// Content of these bytes, as if somebody had sent it.
    pub(crate) async fn hold(&self, holder: Holder, bytes: &[u8]) -> Hash {
        let name = self.hub.content.put(bytes).unwrap();
        let (length, now) = (bytes.len() as u64, self.hub.now_ms());
        self.write(move |tx| Box::pin(async move { tx.hold_content(&holder, &name, length, now).await }))
            .await;
        name
    }

    /// A device of an owner of its own, described as one with 4 cores.
    pub(crate) async fn device(&self, number: u8) -> Address {
        let (address, owner) = (Address([number; 20]), Address([number | 0x80; 20]));
        let hub = self.hub.clone();
        let device = self
            .hub
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = hub.now_ms();
                    let secret_hash = Hash([number; 32]);
                    let delegation =
                        Delegation { hub: hub.address(), secret_hash, expires: u64::MAX >> 1, uses: 9 };
                    let signature = delegation.sign(&Domain::off_chain(hub.address()), &hub.owner).unwrap();
                    tx.put_owner(&Owner {
                        address: owner,
                        admitted: true,
                        label: String::new(),
                        created_ms: now,
                    })
                    .await?;
                    let token = JoinToken {
                        delegation,
                        owner,
                        signature,
                        used: 0,
                        labels: "{}".to_owned(),
                        created_ms: now,
                    };
                    tx.put_join_token(&token).await?;
                    let class = Class { arch: Arch::X86_64, level: 3 };
                    tx.put_device(&NewDevice {
                        address,
                        owner,
                        token: secret_hash,
                        hostname: format!("device-{number}"),
                        labels: "{}".to_owned(),
                        class,
                        agent: "0.1.0".to_owned(),
                        encryption_key: Hash([number; 32]),
                        enrolled_ms: now + u64::from(number),
                    })
                    .await?;
                    let described = Described {
                        class,
                        agent: "0.1.0".to_owned(),
                        resources: Resources {
                            cpu_millis: 4000,
                            memory: 4 << 30,
                            disk: 10 << 30,
                            inodes: 1 << 20,
                            pids: 1000,
                        },
                        ask: Ask { minimum: "0.01".parse().unwrap(), ..Ask::default() },
                        missing_limits: "[]".to_owned(),
                        exposure_limit: Some("5".parse().unwrap()),
                        setting: sosna_store::Setting::default(),
                    };
                    tx.describe_device(&address, &described, now).await?;
                    tx.device(&address).await
                })
            })
            .await
            .unwrap()
            .unwrap();
        let mut fleet = self.hub.fleet();
        fleet.describe(device);
        fleet.get_mut(&address).unwrap().online = true;
        address
    }

    /// An image of one layer in the hub's content store, as a job names it. The buyer has sent it.
    pub(crate) fn image(&self) -> Value {
        let parts = image_parts();
        for part in &parts {
            self.hub.content.put(part.as_bytes()).unwrap();
        }
        let manifest = sha256(parts[2].as_bytes()).to_string();
        json!({ "content": { "manifest": manifest, "platform": "amd64", "name": "test image" } })
    }

    /// A job of two tasks that may cost 1 SNM.
    pub(crate) fn job(&self) -> Value {
        json!({
            "name": "two tasks", "image": self.image(), "command": ["/bin/true"], "tasks": 2, "timeout_ms": 60_000,
            "resources": { "cpu_millis": 1000, "memory": 64 << 20, "disk": 0 }, "outputs": ["/out"], "max_price": "1",
        })
    }

    /// Grants the buyer credit.
    pub(crate) async fn credit(&self, buyer: &str, amount: &str) {
        let amount: Amount = amount.parse().unwrap();
        let key = Hash(sosna_host::random()).to_string();
        assert!(admin::grant_credit(&self.hub, &key, buyer, amount).await.unwrap());
    }

    /// Submits [`Setup::job`] for the buyer and returns its id.
    pub(crate) async fn submitted(&self) -> String {
        self.credit("buyer", "10").await;
        let key = Hash(sosna_host::random()).to_string();
        let answer = self.submit("buyer", &key, &self.job()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn submit(&self, who: &str, key: &str, job: &Value) -> Answer {
        let request = self.request(Method::POST, "/v1/jobs", Some(who)).header("idempotency-key", key);
        let request = request.header("content-type", "application/json");
        self.send(request.body(Body::from(job.to_string())).unwrap()).await
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        who: Option<&str>,
    ) -> axum::http::request::Builder {
        let request = Request::builder().method(method).uri(path);
        match who {
            Some(who) => request.header(AUTHORIZATION, format!("Bearer {}", self.tokens[who])),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str, who: &str) -> Answer {
        self.send(self.request(Method::GET, path, Some(who)).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, who: &str, body: &Value) -> Answer {
        self.with_json(Method::POST, path, who, body).await
    }

    pub(crate) async fn with_json(&self, method: Method, path: &str, who: &str, body: &Value) -> Answer {
        let request = self.request(method, path, Some(who)).header("content-type", "application/json");
        let request = request.header("idempotency-key", "a key");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn put(&self, path: &str, who: &str, bytes: &[u8]) -> Answer {
        let request = self.request(Method::PUT, path, Some(who)).header("content-length", bytes.len());
        self.send(request.body(Body::from(bytes.to_vec())).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// The answer before its body: of streams.
    pub(crate) async fn open(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Does something in the store.
    pub(crate) async fn write<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut sosna_store::Tx) -> sosna_store::Work<'t, T, StoreError> + Send + 'static,
    {
        self.hub.store.write(work).await.unwrap()
    }
}

/// A delegation by an owner's key, as the interface takes it.
pub(crate) fn delegation(hub: &Hub, key: &IdentityKey, secret: &[u8], expires: u64) -> Value {
    let delegation = Delegation { hub: hub.address(), secret_hash: sha256(secret), expires, uses: 3 };
    let signature = delegation.sign(&Domain::off_chain(hub.address()), key).unwrap();
    json!({
        "owner": format!("0x{}", key.address()), "secret_hash": delegation.secret_hash.to_string(),
        "expires": expires, "uses": 3, "signature": signature.to_string(),
    })
}

/// Layer, configuration and manifest of an image.
pub(crate) fn image_parts() -> [String; 3] {
    let layer = "a layer".to_owned();
    let config =
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_owned();
    let digest = |text: &str| format!("sha256:{}", sha256(text.as_bytes()));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len() }],
    });
    [layer, config, manifest.to_string()]
}
