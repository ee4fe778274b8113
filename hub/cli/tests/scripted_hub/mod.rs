//! A hub that says what a test tells it to say: a test double for the command line's own tests. It keeps content and
//! jobs in memory, runs nothing, and answers over real sockets. End-to-end tests use the real hub.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::Listener,
};
use data_encoding::BASE64;
use serde_json::Value;
use sosna_api::{
    Code, Problem,
    device::{
        Claim, ClassReputation, Device, DeviceDetail, DeviceList, DeviceState, DeviceSystem, Drain, Labels,
        Reputation, Voucher,
    },
    event::LogChunk,
    hub::{HubInfo, Listeners},
    job::{Job, JobDetail, JobList, JobPrice, JobState, NewJob, TaskCounts, Verification},
    ledger::{Account, Ledger, NewCredit},
    owner::{JoinTemplate, JoinTokenCreated, NewJoinToken, Owner, OwnerList},
    problem, route,
    task::{Constraint, Excluded, Task, TaskState, Unplaced},
    user::{Role, User},
};
use sosna_protocol::{
    Address, Hash, Signature,
    hash::sha256,
    identity::{AssignmentId, JobId, TaskId},
    message::log::Stream,
    resources::{Arch, Class},
    result::Cause,
};
use tokio::net::TcpListener;

pub const TOKEN: &str = "the-token-of-alice";

/// What the hub holds, and what it was asked.
#[derive(Default)]
pub struct Inner {
    pub content: HashMap<String, Vec<u8>>,
    pub puts: usize,
    pub jobs: Vec<JobDetail>,
    pub logs: Vec<LogChunk>,
    /// The idempotency keys of submissions, in order, refused ones too.
    pub keys: Vec<String>,
    /// How many submissions are told that the hub is busy before one is taken.
    pub busy: usize,
    /// How many connections of each stream break in the middle.
    pub breaks: usize,
    /// How a submitted job ends: one exit code a task.
    pub exit_codes: Vec<u8>,
    /// What submissions are refused with.
    pub refusal: Option<Problem>,
    pub labels: BTreeMap<String, String>,
    pub draining: bool,
    pub authority: [u8; 32],
    /// Names another authority in join tokens.
    pub lies: bool,
    pub submitted: Vec<NewJob>,
}

#[derive(Clone, Default)]
pub struct ScriptedHub {
    inner: Arc<Mutex<Inner>>,
}

pub fn device_address() -> Address {
    Address([0x5a; 20])
}

pub fn job_id(number: u8) -> JobId {
    JobId([number; 16])
}

impl ScriptedHub {
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Serves until the test ends; the address.
    pub async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.serve(listener);
        format!("http://{address}")
    }

    pub fn serve<L: Listener<Addr: std::fmt::Debug>>(&self, listener: L) {
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }

    fn router(&self) -> Router {
        let guarded = Router::new()
            .route(route::ME, get(me))
            .route(route::JOBS, get(jobs).post(submit))
            .route(route::JOB, get(job))
            .route(route::JOB_CANCEL, post(cancel))
            .route(route::JOB_EVENTS, get(events))
            .route(route::JOB_LOGS, get(logs))
            .route(route::CONTENT, get(content).put(put_content))
            .route(route::DEVICES, get(devices))
            .route(route::DEVICE, get(device))
            .route(route::DEVICE_DRAIN, post(drain))
            .route(route::DEVICE_LABEL, post(label))
            .route(route::JOIN_TOKENS, post(join_token))
            .route(route::OWNERS, get(owners))
            .route(route::OWNER_ADMIT, post(admit))
            .route(route::LEDGER, get(ledger))
            .route(route::LEDGER_CREDIT, post(credit))
            .layer(middleware::from_fn(authenticate));
        guarded.route(route::HUB, get(hub)).layer(DefaultBodyLimit::max(64 << 20)).with_state(self.clone())
    }
}

fn refuse(code: Code, detail: &str) -> Response {
    answer(&Problem::new(code, detail))
}

fn answer(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, [(header::CONTENT_TYPE, problem::MEDIA_TYPE)], serde_json::to_vec(problem).unwrap())
        .into_response()
}

async fn authenticate(request: Request, next: Next) -> Response {
    let expected = format!("Bearer {TOKEN}");
    match request.headers().get(header::AUTHORIZATION) {
        Some(value) if value.as_bytes() == expected.as_bytes() => next.run(request).await,
        _ => refuse(Code::Unauthenticated, "no user has this token; ask the operator for a new one"),
    }
}

