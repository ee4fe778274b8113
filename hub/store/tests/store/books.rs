//! The books: whatever is moved, they add up.

use std::collections::HashMap;

use proptest::prelude::*;
use sosna_protocol::{
    Address, Amount, Hash,
    identity::{AssignmentId, JobId, TaskId},
};
use sosna_store::{Account, Claim, LedgerError, StoreError, Transfer};

use crate::support::Bench;

const DEVICE: Address = Address([1; 20]);

#[derive(Debug, Clone)]
struct Move {
    key: u8,
    from: u8,
    to: u8,
    units: u128,
    /// Whether the work that books it goes on after an error, and whether it fails in the end.
    swallow: bool,
    fail: bool,
}

fn account(number: u8) -> Account {
    match number {
        0 => Account::Grants,
        1 | 2 => Account::Buyer(format!("buyer-{number}")),
        3 | 4 => Account::Job(JobId([number; 16])),
        _ => Account::Device(Address([number; 20])),
    }
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let units = prop_oneof![4 => 0_u128..100, 1 => Just(u128::MAX), 1 => Just(u128::MAX - 50)];
    let one = (0_u8..40, 0_u8..7, 0_u8..7, units, any::<bool>(), prop::bool::weighted(0.2));
    let one =
        one.prop_map(|(key, from, to, units, swallow, fail)| Move { key, from, to, units, swallow, fail });
    prop::collection::vec(one, 1..60)
}

