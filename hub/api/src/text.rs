//! The protocol's values as JSON strings.

use std::{borrow::Cow, fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    identity::{AssignmentId, JobId, TaskId},
    message::{beat::Phase, log::Stream, result::Judgement, work::Network, work::Reason},
    resources::{Arch, Class},
    result::Cause,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

/// A value of the protocol that this interface writes as a string.
pub trait Written: Sized {
    /// The name of its schema.
    const NAME: &'static str;
    /// What the string is, for people.
    const DESCRIPTION: &'static str;
    /// One such string.
    const EXAMPLE: &'static str;
    /// Every string there is, where they are few.
    const WORDS: &'static [&'static str] = &[];

    /// The string.
    fn written(&self) -> String;
    /// The value of a string; `None` where it has none.
    fn read(text: &str) -> Option<Self>;
}

/// A value of the protocol, as a string in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<T>(pub T);

/// A SHA-256 or Keccak-256.
pub type HashText = Text<Hash>;
/// An Ethereum address.
pub type AddressText = Text<Address>;
/// A signature.
pub type SignatureText = Text<Signature>;
/// A job's name.
pub type JobIdText = Text<JobId>;
/// A task's name.
pub type TaskIdText = Text<TaskId>;
/// An assignment's name.
pub type AssignmentIdText = Text<AssignmentId>;
/// An amount.
pub type AmountText = Text<Amount>;
/// How a task ended on a device.
pub type CauseText = Text<Cause>;
/// What the hub makes of a result.
pub type JudgementText = Text<Judgement>;
/// What a task sees of the network.
pub type NetworkText = Text<Network>;
/// An output stream.
pub type StreamText = Text<Stream>;
/// How far a device is with an assignment.
pub type PhaseText = Text<Phase>;
/// Why a device refused.
pub type ReasonText = Text<Reason>;
/// An architecture.
pub type ArchText = Text<Arch>;
/// An architecture and its level.
pub type ClassText = Text<Class>;

/// A text that is not a value of the type that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {description}")]
pub struct NotRead {
    text: String,
    description: &'static str,
}

// === impl Text ===

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Written> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.written())
    }
}

impl<T: Written> fmt::Debug for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.written())
    }
}

impl<T: Written> FromStr for Text<T> {
    type Err = NotRead;

    fn from_str(text: &str) -> Result<Self, NotRead> {
        let wrong = || NotRead { text: text.chars().take(100).collect(), description: T::DESCRIPTION };
        T::read(text).map(Self).ok_or_else(wrong)
    }
}

impl<T: Written> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.written())
    }
}

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<T: Written> PartialSchema for Text<T> {
    fn schema() -> RefOr<Schema> {
        let words = (!T::WORDS.is_empty()).then_some(T::WORDS.iter().copied());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(T::DESCRIPTION))
            .examples([T::EXAMPLE])
            .enum_values(words)
            .into()
    }
}

impl<T: Written> ToSchema for Text<T> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(T::NAME)
    }
}

// === impl Written ===

