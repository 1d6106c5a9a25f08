//! What the broker does by itself: it carries dead letters away.
//!
//! All that its carrier, or a channel, has moved in one turn is one change. Which queue's letters
//! it takes first is its own business: each queue of these sessions gets the letters of one other
//! at most, so that their order does not depend on it.

use super::super::letters::{Reason, letter};
use super::super::model::{Cause, Effect, Incarnation, Name, Place};
use super::Clients;

/// Letters that are moved in one turn.
const LETTERS: usize = 256;
/// Bytes of them that surely fit into one segment of these small stores. What does not fit is moved in parts, each of some letters:
/// then only each letter by itself is said to be moved as a whole.
const LETTER_BYTES: usize = 8 << 10;

impl Clients {
    /// The broker does what there is to do. Whether there was anything.
    pub(in super::super) fn work_off(&mut self) -> bool {
        self.note_burials();
        self.broker.work_off()
    }

    /// Notes that dead letters are transferred, by a channel before this step of its client is
    /// over, or by the carrier. The carrier has to [end](Self::end_burials) before another step.
    pub(super) fn note_burials(&mut self) {
        let queues: Vec<_> = self.leaving.keys().copied().collect();
        let chains = queues.into_iter().map(|queue| self.burials(queue));
        let chains: Vec<_> = chains.filter(|chain| !chain.is_empty()).collect();
        if !chains.is_empty() {
            self.note(chains);
            self.burying = true;
        }
    }

    /// The carrier carries what was noted, and a channel has not carried.
    pub(super) fn end_burials(&mut self) {
        if std::mem::take(&mut self.burying) {
            while self.broker.work_off() {}
        }
    }

    /// Has messages leave that somebody held: what there is to note now. Where there is a dead-letter exchange, it is nothing yet.
    pub(super) fn discard(
        &mut self,
        (name, incarnation): (Name, Incarnation),
        places: Vec<Place>,
        reason: Reason,
    ) -> Option<Effect> {
        if self.world.queues[name].spec.grave.is_some() {
            self.out.extend(places.iter().map(|place| (incarnation, *place)));
            let leaving = self.leaving.entry((name, incarnation)).or_default();
            leaving.extend(places.into_iter().map(|place| (place, reason)));
            return None;
        }
        for place in &places {
            self.out.remove(&(incarnation, *place));
        }
        Some(Effect::Acknowledge(name, incarnation, places))
    }

    /// Notes that messages leave for which there is no room. Whether there are any: then the broker has to be [relieved](Self::relieve)
    /// of them at once, because it may have to read them back first.
    pub(super) fn drop_excess(&mut self) -> bool {
        let excess = self.world.queues.iter().map(|(name, queue)| {
            let out = |place| self.out.contains(&(queue.incarnation, place));
            ((*name, queue.incarnation), queue.excess(out))
        });
        let excess: Vec<_> = excess.filter(|(_, places)| !places.is_empty()).collect();
        let any = !excess.is_empty();
        for (queue, places) in excess {
            if let Some(gone) = self.discard(queue, places, Reason::MaxLength) {
                self.one(gone);
            }
        }
        if any {
            self.note_burials();
        }
        any
    }

    /// The broker drops what there are too many of.
    pub(in super::super) fn relieve(&mut self) {
        self.drop_excess();
        while self.work_off() {}
    }

    /// What there is to note for the dead letters of a queue, which are gone then.
    pub(super) fn burials(&mut self, (name, incarnation): (Name, Incarnation)) -> Vec<Effect> {
        let dead = self.leaving.remove(&(name, incarnation)).unwrap_or_default();
        for (place, _) in &dead {
            self.out.remove(&(incarnation, *place));
        }
        let Some(queue) = self.world.queues.get(name) else { return Vec::new() };
        let Some(grave) = queue.spec.grave.filter(|_| queue.incarnation == incarnation) else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        let size = |(place, _): &(Place, Reason)| {
            let message = queue.messages.get(place);
            message.map_or(0, |message| message.header.len() + message.body.len())
        };
        let fits = dead.iter().map(size).sum::<usize>() <= LETTER_BYTES;
        for dead in dead.chunks(if fits { LETTERS } else { 1 }) {
            let mut turn = Turn::default();
            for (place, reason) in dead {
                let Some(message) = queue.messages.get(place) else { continue };
                let graves = self.world.route("", grave, &[]);
                if !graves.is_empty() {
                    let letter = letter(message, name, *reason, grave);
                    turn.letters.push(Effect::Publish(graves, letter));
                }
                turn.places.push(*place);
            }
            effects.push(turn.into_effect(name, incarnation));
        }
        effects
    }

    /// A queue goes, and its dead letters before it.
    pub(super) fn deletion(&mut self, (name, incarnation): (Name, Incarnation)) -> Vec<Effect> {
        let mut effects = self.burials((name, incarnation));
        effects.push(Effect::DeleteQueue(name, incarnation));
        effects
    }
}

/// What is moved at once.
#[derive(Default)]
struct Turn {
    letters: Vec<Effect>,
    places: Vec<Place>,
}

impl Turn {
    fn into_effect(self, name: Name, incarnation: Incarnation) -> Effect {
        let Turn { mut letters, places } = self;
        letters.push(Effect::Acknowledge(name, incarnation, places));
        Effect::Together(Cause::DeadLetters, letters)
    }
}
