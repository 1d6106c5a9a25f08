//! Cutting the power: at every change of the disk in a session, in many ways each, and looking at what is left.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use haypile::simulation::{Fate, Image, Random, SimulatedDisk, Verdict};
use haypile::storage::{Background, Options, Timestamp};
use parking_lot::Mutex;

use super::clients::Clients;
use super::model::{Name, World};
use super::observe::{Broken, Universe, observe, start};
use super::oracle::{Lie, Oracle, Position, Probe, Survivors};

/// Where the store is.
pub(super) const DIR: &str = "/store";

/// With so many pending units or fewer, each is dropped alone and kept alone as well.
const FEW: usize = 24;

/// Exchanges that the sessions declare, and those that are always there.
pub(super) const EXCHANGES: [Name; 5] =
    ["ex-direct", "ex-fanout", "ex-topic", "ex-headers", "ex-inner"];

/// Queues that the sessions declare.
pub(super) const QUEUES: [Name; 8] =
    ["q-a", "q-b", "q-c", "q-auto", "q-volatile", "q-exclusive", "q-short", "q-spill"];

const fn probe(exchange: Name, key: &'static str) -> Probe {
    Probe { exchange, key, headers: &[] }
}

const fn with_headers(exchange: Name, headers: &'static [(&'static str, &'static str)]) -> Probe {
    Probe { exchange, key: "", headers }
}

/// What is published to see which bindings there are.
const PROBES: &[Probe] = &[
    probe("amq.direct", "hay"),
    probe("amq.fanout", ""),
    probe("amq.topic", "hay.dry"),
    with_headers("amq.headers", &[("crop", "hay")]),
    probe("ex-direct", "hay"),
    probe("ex-direct", "straw"),
    probe("ex-fanout", ""),
    probe("ex-topic", "hay.dry"),
    probe("ex-topic", "hay.dry.bale"),
    probe("ex-topic", "straw"),
    with_headers("ex-headers", &[("crop", "hay")]),
    with_headers("ex-headers", &[("crop", "hay"), ("state", "dry")]),
    probe("ex-inner", "hay"),
];

/// All that the sessions use.
pub(super) const UNIVERSE: Universe =
    Universe { exchanges: &EXCHANGES, queues: &QUEUES, probes: PROBES };

/// A store with small parts, so that a short session has something of everything.
pub(super) fn options(disk: &SimulatedDisk, seed: u64) -> Options {
    Options {
        segment_size: 16 << 10,
        segments_ahead: 1,
        segments_spare: 1,
        checkpoint_distance: 96 << 10,
        chunk_places: 16,
        background: Background::Caller,
        disk: Arc::new(disk.clone()),
        clock: Arc::new(Timestamp::from_unix_millis(0)),
        entropy: Arc::new(Random::new(seed)),
        ..Options::default()
    }
}

/// A moment at which the power may be cut.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    image: Image,
    at: Position,
}

/// What is kept of a session.
pub(super) struct Recording {
    seed: u64,
    moments: Vec<Moment>,
    pub(super) oracle: Oracle,
    pub(super) numbers: (usize, usize),
    /// What was done, and how often.
    pub(super) tally: BTreeMap<&'static str, usize>,
}

/// A broker's life on a disk, watched.
pub(super) struct Stage {
    seed: u64,
    disk: SimulatedDisk,
    moments: Arc<Mutex<Vec<Moment>>>,
    pub(super) clients: Clients,
}

impl Stage {
    /// Starts a broker on what a power cut has left.
    pub(super) fn open(image: Image, world: World, numbers: (usize, usize), seed: u64) -> Stage {
        Stage::with(SimulatedDisk::of(image), |disk| options(disk, seed), world, numbers, seed)
    }

    /// The same on a certain disk.
    pub(super) fn with(
        disk: SimulatedDisk,
        options: impl FnOnce(&SimulatedDisk) -> Options,
        world: World,
        numbers: (usize, usize),
        seed: u64,
    ) -> Stage {
        let broker = start(DIR, options(&disk)).unwrap();
        let clients = Clients::new(broker, world, numbers);
        let moments = Arc::new(Mutex::new(Vec::new()));
        let (sink, now) = (moments.clone(), clients.now());
        disk.direct(move |operation, image| {
            if operation.is_change() {
                sink.lock().push(Moment { image: image.clone(), at: *now.lock() });
            }
            Verdict::Proceed
        });
        let mut stage = Stage { seed, disk, moments, clients };
        stage.clients.relieve();
        stage
    }

