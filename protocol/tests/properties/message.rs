//! Every message: there and back, cut off, with fields from the future, and out of noise.

use std::fmt::Debug;

use proptest::{collection::vec, prelude::*};
use sosna_protocol::{
    codec::{self, Decode, DecodeError, Encode, EncodeError, Reader, Writer},
    envelope,
    frame::{Frame, MAX_FRAME},
    identity::Sign as _,
    message::{Message, MessageError, ack, beat, enrol, hello, log, pay, result, work},
};

use crate::{
    generate,
    support::{Key, encoded, keep, meta},
    tree::Tree,
};

/// The same array with more fields after those that it has.
fn extended(array: &[u8], more: &[Tree]) -> &'static [u8] {
    let mut reader = Reader::new(array);
    let length = reader.array(usize::MAX).unwrap();
    let mut buffer = vec![0; array.len() + 64 + 16 * more.len()];
    let mut writer = Writer::new(&mut buffer);
    writer.array(length + more.len()).unwrap();
    writer.raw(reader.rest()).unwrap();
    more.iter().for_each(|field| field.encode(&mut writer).unwrap());
    let length = writer.written();
    keep(&buffer[..length])
}

fn check<T: Message + Decode<'static> + PartialEq + Debug>(message: &T) -> Result<(), TestCaseError> {
    let bytes = encoded(message);
    let back: T = codec::decode(bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&back, message);
    prop_assert_eq!(encoded(&back), bytes, "what was read is written as it came");

    // Every place in short messages, some in long ones.
    let step = if bytes.len() < 2000 { 1 } else { bytes.len() / 20 };
    for length in (0..bytes.len()).step_by(step) {
        prop_assert_eq!(
            codec::decode::<T>(&bytes[..length]),
            Err(DecodeError::Truncated),
            "cut at {}",
            length
        );
        let mut small = vec![0; length];
        prop_assert_eq!(codec::encode(message, &mut small), Err(EncodeError::Full));
    }
    let mut trailing = bytes.to_vec();
    trailing.push(0xc0);
    prop_assert_eq!(codec::decode::<T>(keep(trailing)), Err(DecodeError::Trailing));

    let future =
        [Tree::Nil, Tree::List(vec![Tree::Map(vec![(Tree::Unsigned(1), Tree::Nil)])]), Tree::Signed(-9)];
    let newer: T = codec::decode(extended(bytes, &future)).unwrap();
    prop_assert_eq!(&newer, message, "an older reader skips what a newer writer added");
    let many = vec![Tree::Bool(true); codec::UNKNOWN_FIELDS];
    prop_assert_eq!(&codec::decode::<T>(extended(bytes, &many)).unwrap(), message);
    let too_many = vec![Tree::Bool(true); codec::UNKNOWN_FIELDS + 1];
    prop_assert_eq!(codec::decode::<T>(extended(bytes, &too_many)), Err(DecodeError::Length));

    let mut fewer = bytes.to_vec();
    if fewer[0] & 0xf0 == 0x90 {
        fewer[0] -= 1;
        let read = codec::decode::<T>(keep(fewer));
        // An optional last field may be missing; then it is what is too much.
        prop_assert!(
            matches!(read, Err(DecodeError::Fields | DecodeError::Trailing)),
            "with a field less: {read:?}"
        );
    }
    Ok(())
}

