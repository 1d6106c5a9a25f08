//! Publishing, and what is confirmed.

use std::collections::BTreeSet;

use bytes::Bytes;
use haypile::storage::{Lsn, Message as Stored};

use super::super::model::{Effect, Message, Name};
use super::{At, Clients, Headers, envelope};

/// A message to publish, of so many bytes at least.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Publish<'a> {
    pub(in super::super) exchange: Name,
    pub(in super::super) key: &'a str,
    pub(in super::super) headers: Headers<'a>,
    pub(in super::super) persistent: bool,
    pub(in super::super) size: usize,
}

impl Clients {
    pub(in super::super) fn confirm_select(&mut self, at: At) {
        let chan = self.chan(at);
        chan.confirming = true;
        chan.inner.confirm_select().unwrap();
    }

    /// Publishes a message of so many bytes at least; the exchange must be there, and not internal.
    pub(in super::super) fn publish(
        &mut self,
        at: At,
        (exchange, key): (Name, &str),
        headers: Headers<'_>,
        persistent: bool,
        size: usize,
    ) {
        let publish = &Publish { exchange, key, headers, persistent, size };
        if self.chan(at).confirming {
            // A confirm vouches for what was acknowledged before.
            self.note_flush(at);
        }
        let (stored, message) = self.new_message(publish);
        let (queues, lasts) = self.routed(publish);
        let count = queues.len();
        let step = (count > 0).then(|| self.one(Effect::Publish(queues, message)));
        let vouches_for = step.filter(|_| lasts).or(self.chan(at).acknowledged);
        let relieves = self.drop_excess();
        let chan = self.chan(at);
        let published = chan.inner.publish(&stored).unwrap();
        chan.inner.hand_out();
        assert_eq!(published.queues, count, "queues of {exchange} {key}");
        if chan.confirming {
            chan.published.push_back(vouches_for);
        }
        self.end_burials();
        if relieves {
            self.relieve();
        }
    }

    /// A message with the next number, as a front end has it and as a history does.
    pub(super) fn new_message(&mut self, publish: &Publish<'_>) -> (Stored, Message) {
        let Publish { exchange, key, headers, persistent, size } = *publish;
        self.messages += 1;
        let number = self.messages;
        let mut body = format!("{number}:").into_bytes();
        body.extend((body.len()..size).map(|at| (at * 7 + number) as u8));
        let priority = (number % 4) as u8;
        let stored = envelope(exchange, key, headers, persistent, priority, body.into());
        let message = Message {
            number,
            header: Bytes::copy_from_slice(stored.header()),
            body: stored.body(),
            persistent,
            priority,
            redelivered: false,
        };
        (stored, message)
    }

    /// Where it goes, and whether it is there after a restart.
    pub(super) fn routed(&self, publish: &Publish<'_>) -> (BTreeSet<Name>, bool) {
        let queues = self.world.route(publish.exchange, publish.key, publish.headers);
        let is_stored = |name: &Name| self.world.queues[name].spec.is_stored();
        let lasts = publish.persistent && queues.iter().any(is_stored);
        (queues, lasts)
    }

    /// Takes the confirms that are due.
    pub(in super::super) fn take_confirms(&mut self, at: At) {
        let durable = if self.patient { self.broker.store().durable_lsn() } else { Lsn::MAX };
        let chan = self.chan(at);
        let Some(confirm) = chan.inner.confirms(durable) else { return };
        let count = (confirm.tag.0 - chan.confirmed) as usize;
        assert_eq!(confirm.multiple, count > 1);
        chan.confirmed = confirm.tag.0;
        let vouched_for: Vec<_> = chan.published.drain(..count).flatten().collect();
        vouched_for.into_iter().for_each(|step| self.history.promise(step));
        *self.now.lock() = self.history.position();
    }

    /// Waits for all confirms.
    pub(in super::super) fn await_confirms(&mut self, at: At) {
        while let Some(lsn) = self.chan(at).inner.awaited_lsn() {
            if self.patient {
                self.broker.store().wait_durable(lsn).unwrap();
            }
            self.take_confirms(at);
        }
        self.take_confirms(at);
        assert!(self.chan(at).published.is_empty(), "all are confirmed");
    }
}
