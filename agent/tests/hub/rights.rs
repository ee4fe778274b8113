//! What a running agent may do, seen from outside; and that it works all the same.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sosna_protocol::{Amount, result::Cause, topic::Kind};

use crate::{
    accept_verdict, accepted, assign, check, containers_left, revealed,
    support::{
        agent::{Agent, program},
        opening::{Opening, enrolled},
    },
};

/// A line of /proc/PID/status.
fn says(process: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The agent's monitor: its only child.
fn monitor_of(agent: &Agent) -> String {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.id())).unwrap();
    let children: Vec<_> = children.split_whitespace().collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_agent_has_no_rights() {
    let Some(opening) = enrolled("a_running_agent_has_no_rights", true).await else { return };
    let Opening { folder, hub, agent, .. } = opening;
    let status = agent.status();
    if !status.walls.iter().any(|wall| wall == "an agent without rights") {
        eprintln!("SKIPPED a_running_agent_has_no_rights: {:?}", status.missing_limits);
        return;
    }
    let (own, monitor) = (agent.id().to_string(), monitor_of(&agent));
    let user = says(&own, "Uid").split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!((1 << 29..1 << 30).contains(&user), "{user}");
    for name in ["Uid", "Gid"] {
        assert_eq!(says(&own, name), [user; 4].map(|id| id.to_string()).join(" "), "{name}");
    }
    assert_eq!(says(&own, "Groups"), "");
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(says(&own, name), "0000000000000000", "{name}");
    }
    assert_eq!((says(&own, "NoNewPrivs"), says(&own, "Seccomp")), ("1".into(), "2".into()));
    // Every thread was born after that.
    for thread in fs::read_dir(format!("/proc/{own}/task")).unwrap() {
        let thread = format!("{own}/task/{}", thread.unwrap().file_name().to_str().unwrap());
        assert_eq!(
            (says(&thread, "CapEff"), says(&thread, "Seccomp")),
            ("0000000000000000".into(), "2".into())
        );
    }
    assert_eq!((says(&monitor, "Uid"), says(&monitor, "Threads")), ("0 0 0 0".into(), "1".into()));

    // What is whose.
    let of_root = ["lock", "containers", "images", "state", "identity.key", "encryption.key"];
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let owner = if of_root.contains(&name.as_str()) { 0 } else { user };
        assert_eq!(entry.metadata().unwrap().uid(), owner, "{name}");
    }
    let meta = fs::metadata(folder.path()).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, user, 0o1770));
    for (name, owner) in [("layers", 0), ("work", 0), ("blobs", user), ("index", user)] {
        assert_eq!(fs::metadata(folder.path().join("images").join(name)).unwrap().uid(), owner, "{name}");
    }

    // Commands are root's, and what they make is the agent's from its next start on.
    assert!(agent.stop().0.success());
    let to = "0x00000000000000000000000000000000000000aa";
    let said = program().args(["wallet", "payout-to", to, "--data"]).arg(folder.path()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    fs::write(folder.path().join("left-by-a-command"), "").unwrap();
    let agent = Agent::start(folder.path(), None);
    drop(hub);
    for _ in 0..100 {
        if Path::new(&folder.path().join("agent.sock")).exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(fs::metadata(folder.path().join("left-by-a-command")).unwrap().uid(), user);
    assert_eq!(agent.status().earnings.payout_to.unwrap().to_lowercase(), to);
    assert!(agent.stop().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_ends_with_its_monitor_and_its_containers_do_not() {
    let name = "an_agent_ends_with_its_monitor_and_its_containers_do_not";
    let Some(opening) = enrolled(name, true).await else { return };
    let Opening { folder, mut hub, image, agent, device } = opening;
    // Files that nobody else may read are results like others.
    let script = "umask 077; echo begin; sleep 4; mkdir -p /out/tile; echo deep > /out/tile/file";
    let work = assign(&hub, image, script, false);
    hub.say(device, &work).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    hub.hear(&[Kind::Log]).await;
    let monitor = monitor_of(&agent);
    kill(Pid::from_raw(monitor.parse().unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(agent.end().code(), Some(1));
    let agent = Agent::start(folder.path(), None);
    assert_eq!(hub.welcome(1000).await, [work.assignment]);
    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    assert_eq!((reveal.cause, reveal.exit_code), (Cause::Exited, 0));
    let (manifest, receipt) = check(&hub, device, &work, &reveal);
    assert!(reveal.usage.wall_ms >= 4000, "it ran once, to its end: {:?}", reveal.usage);
    assert!(format!("{manifest:?}").contains("out/tile/file"), "{manifest:?}");
    accept_verdict(&mut hub, device, &receipt, Amount::SNM).await;
    assert_eq!(containers_left(folder.path()).await, 0);
    assert!(agent.stop().0.success());
}
