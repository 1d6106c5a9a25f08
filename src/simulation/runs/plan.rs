//! What a run is to do: a list of actions that a seed gives, each of which makes sense wherever it stands.

use std::fmt;

use crate::simulation::random::Random;

/// The size of the segments of all runs, in bytes: the smallest there is.
pub const SEGMENT: u64 = 16 << 10;

/// A run, complete: the same plan is the same run, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it was made of; the engine's salts are as well.
    pub seed: u64,
    /// The store's options.
    pub setup: Setup,
    /// What is done, in order.
    pub actions: Vec<Action>,
}

/// The options that differ from run to run; see [`Options`](crate::storage::Options).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of the engine's options")]
pub struct Setup {
    pub segments_ahead: usize,
    pub segments_spare: usize,
    pub cache: u64,
    pub index: u64,
    pub checkpoint_distance: u64,
}

/// Something that is done to a store. Numbers choose among what there is when it is done; one that finds nothing to act on does
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Creates a queue, if there are not too many.
    CreateQueue,
    /// All at once: sets an entry, removes another, deletes a queue.
    Change {
        /// The entry to be set, and the size of its value.
        put: Option<(u8, u16)>,
        /// The entry to be removed.
        remove: Option<u8>,
        /// The queue to be deleted.
        delete: Option<u8>,
    },
    /// Publishes messages, each to some of the queues.
    Publish {
        /// A bit for each queue, the last one for one that is volatile; where no bit has a queue, it is one of them.
        queues: u8,
        /// The size of a body in bytes.
        bytes: u32,
        /// How many messages.
        times: u8,
        /// They are to survive a restart.
        durable: bool,
    },
    /// Takes messages of a queue out to be delivered: reads them, compares them, and notes that they were handed out.
    HandOut {
        /// Which queue.
        queue: u8,
        /// So many messages from its front on are passed over.
        skip: u8,
        /// How many.
        count: u8,
    },
    /// Acknowledges every `step`th message.
    Acknowledge {
        /// Which queue.
        queue: u8,
        /// So many messages from its front on are passed over.
        skip: u8,
        /// How many.
        count: u8,
        /// 1: one after the other.
        step: u8,
    },
    /// All at once: acknowledges messages, and publishes others.
    Replace {
        /// The queue whose messages go.
        queue: u8,
        /// So many messages from its front on are passed over.
        skip: u8,
        /// How many.
        count: u8,
        /// The queues that get each of the others, as for [`Action::Publish`].
        queues: u8,
        /// The size of a body in bytes.
        bytes: u32,
        /// How many messages.
        times: u8,
        /// They are to survive a restart.
        durable: bool,
    },
    /// Acknowledges all that is in a queue.
    Purge {
        /// Which queue.
        queue: u8,
    },
    /// Waits until everything is durable.
    Confirm,
    /// Writes a checkpoint.
    Checkpoint,
    /// Compacts.
    Compact,
    /// Reads and compares everything.
    Check,
    /// The disk has room for so many further segments only.
    Fill {
        /// How many.
        segments: u8,
    },
    /// The disk has room again.
    Room,
    /// Ends the store's life.
    Stop(Stop),
    /// Something goes wrong while the store is in use.
    Strike(Fault),
    /// Tries to open the store that was stopped while something goes wrong.
    OpenAmid(Fault),
    /// The store that is stopped, or a copy of the one in use, is looked at, opened and read with a damaged place.
    Probe(Rot),
    /// A place is damaged under the store in use. Before the next open it is whole again.
    Damage(Rot),
}

/// How a store's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is closed.
    Close,
    /// Its process ends; what it wrote can be read, synced or not.
    Process,
    /// The power goes off, and this seed says what becomes of the unsynced.
    PowerCut {
        /// See [`fates`](super::fates).
        fate: u64,
    },
}

/// What goes wrong with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// So many operations that it could hit go well before.
    pub after: u16,
    /// What becomes of the unsynced, if a power cut comes of it; and whether one does.
    pub fate: u64,
}

/// The kinds of what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A sync of a file fails.
    FileSync,
    /// A sync of a directory fails.
    DirectorySync,
    /// A write fails, half-way.
    Write,
    /// Reads fail, so many of them.
    Read(u8),
    /// A read gives a bit the wrong way round.
    Flip(u16),
    /// Some transfers move so many bytes only.
    Short(u16),
    /// Some transfers are interrupted before they begin.
    Interrupt,
    /// The power goes off.
    PowerCut,
}

/// A place that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rot {
    /// Chooses a sector among those that are not all zeros.
    pub sector: u32,
    /// What happens to it.
    pub kind: RotKind,
}

