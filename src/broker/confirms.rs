//! Publisher confirms: which published messages may be confirmed once the log is durable up to a point.

use std::collections::VecDeque;

use super::delivery::DeliveryTag;
use crate::storage::Lsn;

/// `basic.ack` to a publisher, or `basic.nack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// The last message that it confirms.
    pub tag: DeliveryTag,
    /// Whether it is a `basic.nack`: a queue had no room for the message.
    pub refused: bool,
    /// Whether it stands for all before it as well that have not been confirmed. A `basic.nack` does because RabbitMQ's do, and
    /// there are none.
    pub multiple: bool,
}

/// The messages of a channel in confirm mode that have not been confirmed.
///
/// Confirms go out in the order of publishing, so that a single one can stand for all before it: a message that has
/// nothing to wait for waits for those before it. A channel's messages are appended one after the
/// other, so the positions that they wait for only grow.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    published: u64,
    confirmed: u64,
    /// Every message up to here is safe.
    settled: u64,
    /// Messages up to and with that number wait for that position. Both grow.
    waiting: VecDeque<(u64, Lsn)>,
    /// Messages that were refused and have not been answered, in order.
    refused: VecDeque<u64>,
}

impl Confirms {
    /// Counts a message, which is safe when the log is durable up to `durable_at`.
    pub(super) fn published(&mut self, durable_at: Option<Lsn>) {
        self.published += 1;
        match (self.waiting.back_mut(), durable_at) {
            (None, None) => self.settled = self.published,
            (Some((through, _)), None) => *through = self.published,
            (Some((through, last)), Some(lsn)) if *last >= lsn => *through = self.published,
            (_, Some(lsn)) => self.waiting.push_back((self.published, lsn)),
        }
    }

    /// The message counted last was refused by a queue.
    pub(super) fn refused(&mut self) {
        self.refused.push_back(self.published);
    }

    /// Whether there is a message to confirm or to refuse that waits for nothing.
    pub(super) fn is_ready(&self) -> bool {
        self.settled > self.confirmed
    }

    /// The first position that a message waits for.
    pub(super) fn awaited(&self) -> Option<Lsn> {
        self.waiting.front().map(|(_, lsn)| *lsn)
    }

    /// The position that the last message waits for.
    pub(super) fn last_awaited(&self) -> Option<Lsn> {
        self.waiting.back().map(|(_, lsn)| *lsn)
    }

    /// What may be confirmed now that the log is durable up to `durable`: ask again until there is nothing.
    pub(super) fn take(&mut self, durable: Lsn) -> Option<Confirm> {
        while let Some((through, lsn)) = self.waiting.front()
            && *lsn <= durable
        {
            self.settled = *through;
            self.waiting.pop_front();
        }
        let refused = self.refused.front().copied().filter(|refused| *refused <= self.settled);
        let through = match refused {
            Some(next) if next == self.confirmed + 1 => {
                self.refused.pop_front();
                self.confirmed = next;
                return Some(Confirm { tag: DeliveryTag(next), refused: true, multiple: true });
            }
            // Those before it have been taken.
            Some(later) => later - 1,
            None => self.settled,
        };
        let count = through - self.confirmed;
        self.confirmed = through;
        let tag = DeliveryTag(through);
        (count > 0).then_some(Confirm { tag, refused: false, multiple: count > 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_message_is_answered_by_itself_and_in_its_turn() {
        let mut confirms = Confirms::default();
        let (soon, later) = (Lsn::ZERO, Lsn::MAX);
        for (durable_at, refused) in [
            (None, true),
            (None, false),
            (None, false),
            (None, true),
            (None, true),
            (Some(later), false),
            (None, true),
        ] {
            confirms.published(durable_at);
            if refused {
                confirms.refused();
            }
        }
        let mut taken = Vec::new();
        for durable in [soon, later] {
            while let Some(Confirm { tag, refused, multiple }) = confirms.take(durable) {
                taken.push((durable == later, tag.0, refused, multiple));
            }
        }
        let expected = [
            (false, 1, true, true),
            (false, 3, false, true),
            (false, 4, true, true),
            (false, 5, true, true),
            (true, 6, false, false),
            (true, 7, true, true),
        ];
        assert_eq!(taken, expected);
    }
}
