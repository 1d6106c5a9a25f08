//! Consuming, acknowledging and requeueing: every delivery is compared with what the history knows.

use bytes::Bytes;
use haypile::broker::{Consume, Delivery, DeliveryTag, Event, Get};
use haypile::message::FieldTable;

use super::super::model::{Incarnation, Name, Place};
use super::{At, Clients, Held, is_no_ack, short};

impl Clients {
    /// Without acknowledgements if its tag [says so](is_no_ack).
    pub(in super::super) fn consume(
        &mut self,
        at: At,
        name: Name,
        tag: &'static str,
        prefetch: u16,
    ) {
        if self.chan(at).consumers.contains_key(tag) {
            return;
        }
        let incarnation = self.world.queues[name].incarnation;
        let request = Consume {
            queue: short(name),
            consumer_tag: short(tag),
            no_ack: is_no_ack(tag.as_bytes()),
            exclusive: false,
            arguments: FieldTable::new(),
        };
        let chan = self.chan(at);
        // A consumer of a queue that was deleted is known until its cancellation has been taken.
        chan.inner.forget_consumer(tag.as_bytes());
        chan.inner.qos(0, prefetch, false).unwrap();
        chan.inner.consume(&request).unwrap();
        chan.consumers.insert(tag, (name, incarnation));
    }

    pub(in super::super) fn cancel(&mut self, at: At, tag: &'static str) {
        let Some((name, incarnation)) = self.chan(at).consumers.remove(tag) else { return };
        self.note_flush(at);
        if self.is_abandoned((name, incarnation)) {
            let deletion = self.deletion((name, incarnation));
            self.note(vec![deletion]);
        }
        self.chan(at).inner.cancel(tag.as_bytes()).unwrap();
    }

    /// Asks for one message, and waits for the answer.
    pub(in super::super) fn get(&mut self, at: At, name: Name) {
        match self.chan(at).inner.get(name.as_bytes(), false).unwrap() {
            Get::Message(delivery, _) => self.accept(at, delivery),
            Get::Empty => {}
            // The answer is among what it takes next.
            Get::Pending => {
                self.take(at.0);
            }
        }
    }

    /// What a store with threads of its own does from time to time.
    pub(in super::super) fn look_after(&mut self, thoroughly: bool) {
        let store = self.broker.store();
        if thoroughly {
            store.compact().unwrap();
        } else {
            store.checkpoint().unwrap();
        }
    }

    /// Takes a client's deliveries as they are now; whether there were any.
    pub(in super::super) fn take(&mut self, client: usize) -> bool {
        self.work_off();
        let mut events = Vec::new();
        let Some(found) = &self.clients[client] else { return false };
        found.session.take_events(&mut events, usize::MAX);
        let any = !events.is_empty();
        for event in events {
            let at = At(client, usize::from(event.channel().0) - 1);
            match event {
                Event::Delivery { delivery, .. } => self.accept(at, delivery),
                Event::ConsumerCancelled { consumer_tag, .. } => {
                    self.chan(at).inner.forget_consumer(&consumer_tag);
                }
                Event::Got { message, .. } => {
                    message.into_iter().for_each(|(delivery, _)| self.accept(at, delivery));
                }
                Event::Reply { .. } | Event::GetRefused { .. } => panic!("{event:?}"),
            }
        }
        any
    }

    /// Takes everybody's deliveries until there are none.
    pub(in super::super) fn take_all(&mut self) {
        let mut any = true;
        while std::mem::take(&mut any) {
            any |= self.work_off();
            for client in self.connections() {
                any |= self.take(client);
            }
        }
    }

