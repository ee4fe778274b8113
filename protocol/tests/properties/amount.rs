//! Money: exact in every form, and nothing else is read as an amount.

use proptest::prelude::*;
use sosna_protocol::{
    Amount,
    amount::AmountError,
    resources::{Ask, Resources},
};

use crate::generate;

const SNM: u128 = 1_000_000_000_000_000_000;

/// What reading should come to, by another way: pad the fraction and read all digits as one number.
fn model(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.chars().all(|digit| digit.is_ascii_digit());
    let fraction = if is_digits(fraction) { fraction.trim_end_matches('0') } else { return None };
    let all = format!("{whole}{fraction:0<18}");
    (is_digits(whole) && fraction.len() <= 18).then(|| all.parse().ok()).flatten()
}

proptest! {
    #[test]
    fn text_comes_back(amount in generate::amount()) {
        let text = amount.to_string();
        prop_assert_eq!(text.parse(), Ok(amount));
        prop_assert_eq!(model(&text), Some(amount.units()));
        prop_assert!(!text.contains('.') || !text.ends_with(['0', '.']), "{} is not the shortest", text);
        prop_assert_eq!(Amount::from_be_bytes(amount.to_be_bytes()), amount);
    }

    #[test]
    fn texts_that_look_like_amounts(text in "[0-9]{0,22}(\\.[0-9]{0,20})?") {
        prop_assert_eq!(text.parse::<Amount>().ok().map(Amount::units), model(&text));
    }

    #[test]
    fn texts_of_any_kind(text in "[-+0-9.eE_, x]{0,8}|\\PC{0,12}") {
        prop_assert_eq!(text.parse::<Amount>().ok().map(Amount::units), model(&text));
    }

    #[test]
    fn finer_than_the_smallest_unit(whole in 0_u64..1000, digits in "[0-9]{18}", last in 1_u8..=9) {
        let text = format!("{whole}.{digits}{last}");
        prop_assert_eq!(text.parse::<Amount>(), Err(AmountError::TooFine));
    }

    #[test]
    fn arithmetic_is_checked(a in generate::amount(), b in generate::amount(), n in any::<u128>()) {
        let units = |amount: Option<Amount>| amount.map(Amount::units);
        prop_assert_eq!(units(a.checked_add(b)), a.units().checked_add(b.units()));
        prop_assert_eq!(units(a.checked_sub(b)), a.units().checked_sub(b.units()));
        prop_assert_eq!(units(a.checked_mul(n)), a.units().checked_mul(n));
        prop_assert_eq!(a.to_be_bytes().cmp(&b.to_be_bytes()), a.cmp(&b), "bytes sort as amounts do");
        prop_assert_eq!(a.checked_scale(n, 0), None);
    }

    #[test]
    fn scaling_rounds_up(units in any::<u64>(), times in any::<u64>(), by in 1_u128..=u128::MAX) {
        let scaled = Amount::from_units(units.into()).checked_scale(times.into(), by).unwrap().units();
        let product = u128::from(units) * u128::from(times);
        prop_assert_eq!(scaled, product / by + u128::from(product % by != 0));
    }

    #[test]
    fn a_price_is_never_below_any_of_its_parts(
        (core, gib, minimum) in (0..SNM, 0..SNM, 0..SNM),
        (cpu_millis, memory, timeout_ms) in (0_u32..100_000, 0_u64..1 << 40, 0_u64..1 << 32),
    ) {
        let ask = Ask {
            core_second: Amount::from_units(core),
            gib_second: Amount::from_units(gib),
            minimum: Amount::from_units(minimum),
        };
        let resources = Resources { cpu_millis, memory, ..Resources::default() };
        if let Some(price) = ask.price(&resources, timeout_ms) {
            let parts = core
                .checked_mul(u128::from(cpu_millis) * u128::from(timeout_ms))
                .zip(gib.checked_mul(u128::from(memory) * u128::from(timeout_ms)));
            let (cpu, memory) = parts.expect("a price exists only where no product overflows");
            let exact = cpu.div_ceil(1_000_000) + memory.div_ceil(1000 * (1 << 30));
            prop_assert_eq!(price.units(), exact.max(minimum));
        }
    }

    #[test]
    fn no_price_panics(core in any::<u128>(), cpu_millis in any::<u32>(), memory in any::<u64>(), time in any::<u64>()) {
        let amount = Amount::from_units(core);
        let ask = Ask { core_second: amount, gib_second: amount, minimum: amount };
        let resources = Resources { cpu_millis, memory, ..Resources::default() };
        prop_assert!(ask.price(&resources, time).is_none_or(|price| price >= amount));
    }
}
