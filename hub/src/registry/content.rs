//! Images in the hub's own content store: everything that a device will need is there, whole.

use sosna_api::{
    Code,
    job::{ContentImage, ImageSpec},
};
use sosna_host::file::FileError;
use sosna_protocol::{Hash, resources::Arch};

use super::{Configuration, Descriptor, MAX_MANIFEST, Manifest, Resolved, refused};
use crate::{
    content::owned_length,
    error::HubError,
    hub::Hub,
    job::{ResolvedImage, Source},
};

/// What of the store an image is looked for in: what its buyer has sent.
#[derive(Clone, Copy)]
struct Own<'a> {
    hub: &'a Hub,
    buyer: &'a str,
    image: &'a str,
}

pub(super) async fn resolve(
    hub: &Hub,
    buyer: &str,
    image: &ContentImage,
    arch: Option<Arch>,
) -> Result<Resolved, HubError> {
    let name = ImageSpec::Content(image.clone()).to_string();
    let own = Own { hub, buyer, image: &name };
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
    let bytes = own.read("manifest", &image.manifest, None).await?;
    let manifest = Manifest::read(&bytes).map_err(|error| broken("manifest", &error))?;
    let Some(config) = manifest.config.filter(|_| manifest.manifests.is_none()) else {
        return Err(broken("manifest", &"it is an index; name the manifest of one platform"));
    };
    let digest = |descriptor: &Descriptor| {
        descriptor.sha256().ok_or_else(|| broken("manifest", &format!("{} is no SHA-256", descriptor.digest)))
    };
    let config_name = digest(&config)?;
    let bytes = own.read("configuration", &config_name, Some(config.size)).await?;
    let found: Configuration =
        serde_json::from_slice(&bytes).map_err(|error| broken("configuration", &error))?;
    if found.platform.arch() != Some(platform) {
        let reason = format!("it is for {}, and was said to be for {}", found.platform, platform.oci());
        return Err(broken("configuration", &reason));
    }
    let mut content = vec![*image.manifest, config_name];
    for (number, layer) in manifest.layers.iter().enumerate() {
        let layer_name = digest(layer)?;
        own.check(&format!("layer {number}"), &layer_name, Some(layer.size)).await?;
        content.push(layer_name);
    }
    let images = vec![ResolvedImage { arch: image.platform, manifest: image.manifest, source: Source::Hub }];
    Ok(Resolved { images, content })
}

impl Own<'_> {
    /// How long a part is, which must be there.
    async fn check(self, what: &str, name: &Hash, expected: Option<u64>) -> Result<u64, HubError> {
        let image = self.image;
        match owned_length(self.hub, self.buyer, name).await? {
            Some(found) if expected.is_none_or(|expected| expected == found) => Ok(found),
            Some(found) => {
                let expected = expected.unwrap_or_default();
                let detail = format!(
                    "the {what} of the image {image} has {found} bytes, and its manifest says {expected}"
                );
                refused(Code::Invalid, detail)
            }
            None => {
                let detail = format!(
                    "the {what} of the image {image}, sha256:{name}, is not in the hub's store, or was not sent by \
                     you; upload it first"
                );
                refused(Code::MissingContent, detail)
            }
        }
    }

    async fn read(self, what: &str, name: &Hash, expected: Option<u64>) -> Result<Vec<u8>, HubError> {
        let length = self.check(what, name, expected).await?;
        if length > MAX_MANIFEST {
            let detail = format!(
                "the {what} of the image {} has {length} bytes; {MAX_MANIFEST} are the most",
                self.image
            );
            return refused(Code::TooLarge, detail);
        }
        let path = self.hub.content.path(name);
        tokio::fs::read(&path).await.map_err(|error| FileError::of("read", &path)(error).into())
    }
}
