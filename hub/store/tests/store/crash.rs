//! A process that is killed while it writes: whatever it said to have written is there.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use sosna_store::Store;
use tempfile::TempDir;

use crate::support::{add_user, users};

const FILE: &str = "SOSNA_TEST_STORE";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that writes until it is killed; the test below starts it"]
async fn writes_until_it_is_killed() {
    let file = std::env::var(FILE).unwrap();
    let store = Store::open(Path::new(&file)).await.unwrap();
    let before = users(&store).await.len();
    for number in before.. {
        add_user(&store, format!("written-{number}")).await.unwrap();
        // Straight to the descriptor: the harness holds back what is printed.
        writeln!(std::io::stderr(), "acknowledged written-{number}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hub.sqlite");
    let mut acknowledged = Vec::new();
    for round in 1..=5_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "crash::writes_until_it_is_killed", "--nocapture"])
            .env(FILE, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(name) = line.strip_prefix("acknowledged ") {
                acknowledged.push(name.to_owned());
                said += 1;
            }
            if said == 20 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(said >= 20 * round, "the child wrote {said} times only");
        let store = Store::open(&file).await.unwrap();
        let kept = users(&store).await;
        assert!(acknowledged.iter().all(|name| kept.contains(name)));
        // At most the one write whose acknowledgement the kill came before.
        assert!(kept.len() <= acknowledged.len() + round, "{} kept, {} said", kept.len(), acknowledged.len());
    }
}
