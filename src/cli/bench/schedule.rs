//! When something that has a rate is due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Moments at equal distances, handed out one after the other to whoever asks, in any number of threads.
///
/// The schedule never waits for those who follow it: whoever is late finds the next moment where it was, in the past. A time that
/// counts from there has in it what was waited before anything could be begun, which is what those who wait for the result wait.
#[derive(Debug)]
pub(super) struct Schedule {
    begin: Instant,
    /// So many a second.
    rate: u64,
    next: AtomicU64,
}

impl Schedule {
    /// So many a second, from `begin` on; a rate of nothing counts as one.
    pub(super) fn new(rate: u64, begin: Instant) -> Schedule {
        Schedule { begin, rate: rate.max(1), next: AtomicU64::new(0) }
    }

    /// When the next one is due. Everybody gets another.
    pub(super) fn next(&self) -> Instant {
        self.moment(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn moment(&self, number: u64) -> Instant {
        // Whole seconds by themselves: no rate and no number is too large then, and nothing adds up to a drift.
        let seconds = Duration::from_secs(number / self.rate);
        let rest = u128::from(number % self.rate) * 1_000_000_000 / u128::from(self.rate);
        let rest = Duration::from_nanos(u64::try_from(rest).unwrap_or_default());
        self.begin + seconds + rest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    #[test]
    fn moments_are_at_equal_distances_and_do_not_drift() {
        let begin = Instant::now();
        let schedule = Schedule::new(3, begin);
        let first: Vec<Duration> = (0..4).map(|_| schedule.next() - begin).collect();
        let wanted = [0, 333_333_333, 666_666_666, 1_000_000_000].map(Duration::from_nanos);
        assert_eq!(first, wanted);
        assert_eq!(schedule.moment(3 * 1_000_000) - begin, Duration::from_secs(1_000_000));
        let fast = Schedule::new(u64::MAX, begin);
        assert_eq!(fast.moment(u64::MAX) - begin, Duration::from_secs(1));
    }

    #[test]
    fn who_is_late_finds_what_was_due_meanwhile() {
        let begin = Instant::now();
        let schedule = Schedule::new(1000, begin);
        schedule.next();
        // However long was waited here: the next one was due a thousandth of a second after the first.
        assert_eq!(schedule.next() - begin, Duration::from_millis(1));
    }

    #[test]
    fn everybody_gets_moments_of_their_own() {
        let schedule = Schedule::new(1_000_000, Instant::now());
        let taken = |_| (0..1000).map(|_| schedule.next()).collect::<Vec<_>>();
        let all: BTreeSet<Instant> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || taken(number))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(all.len(), 4000);
    }
}
