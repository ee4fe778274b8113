//! The signed envelope: who says it, to whom, as which of all that was said, and until when it holds.
//!
//! A sealed frame has one header `[false, "seal", bin]`. The signature is over the root of a Merkle tree of
//! everything that was signed in one go (a tree of one leaf for a single frame), so that a burst costs one
//! signature. What hubs send expires; what devices send relies on counter and assignment, so that an offline
//! device is not punished for its clock.

use crate::{
    codec::{DecodeError, Encode, EncodeError, Reader, Writer},
    frame::{Frame, MAX_FRAME},
    hash::{Hash, keccak256, word},
    identity::{Address, Sign, Signature, SignatureError},
    merkle::{self, Domain, Path},
};

const HEADER: &str = "seal";
const VERSION: u8 = 1;
/// The longest seal in bytes, with a full path.
pub const MAX_SEAL: usize = FIXED + 32 * merkle::MAX_PATH;
const FIXED: usize = 1 + 20 + 20 + 4 + 8 + 8 + 4 + 4 + 1 + 65;

/// What a seal says about its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Who speaks.
    pub sender: Address,
    /// Who is spoken to.
    pub audience: Address,
    /// How often the sender's store has been restored.
    pub epoch: u32,
    /// Which frame of this sender, audience and kind this is; from 1.
    pub counter: u64,
    /// Milliseconds since 1970 after which the frame means nothing; 0 for never.
    pub expires_ms: u64,
}

/// A signature with everything needed to check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// What is said about the frame.
    pub meta: Meta,
    /// How many frames were signed together.
    pub count: u32,
    /// Which of them this is; from 0.
    pub index: u32,
    /// From this frame's leaf to the root.
    pub path: Path,
    /// Over the root.
    pub signature: Signature,
}

