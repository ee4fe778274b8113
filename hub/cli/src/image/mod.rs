//! Images: what people write after `sosna run`, and what of it has to be brought to the hub.
//!
//! Archives are read where they lie and never unpacked: names in them are looked up, not followed on disk, and
//! what a digest names is checked against it before it is sent. No container engine is needed.

mod archive;
mod docker;
mod layout;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc as Shared,
};

use sha2::{Digest as _, Sha256};
use sosna_host::report::Exit;
use sosna_protocol::{Hash, resources::Arch};

use archive::Store;

/// The longest index, manifest or configuration that is read.
const MAX_JSON: u64 = 4 << 20;

/// What people write: a registry reference, or an image on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageArg {
    /// `registry.example/name:tag`, resolved by the hub.
    Reference(String),
    /// `oci:DIR[:TAG]`, an OCI image layout.
    Layout(PathBuf),
    /// `oci-archive:FILE[:TAG]`, the same in a tar file.
    LayoutArchive(PathBuf),
    /// `docker-archive:FILE[:TAG]`, what `docker save` writes.
    DockerArchive(PathBuf),
}

/// A piece of an image.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its name.
    pub sha256: Hash,
    /// Bytes.
    pub length: u64,
    /// Where it is.
    pub source: Source,
}

/// Where a piece of content is.
#[derive(Debug, Clone)]
pub enum Source {
    /// Here.
    Memory(Shared<[u8]>),
    /// In a file, from an offset.
    File {
        /// The file.
        path: PathBuf,
        /// Where in it the content begins.
        offset: u64,
    },
}

/// One platform's image, every piece found and compared with its digest.
#[derive(Debug, Clone)]
pub struct LocalImage {
    /// The manifest's name.
    pub manifest: Hash,
    /// Its architecture.
    pub platform: Arch,
    /// Layers and configuration first, the manifest last: where the manifest is, the rest is.
    pub blobs: Vec<Blob>,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be written like that.
    #[error(
        "`{0}` is not an image: write a registry reference such as registry.example/name:tag, or oci:DIR, \
         oci-archive:FILE or docker-archive:FILE"
    )]
    Argument(String),
    /// A file of it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that has to be there is not.
    #[error("{} has no {what}; it is not {expected}", path.display())]
    Missing {
        /// The folder or archive.
        path: PathBuf,
        /// What is missing.
        what: String,
        /// What it would have to be.
        expected: &'static str,
    },
    /// It is compressed as a whole.
    #[error("{} is compressed; decompress it first (gunzip, unzstd, unxz)", .0.display())]
    Compressed(PathBuf),
    /// The archive is not one, or says what cannot be.
    #[error("{} is damaged or made to deceive: {what}", path.display())]
    Hostile {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Something in it that should be JSON of a known form is not.
    #[error("{what} in {} cannot be read", path.display())]
    Json {
        /// The folder or archive.
        path: PathBuf,
        /// What in it.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Content that is not what its digest says.
    #[error("{what} in {} is {found}, not {expected}; get the image again", path.display())]
    Digest {
        /// The folder or archive.
        path: PathBuf,
        /// What in it.
        what: String,
        /// What its name says.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Something that we do not know.
    #[error("{what} in {} is not supported; {next}", path.display())]
    Unsupported {
        /// The folder or archive.
        path: PathBuf,
        /// What in it.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// No image in it is for that architecture.
    #[error("{} has no image for {wanted}, only for {}; choose with --arch", path.display(), found.join(", "))]
    Platform {
        /// The folder or archive.
        path: PathBuf,
        /// What was wanted.
        wanted: &'static str,
        /// What there is.
        found: Vec<String>,
    },
    /// More than one image would do.
    #[error(
        "{} holds more than one image; add the name of one after a colon: {}", path.display(), names.join(", ")
    )]
    Ambiguous {
        /// The folder or archive.
        path: PathBuf,
        /// How they are called.
        names: Vec<String>,
    },
}

// === impl ImageError ===

impl ImageError {
    /// What a script sees.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Argument(_) | Self::Ambiguous { .. } => Exit::Usage,
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            Self::Platform { .. } => Exit::NotFound,
            _ => Exit::Failed,
        }
    }
}

