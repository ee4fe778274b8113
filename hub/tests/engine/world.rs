//! A hub without listeners on a folder of its own, and the broker's place taken by one that records.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::json;
use sosna_broker::{Broker, BrokerError, Delivery, ServerIdentity, TrustBundle};
use sosna_host::{clock::SystemClock, identity::IdentityKey};
use sosna_hub::{Hub, HubConfig, HubError, admin, hub::Addresses, intake::Intake, serve};
use sosna_protocol::{
    Address, Amount, Hash,
    eip712::{Delegation, Domain, Typed as _},
    hash::sha256,
    identity::{JobId, Sign as _},
    topic::Kind,
};
use sosna_store::{Account, Assignment, Holder, Job, JobState, Role, Store, StoreError, Task, Tx, Work};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::device::Device;

/// Takes the place of a broker (which has tests of its own): keeps what it is given.
#[derive(Debug, Default)]
pub(crate) struct RecordingBroker {
    pub(crate) sent: Mutex<Vec<(Address, Vec<u8>)>>,
    pub(crate) dismissed: Mutex<Vec<Address>>,
}

#[async_trait]
impl Broker for RecordingBroker {
    async fn publish_to_device(
        &self,
        device: &Address,
        _kind: Kind,
        payload: &[u8],
        _qos1: bool,
    ) -> Result<Delivery, BrokerError> {
        self.sent.lock().unwrap().push((*device, payload.to_vec()));
        Ok(Delivery::Sent)
    }

    async fn publish_to_bootstrap(&self, device: &Address, payload: &[u8]) -> Result<Delivery, BrokerError> {
        self.sent.lock().unwrap().push((*device, payload.to_vec()));
        Ok(Delivery::Sent)
    }

    async fn disconnect(&self, device: &Address) -> bool {
        self.dismissed.lock().unwrap().push(*device);
        true
    }

    fn is_serving(&self) -> bool {
        true
    }

    fn connections(&self) -> usize {
        0
    }

    fn connected(&self) -> Vec<Address> {
        Vec::new()
    }

    fn is_connected(&self, _device: &Address) -> bool {
        false
    }

    async fn reload_certificates(&self, _: &ServerIdentity, _: &TrustBundle) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn shutdown(&self) {}
}

pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    pub(crate) broker: Arc<RecordingBroker>,
    pub(crate) intake: Intake,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) folder: TempDir,
    pub(crate) config: HubConfig,
    workers: JoinSet<()>,
}

