//! The OpenAPI schemas of all that is exchanged: every one is there that another refers to, and none hides another.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::Value;
use sosna_api::{Problem, device, event, hub, job, ledger, owner, user, wallet};
use utoipa::{PartialSchema, ToSchema};

fn collect<T: ToSchema + PartialSchema>(into: &mut BTreeMap<String, Value>) {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    for (name, schema) in schemas {
        let schema = serde_json::to_value(schema).unwrap();
        if let Some(before) = into.insert(name.clone(), schema.clone()) {
            assert_eq!(before, schema, "two schemas are called {name}");
        }
    }
}

fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                into.push(target.rsplit('/').next().unwrap().to_owned());
            }
            fields.values().for_each(|field| references(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        _ => {}
    }
}

#[test]
fn every_schema_that_is_referred_to_is_there() {
    let mut schemas = BTreeMap::new();
    collect::<job::NewJob>(&mut schemas);
    collect::<job::JobList>(&mut schemas);
    collect::<job::JobDetail>(&mut schemas);
    collect::<event::Change>(&mut schemas);
    collect::<event::LogChunk>(&mut schemas);
    collect::<device::DeviceList>(&mut schemas);
    collect::<device::DeviceDetail>(&mut schemas);
    collect::<device::Drain>(&mut schemas);
    collect::<device::Revoke>(&mut schemas);
    collect::<device::Labels>(&mut schemas);
    collect::<owner::NewJoinToken>(&mut schemas);
    collect::<owner::JoinTokenCreated>(&mut schemas);
    collect::<owner::OwnerList>(&mut schemas);
    collect::<ledger::Ledger>(&mut schemas);
    collect::<ledger::NewCredit>(&mut schemas);
    collect::<wallet::Wallet>(&mut schemas);
    collect::<wallet::PayoutList>(&mut schemas);
    collect::<wallet::PayoutProof>(&mut schemas);
    collect::<hub::HubInfo>(&mut schemas);
    collect::<user::UserList>(&mut schemas);
    collect::<user::UserToken>(&mut schemas);
    collect::<user::NewUser>(&mut schemas);
    collect::<Problem>(&mut schemas);

    let mut targets = Vec::new();
    schemas.values().for_each(|schema| references(schema, &mut targets));
    assert!(targets.len() > 100, "{} references", targets.len());
    for target in targets {
        assert!(schemas.contains_key(&target), "{target} is referred to, and nowhere");
    }
    assert_eq!(schemas["Amount"]["type"], "string");
    assert_eq!(schemas["Cause"]["enum"][2], "out-of-memory");
    assert_eq!(schemas["Verification"]["type"], "string");
}
