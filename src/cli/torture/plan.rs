//! What a seed stands for: every message, and how each round goes and ends.
//!
//! The same seed gives the same messages and the same moments. What the scheduler and the disk make of them it does not.

use std::time::Duration;

use super::oracle::{Consumer, Sent};
use super::stamp::{Identity, Publisher, QueueNumber, QueueSet, SHORTEST, Stamp};

/// The publishers from here on are consumers, whose messages show what of theirs is durable.
const FIRST_FENCE: u16 = 1 << 15;

/// There are no more consumers than this.
pub(super) const MOST_CONSUMERS: u16 = 64;

/// The largest body in bytes.
pub(super) const LARGEST: u32 = 4 << 20;

/// The shortest and the longest time that a round works before it is ended.
const WORK: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(2500));

/// Kills in a row while the program recovers, at most.
const KILLS_IN_RECOVERY: u32 = 4;

/// Of 100 rounds, so many end otherwise than by a kill.
const TERMINATED: u32 = 8;
const SYNC_FAILS: u32 = 8;
const DISK_FULL: u32 = 8;

/// All that is to happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) queues: u8,
    pub(super) publishers: u16,
    pub(super) consumers: u16,
    /// The largest body in bytes that fits into what a round may write.
    pub(super) largest: u32,
}

/// How a round goes.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) ending: Ending,
    /// From when the program is ready.
    pub(super) works_for: Duration,
    /// For each kill during recovery: when it comes, as a share of what a restart took before.
    pub(super) kills_in_recovery: Vec<f64>,
    /// The share of what is found that stays in the queues for the next round.
    pub(super) keep: f64,
    /// Whatever else there is to decide.
    pub(super) random: fastrand::Rng,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGKILL.
    Killed,
    /// SIGTERM: a clean end.
    Terminated,
    /// By itself, because the n-th sync has failed.
    SyncFails(u64),
    /// SIGKILL, after the disk had room for so many bytes more.
    DiskFull(u64),
}

