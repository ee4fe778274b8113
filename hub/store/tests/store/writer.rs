//! One writer: what shares a commit, who is told what, and what cancelled callers leave behind.

use std::{sync::Arc, time::Duration};

use sosna_store::{Store, StoreError};
use tokio::{sync::Barrier, task::JoinSet, time::timeout};

use crate::support::{Bench, add_user, put_user, users};

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no, {0}")]
    Own(u32),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_share_commits_and_one_that_fails_undoes_only_itself() {
    let bench = Bench::new().await;
    let mut tasks = JoinSet::new();
    for number in 0..500_u32 {
        let store = bench.store.clone();
        tasks.spawn(async move {
            let written = store
                .write(move |tx| {
                    Box::pin(async move {
                        put_user(tx, &format!("user-{number}")).await?;
                        if number % 7 == 0 { Err(Failure::Own(number)) } else { Ok(number) }
                    })
                })
                .await;
            match written {
                Ok(value) => assert!(value == number && number % 7 != 0),
                Err(Failure::Own(value)) => assert!(value == number && number % 7 == 0),
                Err(Failure::Store(error)) => panic!("{error}"),
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let kept = bench.users().await;
    assert_eq!(kept.len(), (0..500).filter(|number| number % 7 != 0).count());
    assert!(!kept.contains(&"user-7".to_owned()) && kept.contains(&"user-8".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_visible_before_the_commit() {
    let bench = Bench::new().await;
    let (reached, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (store, inside, held) = (bench.store.clone(), reached.clone(), go_on.clone());
    let writing = tokio::spawn(async move {
        store
            .write(move |tx| {
                Box::pin(async move {
                    put_user(tx, "early").await?;
                    inside.wait().await;
                    held.wait().await;
                    Ok::<_, StoreError>(())
                })
            })
            .await
    });
    reached.wait().await;
    assert!(bench.users().await.is_empty());
    go_on.wait().await;
    writing.await.unwrap().unwrap();
    assert_eq!(bench.users().await, ["early"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_overlooks_an_error_is_told_and_not_kept() {
    let bench = Bench::new().await;
    let result = bench
        .store
        .write(|tx| {
            Box::pin(async move {
                put_user(tx, "half").await?;
                // Two devices under one address: the second is refused by the database.
                crate::support::put_device(tx, 1).await?;
                assert!(crate::support::put_device(tx, 1).await.is_err());
                assert!(put_user(tx, "after").await.is_err(), "nothing runs after an error");
                Ok::<_, StoreError>(())
            })
        })
        .await;
    assert!(matches!(result, Err(StoreError::Sql(_))), "{result:?}");
    assert!(bench.users().await.is_empty());
    add_user(&bench.store, "next".to_owned()).await.unwrap();
    assert_eq!(bench.users().await, ["next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_lose_nothing_and_block_nobody() {
    let bench = Bench::new().await;
    for number in 0..50 {
        let store = bench.store.clone();
        let one = tokio::spawn(async move { add_user(&store, format!("gone-{number}")).await });
        tokio::task::yield_now().await;
        one.abort();
    }
    timeout(Duration::from_secs(10), add_user(&bench.store, "here".to_owned())).await.unwrap().unwrap();
    assert!(bench.users().await.contains(&"here".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_go_away_leave_no_old_snapshot_behind() {
    let bench = Bench::new().await;
    for round in 0..3 {
        // More than there are reading connections, each dropped inside its snapshot.
        for _ in 0..8 {
            let reading = bench.store.read(|tx| {
                Box::pin(async move {
                    tx.users().await?;
                    std::future::pending::<()>().await;
                    Ok::<_, StoreError>(())
                })
            });
            assert!(timeout(Duration::from_millis(30), reading).await.is_err());
        }
        add_user(&bench.store, format!("round-{round}")).await.unwrap();
        for _ in 0..8 {
            let users = timeout(Duration::from_secs(10), bench.users()).await.unwrap();
            assert_eq!(users.len(), round + 1, "every reader sees what was committed last");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_cannot_write() {
    let bench = Bench::new().await;
    let result = bench.store.read(|tx| Box::pin(async move { put_user(tx, "sly").await })).await;
    assert!(matches!(result, Err(StoreError::Sql(_))), "{result:?}");
    assert!(bench.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_reopened_and_keeps_its_counts() {
    let bench = Bench::new().await;
    let path = bench.store.path().to_owned();
    add_user(&bench.store, "first".to_owned()).await.unwrap();
    let start = bench.write(|tx| Box::pin(async move { tx.count_start().await })).await;
    assert_eq!(start, 1);
    drop(bench.store);
    let again = Store::open(&path).await.unwrap();
    assert_eq!(users(&again).await, ["first"]);
    let counts: (u32, u32) = again
        .write(|tx| {
            Box::pin(async move { Ok::<_, StoreError>((tx.count_start().await?, tx.raise_epoch().await?)) })
        })
        .await
        .unwrap();
    assert_eq!(counts, (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_counted_its_migrations_in_a_table_is_gone_on_with() {
    let Bench { store, folder } = Bench::new().await;
    let path = store.path().to_owned();
    add_user(&store, "first".to_owned()).await.unwrap();
    drop(store);
    let file = rusqlite::Connection::open(&path).unwrap();
    let version = |file: &rusqlite::Connection| {
        file.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap()
    };
    let newest = version(&file);
    let mut old =
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, success BOOLEAN NOT NULL);".to_owned();
    for number in 1..=newest {
        old.push_str(&format!("INSERT INTO _sqlx_migrations VALUES ({number}, TRUE);"));
    }
    old.push_str("PRAGMA user_version = 0;");
    file.execute_batch(&old).unwrap();
    let again = Store::open(&path).await.unwrap();
    assert_eq!(users(&again).await, ["first"]);
    assert_eq!(version(&file), newest);
    file.query_row("SELECT * FROM _sqlx_migrations", [], |_| Ok(())).unwrap_err();
    drop(again);

    // One of a newer program is left as it is.
    file.execute_batch(&format!("PRAGMA user_version = {}", newest + 1)).unwrap();
    assert!(matches!(Store::open(&path).await, Err(StoreError::Migrate(_))));
    assert_eq!(version(&file), newest + 1);
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_made_while_work_goes_on_is_whole() {
    let bench = Bench::new().await;
    let store = bench.store.clone();
    // Each write adds a pair; a copy never holds half of one.
    let writing = tokio::spawn(async move {
        for number in 0..300 {
            let pair = store.write(move |tx| {
                Box::pin(async move {
                    put_user(tx, &format!("{number}-left")).await?;
                    put_user(tx, &format!("{number}-right")).await
                })
            });
            pair.await.map_err(|error: StoreError| error).unwrap();
        }
    });
    for copy in 0..3 {
        let file = bench.folder.path().join(format!("copy-{copy}.sqlite"));
        bench.store.copy_to(&file).await.unwrap();
        let copied = users(&Store::open(&file).await.unwrap()).await;
        assert_eq!(copied.len() % 2, 0);
        assert!(matches!(bench.store.copy_to(&file).await, Err(StoreError::Backup { .. })));
    }
    writing.await.unwrap();
    assert_eq!(bench.users().await.len(), 600);
}
