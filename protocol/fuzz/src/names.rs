//! Text from outside: topics, amounts, hexadecimal names.

use sosna_protocol::{Address, Amount, Hash, topic::Topic};

/// Reads bytes as each kind of text.
///
/// # Panics
/// Where a text that was accepted does not come back.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(topic) = Topic::parse(text) {
        assert_eq!(topic.to_string(), text, "a topic has one text");
    }
    if let Ok(amount) = text.parse::<Amount>() {
        assert_eq!(amount.to_string().parse(), Ok(amount));
    }
    if let Ok(hash) = text.parse::<Hash>() {
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.checksummed().parse(), Ok(address));
    }
}
