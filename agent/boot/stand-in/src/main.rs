//! Stands in for the agent in the tests of PID 1: the same program is PID 1 and its child. The child tells what it
//! finds and does what the kernel's command line asks (`test.do=`). Must never be part of an image.

mod wifi;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use sosna_boot::{console::say, power, status::Health, system};

fn main() -> ExitCode {
    if system::requested() {
        system::run(system::Config {
            program: "/usr/bin/sosna-agent".into(),
            arguments: vec!["run".into()],
            environment: vec![("SOSNA_AGENT_JOIN_FILE".into(), system::JOIN.into())],
            identity: "/data/agent/identity".into(),
            health: || {
                assert!(!Path::new("/run/panic").exists(), "as the test wishes");
                if fs::read_to_string("/proc/cmdline").unwrap_or_default().contains("test.do=panic") {
                    // Who does not answer is asked more often.
                    return None;
                }
                let device = fs::read_to_string("/data/agent/identity").ok()?;
                Some(Health {
                    device: Some(device),
                    hub: Some("0xhub".into()),
                    connected: true,
                    tasks: 1,
                    ..Health::default()
                })
            },
        })
    }
    let done = match std::env::args().nth(1).as_deref() {
        Some("run") => run(),
        // Its own child becomes an orphan that PID 1 must take leave of.
        Some("parent") => Command::new("/usr/bin/sosna-agent").arg("orphan").spawn().map(drop),
        Some("point") => wifi::point(),
        Some("orphan") => {
            thread::sleep(Duration::from_millis(300));
            Ok(())
        }
        _ => Err(io::Error::other("an unknown part to play")),
    };
    if let Err(error) = done {
        eprintln!("stand-in: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run() -> io::Result<()> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let wanted = line.split_whitespace().find_map(|word| word.strip_prefix("test.do=")).unwrap_or("wait");
    if wanted == "crash" && !Path::new("/run/crashed").exists() {
        fs::write("/run/crashed", "")?;
        eprintln!("the first time it is killed");
        thread::sleep(Duration::from_millis(100));
        // SAFETY: no memory is passed.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    identity()?;
    tell()?;
    Command::new("/usr/bin/sosna-agent").arg("parent").status()?;
    thread::sleep(Duration::from_millis(700));
    say(&format!("child: {} zombies", zombies()));
    match wanted {
        "crash" => {
            network();
            page();
            let file = std::env::var("SOSNA_AGENT_JOIN_FILE").unwrap_or_default();
            if fs::read_to_string(file).is_ok_and(|token| token == "sosna1token") {
                say("child: the token is here");
            }
            fs::create_dir_all(Path::new(system::FOLDER).join(system::TOLD))?;
            fs::write(system::ENROLLED, "")?;
        }
        "restart" => {
            power::request_restart(None)?;
        }
        "panic" => fs::write("/run/panic", "")?,
        "lose" => {
            // A disk that lost a file, after PID 1 has seen it.
            thread::sleep(Duration::from_secs(6));
            fs::remove_file("/data/agent/identity")?;
            power::request_off()?;
        }
        "hang" => hang()?,
        "wifi" | "wifi-refused" => {
            wifi::run(wanted)?;
            power::request_off()?;
        }
        "off" => {
            power::request_off()?;
        }
        _ => {}
    }
    say("child: waits");
    let told = || system::BootReport::load().ok().flatten().map(|report| report.boot_image);
    let mut known = told();
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = told();
        if now != known {
            say(&format!("child: told {}", now.as_deref().unwrap_or_default()));
            known = now;
        }
    }
}

/// Stops PID 1's first thread as a debugger does.
fn hang() -> io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: no memory is passed.
    if unsafe { libc::ptrace(libc::PTRACE_ATTACH, 1, nothing, nothing) } != 0 {
        return Err(io::Error::last_os_error());
    }
    say("child: PID 1 is stopped");
    Ok(())
}

/// As the agent: a key is made where none is, and kept.
fn identity() -> io::Result<()> {
    let path = "/data/agent/identity";
    if !Path::new(path).exists() {
        let mut random = [0; 8];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        fs::write(path, random.map(|byte| format!("{byte:02x}")).concat())?;
    }
    say(&format!("child: identity {}", fs::read_to_string(path)?));
    Ok(())
}

fn tell() -> io::Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().replace('\n', " ");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    say(&format!("child: mounts {}", points.join(" ")));
    say(&format!("child: controllers {}", read("/sys/fs/cgroup/cgroup.subtree_control")));
    say(&format!("child: boot {}", read(system::BOOT)));
    say(&format!("child: drivers {}", drivers().join(" ")));
    say(&format!("child: host {}", read("/proc/sys/kernel/hostname")));
    say(&format!(
        "child: seed {}",
        fs::metadata("/data/system/entropy").map(|m| m.len()).unwrap_or_default()
    ));
    say(&format!("child: saved clock {}", read("/data/system/clock")));
    say(&format!("child: proxy {}", std::env::var("HTTPS_PROXY").unwrap_or_default()));
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    say(&format!("child: time {}", time.as_secs()));
    let written = fs::write("/usr/bin/x", "").is_err();
    say(&format!("child: the slot {} be written", if written { "cannot" } else { "can" }));
    Ok(())
}

/// Network cards that are hardware, with their drivers.
fn drivers() -> Vec<String> {
    let card = |entry: fs::DirEntry| {
        let driver = fs::read_link(entry.path().join("device/driver")).ok()?;
        Some(format!("{}={}", entry.file_name().to_str()?, driver.file_name()?.to_str()?))
    };
    let mut all: Vec<_> =
        fs::read_dir("/sys/class/net").into_iter().flatten().flatten().filter_map(card).collect();
    all.sort();
    all
}

/// Waits for addresses and tells what came.
fn network() {
    let end = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(system::NETWORK).unwrap_or_default().contains("gateway\":\"")
        && Instant::now() < end
    {
        thread::sleep(Duration::from_millis(50));
    }
    for file in ["/run/resolv.conf", system::NETWORK, "/proc/net/route"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        say(&format!("child: {file} {}", text.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
}

/// Asks PID 1's page over the network card's address.
fn page() {
    let asked = TcpStream::connect("127.0.0.1:80").and_then(|mut stream| {
        stream.write_all(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    say(&format!(
        "child: page {}",
        asked.unwrap_or_else(|error| error.to_string()).lines().last().unwrap_or_default()
    ));
}

fn zombies() -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
        .count()
}