/// Sealed, read as a frame, opened, read as one of the set of messages, and refused by the other sets.
macro_rules! through_a_frame {
    ($message:expr, $set:ty, $case:path) => {{
        let message = &$message;
        let (hub, device) = (Key::new(1), Key::new(2));
        let length = encoded(message).len();
        let (mut scratch, mut buffer) = (vec![0; length + 64], vec![0; length + 1024]);
        let sealed = message.seal(&hub, meta(&hub, &device, 1), &mut scratch, &mut buffer);
        if length + 4096 < MAX_FRAME {
            let frame = Frame::decode(sealed.unwrap()).unwrap();
            envelope::open(&frame, &device.address(), &hub.address(), None).unwrap();
            prop_assert_eq!(&<$set>::read(&frame), &Ok($case(message.clone())));
            let (mut unknown, mut elsewhere) = (frame, frame);
            (unknown.message, elsewhere.channel) = (99, 99);
            let answer = Err(MessageError::Unknown { channel: frame.channel, message: 99 });
            prop_assert_eq!(<$set>::read(&unknown), answer);
            let answer = Err(MessageError::Unknown { channel: 99, message: frame.message });
            prop_assert_eq!(<$set>::read(&elsewhere), answer);
        } else if let Ok(sealed) = sealed {
            // Close to the limit either way; what was written can be read.
            prop_assert!(Frame::decode(sealed).is_ok());
        } else {
            prop_assert_eq!(sealed, Err(envelope::SealError::Encode(EncodeError::Length)));
        }
    }};
}

macro_rules! messages {
    ($($name:ident: $set:ty, $case:path;)+) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
            $(#[test]
            fn $name(message in generate::$name()) {
                check(&message)?;
                through_a_frame!(message, $set, $case);
            })+
        }
    };
}
messages! {
    request: enrol::Up<'_>, enrol::Up::Request;
    renew: enrol::Up<'_>, enrol::Up::Renew;
    granted: enrol::Down<'_>, enrol::Down::Granted;
    refused: enrol::Down<'_>, enrol::Down::Refused;
    hello: hello::Up<'_>, hello::Up::Hello;
    welcome: hello::Down<'_>, hello::Down::Welcome;
    farewell: hello::Down<'_>, hello::Down::Farewell;
    assign: work::Down<'_>, work::Down::Assign;
    cancel: work::Down<'_>, work::Down::Cancel;
    renewed: work::Down<'_>, work::Down::Renewed;
    accept: work::Up<'_>, work::Up::Accept;
    refuse: work::Up<'_>, work::Up::Refuse;
    commit: result::Up<'_>, result::Up::Commit;
    reveal: result::Up<'_>, result::Up::Reveal;
    failed: result::Up<'_>, result::Up::Failed;
    closed: result::Down<'_>, result::Down::Closed;
    verdict: result::Down<'_>, result::Down::Verdict;
    missing: result::Down<'_>, result::Down::Missing;
    issue: pay::Down<'_>, pay::Down::Issue;
    held: pay::Up<'_>, pay::Up::Held;
    present: pay::Up<'_>, pay::Up::Present;
    ack: ack::Down<'_>, ack::Down::Ack;
    beat: beat::Up<'_>, beat::Up::Beat;
    chunk: log::Up<'_>, log::Up::Chunk;
}

/// Every set of messages reads a frame; none may panic, and what one reads can be written again.
fn read_all(frame: &Frame<'_>) {
    let _ = (enrol::Up::read(frame), enrol::Down::read(frame));
    let _ = (hello::Up::read(frame), hello::Down::read(frame));
    let _ = (work::Up::read(frame), work::Down::read(frame));
    let _ = (result::Up::read(frame), result::Down::read(frame));
    let _ = (pay::Up::read(frame), pay::Down::read(frame));
    let _ = (ack::Down::read(frame), beat::Up::read(frame), log::Up::read(frame));
    let _ = envelope::Seal::of(frame);
}

proptest! {
    #[test]
    fn noise_is_never_more_than_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = Frame::decode(&bytes) {
            read_all(&frame);
        }
    }

    #[test]
    fn noise_in_arguments(channel in 0_u64..10, message in 0_u64..6, noise in vec(any::<u8>(), 0..200)) {
        let bytes = encoded(&Tree::List(vec![channel.into(), message.into(), Tree::List(vec![])]));
        let mut frame = Frame::decode(bytes).unwrap();
        frame.arguments = &noise;
        read_all(&frame);
    }

    #[test]
    fn a_changed_byte_in_a_message(
        message in generate::hello(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&message).to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(read) = codec::decode::<hello::Hello<'_>>(keep(bytes)) {
            let again = encoded(&read);
            prop_assert_eq!(codec::decode::<hello::Hello<'_>>(again), Ok(read));
        }
    }
}
