//! What every test of this crate needs: a key that signs, bytes that stay, hexadecimal. Nothing of it is shipped.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "tests; no test uses all of it")]

use std::convert::Infallible;

use k256::ecdsa::SigningKey;
use sosna_protocol::{
    Address, Hash, Signature,
    codec::{Encode, EncodeError, Writer},
    envelope::Meta,
    identity::Sign,
};

/// A key in memory, for tests only.
#[derive(Debug)]
pub struct Key(SigningKey);

impl Key {
    pub fn new(byte: u8) -> Self {
        Self(SigningKey::from_slice(&[byte; 32]).unwrap())
    }
}

impl Sign for Key {
    type Error = Infallible;

    fn address(&self) -> Address {
        Address::of_key(self.0.verifying_key())
    }

    fn sign(&self, digest: &Hash) -> Result<Signature, Infallible> {
        let (signature, recovery) = self.0.sign_prehash_recoverable(&digest.0).unwrap();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + recovery.to_byte();
        Ok(Signature(bytes))
    }
}

/// Messages borrow; what they borrow from in a test lives as long as the test's process.
pub fn keep<T: ?Sized>(value: impl Into<Box<T>>) -> &'static T {
    Box::leak(value.into())
}

pub fn encoded<T: Encode + ?Sized>(value: &T) -> &'static [u8] {
    let mut buffer = vec![0; 16 << 10];
    let length = loop {
        let mut writer = Writer::new(&mut buffer);
        match value.encode(&mut writer) {
            Ok(()) => break writer.written(),
            Err(EncodeError::Full) => buffer.resize(buffer.len() * 4, 0),
            Err(error) => panic!("{error}"),
        }
    };
    keep(&buffer[..length])
}

/// A sealed frame of an encoded body.
pub fn sealed(seal: &sosna_protocol::envelope::Seal, body: &[u8]) -> &'static [u8] {
    let mut buffer = vec![0; body.len() + 1024];
    let mut writer = Writer::new(&mut buffer);
    seal.write(&mut writer, body).unwrap();
    let length = writer.written();
    keep(&buffer[..length])
}

pub fn meta(sender: &Key, audience: &Key, counter: u64) -> Meta {
    Meta {
        sender: sender.address(),
        audience: audience.address(),
        epoch: 2,
        counter,
        expires_ms: 1_800_000_000_000,
    }
}

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .trim_start_matches("0x")
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
