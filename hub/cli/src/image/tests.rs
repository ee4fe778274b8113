#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, io::Write as _};

use serde_json::{Value, json};
use sosna_protocol::hash::sha256;
use tempfile::TempDir;

use super::*;

// === Images ===

/// A layout in memory: names and bytes.
#[derive(Default)]
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    fn blob(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let name = sha256(bytes);
        self.0.push((format!("blobs/sha256/{name}"), bytes.to_vec()));
        json!({ "mediaType": kind, "digest": format!("sha256:{name}"), "size": bytes.len() })
    }

    fn json(&mut self, kind: &str, value: &Value) -> Value {
        self.blob(kind, value.to_string().as_bytes())
    }

    /// An image of one layer; its manifest's descriptor.
    fn image(&mut self, arch: &str, variant: Option<&str>) -> Value {
        let content = format!("layer of {arch} {variant:?}");
        let layer = self.blob("application/vnd.oci.image.layer.v1.tar", content.as_bytes());
        let mut config = config(arch, &[sha256(content.as_bytes())]);
        if let Some(variant) = variant {
            config["variant"] = json!(variant);
        }
        let config = self.json("application/vnd.oci.image.config.v1+json", &config);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        self.json(kind, &manifest)
    }

    fn index(&mut self, manifests: &[Value]) {
        self.0.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        self.0.push(("index.json".to_owned(), index(manifests).to_string().into_bytes()));
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.0 {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn tar(&self) -> (TempDir, PathBuf) {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in &self.0 {
            append(&mut tar, name, EntryType::Regular, "", bytes);
        }
        file(&tar.into_inner().unwrap())
    }
}

use tar::EntryType;

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    // Past the builder, which refuses names that attackers use.
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn config(arch: &str, diff_ids: &[Hash]) -> Value {
    let diff_ids: Vec<String> = diff_ids.iter().map(|id| format!("sha256:{id}")).collect();
    json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } })
}

fn index(manifests: &[Value]) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
    })
}

fn named(mut descriptor: Value, tag: &str) -> Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    descriptor
}

fn open(image: &str, arch: Option<Arch>) -> Result<LocalImage, ImageError> {
    image.parse::<ImageArg>().unwrap().open(arch).map(Option::unwrap)
}

/// Every blob is what its name says, and the manifest is the last and names all others.
fn assert_whole(image: &LocalImage) {
    let mut texts = Vec::new();
    for blob in &image.blobs {
        let mut bytes = Vec::new();
        blob.source.reader(blob.length).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(sha256(&bytes), blob.sha256);
        assert_eq!(bytes.len() as u64, blob.length);
        texts.push(bytes);
    }
    assert_eq!(image.blobs.last().unwrap().sha256, image.manifest);
    let manifest: Value = serde_json::from_slice(texts.last().unwrap()).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len() + 2, image.blobs.len());
    for (layer, blob) in layers.iter().zip(&image.blobs) {
        assert_eq!(layer["digest"], format!("sha256:{}", blob.sha256));
        assert_eq!(layer["size"], blob.length);
    }
}

// === What people write ===

#[test]
fn kinds_of_images() {
    let parse = |text: &str| text.parse::<ImageArg>().unwrap();
    assert_eq!(parse("oci:dir"), ImageArg::Layout("dir".into()));
    assert_eq!(parse("oci-archive:a.tar"), ImageArg::LayoutArchive("a.tar".into()));
    assert_eq!(parse("docker-archive:/x/a.tar"), ImageArg::DockerArchive("/x/a.tar".into()));
    for text in ["alpine", "127.0.0.1:5000/povray:1", "r.test/a/b@sha256:00", "[::1]:5000/a", "oci/image:1"] {
        assert_eq!(parse(text), ImageArg::Reference(text.to_owned()));
        assert_eq!(parse(text).to_string(), text);
    }
    for text in ["", "oci:", "docker-archive:", "https://r.test/a", "-x", "./dir", "a b", "a?b", "é"] {
        assert!(text.parse::<ImageArg>().is_err(), "{text}");
    }
    assert_eq!(parse("oci:x").relative_to(Path::new("/f")), ImageArg::Layout("/f/x".into()));
}

// === Layouts ===

