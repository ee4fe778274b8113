//! Wireless networks, for real but for the radio waves: two simulated radios of one kernel (`mac80211_hwsim`), PID 1
//! with the supplicant on the one, an access point with a DHCP server on the other, in a network of its own. No image
//! has the simulated radios or the access point.

use std::{fs, os::unix::fs::symlink, path::Path};

use sosna_apt::elf;

use crate::{
    disk::{Disk, Wishes},
    kit::{Kit, wireless_kit},
    machine::Machine,
};

/// With what the radios encrypt by: nobody asks for modules by their names' aliases here.
const MODULES: [&str; 5] = ["crc32c_generic", "ext4", "ccm", "cmac", "mac80211_hwsim"];
/// The programs of the device, and of the air around it.
const PROGRAMS: [&str; 3] = ["wpa_supplicant", "hostapd", "iw"];
const OFF: &str = "[[network.interface]]\ncard = \"wlan1\"\noff = true\n";

/// Puts a program with its libraries where a merged system has them.
fn furnish(kit: &Kit, tree: &Path) {
    let root = kit.wireless.as_deref().unwrap();
    let merged = |file: &str| {
        let top = file.split('/').next().unwrap();
        if top == "usr" { file.to_owned() } else { format!("usr/{file}") }
    };
    let put = |from: &Path, to: &Path| {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    for name in PROGRAMS {
        let program = ["sbin", "usr/sbin"]
            .map(|folder| format!("{folder}/{name}"))
            .into_iter()
            .find(|p| root.join(p).exists());
        for file in elf::closure(root, &program.unwrap()).unwrap() {
            put(&root.join(&file), &tree.join(merged(&file)));
        }
    }
    put(&root.join("bin/busybox"), &tree.join("usr/bin/busybox"));
    for (name, edition) in
        [("regulatory.db", "regulatory.db-debian"), ("regulatory.db.p7s", "regulatory.db.p7s-debian")]
    {
        put(&root.join("lib/firmware").join(edition), &tree.join("usr/lib/firmware").join(name));
    }
    symlink("usr/lib", tree.join("lib")).unwrap();
    symlink("usr/lib64", tree.join("lib64")).unwrap();
}

fn start(kit: &Kit, device: &str, name: &'static str, scene: &str) -> (Disk, Machine) {
    let device = format!("{OFF}{device}");
    let wishes = Wishes {
        boot: &[("device.toml", &device)],
        with_data: true,
        modules: &MODULES,
        furnish: Some(furnish),
        ..Wishes::default()
    };
    let disk = Disk::make(kit, &wishes);
    let machine =
        Machine::start(kit, &disk, name, &format!("test.do={scene}"), &["-nic", "none", "-m", "384"]);
    (disk, machine)
}

pub(crate) fn a_device_joins_a_wireless_network_and_comes_back_to_it(test: &str) {
    let Some(kit) = wireless_kit(test) else { return };
    let device = "[wifi]\ncountry = \"DE\"\nssid = \"lab\"\npassword = \"correct \\\"horse\\\" #9\"\n";
    let (_disk, mut machine) = start(kit, device, "wireless", "wifi");
    machine.expect("child: the second radio has moved: true");
    let told = machine.expect("child: network.json ");
    assert!(told.contains(r#""default":"wlan0","metered":false"#), "{told}");
    assert!(told.contains(r#""addresses":["10.77.0.1"#) && told.contains(r#""cost":600"#), "{told}");
    assert!(told.contains(r#""wifi":"has joined the network lab""#), "{told}");
    assert!(machine.expect("child: /run/resolv.conf ").contains("nameserver 10.77.0.1"));
    let routes = machine.expect("child: /proc/net/route ");
    assert!(routes.contains("wlan0 00000000 01004D0A 0003 0 0 600"), "{routes}");
    let rights = machine.expect("child: rights ");
    let caps = "0000000000003000";
    let wanted = format!(
        "Uid: 101 101 101 101 Gid: 101 101 101 101 Groups: NoNewPrivs: 1 CapPrm: {caps} CapEff: {caps} CapBnd: {caps}"
    );
    let mut sorted: Vec<_> = wanted.split(' ').collect();
    let mut found: Vec<_> = rights.split("rights ").nth(1).unwrap().split(' ').collect();
    sorted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, sorted, "{rights}");
    machine.expect("child: configuration 600 of 101");
    machine.expect("child: the password is told: false");
    machine.expect("wlan0: the network lab is not found");
    assert!(machine.expect("child: network.json ").contains("is not found"));
    machine.expect("wlan0: has joined the network lab");
    assert!(machine.expect("child: network.json ").contains("10.77.0.1"));
    machine.expect("wlan0: the supplicant ended");
    machine.expect("wlan0: has joined the network lab");
    machine.expect("child: another supplicant: true");
    let said = machine.end();
    assert!(!said.contains("horse"), "{said}");
    assert!(said.contains("turning off: everything is written and unmounted"), "{said}");
}

pub(crate) fn a_refused_password_is_told_and_a_hidden_network_is_found(test: &str) {
    let Some(kit) = wireless_kit(test) else { return };
    let device = "[wifi]\nssid = \"lab\"\npassword = \"wrong horse\"\n\
        [[wifi.network]]\nssid = \"lab3\"\npassword = \"wrong horse\"\n\
        [[wifi.network]]\nssid = \"lab4\"\npassword = \"correct horse\"\nhidden = true\n";
    let (_disk, mut machine) = start(kit, device, "refused", "wifi-refused");
    machine.expect("wlan0: the network lab refused the password");
    let line = machine.expect("no network (wlan0: the network lab refused the password)");
    assert!(!line.contains("horse"), "{line}");
    machine.expect("wlan0: the network lab3 refused the password");
    machine.expect("wlan0: has joined the network lab4");
    assert!(machine.expect("\"gateway\":\"10.77.0.1\"").contains("10.77.0.1"));
    let said = machine.end();
    assert!(!said.contains("horse"), "{said}");
}