/// How a sector is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotKind {
    /// A bit of it.
    Bit(u16),
    /// It is zeros.
    Zeros,
    /// It is something else.
    Garbage,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let random = Random::new(seed);
        let pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
        let setup = Setup {
            segments_ahead: pick(&[1, 2, 4, 4]) as usize,
            segments_spare: random.below(3) as usize,
            cache: pick(&[0, 8 << 10, 64 << 20]),
            index: pick(&[0, 2 << 10, 16 << 20]),
            checkpoint_distance: pick(&[2 * SEGMENT, 8 * SEGMENT, u64::MAX]),
        };
        // One run is all about what goes wrong, another hardly.
        let calm = pick(&[1, 3, 12]);
        let count = 6 + random.below(pick(&[20, 40, 40, 160]));
        let mut actions = vec![Action::CreateQueue; 1 + random.below(3) as usize];
        // What an even seed gives is not to change: some of them are told of by tests.
        let replaces = seed % 2 == 1;
        actions.extend((0..count).map(|_| Action::of(&random, calm, replaces)));
        Plan { seed, setup, actions }
    }
}

impl Action {
    fn of(random: &Random, calm: u64, replaces: bool) -> Action {
        let byte = || random.next() as u8;
        if random.below(8 * calm) < 4 {
            return Action::trouble(random);
        }
        match random.below(if replaces { 33 } else { 30 }) {
            0 => Action::CreateQueue,
            1..=2 => Action::Change {
                put: random.one_in(2).then(|| (byte() % 8, (random.next() % 300) as u16)),
                remove: random.one_in(2).then(|| byte() % 8),
                delete: random.one_in(4).then(byte),
            },
            3..=8 => Action::Publish {
                queues: byte(),
                bytes: size(random),
                times: 1,
                durable: !random.one_in(5),
            },
            9..=11 => Action::Publish {
                queues: byte() & byte(),
                bytes: random.below(60) as u32,
                times: byte() % 64,
                durable: !random.one_in(8),
            },
            12..=15 => {
                Action::HandOut { queue: byte(), skip: byte() & (byte() % 40), count: byte() % 12 }
            }
            16..=20 => Action::Acknowledge {
                queue: byte(),
                skip: if random.one_in(2) { 0 } else { byte() % 40 },
                count: byte() % 24,
                step: 1 + (byte() % 3) * (byte() % 2),
            },
            21 => Action::Purge { queue: byte() },
            22..=25 => Action::Confirm,
            26..=27 => Action::Checkpoint,
            28 => Action::Compact,
            30..=32 => {
                // One may be larger than a segment; several have to fit.
                let times = byte() % 5;
                let bytes = if times == 1 { size(random) } else { random.below(2000) as u32 };
                Action::Replace {
                    queue: byte(),
                    skip: if random.one_in(2) { 0 } else { byte() % 40 },
                    count: byte() % 12,
                    queues: byte() & byte(),
                    bytes,
                    times,
                    durable: !random.one_in(8),
                }
            }
            _ => Action::Check,
        }
    }

    fn trouble(random: &Random) -> Action {
        match random.below(16) {
            0 => Action::Stop(Stop::Close),
            1..=2 => Action::Stop(Stop::Process),
            3..=4 => Action::Stop(Stop::PowerCut { fate: random.next() }),
            5..=8 => Action::Strike(Fault::of(random, random.below(12) as u16)),
            9..=11 => {
                Action::OpenAmid(Fault::of(random, (random.below(40) & random.next()) as u16))
            }
            12 => Action::Probe(Rot::of(random)),
            13 => Action::Damage(Rot::of(random)),
            14 => Action::Fill { segments: random.below(4) as u8 },
            _ => Action::Room,
        }
    }
}

fn size(random: &Random) -> u32 {
    let size = match random.below(12) {
        0 => 0,
        1..=4 => random.below(100),
        5..=7 => random.below(1500),
        8..=9 => 3900 + random.below(300),
        10 => SEGMENT - 4300 + random.below(400),
        _ => SEGMENT - 200 + random.below(2 * SEGMENT),
    };
    size as u32
}

impl Fault {
    /// How the life ends in which it has struck: the process is started again on what the system shows, which need not be what
    /// the disk has; or the power goes off.
    pub(super) fn aftermath(self) -> Stop {
        if self.fate & 2 == 0 { Stop::Process } else { Stop::PowerCut { fate: self.fate } }
    }