#[test]
fn a_layout_is_read_from_a_folder_and_from_an_archive() {
    let mut files = Files::default();
    let manifest = files.image("arm64", None);
    files.index(std::slice::from_ref(&manifest));
    let folder = files.folder();
    let (_keep, archive) = files.tar();
    // Its only image is taken, whatever this machine is.
    for text in [format!("oci:{}", folder.path().display()), format!("oci-archive:{}", archive.display())] {
        let image = open(&text, None).unwrap();
        assert_whole(&image);
        assert_eq!(image.platform, Arch::Aarch64);
        assert_eq!(manifest["digest"], format!("sha256:{}", image.manifest));
        assert!(matches!(open(&text, Some(Arch::X86_64)), Err(ImageError::Platform { .. })));
    }
}

#[test]
fn one_platform_is_chosen_from_nested_indexes() {
    let mut files = Files::default();
    let mut inner = Vec::new();
    for (arch, variant) in [("amd64", None), ("arm64", Some("v8")), ("arm", Some("v6")), ("arm", Some("v7"))]
    {
        inner.push(files.image(arch, variant));
    }
    let mut attestation = files.image("amd64", Some("attestation"));
    attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    inner.push(attestation);
    let nested = files.json("application/vnd.oci.image.index.v1+json", &index(&inner));
    files.index(&[nested]);
    let folder = files.folder();
    let text = format!("oci:{}", folder.path().display());
    for (arch, expected) in [(Arch::X86_64, 0), (Arch::Aarch64, 1), (Arch::Armv7, 3)] {
        let image = open(&text, Some(arch)).unwrap();
        assert_eq!(image.platform, arch);
        assert_eq!(inner[expected]["digest"], format!("sha256:{}", image.manifest));
    }
    let error = open(&text, Some(Arch::Riscv64)).unwrap_err();
    assert!(error.to_string().contains("riscv64, only for"), "{error}");
    assert_eq!(error.exit(), Exit::NotFound);
}

#[test]
fn one_of_many_names_has_to_be_said() {
    let mut files = Files::default();
    let (one, two) = (files.image("amd64", Some("1")), files.image("amd64", Some("2")));
    files.index(&[named(one.clone(), "one"), named(two, "reg.test:5000/two:2")]);
    let folder = files.folder();
    let text = format!("oci:{}", folder.path().display());
    let error = open(&text, Some(Arch::X86_64)).unwrap_err();
    assert!(matches!(&error, ImageError::Ambiguous { names, .. } if names.len() == 2), "{error}");
    let image = open(&format!("{text}:one"), Some(Arch::X86_64)).unwrap();
    assert_eq!(one["digest"], format!("sha256:{}", image.manifest));
    assert!(open(&format!("{text}:reg.test:5000/two:2"), None).is_ok());
    assert!(matches!(open(&format!("{text}:three"), None), Err(ImageError::Missing { .. })));
}

#[test]
fn content_that_is_not_what_its_name_says_is_refused() {
    let mut files = Files::default();
    let manifest = files.image("amd64", None);
    files.index(&[manifest]);
    // One byte of each blob in turn.
    for place in 0..3 {
        let mut changed = Files(files.0.clone());
        changed.0[place].1[0] ^= 1;
        let folder = changed.folder();
        let error = open(&format!("oci:{}", folder.path().display()), None).unwrap_err();
        assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    }
    let mut longer = Files(files.0.clone());
    longer.0[0].1.push(0);
    let error = open(&format!("oci:{}", longer.folder().path().display()), None).unwrap_err();
    assert!(matches!(
        error,
        ImageError::Missing { .. } | ImageError::Read { .. } | ImageError::Hostile { .. }
    ));
    let mut without = Files(files.0.clone());
    without.0.remove(0);
    let folder = without.folder();
    let error = open(&format!("oci:{}", folder.path().display()), None).unwrap_err();
    assert!(matches!(error, ImageError::Missing { .. }), "{error}");
}

#[test]
fn digests_are_no_paths() {
    let mut files = Files::default();
    let mut manifest = files.image("amd64", None);
    for digest in
        ["sha256:../../../../etc/passwd", "sha512:00", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e"]
    {
        manifest["digest"] = json!(digest);
        let mut files = Files(files.0.clone());
        files.index(std::slice::from_ref(&manifest));
        let folder = files.folder();
        let error = open(&format!("oci:{}", folder.path().display()), None).unwrap_err();
        assert!(
            matches!(error, ImageError::Json { .. } | ImageError::Unsupported { .. }),
            "{digest}: {error}"
        );
    }
}

#[test]
fn blobs_that_are_links_are_not_followed() {
    let mut files = Files::default();
    let manifest = files.image("amd64", None);
    files.index(&[manifest]);
    let folder = files.folder();
    let layer = folder.path().join(&files.0[0].0);
    fs::remove_file(&layer).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &layer).unwrap();
    let error = open(&format!("oci:{}", folder.path().display()), None).unwrap_err();
    assert!(matches!(error, ImageError::Read { .. }), "{error}");
}