/// What the hub does about time takes up to a quarter of a second; a test machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut HubConfig)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config =
            HubConfig { data: folder.path().join("hub").display().to_string(), ..HubConfig::default() };
        config.times.retry_ms = 0;
        config.times.ask_again_ms = 0;
        config.probation.delay_ms = 0;
        config.probation.check_budget = Amount::ZERO.into();
        change(&mut config);
        let clock = Arc::new(SystemClock::default());
        let (hub, broker, workers) = start(&config, &clock).await;
        admin::add_user(&hub.store, "buyer", Role::Buyer, hub.now_ms()).await.unwrap();
        admin::grant_credit(&hub, "all", "buyer", "1000".parse().unwrap()).await.unwrap();
        Self { intake: Intake(hub.clone()), hub, broker, clock, folder, config, workers }
    }

    /// Ends the hub as a crash would (nothing is told, nothing flushed) and starts it on what is on disk.
    pub(crate) async fn restart(&mut self) {
        self.workers.shutdown().await;
        (self.hub, self.broker, self.workers) = start(&self.config, &self.clock).await;
        self.intake = Intake(self.hub.clone());
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, ms: u64) {
        self.clock.set(self.hub.now_ms() + ms);
    }

    /// A join token of an owner; its secret.
    pub(crate) async fn token(&self, owner: &IdentityKey, uses: u32, ttl_s: u64) -> Hash {
        let secret = Hash(sosna_host::random());
        let expires = self.hub.now_ms() / 1000 + ttl_s;
        let secret_hash = sha256(&secret.0);
        let delegation = Delegation { hub: self.hub.address(), secret_hash, expires, uses };
        let signature = delegation.sign(&Domain::off_chain(self.hub.address()), owner).unwrap();
        let spec = serde_json::from_value(json!({
            "owner": format!("0x{}", owner.address()), "secret_hash": secret_hash.to_string(),
            "expires": expires, "uses": uses, "signature": signature.to_string(),
        }));
        admin::create_join_token(&self.hub, (uses, ttl_s), BTreeMap::new(), Some(spec.unwrap()), None)
            .await
            .unwrap();
        secret
    }

    /// A device of an admitted owner of its own, enrolled and greeted.
    pub(crate) async fn device(&self) -> Device {
        let device = self.stranger(&IdentityKey::generate()).await;
        admin::admit_owner(&self.hub, device.owner).await.unwrap();
        device
    }

    pub(crate) async fn devices(&self, count: usize) -> Vec<Device> {
        let mut devices = Vec::new();
        for _ in 0..count {
            devices.push(self.device().await);
        }
        devices
    }

    /// A device of an owner who is not admitted, enrolled and greeted.
    pub(crate) async fn stranger(&self, owner: &IdentityKey) -> Device {
        let secret = self.token(owner, 1, 1000).await;
        let mut device = Device::new(owner.address());
        device.enrol(self, secret).await;
        device.hello(self).await;
        device
    }

    /// Submits a job of so many tasks and replicas.
    pub(crate) async fn submit(&self, tasks: u32, replicas: u32) -> JobId {
        self.submit_for(tasks, replicas, None).await
    }

    pub(crate) async fn submit_for(&self, tasks: u32, replicas: u32, max_price: Option<&str>) -> JobId {
        let layer = self.hub.content.put(b"a layer").unwrap();
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config_name = self.hub.content.put(config).unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{config_name}"), "size": config.len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{layer}"), "size": 7 }],
        });
        let manifest = self.hub.content.put(manifest.to_string().as_bytes()).unwrap();
        let now = self.hub.now_ms();
        self.hub
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let buyer = Holder::Person("buyer".to_owned());
                    for name in [layer, config_name, manifest] {
                        tx.hold_content(&buyer, &name, 1, now).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await
            .unwrap();
        let verification = if replicas == 1 { "none".to_owned() } else { format!("replicate:{replicas}") };
        let mut request = json!({
            "image": { "content": { "manifest": manifest.to_string(), "platform": "amd64" } },
            "command": ["/bin/true"], "tasks": tasks, "timeout_ms": 60_000, "verification": verification,
            "resources": { "cpu_millis": 1000, "memory": 64 << 20, "disk": 0 },
        });
        if let Some(most) = max_price {
            request["max_price"] = most.into();
        }
        let request = serde_json::from_value(request).unwrap();
        let key = Hash(sosna_host::random()).to_string();
        self.hub.submit("buyer", &key, request).await.unwrap().job.id
    }

    pub(crate) async fn read<T, F>(&self, work: F) -> T
    where
        F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T, HubError>,
    {
        self.hub.store.read(work).await.unwrap()
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.read(move |tx| Box::pin(async move { Ok(tx.job(&id).await?.unwrap()) })).await
    }

    pub(crate) async fn tasks(&self, id: JobId) -> Vec<Task> {
        self.read(move |tx| Box::pin(async move { Ok(tx.tasks_of(&id).await?) })).await
    }

    pub(crate) async fn assignments(&self, id: JobId) -> Vec<Assignment> {
        self.read(move |tx| Box::pin(async move { Ok(tx.assignments_of_job(&id).await?) })).await
    }

    pub(crate) async fn stored(&self, device: &Device) -> sosna_store::Device {
        let address = device.address();
        self.read(move |tx| Box::pin(async move { Ok(tx.device(&address).await?.unwrap()) })).await
    }

    pub(crate) async fn balance(&self, account: Account) -> Amount {
        self.read(move |tx| Box::pin(async move { Ok(tx.balance(&account).await?) })).await
    }

    /// What a device was ever given.
    pub(crate) async fn earned(&self, device: &Device) -> Amount {
        self.balance(Account::Device(device.address())).await
    }

    /// Waits until a job has ended, and says how; the books must add up then.
    pub(crate) async fn ended(&self, id: JobId) -> JobState {
        let until = Instant::now() + SOON;
        loop {
            let job = self.job(id).await;
            if job.state.is_final() {
                self.check_books().await;
                assert_eq!(
                    self.balance(Account::Job(id)).await,
                    Amount::ZERO,
                    "the reservation was not released"
                );
                return job.state;
            }
            assert!(Instant::now() < until, "the job has not ended: {:?}", self.assignments(id).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until something of a job's assignments is so.
    pub(crate) async fn until(&self, id: JobId, what: impl Fn(&[Assignment]) -> bool) {
        let until = Instant::now() + SOON;
        loop {
            let all = self.assignments(id).await;
            if what(&all) {
                return;
            }
            assert!(Instant::now() < until, "it does not happen: {all:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn check_books(&self) {
        let accounts = self.read(|tx| Box::pin(async move { Ok(tx.accounts().await?) })).await;
        let (mut taken, mut given) = (0, 0);
        for (name, one, other) in accounts {
            let may =
                name == "grants" || ["verification:", "boinc:"].iter().any(|kind| name.starts_with(kind));
            assert!(may || other <= one, "{name} is overdrawn");
            taken += one.units();
            given += other.units();
        }
        assert_eq!(taken, given);
    }

    pub(crate) async fn store_copy(&self) -> std::path::PathBuf {
        let file = self.folder.path().join("copy.sqlite");
        self.hub.store.copy_to(&file).await.unwrap();
        file
    }

    /// As after a restoration: the hub goes on with an older copy of its store, in a new epoch.
    pub(crate) async fn restore(&mut self, copy: &std::path::Path) {
        self.workers.shutdown().await;
        // Into a folder of its own, as a restoration does: the old store's files may still be open.
        let data = self.folder.path().join(format!("restored-{}", self.hub.now_ms()));
        let copied = std::process::Command::new("cp").arg("-a").arg(&self.config.data).arg(&data).status();
        assert!(copied.unwrap().success());
        for name in ["hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm"] {
            // Gone already where the last connection was closed in order.
            let _ = std::fs::remove_file(data.join(name));
        }
        std::fs::copy(copy, data.join("hub.sqlite")).unwrap();
        self.config.data = data.display().to_string();
        let store = Store::open(&data.join("hub.sqlite")).await.unwrap();
        store
            .write(|tx| Box::pin(async move { tx.raise_epoch().await.map_err(HubError::from) }))
            .await
            .unwrap();
        drop(store);
        self.restart().await;
    }
}

async fn start(
    config: &HubConfig,
    clock: &Arc<SystemClock>,
) -> (Arc<Hub>, Arc<RecordingBroker>, JoinSet<()>) {
    // Another test of this process may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (hub, waiting) = Hub::open(config.clone(), clock.clone()).await.unwrap();
    hub.addresses
        .set(Addresses {
            host: "hub.test".to_owned(),
            http: "http://hub.test:8080".to_owned(),
            main: "hub.test:8883".to_owned(),
            bootstrap: 8884,
            content: "https://hub.test:8885/content".to_owned(),
        })
        .unwrap();
    let broker = Arc::new(RecordingBroker::default());
    assert!(hub.broker.set(broker.clone()).is_ok());
    let workers = serve::workers(&hub, waiting);
    (hub, broker, workers)
}
