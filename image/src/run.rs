//! Boots an image in QEMU on this machine. The image file is opened by QEMU and by nobody else; with a snapshot it is
//! not changed.

use std::env;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use sosna_apt::Apt;
use sosna_apt::qemu::Qemu;

use crate::Error;
use crate::board::{Board, Firmware};
use crate::inspect::Image;

/// How an image is to be run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Keep the image as it is.
    pub snapshot: bool,
    /// MiB of memory.
    pub memory: u32,
    /// Ports of this machine that lead to the device's, as `host:guest`.
    pub forward: Vec<String>,
    /// Where the serial console goes, as QEMU names it.
    pub serial: String,
    /// What its network card is plugged into.
    pub network: Network,
    /// A socket for QEMU's machine protocol (QMP): the power button, and more.
    pub control: Option<PathBuf>,
    /// Run the image on this machine's own processor. Not by default: a `/dev/kvm` that exists may still not work, and
    /// the machine then stands still.
    pub kvm: bool,
}

/// What a machine's network card is plugged into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// QEMU's user network: DHCP, and a way out through this machine.
    #[default]
    User,
    /// A cable with nobody at its other end.
    Silent,
    /// There is no card.
    Absent,
}

/// A machine that is ready to start.
#[derive(Debug)]
pub struct Machine {
    /// QEMU, with all that it needs.
    pub command: Command,
    // Files that live as long as the machine.
    _folder: tempfile::TempDir,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snapshot: true,
            memory: 512,
            forward: Vec::new(),
            serial: "stdio".to_owned(),
            network: Network::User,
            control: None,
            kvm: false,
        }
    }
}

/// Prepares the machine for an image: finds QEMU and firmware, or unpacks them below `tools`.
///
/// # Errors
/// [`Error`]: no image of ours, no QEMU to be had.
pub fn prepare(
    image: &Path,
    options: &Options,
    tools: &Path,
    progress: &dyn Fn(&str),
) -> Result<Machine, Error> {
    let opened = Image::open(image)?;
    let boots = opened.boot_images()?;
    let boot =
        boots.first().ok_or_else(|| Error::malformed(image.display().to_string(), "it has no boot image"))?;
    let board = Board::find(&boot.board)?;
    let run = &board.description.run;
    progress("looking for QEMU");
    let folder = tempfile::tempdir().map_err(Error::io("create", env::temp_dir()))?;
    let qemu = Qemu::obtain(tools, &run.package, &run.emulator)
        .map_err(|source| Error::Package { package: run.package.clone(), source })?;
    if let Some(doubt) = &qemu.doubt {
        progress(doubt);
    }
    let mut command = qemu.command();
    command.args(["-machine", &run.machine]);
    let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let same = board.description.architecture == own;
    if options.kvm && !(same && run.firmware.is_some() && Path::new("/dev/kvm").exists()) {
        return Err(Error::Refused(format!(
            "this machine cannot run images of {} directly; leave --kvm out to emulate",
            board.name
        )));
    }
    command.args(["-accel", if options.kvm { "kvm" } else { "tcg" }]);
    if let Some(cpu) = &run.cpu {
        command.args(["-cpu", cpu]);
    }
    command.args(["-display", "none", "-no-reboot", "-no-user-config"]);
    if let Some(socket) = &options.control {
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", comma(socket)));
    }
    match (&run.firmware, &run.device_tree) {
        (Some(firmware), _) => uefi(&mut command, firmware, image, options, tools, folder.path())?,
        (None, Some(tree)) => pi(&mut command, tree, &opened, image, options, folder.path())?,
        (None, None) => return Err(Error::Refused(format!("{} cannot be emulated", board.name))),
    }
    Ok(Machine { command, _folder: folder })
}

