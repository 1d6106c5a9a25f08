//! The oracle: what a broker did, what its clients were told, and what a restart may therefore bring back.
//!
//! The history is a list of [`Step`]s. What somebody was told (a confirm, an ok) is a promise of the step that it speaks of.
//! A power cut leaves a beginning of the history, so a broker that was started again has to be, as a whole, what it was after one
//! of its steps, and not before the last one that was promised. That says it all:
//!
//! - a confirmed message is in each of its durable queues, unaltered, once, in order; an unconfirmed one in all or in none;
//! - what was declared, bound, unbound, deleted or purged, and answered, is so, with its arguments;
//! - a binding is there with both its ends or not at all;
//! - acknowledgements that a later confirm on their channel vouches for stay;
//! - a message that was handed out is marked, as far as the hand-out is covered, and no other one is;
//! - what a transaction has published and acknowledged is all so, or nothing of it;
//! - the oldest messages have gone from a queue that has more than it may have;
//! - a dead letter is where its queue sends it, or still in its queue: never in both, never in none;
//! - what is not durable, exclusive queues and transient messages are gone.
//!
//! A step may consist of several records whose order the broker does not promise: then every order is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use super::model::{Effect, Exchange, Name, PREDECLARED, QueueSpec, World};

/// What was done at once: chains of effects. Each chain is in order; how they come between each other is not known.
#[derive(Clone, Debug)]
pub(super) struct Step(pub(super) Vec<Vec<Effect>>);

/// A step's number in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StepNumber(usize);

/// A moment in a history: what had been done, and what had been promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    steps: usize,
    promised: usize,
}

impl Position {
    /// How many steps had been promised.
    pub(super) fn promised(self) -> usize {
        self.promised
    }
}

/// A message, as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) header: Bytes,
    pub(super) body: Bytes,
    pub(super) redelivered: bool,
}

/// Something to publish, to see where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Probe {
    pub(super) exchange: Name,
    pub(super) key: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
}

/// What a restart brings back, as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survivors {
    pub(super) exchanges: BTreeMap<Name, Exchange>,
    pub(super) queues: BTreeMap<Name, (QueueSpec, Vec<Got>)>,
    /// Where messages go that may be published.
    pub(super) routes: BTreeMap<Probe, BTreeSet<Name>>,
    /// How many exchanges and bindings the store holds: one that leads nowhere would not be seen otherwise.
    pub(super) entries: usize,
}

impl Survivors {
    /// What is left of a world. Of messages that were held, and are not any more, there may be too many.
    pub(super) fn of(world: &World, probes: &[Probe]) -> Survivors {
        let left = world.restarted().relieved();
        let routes = probes.iter().filter_map(|probe| {
            let exchange = left.exchanges.get(probe.exchange)?;
            let queues = || left.route(probe.exchange, probe.key, probe.headers);
            (!exchange.internal).then(|| (*probe, queues()))
        });
        let declared = |(name, exchange): (&Name, &Exchange)| {
            let predeclared = PREDECLARED.iter().any(|(other, _)| other == name);
            (!predeclared).then_some((*name, *exchange))
        };
        let exchanges: BTreeMap<_, _> = left.exchanges.iter().filter_map(declared).collect();
        let queues = left.queues.iter().map(|(name, queue)| {
            let got = queue.messages.values().map(|message| Got {
                header: message.header.clone(),
                body: message.body.clone(),
                redelivered: message.redelivered,
            });
            (*name, (queue.spec, got.collect()))
        });
        let entries = exchanges.len() + left.bindings.len();
        Survivors { routes: routes.collect(), queues: queues.collect(), exchanges, entries }
    }
}

/// What a broker did since it was started.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    base: World,
    steps: Vec<Step>,
    promised: usize,
}

impl History {
    /// Begins with what a restart has brought back.
    pub(super) fn new(base: World) -> History {
        History { base, ..History::default() }
    }

    pub(super) fn note(&mut self, step: Step) -> StepNumber {
        self.steps.push(step);
        StepNumber(self.steps.len() - 1)
    }

    /// Somebody was told that this step is safe.
    pub(super) fn promise(&mut self, step: StepNumber) {
        self.promised = self.promised.max(step.0 + 1);
    }

    /// How many effects of each kind there are.
    pub(super) fn tally(&self) -> BTreeMap<&'static str, usize> {
        let mut tally = BTreeMap::new();
        for effect in self.steps.iter().flat_map(|Step(chains)| chains.iter().flatten()) {
            *tally.entry(effect.name()).or_default() += 1;
        }
        tally
    }

    pub(super) fn position(&self) -> Position {
        Position { steps: self.steps.len(), promised: self.promised }
    }
}

/// What is possible at each step of a history.
#[derive(Debug)]
pub(super) struct Oracle {
    /// First before all steps, then for each step what may be left of it; last when it is complete.
    outcomes: Vec<Vec<(World, Survivors)>>,
}

impl Oracle {
    pub(super) fn new(history: &History, probes: &[Probe]) -> Oracle {
        let outcome = |world: World| {
            let survivors = Survivors::of(&world, probes);
            (world, survivors)
        };
        let mut world = history.base.clone();
        let mut outcomes = vec![vec![outcome(world.clone())]];
        for Step(chains) in &history.steps {
            let mut possible = vec![vec![]];
            for chain in chains {
                let lengths = 0..=chain.len();
                let longer = |before: &Vec<usize>| {
                    let before = before.clone();
                    lengths.clone().map(move |length| [&before[..], &[length]].concat())
                };
                possible = possible.iter().flat_map(longer).collect();
            }
            // Nothing of it is what was there before.
            let partial = possible.iter().skip(1).map(|lengths| {
                let mut world = world.clone();
                for (chain, length) in chains.iter().zip(lengths) {
                    chain[..*length].iter().for_each(|effect| world.apply(effect));
                }
                outcome(world)
            });
            let partial: Vec<_> = partial.collect();
            if let Some((complete, _)) = partial.last() {
                world = complete.clone();
            }
            outcomes.push(partial);
        }
        Oracle { outcomes }
    }