    /// A delivery has to be one of the queue's messages, that nobody has, with the right flag.
    fn accept(&mut self, at: At, delivery: Delivery) {
        let body = delivery.message().body();
        let digits = body.split(|byte| *byte == b':').next().expect("there is a first part");
        let number: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
        let (queue, flag) = (delivery.queue().clone(), delivery.redelivered());
        let no_ack = is_no_ack(delivery.consumer_tag());
        let header = Bytes::copy_from_slice(delivery.message().header());
        let tag = self.chan(at).inner.accept(delivery);
        let known = self.world.queues.iter().find(|(name, _)| name.as_bytes() == queue.as_bytes());
        let found = known.and_then(|(name, queue)| {
            // A letter may come to a queue that has had the message before, and says so.
            let mut same = queue.messages.iter().filter(|(_, message)| message.number == number);
            let place = same.clone().find(|(_, message)| message.header == header);
            let place = place.or_else(|| same.next());
            place.map(|(place, message)| (*name, queue.incarnation, *place, message))
        });
        let Some((name, incarnation, place, message)) = found else {
            // It was in the outbox when its queue was deleted.
            let gone = self
                .gone
                .iter()
                .any(|(name, other)| *other == number && name.as_bytes() == queue.as_bytes());
            assert!(gone, "queue {queue} has no message {number}");
            let stale = Held { tag, queue: "", incarnation: Incarnation(0), place: Place(0) };
            if !no_ack {
                self.chan(at).held.push_back(stale);
            }
            return;
        };
        assert_eq!((&message.header, &message.body), (&header, &body), "message {number} altered");
        assert_eq!(message.redelivered, flag, "message {number} of {name}");
        assert!(self.out.insert((incarnation, place)), "message {number} is handed out twice");
        let chan = self.chan(at);
        let untold = chan.pending.entry((name, incarnation)).or_default();
        if no_ack {
            untold.done.push(place);
        } else {
            untold.handed_out.push(place);
            chan.held.push_back(Held { tag, queue: name, incarnation, place });
        }
    }

    /// How many messages a channel holds.
    pub(in super::super) fn holds(&mut self, at: At) -> usize {
        self.chan(at).held.len()
    }

    /// Takes the `nth` of the messages that are held out of them, and with `multiple` all before it.
    fn take_held(&mut self, at: At, nth: usize, multiple: bool) -> (DeliveryTag, Vec<Held>) {
        let held = &mut self.chan(at).held;
        let tag = held[nth].tag;
        let first = if multiple { 0 } else { nth };
        (tag, held.drain(first..=nth).collect())
    }

    /// Acknowledges the `nth` message that the channel holds, or rejects it for good.
    pub(in super::super) fn acknowledge(
        &mut self,
        at: At,
        nth: usize,
        multiple: bool,
        rejecting: bool,
    ) {
        let (tag, held) = self.take_held(at, nth, multiple);
        for Held { queue, incarnation, place, .. } in held {
            if queue.is_empty() {
                continue;
            }
            let found = self.world.queues.get(queue);
            let found = found.filter(|found| found.incarnation == incarnation);
            let by_rules = rejecting && found.is_some_and(|found| found.spec.has_rules());
            let untold = self.chan(at).pending.entry((queue, incarnation)).or_default();
            let told = if by_rules { &mut untold.rejected } else { &mut untold.done };
            told.push(place);
        }
        let chan = self.chan(at);
        if rejecting {
            chan.inner.nack(tag, multiple, false).unwrap();
        } else {
            chan.inner.ack(tag, multiple).unwrap();
        }
    }

    /// Returns the `nth` message that the channel holds.
    pub(in super::super) fn requeue(&mut self, at: At, nth: usize, multiple: bool) {
        self.note_flush(at);
        let (tag, held) = self.take_held(at, nth, multiple);
        for Held { incarnation, place, .. } in held {
            self.out.remove(&(incarnation, place));
        }
        let relieves = self.drop_excess();
        self.chan(at).inner.nack(tag, multiple, true).unwrap();
        self.end_burials();
        if relieves {
            self.relieve();
        }
    }

    /// Tells the queues what was taken and acknowledged, as a front end does after each batch.
    pub(in super::super) fn flush(&mut self, at: At) {
        self.note_flush(at);
        self.chan(at).inner.flush().unwrap();
        self.end_burials();
    }
}
