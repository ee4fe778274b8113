//! OCI image layouts: `index.json`, `blobs/sha256/…`.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use sosna_protocol::{Hash, resources::Arch};

use super::{Blob, ImageError, LocalImage, Store};

const EXPECTED: &str = "an OCI image layout";
/// How deep indexes may lie in indexes.
const MAX_DEPTH: usize = 4;
/// How many manifests an index may have.
const MAX_MANIFESTS: usize = 256;
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const TAG: &str = "org.opencontainers.image.ref.name";

/// A manifest that could be meant.
struct Candidate {
    name: String,
    blob: Blob,
    config: Blob,
    manifest: ImageManifest,
    architecture: String,
    variant: Option<String>,
}

pub(super) fn open(store: &Store, tag: Option<&str>, wanted: Option<Arch>) -> Result<LocalImage, ImageError> {
    store.need("oci-layout", EXPECTED)?;
    let piece = store.need("index.json", EXPECTED)?;
    let index: ImageIndex = store.json(&store.bytes(&piece, "index.json")?, "index.json")?;
    let mut candidates = Vec::new();
    collect(store, &index, tag, 0, &mut candidates)?;
    let chosen = choose(store, candidates, tag, wanted)?;
    let platform =
        Arch::from_oci(&chosen.architecture).ok_or_else(|| unknown(store, &chosen.architecture))?;
    let mut blobs = Vec::new();
    for layer in chosen.manifest.layers() {
        blobs.push(blob(store, layer, "a layer")?);
    }
    blobs.extend([chosen.config, chosen.blob.clone()]);
    Ok(LocalImage { manifest: chosen.blob.sha256, platform, blobs })
}

fn collect(
    store: &Store,
    index: &ImageIndex,
    tag: Option<&str>,
    depth: usize,
    into: &mut Vec<Candidate>,
) -> Result<(), ImageError> {
    if depth > MAX_DEPTH {
        return Err(store.hostile("its indexes lie in each other too deeply".to_owned()));
    }
    for descriptor in index.manifests() {
        let name = descriptor.annotations().as_ref().and_then(|notes| notes.get(TAG)).map(String::as_str);
        if depth == 0 && tag.is_some() && tag != name {
            continue;
        }
        // Attestations stand beside images, for a platform that does not exist.
        if descriptor.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown") {
            continue;
        }
        match descriptor.media_type() {
            MediaType::ImageIndex => {}
            MediaType::Other(other) if other == DOCKER_INDEX => {}
            MediaType::ImageManifest => {
                into.push(candidate(store, descriptor, name)?);
                if into.len() > MAX_MANIFESTS {
                    return Err(store.hostile(format!("it has more than {MAX_MANIFESTS} images")));
                }
                continue;
            }
            MediaType::Other(other) if other == DOCKER_MANIFEST => {
                into.push(candidate(store, descriptor, name)?);
                continue;
            }
            _ => continue,
        }
        let inner = blob(store, descriptor, "an index")?;
        let bytes = read(store, &inner, "an index")?;
        collect(store, &store.json(&bytes, "an index")?, tag, depth + 1, into)?;
    }
    Ok(())
}

fn candidate(store: &Store, descriptor: &Descriptor, name: Option<&str>) -> Result<Candidate, ImageError> {
    let blob_of_manifest = blob(store, descriptor, "a manifest")?;
    let manifest: ImageManifest = store.json(&read(store, &blob_of_manifest, "a manifest")?, "a manifest")?;
    let config = blob(store, manifest.config(), "a configuration")?;
    let parsed: ImageConfiguration =
        store.json(&read(store, &config, "a configuration")?, "a configuration")?;
    if parsed.rootfs().diff_ids().len() != manifest.layers().len() {
        return Err(store.hostile("manifest and configuration do not have the same layers".to_owned()));
    }
    if parsed.os().to_string() != "linux" {
        return Err(store.unsupported(format!("an image for {}", parsed.os()), "only linux images can run"));
    }
    let name = name.map_or_else(|| format!("sha256:{}", blob_of_manifest.sha256), str::to_owned);
    let (architecture, variant) = (parsed.architecture().to_string(), parsed.variant().clone());
    Ok(Candidate { name, blob: blob_of_manifest, config, manifest, architecture, variant })
}

fn choose(
    store: &Store,
    mut candidates: Vec<Candidate>,
    tag: Option<&str>,
    wanted: Option<Arch>,
) -> Result<Candidate, ImageError> {
    // The same manifest may be listed under many names.
    candidates.sort_by_key(|candidate| candidate.blob.sha256);
    candidates.dedup_by_key(|candidate| candidate.blob.sha256);
    if candidates.is_empty() {
        let what = tag.map_or_else(|| "image in it".to_owned(), |tag| format!("image called {tag}"));
        return Err(ImageError::Missing { path: store.path().to_owned(), what, expected: "an image" });
    }
    let only = candidates.len() == 1 && wanted.is_none();
    if let Some(arch) = wanted.or_else(super::own_arch).filter(|_| !only) {
        let found: Vec<String> = candidates.iter().map(|candidate| candidate.architecture.clone()).collect();
        candidates.retain(|candidate| candidate.architecture == arch.oci());
        if candidates.is_empty() {
            return Err(ImageError::Platform { path: store.path().to_owned(), wanted: arch.oci(), found });
        }
        // An armv7 device runs what is older too, but not what is newer.
        if arch == Arch::Armv7 {
            let rank = |candidate: &Candidate| match candidate.variant.as_deref() {
                Some("v7") => 0,
                None => 1,
                Some("v6") => 2,
                Some("v5") => 3,
                Some(_) => 4,
            };
            candidates.sort_by_key(rank);
            let best = rank(&candidates[0]);
            candidates.retain(|candidate| rank(candidate) == best);
        }
    }
    if candidates.len() > 1 {
        let names = candidates.into_iter().map(|candidate| candidate.name).collect();
        return Err(ImageError::Ambiguous { path: store.path().to_owned(), names });
    }
    Ok(candidates.remove(0))
}

fn blob(store: &Store, descriptor: &Descriptor, what: &str) -> Result<Blob, ImageError> {
    let digest = descriptor.digest();
    let name: Option<Hash> =
        (digest.algorithm().to_string() == "sha256").then(|| digest.digest().parse().ok()).flatten();
    let Some(name) = name else {
        return Err(store.unsupported(format!("the digest {digest}"), "make the image with sha256 digests"));
    };
    // From the parsed hash, so that no text of the image becomes part of a path.
    let piece = store.need(&format!("blobs/sha256/{name}"), "a whole OCI image layout")?;
    if piece.length != descriptor.size() {
        let said = descriptor.size();
        return Err(store.hostile(format!("{what} has {} bytes, and {said} are announced", piece.length)));
    }
    store.verified(piece, &name, what)
}

fn read(store: &Store, blob: &Blob, what: &str) -> Result<Vec<u8>, ImageError> {
    let piece = super::archive::Piece { source: blob.source.clone(), length: blob.length };
    let bytes = store.bytes(&piece, what)?;
    // The file may have changed since it was hashed.
    let found = sosna_protocol::hash::sha256(&bytes);
    if found == blob.sha256 { Ok(bytes) } else { Err(store.differs(what, &blob.sha256, &found)) }
}

pub(super) fn unknown(store: &Store, architecture: &str) -> ImageError {
    store.unsupported(format!("an image for {architecture}"), "devices are amd64, arm64, arm or riscv64")
}