/// Which part of the plan a number is drawn for, so that they do not resemble each other.
fn generator(seed: u64, part: u64, number: u64) -> fastrand::Rng {
    let mut first = fastrand::Rng::with_seed(seed ^ part.rotate_left(48));
    fastrand::Rng::with_seed(first.u64(..) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Plan {
    /// As whom a consumer publishes.
    pub(super) fn fencer(consumer: Consumer) -> Publisher {
        Publisher(FIRST_FENCE + consumer.0)
    }

    /// As which consumer a queue is looked at after a restart: one beyond those that there may be, of that very queue.
    pub(super) fn looker(queues: u8, queue: QueueNumber) -> Consumer {
        Consumer(MOST_CONSUMERS * u16::from(queues) + u16::from(queue.0))
    }

    /// The queue that a consumer takes from; with fewer consumers than queues, the others fill up.
    pub(super) fn consumed_by(&self, consumer: Consumer) -> QueueNumber {
        QueueNumber((consumer.0 % u16::from(self.queues)) as u8)
    }

    /// The message that is a publisher's n-th.
    pub(super) fn message(&self, identity: Identity) -> Sent {
        let Identity { publisher: Publisher(publisher), number } = identity;
        let mut random = generator(self.seed, 1 + u64::from(publisher), number);
        if let Some(consumer) = publisher.checked_sub(FIRST_FENCE) {
            let queues = QueueSet::one(self.consumed_by(Consumer(consumer)));
            let stamp = Stamp { identity, queues, length: SHORTEST };
            return Sent { stamp, persistent: true };
        }
        let one = QueueNumber(random.u8(0..self.queues));
        let queues = match random.u8(0..10) {
            0 => QueueSet::all(self.queues),
            1 | 2 => QueueSet::one(one).and(self.behind(one)),
            _ => QueueSet::one(one),
        };
        let length = match random.u16(0..1000) {
            0..2 => random.u32(64 << 10..=LARGEST),
            2..30 => random.u32(4 << 10..=64 << 10),
            30..300 => random.u32(256..=4 << 10),
            _ => random.u32(SHORTEST..=256),
        };
        let stamp = Stamp { identity, queues, length: length.min(self.largest) };
        Sent { stamp, persistent: random.u8(0..10) != 0 }
    }

    /// The queue that has what goes to a pair in common with this one.
    pub(super) fn behind(&self, queue: QueueNumber) -> QueueNumber {
        QueueNumber((queue.0 + 1) % self.queues)
    }

    /// The n-th round, counted from 1. The first works undisturbed until it is killed.
    pub(super) fn round(&self, number: u64) -> Round {
        let mut random = generator(self.seed, 0, number);
        let spread = (WORK.1.as_secs_f64() / WORK.0.as_secs_f64()).powf(random.f64());
        let ending = match random.u32(0..100) {
            _ if number == 1 => Ending::Killed,
            drawn if drawn < TERMINATED => Ending::Terminated,
            drawn if drawn < TERMINATED + SYNC_FAILS => Ending::SyncFails(random.u64(1..400)),
            drawn if drawn < TERMINATED + SYNC_FAILS + DISK_FULL => {
                Ending::DiskFull(1 << random.u32(16..26))
            }
            _ => Ending::Killed,
        };
        let mut kills_in_recovery = Vec::new();
        while (kills_in_recovery.len() as u32) < KILLS_IN_RECOVERY && random.u8(0..10) < 3 {
            kills_in_recovery.push(random.f64());
        }
        let keep = [0.0, 0.1, 0.5, 0.9][random.usize(0..4)];
        let works_for = WORK.0.mul_f64(spread);
        Round { ending, works_for, kills_in_recovery, keep, random }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_publishes_to_the_queue_that_it_looks_at() {
        for queue in (0..4).map(QueueNumber) {
            let looker = Plan::looker(4, queue);
            assert!(looker.0 >= MOST_CONSUMERS);
            let fence = Identity { publisher: Plan::fencer(looker), number: 0 };
            assert_eq!(plan(1).message(fence).stamp.queues, QueueSet::one(queue));
        }
    }

    fn plan(seed: u64) -> Plan {
        Plan { seed, queues: 4, publishers: 2, consumers: 2, largest: LARGEST }
    }

    #[test]
    fn the_same_seed_gives_the_same_messages_and_rounds_and_another_one_others() {
        let messages = |seed| -> Vec<Sent> {
            let identity = |number| Identity { publisher: Publisher(1), number };
            (0..100).map(|number| plan(seed).message(identity(number))).collect()
        };
        assert_eq!(messages(7), messages(7));
        assert_ne!(messages(7), messages(8));
        let rounds = |seed| -> Vec<Duration> {
            (1..20).map(|number| plan(seed).round(number).works_for).collect()
        };
        assert_eq!(rounds(7), rounds(7));
        assert_ne!(rounds(7), rounds(8));
    }

    #[test]
    fn messages_are_tiny_large_to_one_queue_to_two_and_to_all() {
        let messages: Vec<Sent> = (0..5000)
            .map(|number| plan(1).message(Identity { publisher: Publisher(0), number }))
            .collect();
        let lengths = || messages.iter().map(|sent| sent.stamp.length);
        assert!(lengths().all(|length| (SHORTEST..=LARGEST).contains(&length)));
        assert!(lengths().any(|length| length < 40) && lengths().any(|length| length > 1 << 20));
        for count in [1, 2, 4] {
            assert!(messages.iter().any(|sent| sent.stamp.queues.iter().count() == count));
        }
        assert!(messages.iter().any(|sent| !sent.persistent));
    }

    #[test]
    fn rounds_end_in_every_way_and_within_bounds() {
        let rounds: Vec<Round> = (1..500).map(|number| plan(1).round(number)).collect();
        assert!(rounds.iter().all(|round| (WORK.0..=WORK.1).contains(&round.works_for)));
        assert!(rounds.iter().any(|round| round.kills_in_recovery.len() > 1));
        let endings = || rounds.iter().map(|round| round.ending);
        assert!(endings().any(|ending| ending == Ending::Killed));
        assert!(endings().any(|ending| ending == Ending::Terminated));
        assert!(endings().any(|ending| matches!(ending, Ending::SyncFails(_))));
        assert!(endings().any(|ending| matches!(ending, Ending::DiskFull(_))));
    }
}
