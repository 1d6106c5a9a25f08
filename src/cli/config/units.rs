//! Sizes and times as they are written in a configuration: a whole number, a space, a unit. There is one spelling of each unit.

use std::time::Duration;

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// In milliseconds.
const TIMES: [(&str, u64); 3] = [("min", 60_000), ("s", 1000), ("ms", 1)];

/// Bytes; `None`: not written as sizes are.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// With the largest unit of which it is a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

/// `None`: not written as times are.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    parse(text, &TIMES).map(Duration::from_millis)
}

/// With the largest unit of which it is a whole number; less than a millisecond is left out.
pub(super) fn show_time(time: Duration) -> String {
    show(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), &TIMES)
}

/// A whole number without a sign.
pub(super) fn parse_count(text: &str) -> Option<u64> {
    // Unlike the standard library's, without `+`.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
    parse_count(number)?.checked_mul(*size)
}

fn show(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, size): &&(&str, u64)| number >= *size && number.is_multiple_of(*size);
    match units.iter().find(fits).or(units.last()) {
        Some((unit, size)) => format!("{} {unit}", number / size),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_spelling() {
        for (text, bytes) in [
            ("0 B", 0),
            ("1000 B", 1000),
            ("4 KiB", 4096),
            ("64 MiB", 64 << 20),
            ("3 GiB", 3 << 30),
            ("1500 MiB", 1500 << 20),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for wrong in
            ["", "64", "64MiB", "64 MB", "64 mib", "64  MiB", " 64 MiB", "64 MiB ", "-1 B", "+1 B"]
        {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
        for wrong in ["1.5 GiB", "MiB", " MiB", "64 s", "18446744073709551615 KiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn times_have_one_spelling() {
        for (text, milliseconds) in
            [("0 ms", 0), ("10 ms", 10), ("1500 ms", 1500), ("10 s", 10_000), ("2 min", 120_000)]
        {
            assert_eq!(parse_time(text), Some(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(show_time(Duration::from_millis(milliseconds)), text);
        }
        for wrong in ["10", "10s", "10 sec", "10 m", "10 S", "1.5 s", "1 h", "10 MiB"] {
            assert_eq!(parse_time(wrong), None, "{wrong:?}");
        }
    }
}
