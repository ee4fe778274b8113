//! Builds layers and images in memory, good ones and others.

use std::{collections::HashMap, io::Write};

use flate2::{Compression, write::GzEncoder};
use sosna_layers::{Digest, Platform};
use tar::{Builder, EntryType, Header};

/// A layer under construction: names are written into headers byte by byte, so that anything can be written.
pub(crate) struct Layer(Builder<Vec<u8>>);

pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
}

pub(crate) fn meta(mode: u32) -> Meta {
    Meta { mode, uid: 0, gid: 0, mtime: 1_000_000_000 }
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn entry(mut self, kind: EntryType, path: &str, link: &str, meta: &Meta, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        let bytes = header.as_mut_bytes();
        if path.len() <= 100 {
            bytes[..path.len()].copy_from_slice(path.as_bytes());
        }
        if link.len() <= 100 {
            bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        }
        let long = [("path", path), ("linkpath", link)].into_iter().filter(|(_, value)| value.len() > 100);
        self.0.append_pax_extensions(long.map(|(key, value)| (key, value.as_bytes()))).unwrap();
        header.set_entry_type(kind);
        header.set_mode(meta.mode);
        header.set_uid(meta.uid);
        header.set_gid(meta.gid);
        header.set_mtime(meta.mtime);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", &meta(0o644), data)
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", &meta(0o755), b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, &meta(0o777), b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, &meta(0o644), b"")
    }

    /// Pax records for the entry that follows.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    /// Anything at all, at this place of the archive.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.get_mut().extend_from_slice(bytes);
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Blobs by digest, and the manifest's.
pub(crate) struct Built {
    pub(crate) blobs: HashMap<Digest, Vec<u8>>,
    pub(crate) manifest: Digest,
    pub(crate) manifest_text: Vec<u8>,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
}

/// An image whose parts can be falsified one by one.
pub(crate) struct Recipe {
    pub(crate) layers: Vec<(Vec<u8>, Digest)>,
    pub(crate) platform: Platform,
    pub(crate) run: serde_json::Value,
    /// Added to the sizes that the manifest promises for layers.
    pub(crate) size_lie: i64,
}

impl Recipe {
    /// Gzipped layers with right diff_ids.
    pub(crate) fn of(tars: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self::packed(tars.into_iter().map(|tar| (gzip(&tar), Digest::of(&tar))))
    }

    pub(crate) fn packed(layers: impl IntoIterator<Item = (Vec<u8>, Digest)>) -> Self {
        Self {
            layers: layers.into_iter().collect(),
            platform: Platform::native(),
            run: serde_json::json!({}),
            size_lie: 0,
        }
    }

    pub(crate) fn build(&self) -> Built {
        let config = serde_json::json!({
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "config": self.run,
            "rootfs": {"type": "layers", "diff_ids": self.layers.iter().map(|(_, id)| id).collect::<Vec<_>>()},
        });
        let config = config.to_string().into_bytes();
        let descriptor = |kind: &str, data: &[u8], lie: i64| {
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": Digest::of(data),
                "size": i64::try_from(data.len()).unwrap() + lie,
            })
        };
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(blob, _)| descriptor("layer.v1.tar+gzip", blob, self.size_lie))
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config, 0),
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut blobs: HashMap<_, _> =
            self.layers.iter().map(|(blob, _)| (Digest::of(blob), blob.clone())).collect();
        let (config_digest, digest) = (Digest::of(&config), Digest::of(&manifest));
        blobs.insert(config_digest, config);
        blobs.insert(digest, manifest.clone());
        Built {
            blobs,
            manifest: digest,
            manifest_text: manifest,
            config: config_digest,
            layers: self.layers.iter().map(|(blob, _)| Digest::of(blob)).collect(),
        }
    }
}

/// Bytes that do not compress, the same every time.
pub(crate) fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}