macro_rules! hexadecimal {
    ($($type:ident $description:literal $example:literal,)+) => { $(
        impl Written for $type {
            const NAME: &'static str = stringify!($type);
            const DESCRIPTION: &'static str = $description;
            const EXAMPLE: &'static str = $example;

            fn written(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )+ };
}

hexadecimal! {
    Hash "32 bytes in hexadecimal" "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    Signature "a signature (r, s, v) of 65 bytes in hexadecimal" "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c",
    JobId "a job's id: 16 bytes in hexadecimal" "0190d4c28b7a7d3f9e21c5a4b3021f6e",
    TaskId "a task's id: 16 bytes in hexadecimal" "0190d4c28b7a7d3f9e21c5a4b3021f6e",
    AssignmentId "an assignment's id: 16 bytes in hexadecimal" "0190d4c28b7a7d3f9e21c5a4b3021f6e",
}

impl Written for Address {
    const NAME: &'static str = "Address";
    const DESCRIPTION: &'static str = "an Ethereum address: 0x and 40 hexadecimal digits";
    const EXAMPLE: &'static str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    fn written(&self) -> String {
        self.checksummed().as_str().to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        let address: Self = text.parse().ok()?;
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let mixed = digits.bytes().any(|digit| digit.is_ascii_lowercase())
            && digits.bytes().any(|digit| digit.is_ascii_uppercase());
        // Mixed case is a checksum (EIP-55), and a wrong one is a slip of the pen that would cost money.
        (!mixed || address.checksummed().ends_with(digits)).then_some(address)
    }
}

impl Written for Amount {
    const NAME: &'static str = "Amount";
    const DESCRIPTION: &'static str = "an amount of SNM: a decimal number with at most 18 decimal places";
    const EXAMPLE: &'static str = "0.25";

    fn written(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

macro_rules! cases {
    ($($type:ident $description:literal [$first:literal $(, $word:literal)*],)+) => { $(
        impl Written for $type {
            const NAME: &'static str = stringify!($type);
            const DESCRIPTION: &'static str = $description;
            const EXAMPLE: &'static str = $first;
            const WORDS: &'static [&'static str] = &[$first $(, $word)*];

            fn written(&self) -> String {
                self.word().to_owned()
            }

            fn read(text: &str) -> Option<Self> {
                Self::from_word(text)
            }
        }
    )+ };
}

cases! {
    Cause "how a task ended on its device"
        ["exited", "signalled", "out-of-memory", "timed-out", "disk-full", "cannot-start", "no-image", "no-input",
        "device-failed", "cancelled", "no-container"],
    Judgement "what the hub makes of a result" ["accepted", "surplus", "wrong", "late", "void", "not-revealed"],
    Network "what a task sees of the network" ["none", "internet"],
    Stream "an output stream" ["stdout", "stderr"],
    Phase "how far a device is with an assignment" ["waiting", "fetching", "running", "committed", "delivering"],
    Reason "why a device refused" ["price", "no-room", "exposure", "unsupported", "draining", "malformed", "wallet"],
}

impl Written for Arch {
    const NAME: &'static str = "Arch";
    const DESCRIPTION: &'static str = "an architecture by its name in OCI images";
    const EXAMPLE: &'static str = "amd64";
    const WORDS: &'static [&'static str] = &["amd64", "arm64", "arm", "riscv64"];

    fn written(&self) -> String {
        self.oci().to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        Self::from_oci(text)
    }
}

impl Written for Class {
    const NAME: &'static str = "Class";
    const DESCRIPTION: &'static str = "an architecture and its instruction-set level";
    const EXAMPLE: &'static str = "x86-64-v3";

    fn written(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        let level = |text: &str| text.parse().ok().filter(|level| (1..=99).contains(level));
        let class = match text {
            "armv7" => Self { arch: Arch::Armv7, level: 7 },
            "riscv64" => Self { arch: Arch::Riscv64, level: 0 },
            _ => match text.strip_prefix("x86-64-v") {
                Some(digits) => Self { arch: Arch::X86_64, level: level(digits)? },
                None => Self {
                    arch: Arch::Aarch64,
                    level: level(text.strip_prefix("armv")?.strip_suffix("-a")?)?,
                },
            },
        };
        // One text for one class: `+3` and `03` are numbers, but no levels.
        (class.to_string() == text).then_some(class)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Every word of the schema is the protocol's own, in both directions.
    fn words_are_the_protocols<T: Written>() {
        for word in T::WORDS {
            assert_eq!(T::read(word).unwrap().written(), *word);
        }
        assert!(T::read("no-such-word").is_none());
        assert_eq!(T::read(T::EXAMPLE).unwrap().written(), T::EXAMPLE);
    }

    #[test]
    fn words_and_examples_read_back() {
        words_are_the_protocols::<Cause>();
        words_are_the_protocols::<Judgement>();
        words_are_the_protocols::<Network>();
        words_are_the_protocols::<Stream>();
        words_are_the_protocols::<Phase>();
        words_are_the_protocols::<Reason>();
        words_are_the_protocols::<Arch>();
        words_are_the_protocols::<Class>();
        words_are_the_protocols::<Hash>();
        words_are_the_protocols::<Address>();
        words_are_the_protocols::<Signature>();
        words_are_the_protocols::<JobId>();
        words_are_the_protocols::<Amount>();
    }

    #[test]
    fn addresses_with_a_slip_are_refused() {
        let good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert!(Address::read(&good.to_lowercase()).is_some());
        assert!(Address::read(&good.replace("5aA", "5AA")).is_none());
        assert!(Address::read(&good[..40]).is_none());
    }

    #[test]
    fn classes_have_one_text_each() {
        for text in ["x86-64-v1", "x86-64-v4", "armv7", "armv8-a", "armv9-a", "riscv64"] {
            assert_eq!(Class::read(text).unwrap().written(), text);
        }
        for text in ["x86-64-v0", "x86-64-v03", "x86-64-v+3", "armv-a", "armv8", ""] {
            assert!(Class::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn json_is_a_string_and_bad_strings_say_why() {
        let amount: AmountText = serde_json::from_str("\"0.250\"").unwrap();
        assert_eq!(serde_json::to_string(&amount).unwrap(), "\"0.25\"");
        let error = serde_json::from_str::<AmountText>("\"1e3\"").unwrap_err().to_string();
        assert!(error.starts_with("`1e3` is not an amount of SNM"), "{error}");
        assert!(serde_json::from_str::<AmountText>("1").is_err());
    }
}
