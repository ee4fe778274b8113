//! Content that goes out: whole or one range of it (RFC 9110, section 14), straight from its file.
//!
//! Whatever it is, it must never run as a page of the hub's: it is sandboxed, never sniffed, and only pictures
//! are shown in place.

use std::{io::SeekFrom, ops::Range};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use sosna_host::{content::ContentStore, file::FileError};
use sosna_protocol::Hash;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::error::HubError;

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// What a browser does with content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// It is saved, as bytes.
    Saved,
    /// It is shown where it is a picture; otherwise it is saved under this name.
    Picture(String),
}

/// The content of this name as an answer; `None` where it is not there.
///
/// # Errors
/// [`HubError::File`].
pub(crate) async fn send(
    store: &ContentStore,
    name: &Hash,
    method: &Method,
    headers: &HeaderMap,
    shown: Shown,
) -> Result<Option<Response>, HubError> {
    let Some(length) = store.length(name) else { return Ok(None) };
    let tag = format!("\"{name}\"");
    let mut answer = HeaderMap::new();
    answer.insert(ETAG, value(&tag));
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // The name is the content: it can never change. But whose eyes it is for can.
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    answer.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    if matches(headers, &IF_NONE_MATCH, &tag) {
        return Ok(Some((StatusCode::NOT_MODIFIED, answer).into_response()));
    }
    let path = store.path(name);
    let failed = |error| HubError::from(FileError::of("read", &path)(error));
    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let (kind, disposition) = presented(&mut file, &shown).await.map_err(failed)?;
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.insert(CONTENT_DISPOSITION, disposition);

    // A range of something else than the client has a part of would be nonsense.
    let same = !headers.contains_key(IF_RANGE) || matches(headers, &IF_RANGE, &tag);
    let asked = headers.get(RANGE).filter(|_| same && method == Method::GET);
    let (status, range) = match asked.and_then(|asked| parse(asked.to_str().ok()?, length)) {
        None => (StatusCode::OK, 0..length),
        Some(Some(range)) => {
            let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            answer.insert(CONTENT_RANGE, value(&text));
            (StatusCode::PARTIAL_CONTENT, range)
        }
        Some(None) => {
            answer.insert(CONTENT_RANGE, value(&format!("bytes */{length}")));
            return Ok(Some((StatusCode::RANGE_NOT_SATISFIABLE, answer).into_response()));
        }
    };
    answer.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if method == Method::HEAD {
        return Ok(Some((status, answer).into_response()));
    }
    file.seek(SeekFrom::Start(range.start)).await.map_err(failed)?;
    let left = range.end - range.start;
    let pieces = futures_util::stream::try_unfold(file.take(left), |mut file| async move {
        let mut piece = vec![0; PIECE];
        let length = file.read(&mut piece).await?;
        piece.truncate(length);
        Ok::<_, std::io::Error>((length > 0).then(|| (Bytes::from(piece), file)))
    });
    Ok(Some((status, answer, Body::from_stream(pieces)).into_response()))
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, letters and punctuation make a header")
}

fn matches(headers: &HeaderMap, name: &HeaderName, tag: &str) -> bool {
    let listed = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
    };
    headers.get_all(name).iter().any(listed)
}

/// The range that is asked for; `None` for what is not understood and so ignored, `Some(None)` for one that
/// there is nothing of. Several ranges are ignored too, as servers may.
fn parse(text: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |digits: &str| {
        let good = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        good.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(last)) if first.is_empty() => length.saturating_sub(last)..length,
        _ => return None,
    };
    Some((range.start < range.end).then_some(range))
}

async fn presented(
    file: &mut tokio::fs::File,
    shown: &Shown,
) -> std::io::Result<(&'static str, HeaderValue)> {
    let bytes = "application/octet-stream";
    let Shown::Picture(name) = shown else { return Ok((bytes, HeaderValue::from_static("attachment"))) };
    let mut head = Vec::new();
    file.take(16).read_to_end(&mut head).await?;
    let kind = picture(&head);
    let plain = |one: char| if one.is_ascii_alphanumeric() || "-_.".contains(one) { one } else { '_' };
    let name: String = name.chars().take(100).map(plain).collect();
    let how = if kind.is_some() { "inline" } else { "attachment" };
    Ok((kind.unwrap_or(bytes), value(&format!("{how}; filename=\"{name}\""))))
}

/// The media type of a picture by its first bytes. SVG is none: it can carry scripts.
fn picture(head: &[u8]) -> Option<&'static str> {
    const PICTURES: [(&[u8], &str); 5] = [
        (b"BM", "image/bmp"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"RIFF", "image/webp"),
    ];
    let (magic, kind) = PICTURES.into_iter().find(|(magic, _)| head.starts_with(magic))?;
    (magic != b"RIFF" || head.get(8..12) == Some(b"WEBP")).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        let cases = [
            ("bytes=0-0", Some(Some(0..1))),
            ("bytes=0-99", Some(Some(0..10))),
            ("bytes=3-", Some(Some(3..10))),
            ("bytes=-3", Some(Some(7..10))),
            ("bytes=-99", Some(Some(0..10))),
            ("bytes=10-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=99999999999999999999-", Some(None)),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("bytes=-", None),
            ("lines=0-1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, 10), expected, "{text}");
        }
        assert_eq!(parse("bytes=0-0", 0), Some(None));
    }

    #[test]
    fn pictures_are_known_by_their_first_bytes() {
        assert_eq!(picture(b"BM123"), Some("image/bmp"));
        assert_eq!(picture(b"RIFF1234WEBPVP8 "), Some("image/webp"));
        assert_eq!(picture(b"RIFF1234WAVEfmt "), None);
        assert_eq!(picture(b"<svg xmlns="), None);
        assert_eq!(picture(b"<html>"), None);
    }
}