#[test]
fn what_is_no_layout_says_so() {
    let empty = tempfile::tempdir().unwrap();
    let error = open(&format!("oci:{}", empty.path().display()), None).unwrap_err();
    assert!(error.to_string().ends_with("has no oci-layout; it is not an OCI image layout"), "{error}");
    let error = open("oci:/nowhere/at/all", None).unwrap_err();
    assert_eq!(error.exit(), Exit::NotFound);
    let (_keep, path) = file(
        b"this is not a tar file, but long enough to be looked at, since tar files are not short at all",
    );
    assert!(open(&format!("oci-archive:{}", path.display()), None).is_err());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"tar").unwrap();
    let (_keep, path) = file(&gzip.finish().unwrap());
    let error = open(&format!("oci-archive:{}", path.display()), None).unwrap_err();
    assert!(matches!(error, ImageError::Compressed(_)), "{error}");
}

// === Docker's archives ===

/// `docker save` as it was and as it is; `links` replaces the second layer by a link to it.
fn docker(compress: bool, config_name: Option<&str>) -> (Files, Value) {
    let layers = [b"first layer".to_vec(), b"second layer".to_vec()];
    let diff_ids: Vec<Hash> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = config("amd64", &diff_ids).to_string().into_bytes();
    let config_name = config_name.map_or_else(|| format!("{}.json", sha256(&config)), str::to_owned);
    let mut files = Files::default();
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let bytes = if compress {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(layer).unwrap();
            gzip.finish().unwrap()
        } else {
            layer.clone()
        };
        names.push(format!("{number}/layer.tar"));
        files.0.push((format!("{number}/layer.tar"), bytes));
    }
    files.0.push((config_name.clone(), config));
    let saved = json!({ "Config": config_name, "RepoTags": ["tool:1"], "Layers": names });
    files.0.push(("manifest.json".to_owned(), json!([saved]).to_string().into_bytes()));
    (files, saved)
}

#[test]
fn what_docker_saves_becomes_an_oci_image() {
    for compress in [false, true] {
        let (files, _) = docker(compress, None);
        let (_keep, path) = files.tar();
        let text = format!("docker-archive:{}", path.display());
        let image = open(&text, None).unwrap();
        assert_whole(&image);
        assert_eq!((image.platform, image.blobs.len()), (Arch::X86_64, 4));
        assert_eq!(open(&text, None).unwrap().manifest, image.manifest, "the same each time");
        assert!(open(&format!("{text}:tool:1"), Some(Arch::X86_64)).is_ok());
        assert!(matches!(open(&format!("{text}:tool:2"), None), Err(ImageError::Missing { .. })));
        assert!(matches!(open(&text, Some(Arch::Aarch64)), Err(ImageError::Platform { .. })));
    }
}

#[test]
fn layers_of_docker_archives_may_be_links_within_the_archive() {
    let (files, _) = docker(false, None);
    let build = |target: &str, kind| {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "./", EntryType::Directory, "", b"");
        for (name, bytes) in &files.0 {
            let name = if name == "1/layer.tar" { "2/real.tar" } else { name };
            append(&mut tar, &format!("./{name}"), EntryType::Regular, "", bytes);
        }
        append(&mut tar, "1/layer.tar", kind, target, b"");
        file(&tar.into_inner().unwrap())
    };
    for (target, kind) in [("../2/real.tar", EntryType::Symlink), ("2/real.tar", EntryType::Link)] {
        let (_keep, path) = build(target, kind);
        assert_whole(&open(&format!("docker-archive:{}", path.display()), None).unwrap());
    }
    for target in ["../../../../etc/passwd", "/etc/passwd", "gone", "../1/layer.tar"] {
        let (_keep, path) = build(target, EntryType::Symlink);
        let error = open(&format!("docker-archive:{}", path.display()), None).unwrap_err();
        assert!(
            matches!(error, ImageError::Missing { .. } | ImageError::Hostile { .. }),
            "{target}: {error}"
        );
    }
}

