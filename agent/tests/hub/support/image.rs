//! An OCI image of Debian's busybox-static, put into the content store.

use std::path::PathBuf;

use sosna_protocol::{Hash, hash::sha256};

use super::content::Content;

/// Where busybox is, if it is installed.
pub fn busybox() -> Option<PathBuf> {
    super::find_program("busybox")
}

/// Makes the image and returns its manifest's digest.
pub fn put(content: &Content) -> Hash {
    let mut layer = tar::Builder::new(Vec::new());
    let header = |kind, mode, size| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for folder in ["bin/", "etc/", "tmp/", "proc/", "sys/", "dev/"] {
        layer
            .append_data(&mut header(tar::EntryType::Directory, 0o755, 0), folder, std::io::empty())
            .unwrap();
    }
    let program = std::fs::read(busybox().unwrap()).unwrap();
    let size = program.len() as u64;
    layer
        .append_data(&mut header(tar::EntryType::Regular, 0o755, size), "bin/busybox", program.as_slice())
        .unwrap();
    for name in ["sh", "sleep", "cat", "echo", "true"] {
        layer
            .append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), format!("bin/{name}"), "busybox")
            .unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Env":["PATH=/bin"],"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        sha256(&layer)
    );
    let (layer_length, layer) = (layer.len(), content.put(&layer));
    let (config_length, config) = (config.len(), content.put(config.as_bytes()));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{config}","size":{config_length}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{layer}","size":{layer_length}}}]}}"#
    );
    content.put(manifest.as_bytes())
}
