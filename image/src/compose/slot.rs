//! A slot: the device's read-only file system, followed by its hash tree.

use sha2::{Digest as _, Sha256};

use super::{Parts, Request, wireless};
use crate::Error;
use crate::block::modules::Stage;
use crate::block::tree::Tree;
use crate::block::verity::{self, Root};
use crate::block::{ext4, squashfs};
use crate::bootparts;
use crate::sbom;

/// Folders that are mounted over.
const EMPTY: [&str; 8] = ["boot", "data", "dev", "proc", "run", "sys", "tmp", "var"];

/// The slot's bytes and what the kernel must know of it.
pub(super) fn compose(
    request: &Request<'_>,
    parts: &Parts,
    modules: &Stage,
    boot_parts: &str,
) -> Result<(Vec<u8>, Root), Error> {
    let mut tree = tree(request, parts, modules)?;
    tree.file(bootparts::LIST, 0o644, boot_parts);
    let mut bytes = squashfs::write(&tree, request.epoch)?;
    // Any salt does; this one follows from the content, so that two versions never share a block's hash.
    let salt = Sha256::new().chain_update("sosna slot").chain_update(&bytes).finalize().into();
    let (hashes, root) =
        verity::tree(&mut &bytes[..], salt).map_err(|error| Error::malformed("the slot", error))?;
    bytes.extend_from_slice(&hashes);
    Ok((bytes, root))
}

fn tree(request: &Request<'_>, parts: &Parts, modules: &Stage) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    for folder in EMPTY {
        tree.folder(folder, 0o755);
    }
    tree.file("usr/bin/sosna-agent", 0o755, request.agent);
    tree.file("usr/sbin/e2fsck", 0o755, &parts.fsck[..]);
    add_modules(&mut tree, "usr/lib/modules", modules);
    tree.file("usr/share/sosna/data.ext4.zst", 0o644, ext4::PACKED);
    tree.file("usr/share/sosna/packages.toml", 0o644, request.board.lock.to_text()?);
    tree.file("usr/share/sosna/sbom/image.spdx.json", 0o644, sbom::document(request, parts)?);
    for (name, text) in &parts.licences {
        tree.file(&format!("usr/share/sosna/licences/{name}"), 0o644, &text[..]);
    }
    for (name, text) in [
        ("LICENSE-APACHE", include_str!("../../../LICENSE-APACHE")),
        ("LICENSE-MIT", include_str!("../../../LICENSE-MIT")),
    ] {
        tree.file(&format!("usr/share/sosna/licences/sosna/{name}"), 0o644, text);
    }
    tree.file("etc/ssl/certs/ca-certificates.crt", 0o644, &parts.certificates[..]);
    tree.file("etc/os-release", 0o644, os_release(request));
    let mut users = "root:x:0:0:root:/:/usr/bin/sosna-agent\n".to_owned();
    let mut groups = "root:x:0:\n".to_owned();
    if let Some(wifi) = &request.board.description.wifi {
        wireless::place(&mut tree, wifi, &parts.wireless)?;
        // PID 1 knows it by its number.
        users.push_str("wifi:x:101:101:wireless supplicant:/:/nonexistent\n");
        groups.push_str("wifi:x:101:\n");
    }
    users.push_str("nobody:x:65534:65534:nobody:/:/nonexistent\n");
    groups.push_str("nogroup:x:65534:\n");
    tree.file("etc/passwd", 0o644, users);
    tree.file("etc/group", 0o644, groups);
    tree.file("etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n");
    tree.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n");
    tree.link("etc/resolv.conf", "/run/resolv.conf");
    Ok(tree)
}

/// Adds a stage's modules and the lists by which they are loaded.
pub(super) fn add_modules(tree: &mut Tree, folder: &str, stage: &Stage) {
    tree.file(&format!("{folder}/order"), 0o644, stage.order());
    tree.file(&format!("{folder}/drivers"), 0o644, stage.table());
    for module in &stage.modules {
        tree.file(&format!("{folder}/{}", module.file), 0o644, &module.content[..]);
    }
}

/// What the system calls itself; boot loaders read it too.
pub(super) fn os_release(request: &Request<'_>) -> String {
    let (version, board) = (request.version, &request.board.name);
    format!(
        "NAME=\"Sosna\"\nID=sosna\nPRETTY_NAME=\"Sosna {version} ({board})\"\nVERSION_ID={version}\n\
         IMAGE_ID=sosna-{board}\nIMAGE_VERSION={version}\nVARIANT_ID={board}\n"
    )
}
