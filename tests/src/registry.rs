//! A real OCI registry for tests: Debian's `docker-registry`, from PATH or unpacked into `target/tools`, on
//! loopback with a storage folder of its own. Never listens on anything but loopback.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sosna_apt::Apt;
use tempfile::TempDir;
use xtask::oci::layout;
use xtask::paths::Tree;

/// How long the registry may take until it listens.
const START: Duration = Duration::from_secs(30);

/// The only kind of manifest that a layout of ours holds.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Why there is no registry, or it did not take an image. A test prints the first as `SKIPPED`.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The program is not here and could not be obtained.
    #[error("docker-registry is neither on PATH nor to be had: {0}")]
    Missing(String),
    /// It did not start.
    #[error("docker-registry did not start: {0}")]
    Start(String),
    /// An image could not be read or sent.
    #[error("cannot push {what}")]
    Push {
        /// Which part of it.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A running registry; stopped and its storage removed when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    // Removed after `drop` below has ended the child that writes into it.
    _storage: TempDir,
}

impl Registry {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// [`RegistryError::Missing`] where a test must be skipped, [`RegistryError::Start`] otherwise.
    pub fn start() -> Result<Self, RegistryError> {
        let program = program()?;
        let start = |error: io::Error| RegistryError::Start(error.to_string());
        let storage = TempDir::new().map_err(start)?;
        let config = storage.path().join("config.yml");
        fs::write(&config, configuration(storage.path())).map_err(start)?;
        let mut child = Command::new(&program)
            .arg("serve")
            .arg(&config)
            // Variables of this name override the configuration.
            .env_remove("REGISTRY_HTTP_ADDR")
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        match listening(&mut child) {
            Ok(address) => Ok(Self { child, address, _storage: storage }),
            Err(reason) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(RegistryError::Start(reason))
            }
        }
    }

    /// Where it listens: plain HTTP on loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reference of an image in it, `127.0.0.1:PORT/name:tag`.
    #[must_use]
    pub fn reference(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.address)
    }

    /// Pushes the one image of an OCI layout folder and returns its manifest's digest.
    ///
    /// # Errors
    /// [`RegistryError::Push`] when the layout is not one, or the registry refuses.
    pub fn push(&self, layout: &Path, name: &str, tag: &str) -> Result<String, RegistryError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| RegistryError::Push { what, source }
        };
        let image = layout::open(layout).map_err(failed("the layout"))?;
        let manifest_hex = image.digest.trim_start_matches("sha256:").to_owned();
        let blobs = layout.join("blobs/sha256");
        for entry in fs::read_dir(&blobs).map_err(failed("the layout"))? {
            let entry = entry.map_err(failed("the layout"))?;
            let hex = entry.file_name().to_string_lossy().into_owned();
            if hex != manifest_hex {
                self.push_blob(name, &hex, &entry.path()).map_err(failed(&hex))?;
            }
        }
        let manifest = fs::read(blobs.join(&manifest_hex)).map_err(failed("the manifest"))?;
        let path = format!("/v2/{name}/manifests/{tag}");
        self.request("PUT", &path, MANIFEST, &manifest).map_err(failed("the manifest"))?;
        Ok(image.digest)
    }

    /// Distribution-spec, "Pushing blobs": a session by POST, then everything in one PUT.
    fn push_blob(&self, name: &str, hex: &str, file: &Path) -> io::Result<()> {
        let content = fs::read(file)?;
        let kind = "application/octet-stream";
        let session = self.request("POST", &format!("/v2/{name}/blobs/uploads/"), kind, &[])?;
        let location = session
            .lines()
            .find_map(|l| l.split_once(':').filter(|(k, _)| k.eq_ignore_ascii_case("location")))
            .map(|(_, v)| v.trim().to_owned())
            .ok_or_else(|| io::Error::other("the registry named no place for the blob"))?;
        let own = format!("http://{}", self.address);
        let path = location.strip_prefix(&own).unwrap_or(&location);
        let join = if path.contains('?') { '&' } else { '?' };
        self.request("PUT", &format!("{path}{join}digest=sha256:{hex}"), kind, &content).map(drop)
    }

    /// One HTTP request; the answer's head when it is a success.
    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, START)?;
        stream.set_read_timeout(Some(START))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: {MANIFEST}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split_whitespace().nth(1).unwrap_or_default().to_owned();
        if status.starts_with('2') {
            return Ok(answer);
        }
        Err(io::Error::other(format!("{method} {path} was answered by {}", answer.replace("\r\n", " | "))))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, from PATH or from Debian's package.
