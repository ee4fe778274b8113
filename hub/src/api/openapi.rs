//! The OpenAPI description at `/openapi.json`, and in `docs/openapi.json`, with which a test compares it.

use std::collections::BTreeMap;

use axum::Json;
use serde_json::{Map, Value, json};
use sosna_api::{
    Problem, boinc, deposit, device, event, hub, job, ledger, owner, problem::MEDIA_TYPE, route, user, wallet,
};
use utoipa::{IntoParams, ToSchema, openapi::path::ParameterIn};

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const EVENTS: &str = "text/event-stream";

/// `GET /openapi.json`.
pub(super) async fn show() -> Json<Value> {
    Json(document())
}

/// The whole description.
#[must_use]
pub fn document() -> Value {
    let mut document = Document::default();
    jobs(&mut document);
    fleet(&mut document);
    money(&mut document);
    chain(&mut document);
    elsewhere(&mut document);
    people(&mut document);
    machines(&mut document);
    document.schema::<Problem>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sosna hub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Jobs, the fleet, the books and the people of a hub. Everything that is not a success is \
                a problem (RFC 9457). Answers may gain fields; requests with unknown fields are refused.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "paths": document.paths,
        "components": {
            "schemas": document.schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "an access token, `sosnau_…`" },
            },
        },
    })
}

/// What is being described.
#[derive(Default)]
struct Document {
    paths: BTreeMap<&'static str, Map<String, Value>>,
    schemas: BTreeMap<String, Value>,
}

/// One thing that can be asked for.
struct Operation(Map<String, Value>);

fn jobs(to: &mut Document) {
    let its = "its buyer, operator, admin";
    to.add(
        "post",
        route::JOBS,
        "Submits a job; the same idempotency key and content make it once.",
        "buyer, admin",
        |to, one| {
            one.key()
                .body(to.schema::<job::NewJob>(), JSON)
                .answers(201, to.schema::<job::Job>(), JSON)
                .answers(200, to.schema::<job::Job>(), JSON)
        },
    );
    to.add("get", route::JOBS, "Jobs, newest first; a buyer sees own jobs.", "everybody", |to, one| {
        one.query::<job::JobQuery>().answers(200, to.schema::<job::JobList>(), JSON)
    });
    to.add("get", route::JOB, "A job with its tasks and their assignments.", its, |to, one| {
        one.answers(200, to.schema::<job::JobDetail>(), JSON)
    });
    to.add("delete", route::JOB, "Stops a job.", its, |to, one| {
        one.answers(200, to.schema::<job::Job>(), JSON)
    });
    to.add("post", route::JOB_CANCEL, "Stops a job.", its, |to, one| {
        one.answers(200, to.schema::<job::Job>(), JSON)
    });
    to.add("get", route::JOB_LOGS, "The output of its tasks: events `log`, then `end`.", its, |to, one| {
        one.query::<event::LogQuery>().answers(200, to.schema::<event::LogChunk>(), EVENTS)
    });
    to.add("get", route::JOB_EVENTS, "Its changes: events `change` and `lagged`.", its, |to, one| {
        one.answers(200, to.schema::<event::Change>(), EVENTS)
    });
    to.add(
        "get",
        super::outputs::ROUTE,
        "A file of a task's accepted outputs, by its number from 0.",
        its,
        |_, one| one.answers(200, json!({}), BYTES),
    );
    to.add(
        "get",
        route::CONTENT,
        "Content by its SHA-256, or a range of it.",
        "operator, admin; a buyer for own jobs",
        |_, one| one.answers(200, json!({}), BYTES).answers(206, json!({}), BYTES),
    );
    to.add(
        "head",
        route::CONTENT,
        "Whether the caller may name content in a job without sending it first, and how long it is.",
        "everybody",
        |_, one| one.empty(200),
    );
    to.add(
        "put",
        route::CONTENT,
        "Stores content; `Content-Length` is needed. 200 where the caller had sent it before.",
        "everybody",
        |_, one| one.body(json!({}), BYTES).empty(201).empty(200),
    );
}

