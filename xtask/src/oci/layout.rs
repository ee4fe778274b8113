//! An image layout folder: `oci-layout`, `index.json` and `blobs/sha256/…`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde::{Deserialize, Serialize};

use super::layer::Layer;
use sosna_apt::digest::{self, Digest, Hashing};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How a container of the image runs (image-spec, "Image Configuration").
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Run {
    /// User by name or number.
    pub user: String,
    /// The environment, `K=V`.
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
}

#[derive(Debug, Serialize)]
struct Config<'a> {
    architecture: &'a str,
    os: &'a str,
    config: &'a Run,
    rootfs: RootFs,
}

#[derive(Debug, Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The layout's folder.
    pub dir: PathBuf,
    /// The manifest's digest, `sha256:…`: the image's name among machines.
    pub digest: String,
    /// Bytes of all blobs, compressed.
    pub bytes: u64,
}

/// A layer on its way to its file.
type Gzip = GzEncoder<Hashing<BufWriter<File>>>;

/// A layout in the making, in a folder beside its place.
#[derive(Debug)]
pub struct Layout {
    place: PathBuf,
    part: PathBuf,
    layers: Vec<Descriptor>,
    diff_ids: Vec<String>,
}

impl Layout {
    /// Begins a layout that will stand at `place`.
    ///
    /// # Errors
    /// When the folder beside it cannot be made.
    pub fn begin(place: &Path) -> io::Result<Self> {
        let mut name = place.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let part = place.with_file_name(name);
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        fs::create_dir_all(part.join("blobs/sha256"))?;
        Ok(Self { place: place.to_path_buf(), part, layers: Vec::new(), diff_ids: Vec::new() })
    }

    /// Compresses a layer and puts it on top of those before.
    ///
    /// # Errors
    /// When a file of the layer cannot be read or the blob not be written.
    pub fn add(&mut self, layer: &Layer) -> io::Result<()> {
        self.put(None, |out| layer.write(out))
    }

    /// The same with a finished tar, which may be anything. The configuration says `diff_id` of it where one is given,
    /// and the truth otherwise: for tests of what takes images.
    ///
    /// # Errors
    /// When the blob cannot be written.
    pub fn add_tar(&mut self, tar: &[u8], diff_id: Option<&str>) -> io::Result<()> {
        self.put(diff_id, |mut out| out.write_all(tar).map(|()| out))
    }

    fn put(
        &mut self,
        said: Option<&str>,
        fill: impl FnOnce(Hashing<Gzip>) -> io::Result<Hashing<Gzip>>,
    ) -> io::Result<()> {
        let path = self.part.join("layer.part");
        let blob = Hashing::new(BufWriter::new(File::create(&path)?));
        let gzip = GzBuilder::new().mtime(0).write(blob, Compression::default());
        let (gzip, diff_id, _) = fill(Hashing::new(gzip))?.finish();
        let (mut file, digest, size) = gzip.finish()?.finish();
        file.flush()?;
        fs::rename(path, self.blob(&digest))?;
        self.layers.push(Descriptor { media_type: LAYER.into(), digest: digest.to_string(), size });
        self.diff_ids.push(said.map_or_else(|| diff_id.to_string(), str::to_owned));
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.part.join("blobs/sha256").join(digest.hex())
    }

    fn json(&self, media_type: &str, value: &impl Serialize) -> io::Result<Descriptor> {
        let text = serde_json::to_vec(value)?;
        let digest = digest::of(&text);
        fs::write(self.blob(&digest), &text)?;
        let size = text.len() as u64;
        Ok(Descriptor { media_type: media_type.into(), digest: digest.to_string(), size })
    }

    /// Writes configuration, manifest and index for linux/amd64 and moves the layout to its place.
    ///
    /// # Errors
    /// When a file cannot be written or the old layout not be replaced.
    pub fn finish(self, run: &Run) -> io::Result<Image> {
        self.finish_for("amd64", run)
    }

