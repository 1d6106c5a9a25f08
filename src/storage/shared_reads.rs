//! Messages of many queues that were read back lately.
//!
//! The record of a message that went to n queues has n places in front of the message. If each of these queues read it for itself,
//! that would be n times n places for one message. So what was read for one queue is kept for a while, and the others take it from
//! here; all of them share its memory. What lives here: these messages, the newest few MiB of them. It must never know of queues.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::index::MissingMessage;
use super::message::Message;
use super::units::{Lsn, Sequence};

/// The most that is kept, in bytes.
const MOST: usize = 4 << 20;

/// A message takes so many bytes besides its own.
const ENTRY: usize = 128;

/// The messages, by their records. An LSN is given once, so none of them is ever out of date.
#[derive(Debug, Default)]
pub(crate) struct SharedReads(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    messages: HashMap<Lsn, Message>,
    /// The oldest one first.
    order: VecDeque<Lsn>,
    bytes: usize,
}

impl SharedReads {
    /// Takes the messages that are kept out of what is wanted.
    pub(crate) fn take_from(
        &self,
        wanted: &mut Vec<MissingMessage>,
    ) -> Vec<(Sequence, Lsn, Message)> {
        let mut found = Vec::new();
        if wanted.iter().any(MissingMessage::is_of_many) {
            let recent = self.0.lock();
            wanted.retain(|one| {
                let message = recent.messages.get(&one.lsn).filter(|_| one.is_of_many());
                found.extend(message.map(|message| (one.sequence, one.lsn, message.clone())));
                message.is_none()
            });
        }
        found
    }

    /// Keeps a message that was read, if many queues may want it.
    pub(crate) fn keep(&self, wanted: &MissingMessage, message: &Message) {
        let size = message.size() + ENTRY;
        if !wanted.is_of_many() || size > MOST / 4 {
            return;
        }
        let mut recent = self.0.lock();
        if recent.messages.insert(wanted.lsn, message.clone()).is_some() {
            return;
        }
        recent.order.push_back(wanted.lsn);
        recent.bytes += size;
        while recent.bytes > MOST
            && let Some(oldest) = recent.order.pop_front()
            && let Some(message) = recent.messages.remove(&oldest)
        {
            recent.bytes -= message.size() + ENTRY;
        }
    }

    /// Gives up all of them.
    pub(crate) fn release(&self) {
        drop(std::mem::take(&mut *self.0.lock()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: u16 = 2;
    const MANY: u16 = 1000;

    fn wanted(lsn: u64, sharers: u16) -> MissingMessage {
        MissingMessage { sequence: Sequence(lsn + 1), lsn: Lsn(lsn), length: 100, sharers }
    }

    #[test]
    fn what_was_read_for_one_queue_is_there_for_the_next() {
        let reads = SharedReads::default();
        let message = Message::new("head", "body");
        reads.keep(&wanted(1, MANY), &message);
        reads.keep(&wanted(2, FEW), &message);
        let all = [wanted(1, MANY), wanted(2, FEW), wanted(3, MANY)];
        let mut rest = all.to_vec();
        assert_eq!(reads.take_from(&mut rest), [(Sequence(2), Lsn(1), message)]);
        assert_eq!(rest, all[1..]);
        reads.release();
        let mut rest = all.to_vec();
        assert!(reads.take_from(&mut rest).is_empty());
        assert_eq!(rest, all);
    }

    #[test]
    fn the_oldest_ones_go_first_and_a_large_one_is_not_kept() {
        let reads = SharedReads::default();
        let message = Message::new("", vec![7; MOST / 8]);
        for lsn in 0..20 {
            reads.keep(&wanted(lsn, MANY), &message);
            // Read for two queues at the same time.
            reads.keep(&wanted(lsn, MANY), &message);
        }
        reads.keep(&wanted(20, MANY), &Message::new("", vec![7; MOST / 4]));
        let mut rest = (0..21).map(|lsn| wanted(lsn, MANY)).collect();
        let found = reads.take_from(&mut rest);
        assert!(found.iter().map(|(_, lsn, _)| lsn.0).eq(13..20), "{} found", found.len());
        assert_eq!(rest.len(), 14);
    }
}