fn fleet(to: &mut Document) {
    let (staff, owners) = ("operator, admin", "operator, admin; an owner for own devices");
    to.add(
        "get",
        route::EVENTS,
        "The changes of the whole fleet: events `change` and `lagged`.",
        staff,
        |to, one| one.answers(200, to.schema::<event::Change>(), EVENTS),
    );
    to.add("get", route::DEVICES, "Devices.", owners, |to, one| {
        one.answers(200, to.schema::<device::DeviceList>(), JSON)
    });
    to.add("get", route::DEVICE, "A device and what it is at.", owners, |to, one| {
        one.answers(200, to.schema::<device::DeviceDetail>(), JSON)
    });
    to.add("post", route::DEVICE_APPROVE, "Ends a device's probation or quarantine.", staff, |to, one| {
        one.answers(200, to.schema::<device::Device>(), JSON)
    });
    to.add("post", route::DEVICE_REVOKE, "Cuts a device off for good.", staff, |to, one| {
        one.body(to.schema::<device::Revoke>(), JSON).answers(200, to.schema::<device::Device>(), JSON)
    });
    to.add("post", route::DEVICE_DRAIN, "Gives a device nothing new, or work again.", staff, |to, one| {
        one.body(to.schema::<device::Drain>(), JSON).answers(200, to.schema::<device::Device>(), JSON)
    });
    to.add("post", route::DEVICE_LABEL, "Sets or removes labels of a device.", staff, |to, one| {
        one.body(to.schema::<device::Labels>(), JSON).answers(200, to.schema::<device::Device>(), JSON)
    });
    to.add(
        "post",
        route::JOIN_TOKENS,
        "Makes a join token.",
        "operator, admin; an owner with a delegation",
        |to, one| {
            one.body(to.schema::<owner::NewJoinToken>(), JSON).answers(
                201,
                to.schema::<owner::JoinTokenCreated>(),
                JSON,
            )
        },
    );
    to.add("get", route::OWNERS, "Owners.", staff, |to, one| {
        one.answers(200, to.schema::<owner::OwnerList>(), JSON)
    });
    to.add("post", route::OWNER_ADMIT, "Lets an owner count as one of their own.", staff, |to, one| {
        one.answers(200, to.schema::<owner::Owner>(), JSON)
    });
}

fn money(to: &mut Document) {
    to.add("get", route::LEDGER, "The books: own, or everybody's for admins.", "everybody", |to, one| {
        one.query::<ledger::LedgerQuery>().answers(200, to.schema::<ledger::Ledger>(), JSON)
    });
    to.add(
        "post",
        route::LEDGER_CREDIT,
        "Grants a buyer credit; the same idempotency key does it once.",
        "admin",
        |to, one| {
            let account = to.schema::<ledger::Account>();
            one.key()
                .body(to.schema::<ledger::NewCredit>(), JSON)
                .answers(201, account.clone(), JSON)
                .answers(200, account, JSON)
        },
    );
}

fn elsewhere(to: &mut Document) {
    to.add(
        "post",
        route::BOINC_PAYMENTS,
        "Pays for new credit of a BOINC project: credit is counted once, whatever export it is sent from.",
        "admin",
        |to, one| {
            let answer = to.schema::<boinc::BoincPaymentDetail>();
            one.key()
                .body(to.schema::<boinc::NewBoincPayment>(), JSON)
                .answers(201, answer.clone(), JSON)
                .answers(200, answer, JSON)
        },
    );
    to.add(
        "get",
        route::BOINC_PAYMENTS,
        "Payments for credit of BOINC projects, newest first.",
        "operator, admin",
        |to, one| {
            one.query::<boinc::BoincPaymentQuery>().answers(200, to.schema::<boinc::BoincPaymentList>(), JSON)
        },
    );
    to.add("get", route::BOINC_PAYMENT, "One of them, with its lines.", "operator, admin", |to, one| {
        one.answers(200, to.schema::<boinc::BoincPaymentDetail>(), JSON)
    });
}

fn chain(to: &mut Document) {
    let all = "everybody, also without a token";
    to.add("get", route::WALLET, "The hub's wallet on a chain.", "everybody", |to, one| {
        one.answers(200, to.schema::<wallet::Wallet>(), JSON)
    });
    to.add(
        "get",
        route::DEPOSITS,
        "Buyers' deposits on the chain: own, or everybody's for admins.",
        "everybody",
        |to, one| {
            one.query::<deposit::DepositQuery>().answers(200, to.schema::<deposit::DepositList>(), JSON)
        },
    );
    to.add(
        "post",
        route::DEPOSITS_ACCOUNT,
        "Names the account whose deposits are the caller's credit.",
        "buyer, admin",
        |to, one| {
            let answer = to.schema::<deposit::Deposit>();
            one.body(to.schema::<deposit::NewDepositAccount>(), JSON)
                .answers(201, answer.clone(), JSON)
                .answers(200, answer, JSON)
        },
    );
    to.add(
        "post",
        route::DEPOSITS_VOUCHER,
        "Takes what the caller signs for; less than before changes nothing.",
        "buyer, admin",
        |to, one| {
            one.body(to.schema::<deposit::NewBuyerVoucher>(), JSON).answers(
                200,
                to.schema::<deposit::Deposit>(),
                JSON,
            )
        },
    );
    to.add("get", route::PAYOUTS, "What every device is owed by a root.", all, |to, one| {
        one.open().query::<wallet::PayoutQuery>().answers(200, to.schema::<wallet::PayoutList>(), JSON)
    });
    to.add("get", route::PAYOUT, "What one device is owed by it, proven.", all, |to, one| {
        one.open().query::<wallet::PayoutQuery>().answers(200, to.schema::<wallet::PayoutProof>(), JSON)
    });
}

