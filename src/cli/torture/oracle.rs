//! The oracle: what must, may and must not be in each queue, and what a queue that gives something else has done wrong.
//!
//! It hears of everything that publishers and consumers do and learn, and judges what they are given. It must never know of
//! sockets, processes or stores: so its tests can try it on queues that lose, alter, repeat, reorder and resurrect messages.
//! A check that cannot fail proves nothing.
//!
//! In each queue that it was published to, a message is one of:
//!
//! - *must*: confirmed, or found after an earlier restart, and not acknowledged;
//! - *may*: not confirmed, or acknowledged without it being known that the acknowledgement is durable;
//! - gone: acknowledged for good, or missing after an earlier restart, or transient and of an earlier life.
//!
//! It is known to be durable (*settled*) that a message was acknowledged, or handed out, when something that came behind
//! it on the same way (a channel, the log) was confirmed.

use std::collections::{BTreeMap, HashMap};

use super::defect::{Defect, DefectKind, Defects};
use super::stamp::{Altered, Identity, Publisher, QueueNumber, QueueSet, Stamp};

/// A message that is about to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) stamp: Stamp,
    /// It is to survive a restart.
    pub(super) persistent: bool,
}

/// A message that a queue gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What stands beside the body.
    pub(super) label: Option<Identity>,
    /// What the body says.
    pub(super) content: Result<Stamp, Altered>,
    /// The queue says that it may have been handed out before.
    pub(super) redelivered: bool,
}

