//! Real processes, as root: one that gives up its rights, its monitor, and helpers. This binary is all of them.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod tries;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _, unix::net::UnixStream},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use sosna_privsep::{Charge, Confinement, Helper, Launcher, Monitor, Streams, User, confine, give};

const HELPER: &str = "sosna-test-helper";
const PATIENCE: Duration = Duration::from_secs(10);
const USER: User = User(1_073_000_000);
const LEFT: User = User(1_073_000_001);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() == Some(OsStr::new(HELPER)) {
        return helper(&arguments.map(|a| a.into_string().unwrap()).collect::<Vec<_>>());
    }
    let arguments: Vec<String> = arguments.map(|a| a.into_string().unwrap()).collect();
    match arguments.first().map(String::as_str) {
        Some("as-caller") => return caller(Path::new(&arguments[1]), &arguments[2]),
        Some("try") => return tries::run(&arguments[1..]),
        _ => {}
    }
    // As a harness would, so that one can be run alone.
    let filter = arguments.iter().find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    let cases: [(&str, fn()); 4] = [
        ("orders_are_carried_out_and_nothing_else", orders),
        ("helpers_end_with_their_caller_or_stay", ends),
        ("whoever_gave_up_its_rights_has_none", without_rights),
        ("a_user_of_its_own_is_named_where_it_is_not_to_be_had", ordinary),
    ];
    for (name, case) in cases.iter().filter(|(name, _)| name.contains(&filter)) {
        case();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn helpers() -> Vec<Helper> {
    let helper = |name, ends_with_caller| Helper {
        name,
        argv0: HELPER,
        arguments: vec![name.into()],
        ends_with_caller,
        most: 60,
    };
    vec![helper("echo", true), helper("sleep", true), helper("stay", false), helper("fail", true)]
}

fn helper(arguments: &[String]) -> ExitCode {
    let [name, argument] = arguments else { return ExitCode::from(9) };
    match name.as_str() {
        "echo" => {
            let mut input = String::new();
            io::stdin().read_to_string(&mut input).unwrap();
            let (uid, environment) = (nix::unistd::geteuid(), std::env::vars_os().count());
            let folder = std::env::current_dir().unwrap();
            println!("{argument}|{input}|{uid}|{environment}|{}", folder.display());
        }
        "fail" => return ExitCode::from(7),
        _ => {
            fs::write(argument, std::process::id().to_string()).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
    }
    ExitCode::SUCCESS
}

fn call(launcher: &Launcher, helper: &str, argument: &str, input: &str) -> io::Result<String> {
    let streams = Streams::reading(input.as_bytes())?;
    let (status, said) = launcher.call((helper, argument), streams, 1 << 16, PATIENCE)?;
    assert!(status.success(), "{status}");
    Ok(String::from_utf8(said).unwrap())
}

fn orders() {
    let launcher = Monitor::new(helpers()).unwrap().beside().unwrap();
    let uid = nix::unistd::geteuid();
    // Only what a build with fault points passes on is in the environment, and none is set here.
    assert_eq!(call(&launcher, "echo", "a b", "input").unwrap(), format!("a b|input|{uid}|0|/\n"));
    let long = "x".repeat(4096);
    assert!(call(&launcher, "echo", &long, "").unwrap().starts_with(&long));
    assert_eq!(
        call(&launcher, "echo", &"x".repeat(4097), "").unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert_eq!(call(&launcher, "sh", "-c id", "").unwrap_err().kind(), io::ErrorKind::NotFound);
    // The monitor closes what came with an order that is none, and goes on.
    call(&launcher, "echo", "a\0b", "").unwrap_err();
    let (status, said) = launcher.call(("fail", ""), Streams::default(), 1, PATIENCE).unwrap();
    assert_eq!((status.code(), said.len()), (Some(7), 0));
    let waits = launcher.start("sleep", "/dev/null", Streams::default()).unwrap();
    assert_eq!(waits.wait(Duration::from_millis(200)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    // Many at once, each told its own end.
    let all: Vec<_> = (0..50)
        .map(|n| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let streams = Streams { stdout: Some(OwnedFd::from(theirs)), ..Streams::reading(b"").unwrap() };
            (n, ours, launcher.start("echo", &n.to_string(), streams).unwrap())
        })
        .collect();
    for (n, mut ours, running) in all {
        assert!(running.wait(PATIENCE).unwrap().success());
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        assert!(said.starts_with(&format!("{n}|")), "{said}");
    }
    // And not more than there may be.
    let sleepers: Vec<_> =
        (0..70).map(|_| launcher.start("sleep", "/dev/null", Streams::default()).unwrap()).collect();
    // Answered after all of them were.
    call(&launcher, "echo", "", "").unwrap();
    let refused = sleepers.into_iter().filter_map(|sleeper| sleeper.wait(Duration::from_millis(20)).err());
    let refused = refused.filter(|error| error.raw_os_error() == Some(libc::EAGAIN)).count();
    assert!((10..=11).contains(&refused), "{refused}");
    assert!(call(&launcher, "echo", "still there", "").unwrap().starts_with("still there"));
}

/// A caller with a monitor of its own: starts helpers, leaves a process behind, says so, and waits to be killed.
fn caller(folder: &Path, peer: &str) -> ExitCode {
    let lock = File::create(folder.join("lock")).unwrap();
    lock.try_lock().unwrap();
    let user = nix::unistd::geteuid().is_root().then_some(LEFT);
    let charge = Charge { user, kept: vec![lock.into()] };
    let launcher = Monitor::new(helpers()).unwrap().separate(charge).unwrap();
    // SAFETY: there is one thread.
    if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.unwrap() {
        // With the launcher, and all else that is open.
        return leave_behind(&folder.join("left"), user);
    }
    hand_over_what_waits(&launcher, peer);
    let file = |name: &str| folder.join(name).display().to_string();
    let _tied = launcher.start("sleep", &file("tied"), Streams::default()).unwrap();
    let dropped = launcher.start("sleep", &file("dropped"), Streams::default()).unwrap();
    drop(launcher.start("stay", &file("stays"), Streams::default()).unwrap());
    for name in ["tied", "dropped", "stays", "left"] {
        until(|| fs::read_to_string(folder.join(name)).is_ok_and(|text| !text.is_empty()));
    }
    drop(dropped);
    // What its user does is ended when it is gone, and not when it has no more to ask for.
    if let Some(User(id)) = user {
        nix::unistd::setresuid(id.into(), id.into(), id.into()).unwrap();
    }
    println!("started");
    io::stdout().flush().unwrap();
    let _ = io::stdin().read(&mut [0]);
    drop(launcher);
    std::thread::sleep(Duration::from_millis(300));
    println!("lived");
    let _ = io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// Sends what is no order, each time with a socket whose last close, which is the monitor's, waits for somebody who never
/// reads.
fn hand_over_what_waits(launcher: &Launcher, peer: &str) {
    for _ in 0..20 {
        let mut socket = TcpStream::connect(peer).unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 1 << 16]).is_ok() {}
        socket.set_nonblocking(false).unwrap();
        let linger = libc::linger { l_onoff: 1, l_linger: 600 };
        setsockopt(&socket, sockopt::Linger, &linger).unwrap();
        // In a child, which may wait itself, until this process's copy is gone.
        // SAFETY: there is one thread.
        if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.unwrap() {
            std::thread::sleep(Duration::from_millis(50));
            let streams = Streams { stdin: Some(socket.into()), ..Streams::default() };
            launcher.start("echo", "a\0b", streams).unwrap();
            std::process::exit(0);
        }
    }
}

/// A process that wants to stay, and that kills whoever of its user comes to end it once the caller is gone.
fn leave_behind(file: &Path, user: Option<User>) -> ExitCode {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid},
    };
    fs::write(file, std::process::id().to_string()).unwrap();
    let Some(User(id)) = user else {
        std::thread::sleep(Duration::from_secs(600));
        return ExitCode::SUCCESS;
    };
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[]).unwrap();
    setresgid(gid, gid, gid).unwrap();
    let caller = nix::unistd::getppid();
    setresuid(uid, uid, uid).unwrap();
    while nix::unistd::getppid() == caller {
        std::thread::yield_now();
    }
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        assert_eq!(nix::unistd::getuid(), uid);
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
    ExitCode::SUCCESS
}

fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ends() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody is let in, and nothing is read.
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut caller = Command::new(std::env::current_exe().unwrap())
        .arg("as-caller")
        .arg(folder.path())
        .arg(peer.local_addr().unwrap().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 8];
    caller.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let pid = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    // One that is dead and not yet reaped has no command line.
    let lives =
        |name: &str| fs::read(format!("/proc/{}/cmdline", pid(name))).is_ok_and(|line| !line.is_empty());
    until(|| !lives("dropped"));
    assert!(lives("tied") && lives("stays"));
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", caller.id())).unwrap();
    let monitor = children.split(' ').next().unwrap().to_owned();
    let lock = File::options().write(true).open(folder.path().join("lock")).unwrap();
    lock.try_lock().unwrap_err();
    // Its monitor keeps no descriptor of the caller's but standard ones, its socket, the program, the lock and the caller;
    // those of an order that was none go one by one.
    until(|| fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count() <= 3 + 4 + 3 * 2);
    caller.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut said = [0; 6];
    caller.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"lived\n");
    assert!(Path::new(&format!("/proc/{monitor}")).exists());
    caller.kill().unwrap();
    caller.wait().unwrap();
    until(|| !lives("tied") && !Path::new(&format!("/proc/{monitor}")).exists());
    assert!(lives("stays"), "containers outlive the agent");
    // What the caller left behind keeps neither its monitor nor its lock, and nothing of its user stays.
    lock.try_lock().unwrap();
    let end = |name: &str| {
        let pid = nix::unistd::Pid::from_raw(pid(name).parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    if nix::unistd::geteuid().is_root() {
        assert!(!lives("left"));
    } else {
        end("left");
    }
    end("stays");
}

/// Everything is tried with all rights first, where it must succeed, and then without.
fn without_rights() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root has rights to give up");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let (own, secret) = (folder.path().join("own"), folder.path().join("secret"));
    fs::create_dir(&own).unwrap();
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    give(&own, USER).unwrap();
    // A program of root's and one of the same user, as another agent on the machine would be.
    let mut victims = [None, Some(USER.0)].map(|uid| {
        use std::os::unix::process::CommandExt as _;
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        if let Some(uid) = uid {
            sleep.uid(uid).gid(uid);
        }
        sleep.spawn().unwrap()
    });
    let pids: Vec<String> = victims.iter().map(|victim| victim.id().to_string()).collect();
    let run = |how: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("try").arg(how).arg(folder.path()).args(&pids);
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{how}: {}", output.status);
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|line| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap())
            .collect::<Vec<_>>()
    };
    let (with, without) = (run("with"), run("without"));
    victims.iter_mut().for_each(|victim| {
        victim.kill().unwrap();
        victim.wait().unwrap();
    });
    assert_eq!(with.len(), without.len());
    let mut wrong = Vec::new();
    println!("{:58} {:24} without", "", "with all rights");
    for ((what, had), (_, has)) in with.iter().zip(&without) {
        println!("{what:58} {had:24} {has}");
        let is_need = what.starts_with("needs: ");
        if had != "done" && !had.starts_with("not here") || (has == "done") != is_need {
            wrong.push(what);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn ordinary() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg("try").arg("walls").arg(folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no way to new privileges"), "{text}");
}

/// Gives the rights up as an agent does.
fn give_up(folder: &Path, user: Option<User>) -> (Launcher, sosna_privsep::Walls) {
    let launcher = Monitor::new(helpers()).unwrap().separate(Charge::default()).unwrap();
    let walls = confine(&Confinement { user, writes: &[folder] });
    (launcher, walls)
}
