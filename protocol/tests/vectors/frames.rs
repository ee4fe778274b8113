//! Frames. The Cocaine ones are bytes that its client 0.12.14.5 for Python sent, or was sent, on a socket.

use serde_json::json;
use sosna_protocol::{
    codec::{Dialect, Reader, Writer},
    frame::{self, Frame},
};

use crate::{
    compare,
    support::{hex, unhex},
    tree::{Tree, list, text},
};

struct Case {
    name: &'static str,
    dialect: Dialect,
    channel: u64,
    message: u64,
    arguments: Tree,
    /// Whether an empty array of headers follows.
    headers: bool,
    /// What somebody else wrote.
    observed: Option<String>,
}

fn cocaine(
    name: &'static str,
    (channel, message): (u64, u64),
    arguments: impl Into<Vec<Tree>>,
    observed: &str,
) -> Case {
    let observed = unhex(observed);
    let headers = observed[0] == 0x94;
    Case {
        name,
        dialect: Dialect::Raw,
        channel,
        message,
        arguments: list(arguments),
        headers,
        observed: Some(hex(observed)),
    }
}

fn ascii(text: &str) -> String {
    hex(text.as_bytes())
}

fn ours(name: &'static str, channel: u64, message: u64, arguments: Tree) -> Case {
    Case { name, dialect: Dialect::Current, channel, message, arguments, headers: false, observed: None }
}

fn cases() -> Vec<Case> {
    let error = |category: u64, code: u64, said: &str| [list([category.into(), code.into()]), text(said)];
    let none: [Tree; 0] = [];
    let bytes = |bytes: &[u8]| Tree::Bytes(bytes.to_vec());
    vec![
        cocaine("resolve", (1, 0), [text("storage")], "94 01 00 91 a7 73746f72616765 90"),
        cocaine(
            "resolve: no such service",
            (1, 1),
            error(10, 1, "service is not available"),
            &format!("93 01 01 92 92 0a 01 b8 {}", ascii("service is not available")),
        ),
        cocaine(
            "read",
            (1, 0),
            [text("manifests"), text("echo")],
            "94 01 00 92 a9 6d616e696665737473 a4 6563686f 90",
        ),
        cocaine(
            "read: value",
            (1, 0),
            [text("hello from storage")],
            "93 01 00 91 b2 68656c6c6f2066726f6d2073746f72616765",
        ),
        cocaine(
            "read: error",
            (7, 1),
            error(1, 2, "No such file or directory"),
            &format!("93 07 01 92 92 01 02 b9 {}", ascii("No such file or directory")),
        ),
        cocaine(
            "write",
            (2, 1),
            [text("c"), text("k1"), text("v1"), list([text("t1"), text("t2")])],
            "94 02 01 94 a1 63 a2 6b31 a2 7631 92 a2 7431 a2 7432 90",
        ),
        cocaine("write: done", (2, 0), none.clone(), "93 02 00 90"),
        cocaine("find", (4, 3), [text("c"), list([text("t1")])], "94 04 03 92 a1 63 91 a2 7431 90"),
        cocaine("find: keys", (4, 0), [list([text("k1"), text("k2")])], "93 04 00 91 92 a2 6b31 a2 6b32"),
        cocaine("remove", (6, 2), [text("c"), text("k1")], "94 06 02 92 a1 63 a2 6b31 90"),
        cocaine("cache put", (1, 1), [text("k"), text("v")], "94 01 01 92 a1 6b a1 76 90"),
        cocaine("cache get", (2, 0), [text("k")], "94 02 00 91 a1 6b 90"),
        cocaine("cache get: hit", (2, 0), [Tree::Bool(true), text("v")], "93 02 00 92 c3 a1 76"),
        cocaine("log verbosity", (1, 1), none.clone(), "93 01 01 90"),
        cocaine(
            "log emit",
            (2, 0),
            [
                1.into(),
                text("echoapp"),
                text("hello world"),
                list([
                    list([text("k"), 1.into()]),
                    list([text("s"), text("v")]),
                    list([text("uuid"), text("u-1")]),
                ]),
            ],
            &format!(
                "93 02 00 94 01 a7 {} ab {} 93 92 a1 6b 01 92 a1 73 a1 76 92 a4 {} a3 {}",
                ascii("echoapp"),
                ascii("hello world"),
                ascii("uuid"),
                ascii("u-1")
            ),
        ),
        cocaine(
            "worker handshake, 36 bytes as raw16",
            (1, 0),
            [text("6b1a8a4e-5c07-4a7e-9d6c-0a5b8e8f4c11")],
            &format!("93 01 00 91 da 0024 {}", ascii("6b1a8a4e-5c07-4a7e-9d6c-0a5b8e8f4c11")),
        ),
        cocaine("worker heartbeat", (1, 0), none.clone(), "93 01 00 90"),
        cocaine(
            "worker terminate",
            (1, 1),
            [0.into(), text("graceful shutdown")],
            &format!("93 01 01 92 00 b1 {}", ascii("graceful shutdown")),
        ),
        cocaine(
            "enqueue",
            (2, 0),
            [text("calculate_length")],
            &format!("94 02 00 91 b0 {} 90", ascii("calculate_length")),
        ),
        cocaine(
            "invoke",
            (2, 0),
            [text("calculate_length")],
            &format!("93 02 00 91 b0 {}", ascii("calculate_length")),
        ),
        cocaine(
            "chunk",
            (2, 0),
            [bytes(b"hello, sonm")],
            &format!("94 02 00 91 ab {} 90", ascii("hello, sonm")),
        ),
        cocaine("chunk from a worker", (2, 0), [bytes(b"11")], "93 02 00 91 a2 3131"),
        cocaine("choke", (2, 2), none.clone(), "93 02 02 90"),
        cocaine("close by a client", (2, 2), none, "94 02 02 90 90"),
        cocaine(
            "exception in a worker",
            (4, 1),
            error(42, 100, "boom"),
            &format!("93 04 01 92 92 2a 64 a4 {}", ascii("boom")),
        ),
        Case {
            name: "a binary of 300 bytes in the old dialect: raw16, where today's has bin16",
            dialect: Dialect::Raw,
            ..ours("", 1, 0, list([bytes(&[0xff; 300])]))
        },
        ours("nothing but the least", 0, 0, list([])),
        ours("largest numbers", u64::MAX, u64::MAX, list([u64::MAX.into(), Tree::Signed(i64::MIN)])),
        ours("text of 32 bytes as str8", 1, 2, list([text(&"t".repeat(32))])),
        ours("bytes of 256 as bin16", 3, 4, list([bytes(&[7; 256])])),
        ours(
            "every width of number",
            5,
            6,
            list([0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32].map(Tree::from)),
        ),
        ours(
            "negative numbers",
            5,
            7,
            list(
                [-1, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648, -2_147_483_649]
                    .map(Tree::Signed),
            ),
        ),
        ours(
            "nil, truth and a map",
            9,
            1,
            list([Tree::Nil, Tree::Bool(false), Tree::Map(vec![(text("k"), 1.into())])]),
        ),
    ]
}

