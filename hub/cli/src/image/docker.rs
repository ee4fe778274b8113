//! What `docker save` writes: `manifest.json`, configurations, layers. It has no OCI manifest, so we make one; the
//! configuration stays as it is, and every layer is compared with the digest that the configuration states.

use std::io::Read as _;

use oci_spec::image::ImageConfiguration;
use serde::Deserialize;
use sosna_protocol::{Hash, resources::Arch};

use super::{Blob, ImageError, LocalImage, Store, archive::Piece, digest, layout};

const EXPECTED: &str = "what `docker save` writes";
/// How many layers an image may have (Docker's own limit is 127).
const MAX_LAYERS: usize = 512;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(super) fn open(store: &Store, tag: Option<&str>, wanted: Option<Arch>) -> Result<LocalImage, ImageError> {
    let piece = store.need("manifest.json", EXPECTED)?;
    let all: Vec<Saved> = store.json(&store.bytes(&piece, "manifest.json")?, "manifest.json")?;
    let saved = choose(store, all, tag)?;
    if saved.layers.len() > MAX_LAYERS {
        return Err(store.hostile(format!("it has more than {MAX_LAYERS} layers")));
    }
    let piece = store.need(&saved.config, EXPECTED)?;
    let bytes = store.bytes(&piece, "the configuration")?;
    let parsed: ImageConfiguration = store.json(&bytes, "the configuration")?;
    let config = Blob::memory(bytes);
    // Its name is its digest, in the old form (`HEX.json`) and in the new (`blobs/sha256/HEX`).
    let stem = saved.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    match stem.parse::<Hash>() {
        Ok(stated) if stated != config.sha256 => {
            return Err(store.differs("the configuration", &stated, &config.sha256));
        }
        _ => {}
    }
    let architecture = parsed.architecture().to_string();
    let platform = Arch::from_oci(&architecture).ok_or_else(|| layout::unknown(store, &architecture))?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != platform) {
        let found = vec![architecture];
        return Err(ImageError::Platform { path: store.path().to_owned(), wanted: wanted.oci(), found });
    }
    let diff_ids = parsed.rootfs().diff_ids();
    if diff_ids.len() != saved.layers.len() {
        return Err(store.hostile("archive and configuration do not have the same layers".to_owned()));
    }

    let mut blobs = Vec::new();
    let mut layers = Vec::new();
    for (name, diff_id) in saved.layers.iter().zip(diff_ids) {
        let (media_type, blob) = layer(store, name, diff_id)?;
        layers.push(descriptor(media_type, &blob));
        blobs.push(blob);
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": layers,
    });
    let manifest = Blob::memory(manifest.to_string().into_bytes());
    let name = manifest.sha256;
    blobs.extend([config, manifest]);
    Ok(LocalImage { manifest: name, platform, blobs })
}

fn choose(store: &Store, all: Vec<Saved>, tag: Option<&str>) -> Result<Saved, ImageError> {
    let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
    let names: Vec<String> = all.iter().flat_map(tags).collect();
    let mut fitting: Vec<Saved> = all
        .into_iter()
        .filter(|saved| tag.is_none_or(|tag| tags(saved).iter().any(|name| name == tag)))
        .collect();
    match (fitting.len(), tag) {
        (1, _) => Ok(fitting.remove(0)),
        (0, Some(tag)) => Err(ImageError::Missing {
            path: store.path().to_owned(),
            what: format!("image called {tag}"),
            expected: "an archive of that image",
        }),
        (0, None) => Err(store.hostile("it has no image in it".to_owned())),
        _ => Err(ImageError::Ambiguous { path: store.path().to_owned(), names }),
    }
}

fn layer(store: &Store, name: &str, diff_id: &str) -> Result<(&'static str, Blob), ImageError> {
    let stated: Hash = diff_id
        .strip_prefix("sha256:")
        .and_then(|hex| hex.parse().ok())
        .ok_or_else(|| store.unsupported(format!("the digest {diff_id}"), "save the image again"))?;
    let piece = store.need(name, EXPECTED)?;
    let mut magic = Vec::new();
    let open = |piece: &Piece| piece.source.reader(piece.length);
    let unreadable = |source| store.unreadable(source);
    open(&piece).map_err(unreadable)?.take(4).read_to_end(&mut magic).map_err(unreadable)?;
    let what = format!("the layer {name}");
    if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let next = "copy the image into an oci-archive, whose digests can be checked as they are";
        return Err(store.unsupported(format!("the compression of {what}"), next));
    }
    if !magic.starts_with(&[0x1f, 0x8b]) {
        return Ok((LAYER, store.verified(piece, &stated, &what)?));
    }
    let unpacked = flate2::read::MultiGzDecoder::new(open(&piece).map_err(unreadable)?);
    let (found, _) = digest(unpacked).map_err(unreadable)?;
    if found != stated {
        return Err(store.differs(&what, &stated, &found));
    }
    let (sha256, length) = digest(open(&piece).map_err(unreadable)?).map_err(unreadable)?;
    Ok((LAYER_GZIP, Blob { sha256, length, source: piece.source }))
}

fn descriptor(media_type: &str, blob: &Blob) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type,
        "digest": format!("sha256:{}", blob.sha256),
        "size": blob.length,
    })
}