#[test]
fn docker_archives_that_lie_are_refused() {
    let refused = |files: &Files| {
        let (_keep, path) = files.tar();
        open(&format!("docker-archive:{}", path.display()), None).unwrap_err()
    };
    let (mut changed, _) = docker(false, None);
    changed.0[1].1[0] ^= 1;
    assert!(matches!(refused(&changed), ImageError::Digest { .. }), "a layer");
    let (mut changed, _) = docker(true, None);
    changed.0[0].1 = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"another layer").unwrap();
        gzip.finish().unwrap()
    };
    assert!(matches!(refused(&changed), ImageError::Digest { .. }), "a compressed layer");
    let name = format!("{}.json", sha256(b"something else"));
    assert!(matches!(refused(&docker(false, Some(&name)).0), ImageError::Digest { .. }), "the configuration");

    let replace = |saved: Value| {
        let (mut files, _) = docker(false, None);
        files.0.last_mut().unwrap().1 = saved.to_string().into_bytes();
        refused(&files)
    };
    let (_, saved) = docker(false, None);
    let mut fewer = saved.clone();
    fewer["Layers"] = json!(["0/layer.tar"]);
    assert!(matches!(replace(json!([fewer])), ImageError::Hostile { .. }));
    let mut outside = saved.clone();
    outside["Layers"] = json!(["/etc/passwd", "../../etc/passwd"]);
    assert!(matches!(replace(json!([outside])), ImageError::Missing { .. }));
    let mut many = saved.clone();
    many["Layers"] = json!(vec!["0/layer.tar"; 1000]);
    assert!(matches!(replace(json!([many])), ImageError::Hostile { .. }));
    assert!(matches!(replace(json!([saved, saved])), ImageError::Ambiguous { .. }));
    assert!(matches!(replace(json!([])), ImageError::Hostile { .. }));
    assert!(matches!(replace(json!({})), ImageError::Json { .. }));
}

// === Hostile archives ===

#[test]
fn archives_that_deceive_are_refused() {
    let archive = |build: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "oci-layout", EntryType::Regular, "", b"{}");
        build(&mut tar);
        let (_keep, path) = file(&tar.into_inner().unwrap());
        open(&format!("oci-archive:{}", path.display()), None).unwrap_err()
    };
    let twice = archive(&|tar| append(tar, "oci-layout", EntryType::Regular, "", b"{\"x\":1}"));
    assert!(twice.to_string().contains("`oci-layout` is in it twice"), "{twice}");
    let again = archive(&|tar| append(tar, "./oci-layout", EntryType::Regular, "", b""));
    assert!(again.to_string().contains("twice"), "{again}");
    let device = archive(&|tar| append(tar, "index.json", EntryType::Char, "", b""));
    assert!(matches!(device, ImageError::Hostile { .. }), "{device}");
    let circle = archive(&|tar| {
        append(tar, "index.json", EntryType::Symlink, "other.json", b"");
        append(tar, "other.json", EntryType::Symlink, "index.json", b"");
    });
    assert!(circle.to_string().contains("links in a circle"), "{circle}");
    let outside = archive(&|tar| append(tar, "index.json", EntryType::Symlink, "/etc/hostname", b""));
    assert!(matches!(outside, ImageError::Missing { .. }), "{outside}");
    let large = vec![b' '; usize::try_from(MAX_JSON).unwrap() + 1];
    let large = archive(&|tar| append(tar, "index.json", EntryType::Regular, "", &large));
    assert!(matches!(large, ImageError::Hostile { .. }), "{large}");

    // An entry that claims more bytes than there are.
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "oci-layout", EntryType::Regular, "", &[b'x'; 4096]);
    let bytes = tar.into_inner().unwrap();
    let (_keep, path) = file(&bytes[..1024]);
    let error = open(&format!("oci-archive:{}", path.display()), None).unwrap_err();
    assert!(matches!(error, ImageError::Hostile { .. } | ImageError::Read { .. }), "{error}");
}

#[test]
fn indexes_without_end_are_refused() {
    let mut files = Files::default();
    let mut inner = files.image("amd64", None);
    for _ in 0..6 {
        inner = files.json("application/vnd.oci.image.index.v1+json", &index(&[inner]));
    }
    files.index(&[inner]);
    let folder = files.folder();
    let error = open(&format!("oci:{}", folder.path().display()), None).unwrap_err();
    assert!(matches!(error, ImageError::Hostile { .. }), "{error}");
}
