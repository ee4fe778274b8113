//! Roots, their lists, and transactions, as the store keeps them.

use sosna_protocol::{Address, Amount, Hash, Signature, eip712::Domain, message::pay::Statement};
use sosna_store::{Purpose, Root, StoreError, Transaction, TransactionState};

use crate::support::Bench;

fn statement(units: u128) -> Statement {
    Statement {
        chain_id: 5,
        wallet: Address([9; 20]),
        cumulative: Amount::from_units(units),
        receipts: Hash([1; 32]),
        signature: Signature([2; 65]),
    }
}

fn root(byte: u8) -> Root {
    Root {
        id: 0,
        root: Hash([byte; 32]),
        total: Amount::from_units(30),
        lines: 2,
        paid_seen: Amount::from_units(1),
        made_ms: u64::from(byte),
        active_at: None,
    }
}

fn transaction(root: u64, nonce: u64, byte: u8) -> Transaction {
    Transaction {
        purpose: Purpose::Root(root),
        nonce,
        hash: Hash([byte; 32]),
        raw: vec![byte; 3],
        fee: u128::MAX,
        made_ms: 7,
        state: TransactionState::Open,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_books_are_kept_for_is_settled_by_the_first_work() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                assert_eq!((tx.domain().await?, tx.is_in_use().await?), (None, false));
                for chain_id in [0, 5] {
                    let domain = Domain { chain_id, wallet: Address([9; 20]) };
                    tx.set_domain(&domain).await?;
                    assert_eq!(tx.domain().await?, Some(domain));
                }
                tx.put_voucher(&Address([1; 20]), &statement(10), 1).await?;
                assert!(tx.is_in_use().await?);
                Ok::<_, StoreError>(())
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_of_the_latest_vouchers() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                let (one, two) = (Address([1; 20]), Address([2; 20]));
                // The largest is not the one with the most digits: amounts are compared whole.
                for units in [9, 1 << 90, 255] {
                    tx.put_voucher(&one, &statement(units), 1).await?;
                }
                tx.put_voucher(&two, &statement(20), 7).await?;
                let amount = Amount::from_units;
                assert_eq!(tx.vouchered().await?, [(one, amount(1 << 90)), (two, amount(20))]);
                Ok::<_, StoreError>(())
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_followed_from_its_signing_to_its_block() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                let lines =
                    [(Address([2; 20]), Amount::from_units(20)), (Address([1; 20]), Amount::from_units(10))];
                let id = tx.put_root(&root(1), lines).await?;
                assert_eq!(tx.root_lines(id).await?, lines, "in their own order");
                assert_eq!(tx.roots(5).await?, [Root { id, ..root(1) }]);
                // Offered for more: both are open, the one that offers most comes first.
                for byte in [1, 2] {
                    tx.put_transaction(&transaction(id, 4, byte)).await?;
                }
                let open = tx.open_transactions().await?;
                assert_eq!(open, [transaction(id, 4, 2), transaction(id, 4, 1)]);
                tx.end_transactions(4, Some((&Hash([1; 32]), TransactionState::Done))).await?;
                tx.settle_root(id, 99).await?;
                assert!(tx.open_transactions().await?.is_empty());
                let states: Vec<_> =
                    tx.transactions_of(id).await?.iter().map(|one| (one.hash.0[0], one.state)).collect();
                assert_eq!(states, [(2, TransactionState::Replaced), (1, TransactionState::Done)]);
                assert_eq!(tx.root(id).await?.and_then(|root| root.active_at), Some(99));
                Ok::<_, StoreError>(())
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_lists_go_and_those_that_can_be_claimed_by_stay() {
    let bench = Bench::filled().await;
    bench
        .write(|tx| {
            Box::pin(async move {
                let lines = [(Address([1; 20]), Amount::from_units(10))];
                // The wallet takes the first, the second and the last; those in between fail.
                for byte in 1..=6_u8 {
                    let certain = tx.newest_root(None).await?.map(|root| root.root.0[0]);
                    assert_eq!(certain, [None, Some(1), Some(2)][usize::from(byte - 1).min(2)]);
                    let id = tx.put_root(&root(byte), lines).await?;
                    tx.put_transaction(&transaction(id, u64::from(byte), byte)).await?;
                    tx.end_transactions(u64::from(byte), None).await?;
                    if matches!(byte, 1 | 2 | 6) {
                        tx.settle_root(id, u64::from(byte)).await?;
                    }
                }
                let roots = tx.roots(10).await?;
                let mut kept = Vec::new();
                for root in &roots {
                    kept.push(tx.root_lines(root.id).await?.len());
                }
                assert_eq!(kept, [1, 1, 1, 1, 1, 0], "newest first: the one before can still be claimed by");
                assert_eq!(roots.iter().map(|root| root.root.0[0]).collect::<Vec<_>>(), [6, 5, 4, 3, 2, 1]);
                let named = tx.newest_root(Some(&Hash([2; 32]))).await?;
                assert_eq!(named.as_ref(), roots.get(4));
                assert_eq!(tx.newest_root(Some(&Hash([9; 32]))).await?, None);
                // The same list again is another root: what is known is known of the newest.
                let again = tx.put_root(&root(2), lines).await?;
                assert_eq!(tx.newest_root(Some(&Hash([2; 32]))).await?.map(|root| root.id), Some(again));
                Ok::<_, StoreError>(())
            })
        })
        .await;
}
