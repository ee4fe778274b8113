//! Whose account is whose, and what is taken as signed for.

use axum::http::StatusCode;
use serde_json::{Value, json};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Address, Amount,
    eip712::{BuyerAccount, BuyerVoucher, Domain, Typed as _},
    identity::Sign as _,
};
use sosna_store::{Seen, StoreError};

use crate::support::Setup;

const WALLET: Address = Address([7; 20]);
const ESCROW: Domain = Domain { chain_id: 5, wallet: Address([8; 20]) };

/// A hub that takes deposits. Nobody answers for its chain, which these questions do not need.
async fn setup() -> Setup {
    Setup::with(|config| {
        config.chain.id = ESCROW.chain_id;
        config.chain.wallet = WALLET.checksummed().as_str().to_owned();
        config.chain.escrow = ESCROW.wallet.checksummed().as_str().to_owned();
        config.chain.endpoints = vec!["http://127.0.0.1:9".to_owned()];
    })
    .await
}

fn link(key: &IdentityKey, account: Address, wallet: Address, buyer: &str, domain: &Domain) -> Value {
    let signature = BuyerAccount { account, wallet, buyer }.sign(domain, key).unwrap();
    json!({ "account": account.checksummed().as_str(), "signature": signature.to_string() })
}

fn own(key: &IdentityKey, buyer: &str) -> Value {
    link(key, key.address(), WALLET, buyer, &ESCROW)
}

fn voucher(key: &IdentityKey, units: u128) -> Value {
    let cumulative = Amount::from_units(units);
    let signed = BuyerVoucher { buyer: key.address(), wallet: WALLET, cumulative };
    let signature = signed.sign(&ESCROW, key).unwrap();
    json!({ "cumulative": cumulative.to_string(), "signature": signature.to_string() })
}

#[tokio::test]
async fn an_account_is_the_buyers_who_has_its_signature() {
    let setup = setup().await;
    let (key, other) = (IdentityKey::generate(), IdentityKey::generate());
    let path = "/v1/deposits/account";
    let elsewhere = Domain { chain_id: 6, ..ESCROW };
    for (what, body) in [
        ("another's key", link(&other, key.address(), WALLET, "buyer", &ESCROW)),
        ("another buyer's name", own(&key, "stranger")),
        ("another wallet", link(&key, key.address(), Address([9; 20]), "buyer", &ESCROW)),
        ("another chain", link(&key, key.address(), WALLET, "buyer", &elsewhere)),
    ] {
        let answer = setup.post(path, "buyer", &body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}");
        assert_eq!(answer.problem(), "forbidden", "{what}");
    }
    for who in ["operator", "owner"] {
        assert_eq!(setup.post(path, who, &own(&key, who)).await.status, StatusCode::FORBIDDEN, "{who}");
    }
    let taken = setup.post(path, "buyer", &own(&key, "buyer")).await;
    assert_eq!(taken.status, StatusCode::CREATED, "{:?}", taken.body);
    assert_eq!(taken.json()["buyer"], "buyer");
    assert_eq!(setup.post(path, "buyer", &own(&key, "buyer")).await.status, StatusCode::OK, "again");
    // One account a buyer, and one buyer an account.
    for (who, key) in [("buyer", &other), ("stranger", &key)] {
        let answer = setup.post(path, who, &own(key, who)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::CONFLICT, "conflict"), "{who}");
    }

    // Each sees their own, an admin everybody's, a page at a time.
    assert_eq!(setup.post(path, "stranger", &own(&other, "stranger")).await.status, StatusCode::CREATED);
    let shown = setup.get("/v1/deposits", "stranger").await.json();
    assert_eq!((shown["deposits"].as_array().unwrap().len(), &shown["next"]), (1, &Value::Null));
    assert_eq!(shown["deposits"][0]["buyer"], "stranger");
    assert_eq!((&shown["chain_id"], &shown["exposure"]), (&json!(5), &json!("10")));
    let first = setup.get("/v1/deposits?limit=1", "admin").await.json();
    let after = first["next"].as_str().unwrap();
    let second = setup.get(&format!("/v1/deposits?limit=1&after={after}"), "admin").await.json();
    assert_ne!(first["deposits"][0]["account"], second["deposits"][0]["account"]);
}

#[tokio::test]
async fn a_signature_counts_up_to_the_deposit_and_never_less_than_before() {
    let setup = setup().await;
    let (key, other) = (IdentityKey::generate(), IdentityKey::generate());
    let path = "/v1/deposits/voucher";
    let early = setup.post(path, "buyer", &voucher(&key, 1)).await;
    assert_eq!((early.status, early.problem().as_str()), (StatusCode::NOT_FOUND, "not-found"));
    setup.post("/v1/deposits/account", "buyer", &own(&key, "buyer")).await;
    let account = key.address();
    setup
        .write(move |tx| {
            Box::pin(async move {
                let put = Amount::from_units(100);
                tx.see_deposit(&account, &Seen { put, block: 1, ..Seen::default() }, put, 1).await?;
                Ok::<_, StoreError>(())
            })
        })
        .await;
    let foreign = setup.post(path, "buyer", &voucher(&other, 1)).await;
    assert_eq!((foreign.status, foreign.problem().as_str()), (StatusCode::FORBIDDEN, "forbidden"));
    let mut raised = voucher(&key, 10);
    raised["cumulative"] = voucher(&key, 20)["cumulative"].clone();
    assert_eq!(setup.post(path, "buyer", &raised).await.status, StatusCode::FORBIDDEN);
    let dear = setup.post(path, "buyer", &voucher(&key, 101)).await;
    assert_eq!((dear.status, dear.problem().as_str()), (StatusCode::PAYMENT_REQUIRED, "no-credit"));
    for (units, kept) in [(40, 40), (30, 40), (100, 100), (100, 100)] {
        let answer = setup.post(path, "buyer", &voucher(&key, units)).await;
        assert_eq!(answer.status, StatusCode::OK, "{units}");
        assert_eq!(answer.json()["confirmed"], json!(Amount::from_units(kept).to_string()), "{units}");
    }
}

#[tokio::test]
async fn a_hub_without_an_escrow_takes_no_deposits() {
    let setup = Setup::new().await;
    for answer in [
        setup.get("/v1/deposits", "buyer").await,
        setup.post("/v1/deposits/account", "buyer", &own(&IdentityKey::generate(), "buyer")).await,
        setup.post("/v1/deposits/voucher", "buyer", &voucher(&IdentityKey::generate(), 1)).await,
    ] {
        assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::NOT_FOUND, "not-found"));
        assert!(answer.json()["detail"].as_str().unwrap().contains("takes no deposits"));
    }
}