    /// The session is over: the last moment is now.
    pub(super) fn end(self) -> Recording {
        self.disk.undirect();
        let numbers = self.clients.numbers();
        let mut moments = std::mem::take(&mut *self.moments.lock());
        moments.push(Moment { image: self.disk.image(), at: self.clients.history().position() });
        let history = self.clients.leave();
        let (oracle, tally) = (Oracle::new(&history, UNIVERSE.probes), history.tally());
        Recording { seed: self.seed, moments, oracle, numbers, tally }
    }
}

/// What came of one power cut.
pub(super) struct Left {
    pub(super) image: Image,
    pub(super) world: World,
}

/// Why a state is not what it may be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error("{0}")]
    Broken(#[from] Broken),
    #[error("{0}")]
    Lie(#[from] Lie),
    #[error("a second power cut has changed what the first one left")]
    NotTheSame,
}

/// How many states of what kind were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) moments: usize,
    pub(super) states: usize,
    /// Of these, so many after a second power cut while the broker was started.
    pub(super) again: usize,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.moments += other.moments;
        self.states += other.states;
        self.again += other.again;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Count { moments, states, again } = self;
        write!(f, "{states} states of {moments} moments ({again} after a second power cut)")
    }
}

/// How a power cut goes, for each pending unit.
type Fates = Vec<Fate>;

/// The ways to cut the power in a moment: nothing written, everything, beginnings, all but one, one alone, any.
fn ways(moment: &Moment, random: &Random, each: usize) -> Vec<Fates> {
    let pending = moment.image.pending();
    let count = pending.len();
    let by = |kept: &dyn Fn(usize) -> bool| -> Fates {
        (0..count).map(|unit| if kept(unit) { Fate::Kept } else { Fate::Dropped }).collect()
    };
    let mut ways = vec![by(&|_| false)];
    if count == 0 {
        return ways;
    }
    ways.push(by(&|_| true));
    if count <= FEW {
        ways.extend((1..count).map(|end| by(&|unit| unit < end)));
    } else {
        ways.extend(
            (0..each)
                .map(|_| 1 + random.below(count as u64 - 1) as usize)
                .map(|end| by(&|unit| unit < end)),
        );
    }
    if (2..=FEW).contains(&count) {
        ways.extend((0..count).map(|one| by(&|unit| unit != one)));
        ways.extend((0..count).map(|one| by(&|unit| unit == one)));
    }
    for _ in 0..each {
        let kept: Vec<bool> = (0..count).map(|_| random.one_in(2)).collect();
        ways.push(by(&|unit| kept[unit]));
        let mut worse = by(&|unit| kept[unit]);
        for (fate, pending) in worse.iter_mut().zip(pending) {
            if *fate == Fate::Dropped && pending.is_fresh() {
                *fate = match random.below(3) {
                    0 => Fate::Zeroed,
                    1 => Fate::Garbage(random.below(255) as u8 + 1),
                    _ => Fate::Dropped,
                };
            }
        }
        ways.push(worse);
    }
    let mut seen = HashSet::new();
    ways.retain(|fates| seen.insert(fates.clone()));
    ways
}

impl Recording {
    pub(super) fn moments(&self) -> usize {
        self.moments.len()
    }

    /// What is left of a moment, if it may be so.
    pub(super) fn cut(&self, moment: usize, fates: &[Fate]) -> Result<Left, Wrong> {
        self.left(moment, self.moments[moment].image.after_power_cut(|unit, _| fates[unit]))
    }

    fn left(&self, moment: usize, image: Image) -> Result<Left, Wrong> {
        let found = look(&SimulatedDisk::of(image.clone()), self.seed)?;
        let world = self.oracle.judge(self.moments[moment].at, &found)?;
        Ok(Left { image, world })
    }

    /// The ways in which the power is cut in a moment.
    pub(super) fn ways(&self, moment: usize, random: &Random, each: usize) -> Vec<Fates> {
        ways(&self.moments[moment], random, each)
    }

