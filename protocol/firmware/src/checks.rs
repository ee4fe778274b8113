//! Every vector, encoded, decoded and verified: the same on a microcontroller as anywhere.

use core::fmt;

use sosna_protocol::{
    Address, Amount, Hash, Signature,
    codec::{self, Decode, Dialect, Encode, EncodeError, Reader, Writer},
    eip712::{Domain, Typed as _, Voucher},
    envelope::{self, EnvelopeError, Seal},
    frame::{self, Frame},
    identity::AssignmentId,
    message::{ack, beat, enrol, hello, log, pay, result, work},
    result::{commitment, root},
};

use crate::vectors::{self, COMMITMENTS, FRAMES, MESSAGES, RESULTS, SEALS, SIGNATURES, VOUCHERS};

/// The longest vector, with room to spare.
const BUFFER: usize = 2048;

/// Which vector came out differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrong {
    what: &'static str,
    place: usize,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WRONG: {} number {}", self.what, self.place)
    }
}

/// Checks everything; tells after each kind how many there were.
pub(crate) fn all(mut tell: impl FnMut(&str, usize)) -> Result<(), Wrong> {
    every("frames read and written", &FRAMES, frame_is_right, &mut tell)?;
    every("messages read and written", &MESSAGES, message_is_right, &mut tell)?;
    every("seals opened, and refused when changed", &SEALS, seal_is_right, &mut tell)?;
    every(
        "result trees",
        &RESULTS,
        |one| root(one.entries.iter().copied()) == Ok(Hash(one.root)),
        &mut tell,
    )?;
    every("commitments", &COMMITMENTS, commitment_is_right, &mut tell)?;
    every("vouchers", &VOUCHERS, voucher_is_right, &mut tell)?;
    every("signatures", &SIGNATURES, signature_is_right, &mut tell)
}

fn every<T>(
    what: &'static str,
    vectors: &[T],
    is_right: impl Fn(&T) -> bool,
    tell: &mut impl FnMut(&str, usize),
) -> Result<(), Wrong> {
    match vectors.iter().position(|one| !is_right(one)) {
        Some(place) => Err(Wrong { what, place }),
        None => {
            tell(what, vectors.len());
            Ok(())
        }
    }
}

/// What is encoded already.
struct Encoded<'a>(&'a [u8]);

impl Encode for Encoded<'_> {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.raw(self.0)
    }
}

fn frame_is_right(one: &vectors::Frame) -> bool {
    let dialect = if one.raw { Dialect::Raw } else { Dialect::Current };
    let mut reader = Reader::with_dialect(one.frame, dialect);
    let Ok(read) = Frame::read(&mut reader) else { return false };
    let mut buffer = [0; BUFFER];
    let mut writer = Writer::with_dialect(&mut buffer, dialect);
    let arguments = Encoded(read.arguments);
    let written = match read.headers {
        None => frame::write(&mut writer, read.channel, read.message, &arguments),
        Some(headers) => writer
            .array(4)
            .and_then(|()| frame::write_body(&mut writer, read.channel, read.message, &arguments))
            .and_then(|()| writer.raw(headers)),
    };
    reader.finish().is_ok()
        && (read.channel, read.message) == (one.channel, one.message)
        && (read.arguments, read.headers) == (one.arguments, one.headers)
        && written.is_ok()
        && writer.bytes_written() == one.frame
}

/// Reads the arguments of a message and writes them again.
// Inlined, the frames of all messages would lie on the stack at once, and not fit.
#[inline(never)]
fn again<T: Decode<'static> + Encode>(arguments: &'static [u8]) -> bool {
    let mut buffer = [0; BUFFER];
    codec::decode::<T>(arguments)
        .is_ok_and(|message| codec::encode(&message, &mut buffer).is_ok_and(|bytes| bytes == arguments))
}

fn message_is_right(one: &vectors::Message) -> bool {
    macro_rules! by_name {
        ($($kind:ident::$name:ident),+ $(,)?) => {
            match one.name {
                $(concat!(stringify!($kind), "::", stringify!($name)) => again::<$kind::$name>(one.arguments),)+
                _ => false,
            }
        };
    }
    by_name!(
        enrol::Request,
        enrol::Renew,
        enrol::Granted,
        enrol::Refused,
        hello::Hello,
        hello::Welcome,
        hello::Farewell,
        work::Assign,
        work::Cancel,
        work::Renewed,
        work::Accept,
        work::Refuse,
        result::Commit,
        result::Closed,
        result::Reveal,
        result::Verdict,
        result::Missing,
        result::Failed,
        pay::Issue,
        pay::Held,
        pay::Present,
        ack::Ack,
        beat::Beat,
        log::Chunk,
    )
}

fn seal_is_right(one: &vectors::Sealed) -> bool {
    let (sender, audience) = (Address(one.sender), Address(one.audience));
    let open = |bytes: &[u8], now_ms| {
        let frame = Frame::decode(bytes).map_err(EnvelopeError::Malformed)?;
        let seal = envelope::open(&frame, &audience, &sender, now_ms)?;
        Ok::<_, EnvelopeError>((seal.root(frame.body), rewritten(&seal, frame.body, bytes)))
    };
    let mut changed = [0; BUFFER];
    let changed = &mut changed[..one.frame.len()];
    changed.copy_from_slice(one.frame);
    // The last byte but one of the signature; the last one has a value of few.
    let length = changed.len();
    changed[length - 2] ^= 1;
    let late =
        one.expires_ms == 0 || open(one.frame, Some(one.expires_ms + 1)) == Err(EnvelopeError::Expired);
    open(one.frame, None) == Ok((Some(Hash(one.root)), true)) && open(changed, None).is_err() && late
}

fn rewritten(seal: &Seal, body: &[u8], expected: &[u8]) -> bool {
    let mut buffer = [0; BUFFER];
    let mut writer = Writer::new(&mut buffer);
    seal.write(&mut writer, body).is_ok() && writer.bytes_written() == expected
}

fn commitment_is_right(one: &vectors::Commitment) -> bool {
    let found = commitment(
        &Address(one.hub),
        &AssignmentId(one.assignment),
        &Address(one.device),
        &Hash(one.root),
        &Hash(one.salt),
    );
    found == Hash(one.commitment)
}

fn voucher_is_right(one: &vectors::Voucher) -> bool {
    let domain = Domain { chain_id: one.chain_id, wallet: Address(one.wallet) };
    let voucher = Voucher {
        device: Address(one.device),
        cumulative: Amount::from_units(one.cumulative),
        receipts: Hash(one.receipts),
    };
    voucher.digest(&domain) == Hash(one.digest)
}

fn signature_is_right(one: &vectors::Signed) -> bool {
    let (signature, digest) = (Signature(one.signature), Hash(one.digest));
    let mut other = digest;
    other.0[31] ^= 1;
    signature.verify(&digest, &Address(one.address)).is_ok()
        && signature.verify(&other, &Address(one.address)).is_err()
}
