//! What the boot loader says about the slot, on the kernel's command line. Whoever can write it can boot anything, so
//! it is not distrusted; but it is read strictly, because a half-understood one would look like a broken disk.

use std::fmt;

/// Longer ones the kernel has cut off.
const LONGEST: usize = 4096;
/// In 4096-byte blocks: a slot of a tebibyte, far beyond any and within all arithmetic.
const MOST_BLOCKS: u64 = 1 << 28;
/// The kernel's limit for a salt, in bytes.
const LONGEST_SALT: usize = 256;

/// One of the two bootable halves of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotName {
    /// `sosna-a`.
    A,
    /// `sosna-b`.
    B,
}

/// The tree of hashes that a slot's content must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// SHA-256 at the top of the tree.
    pub root: [u8; 32],
    /// What every hash begins with.
    pub salt: Vec<u8>,
    /// Content in blocks of 4096 bytes; the tree follows at once.
    pub blocks: u64,
}

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Which slot.
    pub slot: SlotName,
    /// What it must contain.
    pub verity: Verity,
    /// The board that the image was composed for.
    pub board: String,
    /// The image's version.
    pub version: String,
}

/// Why a command line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// Too long.
    #[error("the kernel's command line is longer than {LONGEST} bytes and was cut off")]
    Long,
    /// Not there.
    #[error("the kernel's command line lacks {0}=; was this kernel started by Sosna's boot loader entry?")]
    Missing(&'static str),
    /// There twice.
    #[error("the kernel's command line has {0}= twice; which one counts cannot be known")]
    Twice(&'static str),
    /// Not understood.
    #[error("the kernel's command line has {key}={value}, which is not {wanted}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What stands there, shortened.
        value: String,
        /// What should.
        wanted: &'static str,
    },
}

// === impl SlotName ===

impl SlotName {
    /// The name of its partition.
    #[must_use]
    pub fn partition(self) -> &'static str {
        match self {
            Self::A => "sosna-a",
            Self::B => "sosna-b",
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

// === impl CommandLine ===

impl CommandLine {
    /// Reads `/proc/cmdline`'s text.
    ///
    /// # Errors
    /// [`CommandLineError`].
    pub fn parse(text: &str) -> Result<Self, CommandLineError> {
        if text.len() > LONGEST {
            return Err(CommandLineError::Long);
        }
        let slot = match value(text, "sosna.slot")? {
            "a" => SlotName::A,
            "b" => SlotName::B,
            other => return Err(wrong("sosna.slot", other, "a or b")),
        };
        let verity = Verity::parse(value(text, "sosna.verity")?)?;
        let board = name("sosna.board", value(text, "sosna.board")?)?;
        let version = name("sosna.version", value(text, "sosna.version")?)?;
        Ok(Self { slot, verity, board, version })
    }
}

// === impl Verity ===

impl Verity {
    fn parse(text: &str) -> Result<Self, CommandLineError> {
        let refuse =
            || wrong("sosna.verity", text, "root hash, salt and number of blocks with colons between them");
        let parts: Vec<&str> = text.split(':').collect();
        let [root, salt, blocks] = parts.as_slice() else { return Err(refuse()) };
        let root: [u8; 32] = hex(root).and_then(|root| root.try_into().ok()).ok_or_else(refuse)?;
        // A lone hyphen is how the kernel writes a salt of no bytes.
        let salt = if *salt == "-" { Vec::new() } else { hex(salt).ok_or_else(refuse)? };
        let digits = !blocks.is_empty() && blocks.bytes().all(|byte| byte.is_ascii_digit());
        let blocks: u64 = digits.then(|| blocks.parse().ok()).flatten().ok_or_else(refuse)?;
        if salt.len() > LONGEST_SALT || blocks == 0 || blocks > MOST_BLOCKS {
            return Err(refuse());
        }
        Ok(Self { root, salt, blocks })
    }
}

fn value<'a>(text: &'a str, key: &'static str) -> Result<&'a str, CommandLineError> {
    let mut found = text
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')));
    let first = found.next().ok_or(CommandLineError::Missing(key))?;
    if found.next().is_some() { Err(CommandLineError::Twice(key)) } else { Ok(first) }
}

fn name(key: &'static str, text: &str) -> Result<String, CommandLineError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err(wrong(key, text, "a name of at most 64 letters, digits and .-+_"));
    }
    Ok(text.to_owned())
}

fn wrong(key: &'static str, value: &str, wanted: &'static str) -> CommandLineError {
    CommandLineError::Value { key, value: value.chars().take(80).collect(), wanted }
}

/// Bytes of hexadecimal digits, at least one byte.
fn hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || text.len() > 2 * LONGEST_SALT {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn line(verity: &str) -> String {
        format!(
            "console=ttyS0 quiet sosna.slot=b sosna.verity={verity} sosna.board=qemu sosna.version=1.2.3-rc.1"
        )
    }

    #[test]
    fn a_whole_line_is_understood() {
        let parsed = CommandLine::parse(&line(&format!("{}:0aFF:77", "ab".repeat(32)))).unwrap();
        assert_eq!(parsed.slot, SlotName::B);
        assert_eq!(parsed.verity, Verity { root: [0xab; 32], salt: vec![0x0a, 0xff], blocks: 77 });
        assert_eq!((parsed.board.as_str(), parsed.version.as_str()), ("qemu", "1.2.3-rc.1"));
        assert!(
            CommandLine::parse(&line(&format!("{}:-:1", "00".repeat(32)))).unwrap().verity.salt.is_empty()
        );
    }

    #[test]
    fn what_is_not_whole_is_refused_and_named() {
        let root = "ab".repeat(32);
        for verity in [
            "",
            "ab",
            &format!("{root}:00"),
            &format!("{root}::5"),
            &format!("{root}:00:0"),
            &format!("{root}:00:-5"),
            &format!("{root}:00:+5"),
            &format!("{root}:00:99999999999999999999"),
            &format!("{root}:00:268435457"),
            &format!("{root}:0:5"),
            &format!("{root}:0g:5"),
            &format!("{root}00:00:5"),
            &format!("{}:00:5", "ab".repeat(31)),
            &format!("{root}:{}:5", "00".repeat(257)),
            &format!("{root}:00:5:6"),
        ] {
            let error = CommandLine::parse(&line(verity)).unwrap_err();
            assert!(error.to_string().contains("sosna.verity="), "{verity}: {error}");
        }
        let good = line(&format!("{root}:00:5"));
        assert_eq!(
            CommandLine::parse(&format!("{good} sosna.slot=a")),
            Err(CommandLineError::Twice("sosna.slot"))
        );
        assert_eq!(CommandLine::parse("quiet"), Err(CommandLineError::Missing("sosna.slot")));
        assert_eq!(CommandLine::parse(&"x ".repeat(4000)), Err(CommandLineError::Long));
        assert!(CommandLine::parse(&good.replace("qemu", "../../etc")).is_err());
        assert!(CommandLine::parse(&good.replace("slot=b", "slot=c")).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(sosna\\.(slot|verity|board|version)=[ -~é]{0,90} ?){0,6}") {
            let _ = CommandLine::parse(&text);
        }
    }
}
