//! Amounts as text, as bytes and in messages.

use serde_json::json;
use sosna_protocol::{Amount, amount::AmountError, codec};

use crate::{compare, support::hex};

#[test]
fn amounts() {
    // The unit counts were written by hand: they are the second opinion.
    let good = [
        ("0", "0", 0),
        ("0.0", "0", 0),
        ("00.000000000000000000000", "0", 0),
        ("0.000000000000000001", "0.000000000000000001", 1),
        ("1", "1", 1_000_000_000_000_000_000),
        ("007", "7", 7_000_000_000_000_000_000),
        ("0.25", "0.25", 250_000_000_000_000_000),
        ("0.10", "0.1", 100_000_000_000_000_000),
        ("12.000000000000000034", "12.000000000000000034", 12_000_000_000_000_000_034),
        ("444000000", "444000000", 444_000_000_000_000_000_000_000_000),
        ("340282366920938463463.374607431768211455", "340282366920938463463.374607431768211455", u128::MAX),
    ];
    let bad = [
        ("", AmountError::NotANumber),
        (".", AmountError::NotANumber),
        ("1.", AmountError::NotANumber),
        (".5", AmountError::NotANumber),
        ("+1", AmountError::NotANumber),
        ("-1", AmountError::NotANumber),
        ("1e18", AmountError::NotANumber),
        ("1_000", AmountError::NotANumber),
        ("1.2.3", AmountError::NotANumber),
        (" 1", AmountError::NotANumber),
        ("0x10", AmountError::NotANumber),
        ("\u{661}", AmountError::NotANumber),
        ("0.0000000000000000001", AmountError::TooFine),
        ("340282366920938463463.374607431768211456", AmountError::TooLarge),
        ("340282366920938463464", AmountError::TooLarge),
        ("999999999999999999999999999999999999999999", AmountError::TooLarge),
    ];
    let mut vectors = Vec::new();
    for (text, canonical, units) in good {
        let amount: Amount = text.parse().unwrap();
        assert_eq!(amount.units(), units, "{text}");
        assert_eq!(amount.to_string(), canonical);
        let mut buffer = [0; 32];
        vectors.push(json!({
            "name": format!("{text:?} is an amount"),
            "text": text,
            "canonical": canonical,
            "units": units.to_string(),
            "msgpack": hex(codec::encode(&amount, &mut buffer).unwrap()),
        }));
    }
    for (text, error) in bad {
        assert_eq!(text.parse::<Amount>(), Err(error), "{text:?}");
        vectors
            .push(json!({"name": format!("{text:?} is none"), "text": text, "error": format!("{error:?}")}));
    }
    compare("amounts", "SNM as text, in units of 10^-18, and as 16 big-endian bytes in msgpack.", vectors);
}
