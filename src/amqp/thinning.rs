//! Thins out the log: of lines of one kind that one address causes, the first ones are written and the others counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::verifier::source;

/// So many lines of a kind are written for an address within a [`WINDOW`].
const WRITTEN: u32 = 10;

const WINDOW: Duration = Duration::from_secs(10);

/// So many pairs of kind and address are told apart. The others count as one address.
const MOST_PAIRS: usize = 1024;

/// The subject of a line: lines of one kind are alike.
pub(crate) type Kind = &'static str;

/// Counts lines. A line that is thinned out is in the count of the next [report](Thinning::report).
#[derive(Debug, Default)]
pub(crate) struct Thinning(Mutex<HashMap<(Kind, IpAddr), Repeats>>);

#[derive(Debug)]
struct Repeats {
    since: Instant,
    lines: u32,
    left_out: u64,
}

/// Lines that were left out.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    kind: Kind,
    source: IpAddr,
    count: u64,
}

impl Thinning {
    /// Writes a line, unless there were too many of its kind from that address.
    pub(crate) fn say(&self, kind: Kind, address: IpAddr, write: impl FnOnce()) {
        if self.admit(kind, address, Instant::now()) {
            write();
        }
    }

    /// Writes how many lines were left out. To be called once a second or so.
    pub(crate) fn report(&self) {
        for LeftOut { kind, source, count } in self.left_out(Instant::now()) {
            let count = with_commas(count);
            if source == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
                tracing::warn!("{kind}: … and {count} more like it, from many addresses");
            } else {
                tracing::warn!(peer = %source, "{kind}: … and {count} more like it");
            }
        }
    }

    fn admit(&self, kind: Kind, address: IpAddr, now: Instant) -> bool {
        let mut pairs = self.0.lock();
        let mut pair = (kind, source(address));
        if pairs.len() >= MOST_PAIRS && !pairs.contains_key(&pair) {
            pair.1 = Ipv6Addr::UNSPECIFIED.into();
        }
        let new = || Repeats { since: now, lines: 0, left_out: 0 };
        let repeats = pairs.entry(pair).or_insert_with(new);
        let is_written = repeats.lines < WRITTEN;
        if is_written {
            repeats.lines += 1;
        } else {
            repeats.left_out += 1;
        }
        is_written
    }

    /// Takes the counts of windows that have ended.
    fn left_out(&self, now: Instant) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        self.0.lock().retain(|(kind, source), repeats| {
            if now < repeats.since + WINDOW {
                return true;
            }
            if repeats.left_out > 0 {
                left_out.push(LeftOut { kind, source: *source, count: repeats.left_out });
            }
            false
        });
        left_out
    }
}

/// `1,234`.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn of_many_lines_from_one_address_the_first_are_written_and_the_others_counted() {
        let thinning = Thinning::default();
        let now = Instant::now();
        let written =
            |kind, n: u32| (0..1244).filter(|_| thinning.admit(kind, address(n), now)).count();
        assert_eq!(written("connection closed", 1), 10);
        // Others are not concerned.
        assert!(thinning.admit("connection closed", address(2), now));
        assert!(thinning.admit("channel closed", address(1), now));
        assert_eq!(thinning.left_out(now + WINDOW / 2), []);
        let told = LeftOut { kind: "connection closed", source: address(1), count: 1234 };
        assert_eq!(thinning.left_out(now + WINDOW), [told]);
        assert_eq!(with_commas(1234), "1,234");
        assert_eq!(written("connection closed", 1), 10);
    }

    #[test]
    fn lines_from_many_addresses_are_told_apart_up_to_a_limit() {
        let thinning = Thinning::default();
        let now = Instant::now();
        for n in 0..10 * MOST_PAIRS as u32 {
            thinning.admit("connection closed", address(n), now);
        }
        assert!(thinning.0.lock().len() <= MOST_PAIRS + 1);
        let left_out = thinning.left_out(now + WINDOW);
        assert_eq!(left_out.iter().map(|one| one.count).sum::<u64>(), 9 * MOST_PAIRS as u64 - 10);
        assert!(thinning.0.lock().is_empty());
    }
}
