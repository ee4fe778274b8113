//! A store in a folder of its own, and the shortest ways to fill it.

use sosna_protocol::{
    Address, Amount, Hash, Signature,
    eip712::Delegation,
    identity::{AssignmentId, JobId, TaskId},
    resources::{Arch, Class},
};
use sosna_store::{
    Job, JobState, JoinToken, NewAssignment, NewDevice, NewJob, Owner, Role, Store, StoreError, Tx, User,
    Work,
};
use tempfile::TempDir;

pub(crate) const CLASS: Class = Class { arch: Arch::Armv7, level: 7 };
pub(crate) const JOB: JobId = JobId([1; 16]);
pub(crate) const TASK: TaskId = TaskId([2; 16]);

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&folder.path().join("hub.sqlite")).await.unwrap();
        Self { store, folder }
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'t> FnOnce(&'t mut Tx) -> Work<'t, T, StoreError> + Send + 'static,
    ) -> T {
        self.store.write(work).await.unwrap()
    }

    pub(crate) async fn users(&self) -> Vec<String> {
        users(&self.store).await
    }

    /// Devices 1 to 3 of owners of their own, and a job of one task.
    pub(crate) async fn filled() -> Self {
        let bench = Self::new().await;
        bench
            .write(|tx| {
                Box::pin(async move {
                    for number in 1..=3 {
                        put_device(tx, number).await?;
                    }
                    tx.put_job(&job()).await?;
                    tx.put_task(&TASK, &JOB, 0, 2).await
                })
            })
            .await;
        bench
    }
}

pub(crate) async fn users(store: &Store) -> Vec<String> {
    let users = store.read(|tx| Box::pin(async move { tx.users().await })).await;
    users.map_err(|error: StoreError| error).unwrap().into_iter().map(|user| user.name).collect()
}

pub(crate) async fn add_user(store: &Store, name: String) -> Result<(), StoreError> {
    store.write(move |tx| Box::pin(async move { put_user(tx, &name).await })).await
}

pub(crate) async fn put_user(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    let user = User { name: name.to_owned(), role: Role::Buyer, created_ms: 1 };
    tx.put_user(&user, &sosna_protocol::hash::sha256(name.as_bytes())).await
}

pub(crate) async fn put_device(tx: &mut Tx, number: u8) -> Result<(), StoreError> {
    let (owner, secret_hash) = (Address([number | 0x80; 20]), Hash([number; 32]));
    tx.put_owner(&Owner { address: owner, admitted: false, label: "a".to_owned(), created_ms: 1 }).await?;
    tx.put_join_token(&JoinToken {
        delegation: Delegation { hub: Address([9; 20]), secret_hash, expires: 100, uses: 2 },
        owner,
        signature: Signature([3; 65]),
        used: 0,
        labels: "{}".to_owned(),
        created_ms: 1,
    })
    .await?;
    tx.put_device(&NewDevice {
        address: Address([number; 20]),
        owner,
        token: secret_hash,
        hostname: "h".to_owned(),
        labels: "{}".to_owned(),
        class: CLASS,
        agent: "0".to_owned(),
        encryption_key: Hash([4; 32]),
        enrolled_ms: 5,
    })
    .await
}

pub(crate) fn job() -> NewJob {
    let job = Job {
        id: JOB,
        buyer: "buyer".to_owned(),
        name: "n".to_owned(),
        spec: "{}".to_owned(),
        request_hash: Hash([5; 32]),
        state: JobState::Queued,
        tasks: 1,
        reserved: Amount::from_units(20),
        spent: Amount::ZERO,
        cap: Amount::from_units(10),
        image_class: "registry.test/tool".to_owned(),
        created_ms: 7,
        ended_ms: None,
    };
    NewJob { job, idempotency: "key".to_owned(), content: vec![Hash([6; 32])] }
}

pub(crate) fn assignment(number: u8, device: u8, created_ms: u64) -> NewAssignment {
    NewAssignment {
        id: AssignmentId([number; 16]),
        task: TASK,
        device: Address([device; 20]),
        owner: Address([device | 0x80; 20]),
        price: Amount::from_units(10),
        lease_until_ms: created_ms + 100,
        created_ms,
        time_ms: 5000,
    }
}