#[test]
fn frames() {
    let mut vectors = Vec::new();
    for case in cases() {
        let mut buffer = [0; 1024];
        let mut writer = Writer::with_dialect(&mut buffer, case.dialect);
        if case.headers {
            writer.array(4).unwrap();
            frame::write_body(&mut writer, case.channel, case.message, &case.arguments).unwrap();
            writer.array(0).unwrap();
        } else {
            frame::write(&mut writer, case.channel, case.message, &case.arguments).unwrap();
        }
        let written = writer.bytes_written();
        if let Some(observed) = &case.observed {
            assert_eq!(hex(written), *observed, "{}", case.name);
        }

        let mut reader = Reader::with_dialect(written, case.dialect);
        let frame = Frame::read(&mut reader).unwrap();
        assert_eq!(reader.finish(), Ok(()), "{}", case.name);
        assert_eq!((frame.channel, frame.message), (case.channel, case.message), "{}", case.name);
        assert_eq!(frame.headers, case.headers.then_some([0x90].as_slice()), "{}", case.name);
        // A stream that breaks off anywhere asks for more, and does not move on.
        for length in 0..written.len() {
            let mut reader = Reader::with_dialect(&written[..length], case.dialect);
            assert_eq!(Frame::read(&mut reader), Err(sosna_protocol::codec::DecodeError::Truncated));
            assert_eq!(reader.rest().len(), length);
        }
        vectors.push(json!({
            "name": case.name,
            "dialect": format!("{:?}", case.dialect),
            "observed": case.observed.is_some(),
            "channel": case.channel.to_string(),
            "message": case.message.to_string(),
            "arguments": hex(frame.arguments),
            "headers": frame.headers.map(hex),
            "frame": hex(written),
        }));
    }
    let about = "[channel, message, arguments, headers?] as bytes. `observed`: Cocaine's own client wrote or read them.";
    compare("frames", about, vectors);
}
