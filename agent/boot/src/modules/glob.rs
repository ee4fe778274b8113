//! Patterns of kernel modules' aliases (`pci:v00008086d00001*sv*sd*bc*sc*i*`, `usb:v0BDAp8153d30[0-9]*…`): what
//! `fnmatch` does without flags, without its escapes and named classes, which no alias has. Needs no memory, and its
//! time is bounded by the product of both lengths, whatever the pattern.

/// Whether the whole text fits the pattern.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut place) = (0, 0);
    // The last star, and where the text behind what it has swallowed begins.
    let mut star = None;
    loop {
        let next = match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, place));
                at += 1;
                continue;
            }
            Some(_) => text.get(place).and_then(|byte| one(&pattern[at..], *byte)),
            None if place == text.len() => return true,
            None => None,
        };
        match (next, star) {
            (Some(length), _) => (at, place) = (at + length, place + 1),
            // The star swallows one more.
            (None, Some((behind, swallowed))) if swallowed < text.len() => {
                star = Some((behind, swallowed + 1));
                (at, place) = (behind, swallowed + 1);
            }
            (None, _) => return false,
        }
    }
}

/// The length of the pattern's first element, which is no star, if the byte fits it.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => match set(pattern, byte) {
            Some((fits, length)) => fits.then_some(length),
            // Never closed: a bracket like any letter.
            None => (byte == b'[').then_some(1),
        },
        letter => (*letter == byte).then_some(1),
    }
}

/// Whether the byte is in the set that the pattern begins with, and how long that is; none where it has no end.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let is_reversed = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(is_reversed);
    let begin = at;
    let mut is_in = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > begin {
            return Some((is_in != is_reversed, at + 1));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                is_in |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                is_in |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::ffi::CString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn aliases_of_all_buses_fit() {
        for (pattern, text, expected) in [
            (
                "pci:v00008086d000010D3sv*sd*bc*sc*i*",
                "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
                true,
            ),
            (
                "pci:v00008086d000010D3sv*sd*bc*sc*i*",
                "pci:v00008086d000010D4sv00008086sd00000000bc02sc00i00",
                false,
            ),
            ("pci:v*d*sv*sd*bc01sc08i02*", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", true),
            ("acpi*:PNP0C0C:*", "acpi:PNP0C0C:", true),
            ("acpi*:PNP0C0C:*", "acpi:LNXPWRBN:", false),
            ("of:N*T*Cbrcm,bcm2835-sdhost", "of:NmmcT(null)Cbrcm,bcm2835-sdhost", true),
            ("of:N*T*Cvirtio,mmioC*", "of:Nvirtio_mmioT(null)Cvirtio,mmio", false),
            (
                "usb:v152Dp0567d011[4-7]dc*dsc*dp*ic*isc*ip*in*",
                "usb:v152Dp0567d0116dc00dsc00dp00ic08isc06ip50in00",
                true,
            ),
            ("mdio:0000000000100010000101100?????10", "mdio:00000000001000100001011001110010", true),
            ("scsi:t-0x00*", "scsi:t-0x00", true),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("[", "[", true),
            ("[a", "[a", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!fits(&"*a".repeat(100), &"a".repeat(99)));
        assert!(fits(&"*a".repeat(100), &"a".repeat(5000)));
        assert!(!fits(&("*a".repeat(100) + "b"), &"a".repeat(5000)));
    }

    fn fnmatch(pattern: &str, text: &str) -> bool {
        let (pattern, text) = (CString::new(pattern).unwrap(), CString::new(text).unwrap());
        // SAFETY: both are texts with their zero for as long as the call takes.
        unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), 0) == 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// The C library's answer, on patterns as modules have them.
        #[test]
        fn it_is_what_the_c_library_says(
            pattern in "([a-cA-C0-2:,]|\\*|\\?|\\[[!^]?[a-cA-C0-2]{1,3}\\]|\\[!?[a-b0]-[b-c1-2]\\]){0,10}",
            text in "[a-cA-C0-2:,]{0,12}",
        ) {
            prop_assert_eq!(fits(&pattern, &text), fnmatch(&pattern, &text), "{} {}", pattern, text);
        }

        /// The text is made to fit, so that both answers are seen.
        #[test]
        fn what_was_made_to_fit_fits(parts in prop::collection::vec(("[a-c0-2]{0,3}", "[a-c0-2]{0,4}"), 0..6)) {
            let pattern: String = parts.iter().map(|(fixed, _)| format!("{fixed}*")).collect();
            let text: String = parts.iter().map(|(fixed, free)| format!("{fixed}{free}")).collect();
            prop_assert!(fits(&pattern, &text) && fnmatch(&pattern, &text));
        }

        #[test]
        fn nothing_makes_it_panic(pattern in "[\\[\\]*?!^\\\\a-cé-]{0,30}", text in "[\\[\\]*?!^\\\\a-cé-]{0,30}") {
            let _ = fits(&pattern, &text);
        }
    }
}