    /// Cuts the power in every moment, in many ways; `again` says in which of so many the power goes off a second time, while
    /// the broker is started. The first state that may not be is an error that says how to have it again.
    ///
    /// The same disk with the same promises is one state: what may be left of it only grows with what is done.
    pub(super) fn cut_everywhere(&self, each: usize, again: u64) -> Result<Count, String> {
        let random = Random::new(self.seed);
        let mut count = Count { moments: self.moments(), ..Count::default() };
        let mut seen = HashSet::new();
        for moment in 0..self.moments() {
            for fates in self.ways(moment, &random, each) {
                let failed = |wrong: Wrong| {
                    let seed = self.seed;
                    format!("seed {seed}, moment {moment}, {}: {wrong}", shown(&fates))
                };
                let Moment { image, at } = &self.moments[moment];
                let image = image.after_power_cut(|unit, _| fates[unit]);
                if !seen.insert((image.digest(), at.promised())) {
                    continue;
                }
                let left = self.left(moment, image).map_err(failed)?;
                count.states += 1;
                if random.one_in(again) {
                    let states = self.cut_again(moment, &left, &random).map_err(failed)?;
                    count.states += states;
                    count.again += states;
                }
            }
        }
        Ok(count)
    }

    /// Cuts the power again at every change of the disk while the broker is started.
    fn cut_again(&self, moment: usize, left: &Left, random: &Random) -> Result<usize, Wrong> {
        let disk = SimulatedDisk::of(left.image.clone());
        let moments = Arc::new(Mutex::new(Vec::new()));
        let sink = moments.clone();
        disk.direct(move |operation, image| {
            if operation.is_change() {
                sink.lock().push(image.clone());
            }
            Verdict::Proceed
        });
        let first = look_while_starting(&disk, self.seed)?;
        let at = self.moments[moment].at;
        let mut states = 0;
        let mut seen = HashSet::from([left.image.digest()]);
        for image in std::mem::take(&mut *moments.lock()) {
            for way in 0..3 {
                let image = image.after_power_cut(|_, _| match way {
                    0 => Fate::Dropped,
                    1 => Fate::Kept,
                    _ if random.one_in(2) => Fate::Kept,
                    _ => Fate::Dropped,
                });
                if seen.insert(image.digest()) {
                    self.oracle.judge(at, &look(&SimulatedDisk::of(image), self.seed)?)?;
                    states += 1;
                }
            }
        }
        // Whoever has seen a message must be able to rely on it.
        let after = disk.image().after_power_cut(|_, _| Fate::Dropped);
        if look(&SimulatedDisk::of(after), self.seed)? != first {
            return Err(Wrong::NotTheSame);
        }
        Ok(states + 1)
    }
}

/// For the tests of the oracle: a state that is not what a power cut has left.
impl Recording {
    /// The disk as it was at the end of the session.
    pub(super) fn last_image(&self) -> Image {
        self.moments[self.moments() - 1].image.clone()
    }

    /// Judges a disk by what is known at the end of the session.
    pub(super) fn judge_last(&self, image: Image) -> Result<(), Wrong> {
        let at = self.moments[self.moments() - 1].at;
        self.oracle.judge(at, &look(&SimulatedDisk::of(image), self.seed)?)?;
        Ok(())
    }
}

/// What a broker has that is started on this disk.
fn look(disk: &SimulatedDisk, seed: u64) -> Result<Survivors, Broken> {
    observe(&start(DIR, options(disk, seed))?, &UNIVERSE)
}

/// The same; the director of the disk sees no more than the start.
fn look_while_starting(disk: &SimulatedDisk, seed: u64) -> Result<Survivors, Broken> {
    let broker = start(DIR, options(disk, seed))?;
    disk.undirect();
    observe(&broker, &UNIVERSE)
}

/// Fates in a line: the number of units with each, in order.
fn shown(fates: &[Fate]) -> String {
    let letter = |fate: &Fate| match fate {
        Fate::Kept => 'k',
        Fate::Dropped => 'd',
        Fate::Zeroed => 'z',
        Fate::Garbage(_) => 'g',
    };
    let runs = fates.chunk_by(|one, other| letter(one) == letter(other));
    let runs: Vec<_> = runs.map(|run| format!("{}{}", run.len(), letter(&run[0]))).collect();
    format!("units {}", runs.join(" "))
}
