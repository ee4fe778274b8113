//! How people write sizes, durations and shares of a processor on a command line. Nothing is rounded: what has no
//! exact value is refused.

use std::time::Duration;

/// A text that is no quantity of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a size.
    #[error(
        "a size is a number and a unit, such as 512M, 2GiB or 1.5G (K, M, G, T count by 1024; KB, MB by 1000)"
    )]
    Size,
    /// Not a duration.
    #[error("a duration is a number and a unit, such as 90s, 5m, 2h, 1d or 1h30m")]
    Duration,
    /// Not a share of a processor.
    #[error("an amount of processor is a number of cores such as 2 or 0.5, or thousandths such as 500m")]
    Cpu,
    /// Larger than can be counted.
    #[error("this is more than there is in the world")]
    TooLarge,
}

/// Bytes: `512M`, `2GiB`, `1.5G`, `1000`.
///
/// # Errors
/// [`QuantityError`].
pub fn size(text: &str) -> Result<u64, QuantityError> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(QuantityError::Size),
    };
    scaled(number, factor, QuantityError::Size)
}

/// A time: `90s`, `5m`, `1h30m`, `500ms`.
///
/// # Errors
/// [`QuantityError`].
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(QuantityError::Duration);
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .ok_or(QuantityError::Duration)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(QuantityError::Duration),
        };
        let part = scaled(number, millis, QuantityError::Duration)?;
        total = total.checked_add(part).ok_or(QuantityError::TooLarge)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Thousandths of a core: `2`, `0.5`, `500m`.
///
/// # Errors
/// [`QuantityError`].
pub fn cpu_millis(text: &str) -> Result<u32, QuantityError> {
    let text = text.trim();
    let millis = match text.strip_suffix('m') {
        Some(number) => scaled(number, 1, QuantityError::Cpu)?,
        None => scaled(text, 1000, QuantityError::Cpu)?,
    };
    match u32::try_from(millis) {
        Ok(0) => Err(QuantityError::Cpu),
        Ok(millis) => Ok(millis),
        Err(_) => Err(QuantityError::TooLarge),
    }
}

/// A decimal number times a factor, where that is a whole number.
fn scaled(number: &str, factor: u64, wrong: QuantityError) -> Result<u64, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    // Twelve places are finer than any unit's parts, and keep the arithmetic within 128 bits.
    if !digits(whole) || !digits(fraction) || fraction.len() > 12 {
        return Err(wrong);
    }
    let whole: u64 = whole.parse().map_err(|_| QuantityError::TooLarge)?;
    let mut parts: u128 = fraction.parse().map_err(|_| wrong.clone())?;
    parts *= u128::from(factor);
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong.clone())?);
    if !parts.is_multiple_of(scale) {
        return Err(wrong);
    }
    let total = u128::from(whole) * u128::from(factor) + parts / scale;
    u64::try_from(total).map_err(|_| QuantityError::TooLarge)
}

/// A size for people: `1.5 GiB`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let place = (usize::try_from(bytes.ilog2()).unwrap_or_default() / 10).min(units.len());
    // Tenths, rounded down: what is shown is there.
    let tenths = (u128::from(bytes) * 10) >> (10 * place);
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, units[place - 1]),
        tenth => format!("{}.{tenth} {}", tenths / 10, units[place - 1]),
    }
}

/// A duration for people, to the two largest units: `1h 30m`.
#[must_use]
pub fn show_duration(millis: u64) -> String {
    let seconds = millis / 1000;
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    match parts.iter().position(|(count, _)| *count > 0) {
        None if millis == 0 => "0 s".to_owned(),
        None => format!("{millis} ms"),
        Some(first) => {
            let shown = parts[first..].iter().take(2).filter(|(count, _)| *count > 0);
            shown.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("512 MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("1.5G", 3 << 29),
            ("10KB", 10_000),
            ("0.5k", 512),
            ("3T", 3 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1e3", "1.", ".5G", "0.3k", "12X", "1 2M", "1..2M", "١M"] {
            assert_eq!(size(text), Err(QuantityError::Size), "{text}");
        }
        assert_eq!(size("99999999999T"), Err(QuantityError::TooLarge));
        assert_eq!(size("99999999999999999999999"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("500ms", 500),
            ("0.5s", 500),
            ("10min", 600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "90", "s", "1x", "1h30", "-1s", "1 h", "0.0001s"] {
            assert_eq!(duration(text), Err(QuantityError::Duration), "{text}");
        }
        assert_eq!(duration("999999999999999d"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn processors() {
        for (text, millis) in [("2", 2000), ("0.5", 500), ("500m", 500), ("0.001", 1)] {
            assert_eq!(cpu_millis(text), Ok(millis), "{text}");
        }
        for text in ["0", "", "m", "0.0001", "two", "-1", "0m"] {
            assert_eq!(cpu_millis(text), Err(QuantityError::Cpu), "{text}");
        }
        assert_eq!(cpu_millis("5000000"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn quantities_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536 << 20, "1.5 GiB"), (u64::MAX, "15.9 EiB")]
        {
            assert_eq!(show_size(bytes), text);
        }
        for (millis, text) in
            [(0, "0 s"), (999, "999 ms"), (90_000, "1m 30s"), (3_600_000, "1h"), (90_061_000, "1d 1h")]
        {
            assert_eq!(show_duration(millis), text);
        }
    }
}
