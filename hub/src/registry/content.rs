//! Images in the hub's own content store: everything that a device will need is there, whole.

use std::fs;

use sosna_api::{
    Code,
    job::{ContentImage, ImageSpec},
};
use sosna_host::content::ContentStore;
use sosna_protocol::{Hash, resources::Arch};

use super::{Configuration, Descriptor, MAX_MANIFEST, Manifest, Resolved, refused};
use crate::{
    error::HubError,
    job::{ResolvedImage, Source},
};

pub(super) fn resolve(
    store: &ContentStore,
    image: &ContentImage,
    arch: Option<Arch>,
) -> Result<Resolved, HubError> {
    let name = ImageSpec::Content(image.clone()).to_string();
    let platform = *image.platform;
    if let Some(wanted) = arch.filter(|wanted| *wanted != platform) {
        let (wanted, has) = (wanted.oci(), platform.oci());
        return refused(
            Code::UnknownImage,
            format!("the image {name} is for {has}, and the job wants {wanted}"),
        );
    }
    let broken = |what: &str, reason: &dyn std::fmt::Display| {
        HubError::refused(
            Code::Invalid,
            format!("the {what} of the image {name} cannot be used: {reason}; build it again"),
        )
    };
    let bytes = read(store, &name, "manifest", &image.manifest, None)?;
    let manifest = Manifest::read(&bytes).map_err(|error| broken("manifest", &error))?;
    let Some(config) = manifest.config.filter(|_| manifest.manifests.is_none()) else {
        return Err(broken("manifest", &"it is an index; name the manifest of one platform"));
    };
    let digest = |descriptor: &Descriptor| {
        descriptor.sha256().ok_or_else(|| broken("manifest", &format!("{} is no SHA-256", descriptor.digest)))
    };
    let config_name = digest(&config)?;
    let bytes = read(store, &name, "configuration", &config_name, Some(config.size))?;
    let found: Configuration =
        serde_json::from_slice(&bytes).map_err(|error| broken("configuration", &error))?;
    if found.platform.arch() != Some(platform) {
        let reason = format!("it is for {}, and was said to be for {}", found.platform, platform.oci());
        return Err(broken("configuration", &reason));
    }
    let mut content = vec![*image.manifest, config_name];
    for (number, layer) in manifest.layers.iter().enumerate() {
        let layer_name = digest(layer)?;
        check_length(store, &name, &format!("layer {number}"), &layer_name, layer.size)?;
        content.push(layer_name);
    }
    let images = vec![ResolvedImage { arch: image.platform, manifest: image.manifest, source: Source::Hub }];
    Ok(Resolved { images, content })
}

fn check_length(
    store: &ContentStore,
    image: &str,
    what: &str,
    name: &Hash,
    expected: u64,
) -> Result<(), HubError> {
    match store.length(name) {
        Some(found) if found == expected => Ok(()),
        Some(found) => {
            let detail = format!(
                "the {what} of the image {image} has {found} bytes, and its manifest says {expected}"
            );
            refused(Code::Invalid, detail)
        }
        None => {
            let detail = format!(
                "the {what} of the image {image}, sha256:{name}, is not in the hub's store; upload it first"
            );
            refused(Code::MissingContent, detail)
        }
    }
}

fn read(
    store: &ContentStore,
    image: &str,
    what: &str,
    name: &Hash,
    expected: Option<u64>,
) -> Result<Vec<u8>, HubError> {
    let length = store.length(name).unwrap_or_default();
    check_length(store, image, what, name, expected.unwrap_or(length))?;
    if length > MAX_MANIFEST {
        let detail =
            format!("the {what} of the image {image} has {length} bytes; {MAX_MANIFEST} are the most");
        return refused(Code::TooLarge, detail);
    }
    let path = store.path(name);
    fs::read(&path).map_err(|error| sosna_host::file::FileError::of("read", &path)(error).into())
}
