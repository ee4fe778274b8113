//! Payments for credit of BOINC projects: once, to whom, and never for more than was done.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use sosna_api::boinc::Credit;
use sosna_protocol::{Address, Amount};

use crate::support::{Answer, Setup};

const PATH: &str = "/v1/boinc/payments";

/// A hub with a wallet. Nobody answers for its chain, which these questions do not need.
async fn setup() -> Setup {
    Setup::with(|config| {
        config.chain.id = 5;
        config.chain.wallet = Address([7; 20]).checksummed().as_str().to_owned();
        config.chain.endpoints = vec!["http://127.0.0.1:9".to_owned()];
    })
    .await
}

fn payee(number: u8) -> String {
    Address([number; 20]).checksummed().as_str().to_owned()
}

/// A user with computers (number, credit, payee).
fn user(id: u64, credit: &str, hosts: &[(u64, &str, Option<u8>)]) -> Value {
    let host = |(id, credit, to): &(u64, &str, Option<u8>)| json!({ "id": id, "created_s": 1000 + id, "credit": credit, "payee": to.map(payee) });
    json!({ "id": id, "credit": credit, "hosts": hosts.iter().map(host).collect::<Vec<_>>() })
}

fn payment(price: &Value, users: &[Value]) -> Value {
    json!({ "project": "https://Project.example/", "price": price, "users": users })
}

async fn pay(setup: &Setup, key: &str, body: &Value) -> Answer {
    let request = setup.request(Method::POST, PATH, Some("admin")).header("idempotency-key", key);
    let request = request.header("content-type", "application/json");
    setup.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// What each payee was ever given.
async fn owed(setup: &Setup) -> BTreeMap<Address, u128> {
    let read = setup.hub.store.read(|tx| Box::pin(async move { tx.payees().await }));
    read.await.unwrap().into_iter().map(|(payee, amount)| (payee, amount.units())).collect()
}

fn snm(text: &str) -> u128 {
    text.parse::<Amount>().unwrap().units()
}

#[tokio::test]
async fn credit_is_paid_once_and_in_proportion() {
    let setup = setup().await;
    let rate = json!({ "rate": "0.01" });
    let first = user(1, "1500.75", &[(1, "1000.5", Some(1)), (2, "500.25", Some(2))]);
    // Whom these books have not heard of counts from now on.
    let begun = pay(&setup, "0", &payment(&rate, std::slice::from_ref(&first))).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{:?}", begun.body);
    assert_eq!((&begun.json()["amount"], &begun.json()["first_seen"]), (&json!("0"), &json!(1)));

    let later = [
        user(1, "1600.75", &[(1, "1050.5", Some(1)), (2, "550.25", Some(2))]),
        user(2, "10", &[(3, "10", Some(3))]),
    ];
    let body = payment(&rate, &later);
    let mut dry = body.clone();
    (dry["dry_run"], dry["history"]) = (json!(true), json!(true));
    let dry = pay(&setup, "1", &dry).await;
    assert_eq!((dry.status, &dry.json()["id"]), (StatusCode::OK, &Value::Null));
    assert_eq!((&dry.json()["amount"], &dry.json()["credit"]), (&json!("1.1"), &json!("110")));
    assert!(owed(&setup).await.is_empty(), "nothing was done");

    let mut history = body.clone();
    history["history"] = json!(true);
    let mut cheap = history.clone();
    cheap["most"] = json!("1.09");
    let refused = pay(&setup, "1", &cheap).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::PAYMENT_REQUIRED, "no-credit"));
    let paid = pay(&setup, "1", &history).await;
    assert_eq!((paid.status, &paid.json()["amount"]), (StatusCode::CREATED, &json!("1.1")));
    let all = BTreeMap::from([
        (Address([1; 20]), snm("0.5")),
        (Address([2; 20]), snm("0.5")),
        (Address([3; 20]), snm("0.1")),
    ]);
    assert_eq!(owed(&setup).await, all);
    // The answer was lost; the same export again; an older one; another price. Nothing is paid again.
    let again = pay(&setup, "1", &history).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, paid.json()));
    assert_eq!(pay(&setup, "1", &body).await.problem(), "idempotency-key-reused");
    for (key, price, users) in [
        ("2", &rate, &later[..]),
        ("3", &json!({ "pot": "1000" }), &later[..]),
        ("4", &rate, std::slice::from_ref(&first)),
        ("5", &rate, &later[..]),
    ] {
        let nothing = pay(&setup, key, &payment(price, users)).await;
        assert_eq!((nothing.status, &nothing.json()["amount"]), (StatusCode::OK, &json!("0")), "{key}");
        assert_eq!(nothing.json()["id"], Value::Null, "{key}");
    }
    assert_eq!(owed(&setup).await, all);

    // A pot is shared by new credit. Computer 2 became part of 1, which is no work; what nobody is paid for has no part.
    let merged = [
        user(1, "1700.75", &[(1, "1700.75", Some(1))]),
        user(2, "210", &[(3, "110", Some(3)), (4, "100", None)]),
    ];
    let pot = pay(&setup, "6", &payment(&json!({ "pot": "3" }), &merged)).await.json();
    assert_eq!((&pot["credit"], &pot["amount"], &pot["hosts"]), (&json!("200"), &json!("3"), &json!(2)));
    let lines = pot["lines"].as_array().unwrap();
    let told: Vec<_> = lines.iter().map(|line| (&line["host"], &line["credit"], &line["amount"])).collect();
    let (one, three, four) = (json!(1), json!(3), json!(4));
    let (hundred, half, none) = (json!("100"), json!("1.5"), json!("0"));
    assert_eq!(told, [(&one, &hundred, &half), (&three, &hundred, &half), (&four, &hundred, &none)]);
    assert_eq!(owed(&setup).await[&Address([1; 20])], snm("2"));
    // From then on the one that is left is paid alone.
    let on = [user(1, "1710.75", &[(1, "1710.75", Some(1))])];
    assert_eq!(pay(&setup, "7", &payment(&rate, &on)).await.json()["amount"], json!("0.1"));

    let list = setup.get(&format!("{PATH}?limit=2"), "operator").await.json();
    assert_eq!(list["payments"].as_array().unwrap().len(), 2);
    assert_eq!(list["payments"][0]["project"], "project.example");
    let id = pot["id"].as_u64().unwrap();
    assert_eq!(setup.get(&format!("{PATH}/{id}"), "operator").await.json(), pot);
    for (path, who) in [(PATH.to_owned(), "buyer"), (format!("{PATH}/{id}"), "owner")] {
        assert_eq!(setup.get(&path, who).await.status, StatusCode::FORBIDDEN);
    }
    for who in ["operator", "buyer", "owner"] {
        assert_eq!(setup.post(PATH, who, &body).await.status, StatusCode::FORBIDDEN, "{who}");
    }
    let ledger = setup.get("/v1/ledger", "admin").await.json();
    let entry = &ledger["entries"][0];
    assert_eq!(
        (&entry["kind"], &entry["device"], &entry["buyer"]),
        (&json!("boinc"), &json!(payee(1)), &Value::Null)
    );
}