/// A path within one of QEMU's options.
fn comma(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn uefi(
    command: &mut Command,
    firmware: &Firmware,
    image: &Path,
    options: &Options,
    tools: &Path,
    folder: &Path,
) -> Result<(), Error> {
    let (code, variables) = firmware_files(firmware, tools)?;
    let own = folder.join("variables.fd");
    fs::copy(&variables, &own).map_err(Error::io("copy", &variables))?;
    let snapshot = if options.snapshot { ",snapshot=on" } else { "" };
    command.args(["-nodefaults", "-smp", "1", "-m", &options.memory.to_string()]);
    for drive in [
        format!("if=pflash,format=raw,unit=0,readonly=on,file={}", comma(&code)),
        format!("if=pflash,format=raw,unit=1,file={}", comma(&own)),
        format!("if=none,id=disk,format=raw,file={}{snapshot}", comma(image)),
    ] {
        command.args(["-drive", &drive]);
    }
    for device in ["virtio-blk-pci,drive=disk,bootindex=0", "virtio-rng-pci", "i6300esb"] {
        command.args(["-device", device]);
    }
    network(command, "virtio-net-pci,netdev=net,romfile=", options)?;
    command.args(["-serial", &options.serial]);
    Ok(())
}

/// Gives the machine its card, and whatever that is plugged into.
fn network(command: &mut Command, card: &str, options: &Options) -> Result<(), Error> {
    let mut network = match options.network {
        Network::Absent => return Ok(()),
        // A hub of QEMU's with one port.
        Network::Silent => "hubport,hubid=0,id=net".to_owned(),
        Network::User => "user,id=net".to_owned(),
    };
    if options.network == Network::User {
        for pair in &options.forward {
            let (host, guest) = pair
                .split_once(':')
                .filter(|(host, guest)| host.parse::<u16>().is_ok() && guest.parse::<u16>().is_ok())
                .ok_or_else(|| {
                    Error::Refused(format!("write --forward as HOSTPORT:GUESTPORT, not `{pair}`"))
                })?;
            network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
        }
    }
    command.args(["-netdev", &network, "-device", card]);
    Ok(())
}

/// QEMU's Pi has no firmware: what the firmware would read from the card is given to QEMU.
fn pi(
    command: &mut Command,
    tree: &str,
    opened: &Image,
    image: &Path,
    options: &Options,
    folder: &Path,
) -> Result<(), Error> {
    let boot = opened.boot()?;
    let config = boot.read("config.txt")?.unwrap_or_default();
    let config = String::from_utf8_lossy(&config).into_owned();
    let prefix =
        config.lines().rev().find_map(|line| line.strip_prefix("os_prefix=")).unwrap_or("slot-a/").to_owned();
    let take = |name: &str| -> Result<Vec<u8>, Error> {
        let path = format!("{prefix}{name}");
        boot.read(&path)?.ok_or_else(|| Error::malformed("the boot partition", format!("{path} is missing")))
    };
    let mut kernel = Vec::new();
    GzDecoder::new(&take("vmlinuz")?[..])
        .read_to_end(&mut kernel)
        .map_err(|error| Error::malformed("the kernel", error))?;
    for (name, content) in [("kernel", kernel), ("initrd", take("initrd")?), ("tree", take(tree)?)] {
        let path = folder.join(name);
        fs::write(&path, content).map_err(Error::io("write", &path))?;
    }
    // QEMU wants cards of a power of two; the copy keeps the holes.
    let card = folder.join("card.img");
    let keep = options.snapshot || !opened.bytes.is_power_of_two();
    let file = if keep {
        copy_sparse(image, &card)?;
        let grown =
            File::options().write(true).open(&card).and_then(|f| f.set_len(opened.bytes.next_power_of_two()));
        grown.map_err(Error::io("write", &card))?;
        card
    } else {
        image.to_owned()
    };
    // This watchdog starts the machine anew when it is armed.
    let line = format!("{} watchdog=off", String::from_utf8_lossy(&take("cmdline.txt")?).trim());
    command.arg("-kernel").arg(folder.join("kernel")).arg("-initrd").arg(folder.join("initrd"));
    command.arg("-dtb").arg(folder.join("tree")).args(["-append", &line]);
    command.args(["-drive", &format!("if=sd,format=raw,file={}", comma(&file))]);
    network(command, "usb-net,netdev=net", options)?;
    // Its first serial line is the Bluetooth chip's.
    command.args(["-serial", "null", "-serial", &options.serial]);
    Ok(())
}

/// Copies an image and leaves holes for what is zero: most of one is.
///
/// # Errors
/// [`Error::Io`].
pub fn copy_sparse(from: &Path, to: &Path) -> Result<(), Error> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    let mut target = File::create(to).map_err(Error::io("create", to))?;
    let mut block = vec![0; 1 << 20];
    let mut copy = || -> std::io::Result<()> {
        loop {
            let n = source.read(&mut block)?;
            if n == 0 {
                let end = target.stream_position()?;
                return target.set_len(end);
            }
            if block[..n].iter().all(|byte| *byte == 0) {
                target.seek(SeekFrom::Current(i64::try_from(n).unwrap_or(0)))?;
            } else {
                target.write_all(&block[..n])?;
            }
        }
    };
    copy().map_err(Error::io("write", to))
}

/// Firmware where Debian's package puts it, else unpacked.
fn firmware_files(firmware: &Firmware, tools: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let at = |root: &Path| (root.join(&firmware.code), root.join(&firmware.variables));
    let exist = |(code, variables): &(PathBuf, PathBuf)| code.exists() && variables.exists();
    let installed = at(Path::new("/"));
    if exist(&installed) {
        return Ok(installed);
    }
    let root = tools.join("programs").join(&firmware.package);
    Apt::new(tools)
        .unpack(&[&firmware.package], false, &root)
        .map_err(|source| Error::Package { package: firmware.package.clone(), source })?;
    let unpacked = at(&root);
    if exist(&unpacked) {
        return Ok(unpacked);
    }
    Err(Error::malformed(&firmware.package, format!("it has no {}", firmware.code)))
}