async fn hub(State(hub): State<ScriptedHub>) -> Json<HubInfo> {
    Json(HubInfo {
        address: Address([0xab; 20]).into(),
        version: "0.1.0".to_owned(),
        epoch: 0,
        authority: Hash(hub.inner().authority).into(),
        authority_pem: String::new(),
        listeners: Listeners { http: "h:1".to_owned(), main: "h:2".to_owned(), bootstrap: "h:3".to_owned() },
        chain: None,
        time_ms: 1,
    })
}

async fn me() -> Json<User> {
    Json(User { name: "alice".to_owned(), role: Role::Admin, owner: None, created_ms: 1 })
}

// === Jobs ===

pub fn task(index: u32, state: TaskState) -> Task {
    Task {
        checked: false,
        id: TaskId([u8::try_from(index).unwrap(); 16]).into(),
        index,
        state,
        round: 1,
        image: None,
        arch: None,
        exit_code: None,
        cause: None,
        result_root: None,
        manifest: None,
        stdout_counts: true,
        price: sosna_api::Text(sosna_protocol::Amount::ZERO),
        unplaced_reason: None,
        explanation: None,
        assignments: Vec::new(),
    }
}

pub fn detail(number: u8, spec: NewJob, tasks: Vec<Task>) -> JobDetail {
    let count = |state| u32::try_from(tasks.iter().filter(|task| task.state == state).count()).unwrap();
    let counts = TaskCounts {
        total: spec.tasks,
        queued: count(TaskState::Queued),
        running: count(TaskState::Running),
        succeeded: count(TaskState::Succeeded),
        failed: count(TaskState::Failed),
        cancelled: count(TaskState::Cancelled),
    };
    let state = if counts.failed > 0 { JobState::Failed } else { JobState::Succeeded };
    let job = Job {
        id: job_id(number).into(),
        name: spec.name.clone(),
        buyer: "alice".to_owned(),
        state,
        image: spec.image.to_string(),
        verification: spec.verification,
        counts,
        price: JobPrice { max: spec.max_price, ..JobPrice::default() },
        created_ms: 1,
        finished_ms: Some(61_001),
        explanation: None,
    };
    JobDetail { job, spec, tasks }
}

pub fn spec(tasks: u32) -> NewJob {
    serde_json::from_value(serde_json::json!({
        "image": { "reference": "registry.test/tool:1" }, "tasks": tasks, "timeout_ms": 60_000,
        "resources": { "cpu_millis": 1500, "memory": 1_u64 << 30, "disk": 0 },
    }))
    .unwrap()
}

pub fn chunk(index: u32, stream: Stream, offset: u64, text: &str) -> LogChunk {
    LogChunk {
        index,
        assignment: AssignmentId([u8::try_from(index).unwrap(); 16]).into(),
        stream: stream.into(),
        offset,
        data: BASE64.encode(text.as_bytes()),
    }
}

async fn jobs(State(hub): State<ScriptedHub>, RawQuery(query): RawQuery) -> Json<JobList> {
    let wanted = query.unwrap_or_default();
    let inner = hub.inner();
    let jobs = inner.jobs.iter().map(|detail| detail.job.clone());
    let jobs = jobs.filter(|job| !wanted.contains("state=") || wanted.contains(job.state.word())).collect();
    Json(JobList { jobs, next: None })
}

async fn submit(State(hub): State<ScriptedHub>, headers: HeaderMap, Json(spec): Json<NewJob>) -> Response {
    let mut inner = hub.inner();
    let Some(key) = headers.get(route::IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()) else {
        return refuse(Code::Invalid, "the header Idempotency-Key is missing");
    };
    inner.keys.push(key.to_owned());
    if inner.busy > 0 {
        inner.busy -= 1;
        return refuse(Code::Busy, "try again in a moment");
    }
    if let Some(problem) = &inner.refusal {
        return answer(problem);
    }
    inner.submitted.push(spec.clone());
    let tasks = (0..spec.tasks).map(|index| {
        let code = inner.exit_codes.get(usize::try_from(index).unwrap()).copied().unwrap_or(0);
        let state = if code == 0 { TaskState::Succeeded } else { TaskState::Failed };
        Task { exit_code: Some(code), cause: Some(Cause::Exited.into()), ..task(index, state) }
    });
    let number = u8::try_from(inner.jobs.len()).unwrap() + 1;
    let detail = detail(number, spec.clone(), tasks.collect());
    inner.jobs.push(detail.clone());
    (StatusCode::CREATED, Json(detail.job)).into_response()
}

fn find(hub: &ScriptedHub, id: &str) -> Option<JobDetail> {
    hub.inner().jobs.iter().find(|detail| detail.job.id.to_string() == id).cloned()
}

fn no_job() -> Response {
    refuse(Code::NotFound, "no job has this id; `sosna jobs` lists them")
}

async fn job(State(hub): State<ScriptedHub>, Path(id): Path<String>) -> Response {
    find(&hub, &id).map_or_else(no_job, |detail| Json(detail).into_response())
}