fn transfer(one: &Move) -> Transfer {
    Transfer {
        key: format!("key-{}", one.key),
        kind: "credit",
        from: account(one.from),
        to: account(one.to),
        amount: Amount::from_units(one.units),
        job: None,
        assignment: None,
        at_ms: 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn they_add_up_whatever_is_booked(moves in moves()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let bench = Bench::new().await;
            let mut booked: HashMap<u8, u128> = HashMap::new();
            for one in moves {
                let (wanted, inner) = (one.clone(), one.clone());
                let result = bench.store.write(move |tx| Box::pin(async move {
                    let result = tx.transfer(&transfer(&inner)).await;
                    match result {
                        _ if inner.fail => Err(LedgerError::Overflow),
                        // As careless work would: the error is forgotten, and the work kept.
                        Err(_) if inner.swallow => Ok(false),
                        other => other,
                    }
                })).await;
                if let Ok(true) = result {
                    prop_assert!(booked.insert(wanted.key, wanted.units).is_none(), "a key was booked twice");
                }
            }
            let accounts = bench.write(|tx| Box::pin(async move { tx.accounts().await })).await;
            let (mut all_taken, mut all_given) = (0_u128, 0_u128);
            for (name, taken, given) in accounts {
                prop_assert!(name == "grants" || given <= taken, "{name} is overdrawn");
                all_taken = all_taken.wrapping_add(taken.units());
                all_given = all_given.wrapping_add(given.units());
            }
            prop_assert_eq!(all_taken, all_given);
            let entries = bench.write(|tx| Box::pin(async move { tx.entries(None, None, 1000).await })).await;
            prop_assert_eq!(entries.len(), booked.len(), "an entry without its transfer, or the reverse");
            let sum = entries.iter().fold(0_u128, |sum, entry| sum.wrapping_add(entry.amount.units()));
            prop_assert_eq!(sum, all_taken);
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_amount_is_named_and_a_key_counts_once() {
    let bench = Bench::new().await;
    let grant = Move { key: 1, from: 0, to: 1, units: 10, swallow: false, fail: false };
    let spend = Move { key: 2, from: 1, to: 3, units: 11, swallow: false, fail: false };
    let run = async |one: Move| {
        bench.store.write(move |tx| Box::pin(async move { tx.transfer(&transfer(&one)).await })).await
    };
    assert!(run(grant.clone()).await.unwrap());
    assert!(!run(grant).await.unwrap());
    let short = run(spend.clone()).await.unwrap_err();
    assert!(
        matches!(short, LedgerError::Funds { available, needed } if available.units() == 10 && needed.units() == 11)
    );
    assert!(run(Move { units: 10, ..spend.clone() }).await.unwrap());
    let left = bench.write(|tx| Box::pin(async move { tx.balance(&account(1)).await })).await;
    assert_eq!(left, Amount::ZERO);
    let job = bench.write(|tx| Box::pin(async move { tx.ever_taken(&account(3)).await })).await;
    assert_eq!(job.units(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_limit_of_debt_never_passes_it_and_gets_back_once() {
    let bench = Bench::new().await;
    let (day, check) = (Account::Verification(7), Account::Check(TaskId([1; 16])));
    let limit = Amount::from_units(100);
    let book = async |key: &str, from: &Account, to: &Account, units: u128| {
        let transfer = Transfer {
            key: key.to_owned(),
            kind: "reserve",
            from: from.clone(),
            to: to.clone(),
            amount: Amount::from_units(units),
            job: None,
            assignment: None,
            at_ms: 1,
        };
        bench.store.write(move |tx| Box::pin(async move { tx.transfer_within(&transfer, limit).await })).await
    };
    let debt = async || {
        let day = day.clone();
        bench.write(move |tx| Box::pin(async move { tx.debt(&day).await })).await.units()
    };
    assert!(book("one", &day, &check, 60).await.unwrap());
    assert!(!book("one", &day, &check, 60).await.unwrap());
    let short = book("two", &day, &check, 41).await.unwrap_err();
    assert!(
        matches!(short, LedgerError::Funds { available, needed } if available.units() == 40 && needed.units() == 41)
    );
    assert!(book("two", &day, &check, 40).await.unwrap());
    assert_eq!(debt().await, 100);
    assert!(book("three", &day, &check, 1).await.is_err());
    for _ in 0..2 {
        let _ = book("back", &check, &day, 70).await.unwrap();
    }
    assert_eq!(debt().await, 30);
    assert!(book("four", &day, &check, 70).await.unwrap());
    assert_eq!(debt().await, 100);
    let entry = bench.write(|tx| Box::pin(async move { tx.entry_by_key("back").await })).await.unwrap();
    assert_eq!((entry.amount.units(), entry.to.as_str()), (70, "verification:7"));
    let (taken, given) = bench
        .write(|tx| Box::pin(async move { tx.accounts().await }))
        .await
        .iter()
        .fold((0, 0), |sum, (_, taken, given)| (sum.0 + taken.units(), sum.1 + given.units()));
    assert_eq!(taken, given);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_recorded_once_and_only_a_proof_replaces_it() {
    let bench = Bench::filled().await;
    let claim = |proven, owed| Claim {
        device: DEVICE,
        assignment: AssignmentId([9; 16]),
        task: TaskId([8; 16]),
        digest: Hash([7; 32]),
        price: Amount::from_units(5),
        owed: Amount::from_units(owed),
        proven,
        explanation: "why".to_owned(),
        shown_ms: 3,
        voucher: None,
    };
    for (proven, owed, is_news) in
        [(false, 0, true), (false, 0, false), (true, 5, true), (true, 6, false), (false, 0, false)]
    {
        let put =
            bench.write(move |tx| Box::pin(async move { tx.put_claim(&claim(proven, owed)).await })).await;
        assert_eq!(put, is_news);
    }
    let uncovered =
        async || bench.write(|tx| Box::pin(async move { tx.uncovered_claims(&DEVICE).await })).await;
    assert_eq!(uncovered().await, [claim(true, 5)]);
    let amounts = bench.write(|tx| Box::pin(async move { tx.uncovered_amounts(&DEVICE).await })).await;
    assert_eq!(amounts, [Amount::from_units(5)]);
    let (id, sum) = (AssignmentId([9; 16]), Amount::from_units(50));
    bench.write(move |tx| Box::pin(async move { tx.cover_claim(&DEVICE, &id, sum).await })).await;
    assert!(uncovered().await.is_empty());
    let named =
        bench.write(|tx| Box::pin(async move { tx.covered_by(&DEVICE, Amount::from_units(50)).await })).await;
    assert_eq!(named, [AssignmentId([9; 16])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_paid_as_one_by_one() {
    let bench = Bench::new().await;
    // More than one statement takes.
    let people: Vec<(Address, Amount)> = (1..=1201_u128)
        .map(|number| {
            let mut address = [0; 20];
            address[4..].copy_from_slice(&number.to_be_bytes());
            (Address(address), Amount::from_units(number))
        })
        .collect();
    fn project() -> Account {
        Account::Boinc("project.example".to_owned())
    }
    let pay = async |key: &'static str, people: Vec<(Address, Amount)>| {
        let work = bench.store.write(move |tx| {
            Box::pin(async move { tx.pay_payees(key, &project(), "boinc", &people, 5).await })
        });
        work.await
    };
    pay("one", people.clone()).await.unwrap();
    pay("two", people[..2].to_vec()).await.unwrap();
    assert!(pay("two", people[1..3].to_vec()).await.is_err(), "a key pays once");
    let huge = Amount::from_units(u128::MAX);
    let beyond = pay("three", vec![(people[9].0, huge)]).await;
    assert!(matches!(beyond, Err(LedgerError::Overflow)), "{beyond:?}");
    pay("four", Vec::new()).await.unwrap();
    let (owed, debt) = bench
        .write(|tx| {
            Box::pin(async move { Ok::<_, StoreError>((tx.payees().await?, tx.debt(&project()).await?)) })
        })
        .await;
    let mut wanted = people.clone();
    wanted[0].1 = Amount::from_units(2);
    wanted[1].1 = Amount::from_units(4);
    assert_eq!(owed, wanted);
    assert_eq!(debt, Amount::from_units(1201 * 1202 / 2 + 3));
    let entry = bench
        .write(move |tx| {
            let account = Account::Payee(people[1].0);
            Box::pin(async move { tx.entries(Some(&account), None, 10).await })
        })
        .await;
    let told: Vec<_> = entry.iter().map(|entry| (entry.kind.as_str(), entry.amount.units())).collect();
    assert_eq!(told, [("boinc", 2), ("boinc", 2)]);
}