#[tokio::test]
async fn what_no_export_says_is_refused_and_nothing_happens() {
    let setup = setup().await;
    setup.device(9).await;
    let rate = json!({ "rate": "1" });
    let good = user(1, "10", &[(1, "10", Some(1))]);
    let mut far = good.clone();
    far["id"] = json!(u64::MAX);
    for (what, body, code) in [
        ("no project", json!({ "project": "", "price": rate, "users": [] }), "invalid"),
        ("no price", payment(&json!({ "rate": "0" }), std::slice::from_ref(&good)), "invalid"),
        ("a user twice", payment(&rate, &[good.clone(), good.clone()]), "invalid"),
        (
            "a computer twice",
            payment(&rate, &[good.clone(), user(2, "10", &[(1, "10", Some(1))])]),
            "invalid",
        ),
        ("no number", payment(&rate, &[far]), "invalid"),
        ("no credit", payment(&rate, &[user(1, "-5", &[])]), "invalid"),
    ] {
        let answer = pay(&setup, what, &body).await;
        assert_eq!(answer.problem(), code, "{what}");
    }
    let mut all = payment(&json!({ "rate": "1000000000000" }), std::slice::from_ref(&good));
    all["history"] = json!(true);
    let dear = pay(&setup, "dear", &all).await;
    assert!(
        dear.json()["detail"].as_str().unwrap().contains("more than a wallet can pay"),
        "{:?}",
        dear.body
    );
    assert!(owed(&setup).await.is_empty());
    assert_eq!(setup.get(PATH, "admin").await.json()["payments"], json!([]));

    // Whom no settlement could pay, or not again: the user is passed over.
    for (number, why) in [(0, "nobody's"), (7, "the hub's own wallet")] {
        let mut body = payment(&rate, &[user(3, "10", &[(30, "10", Some(number))])]);
        body["history"] = json!(true);
        let answer = pay(&setup, why, &body).await.json();
        assert!(answer["passed_over"][0]["why"].as_str().unwrap().contains(why), "{answer}");
    }
    assert!(owed(&setup).await.is_empty());

    // A device's address is no payee: its user is passed over, and nothing of theirs is counted.
    let mut mixed =
        payment(&rate, &[user(1, "10", &[(1, "10", Some(9))]), user(2, "10", &[(2, "10", Some(2))])]);
    mixed["history"] = json!(true);
    let paid = pay(&setup, "mixed", &mixed).await.json();
    assert_eq!((&paid["amount"], &paid["passed_over"][0]["user"]), (&json!("10"), &json!(1)));
    mixed["users"][0] = good;
    assert_eq!(pay(&setup, "mended", &mixed).await.json()["amount"], json!("10"));

    // Another project's export, and the same project by another name.
    let mut foreign = mixed.clone();
    foreign["users"][1]["hosts"][0]["created_s"] = json!(5);
    let refused = pay(&setup, "foreign", &foreign).await;
    assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::CONFLICT, "conflict"));
    let mut renamed = mixed.clone();
    renamed["project"] = json!("https://www.project.example/");
    let refused = pay(&setup, "renamed", &renamed).await;
    assert!(
        refused.json()["detail"].as_str().unwrap().contains("those of project.example"),
        "{:?}",
        refused.body
    );
    renamed["users"][0]["hosts"][0]["created_s"] = json!(5);
    renamed["users"][1]["hosts"][0]["created_s"] = json!(6);
    assert_eq!(pay(&setup, "another", &renamed).await.json()["amount"], json!("20"));

    let without = Setup::new().await;
    let answer = pay(&without, "key", &payment(&rate, &[])).await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "not-found"));
}