// === impl ImageArg ===

impl FromStr for ImageArg {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = || ImageError::Argument(text.to_owned());
        let path = |path: &str| match path {
            "" => Err(wrong()),
            path => Ok(PathBuf::from(path)),
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            return path(rest).map(Self::Layout);
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return path(rest).map(Self::LayoutArchive);
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return path(rest).map(Self::DockerArchive);
        }
        // The hub knows references better; only what can never be one is refused here.
        let first = text.bytes().next().ok_or_else(wrong)?;
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@[]".contains(&byte);
        if !(first.is_ascii_alphanumeric() || first == b'[')
            || !text.bytes().all(fine)
            || text.contains("://")
        {
            return Err(wrong());
        }
        Ok(Self::Reference(text.to_owned()))
    }
}

impl fmt::Display for ImageArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => f.write_str(reference),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::LayoutArchive(path) => write!(f, "oci-archive:{}", path.display()),
            Self::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
        }
    }
}

impl ImageArg {
    /// The same with a relative path understood from `folder`.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::Reference(_) => self,
            Self::Layout(path) => Self::Layout(folder.join(path)),
            Self::LayoutArchive(path) => Self::LayoutArchive(folder.join(path)),
            Self::DockerArchive(path) => Self::DockerArchive(folder.join(path)),
        }
    }

    /// Reads an image of this machine, its one manifest for `wanted`; `None` for a registry reference. It reads
    /// every byte: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(&self, wanted: Option<Arch>) -> Result<Option<LocalImage>, ImageError> {
        match self {
            Self::Reference(_) => Ok(None),
            Self::Layout(path) => {
                let (path, tag) = with_tag(path, Path::is_dir);
                layout::open(&Store::folder(&path)?, tag.as_deref(), wanted).map(Some)
            }
            Self::LayoutArchive(path) => {
                let (path, tag) = with_tag(path, Path::is_file);
                layout::open(&Store::archive(&path)?, tag.as_deref(), wanted).map(Some)
            }
            Self::DockerArchive(path) => {
                let (path, tag) = with_tag(path, Path::is_file);
                docker::open(&Store::archive(&path)?, tag.as_deref(), wanted).map(Some)
            }
        }
    }
}

/// Splits `PATH:TAG`, where there is no `PATH:TAG` but a `PATH`.
fn with_tag(path: &Path, is_there: impl Fn(&Path) -> bool) -> (PathBuf, Option<String>) {
    let whole = || (path.to_owned(), None);
    let Some(text) = path.to_str() else { return whole() };
    if is_there(path) {
        return whole();
    }
    // A tag has a colon itself where it is a full reference.
    let mut colons = text.match_indices(':').map(|(place, _)| text.split_at(place));
    match colons.find(|(before, _)| is_there(Path::new(before))) {
        Some((before, tag)) => (PathBuf::from(before), Some(tag[1..].to_owned())),
        None => whole(),
    }
}

/// This machine's architecture, where it is one that images are made for.
#[must_use]
pub fn own_arch() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86_64),
        "aarch64" => Some(Arch::Aarch64),
        "arm" => Some(Arch::Armv7),
        "riscv64" => Some(Arch::Riscv64),
        _ => None,
    }
}

// === impl Blob ===

impl Blob {
    fn memory(bytes: Vec<u8>) -> Self {
        let sha256 = sosna_protocol::hash::sha256(&bytes);
        Self { sha256, length: bytes.len() as u64, source: Source::Memory(bytes.into()) }
    }
}

impl Source {
    /// Reads `length` bytes of it from the start.
    ///
    /// # Errors
    /// Those of the file.
    pub fn reader(&self, length: u64) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Memory(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()).take(length))),
            Self::File { path, offset } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Ok(Box::new(file.take(length)))
            }
        }
    }
}

/// The name and length of what a reader gives.
pub(crate) fn digest(mut reader: impl Read) -> io::Result<(Hash, u64)> {
    let (mut hasher, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 128 * 1024]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((Hash(hasher.finalize().into()), length)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
