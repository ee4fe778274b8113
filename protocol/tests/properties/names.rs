//! Names in text: topics, addresses, hashes, and words for cases.

use proptest::{prelude::*, sample::select};
use sosna_protocol::{
    Address, Hash,
    identity::AddressError,
    resources::Arch,
    result::Cause,
    topic::{Kind, MAX_TOPIC, Topic, shard_of},
};

use crate::{generate, support::hex};

proptest! {
    #[test]
    fn topics_come_back(device in generate::address(), kind in select(Kind::ALL.to_vec())) {
        for topic in [Topic::up(device, kind), Topic::down(device, kind)] {
            let text = topic.text();
            prop_assert!(text.len() < MAX_TOPIC);
            prop_assert_eq!(text.as_str(), topic.to_string());
            prop_assert_eq!(Topic::parse(&text), Some(topic));
            // Anything added, and any other case, is another topic or none.
            for other in [format!("{text}/"), format!("/{text}"), format!("{text} "), text.to_uppercase()] {
                prop_assert_eq!(Topic::parse(&other), None, "{}", other);
            }
        }
        let shard = shard_of(&device);
        let up = Topic::up(device, kind).to_string();
        prop_assert_eq!(up, format!("u/{shard}/{device}/{}", kind.word()));
        for wrong in [format!("0{shard}"), format!("+{shard}"), format!("{}", 256 + u32::from(shard))] {
            prop_assert_eq!(Topic::parse(&format!("u/{wrong}/{device}/{}", kind.word())), None);
        }
        prop_assert_eq!(Topic::parse(&format!("c/0x{device}/{}", kind.word())), None);
    }

    #[test]
    fn what_is_parsed_is_canonical(
        text in "[uc](/[0-9]{1,3})?/[0-9a-f]{40}/(enrol|hello|work|result|pay|ack|beat|log|other)(/.*)?|\\PC{0,60}",
    ) {
        if let Some(topic) = Topic::parse(&text) {
            prop_assert_eq!(topic.to_string(), text);
        }
    }

    #[test]
    fn hexadecimal_comes_back(hash in generate::hash(), address in generate::address()) {
        prop_assert_eq!(hash.to_string().parse(), Ok(hash));
        prop_assert_eq!(hash.to_string(), hex(hash.0));
        prop_assert_eq!(format!("0x{}", hash.to_string().to_uppercase()).parse(), Ok(hash));
        prop_assert_eq!(address.checksummed().parse(), Ok(address));
        let theirs = alloy_primitives::Address::from(address.0).to_checksum(None);
        prop_assert_eq!(address.checksummed().to_string(), theirs);
        prop_assert_eq!(Address::from_slice(&hash.0), None);
    }

    #[test]
    fn a_mistyped_address_is_refused(address in generate::address(), place in 0_usize..40) {
        let right = address.checksummed();
        prop_assert_eq!(Address::of_person(&format!(" {right}\n")), Ok(address));
        prop_assert_eq!(Address::of_person(&right.to_lowercase()), Ok(address));
        let mut wrong = right[2..].to_owned().into_bytes();
        let digit = wrong[place];
        wrong[place] = if digit.is_ascii_lowercase() { digit.to_ascii_uppercase() } else { digit.to_ascii_lowercase() };
        let wrong = String::from_utf8(wrong).unwrap();
        // Without letters of both sizes there is no checksum.
        let mixed = wrong.bytes().any(|d| d.is_ascii_uppercase()) && wrong.bytes().any(|d| d.is_ascii_lowercase());
        if digit.is_ascii_alphabetic() && mixed {
            prop_assert_eq!(Address::of_person(&wrong), Err(AddressError::Checksum));
        }
        prop_assert_eq!(Address::of_person(&right[..right.len() - 1]), Err(AddressError::Form));
    }

    #[test]
    fn what_is_not_hexadecimal(text in "(0x)?[0-9a-fA-F]{0,70}|\\PC{60,70}") {
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        let good = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        prop_assert_eq!(text.parse::<Hash>().is_ok(), good);
    }
}

#[test]
fn words_and_numbers_name_one_thing_each() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_word(kind.word()), Some(kind));
        assert_eq!(Kind::from_channel(kind.channel()), Some(kind));
    }
    assert_eq!(Kind::from_channel(0), None);
    for arch in Arch::ALL {
        assert_eq!(Arch::from_oci(arch.oci()), Some(arch));
    }
    let causes: Vec<Cause> = (1..=10)
        .filter_map(|code| sosna_protocol::codec::decode(crate::support::keep([code])).ok())
        .collect();
    assert_eq!(causes.len(), 10);
    for cause in causes {
        assert_eq!(Cause::from_word(cause.word()), Some(cause));
        assert!(cause.is_result() || !cause.has_outputs());
    }
}
