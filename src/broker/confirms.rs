//! Publisher confirms: which published messages may be confirmed once the log is durable up to a point.

use std::collections::VecDeque;

use super::delivery::DeliveryTag;
use crate::storage::Lsn;

/// `basic.ack` to a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// The last message that it confirms.
    pub tag: DeliveryTag,
    /// Whether it confirms more than that one: all before it that have not been confirmed.
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

    /// The first position that a message waits for.
    pub(super) fn awaited(&self) -> Option<Lsn> {
        self.waiting.front().map(|(_, lsn)| *lsn)
    }

    /// The position that the last message waits for.
    pub(super) fn last_awaited(&self) -> Option<Lsn> {
        self.waiting.back().map(|(_, lsn)| *lsn)
    }

    /// What may be confirmed now that the log is durable up to `durable`.
    pub(super) fn take(&mut self, durable: Lsn) -> Option<Confirm> {
        while let Some((through, lsn)) = self.waiting.front()
            && *lsn <= durable
        {
            self.settled = *through;
            self.waiting.pop_front();
        }
        let count = self.settled - self.confirmed;
        self.confirmed = self.settled;
        (count > 0).then_some(Confirm { tag: DeliveryTag(self.settled), multiple: count > 1 })
    }
}