    /// What was possible at a moment.
    fn candidates(&self, at: Position) -> impl Iterator<Item = &(World, Survivors)> {
        let begin = self.outcomes[at.promised].last();
        begin.into_iter().chain(self.outcomes[at.promised + 1..=at.steps].iter().flatten())
    }

    /// The world that a restart has left, if it may be so after a power cut at that moment.
    pub(super) fn judge(&self, at: Position, found: &Survivors) -> Result<World, Lie> {
        match self.candidates(at).find(|(_, survivors)| survivors == found) {
            Some((world, _)) => Ok(world.restarted()),
            None => Err(self.explain(at, found)),
        }
    }

    /// Which promises were broken.
    fn explain(&self, at: Position, found: &Survivors) -> Lie {
        let candidates: Vec<&Survivors> = self.candidates(at).map(|(_, found)| found).collect();
        let mut lies = Vec::new();
        explain_named(&mut lies, "exchange", &candidates, found, |all| {
            all.exchanges.iter().map(|(name, what)| (*name, format!("{what:?}"))).collect()
        });
        explain_named(&mut lies, "queue", &candidates, found, |all| {
            all.queues.iter().map(|(name, (spec, _))| (*name, format!("{spec:?}"))).collect()
        });
        for probe in found.routes.keys() {
            let possible = |all: &&Survivors| all.routes.get(probe) == found.routes.get(probe);
            if !candidates.iter().any(possible) {
                let queues = &found.routes[probe];
                lies.push(format!("a message like {probe:?} must not go to {queues:?}"));
            }
        }
        for (name, (_, messages)) in &found.queues {
            explain_messages(&mut lies, name, &candidates, messages);
        }
        if !candidates.iter().any(|all| all.entries == found.entries) {
            lies.push(format!("there must not be {} exchanges and bindings stored", found.entries));
        }
        if lies.is_empty() {
            lies.push(format!("no moment of the history was like this: {found:#?}"));
        }
        Lie { at, lies }
    }
}

fn explain_named(
    lies: &mut Vec<String>,
    what: &str,
    candidates: &[&Survivors],
    found: &Survivors,
    named: impl Fn(&Survivors) -> BTreeMap<Name, String>,
) {
    let (found, candidates): (_, Vec<_>) =
        (named(found), candidates.iter().map(|all| named(all)).collect());
    let names: BTreeSet<Name> = candidates.iter().flat_map(|all| all.keys().copied()).collect();
    for name in names.iter().filter(|name| !found.contains_key(*name)) {
        if candidates.iter().all(|all| all.contains_key(name)) {
            lies.push(format!("{what} {name} is lost"));
        }
    }
    for (name, how) in &found {
        if !candidates.iter().any(|all| all.contains_key(name)) {
            lies.push(format!("{what} {name} must be gone"));
        } else if !candidates.iter().any(|all| all.get(name) == Some(how)) {
            lies.push(format!("{what} {name} was never declared like this: {how}"));
        }
    }
}

fn explain_messages(lies: &mut Vec<String>, name: Name, candidates: &[&Survivors], found: &[Got]) {
    let queues: Vec<Option<&Vec<Got>>> =
        candidates.iter().map(|all| all.queues.get(name).map(|(_, messages)| messages)).collect();
    if queues.contains(&Some(&found.to_vec())) {
        return;
    }
    let same = |one: &Got, other: &Got| one.header == other.header && one.body == other.body;
    let before = lies.len();
    for got in found {
        let twice = found.iter().filter(|other| same(got, other)).count() > 1;
        let known: Vec<&Got> = queues
            .iter()
            .flatten()
            .flat_map(|all| all.iter())
            .filter(|one| same(one, got))
            .collect();
        let text = shown(got);
        if twice {
            lies.push(format!("queue {name} has {text} more than once"));
        } else if known.is_empty() {
            lies.push(format!("queue {name} must not have {text}"));
        } else if !known.iter().any(|one| one.redelivered == got.redelivered) {
            let flag = got.redelivered;
            lies.push(format!("queue {name} has {text} with redelivered={flag}"));
        }
    }
    if let Some(first) = queues.iter().flatten().next() {
        for lost in first.iter().filter(|one| !found.iter().any(|got| same(got, one))) {
            let always = |queue: &Option<&Vec<Got>>| {
                queue.is_some_and(|all| all.iter().any(|one| same(one, lost)))
            };
            if queues.iter().all(always) {
                lies.push(format!("queue {name} has lost {}", shown(lost)));
            }
        }
    }
    if lies.len() == before {
        let all: Vec<_> = found.iter().map(shown).collect();
        lies.push(format!("queue {name} was never like this: {all:?}"));
    }
}

/// The beginning of a message's body, which has its number.
fn shown(got: &Got) -> String {
    String::from_utf8_lossy(&got.body[..got.body.len().min(16)]).into_owned()
}

/// Something that was promised, and is not so.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) struct Lie {
    at: Position,
    lies: Vec<String>,
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { steps, promised } = self.at;
        write!(f, "after {steps} steps, of which {promised} were promised: ")?;
        write!(f, "{}", self.lies.join("; "))
    }
}
