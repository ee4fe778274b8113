//! Image references, asked of a real registry.

use serde_json::{Value, json};
use sosna_api::{Code, job::ImageSpec};
use sosna_hub::{
    HubError,
    job::Source,
    registry::{Resolved, resolve},
};
use sosna_protocol::resources::Arch;
use tempfile::TempDir;
use xtask::oci::{
    layer::Layer,
    layout::{Layout, Run},
};

use crate::{
    registry::{Registry, RegistryError},
    support::Setup,
};

fn started(test: &str) -> Option<Registry> {
    match Registry::start() {
        Ok(registry) => Some(registry),
        Err(error @ RegistryError::Missing(_)) => {
            eprintln!("SKIPPED {test}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Pushes an image for amd64 and returns its digest.
fn push(registry: &Registry) -> String {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("oci");
    let mut layer = Layer::default();
    layer.bytes("etc/hello", "hello", 0o644);
    let mut layout = Layout::begin(&place).unwrap();
    layout.add(&layer).unwrap();
    let run = Run { user: "0".into(), env: vec![], entrypoint: vec!["/x".into()], working_dir: "/".into() };
    layout.finish(&run).unwrap();
    registry.push(&place, "sosna/hello", "1").unwrap()
}

/// Pushes an index that names the image for several platforms.
async fn push_index(registry: &Registry, digest: &str) {
    let address = registry.address();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let manifest = client
        .get(format!("http://{address}/v2/sosna/hello/manifests/1"))
        .header("accept", "application/vnd.oci.image.manifest.v1+json")
        .send()
        .await
        .unwrap();
    let size = manifest.bytes().await.unwrap().len();
    let entry = |os: &str, architecture: &str, variant: Option<&str>| {
        let platform =
            json!({ "os": os, "architecture": architecture, "variant": variant.unwrap_or_default() });
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size, "platform": platform })
    };
    let media = "application/vnd.oci.image.index.v1+json";
    let index: Value = json!({ "schemaVersion": 2, "mediaType": media, "manifests": [
        entry("windows", "riscv64", None), entry("linux", "arm", Some("v6")), entry("linux", "arm64", Some("v8")),
        entry("linux", "amd64", None), entry("unknown", "unknown", None),
    ] });
    let url = format!("http://{address}/v2/sosna/hello/manifests/many");
    let put = client.put(url).header("content-type", media).body(index.to_string()).send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");
}

fn code(result: Result<Resolved, HubError>) -> (Code, String) {
    match result {
        Err(HubError::Refused { code, detail }) => (code, detail),
        other => panic!("{other:?}"),
    }
}

async fn settled(setup: &Setup, reference: String, arch: Option<Arch>) -> Result<Resolved, HubError> {
    Ok(resolve(&setup.hub, &ImageSpec::Reference(reference), arch).await?.unwrap())
}

#[tokio::test]
async fn references_are_settled_once() {
    let Some(registry) = started("references_are_settled_once") else { return };
    let setup = Setup::new().await;
    let digest = push(&registry);
    push_index(&registry, &digest).await;
    let ask = async |reference: String, arch| settled(&setup, reference, arch).await;
    let source = Source::Registry(format!("{}/sosna/hello", registry.address()));

    let single = ask(registry.reference("sosna/hello", "1"), None).await.unwrap();
    assert_eq!(
        (single.images.len(), *single.images[0].arch, &single.images[0].source),
        (1, Arch::X86_64, &source)
    );
    assert_eq!(format!("sha256:{}", single.images[0].manifest), digest);
    assert_eq!(single.content, []);
    let pinned = format!("{}@{digest}", registry.reference("sosna/hello", "1"));
    assert_eq!(ask(pinned, Some(Arch::X86_64)).await.unwrap(), single);

    let many = ask(registry.reference("sosna/hello", "many"), None).await.unwrap();
    let found: Vec<_> = many.images.iter().map(|image| *image.arch).collect();
    assert_eq!(found, [Arch::X86_64, Arch::Aarch64]);
    let one = ask(registry.reference("sosna/hello", "many"), Some(Arch::Aarch64)).await.unwrap();
    assert_eq!((one.images.len(), *one.images[0].arch), (1, Arch::Aarch64));

    for (reference, arch, expected) in [
        (registry.reference("sosna/hello", "2"), None, Code::UnknownImage),
        (registry.reference("sosna/other", "1"), None, Code::UnknownImage),
        (registry.reference("sosna/hello", "1"), Some(Arch::Aarch64), Code::UnknownImage),
        (registry.reference("sosna/hello", "many"), Some(Arch::Riscv64), Code::UnknownImage),
        (registry.reference("sosna/hello", "many"), Some(Arch::Armv7), Code::UnknownImage),
        (
            format!("{}@sha256:{}", registry.reference("sosna/hello", "1"), "0".repeat(64)),
            None,
            Code::UnknownImage,
        ),
        (registry.reference("sosna/hello", "not a tag"), None, Code::Invalid),
    ] {
        let (found, detail) = code(ask(reference.clone(), arch).await);
        assert_eq!(found, expected, "{detail}");
        assert!(detail.contains(&reference), "{detail}");
    }
    let gone = registry.reference("sosna/hello", "1");
    drop(registry);
    let (found, detail) = code(ask(gone, None).await);
    assert_eq!(found, Code::UnreachableRegistry, "{detail}");
}

/// A registry that answers a digest with something else.
#[tokio::test]
async fn a_registry_cannot_choose_what_a_digest_means() {
    let setup = Setup::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lies = axum::Router::new().fallback(|| async {
        let manifest = r#"{"schemaVersion":2,"manifests":[]}"#;
        ([("content-type", "application/vnd.oci.image.index.v1+json")], manifest)
    });
    tokio::spawn(async move { axum::serve(listener, lies).await });
    let reference = format!("{address}/a/b@sha256:{}", "0".repeat(64));
    let (found, detail) = code(settled(&setup, reference, None).await);
    assert_eq!(found, Code::WrongDigest, "{detail}");
}

#[tokio::test]
async fn a_registry_may_have_an_ipv6_address() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        eprintln!("SKIPPED a_registry_may_have_an_ipv6_address: this machine has no IPv6 loopback");
        return;
    };
    let address = listener.local_addr().unwrap();
    let empty = axum::Router::new().fallback(|| async { r#"{"schemaVersion":2,"manifests":[]}"# });
    tokio::spawn(async move { axum::serve(listener, empty).await });
    let reference = format!("{address}/a/b:1");
    let setup = Setup::with(|config| config.registry.private = vec![address.to_string()]).await;
    let (found, detail) = code(settled(&setup, reference.clone(), None).await);
    assert_eq!(found, Code::UnknownImage, "{detail}");
    assert!(detail.contains("is not there for an architecture"), "{detail}");
    let setup = Setup::new().await;
    let (found, detail) = code(settled(&setup, reference, None).await);
    assert_eq!(found, Code::Forbidden, "{detail}");
}

/// Whatever a registry says: a redirect, or a place to sign in, leads nowhere that it may not be.
#[tokio::test]
async fn a_registry_cannot_send_the_hub_into_its_own_network() {
    let inner = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = inner.local_addr().unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = asked.clone();
    let secret = axum::Router::new().fallback(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async { "secret" }
    });
    tokio::spawn(async move { axum::serve(inner, secret).await });
    let outer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = outer.local_addr().unwrap();
    let redirects = axum::Router::new().fallback(move |uri: axum::http::Uri| async move {
        use axum::{http::StatusCode, response::IntoResponse as _};
        let port = target.port();
        match uri.path() {
            path if path.contains("/sign/") => {
                let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/token\"");
                (StatusCode::UNAUTHORIZED, [("www-authenticate", realm)], "").into_response()
            }
            path => {
                let host = if path.contains("/name/") { "localhost" } else { "127.0.0.1" };
                let to = format!("http://{host}:{port}/inner");
                (StatusCode::TEMPORARY_REDIRECT, [("location", to)], "").into_response()
            }
        }
    });
    tokio::spawn(async move { axum::serve(outer, redirects).await });
    let setup = Setup::with(|config| config.registry.private = vec![address.to_string()]).await;
    for name in ["plain", "name", "sign"] {
        let (found, detail) = code(settled(&setup, format!("{address}/{name}/b:1"), None).await);
        assert_eq!(found, Code::Forbidden, "{detail}");
        assert!(detail.contains("registry.private"), "{detail}");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}