fn program() -> Result<PathBuf, RegistryError> {
    let on_path = PathBuf::from("docker-registry");
    if Command::new(&on_path).arg("--version").output().is_ok_and(|o| o.status.success()) {
        return Ok(on_path);
    }
    let missing = |error: &dyn std::error::Error| RegistryError::Missing(error.to_string());
    let tree = Tree::find().map_err(|e| missing(&e))?;
    let unpacked = tree.tools().join("docker-registry");
    Apt::new(&tree.tools()).unpack(&["docker-registry"], false, &unpacked).map_err(|e| missing(&e))?;
    Ok(unpacked.join("usr/bin/docker-registry"))
}

fn configuration(storage: &Path) -> String {
    format!(
        "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n",
        storage.join("data").display()
    )
}

/// Waits for the line that tells the port, and goes on reading afterwards, so that the registry never waits
/// for us.
fn listening(child: &mut Child) -> Result<SocketAddr, String> {
    let output = child.stderr.take().ok_or("its output cannot be read")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            // Nobody listens any more once the port is known.
            let _ = sender.send(line);
        }
    });
    let mut said = Vec::new();
    while let Ok(line) = receiver.recv_timeout(START) {
        if let Some(address) = port_line(&line) {
            return Ok(address);
        }
        said.push(line);
    }
    Err(format!("it never said where it listens, but: {}", said.join(" | ")))
}

/// `… msg="listening on 127.0.0.1:41793" …`
fn port_line(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    let address: SocketAddr = rest.split(['"', ' ', ',']).next()?.parse().ok()?;
    address.ip().is_loopback().then_some(address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use xtask::oci::layer::Layer;
    use xtask::oci::layout::{Layout, Run};

    use super::*;

    #[test]
    fn the_port_is_read_from_its_line() {
        let line =
            r#"time="2026-01-01T00:00:00Z" level=info msg="listening on 127.0.0.1:41793" go.version=go1.19"#;
        assert_eq!(port_line(line).unwrap().port(), 41793);
        assert_eq!(port_line(r#"msg="listening on 0.0.0.0:5000""#), None);
        assert_eq!(port_line("something else"), None);
    }

    #[test]
    fn an_image_can_be_pushed_and_is_gone_with_the_registry() {
        let registry = match Registry::start() {
            Ok(registry) => registry,
            Err(error @ RegistryError::Missing(_)) => {
                eprintln!("SKIPPED an_image_can_be_pushed_and_is_gone_with_the_registry: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let dir = TempDir::new().unwrap();
        let place = dir.path().join("oci");
        let mut layer = Layer::default();
        layer.bytes("etc/hello", "hello", 0o644);
        let mut layout = Layout::begin(&place).unwrap();
        layout.add(&layer).unwrap();
        let run =
            Run { user: "0".into(), env: vec![], entrypoint: vec!["/x".into()], working_dir: "/".into() };
        let image = layout.finish(&run).unwrap();

        let digest = registry.push(&place, "sosna/hello", "1").unwrap();
        assert_eq!(digest, image.digest);
        let head = registry.request("GET", "/v2/sosna/hello/manifests/1", "", &[]).unwrap();
        assert!(head.contains(&digest), "{head}");
        assert!(registry.request("GET", "/v2/sosna/other/manifests/1", "", &[]).is_err());

        // A blob whose content is not what its name says is refused.
        let file = dir.path().join("blob");
        fs::write(&file, "x").unwrap();
        assert!(registry.push_blob("sosna/hello", &"0".repeat(64), &file).is_err());

        let address = registry.address();
        drop(registry);
        assert!(TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err());
    }
}
