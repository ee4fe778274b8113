//! What befalls one device's disk, and what its system does about it.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    disk::{Disk, Wishes},
    kit::{Kit, kit},
    machine::Machine,
};

const DEVICE: &str = r#"
hostname = "lab-7"
colour = "blue"
[proxy]
http = "http://proxy.lan:3128"
[[network.interface]]
card = "52:54:00:00:00:07"
address = "10.0.9.7/24"
gateway = "10.0.9.2"
metered = true
"#;
const NO_NETWORK: [&str; 2] = ["-nic", "none"];

pub(crate) fn a_slot_with_one_wrong_bit_is_refused_and_named(test: &str) {
    let Some(kit) = kit(test) else { return };
    let disk = Disk::make(kit, &Wishes::default());
    disk.flip_a_bit();
    let machine = Machine::start(kit, &disk, "one wrong bit", "", &NO_NETWORK);
    let said = machine.end();
    assert!(said.contains("slot a on /dev/vda2 is refused"), "{said}");
    assert!(said.contains("restarts in 10 seconds"), "{said}");
    assert!(!said.contains("agent started"), "{said}");
}

/// As an image has it: the template is there, and the card is larger.
pub(crate) fn power_may_fail_while_the_data_area_is_made(test: &str) {
    let Some(kit) = kit(test) else { return };
    for (with_data, name) in [(false, "blank"), (true, "template")] {
        let disk = Disk::make(
            kit,
            &Wishes { boot: &[("device.toml", "colour = 1")], size: 200, with_data, ..Wishes::default() },
        );
        let mut machine = Machine::start(kit, &disk, name, "", &NO_NETWORK);
        machine.expect("nobody knows the key `colour`");
        machine.cut(Duration::from_millis(if with_data { 250 } else { 120 }));
        let mut machine = Machine::start(kit, &disk, name, "test.do=off", &NO_NETWORK);
        let data = machine.expect("data area: ");
        let size: u64 = data.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
        assert!((135..=144).contains(&size), "{data}");
        machine.end();
        is_unmounted(&disk);
    }
}

pub(crate) fn a_system_that_hangs_is_restarted_by_the_watchdog(test: &str) {
    let Some(kit) = kit(test) else { return };
    let disk = Disk::make(kit, &Wishes { with_data: true, ..Wishes::default() });
    let arguments = ["-nic", "none", "-device", "i6300esb"];
    let mut machine = Machine::start(kit, &disk, "hang", "test.do=hang", &arguments);
    machine.expect("child: PID 1 is stopped");
    // The emulator's watchdog resets the machine, which ends it (`-no-reboot`).
    let said = machine.end_within(Duration::from_secs(150));
    assert!(!said.contains("restarting:") && !said.contains("turning off"), "{said}");
}

/// One device's life: first boot, a boot without network, damage, repair by its owner.
pub(crate) fn a_device_keeps_what_it_is_through_restarts_and_damage(test: &str) {
    let Some(kit) = kit(test) else { return };
    let files = [("device.toml", DEVICE), ("join", "sosna1token")];
    let disk = Disk::make(kit, &Wishes { boot: &files, size: 320, ..Wishes::default() });
    let identity = first_boot(kit, &disk);
    second_boot_without_network(kit, &disk, &identity);
    damage_is_held(kit, &disk);
    the_owner_repairs(kit, &disk, &identity);
    a_lost_identity_is_not_replaced(kit, &disk, &identity);
}

fn first_boot(kit: &Kit, disk: &Disk) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let user = format!("user,id=n0,ipv6-net=fd05::/64,hostfwd=tcp:127.0.0.1:{port}-:80");
    let mut network = vec!["-netdev", user.as_str(), "-device", "virtio-net-pci,netdev=n0,romfile="];
    network.extend(["-netdev", "user,id=n1,net=10.0.9.0/24", "-device"]);
    network.extend(["virtio-net-pci,netdev=n1,mac=52:54:00:00:00:07,romfile=", "-device", "i6300esb"]);
    let mut machine = Machine::start(kit, disk, "first boot", "test.do=crash", &network);
    machine.expect("nobody knows the key `colour`");
    machine.expect("data area: made anew, ");
    let fallen = machine.expect("the agent ended by SIGKILL");
    assert!(
        fallen.contains("its last words: the first time it is killed; it starts again in 1 s"),
        "{fallen}"
    );
    let identity = machine.expect("child: identity ");
    let mounts = machine.expect("child: mounts ");
    for point in ["/data", "/sys/fs/cgroup", "/tmp", "/var", "/dev/pts", "/dev/shm"] {
        assert!(mounts.split(' ').any(|p| p == point), "{point}: {mounts}");
    }
    assert!(!mounts.contains("/boot"), "mounted for moments only: {mounts}");
    let controllers = machine.expect("child: controllers ");
    assert!(["cpu", "memory", "pids"].iter().all(|c| controllers.contains(c)), "{controllers}");
    let told = machine.expect("child: boot ");
    for part in [r#""board":"qemu","slot":"a","version":"0.1.0","kernel":"6.12"#, r#""held":false"#] {
        assert!(told.contains(part), "{part}: {told}");
    }
    machine.expect("child: host lab-7");
    machine.expect("child: seed 256");
    assert!(!machine.expect("child: saved clock").ends_with("clock"));
    machine.expect("child: proxy http://proxy.lan:3128");
    machine.expect("child: the slot cannot be written");
    machine.expect("child: 0 zombies");
    network_is_up(&mut machine);
    let page = machine.expect("child: page ");
    assert!(page.contains("\"hostname\":\"lab-7\"") && page.contains("\"watchdog\":true"), "{page}");
    assert!(!page.contains("sosna1token"), "{page}");
    machine.expect("child: the token is here");
    // From outside, once a router's announcement has given an address, too.
    let end = Instant::now() + Duration::from_secs(30);
    let text = loop {
        let text = page_from_outside(port);
        if text.contains("fd05:") || Instant::now() > end {
            break text;
        }
        thread::sleep(Duration::from_millis(200));
    };
    assert!(text.contains("lab-7 0.1.0 slot a: 10.0.2.15/24 on eth0, fd05::"), "{text}");
    machine.expect("child: waits");
    machine.expect("the join token is removed");
    machine.tell("system_powerdown");
    let said = machine.end();
    assert!(said.contains("turning off: everything is written and unmounted"), "{said}");
    assert!(!said.contains("stays mounted"), "{said}");
    let listing = disk.boot_files(kit);
    assert!(listing.contains("device") && !listing.contains("join"), "{listing}");
    is_unmounted(disk);
    let checked = kit.tool("sfdisk").arg("--verify").arg(disk.image()).output().unwrap();
    let words =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && words.contains("No errors"), "{words}");
    identity.rsplit(' ').next().unwrap().to_owned()
}