async fn cancel(State(hub): State<ScriptedHub>, Path(id): Path<String>) -> Response {
    match find(&hub, &id) {
        Some(detail) => Json(Job { state: JobState::Cancelled, ..detail.job }).into_response(),
        None => no_job(),
    }
}

fn sse(events: &[(&str, String)]) -> Response {
    let text: String = events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], format!(": hello\n\n{text}")).into_response()
}

/// Whether this connection is one that breaks.
fn breaks(hub: &ScriptedHub) -> bool {
    let mut inner = hub.inner();
    let breaks = inner.breaks > 0;
    inner.breaks = inner.breaks.saturating_sub(1);
    breaks
}

async fn events(State(hub): State<ScriptedHub>, Path(id): Path<String>) -> Response {
    let Some(detail) = find(&hub, &id) else { return no_job() };
    let running = Job { state: JobState::Running, ..detail.job.clone() };
    let of_job =
        |job: &Job| ("change", serde_json::json!({ "type": "job", "at_ms": 1, "job": job }).to_string());
    let of_task = |task: &Task| {
        let change = serde_json::json!({ "type": "task", "at_ms": 1, "job": detail.job.id, "task": task });
        ("change", change.to_string())
    };
    let waits = Unplaced {
        explanation: "no device has 1 GiB of memory free; wait, or ask for less".to_owned(),
        devices: 3,
        excluded: vec![Excluded { constraint: Constraint::Memory, devices: 3 }],
    };
    let waiting = Task { unplaced_reason: Some(waits), ..task(0, TaskState::Queued) };
    let mut events = vec![of_job(&running), of_task(&waiting)];
    if breaks(&hub) {
        return sse(&events);
    }
    // Of a newer hub.
    events.push(("change", "{\"type\":\"weather\",\"at_ms\":1}".to_owned()));
    events.extend(detail.tasks.iter().map(of_task));
    events.push(of_job(&detail.job));
    sse(&events)
}

async fn logs(State(hub): State<ScriptedHub>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Response {
    if find(&hub, &id).is_none() {
        return no_job();
    }
    let query = query.unwrap_or_default();
    let chunks: Vec<LogChunk> = hub.inner().logs.clone();
    let fits = |chunk: &&LogChunk| {
        (!query.contains("task=") || query.contains(&format!("task={}", chunk.index)))
            && (!query.contains("stream=") || query.contains(chunk.stream.word()))
    };
    let mut events: Vec<_> =
        chunks.iter().filter(fits).map(|chunk| ("log", serde_json::to_string(chunk).unwrap())).collect();
    if query.contains("follow=true") && breaks(&hub) {
        events.truncate(1);
        return sse(&events);
    }
    // The end comes a little later than the job's.
    tokio::time::sleep(Duration::from_millis(20)).await;
    events.push(("end", String::new()));
    sse(&events)
}

// === Content ===

async fn content(State(hub): State<ScriptedHub>, Path(hex): Path<String>, headers: HeaderMap) -> Response {
    let Some(bytes) = hub.inner().content.get(&hex).cloned() else {
        return refuse(Code::NotFound, "the content is not in the store");
    };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
    let from =
        range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    match from {
        Some(from) => (StatusCode::PARTIAL_CONTENT, bytes[from..].to_vec()).into_response(),
        None => bytes.into_response(),
    }
}

async fn put_content(
    State(hub): State<ScriptedHub>,
    Path(hex): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return refuse(Code::Invalid, "Content-Length is missing");
    }
    if sha256(&bytes).to_string() != hex {
        return refuse(Code::WrongDigest, "the content is something else");
    }
    let mut inner = hub.inner();
    inner.puts += 1;
    inner.content.insert(hex, bytes.to_vec());
    StatusCode::CREATED.into_response()
}

// === Fleet, owners, books ===

fn a_device(hub: &ScriptedHub) -> Device {
    let inner = hub.inner();
    Device {
        exposure_limit: Some("0.9".parse().unwrap()),
        owner_labels: [("room".to_owned(), "cellar".to_owned())].into(),
        system: Some(DeviceSystem {
            board: "rpi".to_owned(),
            slot: "a".to_owned(),
            version: "0.1.0".to_owned(),
            boot_image: "sound".to_owned(),
        }),
        metered: true,
        address: device_address().into(),
        owner: Address([0x11; 20]).into(),
        hostname: "kitchen-pi".to_owned(),
        class: Class { arch: Arch::Aarch64, level: 8 }.into(),
        state: if inner.draining { DeviceState::Draining } else { DeviceState::Trusted },
        online: true,
        last_seen_ms: Some(1),
        enrolled_ms: 1,
        agent: "0.1.0".to_owned(),
        total: None,
        free: None,
        ask: None,
        reputation: Reputation { valid: 9, invalid: 1, consecutive_valid: 2, lost: 0, score: 900 },
        earned: "0.25".parse().unwrap(),
        vouchered: "0.2".parse().unwrap(),
        held: "0.2".parse().unwrap(),
        missing_limits: vec!["disk: no project quota".to_owned()],
        labels: inner.labels.clone(),
        assignments: 0,
    }
}

