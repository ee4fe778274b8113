//! The join token: one string that tells a new device where its hub is, how to know it, and whose the device is.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use sosna_protocol::{
    Address, Hash, Signature,
    codec::{self, Decode, DecodeError, Encode, EncodeError, Reader, Writer},
    eip712::{Delegation, Domain, Typed as _},
    hash::{keccak256, sha256},
    identity::SignatureError,
};

const PREFIX: &str = "sosna1";
const MAX_HOST: usize = 255;

/// Everything that a join token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Host names or addresses of the hub.
    pub host: String,
    /// The bootstrap listener's port.
    pub bootstrap_port: u16,
    /// The hub's identity: only its signatures count.
    pub hub: Address,
    /// The SHA-256 of the public key (SubjectPublicKeyInfo) of the hub's certificate authority.
    pub authority: Hash,
    /// Shown to the hub once, inside TLS.
    pub secret: Hash,
    /// Whose the device becomes.
    pub owner: Address,
    /// Seconds since 1970 after which the token is void.
    pub expires: u64,
    /// How many devices may use it.
    pub uses: u32,
    /// The owner's, over the [`Delegation`] that follows from the above.
    pub delegation: Signature,
}

/// Why a text is not a join token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one.
    #[error("a join token begins with `{PREFIX}`; ask the hub for one with `sosna-hub token`")]
    Prefix,
    /// A character is missing, doubled or changed.
    #[error("the join token is damaged: was it copied whole?")]
    Damaged,
    /// It is whole and says nothing readable.
    #[error("the join token cannot be read; it may come from a newer hub")]
    Malformed(#[source] DecodeError),
    /// The owner's signature in it does not hold.
    #[error("the join token's delegation is not its owner's")]
    Delegation(#[source] SignatureError),
}

// === impl JoinToken ===

impl JoinToken {
    /// What the owner signed.
    #[must_use]
    pub fn delegation(&self) -> Delegation {
        Delegation {
            hub: self.hub,
            secret_hash: sha256(&self.secret.0),
            expires: self.expires,
            uses: self.uses,
        }
    }

    /// The domain in which owners sign delegations.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain::off_chain(self.hub)
    }
}

impl Encode for JoinToken {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.array(9)?;
        writer.text(&self.host)?;
        self.bootstrap_port.encode(writer)?;
        self.hub.encode(writer)?;
        self.authority.encode(writer)?;
        self.secret.encode(writer)?;
        self.owner.encode(writer)?;
        self.expires.encode(writer)?;
        self.uses.encode(writer)?;
        self.delegation.encode(writer)
    }
}

impl<'a> Decode<'a> for JoinToken {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if reader.array(64)? < 9 {
            return Err(DecodeError::Fields);
        }
        Ok(Self {
            host: reader.text(MAX_HOST)?.to_owned(),
            bootstrap_port: Decode::decode(reader)?,
            hub: Decode::decode(reader)?,
            authority: Decode::decode(reader)?,
            secret: Decode::decode(reader)?,
            owner: Decode::decode(reader)?,
            expires: Decode::decode(reader)?,
            uses: Decode::decode(reader)?,
            delegation: Decode::decode(reader)?,
        })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = crate::seal::encode(self).map_err(|_| fmt::Error)?;
        let checksum = keccak256(&[&bytes]);
        bytes.extend_from_slice(&checksum.0[..4]);
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes =
            BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).map_err(|_| TokenError::Damaged)?;
        let (bytes, checksum) = bytes.split_last_chunk::<4>().ok_or(TokenError::Damaged)?;
        if keccak256(&[bytes]).0[..4] != *checksum {
            return Err(TokenError::Damaged);
        }
        let token: Self = codec::decode(bytes).map_err(TokenError::Malformed)?;
        token
            .delegation()
            .verify(&token.domain(), &token.delegation, &token.owner)
            .map_err(TokenError::Delegation)?;
        Ok(token)
    }
}
