//! The air around a device: an access point on the second of two simulated radios, in a network of its own, so that
//! what comes through came by radio. The supplicant's rights are looked at, too.

use std::{
    fs, io,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use sosna_boot::{console::say, system};

/// The point's process number, once it has a network of its own.
const READY: &str = "/run/point.ready";
/// What the access point is; while it is there, there is one.
const WANTED: &str = "/run/point.conf";
const LEASES: &str = "interface wlan1\nstart 10.77.0.10\nend 10.77.0.20\nlease_file /run/point.leases\n\
    pidfile /run/point.pid\noption subnet 255.255.255.0\noption router 10.77.0.1\noption dns 10.77.0.1\n\
    option lease 600\n";
/// What `network.json` has then.
const IN_THE_NETWORK: [&str; 3] = ["has joined the network", "\"link\":true", "\"gateway\":\"10.77.0.1\""];
/// Software emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(100);

pub(crate) fn run(scene: &str) -> io::Result<()> {
    Command::new("/usr/bin/sosna-agent").arg("point").spawn()?;
    let ready = || fs::read_to_string(READY).ok();
    wait_for("the access point", || ready().is_some())?;
    let radio = fs::read_to_string("/sys/class/net/wlan1/phy80211/name")?;
    let moved = Command::new("/usr/sbin/iw")
        .args(["phy", radio.trim(), "set", "netns", &ready().unwrap_or_default()])
        .status()?;
    say(&format!("child: the second radio has moved: {}", moved.success()));
    if scene == "wifi" { joins_and_comes_back() } else { is_refused() }
}

fn joins_and_comes_back() -> io::Result<()> {
    set_up("lab", "wpa_key_mgmt=WPA-PSK\nwpa_passphrase=correct \"horse\" #9")?;
    tell_when(&IN_THE_NETWORK)?;
    say(&format!("child: /run/resolv.conf {}", one_line("/run/resolv.conf")));
    say(&format!("child: /proc/net/route {}", one_line("/proc/net/route")));
    rights()?;
    fs::remove_file(WANTED)?;
    tell_when(&["is not found", "\"link\":false"])?;
    // Its DHCP server has forgotten whom it lent to.
    set_up("lab", "wpa_key_mgmt=WPA-PSK\nwpa_passphrase=correct \"horse\" #9")?;
    tell_when(&IN_THE_NETWORK)?;
    let supplicant = supplicant().ok_or_else(|| io::Error::other("no supplicant"))?;
    // SAFETY: no memory is passed.
    unsafe { libc::kill(supplicant, libc::SIGKILL) };
    tell_when(&["the supplicant ended"])?;
    tell_when(&IN_THE_NETWORK)?;
    say(&format!("child: another supplicant: {}", self::supplicant().is_some_and(|now| now != supplicant)));
    Ok(())
}

fn is_refused() -> io::Result<()> {
    set_up("lab", "wpa_key_mgmt=WPA-PSK\nwpa_passphrase=another password")?;
    tell_when(&["lab refused the password"])?;
    set_up("lab3", "wpa_key_mgmt=SAE\nieee80211w=2\nsae_password=another password")?;
    tell_when(&["lab3 refused the password"])?;
    set_up("lab4", "ignore_broadcast_ssid=1\nwpa_key_mgmt=SAE\nieee80211w=2\nsae_password=correct horse")?;
    tell_when(&IN_THE_NETWORK)
}

/// Changes the access point.
fn set_up(name: &str, keys: &str) -> io::Result<()> {
    let text = format!(
        "interface=wlan1\ndriver=nl80211\nssid={name}\nhw_mode=g\nchannel=1\nwpa=2\nrsn_pairwise=CCMP\n{keys}\n"
    );
    fs::write("/run/point.new", text)?;
    fs::rename("/run/point.new", WANTED)
}

/// Waits until the network's file has all of these.
fn tell_when(parts: &[&str]) -> io::Result<()> {
    let text = || fs::read_to_string(system::NETWORK).unwrap_or_default();
    wait_for(&parts.join(", "), || parts.iter().all(|part| text().contains(part)))?;
    say(&format!("child: network.json {}", text()));
    Ok(())
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > end {
            for log in ["/run/log/wifi.log", "/run/point.log"] {
                for line in fs::read_to_string(log).unwrap_or_default().lines() {
                    say(&format!("child: {log} {line}"));
                }
            }
            say(&format!("child: {what:?} did not come: {}", one_line(system::NETWORK)));
            return Err(io::Error::other(format!("{what} did not come")));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn one_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn supplicant() -> Option<i32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let is_it =
        |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "wpa_supplicant");
    entries.filter(|entry| is_it(&entry.path())).find_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What the supplicant may do, and who may read its configuration.
fn rights() -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let process = supplicant().ok_or_else(|| io::Error::other("no supplicant"))?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let wanted = ["Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:"];
    let lines = status.lines().filter(|line| wanted.iter().any(|key| line.starts_with(key)));
    let text: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    say(&format!("child: rights {}", text.join(" ")));
    let file = fs::metadata("/run/wifi/wlan0.conf")?;
    say(&format!("child: configuration {:o} of {}", file.mode() & 0o7777, file.uid()));
    let words = fs::read_to_string("/run/log/wifi.log")? + &fs::read_to_string(system::NETWORK)?;
    say(&format!("child: the password is told: {}", words.contains("horse")));
    Ok(())
}

/// The access point's process: follows what is wanted.
pub(crate) fn point() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    fs::write("/run/point.number", std::process::id().to_string())?;
    fs::rename("/run/point.number", READY)?;
    fs::write("/run/point.dhcp", LEASES)?;
    fs::write("/run/point.leases", "")?;
    wait_for("the second radio", || {
        fs::read_to_string("/proc/thread-self/net/dev").is_ok_and(|cards| cards.contains("wlan1"))
    })?;
    let mut now = None::<(Vec<Child>, String)>;
    loop {
        let wanted = fs::read_to_string(WANTED).ok();
        if now.as_ref().map(|(_, text)| text) != wanted.as_ref() {
            // Gone without a word, as one that has lost its power.
            for mut child in now.take().into_iter().flat_map(|(children, _)| children) {
                child.kill()?;
                child.wait()?;
            }
            busybox(&["ifconfig", "wlan1", "down"])?.wait()?;
            if let Some(text) = wanted {
                now = Some((begin()?, text));
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn begin() -> io::Result<Vec<Child>> {
    busybox(&["ifconfig", "wlan1", "10.77.0.1", "netmask", "255.255.255.0", "up"])?.wait()?;
    let log = fs::OpenOptions::new().create(true).append(true).open("/run/point.log")?;
    let point = Command::new("/usr/sbin/hostapd").arg(WANTED).stdout(log.try_clone()?).stderr(log).spawn()?;
    Ok(vec![point, busybox(&["udhcpd", "-f", "/run/point.dhcp"])?])
}

fn busybox(arguments: &[&str]) -> io::Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open("/run/point.log")?;
    Command::new("/usr/bin/busybox").args(arguments).stdout(Stdio::null()).stderr(log).spawn()
}
