//! A disk that is full: said as such, nothing half done, and the store goes on once there is room.

use std::{path::Path, process::Command};

use sosna_store::{Store, StoreError};
use tempfile::TempDir;

use crate::support::{add_user, put_user, users};

struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).output();
        done.is_ok_and(|done| done.status.success()).then_some(Self(path))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        // Lazily: the store's last connection may not have closed its files yet.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_is_told_and_survived() {
    let folder = TempDir::new().unwrap();
    let Some(_small) = Small::mount(folder.path()) else {
        eprintln!(
            "SKIPPED a_full_disk_is_told_and_survived: a small file system cannot be mounted (not root?)"
        );
        return;
    };
    let store = Store::open(&folder.path().join("hub.sqlite")).await.unwrap();
    add_user(&store, "before".to_owned()).await.unwrap();
    let filler = folder.path().join("filler");
    // Until the file system says no.
    let _ = std::fs::write(&filler, vec![1; 1 << 20]);
    let mut kept = vec!["before".to_owned()];
    let mut full = 0;
    for number in 0..40 {
        let name = format!("{number}-{}", "x".repeat(4000));
        match add_user(&store, name.clone()).await {
            Ok(()) => kept.push(name),
            Err(StoreError::Full) => full += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(full > 0, "the disk was never full");
    // Work of several steps of which a late one finds no room, beside others.
    let (store_a, store_b) = (store.clone(), store.clone());
    let large = store_a.write(|tx| {
        Box::pin(async move {
            for number in 0..200 {
                put_user(tx, &format!("large-{number}-{}", "y".repeat(8000))).await?;
            }
            Ok::<_, StoreError>(())
        })
    });
    let (large, small) = tokio::join!(large, add_user(&store_b, "beside".to_owned()));
    assert!(matches!(large, Err(StoreError::Full)), "{large:?}");
    if small.is_ok() {
        kept.push("beside".to_owned());
    }
    kept.sort();
    assert_eq!(users(&store).await, kept, "what was told to be kept is kept, and nothing else");

    std::fs::remove_file(&filler).unwrap();
    add_user(&store, "zafter".to_owned()).await.unwrap();
    kept.push("zafter".to_owned());
    assert_eq!(users(&store).await, kept);
}
