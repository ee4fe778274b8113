//! Encoding and sealing into memory that grows, one frame or a whole batch under one signature.

use sosna_protocol::{
    Hash,
    codec::{Encode, EncodeError, Writer},
    envelope::{MAX_SEAL, Meta, Seal},
    frame::{self, MAX_FRAME},
    identity::Sign,
    merkle::{Domain, MAX_LEAVES, Tree},
    message::Message,
};

/// Encodes a message's body: channel, number, arguments.
///
/// # Errors
/// [`EncodeError`] for fields beyond their bounds, and for a frame beyond [`MAX_FRAME`].
pub fn body<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    grow(|writer| frame::write_body(writer, M::KIND.channel(), M::NUMBER, message))
}

/// Encodes any value.
///
/// # Errors
/// [`EncodeError`].
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, EncodeError> {
    grow(|writer| value.encode(writer))
}

/// A frame without a seal: for messages that carry no value.
///
/// # Errors
/// [`EncodeError`].
pub fn plain<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    grow(|writer| frame::write(writer, M::KIND.channel(), M::NUMBER, message))
}

fn grow(write: impl Fn(&mut Writer<'_>) -> Result<(), EncodeError>) -> Result<Vec<u8>, EncodeError> {
    let mut room = 1024;
    loop {
        let mut buffer = vec![0; room];
        let mut writer = Writer::new(&mut buffer);
        match write(&mut writer) {
            Ok(()) => {
                let written = writer.written();
                buffer.truncate(written);
                return Ok(buffer);
            }
            Err(EncodeError::Full) if room < MAX_FRAME - MAX_SEAL - 64 => {
                room = (room * 4).min(MAX_FRAME - MAX_SEAL - 64)
            }
            Err(error) => return Err(error),
        }
    }
}

/// Signs bodies together and returns the sealed frames in the same order.
///
/// # Errors
/// The signer's.
///
/// # Panics
/// Beyond [`MAX_LEAVES`] frames.
pub fn batch<S: Sign + ?Sized>(signer: &S, frames: &[(Meta, Vec<u8>)]) -> Result<Vec<Vec<u8>>, S::Error> {
    let mut nodes: Vec<Hash> = frames.iter().map(|(meta, body)| meta.leaf(body)).collect();
    nodes.resize(Tree::nodes(frames.len()), Hash::ZERO);
    let Ok(tree) = Tree::over(&mut nodes, frames.len()) else {
        assert!(frames.is_empty(), "a batch has at most {MAX_LEAVES} frames");
        return Ok(Vec::new());
    };
    let signature = signer.sign(&tree.root(Domain::Batch))?;
    let count = u32::try_from(frames.len()).expect("bounded by MAX_LEAVES");
    let sealed = (0..count).zip(frames).map(|(index, (meta, body))| {
        let place =
            usize::try_from(index).expect("u32 fits into usize on every platform with an operating system");
        let path = tree.path(place).expect("the index is one of the leaves'");
        let seal = Seal { meta: *meta, count, index, path, signature };
        let mut buffer = vec![0; body.len() + MAX_SEAL + 64];
        let mut writer = Writer::new(&mut buffer);
        seal.write(&mut writer, body).expect("the buffer has room for body and seal");
        let written = writer.written();
        buffer.truncate(written);
        buffer
    });
    Ok(sealed.collect())
}

/// Signs one body.
///
/// # Errors
/// The signer's.
pub fn one<S: Sign + ?Sized>(signer: &S, meta: Meta, body: Vec<u8>) -> Result<Vec<u8>, S::Error> {
    let mut frames = batch(signer, &[(meta, body)])?;
    Ok(frames.pop().expect("a batch of one is one frame"))
}