fn known(address: &str) -> bool {
    address.parse::<Address>() == Ok(device_address())
}

async fn devices(State(hub): State<ScriptedHub>) -> Json<DeviceList> {
    Json(DeviceList { devices: vec![a_device(&hub)] })
}

async fn device(State(hub): State<ScriptedHub>, Path(address): Path<String>) -> Response {
    if !known(&address) {
        return refuse(Code::NotFound, "no device has this address");
    }
    let reputation = Reputation { valid: 4, invalid: 1, consecutive_valid: 2, lost: 0, score: 700 };
    Json(DeviceDetail {
        device: a_device(&hub),
        current: Vec::new(),
        classes: vec![ClassReputation { class: "registry.test/tool".to_owned(), reputation }],
        claims: vec![Claim {
            assignment: AssignmentId([0x5e; 16]).into(),
            price: "0.5".parse().unwrap(),
            proven: false,
            vouchered: false,
            shown_ms: 1,
            explanation: "nothing proves it".to_owned(),
        }],
        voucher: Some(Voucher {
            device: device_address().into(),
            cumulative: "2.5".parse().unwrap(),
            receipts: Hash([3; 32]).into(),
            chain_id: 0,
            wallet: Address([9; 20]).into(),
            signature: Signature([7; 65]).into(),
            issued_ms: 1,
            held_ms: None,
        }),
    })
    .into_response()
}

async fn drain(
    State(hub): State<ScriptedHub>,
    Path(address): Path<String>,
    Json(drain): Json<Drain>,
) -> Json<Device> {
    assert!(known(&address));
    hub.inner().draining = drain.draining;
    Json(a_device(&hub))
}

async fn label(
    State(hub): State<ScriptedHub>,
    Path(address): Path<String>,
    Json(change): Json<Labels>,
) -> Json<Device> {
    assert!(known(&address));
    for (key, value) in change.labels {
        match value {
            Some(value) => hub.inner().labels.insert(key, value),
            None => hub.inner().labels.remove(&key),
        };
    }
    Json(a_device(&hub))
}

async fn join_token(State(hub): State<ScriptedHub>, Json(new): Json<NewJoinToken>) -> Response {
    let inner = hub.inner();
    let Some(delegation) = new.delegation else { return refuse(Code::Invalid, "a delegation is missing") };
    let authority = Hash(if inner.lies { [0xff; 32] } else { inner.authority });
    let template = JoinTemplate {
        host: "hub.test".to_owned(),
        bootstrap_port: 8884,
        hub: Address([0xab; 20]).into(),
        authority: authority.into(),
    };
    let created = JoinTokenCreated { token: None, template, expires_ms: delegation.expires * 1000 };
    (StatusCode::CREATED, Json(created)).into_response()
}

fn an_owner(address: Address) -> Owner {
    let earned = "1".parse().unwrap();
    Owner { address: address.into(), admitted: true, devices: 2, earned, since_ms: 1 }
}

async fn owners() -> Json<OwnerList> {
    Json(OwnerList { owners: vec![an_owner(Address([0x11; 20]))] })
}

async fn admit(Path(address): Path<String>) -> Json<Owner> {
    Json(an_owner(address.parse().unwrap()))
}

fn account(buyer: &str, available: &str) -> Account {
    let available: sosna_api::text::AmountText = available.parse().unwrap();
    let zero = sosna_api::Text(sosna_protocol::Amount::ZERO);
    Account { buyer: buyer.to_owned(), granted: available, reserved: zero, spent: zero, available }
}

async fn ledger() -> Json<Ledger> {
    Json(Ledger { accounts: vec![account("alice", "12.5")], entries: Vec::new(), next: None })
}

async fn credit(headers: HeaderMap, Json(credit): Json<NewCredit>) -> Response {
    if !headers.contains_key(route::IDEMPOTENCY_KEY) {
        return refuse(Code::Invalid, "the header Idempotency-Key is missing");
    }
    Json(account(&credit.buyer, &credit.amount.to_string())).into_response()
}

/// What a test asked for and never looks at otherwise.
pub fn is_replicated(spec: &NewJob) -> bool {
    matches!(spec.verification, Verification::Replicate(_))
}

/// A value's field by a path of keys and numbers.
pub fn field<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not in {value}"))
}