    /// The same for linux on another processor, by its name in images.
    ///
    /// # Errors
    /// When a file cannot be written or the old layout not be replaced.
    pub fn finish_for(self, architecture: &str, run: &Run) -> io::Result<Image> {
        let rootfs = RootFs { kind: "layers", diff_ids: self.diff_ids.clone() };
        let config = self.json(CONFIG, &Config { architecture, os: "linux", config: run, rootfs })?;
        let manifest =
            Manifest { schema_version: 2, media_type: MANIFEST.into(), config, layers: self.layers.clone() };
        let manifests = vec![self.json(MANIFEST, &manifest)?];
        let index = Index { schema_version: 2, media_type: INDEX.into(), manifests };
        fs::write(self.part.join("index.json"), serde_json::to_vec(&index)?)?;
        fs::write(self.part.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        if self.place.exists() {
            fs::remove_dir_all(&self.place)?;
        }
        fs::rename(&self.part, &self.place)?;
        open(&self.place)
    }
}

/// Reads what stands at `dir`.
///
/// # Errors
/// When there is no layout with exactly one image.
pub fn open(dir: &Path) -> io::Result<Image> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let index: Index = serde_json::from_slice(&fs::read(dir.join("index.json"))?)?;
    let [manifest] = index.manifests.as_slice() else {
        return Err(bad("index.json names more or less than one image"));
    };
    let hex = manifest.digest.strip_prefix("sha256:").ok_or_else(|| bad("the digest is not a SHA-256"))?;
    let parsed: Manifest = serde_json::from_slice(&fs::read(dir.join("blobs/sha256").join(hex))?)?;
    let bytes = manifest.size + parsed.config.size + parsed.layers.iter().map(|l| l.size).sum::<u64>();
    Ok(Image { dir: dir.to_path_buf(), digest: manifest.digest.clone(), bytes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Read;

    use super::*;

    fn compose(place: &Path) -> Image {
        let mut base = Layer::default();
        base.bytes("bin/sh", "#!", 0o755);
        let mut top = Layer::default();
        top.bytes("work/a", "a", 0o644);
        let mut layout = Layout::begin(place).unwrap();
        layout.add(&base).unwrap();
        layout.add(&top).unwrap();
        let run = Run {
            user: "1000".into(),
            env: vec!["A=b".into()],
            entrypoint: vec!["/bin/sh".into()],
            working_dir: "/work".into(),
        };
        layout.finish(&run).unwrap()
    }

    #[test]
    fn the_same_input_gives_the_same_digest_and_blobs_are_what_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (compose(&dir.path().join("one")), compose(&dir.path().join("two")));
        assert_eq!((&one.digest, one.bytes), (&two.digest, two.bytes));
        // Again in the same place: replaced, not mixed.
        assert_eq!(compose(&dir.path().join("one")), one);
        let blobs: Vec<_> =
            fs::read_dir(one.dir.join("blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(blobs.len(), 4, "two layers, a configuration and a manifest");
        for blob in blobs {
            assert_eq!(
                digest::of(&fs::read(&blob).unwrap()).hex(),
                blob.file_name().unwrap().to_str().unwrap()
            );
        }
    }

    #[test]
    fn the_configuration_names_uncompressed_layers() {
        let dir = tempfile::tempdir().unwrap();
        let image = compose(&dir.path().join("one"));
        let blob = |digest: &str| fs::read(image.dir.join("blobs/sha256").join(&digest[7..])).unwrap();
        let manifest: Manifest = serde_json::from_slice(&blob(&image.digest)).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&blob(&manifest.config.digest)).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/sh");
        for (layer, diff_id) in manifest.layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(blob(&layer.digest).as_slice()).read_to_end(&mut tar).unwrap();
            assert_eq!(digest::of(&tar).to_string(), diff_id.as_str().unwrap());
        }
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).is_err());
        fs::write(dir.path().join("index.json"), r#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#)
            .unwrap();
        assert!(open(dir.path()).unwrap_err().to_string().contains("more or less than one"));
    }
}