fn page_from_outside(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: device\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What the emulator's own DHCP server lends.
fn network_is_up(machine: &mut Machine) {
    let resolver = machine.expect("child: /run/resolv.conf ");
    assert!(resolver.contains("nameserver 10.0.2.3"), "{resolver}");
    let told = machine.expect("child: /run/sosna/network.json ");
    assert!(
        told.contains("\"default\":\"eth0\",\"metered\":false") && told.contains("10.0.2.15/24"),
        "{told}"
    );
    assert!(
        told.contains(r#""addresses":["10.0.9.7/24"],"gateway":"10.0.9.2","cost":1101,"metered":true"#),
        "{told}"
    );
    // The default route leads to 10.0.2.2 at a cost of 100.
    let routes = machine.expect("child: /proc/net/route ");
    assert!(routes.contains("eth0 00000000 0202000A 0003 0 0 100"), "{routes}");
}

fn second_boot_without_network(kit: &Kit, disk: &Disk, identity: &str) {
    let mut machine = Machine::start(kit, disk, "no network", "test.do=restart", &NO_NETWORK);
    // 320 MiB less the other partitions: grown at the first boot, and kept.
    let data = machine.expect("data area: ready, ");
    let size: u64 = data.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    assert!((255..=264).contains(&size), "{data}");
    assert!(machine.expect("child: identity ").ends_with(identity));
    machine.expect("child: host lab-7");
    let clock = machine.expect("child: saved clock ");
    let saved: u64 = clock.rsplit(' ').next().unwrap().parse().unwrap();
    let time: u64 = machine.expect("child: time ").rsplit(' ').next().unwrap().parse().unwrap();
    assert!(time >= saved, "{time} {saved}");
    let said = machine.end();
    assert!(said.contains("no network;"), "{said}");
    assert!(said.contains("restarting: everything is written and unmounted"), "{said}");
    is_unmounted(disk);
}

/// The beginning of the data partition is overwritten with nothing, as by a careless tool.
fn damage_is_held(kit: &Kit, disk: &Disk) {
    disk.write(Disk::start("sosna-data"), &[0; 4096]);
    let before = disk.read(Disk::start("sosna-data"), 1 << 20);
    let mut machine = Machine::start(kit, disk, "damage", "", &NO_NETWORK);
    machine.expect("the data area is not used: /dev/vda4 is neither empty nor a file system");
    machine.expect("waits for its owner");
    machine.expect("the agent does not run: the data area is held");
    machine.tell("sendkey ctrl-alt-delete");
    let said = machine.end();
    assert!(said.contains("restarting: everything is written"), "{said}");
    assert!(!said.contains("agent started") && !said.contains("child:"), "{said}");
    assert_eq!(disk.read(Disk::start("sosna-data"), 1 << 20), before, "nothing was written");
}

fn the_owner_repairs(kit: &Kit, disk: &Disk, identity: &str) {
    disk.put_boot_file(kit, "repair-data");
    let mut machine = Machine::start(kit, disk, "repair", "test.do=panic", &NO_NETWORK);
    machine.expect("data area: ready, after a repair");
    assert!(machine.expect("child: identity ").ends_with(identity));
    let said = machine.end();
    assert!(
        said.contains("the system broke down and restarts") && said.contains("as the test wishes"),
        "{said}"
    );
    assert!(said.contains("Restarting system"), "{said}");
    assert!(!disk.boot_files(kit).contains("repair"), "the wish was fulfilled");
}

/// A boot after one that ended in a panic; then the file is lost.
fn a_lost_identity_is_not_replaced(kit: &Kit, disk: &Disk, identity: &str) {
    let mut machine = Machine::start(kit, disk, "loss", "test.do=lose", &NO_NETWORK);
    machine.expect("data area: ready, ");
    assert!(machine.expect("child: identity ").ends_with(identity));
    machine.end();
    let mut machine = Machine::start(kit, disk, "lost", "", &NO_NETWORK);
    machine.expect("the data area is not used: /data/agent/identity was there once and is not any more");
    machine.expect("the agent does not run: the data area is held");
    machine.tell("system_powerdown");
    let said = machine.end();
    assert!(!said.contains("agent started"), "{said}");
    is_unmounted(disk);
}

/// The super block says that nothing waits in the journal.
fn is_unmounted(disk: &Disk) {
    let block = disk.read(Disk::start("sosna-data") + 1024, 1024);
    let incompatible = u32::from_le_bytes(block[0x60..0x64].try_into().unwrap());
    assert_eq!(incompatible & 4, 0, "the journal needs recovery");
    assert_eq!(block[0x3a] & 1, 1, "not clean");
}
