//! Buyers' deposits, as the store keeps them.

use sosna_protocol::{Address, Amount, Hash, Signature};
use sosna_store::{
    Account, AssignmentState, Deposit, LedgerError, Purpose, Seen, StoreError, Transaction, TransactionState,
    Transfer,
};

use crate::support::{Bench, JOB, assignment};

const ACCOUNT: Address = Address([7; 20]);
const ESCROW: Address = Address([8; 20]);

fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

fn transfer(key: &str, kind: &'static str, from: Account, to: Account, amount: u128) -> Transfer {
    let amount = units(amount);
    Transfer { key: key.to_owned(), kind, from, to, amount, job: None, assignment: None, at_ms: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_has_one_account_and_brings_what_was_before() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                let buyer = || Account::Buyer("buyer".to_owned());
                for (key, amount) in [("a", 40), ("b", 2)] {
                    tx.transfer(&transfer(key, "credit", Account::Grants, buyer(), amount)).await.unwrap();
                }
                // Neither of these was granted.
                tx.transfer(&transfer("c", "reserve", buyer(), Account::Job(JOB), 20)).await.unwrap();
                tx.transfer(&transfer("d", "release", Account::Job(JOB), buyer(), 20)).await.unwrap();
                tx.set_job_spent(&JOB, units(9)).await?;
                assert_eq!((tx.escrow().await?, tx.deposit_of("buyer").await?), (None, None));
                tx.put_deposit(&ACCOUNT, "buyer", &ESCROW, 5).await?;
                let expected = Deposit {
                    account: ACCOUNT,
                    buyer: "buyer".to_owned(),
                    escrow: ESCROW,
                    seen: Seen::default(),
                    booked: Amount::ZERO,
                    changes: 0,
                    confirmed: Amount::ZERO,
                    signature: None,
                    granted: units(42),
                    spent: units(9),
                };
                assert_eq!(tx.deposit(&ACCOUNT).await?.as_ref(), Some(&expected));
                assert_eq!(tx.deposit_of("buyer").await?, Some(expected));
                assert_eq!((tx.escrow().await?, tx.deposit(&ESCROW).await?), (Some(ESCROW), None));
                tx.count_deposit("stranger", units(1), units(1)).await?;
                tx.count_deposit("buyer", units(43), units(10)).await?;
                let counted = tx.deposit(&ACCOUNT).await?.unwrap();
                assert_eq!((counted.granted, counted.spent), (units(43), units(10)));
                Ok::<_, StoreError>(())
            })
        })
        .await;
    for (account, buyer) in [(ACCOUNT, "other"), (Address([1; 20]), "buyer")] {
        let twice = bench
            .store
            .write(move |tx| Box::pin(async move { tx.put_deposit(&account, buyer, &ESCROW, 5).await }));
        let twice: Result<(), StoreError> = twice.await;
        assert!(matches!(twice, Err(StoreError::Sql(_))), "{twice:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_seen_signed_and_brought_is_kept() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                for number in [3, 1, 2] {
                    let account = Address([number; 20]);
                    tx.put_deposit(&account, &format!("b{number}"), &ESCROW, 5).await?;
                }
                let names = |all: Vec<Deposit>| all.into_iter().map(|one| one.buyer).collect::<Vec<_>>();
                assert_eq!(names(tx.deposits(None, 2).await?), ["b1", "b2"]);
                assert_eq!(names(tx.deposits(Some(&Address([2; 20])), 2).await?), ["b3"]);

                let one = Address([1; 20]);
                // Compared as numbers, whatever their digits.
                let seen = Seen { put: units(1 << 70), claimed: units(255), open_from: 9, block: 4 };
                tx.see_deposit(&one, &seen, units(3), 6).await?;
                assert!(tx.redeemable_deposits().await?.is_empty());
                for (confirmed, is_redeemable) in
                    [(255, false), (256, true), (1 << 70, true), ((1 << 70) + 1, false)]
                {
                    tx.confirm_deposit(&one, units(confirmed), &Signature([5; 65])).await?;
                    let found = tx.redeemable_deposits().await?;
                    assert_eq!(found.len(), usize::from(is_redeemable), "{confirmed}");
                }
                let kept = tx.deposit(&one).await?.unwrap();
                assert_eq!((kept.seen, kept.booked, kept.changes), (seen, units(3), 6));
                assert_eq!(
                    (kept.confirmed, kept.signature),
                    (units((1 << 70) + 1), Some(Signature([5; 65])))
                );

                assert_eq!(tx.last_redeemed_ms(&one).await?, 0);
                let hash = Hash([1; 32]);
                let brings = Transaction {
                    purpose: Purpose::Deposit(one),
                    nonce: 1,
                    hash,
                    raw: vec![1],
                    fee: 2,
                    made_ms: 70,
                    state: TransactionState::Open,
                };
                assert_eq!(tx.last_redemption(&one).await?, None);
                tx.put_transaction(&brings).await?;
                assert_eq!(tx.last_redemption(&one).await?.as_ref(), Some(&brings));
                assert_eq!(tx.open_transactions().await?, std::slice::from_ref(&brings));
                assert_eq!(tx.last_redeemed_ms(&one).await?, 0, "nothing is certain yet");
                tx.end_transactions(1, Some((&hash, TransactionState::Done))).await?;
                assert_eq!(tx.last_redeemed_ms(&one).await?, 70);
                assert_eq!(tx.last_redeemed_ms(&Address([2; 20])).await?, 0);
                Ok::<_, StoreError>(())
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_work_counts_at_its_price() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                assert!(tx.open_prices("buyer").await?.is_empty());
                let (first, second) = (assignment(1, 1, 10), assignment(2, 2, 10));
                assert!(tx.put_assignment(&first).await? && tx.put_assignment(&second).await?);
                assert_eq!(tx.open_prices("buyer").await?, [first.price, second.price]);
                assert!(tx.open_prices("stranger").await?.is_empty());
                tx.end_assignment(&first.id, AssignmentState::Failed, "").await?;
                assert_eq!(tx.open_prices("buyer").await?, [second.price]);
                Ok::<_, StoreError>(())
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deposits_are_a_source_and_take_back_only_what_is_there() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                let buyer = || Account::Buyer("buyer".to_owned());
                tx.transfer(&transfer("a", "deposit", Account::Deposits, buyer(), 10)).await.unwrap();
                assert_eq!(tx.balance(&buyer()).await?, units(10));
                let more = tx.transfer(&transfer("b", "taken_back", buyer(), Account::Deposits, 11)).await;
                assert!(matches!(more, Err(LedgerError::Funds { .. })), "{more:?}");
                tx.transfer(&transfer("c", "taken_back", buyer(), Account::Deposits, 10)).await.unwrap();
                assert_eq!(tx.balance(&buyer()).await?, Amount::ZERO);
                Ok::<_, StoreError>(())
            })
        })
        .await;
}
