//! Content, to and from people.

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use sosna_api::route;
use sosna_protocol::hash::sha256;

use crate::support::{Answer, Setup};

fn path(bytes: &[u8]) -> String {
    route::fill(route::CONTENT, sha256(bytes))
}

#[tokio::test]
async fn content_is_taken_only_as_what_it_is() {
    let setup = Setup::new().await;
    let bytes = vec![7; 200_000];
    assert_eq!(setup.put(&path(&bytes), "buyer", &bytes).await.status, StatusCode::CREATED);
    assert_eq!(setup.put(&path(&bytes), "buyer", &bytes).await.status, StatusCode::OK);
    let head = setup.request(Method::HEAD, &path(&bytes), Some("buyer")).body(Body::empty()).unwrap();
    let head = setup.send(head).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (StatusCode::OK, "200000", 0));

    assert_eq!(setup.put(&path(b"one"), "buyer", b"two").await.problem(), "wrong-digest");
    let announce = async |length: &str, body: &'static [u8]| {
        let request =
            setup.request(Method::PUT, &path(b"one"), Some("buyer")).header("content-length", length);
        setup.send(request.body(Body::from(body)).unwrap()).await
    };
    assert_eq!(announce("4", b"one").await.problem(), "invalid");
    assert_eq!(announce("2", b"one").await.problem(), "invalid");
    assert_eq!(announce("99999999999", b"one").await.problem(), "too-large");
    assert_eq!(announce("much", b"one").await.problem(), "invalid");
    assert_eq!(setup.hub.content.length(&sha256(b"one")), None);
    let incoming = setup.folder.path().join("hub/content/incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
}

#[tokio::test]
async fn content_is_for_those_whose_jobs_it_belongs_to() {
    let setup = Setup::new().await;
    setup.device(1).await;
    setup.submitted().await;
    let layer = path(b"a layer");
    for (who, status) in
        [("buyer", 200), ("operator", 200), ("admin", 200), ("stranger", 404), ("owner", 404)]
    {
        assert_eq!(setup.get(&layer, who).await.status.as_u16(), status, "{who}");
    }
    // The same answer, word for word, as for what is not there at all.
    let (other, none) = (setup.get(&layer, "stranger").await, setup.get(&path(b"nothing"), "stranger").await);
    assert_eq!(other.body, none.body);
}

#[tokio::test]
async fn ranges_and_tags_are_understood() {
    let setup = Setup::new().await;
    let bytes: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    setup.put(&path(&bytes), "admin", &bytes).await;
    let get = async |name: &str, value: &str| -> Answer {
        let request = setup.request(Method::GET, &path(&bytes), Some("admin")).header(name, value);
        setup.send(request.body(Body::empty()).unwrap()).await
    };
    let part = get("range", "bytes=70000-70009").await;
    assert_eq!(
        (part.status, part.header("content-range")),
        (StatusCode::PARTIAL_CONTENT, "bytes 70000-70009/100000")
    );
    assert_eq!((&part.body[..], part.header("content-length")), (&bytes[70_000..70_010], "10"));
    assert_eq!(&get("range", "bytes=99990-").await.body[..], &bytes[99_990..]);
    assert_eq!(&get("range", "bytes=-5").await.body[..], &bytes[99_995..]);
    let none = get("range", "bytes=100000-").await;
    assert_eq!(
        (none.status, none.header("content-range")),
        (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */100000")
    );
    let several = get("range", "bytes=0-1,5-6").await;
    assert_eq!((several.status, several.body.len()), (StatusCode::OK, 100_000));
    let tag = several.header("etag").to_owned();
    assert_eq!(get("if-none-match", &tag).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(get("if-none-match", "\"other\"").await.body.len(), 100_000);
    // A part of something else is not continued.
    let request = setup.request(Method::GET, &path(&bytes), Some("admin")).header("range", "bytes=5-");
    let request = request.header("if-range", "\"other\"").body(Body::empty()).unwrap();
    assert_eq!(setup.send(request).await.status, StatusCode::OK);
    for (name, value) in [
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("x-content-type-options", "nosniff"),
        ("content-disposition", "attachment"),
        ("content-type", "application/octet-stream"),
        ("cache-control", "private, max-age=31536000, immutable"),
    ] {
        assert_eq!(several.header(name), value);
    }
}
