//! Who is paid for whose computers.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use sosna_api::text::AddressText;
use sosna_host::file::FileError;
use sosna_protocol::Address;

use super::BoincError;

/// A file of payees.
const EXAMPLE: &str = r#"[users]
12 = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"   # all computers of user 12
[hosts]
345 = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"  # computer 345, whoever its user is"#;

/// What the operator says. A computer's own comes before its user's, and that before what the user says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payees {
    /// By the user's number.
    #[serde(default)]
    pub users: BTreeMap<u64, AddressText>,
    /// By the computer's number.
    #[serde(default)]
    pub hosts: BTreeMap<u64, AddressText>,
}

impl Payees {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BoincError`].
    pub fn read(path: &Path) -> Result<Self, BoincError> {
        let text = fs::read_to_string(path).map_err(FileError::of("read", path))?;
        toml::from_str(&text).map_err(|source| BoincError::Payees {
            path: path.to_owned(),
            example: EXAMPLE,
            source: Box::new(source),
        })
    }
}

/// The address that a user has put into the field `URL` of their account: `ethereum:0x…`, with `@` and a chain's number
/// where it is for that one alone (EIP-681), or as a part of an address on the web, `https://me.example/?ethereum=0x…`,
/// because projects take nothing else there today; or nothing but the address. Only the user can change the field, and
/// the project publishes it. `None` where there is none; in words what is wrong with one.
pub(super) fn named(url: &str, chain_id: u64) -> Option<Result<Address, String>> {
    const DIGITS: usize = 40;
    let is_end = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_');
    let text = url.trim();
    let marked = text.match_indices("ethereum").filter_map(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        rest.strip_prefix(':').or_else(|| rest.strip_prefix('='))?.strip_prefix("0x")
    });
    let alone = text.strip_prefix("0x").filter(|digits| digits.len() == DIGITS);
    let mut found: Option<Address> = None;
    for rest in marked.chain(alone) {
        let hex = rest.get(..DIGITS).filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(hex) = hex.filter(|_| is_end(&rest[DIGITS..])) else {
            return Some(Err("names an address that is not of 40 digits".to_owned()));
        };
        let Ok(AddressText { 0: address }) = format!("0x{hex}").parse() else {
            return Some(Err("names an address whose capital letters do not fit (EIP-55)".to_owned()));
        };
        let chain = rest[DIGITS..].strip_prefix('@').map(|chain| {
            let end = chain.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(chain.len());
            &chain[..end]
        });
        if let Some(chain) = chain.filter(|chain| chain.parse() != Ok(chain_id)) {
            return Some(Err(format!(
                "names an address on chain `{chain}`, and this hub pays on {chain_id}"
            )));
        }
        if found.is_some_and(|other| other != address) {
            return Some(Err("names two addresses".to_owned()));
        }
        found = Some(address);
    }
    found.map(Ok)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const ONE: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    const OTHER: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";

    #[test]
    fn an_address_is_taken_where_it_is_meant() {
        let one: AddressText = ONE.parse().unwrap();
        for text in [
            ONE.to_owned(),
            format!(" {} ", ONE.to_lowercase()),
            format!("ethereum:{ONE}"),
            format!("ethereum:{ONE}@5"),
            format!("https://me.example/?ethereum={ONE}"),
            format!("https://me.example/?a=1&ethereum={ONE}&b=2"),
            format!("https://me.example/#ethereum={ONE}"),
            format!("ethereum:{ONE} ethereum={ONE}"),
        ] {
            assert_eq!(named(&text, 5), Some(Ok(one.0)), "{text}");
        }
        for text in [
            "",
            "http://me.example",
            &format!("https://etherscan.example/address/{ONE}"),
            &format!("http://{ONE}"),
            "https://ethereum.example/",
            "ethereum=",
        ] {
            assert_eq!(named(text, 5), None, "{text}");
        }
        for (text, why) in [
            (format!("ethereum:{}", &ONE[..41]), "40 digits"),
            (format!("ethereum:{ONE}f"), "40 digits"),
            (format!("ethereum:{}6", &ONE[..41]), "EIP-55"),
            (format!("ethereum:{ONE}@1"), "on chain `1`, and this hub pays on 5"),
            (format!("ethereum:{ONE}@"), "on chain ``"),
            (format!("ethereum:{ONE} ethereum:{OTHER}"), "two addresses"),
            ("ethereum:0x\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}".to_owned(), "40 digits"),
        ] {
            let said = named(&text, 5).unwrap().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_that_says_nothing_sound_is_shown_how() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payees.toml");
        fs::write(&path, EXAMPLE).unwrap();
        let read = Payees::read(&path).unwrap();
        assert_eq!((read.users.len(), read.hosts.len()), (1, 1));
        for text in ["[users]\nada = \"0x00\"", "[users]\n1 = \"0x00\"", "[people]\n", "12,0x00"] {
            fs::write(&path, text).unwrap();
            let error = Payees::read(&path).unwrap_err();
            assert!(error.to_string().contains("# all computers of user 12"), "{error}");
        }
    }
}