/// What happens at a project.
#[derive(Debug, Clone)]
enum Act {
    Earn(usize, u32),
    Join,
    Merge(usize, usize),
    Pay { stale: bool, halves: bool },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_usize..8, 1_u32..100_000).prop_map(|(host, credit)| Act::Earn(host, credit)),
        1 => Just(Act::Join),
        1 => (0_usize..8, 0_usize..8).prop_map(|(from, into)| Act::Merge(from, into)),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(stale, halves)| Act::Pay { stale, halves }),
    ]
}

/// A project with one user whose computers are paid to addresses of their own, in millionths of credit.
#[derive(Debug, Clone, Default)]
struct Project {
    total: u128,
    hosts: BTreeMap<u64, u128>,
}

impl Project {
    fn export(&self, users: &Self) -> Value {
        let host = |(id, credit): (&u64, &u128)| {
            // None of them is the wallet.
            let to = payee(100 + u8::try_from(*id).unwrap());
            json!({ "id": id, "created_s": 1000 + id, "credit": Credit(*credit).to_string(), "payee": to })
        };
        let hosts: Vec<_> = self.hosts.iter().filter(|(_, credit)| **credit > 0).map(host).collect();
        json!({ "id": 1, "credit": Credit(users.total).to_string(), "hosts": hosts })
    }

    fn at(&self, place: usize) -> u64 {
        *self.hosts.keys().nth(place % self.hosts.len()).unwrap()
    }
}

async fn live(acts: Vec<Act>) {
    let setup = setup().await;
    let mut project = Project { total: 0, hosts: BTreeMap::from([(1, 0), (2, 0)]) };
    let (mut joined, mut before) = (2, project.clone());
    // One unit of SNM for a millionth of credit.
    let price = json!({ "rate": "0.000000000001" });
    let pay_by = async |number: usize, export: Value| {
        let mut body = payment(&price, &[export]);
        body["history"] = json!(true);
        let answer = pay(&setup, &number.to_string(), &body).await;
        assert!(answer.status.is_success(), "{:?}", answer.body);
    };
    let count = acts.len();
    for (number, act) in acts.into_iter().enumerate() {
        match act {
            Act::Earn(host, credit) => {
                *project.hosts.get_mut(&project.at(host)).unwrap() += u128::from(credit);
                project.total += u128::from(credit);
            }
            Act::Join if joined < 100 => {
                joined += 1;
                project.hosts.insert(joined, 0);
            }
            Act::Join => {}
            Act::Merge(from, into) => {
                let (from, into) = (project.at(from), project.at(into));
                if from != into {
                    let moved = project.hosts.remove(&from).unwrap();
                    *project.hosts.get_mut(&into).unwrap() += moved;
                }
            }
            Act::Pay { stale, halves } => {
                // The export of users may be older than that of hosts, or both be old.
                let export = match (stale, halves) {
                    (true, true) => before.export(&before),
                    (true, false) => project.export(&before),
                    _ => project.export(&project),
                };
                pay_by(number, export).await;
                let paid: u128 = owed(&setup).await.values().sum();
                assert!(paid <= project.total, "{paid} of {}", project.total);
                before = project.clone();
            }
        }
    }
    // In the end all that was done is paid, but for what was lost to rounding.
    pay_by(count, project.export(&project)).await;
    let paid: u128 = owed(&setup).await.values().sum();
    assert!(
        paid <= project.total && project.total - paid <= 300 * count as u128,
        "{paid} of {}",
        project.total
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn no_credit_is_paid_twice_whatever_becomes_of_computers(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(live(acts));
    }
}
