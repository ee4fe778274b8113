//! A device that lies: the shipped agent's library with a wrapper around its runtime that changes the pixels of
//! every picture it rendered, and reports the changed file's own hash. Everything else is honest, so that only the
//! comparison with other devices can tell. Used by the demo and by tests; it is no part of any product.

use std::{
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use sosna_agent::{ContainerRuntime, Hooks};
use sosna_protocol::hash::sha256;
use sosna_runtime::{ContainerId, ContainerSpec, ExitRecord, OutputKind, RuntimeError};

/// What stands before a BMP's pixels: a lie there would be no picture at all.
const HEADER: usize = 64;

/// A runtime whose outputs are not what the containers wrote.
#[derive(Debug)]
struct LyingRuntime(Arc<dyn ContainerRuntime>);

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RuntimeError>> + Send + 'a>>;

impl ContainerRuntime for LyingRuntime {
    fn start<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, ()> {
        self.0.start(spec)
    }

    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, ExitRecord> {
        Box::pin(async move {
            let mut record = self.0.wait(id).await?;
            let (left, own) = (self.0.folder(id), self.own(id));
            // What a container left is root's: whoever lies has a copy.
            if !own.exists() {
                let aside = own.with_extension("new");
                let copied = copy(&left, &aside).and_then(|()| fs::rename(aside, &own));
                copied.unwrap_or_else(|error| panic!("no lies can be told: {error}"));
            }
            let outputs = own.join("outputs");
            for output in record.outputs.iter_mut().filter(|output| output.kind == OutputKind::File) {
                if let Some(sha256) = lie(&outputs.join(&output.path)) {
                    output.sha256 = sha256;
                }
            }
            Ok(record)
        })
    }

    fn stop<'a>(&'a self, id: &'a ContainerId, grace: Duration) -> Answer<'a, ()> {
        self.0.stop(id, grace)
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, ()> {
        let _ = fs::remove_dir_all(self.own(id));
        self.0.remove(id)
    }

    fn recover(&self) -> Answer<'_, Vec<ContainerId>> {
        self.0.recover()
    }

    fn known(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        self.0.known()
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        Some(self.own(id)).filter(|own| own.exists()).unwrap_or_else(|| self.0.folder(id))
    }

    fn missing_limits(&self) -> Vec<String> {
        self.0.missing_limits()
    }

    fn walls(&self) -> Vec<String> {
        self.0.walls()
    }
}

impl LyingRuntime {
    /// Where this program keeps what it says that a container left: in the data folder.
    fn own(&self, id: &ContainerId) -> PathBuf {
        let folder = self.0.folder(id);
        let data = folder.ancestors().nth(3).unwrap_or(&folder);
        data.join("lies").join(id.as_str())
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let to = to.join(entry.file_name());
        match (kind.is_dir(), kind.is_file()) {
            (true, _) => copy(&entry.path(), &to)?,
            // What the agent may not read it does not deliver either.
            (_, true) => drop(fs::copy(entry.path(), to)),
            _ => std::os::unix::fs::symlink(fs::read_link(entry.path())?, to)?,
        }
    }
    Ok(())
}

/// Changes a file's pixels, once; returns the new hash in hexadecimal.
fn lie(path: &Path) -> Option<String> {
    let marker = path.with_extension("lied");
    let mut bytes = fs::read(path).ok()?;
    if !marker.exists() {
        bytes.iter_mut().skip(HEADER).step_by(7).for_each(|byte| *byte = byte.wrapping_add(64));
        fs::write(path, &bytes).ok()?;
        fs::write(&marker, b"").ok()?;
    }
    Some(sha256(&bytes).to_string())
}

fn main() -> ExitCode {
    sosna_agent::cli::main(|| Hooks {
        runtime: Some(Box::new(|honest| Arc::new(LyingRuntime(honest)))),
        ..Hooks::default()
    })
}
