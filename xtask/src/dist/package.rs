//! Packages for an existing Linux: a `.deb`, and an archive with an installer. Made without dpkg, and the same from
//! the same files always.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::{DistError, Programs};
use crate::paths::Tree;

/// The time of all files in packages, where SOURCE_DATE_EPOCH does not name another one: any, but always the same.
const TIME: u64 = 1_700_000_000;

/// The unit's line that starts the agent; in packages it reads the configuration that they bring.
const START: (&str, &str) =
    ("ExecStart=@AGENT@ run\n", "ExecStart=/usr/bin/sosna-agent run --config /etc/sosna/agent.toml\n");

/// What stands in the list of packages.
const DESCRIPTION: &str = "lends this machine to a Sosna hub and earns for it\n \
One static program: it enrols at a hub, runs containers that buyers pay for,\n \
within the limits that the owner sets, and keeps signed proof of what it is owed.\n";

/// A file of a package.
struct File {
    path: String,
    mode: u32,
    bytes: Vec<u8>,
}

impl File {
    fn new(path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, bytes: bytes.into() }
    }
}

/// Makes both packages in a folder, and says where they are.
///
/// # Errors
/// [`DistError`]: a file is missing or cannot be written.
pub fn packages(tree: &Tree, programs: &Programs, folder: &Path) -> Result<[PathBuf; 2], DistError> {
    let version = env!("CARGO_PKG_VERSION");
    let architecture = programs.architecture;
    let deb = folder.join(format!("sosna-agent_{version}_{}.deb", architecture.debian()));
    write(&deb, &self::deb(tree, programs)?)?;
    let name = format!("sosna-agent-{version}-{architecture}");
    let archive = folder.join(format!("{name}.tar.gz"));
    let files = archive_files(tree, programs)?;
    write(&archive, &gzip(&tar(&files, &format!("{name}/"))?)?)?;
    Ok([deb, archive])
}

/// Whole or absent.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}

/// A file of the work tree that belongs to packages.
fn source(tree: &Tree, name: &str) -> Result<String, DistError> {
    Ok(fs::read_to_string(tree.root().join("agent/package").join(name))?)
}

fn unit(tree: &Tree) -> Result<String, DistError> {
    let text = fs::read_to_string(tree.root().join("image/assets/sosna-agent.service"))?;
    match text.matches(START.0).count() {
        1 => Ok(text.replace(START.0, START.1)),
        _ => Err(DistError::Unit),
    }
}

fn copyright(tree: &Tree) -> Result<String, DistError> {
    let mit = fs::read_to_string(tree.root().join("LICENSE-MIT"))?;
    let indented: String = mit
        .trim_end()
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    Ok(source(tree, "copyright")?.replace("@MIT@\n", &indented))
}

fn archive_files(tree: &Tree, programs: &Programs) -> Result<Vec<File>, DistError> {
    let readme = source(tree, "INSTALL.md")?
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ARCHITECTURE@", programs.architecture.name());
    Ok(vec![
        File::new("README.md", 0o644, readme),
        File::new("agent.toml", 0o644, source(tree, "agent.toml")?),
        File::new("copyright", 0o644, copyright(tree)?),
        File::new("install.sh", 0o755, source(tree, "install.sh")?),
        File::new("sosna-agent", 0o755, fs::read(&programs.agent)?),
        File::new("sosna-agent.init", 0o755, source(tree, "sosna-agent.init")?),
        File::new("sosna-agent.service", 0o644, unit(tree)?),
        File::new("sosna-init", 0o755, fs::read(&programs.init)?),
    ])
}

/// A Debian package: an `ar` of a format number, what dpkg must know, and the files.
fn deb(tree: &Tree, programs: &Programs) -> Result<Vec<u8>, DistError> {
    let files = [
        File::new("etc/sosna/agent.toml", 0o644, source(tree, "agent.toml")?),
        File::new("usr/bin/sosna-agent", 0o755, fs::read(&programs.agent)?),
        File::new("usr/lib/systemd/system/sosna-agent.service", 0o644, unit(tree)?),
        File::new("usr/share/doc/sosna-agent/copyright", 0o644, copyright(tree)?),
    ];
    let size: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
    let control = format!(
        "Package: sosna-agent\nVersion: {}\nArchitecture: {}\nMaintainer: {}\nInstalled-Size: {}\nSection: net\n\
         Priority: optional\nHomepage: {}\nDescription: {DESCRIPTION}",
        env!("CARGO_PKG_VERSION"),
        programs.architecture.debian(),
        "Sosna <https://github.com/sosna/sosna>",
        size.div_ceil(1024),
        env!("CARGO_PKG_REPOSITORY"),
    );
    let about = [
        File::new("conffiles", 0o644, "/etc/sosna/agent.toml\n"),
        File::new("control", 0o644, control),
        File::new("postinst", 0o755, source(tree, "postinst")?),
        File::new("postrm", 0o755, source(tree, "postrm")?),
        File::new("prerm", 0o755, source(tree, "prerm")?),
    ];
    let mut out = b"!<arch>\n".to_vec();
    member(&mut out, "debian-binary", b"2.0\n")?;
    member(&mut out, "control.tar.gz", &gzip(&tar(&about, "./")?)?)?;
    member(&mut out, "data.tar.gz", &gzip(&tar(&files, "./")?)?)?;
    Ok(out)
}

fn member(out: &mut Vec<u8>, name: &str, bytes: &[u8]) -> io::Result<()> {
    writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", time(), 0, 0, 100_644, bytes.len())?;
    out.extend(bytes);
    if bytes.len() % 2 == 1 {
        out.push(b'\n');
    }
    Ok(())
}

/// The files below `prefix`, with the folders above them, which dpkg wants to be named.
fn tar(files: &[File], prefix: &str) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut folders: Vec<String> = vec![prefix.to_owned()];
    for file in files {
        let parts: Vec<&str> = file.path.split('/').collect();
        for end in 1..parts.len() {
            folders.push(format!("{prefix}{}/", parts[..end].join("/")));
        }
    }
    folders.sort();
    folders.dedup();
    for folder in folders {
        let header = header(EntryType::Directory, &folder, 0o755, 0)?;
        tar.append(&header, io::empty())?;
    }
    for file in files {
        let path = format!("{prefix}{}", file.path);
        let header = header(EntryType::Regular, &path, file.mode, file.bytes.len() as u64)?;
        tar.append(&header, file.bytes.as_slice())?;
    }
    tar.into_inner()
}

fn header(kind: EntryType, path: &str, mode: u32, size: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    // By hand: the crate leaves out a leading `./`, which Debian's tools expect.
    let name = header.as_old_mut().name.get_mut(..path.len());
    name.ok_or_else(|| io::Error::other(format!("{path} is too long for a package")))?
        .copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    header.set_mtime(time());
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn time() -> u64 {
    env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()).unwrap_or(TIME)
}

/// Without a time and a name of its own in it.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(bytes)?;
    out.finish()
}
