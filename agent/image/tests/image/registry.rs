//! A real registry (Debian's docker-registry) on loopback: pushed to with another client, pulled from with ours.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    secrets,
};
use reqwest::header::HeaderValue;
use sosna_layers::{Digest, ImageError, RegistryAuth, Source, SourceError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Ran, Test, block_on,
    layers::{Scene, request},
    make::{Built, Layer, Recipe, gzip, noise, zstd},
};

pub(crate) const TESTS: &[Test] = &[
    ("registry::gzip_and_zstd_layers", gzip_and_zstd_layers),
    ("registry::resumes_a_partial_download", resumes_a_partial_download),
    ("registry::unknown_images", unknown_images),
    ("registry::basic_sign_in", basic_sign_in),
    ("registry::token_sign_in", token_sign_in),
];

/// bcrypt of "secret", cost 5.
const HTPASSWD: &str = "someone:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

struct Registry {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// On the PATH, or from Debian's package unpacked into the build's temporary folder.
fn program() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|p| p.join("docker-registry")).find(|p| p.is_file())
    {
        return Ok(found);
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-registry");
    let program = cache.join("usr/bin/docker-registry");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&cache).map_err(|e| e.to_string())?;
    let run = |command: &mut Command| match command.current_dir(&cache).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("apt-get").args(["download", "docker-registry"]))?;
    let names = fs::read_dir(&cache).map_err(|e| e.to_string())?.filter_map(|entry| Some(entry.ok()?.path()));
    let package =
        names.into_iter().find(|path| path.extension().is_some_and(|e| e == "deb")).ok_or("no package")?;
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg("."))?;
    Ok(program)
}

fn start(auth: &str) -> Result<Registry, String> {
    let program = program()?;
    let folder = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {0}\nhttp:\n  addr: {address}\n{1}",
        folder.path().join("data").display(),
        auth.replace("FOLDER", folder.path().to_str().unwrap()),
    );
    let config = folder.path().join("config.yml");
    fs::write(&config, text).unwrap();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut child = Command::new(program)
        .arg("serve")
        .arg(&config)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|e| e.to_string())?;
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return Ok(Registry { child, address, _folder: folder });
        }
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().ok();
    child.wait().ok();
    Err(format!(
        "the registry does not start: {}",
        fs::read_to_string(folder.path().join("log")).unwrap_or_default()
    ))
}

async fn push(registry: &Registry, name: &str, built: &Built, auth: &secrets::RegistryAuth) {
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let client = Client::new(config);
    let reference: Reference = format!("{}/{name}:latest", registry.address).parse().unwrap();
    client.auth(&reference, auth, oci_client::RegistryOperation::Push).await.unwrap();
    for (digest, blob) in built.blobs.iter().filter(|(digest, _)| **digest != built.manifest) {
        client.push_blob(&reference, blob.clone(), &digest.to_string()).await.unwrap();
    }
    let kind = HeaderValue::from_static("application/vnd.oci.image.manifest.v1+json");
    client.push_manifest_raw(&reference, built.manifest_text.clone(), kind).await.unwrap();
}

fn sample() -> Built {
    let first = Layer::new().dir("bin").file("bin/tool", &noise(200_000, 5)).tar();
    let second = Layer::new().file("text", "zstd ".repeat(50_000).as_bytes()).tar();
    let blobs = [(gzip(&first), Digest::of(&first)), (zstd(&second), Digest::of(&second))];
    Recipe::packed(blobs).build()
}

fn source(registry: &Registry, name: &str, auth: RegistryAuth) -> Source {
    Source::Registry { reference: format!("{}/{name}:latest", registry.address), auth }
}

fn first_failure(error: ImageError) -> SourceError {
    match error {
        ImageError::Sources { failures, .. } => failures.0.into_iter().next().unwrap().error,
        other => panic!("{other:?}"),
    }
}

fn gzip_and_zstd_layers() -> Ran {
    let registry = match start("") {
        Ok(registry) => registry,
        Err(reason) => return Ran::Skipped(reason),
    };
    let (scene, built) = (Scene::new(), sample());
    let image = block_on(async {
        push(&registry, "user/app", &built, &secrets::RegistryAuth::Anonymous).await;
        let source = source(&registry, "user/app", RegistryAuth::Anonymous);
        scene.store.ensure(&request(built.manifest, vec![source])).await.unwrap()
    });
    assert_eq!(fs::read(image.layers[0].join("bin/tool")).unwrap(), noise(200_000, 5));
    assert_eq!(fs::read(image.layers[1].join("text")).unwrap().len(), 250_000);
    Ran::Passed
}