/// Who consumes: whoever gets what is new of a queue in the order in which it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Consumer(pub(super) u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    May,
    Must,
    Acknowledged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandedOut {
    No,
    /// In this life of the queue; not known to be durable.
    Now,
    /// For ever.
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sent: Sent,
    state: State,
    /// Its position among those that the last restart brought back.
    place: Option<u32>,
    handed_out: HandedOut,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Oracle {
    queues: Vec<HashMap<Identity, Entry>>,
    /// Of each publisher: what was published in this life and is not confirmed.
    unconfirmed: HashMap<Publisher, BTreeMap<u64, QueueSet>>,
    /// One past the newest number of each publisher.
    next: HashMap<Publisher, u64>,
    /// The newest message that is not a repetition, in this life.
    seen: HashMap<(Consumer, QueueNumber, Publisher), u64>,
    confirmed: u64,
    acknowledged: u64,
    defects: Defects,
}

impl Found {
    /// What a queue gave: the label beside the body, and the body.
    pub(super) fn new(label: &[u8], body: &[u8], redelivered: bool) -> Found {
        let label = std::str::from_utf8(label).ok().and_then(|text| text.parse().ok());
        Found { label, content: Stamp::read(body), redelivered }
    }
}

impl Oracle {
    /// Of so many empty queues.
    pub(super) fn new(queues: u8) -> Oracle {
        Oracle {
            queues: (0..queues).map(|_| HashMap::new()).collect(),
            unconfirmed: HashMap::new(),
            next: HashMap::new(),
            seen: HashMap::new(),
            confirmed: 0,
            acknowledged: 0,
            defects: Defects::default(),
        }
    }

    fn queue(&mut self, queue: QueueNumber) -> &mut HashMap<Identity, Entry> {
        self.queues.get_mut(usize::from(queue.0)).expect("plans name queues that there are")
    }

    /// Notes something wrong.
    pub(super) fn defect(&mut self, kind: DefectKind, text: String) {
        self.defects.push(Defect { kind, text });
    }

    /// Everything wrong so far.
    pub(super) fn defects(&self) -> &Defects {
        &self.defects
    }

    /// How many messages were confirmed.
    pub(super) fn confirmed_count(&self) -> u64 {
        self.confirmed
    }

    /// How many acknowledgements were given.
    pub(super) fn acknowledged_count(&self) -> u64 {
        self.acknowledged
    }

    /// How many messages have to be in the queues.
    pub(super) fn required(&self) -> u64 {
        let entries = self.queues.iter().flat_map(HashMap::values);
        entries.filter(|entry| entry.state == State::Must && entry.sent.persistent).count() as u64
    }

    /// The message is about to be published.
    pub(super) fn published(&mut self, sent: Sent) {
        let Identity { publisher, number } = sent.stamp.identity;
        self.next.insert(publisher, number + 1);
        self.unconfirmed.entry(publisher).or_default().insert(number, sent.stamp.queues);
        let (state, handed_out) = (State::May, HandedOut::No);
        for queue in sent.stamp.queues.iter() {
            let entry = Entry { sent, state, place: None, handed_out };
            self.queue(queue).insert(sent.stamp.identity, entry);
        }
    }

    /// The message is confirmed.
    pub(super) fn confirmed(&mut self, identity: Identity) {
        let unconfirmed = self.unconfirmed.get_mut(&identity.publisher);
        match unconfirmed.and_then(|unconfirmed| unconfirmed.remove(&identity.number)) {
            Some(queues) => self.must_be_there(identity, queues),
            None => self.defect(
                DefectKind::Misbehaved,
                format!("{identity} was confirmed, and nobody waited for that"),
            ),
        }
    }

    /// All messages of the publisher below `number` are confirmed.
    pub(super) fn confirmed_below(&mut self, publisher: Publisher, number: u64) {
        let Some(unconfirmed) = self.unconfirmed.get_mut(&publisher) else { return };
        let others = unconfirmed.split_off(&number);
        for (number, queues) in std::mem::replace(unconfirmed, others) {
            self.must_be_there(Identity { publisher, number }, queues);
        }
    }

    fn must_be_there(&mut self, identity: Identity, queues: QueueSet) {
        self.confirmed += 1;
        for queue in queues.iter() {
            if let Some(entry) = self.queue(queue).get_mut(&identity)
                && entry.state == State::May
            {
                entry.state = State::Must;
            }
        }
    }

    /// A consumer was handed this. Returns which message it is, if that can be told.
    pub(super) fn handed_out(
        &mut self,
        consumer: Consumer,
        queue: QueueNumber,
        found: &Found,
    ) -> Option<Identity> {
        let (identity, entry) = self.recognize(queue, found)?;
        if entry.state == State::Acknowledged {
            self.defect(
                DefectKind::Resurrected,
                format!("{queue}: {identity} was handed out after it had been acknowledged"),
            );
        }
        self.check_flag(queue, identity, entry, found.redelivered);
        // What goes back to its queue keeps its place, and comes flagged.
        if !found.redelivered {
            let newest = self.seen.insert((consumer, queue, identity.publisher), identity.number);
            if let Some(newest) = newest.filter(|newest| *newest > identity.number) {
                let publisher = identity.publisher;
                let newest = Identity { publisher, number: newest };
                self.defect(
                    DefectKind::Reordered,
                    format!("{queue}: {identity} was handed out behind {newest}"),
                );
            }
        }
        if let Some(entry) = self.queue(queue).get_mut(&identity)
            && entry.handed_out == HandedOut::No
        {
            entry.handed_out = HandedOut::Now;
        }
        Some(identity)
    }

    /// An acknowledgement is about to be given.
    pub(super) fn acknowledged(&mut self, queue: QueueNumber, identity: Identity) {
        self.acknowledged += 1;
        if let Some(entry) = self.queue(queue).get_mut(&identity) {
            entry.state = State::Acknowledged;
        }
    }

    /// These acknowledgements and hand-outs are known to be durable.
    pub(super) fn settled(
        &mut self,
        queue: QueueNumber,
        acknowledged: &[Identity],
        handed_out: &[Identity],
    ) {
        let entries = self.queue(queue);
        for identity in acknowledged {
            entries.remove(identity);
        }
        for identity in handed_out {
            if let Some(entry) = entries.get_mut(identity) {
                entry.handed_out = HandedOut::Settled;
            }
        }
    }

    /// All that is in the queue was just handed out.
    pub(super) fn all_handed_out(&mut self, queue: QueueNumber) {
        for entry in self.queue(queue).values_mut() {
            if entry.handed_out == HandedOut::No {
                entry.handed_out = HandedOut::Now;
            }
        }
    }

    /// The queues were thrown away, and others with nothing in them have taken their place.
    pub(super) fn forget(&mut self) {
        self.queues.iter_mut().for_each(HashMap::clear);
        self.unconfirmed.clear();
        self.seen.clear();
    }

    /// Judges the whole content of a queue after a restart, in order; from here on it is the truth.
    pub(super) fn recovered(&mut self, queue: QueueNumber, contents: &[Found]) {
        let mut found: Vec<(Identity, Entry)> = Vec::with_capacity(contents.len());
        let mut kept: HashMap<Identity, Entry> = HashMap::with_capacity(contents.len());
        for item in contents {
            let Some((identity, entry)) = self.recognize(queue, item) else { continue };
            if kept.contains_key(&identity) {
                self.defect(DefectKind::Duplicated, format!("{queue}: {identity} is there twice"));
                continue;
            }
            if !entry.sent.persistent {
                self.defect(
                    DefectKind::Resurrected,
                    format!("{queue}: {identity} is transient, and outlived the restart"),
                );
            }
            if entry.handed_out == HandedOut::Settled {
                self.check_flag(queue, identity, entry, item.redelivered);
            }
            let handed_out = if item.redelivered { HandedOut::Settled } else { HandedOut::No };
            let place = u32::try_from(found.len()).ok();
            found.push((identity, entry));
            kept.insert(identity, Entry { state: State::Must, place, handed_out, ..entry });
        }
        self.check_order(queue, &found);
        let before = std::mem::replace(self.queue(queue), kept);
        let mut lost: Vec<Identity> = before
            .into_iter()
            .filter(|(_, entry)| entry.state == State::Must && entry.sent.persistent)
            .map(|(identity, _)| identity)
            .filter(|identity| !self.queue(queue).contains_key(identity))
            .collect();
        lost.sort_unstable();
        for identity in lost {
            self.defect(
                DefectKind::Lost,
                format!("{queue}: {identity} was confirmed and not acknowledged, and is not there"),
            );
        }
        // Of what was on the way nothing more is heard.
        self.unconfirmed.clear();
        self.seen.clear();
    }

    /// Which message this is; nothing where it is none that may be in the queue, which is noted.
    fn recognize(&mut self, queue: QueueNumber, found: &Found) -> Option<(Identity, Entry)> {
        let identity = match (&found.content, found.label) {
            (Ok(stamp), Some(label)) if stamp.identity == label => label,
            (Ok(stamp), label) => {
                let label = label.map_or("nothing".to_owned(), |label| label.to_string());
                self.defect(
                    DefectKind::Altered,
                    format!("{queue}: {} says {label} beside its body", stamp.identity),
                );
                stamp.identity
            }
            (Err(altered), Some(label)) => {
                self.defect(DefectKind::Altered, format!("{queue}: {label}: {altered}"));
                label
            }
            (Err(altered), None) => {
                let text = format!("{queue}: a message that cannot be told: {altered}");
                self.defect(DefectKind::Altered, text);
                return None;
            }
        };
        let known = self.queue(queue).get(&identity).copied();
        match (known, &found.content) {
            (Some(entry), Ok(stamp)) if *stamp != entry.sent.stamp => {
                self.defect(
                    DefectKind::Altered,
                    format!("{queue}: {identity} is {stamp:?}, and was {:?}", entry.sent.stamp),
                );
            }
            (None, content) => self.stranger(queue, identity, content),
            _ => {}
        }
        known.map(|entry| (identity, entry))
    }

    /// A message that is not to be in the queue: it never was, or it came back.
    fn stranger(
        &mut self,
        queue: QueueNumber,
        identity: Identity,
        content: &Result<Stamp, Altered>,
    ) {
        let next = self.next.get(&identity.publisher).copied().unwrap_or_default();
        let elsewhere = content.is_ok_and(|stamp| !stamp.queues.holds(queue));
        let (kind, text) = if identity.number >= next {
            (DefectKind::Unknown, "nobody has published it")
        } else if elsewhere {
            (DefectKind::Unknown, "it was published to other queues")
        } else {
            let text = "it came back: it had been acknowledged for good, or an earlier restart did not have it";
            (DefectKind::Resurrected, text)
        };
        self.defect(kind, format!("{queue}: {identity}: {text}"));
    }

    fn check_flag(&mut self, queue: QueueNumber, id: Identity, entry: Entry, redelivered: bool) {
        if entry.handed_out != HandedOut::No && !redelivered {
            self.defect(
                DefectKind::Duplicated,
                format!("{queue}: {id} had been handed out, and came again without the flag"),
            );
        }
    }

    /// What the restart before has shown comes first and keeps its order; behind it comes what was published since, in
    /// each publisher's order.
    fn check_order(&mut self, queue: QueueNumber, found: &[(Identity, Entry)]) {
        let mut newest: HashMap<Publisher, u64> = HashMap::new();
        let mut last_place = None;
        for (identity, entry) in found {
            let behind = match entry.place {
                Some(place) => {
                    let wrong = !newest.is_empty() || last_place > Some(place);
                    last_place = last_place.max(Some(place));
                    wrong
                }
                None => {
                    let newest = newest.entry(identity.publisher).or_insert(identity.number);
                    let wrong = *newest > identity.number;
                    *newest = identity.number.max(*newest);
                    wrong
                }
            };
            if behind {
                self.defect(
                    DefectKind::Reordered,
                    format!("{queue}: {identity} is behind a message that came after it"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