fn people(to: &mut Document) {
    to.add("get", route::ME, "Whose token this is.", "everybody", |to, one| {
        one.answers(200, to.schema::<user::User>(), JSON)
    });
    to.add("get", route::USERS, "People.", "admin", |to, one| {
        one.answers(200, to.schema::<user::UserList>(), JSON)
    });
    to.add("post", route::USERS, "Adds a person; the answer shows their token, once.", "admin", |to, one| {
        one.body(to.schema::<user::NewUser>(), JSON).answers(201, to.schema::<user::UserToken>(), JSON)
    });
    to.add("delete", route::USER, "Removes a person.", "admin", |_, one| one.empty(204));
    to.add("post", route::USER_TOKEN, "Gives a person a new token; the old one ends.", "admin", |to, one| {
        one.answers(200, to.schema::<user::UserToken>(), JSON)
    });
}

fn machines(to: &mut Document) {
    let all = "everybody, also without a token";
    let text = json!({ "type": "string" });
    to.add("get", route::HUB, "The hub itself.", all, |to, one| {
        one.open().answers(200, to.schema::<hub::HubInfo>(), JSON)
    });
    for (path, summary) in [
        ("/healthz", "It lives."),
        ("/readyz", "It can do its work: the store takes writes, and devices can connect."),
        ("/metrics", "Counters and gauges in Prometheus's text format."),
    ] {
        to.add("get", path, summary, all, |_, one| one.open().answers(200, text.clone(), "text/plain"));
    }
    to.add("get", "/openapi.json", "This description.", all, |_, one| {
        one.open().answers(200, json!({ "type": "object" }), JSON)
    });
}

// === impl Document ===

impl Document {
    fn add(
        &mut self,
        method: &'static str,
        path: &'static str,
        summary: &str,
        who: &str,
        describe: impl FnOnce(&mut Self, Operation) -> Operation,
    ) {
        let mut fields = Map::new();
        fields.insert("summary".to_owned(), json!(summary));
        fields.insert("description".to_owned(), json!(format!("For: {who}.")));
        let problem = json!({ "$ref": "#/components/schemas/Problem" });
        let otherwise =
            json!({ "description": "A problem.", "content": { MEDIA_TYPE: { "schema": problem } } });
        fields.insert("responses".to_owned(), json!({ "default": otherwise }));
        fields.insert("security".to_owned(), json!([{ "token": [] }]));
        fields.insert("parameters".to_owned(), Value::Array(in_path(path)));
        let Operation(fields) = describe(self, Operation(fields));
        self.paths.entry(path).or_default().insert(method.to_owned(), Value::Object(fields));
    }

    /// Adds a type's schema, and those that it refers to; returns a reference to it.
    fn schema<T: ToSchema>(&mut self) -> Value {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        for (name, schema) in found {
            let schema = serde_json::to_value(schema).expect("a schema has string keys only");
            self.schemas.insert(name, schema);
        }
        json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
    }
}

/// The parameters between braces.
fn in_path(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let describe =
        |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    names.map(describe).collect()
}

// === impl Operation ===

impl Operation {
    /// No token is needed.
    fn open(mut self) -> Self {
        self.0.insert("security".to_owned(), json!([]));
        self
    }

    fn key(self) -> Self {
        self.parameter(json!({
            "name": route::IDEMPOTENCY_KEY, "in": "header", "required": true,
            "schema": { "type": "string", "minLength": 1, "maxLength": 128 },
        }))
    }

    fn query<T: IntoParams>(mut self) -> Self {
        for parameter in T::into_params(|| Some(ParameterIn::Query)) {
            let value = serde_json::to_value(parameter).expect("a parameter has string keys only");
            self = self.parameter(value);
        }
        self
    }

    fn parameter(mut self, parameter: Value) -> Self {
        if let Some(Value::Array(all)) = self.0.get_mut("parameters") {
            all.push(parameter);
        }
        self
    }

    fn body(mut self, schema: Value, media: &str) -> Self {
        let body = json!({ "required": true, "content": { media: { "schema": schema } } });
        self.0.insert("requestBody".to_owned(), body);
        self
    }

    fn answers(self, status: u16, schema: Value, media: &str) -> Self {
        self.response(status, json!({ "description": "Done.", "content": { media: { "schema": schema } } }))
    }

    fn empty(self, status: u16) -> Self {
        self.response(status, json!({ "description": "Done." }))
    }

    fn response(mut self, status: u16, response: Value) -> Self {
        if let Some(Value::Object(all)) = self.0.get_mut("responses") {
            all.insert(status.to_string(), response);
        }
        self
    }
}
