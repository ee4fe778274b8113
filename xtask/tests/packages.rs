//! The packages of `cargo xtask dist`: what dpkg says of them, and installed for real into scratch folders, upgraded,
//! removed. With the programs that the stage `static` has left in target/dist.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use xtask::dist::{Architecture, Programs, packages};
use xtask::paths::Tree;
use xtask::tools::programs;

/// Packages in a folder that goes with this.
struct Packed {
    folder: TempDir,
    deb: PathBuf,
    archive: PathBuf,
}

fn pack(test: &str) -> Option<Packed> {
    let tree = Tree::find().unwrap();
    let found = Architecture::here().and_then(|here| Programs::found(&tree, here));
    let Some(found) = found else {
        eprintln!("SKIPPED {test}: no programs in target/dist; `cargo xtask dist` makes them");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let [deb, archive] = packages(&tree, &found, folder.path()).unwrap();
    Some(Packed { folder, deb, archive })
}

/// A program that a test needs, of PATH or of Debian's.
fn tool(test: &str, package: &str, program: &str) -> Option<PathBuf> {
    programs::find(&Tree::find().unwrap(), package, program)
        .inspect_err(|error| eprintln!("SKIPPED {test}: there is no {program}: {error}"))
        .ok()
}

#[track_caller]
fn good(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = words(&output);
    assert!(output.status.success(), "{command:?}\n{said}");
    said
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The archive, unpacked.
fn unpack(packed: &Packed) -> PathBuf {
    good(Command::new("tar").arg("-C").arg(packed.folder.path()).arg("-xzf").arg(&packed.archive));
    packed.archive.with_extension("").with_extension("")
}

#[test]
fn the_same_programs_give_the_same_packages() {
    let Some(first) = pack("the_same_programs_give_the_same_packages") else { return };
    let second = pack("").unwrap();
    assert_eq!(fs::read(&first.deb).unwrap(), fs::read(&second.deb).unwrap());
    assert_eq!(fs::read(&first.archive).unwrap(), fs::read(&second.archive).unwrap());
}

#[test]
fn dpkg_understands_the_package() {
    let test = "dpkg_understands_the_package";
    let Some(packed) = pack(test) else { return };
    let Some(dpkg) = tool(test, "dpkg", "usr/bin/dpkg-deb") else { return };
    let said = good(Command::new(&dpkg).arg("--info").arg(&packed.deb));
    for line in
        ["Package: sosna-agent", "Version: 0.1.0", "Section: net", "conffiles", "postinst", "prerm", "postrm"]
    {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let said = good(Command::new(&dpkg).arg("--contents").arg(&packed.deb));
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let entry = |path: &str| lines.iter().find(|line| line.last() == Some(&path)).unwrap();
    for (path, permissions) in [
        ("./usr/bin/sosna-agent", "-rwxr-xr-x"),
        ("./usr/lib/systemd/system/sosna-agent.service", "-rw-r--r--"),
        ("./etc/sosna/agent.toml", "-rw-r--r--"),
        ("./usr/share/doc/sosna-agent/copyright", "-rw-r--r--"),
        ("./usr/", "drwxr-xr-x"),
    ] {
        assert_eq!(entry(path)[..2], [permissions, "root/root"], "{path}");
    }
}

/// A folder with as much of a system as the package's scripts need.
fn scratch(test: &str) -> Option<TempDir> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED {test}: dpkg changes its root folder only as root");
        return None;
    }
    let busybox = tool(test, "busybox-static", "bin/busybox")?;
    let root = tempfile::tempdir().unwrap();
    for folder in ["bin", "etc", "usr/bin", "var/lib/dpkg/info", "var/lib/dpkg/updates", "tmp"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
    fs::copy(&busybox, root.path().join("bin/busybox")).unwrap();
    fs::set_permissions(root.path().join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["sh", "mkdir", "chmod", "rm", "rmdir", "echo"] {
        symlink("busybox", root.path().join("bin").join(name)).unwrap();
    }
    Some(root)
}

#[test]
fn dpkg_installs_upgrades_removes_and_purges_without_touching_the_key() {
    let test = "dpkg_installs_upgrades_removes_and_purges_without_touching_the_key";
    let Some(packed) = pack(test) else { return };
    let Some(program) = tool(test, "dpkg", "usr/bin/dpkg") else { return };
    let Some(root) = scratch(test) else { return };
    let dpkg = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg(format!("--root={}", root.path().display())).args(["--force-confold"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        good(&mut command)
    };
    let at = |path: &str| root.path().join(path);
    let deb = packed.deb.to_str().unwrap();

    let said = dpkg(&["--install", deb]);
    assert!(said.contains("SOSNA_AGENT_JOIN"), "it says how to join: {said}");
    assert_eq!(mode(&at("usr/bin/sosna-agent")), 0o755);
    assert_eq!(mode(&at("var/lib/sosna-agent")), 0o700);
    let unit = fs::read_to_string(at("usr/lib/systemd/system/sosna-agent.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/sosna-agent run --config /etc/sosna/agent.toml\n"), "{unit}");
    // The program that was installed takes the configuration that was installed.
    let config = at("etc/sosna/agent.toml");
    let shown = good(
        Command::new(at("usr/bin/sosna-agent")).args(["run", "--print-config", "--config"]).arg(&config),
    );
    assert!(shown.contains("/var/lib/sosna-agent"), "{shown}");

    // A device that has been at work, and an owner who has set something.
    let data = at("var/lib/sosna-agent");
    for name in ["identity.key", "agent.redb", "enrolment.json"] {
        fs::write(data.join(name), name).unwrap();
    }
    fs::create_dir_all(data.join("images/layers")).unwrap();
    fs::write(at("etc/sosna/agent.env"), "SOSNA_AGENT_JOIN=x\n").unwrap();
    fs::write(&config, "name = \"mine\"\n").unwrap();
    let said = dpkg(&["--install", deb]);
    assert!(!said.contains("SOSNA_AGENT_JOIN"), "it has joined: {said}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "name = \"mine\"\n");
    assert!(data.join("images/layers").exists());

    let said = dpkg(&["--remove", "sosna-agent"]);
    assert!(said.contains("stay in /var/lib/sosna-agent"), "{said}");
    assert!(!at("usr/bin/sosna-agent").exists());
    assert!(config.exists() && data.join("identity.key").exists() && data.join("images").exists());

    let said = dpkg(&["--purge", "sosna-agent"]);
    assert!(said.contains("KEPT") && said.contains("KEY"), "{said}");
    for name in ["identity.key", "agent.redb", "enrolment.json"] {
        assert_eq!(fs::read_to_string(data.join(name)).unwrap(), name, "worth money");
    }
    assert!(!config.exists() && !at("etc/sosna").exists() && !data.join("images").exists());
}

/// What the installer takes for a system with systemd, and with procd.
fn system(init: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let programs: &[&str] = match init {
        "systemd" => &["usr/lib/systemd/systemd"],
        "procd" => &["sbin/procd", "etc/rc.common"],
        _ => &["sbin/init"],
    };
    for program in programs {
        let path = root.path().join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    root
}

/// The shells that the scripts must run in: the system's, and busybox's, which OpenWrt has.
fn shells(test: &str) -> Vec<Vec<PathBuf>> {
    let mut all = vec![vec![PathBuf::from("sh")]];
    if let Some(busybox) = tool(test, "busybox-static", "bin/busybox") {
        all.push(vec![busybox, "ash".into()]);
    }
    all
}

fn installer(shell: &[PathBuf], folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(&shell[0]);
    command.args(&shell[1..]).arg(folder.join("install.sh")).args(arguments);
    command
}

#[test]
fn the_installer_installs_upgrades_and_uninstalls_with_both_inits() {
    let test = "the_installer_installs_upgrades_and_uninstalls_with_both_inits";
    let Some(packed) = pack(test) else { return };
    let folder = unpack(&packed);
    for shell in shells(test) {
        for (init, data, brings) in [
            (
                "systemd",
                "var/lib/sosna-agent",
                &[
                    "etc/systemd/system/sosna-agent.service",
                    "etc/systemd/system/multi-user.target.wants/sosna-agent.service",
                ][..],
            ),
            (
                "procd",
                "srv/sosna-agent",
                &["etc/init.d/sosna-agent", "etc/rc.d/S95sosna-agent", "etc/rc.d/K10sosna-agent"],
            ),
        ] {
            let root = system(init);
            let at = |path: &str| root.path().join(path);
            let place = ["--root", root.path().to_str().unwrap()];
            let said = good(&mut installer(&shell, &folder, &place));
            assert!(said.contains(init) && said.contains("SOSNA_AGENT_JOIN"), "{said}");
            assert!(brings.iter().all(|path| at(path).exists()), "{init}");
            assert_eq!(mode(&at("usr/bin/sosna-agent")), 0o755);
            assert_eq!(mode(&at(data)), 0o700);
            let config = at("etc/sosna/agent.toml");
            let shown = good(
                Command::new(at("usr/bin/sosna-agent"))
                    .args(["run", "--print-config", "--config"])
                    .arg(&config),
            );
            assert!(shown.contains(&format!("/{data}\"")), "{init}: {shown}");

            // An upgrade keeps what the owner has set and what the device has.
            fs::write(at(data).join("identity.key"), "key").unwrap();
            fs::write(at(data).join("enrolment.json"), "{}").unwrap();
            let set = format!("data = \"/{data}\"\nname = \"mine\"\n");
            fs::write(&config, &set).unwrap();
            fs::write(at("usr/bin/sosna-agent"), "old").unwrap();
            let said = good(&mut installer(&shell, &folder, &place));
            assert!(!said.contains("SOSNA_AGENT_JOIN"), "{said}");
            assert_eq!(fs::read_to_string(&config).unwrap(), set);
            assert_ne!(fs::read(at("usr/bin/sosna-agent")).unwrap(), b"old");

            let said = good(installer(&shell, &folder, &place).arg("--uninstall"));
            assert!(said.contains("KEPT") && said.contains(data), "{said}");
            assert!(!at("usr/bin/sosna-agent").exists());
            assert!(brings.iter().all(|path| at(path).symlink_metadata().is_err()), "{init}");
            assert_eq!(fs::read_to_string(at(data).join("identity.key")).unwrap(), "key");
            assert_eq!(fs::read_to_string(&config).unwrap(), set);
        }
    }
}

#[test]
fn the_installer_refuses_what_it_does_not_know_and_changes_nothing() {
    let test = "the_installer_refuses_what_it_does_not_know_and_changes_nothing";
    let Some(packed) = pack(test) else { return };
    let folder = unpack(&packed);
    for shell in shells(test) {
        let root = system("other");
        let output = installer(&shell, &folder, &["--root", root.path().to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(words(&output).contains("neither systemd nor procd"), "{}", words(&output));
        assert!(!root.path().join("usr").exists() && !root.path().join("etc").exists());
        for wrong in [&["--nonsense"][..], &["--root"], &["--data", "here", "--root", "/tmp"]] {
            let output = installer(&shell, &folder, wrong).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", words(&output));
        }
    }
}

/// procd's script, with procd's functions saying what they are told.
#[test]
fn procd_is_told_what_to_run_and_with_which_environment() {
    let test = "procd_is_told_what_to_run_and_with_which_environment";
    let script = Tree::find().unwrap().root().join("agent/package/sosna-agent.init");
    let dir = tempfile::tempdir().unwrap();
    let environment = dir.path().join("agent.env");
    fs::write(&environment, "# a comment\nSOSNA_AGENT_JOIN=sosna1 with space\n\nHTTPS_PROXY=http://proxy:1")
        .unwrap();
    let text = fs::read_to_string(&script).unwrap();
    let text = text.replace("/etc/sosna/agent.env", environment.to_str().unwrap());
    let stubbed = format!(
        "procd_open_instance() {{ echo open; }}\nprocd_close_instance() {{ echo close; }}\n\
         procd_set_param() {{ for one in \"$@\"; do printf '[%s]' \"$one\"; done; echo; }}\n{text}\nset -eu\nstart_service\n"
    );
    let file = dir.path().join("script");
    fs::write(&file, stubbed).unwrap();
    for shell in shells(test) {
        let said = good(Command::new(&shell[0]).args(&shell[1..]).arg(&file));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "open",
                "[command][/usr/bin/sosna-agent][run][--config][/etc/sosna/agent.toml]",
                "[env][SOSNA_AGENT_JOIN=sosna1 with space][HTTPS_PROXY=http://proxy:1]",
            ]
        );
        assert_eq!(lines.last(), Some(&"close"));
    }
}

#[test]
fn shellcheck_has_no_objections() {
    let test = "shellcheck_has_no_objections";
    let Some(shellcheck) = tool(test, "shellcheck", "usr/bin/shellcheck") else { return };
    let folder = Tree::find().unwrap().root().join("agent/package");
    for name in ["install.sh", "postinst", "prerm", "postrm"] {
        good(Command::new(&shellcheck).args(["--shell=sh", "--severity=style"]).arg(folder.join(name)));
    }
    // procd uses the variables; ash, as dash, knows no arrays but `set --`.
    good(
        Command::new(&shellcheck)
            .args(["--shell=dash", "--exclude=SC2034"])
            .arg(folder.join("sosna-agent.init")),
    );
}

#[test]
fn systemd_has_no_objections() {
    let test = "systemd_has_no_objections";
    let Some(packed) = pack(test) else { return };
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIPPED {test}: there is no systemd-analyze");
        return;
    }
    let folder = unpack(&packed);
    // Verified with a program that is there.
    let unit = fs::read_to_string(folder.join("sosna-agent.service")).unwrap();
    let program = folder.join("sosna-agent");
    let unit = unit.replace("/usr/bin/sosna-agent", program.to_str().unwrap());
    let file = packed.folder.path().join("sosna-agent.service");
    fs::write(&file, unit).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
    let said = words(&output);
    let about: Vec<&str> = said.lines().filter(|line| line.contains("sosna")).collect();
    assert!(output.status.success() && about.is_empty(), "{said}");

    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&file)
        .output()
        .unwrap();
    let said = words(&output);
    // As hard as containers bear it, which inherit all of it; "9.6 UNSAFE" is a unit without any of it.
    let level =
        said.lines().find_map(|line| line.split_once("exposure level for ")?.1.split_once(": ")).map(|l| l.1);
    let level: f32 =
        level.and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    eprintln!("exposure level {level}");
    assert!(level < 9.0, "{said}");
}
