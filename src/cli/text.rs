//! Numbers and names as a person reads them.

use crate::cli::output::say;
use std::time::Duration;

/// Bytes with a unit, three digits or so.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count with commas between the thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes that somebody has chosen: without a fraction where a unit fits.
pub(super) fn whole_bytes(count: u64) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if count > 0 && count.is_multiple_of(size) {
            return format!("{} {unit}", self::count(count / size));
        }
    }
    bytes(count)
}

/// A measured number, to three digits or to the unit.
pub(super) fn number(value: f64) -> String {
    match value {
        value if value >= 99.95 => count(value.round() as u64),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A short time, given in microseconds, to three digits.
pub(super) fn microseconds(value: f64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1e-3), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    let fits = UNITS.into_iter().find(|(_, size)| value < 999.5 * size);
    let (unit, size) = fits.unwrap_or(("s", 1e6));
    format!("{} {unit}", number(value / size))
}

/// A time in its two largest units.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", count(days), hours % 24),
    }
}

/// How much of a long list is printed.
const SHORT: usize = 20;

/// The front of a list, or the whole list if there is little more or `all` is wanted. Says on standard output what is left
/// out, when the iteration is over.
pub(super) fn shortened<T>(list: &[T], all: bool) -> impl Iterator<Item = &T> {
    let shown = if all || list.len() <= SHORT + 1 { list.len() } else { SHORT };
    let left_out = list.len() - shown;
    let mut note = Some(left_out).filter(|left_out| *left_out > 0);
    let mut items = list[..shown].iter();
    std::iter::from_fn(move || {
        let item = items.next();
        if item.is_none()
            && let Some(left_out) = note.take()
        {
            say!("  … and {} more (--all shows them)", count(left_out as u64));
        }
        item
    })
}

/// A bar of ten signs for a share of something, 0 to 1.
pub(super) fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * 10.0).ceil() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(10 - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(count(7), "7");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            (&*bar(0.0), &*bar(0.01), &*bar(1.0)),
            ("░░░░░░░░░░", "█░░░░░░░░░", "██████████")
        );
    }

    #[test]
    fn what_was_chosen_is_told_as_it_was_chosen() {
        assert_eq!(whole_bytes(0), "0 B");
        assert_eq!(whole_bytes(100), "100 B");
        assert_eq!(whole_bytes(16 << 10), "16 KiB");
        assert_eq!(whole_bytes(1500 << 20), "1,500 MiB");
        assert_eq!(whole_bytes(1536 + 1), "1.5 KiB");
    }

    #[test]
    fn what_was_measured_has_three_digits() {
        assert_eq!(
            [0.0, 0.123, 9.996, 12.34, 99.96, 1234.5].map(number),
            ["0.00", "0.12", "10.0", "12.3", "100", "1,235"]
        );
        assert_eq!(
            [0.05, 0.9994, 12.34, 999.4, 999.6, 1.5e6, 2e9].map(microseconds),
            ["50.0 ns", "999 ns", "12.3 µs", "999 µs", "1.00 ms", "1.50 s", "2,000 s"]
        );
    }

    #[test]
    fn times_are_readable() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3599, "59 min 59 s"),
            (3600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
            (86_400_000, "1,000 d 0 h"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn long_lists_are_shortened_unless_all_is_wanted() {
        let list: Vec<u32> = (0..100).collect();
        assert_eq!(shortened(&list, false).count(), 20);
        assert_eq!(shortened(&list, true).count(), 100);
        assert_eq!(shortened(&list[..21], false).count(), 21);
    }
}