    fn of(random: &Random, after: u16) -> Fault {
        let kind = match random.below(12) {
            0..=1 => FaultKind::FileSync,
            2 => FaultKind::DirectorySync,
            3 => FaultKind::Write,
            4..=5 => FaultKind::Read(1 + random.below(3) as u8),
            6 => FaultKind::Flip(random.next() as u16),
            7 => FaultKind::Short(1 + random.below(5000) as u16),
            8 => FaultKind::Interrupt,
            _ => FaultKind::PowerCut,
        };
        Fault { kind, after, fate: random.next() }
    }
}

impl Rot {
    fn of(random: &Random) -> Rot {
        let kind = match random.below(4) {
            0 => RotKind::Zeros,
            1 => RotKind::Garbage,
            _ => RotKind::Bit(random.below(4096) as u16),
        };
        Rot { sector: random.next() as u32, kind }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { segments_ahead, segments_spare, cache, index, checkpoint_distance } =
            self.setup;
        writeln!(
            f,
            "seed {}: {segments_ahead} segments ahead, {segments_spare} spare, {cache} bytes of cache, {index} of index, \
             checkpoints every {checkpoint_distance} bytes",
            self.seed
        )?;
        for (number, action) in self.actions.iter().enumerate() {
            writeln!(f, "  {:>3}. {action}", number + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::CreateQueue => write!(f, "create a queue"),
            Action::Change { put, remove, delete } => {
                write!(f, "all at once:")?;
                if let Some((key, bytes)) = put {
                    write!(f, " set entry {key} to {bytes} bytes;")?;
                }
                if let Some(key) = remove {
                    write!(f, " remove entry {key};")?;
                }
                match delete {
                    Some(queue) => write!(f, " delete queue {queue}"),
                    None => write!(f, " delete no queue"),
                }
            }
            Action::Publish { queues, bytes, times, durable } => {
                let kind = if *durable { "durable" } else { "transient" };
                write!(
                    f,
                    "publish {times} {kind} messages of {bytes} bytes to queues {queues:#010b}"
                )
            }
            Action::HandOut { queue, skip, count } => {
                write!(f, "hand out {count} messages of queue {queue}, behind {skip}")
            }
            Action::Acknowledge { queue, skip, count, step } => {
                write!(
                    f,
                    "acknowledge {count} messages of queue {queue}, behind {skip}, each {step}."
                )
            }
            Action::Replace { queue, skip, count, queues, bytes, times, durable } => {
                let kind = if *durable { "durable" } else { "transient" };
                write!(
                    f,
                    "all at once: acknowledge {count} messages of queue {queue}, behind {skip}; publish {times} {kind} \
                     messages of {bytes} bytes to queues {queues:#010b}"
                )
            }
            Action::Purge { queue } => write!(f, "acknowledge everything in queue {queue}"),
            Action::Confirm => write!(f, "wait until everything is durable"),
            Action::Checkpoint => write!(f, "write a checkpoint"),
            Action::Compact => write!(f, "compact"),
            Action::Check => write!(f, "read and compare everything"),
            Action::Fill { segments } => {
                write!(f, "fill the disk up, but for {segments} segments")
            }
            Action::Room => write!(f, "make room on the disk"),
            Action::Stop(Stop::Close) => write!(f, "close the store"),
            Action::Stop(Stop::Process) => write!(f, "end the process"),
            Action::Stop(Stop::PowerCut { fate }) => write!(f, "cut the power (fate {fate:#x})"),
            Action::Strike(fault) => write!(f, "from now on: {fault}"),
            Action::OpenAmid(fault) => write!(f, "open the store, and {fault}"),
            Action::Probe(rot) => write!(f, "look at a copy of which {rot}"),
            Action::Damage(rot) => write!(f, "damage the disk: {rot}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kind, after, fate } = self;
        match kind {
            FaultKind::FileSync => write!(f, "the sync of a file fails")?,
            FaultKind::DirectorySync => write!(f, "the sync of a directory fails")?,
            FaultKind::Write => write!(f, "a write fails half-way")?,
            FaultKind::Read(times) => write!(f, "{times} reads fail")?,
            FaultKind::Flip(bit) => write!(f, "a read has bit {bit} wrong")?,
            FaultKind::Short(bytes) => write!(f, "transfers stop after {bytes} bytes")?,
            FaultKind::Interrupt => write!(f, "transfers are interrupted")?,
            FaultKind::PowerCut => write!(f, "the power goes off (fate {fate:#x})")?,
        }
        write!(f, ", after {after} that go well")
    }
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RotKind::Bit(bit) => write!(f, "bit {bit} of sector {} is wrong", self.sector),
            RotKind::Zeros => write!(f, "sector {} is zeros", self.sector),
            RotKind::Garbage => write!(f, "sector {} is garbage", self.sector),
        }
    }
}