fn resumes_a_partial_download() -> Ran {
    let registry = match start("") {
        Ok(registry) => registry,
        Err(reason) => return Ran::Skipped(reason),
    };
    let (scene, built) = (Scene::new(), sample());
    let layer = built.layers[0];
    let part = scene.root().join(format!("blobs/sha256/{}.part", layer.hex()));
    fs::write(&part, &built.blobs[&layer][..150_000]).unwrap();
    let first: Arc<Mutex<Option<u64>>> = Arc::default();
    block_on(async {
        push(&registry, "app", &built, &secrets::RegistryAuth::Anonymous).await;
        // Only a registry that honours ranges can complete what only the disk has the beginning of.
        let mut request = request(built.manifest, vec![source(&registry, "app", RegistryAuth::Anonymous)]);
        let hears = Arc::clone(&first);
        request.progress = Some(Arc::new(move |progress| {
            hears.lock().unwrap().get_or_insert(progress.done);
        }));
        scene.store.ensure(&request).await.unwrap();
    });
    assert_eq!(*first.lock().unwrap(), Some(150_000));
    Ran::Passed
}

fn unknown_images() -> Ran {
    let registry = match start("") {
        Ok(registry) => registry,
        Err(reason) => return Ran::Skipped(reason),
    };
    let scene = Scene::new();
    let source = source(&registry, "none", RegistryAuth::Anonymous);
    let error = block_on(scene.store.ensure(&request(Digest::of(b"none"), vec![source]))).unwrap_err();
    assert!(matches!(first_failure(error), SourceError::Unknown));
    Ran::Passed
}

fn basic_sign_in() -> Ran {
    let registry = match start("auth:\n  htpasswd:\n    realm: test\n    path: FOLDER/htpasswd\n") {
        Ok(registry) => registry,
        Err(reason) => return Ran::Skipped(reason),
    };
    let (scene, built) = (Scene::new(), sample());
    let basic =
        |password: &str| RegistryAuth::Basic { username: "someone".into(), password: password.into() };
    block_on(async {
        push(&registry, "app", &built, &secrets::RegistryAuth::Basic("someone".into(), "secret".into()))
            .await;
        for auth in [RegistryAuth::Anonymous, basic("wrong"), RegistryAuth::Bearer("x".into())] {
            let request = request(built.manifest, vec![source(&registry, "app", auth)]);
            let error = scene.store.ensure(&request).await.unwrap_err();
            assert!(matches!(first_failure(error), SourceError::Unauthorised(401)));
        }
        let request = request(built.manifest, vec![source(&registry, "app", basic("secret"))]);
        scene.store.ensure(&request).await.unwrap();
    });
    Ran::Passed
}

/// The registry's "silly" sign-in challenges for a token from anywhere; the token server here remembers what it was
/// asked.
fn token_sign_in() -> Ran {
    block_on(async {
        let tokens = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let realm = format!("http://{}/token", tokens.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let remembers = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = tokens.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                remembers.lock().unwrap().push(String::from_utf8(head).unwrap());
                let body = r#"{"token":"opaque-token"}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let registry =
            match start(&format!("auth:\n  silly:\n    realm: {realm}\n    service: silly-service\n")) {
                Ok(registry) => registry,
                Err(reason) => return Ran::Skipped(reason),
            };
        let (scene, built) = (Scene::new(), sample());
        push(&registry, "a/b", &built, &secrets::RegistryAuth::Anonymous).await;
        asked.lock().unwrap().clear();
        let auth = RegistryAuth::Basic { username: "someone".into(), password: "secret".into() };
        let wanted = request(built.manifest, vec![source(&registry, "a/b", auth)]);
        scene.store.ensure(&wanted).await.unwrap();
        {
            let asked = asked.lock().unwrap();
            assert_eq!(asked.len(), 1, "one token serves all blobs: {asked:?}");
            let line = asked[0].to_lowercase();
            assert!(
                line.contains("service=silly-service") && line.contains("scope=repository%3aa%2fb%3apull"),
                "{line}"
            );
            assert!(asked[0].contains("Basic c29tZW9uZTpzZWNyZXQ="), "the token server gets the credentials");
        }
        // A ready token needs no token server.
        let scene = Scene::new();
        let wanted =
            request(built.manifest, vec![source(&registry, "a/b", RegistryAuth::Bearer("ready".into()))]);
        scene.store.ensure(&wanted).await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 1);
        server.abort();
        Ran::Passed
    })
}