/// Why a frame is not accepted as what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A frame of a kind that must be signed is not.
    #[error("the frame carries no seal")]
    Unsealed,
    /// The seal cannot be read.
    #[error("the seal is malformed")]
    Malformed(#[source] DecodeError),
    /// It is for somebody else.
    #[error("the frame is addressed to {audience}")]
    Audience {
        /// To whom.
        audience: Address,
    },
    /// It says that it is from somebody else than the one who is expected here.
    #[error("the frame says that it is from {sender}")]
    Sender {
        /// From whom.
        sender: Address,
    },
    /// It held until a time that has passed.
    #[error("the frame has expired")]
    Expired,
    /// The path does not fit to the place in the batch.
    #[error("the seal's path does not belong to its place in the batch")]
    Path,
    /// The signature is not the sender's.
    #[error("the seal's signature does not hold")]
    Signature(#[source] SignatureError),
}

impl Meta {
    /// The leaf of a frame with this body ([`Frame::body`]) on this channel's exchange.
    #[must_use]
    pub fn leaf(&self, body: &[u8]) -> Hash {
        Domain::Batch.leaf(&[
            self.sender.word(),
            self.audience.word(),
            word(u128::from(self.epoch)),
            word(u128::from(self.counter)),
            word(u128::from(self.expires_ms)),
            keccak256(&[body]).0,
        ])
    }
}

impl Seal {
    /// Signs a single frame's body.
    ///
    /// # Errors
    /// The signer's.
    pub fn one<S: Sign + ?Sized>(signer: &S, meta: Meta, body: &[u8]) -> Result<Self, S::Error> {
        let root = Domain::Batch.root(1, &meta.leaf(body));
        Ok(Self { meta, count: 1, index: 0, path: Path::new(), signature: signer.sign(&root)? })
    }

    /// Reads the seal of a frame, if it has one, without judging it.
    ///
    /// # Errors
    /// [`DecodeError`] where headers or seal are malformed.
    pub fn of(frame: &Frame<'_>) -> Result<Option<Self>, DecodeError> {
        let Some(headers) = frame.headers else { return Ok(None) };
        let mut reader = Reader::new(headers);
        for _ in 0..reader.array(16)? {
            let mut item = Reader::new(reader.skip()?);
            // Headers of other kinds (an index into a table, one to be stored, another name) are somebody else's.
            if item.array(3) != Ok(3) || item.bool() != Ok(false) || item.text(MAX_SEAL) != Ok(HEADER) {
                continue;
            }
            return Self::parse(item.bytes(MAX_SEAL)?).map(Some);
        }
        Ok(None)
    }

    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = bytes;
        let mut take = |length: usize| {
            let (taken, after) = rest.split_at_checked(length).ok_or(DecodeError::Length)?;
            rest = after;
            Ok::<_, DecodeError>(taken)
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let address = |bytes| Address::from_slice(bytes).ok_or(DecodeError::Length);
        if take(1)? != [VERSION] {
            return Err(DecodeError::Value);
        }
        let narrow = |bytes| u32::try_from(number(bytes)).map_err(|_| DecodeError::Value);
        let meta = Meta {
            sender: address(take(20)?)?,
            audience: address(take(20)?)?,
            epoch: narrow(take(4)?)?,
            counter: number(take(8)?),
            expires_ms: number(take(8)?),
        };
        let (count, index) = (narrow(take(4)?)?, narrow(take(4)?)?);
        let mut path = Path::new();
        for _ in 0..number(take(1)?) {
            let sibling = Hash::from_slice(take(32)?).ok_or(DecodeError::Length)?;
            path.push(sibling).map_err(|_| DecodeError::Length)?;
        }
        let signature = Signature::from_slice(take(65)?).ok_or(DecodeError::Length)?;
        if rest.is_empty() {
            Ok(Self { meta, count, index, path, signature })
        } else {
            Err(DecodeError::Trailing)
        }
    }

    /// The root that the signature must be over; `None` where the path cannot belong to the leaf.
    #[must_use]
    pub fn root(&self, body: &[u8]) -> Option<Hash> {
        merkle::climb(Domain::Batch, self.meta.leaf(body), self.index, self.count, &self.path)
    }

    /// Writes a frame of this body ([`crate::frame::write_body`]) under this seal.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond [`MAX_FRAME`], which nobody would read.
    pub fn write(&self, writer: &mut Writer<'_>, body: &[u8]) -> Result<(), EncodeError> {
        let mut seal = heapless::Vec::<u8, MAX_SEAL>::new();
        let length = u8::try_from(self.path.len()).map_err(|_| EncodeError::Length)?;
        let meta = &self.meta;
        let mut put = |bytes: &[u8]| seal.extend_from_slice(bytes).map_err(|_| EncodeError::Length);
        put(&[VERSION])?;
        put(&meta.sender.0)?;
        put(&meta.audience.0)?;
        put(&meta.epoch.to_be_bytes())?;
        put(&meta.counter.to_be_bytes())?;
        put(&meta.expires_ms.to_be_bytes())?;
        put(&self.count.to_be_bytes())?;
        put(&self.index.to_be_bytes())?;
        put(&[length])?;
        self.path.iter().try_for_each(|sibling| put(&sibling.0))?;
        put(&self.signature.0)?;
        let start = writer.written();
        writer.array(4)?;
        writer.raw(body)?;
        writer.array(1)?;
        writer.array(3)?;
        writer.bool(false)?;
        writer.text(HEADER)?;
        writer.bytes(&seal)?;
        if writer.written() - start > MAX_FRAME { Err(EncodeError::Length) } else { Ok(()) }
    }
}

/// Writes one sealed frame. `scratch` holds the body meanwhile.
///
/// # Errors
/// [`SealError`].
pub fn write<T: Encode + ?Sized, S: Sign + ?Sized>(
    writer: &mut Writer<'_>,
    scratch: &mut [u8],
    signer: &S,
    meta: Meta,
    (channel, message): (u64, u64),
    arguments: &T,
) -> Result<(), SealError<S::Error>> {
    let mut body = Writer::new(scratch);
    crate::frame::write_body(&mut body, channel, message, arguments).map_err(SealError::Encode)?;
    let seal = Seal::one(signer, meta, body.bytes_written()).map_err(SealError::Sign)?;
    seal.write(writer, body.bytes_written()).map_err(SealError::Encode)
}

/// Why a frame could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError<E> {
    /// It could not be written.
    #[error("the frame could not be written")]
    Encode(#[source] EncodeError),
    /// It could not be signed.
    #[error("the frame could not be signed")]
    Sign(E),
}

/// Accepts a sealed frame: addressed to `audience`, from `sender`, not expired at `now_ms` (`None` while the
/// reader has no trusted clock), and signed. Whether it was seen before is for [`crate::window`] to say.
///
/// # Errors
/// [`EnvelopeError`].
pub fn open(
    frame: &Frame<'_>,
    audience: &Address,
    sender: &Address,
    now_ms: Option<u64>,
) -> Result<Seal, EnvelopeError> {
    open_by(frame, audience, sender, now_ms, Signature::recover)
}

/// The same by another library's recovery, which must accept what [`Signature::recover`] does.
///
/// # Errors
/// As [`open`].
pub fn open_by(
    frame: &Frame<'_>,
    audience: &Address,
    sender: &Address,
    now_ms: Option<u64>,
    recover: impl FnOnce(&Signature, &Hash) -> Result<Address, SignatureError>,
) -> Result<Seal, EnvelopeError> {
    let seal = Seal::of(frame).map_err(EnvelopeError::Malformed)?.ok_or(EnvelopeError::Unsealed)?;
    let meta = &seal.meta;
    if meta.audience != *audience {
        return Err(EnvelopeError::Audience { audience: meta.audience });
    }
    if meta.sender != *sender {
        return Err(EnvelopeError::Sender { sender: meta.sender });
    }
    if meta.expires_ms != 0 && now_ms.is_some_and(|now| now > meta.expires_ms) {
        return Err(EnvelopeError::Expired);
    }
    let root = seal.root(frame.body).ok_or(EnvelopeError::Path)?;
    let found = recover(&seal.signature, &root).map_err(EnvelopeError::Signature)?;
    seal.signature.is_by(found, sender).map_err(EnvelopeError::Signature)?;
    Ok(seal)
}
