//! Frames with their messages and seals.

use std::fmt::Debug;

use sosna_protocol::{
    codec::{self, Decode, Dialect, Encode, Reader, Writer},
    envelope::{self, Seal},
    frame::{self, Frame},
    message::{ack, beat, enrol, hello, log, pay, result, work},
};

/// Reads bytes as a frame from MQTT, and as a stream from a Cocaine client.
///
/// # Panics
/// Where what was accepted cannot be written and read again.
pub fn frame(bytes: &[u8]) {
    if let Ok(frame) = Frame::decode(bytes) {
        assert!(is_within(bytes, frame.body) && is_within(bytes, frame.arguments));
        messages(&frame);
        seal(&frame);
    }
    for dialect in [Dialect::Current, Dialect::Raw] {
        let mut reader = Reader::with_dialect(bytes, dialect);
        loop {
            let before = reader.rest().len();
            if Frame::read(&mut reader).is_err() {
                assert_eq!(reader.rest().len(), before, "a stream that waits for more has moved on");
                break;
            }
            assert!(reader.rest().len() < before, "a frame without bytes");
        }
    }
}

fn is_within(whole: &[u8], part: &[u8]) -> bool {
    let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// Room for one frame of whatever was accepted: nothing grows by being written again, but for seals.
fn room(frame: &Frame<'_>) -> Vec<u8> {
    vec![0; frame.body.len() * 2 + envelope::MAX_SEAL + 64]
}

fn again<'a, T: Encode + Decode<'a> + PartialEq + Debug>(
    message: &T,
    frame: &Frame<'a>,
    buffer: &'a mut [u8],
) {
    let (channel, number) = (frame.channel, frame.message);
    let mut writer = Writer::new(buffer);
    frame::write(&mut writer, channel, number, message).expect("what was read can be written");
    let length = writer.written();
    let back = Frame::decode(&buffer[..length]).expect("what was written can be read");
    assert_eq!((back.channel, back.message), (channel, number));
    assert_eq!(back.arguments::<T>().as_ref(), Ok(message));
}

macro_rules! sets {
    ($frame:ident: $($set:path { $($case:ident)+ })+) => {$({
        use $set as Set;
        if let Ok(message) = Set::read($frame) {
            let mut buffer = room($frame);
            match message { $(Set::$case(message) => again(&message, $frame, &mut buffer),)+ }
        }
    })+};
}

fn messages(frame: &Frame<'_>) {
    sets! { frame:
        enrol::Up { Request Renew }
        enrol::Down { Granted Refused }
        hello::Up { Hello }
        hello::Down { Welcome Farewell }
        work::Down { Assign Cancel Renewed }
        work::Up { Accept Refuse }
        result::Up { Commit Reveal Failed }
        result::Down { Closed Verdict Missing }
        pay::Down { Issue }
        pay::Up { Held Present }
        ack::Down { Ack }
        beat::Up { Beat }
        log::Up { Chunk }
    }
    // Read as another message than it is, too: an enemy chooses channel and number.
    let _ = (frame.arguments::<work::Assign<'_>>(), frame.arguments::<hello::Hello<'_>>());
    let _ = (frame.arguments::<enrol::Granted<'_>>(), frame.arguments::<pay::Issue<'_>>());
}

fn seal(frame: &Frame<'_>) {
    let Ok(Some(seal)) = Seal::of(frame) else { return };
    let root = seal.root(frame.body);
    assert!(root.is_none() || seal.index < seal.count);
    let mut buffer = room(frame);
    let mut writer = Writer::new(&mut buffer);
    seal.write(&mut writer, frame.body).expect("what was read can be written");
    let back = Frame::decode(writer.bytes_written()).expect("what was written can be read");
    assert_eq!(back.body, frame.body);
    assert_eq!(Seal::of(&back), Ok(Some(seal.clone())));

    // Whoever it says it is from and to: the signature decides, and the same for both.
    let meta = &seal.meta;
    let judged = envelope::open(frame, &meta.audience, &meta.sender, None);
    assert_eq!(envelope::open(&back, &meta.audience, &meta.sender, None), judged);
    if judged.is_ok() {
        let root = root.expect("an opened seal has a root");
        assert_eq!(seal.signature.recover(&root), Ok(meta.sender));
        let expired = envelope::open(frame, &meta.audience, &meta.sender, Some(u64::MAX));
        assert!(expired.is_ok() == (meta.expires_ms == 0 || meta.expires_ms == u64::MAX));
    }
    let _ = codec::decode::<hello::Hello<'_>>(frame.arguments);
}
