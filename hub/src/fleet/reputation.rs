//! What a device's past is worth: pure, so that scheduler, verification and interface say the same.
//!
//! A class of images is what results can be compared in: the image's repository (without tag and digest, so that a
//! new version inherits the past), or the manifest of an image that was uploaded, which has no other name that its
//! buyer did not choose.

use sosna_store::{Device, DeviceState, Record};

/// How many results a device's whole past weighs against its past with one class of images: some, so that a class
/// soon speaks for itself, and one good or bad result does not decide alone.
const PRIOR: u64 = 4;
/// A wrong result weighs more than one that did not come.
const WRONG: u64 = 4;

/// What its whole past is worth, 0 to 1000 (Laplace's rule of succession): a new device is worth half.
#[must_use]
pub fn overall(device: &Device) -> u16 {
    share(device.valid + 1, device.invalid * WRONG + device.failed + 1)
}

/// What its past with a class of images is worth, 0 to 1000: its whole past, as long as it has none with that class.
#[must_use]
pub fn within(device: &Device, record: Option<&Record>) -> u16 {
    let overall = overall(device);
    let Some(record) = record else { return overall };
    let prior = u64::from(overall) * PRIOR;
    let count = record.valid + record.invalid * WRONG + record.failed + PRIOR;
    u16::try_from((record.valid * 1000 + prior) / count).unwrap_or(1000)
}

/// Whether a single result of the device is not to be believed without another's: it is on probation, or was wrong
/// with this class of images and has not shown since that it does better.
#[must_use]
pub fn wants_check(device: &Device, record: Option<&Record>, results: u64) -> bool {
    let relapsed = |record: &Record| record.invalid > 0 && record.consecutive < results;
    device.state == DeviceState::Probation || record.is_some_and(relapsed)
}

fn share(good: u64, bad: u64) -> u16 {
    u16::try_from(good * 1000 / (good + bad)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use sosna_protocol::{
        Address, Hash,
        resources::{Arch, Ask, Class, Resources},
    };
    use sosna_store::Described;

    use super::*;

    fn device(state: DeviceState, valid: u64, invalid: u64, failed: u64) -> Device {
        Device {
            address: Address([1; 20]),
            owner: Address([2; 20]),
            owner_admitted: true,
            state,
            draining: false,
            hostname: String::new(),
            labels: "{}".to_owned(),
            encryption_key: Hash::ZERO,
            described: Described {
                class: Class { arch: Arch::X86_64, level: 2 },
                agent: String::new(),
                resources: Resources::default(),
                ask: Ask::default(),
                missing_limits: String::new(),
                exposure_limit: None,
                setting: sosna_store::Setting::default(),
            },
            enrolled_ms: 0,
            last_seen_ms: 0,
            valid,
            invalid,
            failed,
            consecutive: 0,
        }
    }

    #[test]
    fn a_class_without_a_past_has_the_devices_and_soon_its_own() {
        let good = device(DeviceState::Trusted, 99, 0, 0);
        assert_eq!(overall(&device(DeviceState::Probation, 0, 0, 0)), 500);
        assert_eq!((overall(&good), within(&good, None)), (990, 990));
        assert_eq!(within(&good, Some(&Record::default())), 990);
        let bad_here = Record { invalid: 2, failed: 3, ..Record::default() };
        assert!(within(&good, Some(&bad_here)) < 300);
        let bad = device(DeviceState::Trusted, 0, 5, 5);
        let good_here = Record { valid: 50, ..Record::default() };
        assert!(within(&bad, Some(&good_here)) > 900);
    }

    #[test]
    fn who_is_new_or_was_wrong_with_such_an_image_is_checked() {
        let (new, old) = (device(DeviceState::Probation, 0, 0, 0), device(DeviceState::Trusted, 9, 1, 0));
        assert!(wants_check(&new, None, 3));
        assert!(!wants_check(&old, None, 3));
        let record = |invalid, consecutive| Record { invalid, consecutive, ..Record::default() };
        assert!(!wants_check(&old, Some(&record(0, 0)), 3));
        assert!(wants_check(&old, Some(&record(1, 2)), 3));
        assert!(!wants_check(&old, Some(&record(1, 3)), 3));
    }
}
