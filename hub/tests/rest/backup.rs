//! A hub in one file, and back.

use std::{fs, os::unix::fs::PermissionsExt as _};

use sosna_host::clock::SystemClock;
use sosna_hub::{
    Hub, HubConfig,
    backup::{BackupError, backup, restore},
};

use crate::support::Setup;

#[tokio::test]
async fn what_was_backed_up_comes_back_with_a_higher_epoch() {
    let setup = Setup::new().await;
    setup.device(1).await;
    let id = setup.submitted().await;
    let (data, file) = (setup.folder.path().join("hub"), setup.folder.path().join("hub.backup"));
    fs::write(data.join("content/incoming/half"), b"half").unwrap();
    // The hub runs meanwhile.
    let length = backup(&data, &file).await.unwrap();
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (length, 0o600));
    assert!(matches!(backup(&data, &file).await, Err(BackupError::Exists { .. })));
    let left: Vec<_> =
        fs::read_dir(setup.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    let again = setup.folder.path().join("again");
    fs::create_dir(&again).unwrap();
    assert_eq!(restore(&file, &again).await.unwrap(), 1);
    assert!(matches!(restore(&file, &again).await, Err(BackupError::Exists { .. })));
    let config = HubConfig { data: again.display().to_string(), ..HubConfig::default() };
    let (hub, _outbound) = Hub::open(config, SystemClock::shared()).await.unwrap();
    assert_eq!((hub.address(), hub.epoch), (setup.hub.address(), 1));
    assert_eq!(hub.authority.read().await.spki_sha256(), setup.hub.authority.read().await.spki_sha256());
    assert!(hub.content.length(&sosna_protocol::hash::sha256(b"a layer")).is_some());
    assert!(!again.join("content/incoming/half").exists());
    let id = id.parse().unwrap();
    let job = hub.store.read(|tx| Box::pin(async move { tx.job(&id).await })).await.unwrap();
    assert_eq!(job.unwrap().buyer, "buyer");
    assert_eq!(fs::metadata(again.join("hub.key")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn damaged_backups_restore_nothing() {
    let setup = Setup::new().await;
    let (data, file) = (setup.folder.path().join("hub"), setup.folder.path().join("hub.backup"));
    backup(&data, &file).await.unwrap();
    let whole = fs::read(&file).unwrap();
    let target = setup.folder.path().join("restored");
    let mut damages = vec![("cut off", whole[..whole.len() / 2].to_vec()), ("empty", Vec::new())];
    let mut changed = whole.clone();
    changed[whole.len() / 3] ^= 1;
    damages.push(("changed", changed));
    for (what, bytes) in damages {
        let bad = setup.folder.path().join("bad.backup");
        fs::write(&bad, bytes).unwrap();
        let refused = restore(&bad, &target).await;
        assert!(
            matches!(refused, Err(BackupError::Damaged { .. } | BackupError::File(_))),
            "{what}: {refused:?}"
        );
        assert!(!target.exists(), "{what}");
        assert!(!setup.folder.path().join("restored.restoring").exists(), "{what}");
    }
    assert!(matches!(backup(&target, &file).await, Err(BackupError::NoHub { .. })));
}

/// An archive that somebody made to write elsewhere.
#[tokio::test]
async fn archives_do_not_reach_out_of_their_folder() {
    let setup = Setup::new().await;
    let bad = setup.folder.path().join("bad.backup");
    let mut archive = tar::Builder::new(fs::File::create(&bad).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
    header.set_cksum();
    archive.append(&header, &b"x"[..]).unwrap();
    archive.finish().unwrap();
    let target = setup.folder.path().join("restored");
    assert!(matches!(restore(&bad, &target).await, Err(BackupError::Damaged { .. })));
    assert!(!setup.folder.path().join("escape").exists() && !target.exists());
}
