//! Repair of directories with files that do not belong together: of several times of one store, or
//! of two histories that went on from the same backup.
//!
//! A repaired store holds no message of the other history, and each message that it lacks is told
//! by its place. `HAYPILE_MIXTURE_SEEDS` runs more of the random cases.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use haypile::simulation::{Random, SimulatedDisk};
use haypile::storage::disk::Disk;
use haypile::storage::inspect::{Repair, RepairError, repair, verify};
use haypile::storage::{OpenError, Options, Sequence, SequenceRange, Store};

use crate::support::*;

const DIR: &str = "/store";

/// The pairs of histories that are made without `HAYPILE_MIXTURE_SEEDS`.
const SEEDS: u64 = 1;

/// The mixtures of each of them.
const MIXTURES: u64 = 12;

/// The files of a store, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Messages with their places.
type Messages = BTreeMap<Sequence, String>;

fn disk_of(files: &Files) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for (name, content) in files {
        let file = disk.create(&Path::new(DIR).join(name)).unwrap();
        let mut at = 0;
        while at < content.len() {
            at += file.write_at(&content[at..], at as u64).unwrap();
        }
        file.sync_all().unwrap();
    }
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// The files directly in the directory, without what a repair has put away.
fn files_of(disk: &SimulatedDisk) -> Files {
    let dir = Path::new(DIR);
    let contents = disk.image().contents().into_iter();
    let of_store = contents.filter(|(path, _)| path.parent() == Some(dir));
    of_store
        .map(|(path, content)| (path.file_name().unwrap().to_str().unwrap().to_owned(), content))
        .collect()
}

fn copy_of(disk: &SimulatedDisk) -> SimulatedDisk {
    SimulatedDisk::of(disk.image())
}

fn is_segment(name: &str) -> bool {
    name.ends_with(".segment")
}

/// So little memory that the lists of messages are in the log.
fn open(disk: &SimulatedDisk) -> Result<Store, OpenError> {
    let options = Options {
        segment_size: 64 << 10,
        checkpoint_distance: u64::MAX,
        cache: 4096,
        index: 4096,
        chunk_places: 16,
        disk: disk.shared(),
        ..manual()
    };
    Store::open(Path::new(DIR), options)
}

/// The messages of a store that opens, with their places.
fn by_place(store: &Store) -> Messages {
    fetch_all(&queue(store, "orders")).iter().map(|f| (f.sequence, body(f))).collect()
}

fn live(files: &Files) -> Messages {
    by_place(&open(&disk_of(files)).unwrap())
}

/// How a store is used for a while.
struct Round {
    whose: String,
    messages: usize,
    /// One in so many messages is not acknowledged.
    kept: usize,
    /// A checkpoint and a compaction come after so many messages each.
    compacted: usize,
    /// The store is closed in the end, and not left as a crash does.
    closed: bool,
}

impl Round {
    fn of(whose: impl Into<String>) -> Round {
        Round { whose: whose.into(), messages: 120, kept: 3, compacted: 40, closed: false }
    }

    fn random(whose: &str, random: &Random) -> Round {
        Round {
            whose: format!("{whose} {}", random.next()),
            messages: 20 + random.below(100) as usize,
            kept: 1 + random.below(4) as usize,
            compacted: 20 + random.below(120) as usize,
            closed: random.one_in(2),
        }
    }

    /// Publishes, acknowledges and compacts, and notes every message that was ever in the store.
    fn run(&self, disk: &SimulatedDisk, known: &mut BTreeSet<(Sequence, String)>) {
        let store = open(disk).unwrap();
        let orders = store.queues().into_iter().next();
        let orders = orders.unwrap_or_else(|| store.create_queue(b"orders").unwrap().0);
        for n in 0..self.messages {
            let (place, text) = (orders.next_sequence(), format!("{} {n:>1200}", self.whose));
            known.insert((place, text.clone()));
            confirm(&store, &orders, text);
            if n % self.kept != 0 {
                orders.acknowledge(&[SequenceRange::one(place)]).unwrap();
            }
            if n % self.compacted == self.compacted - 1 {
                store.checkpoint().unwrap();
                store.compact().unwrap();
                store.checkpoint().unwrap();
            }
        }
        if self.closed {
            store.close().unwrap();
        }
    }
}

/// Opens a store. Returns its messages, or why it is refused, which `verify` finds as well.
fn outcome(disk: &SimulatedDisk) -> Result<Messages, String> {
    let whole = verify(&disk.shared(), Path::new(DIR), |_| {}).unwrap().is_whole();
    match open(disk) {
        Ok(store) => Ok(by_place(&store)),
        Err(OpenError::Damaged(damage)) => {
            assert!(!whole, "verify has missed: {damage}");
            Err(damage.to_string())
        }
        Err(error) => panic!("{error}"),
    }
}

/// The places that a repair tells as lost.
fn told_as_lost(repaired: &Repair) -> BTreeSet<Sequence> {
    let holes = repaired.found.holes.iter().flat_map(|hole| &hole.places);
    let places = holes.flat_map(|lost| lost.places.first.get()..=lost.places.last.get());
    let messages = repaired.found.damage.iter().flat_map(|finding| &finding.messages);
    let lost = messages.filter(|message| message.record.is_none()).map(|lost| lost.sequence);
    places.map(Sequence::new).chain(lost).collect()
}

/// Repairs a mixed-up store that is refused, if a checkpoint can be read. The repaired store opens,
/// is whole, stays so when it is compacted, holds no message but those of `known`, and misses none
/// of `expected` but those that the repair tells.
fn check_repair(
    mixed: &SimulatedDisk,
    expected: &Messages,
    known: &BTreeSet<(Sequence, String)>,
    case: &str,
) -> bool {
    let dir = Path::new(DIR);
    let repaired = match repair(&mixed.shared(), dir, true, |_| {}) {
        Ok(repaired) => repaired,
        Err(RepairError::NoCheckpoint(_) | RepairError::Open(OpenError::Damaged(_))) => {
            return false;
        }
        Err(error) => panic!("{case}: {error}"),
    };
    let applied = repaired.applied.as_ref().unwrap();
    assert!(applied.after.is_whole(), "{case}: {:?}", applied.after);
    let told = told_as_lost(&repaired);
    let (found, next) = {
        let store = open(&copy_of(mixed)).unwrap();
        (by_place(&store), queue(&store, "orders").next_sequence())
    };
    for (place, body) in &found {
        assert!(known.contains(&(*place, body.clone())), "{case}: {} in {place}", body.trim());
    }
    let is_put_away = repaired.found.damage.iter().any(|found| found.what.contains("nothing ties"));
    for (place, body) in expected {
        // Nothing is left that says which places were in the end of the log, if a hole has taken
        // it, or if it was in segments that may be of another history.
        let in_lost_end = *place >= next && (is_put_away || !repaired.found.holes.is_empty());
        let kept = found.get(place) == Some(body);
        assert!(
            kept || told.contains(place) || in_lost_end,
            "{case}: {place} is missing and not told"
        );
    }
    let mut store = open(mixed).unwrap_or_else(|error| panic!("{case}: {error}"));
    for _ in 0..2 {
        store.checkpoint().unwrap();
        store.compact().unwrap();
        store.checkpoint().unwrap();
        store.close().unwrap();
        assert!(verify(&mixed.shared(), dir, |_| {}).unwrap().is_whole(), "{case}");
        store = open(mixed).unwrap();
        assert_eq!(by_place(&store), found, "{case}");
    }
    true
}

/// A store at four times, with files of segments recycled in between, and all that was ever in it.
fn at_four_times() -> (Vec<Files>, BTreeSet<(Sequence, String)>) {
    let disk = disk_of(&Files::new());
    let mut known = BTreeSet::new();
    let files_after = |round| {
        Round::of(format!("round {round}")).run(&disk, &mut known);
        files_of(&disk)
    };
    ((0..4).map(files_after).collect(), known)
}

/// A move did not only bring its own message back: messages behind it, whose records were in
/// segments used for something else by now, were neither found nor told. And moves of messages that
/// an earlier move was lost of made lists that need more of segments than they can have, so that
/// the repaired store was refused.
#[test]
fn after_a_repair_of_mixed_up_files_all_that_is_missing_is_told() {
    let (times, known) = at_four_times();
    for (newer, older) in [(3, 0), (3, 1), (3, 2), (2, 0)] {
        let mut mixed = times[newer].clone();
        mixed.insert("superblock".into(), times[older]["superblock"].clone());
        let mixed = disk_of(&mixed);
        let told = outcome(&copy_of(&mixed)).unwrap_err();
        assert!(told.contains("missing") || told.contains("superblock"), "{told}");
        let case = format!("the superblock of time {older} at time {newer}");
        assert!(check_repair(&mixed, &live(&times[newer]), &known, &case), "{case}");
    }
    // A segment that is missing, or from before.
    let expected = live(&times[3]);
    let segments: Vec<&String> = times[3].keys().filter(|name| is_segment(name)).collect();
    for name in [segments[0], segments[segments.len() / 2], segments[segments.len() - 2]] {
        let mut mixed = times[3].clone();
        match times[2].get(name).filter(|other| **other != times[3][name]) {
            Some(other) => mixed.insert(name.clone(), other.clone()),
            None => mixed.remove(name),
        };
        let mixed = disk_of(&mixed);
        match outcome(&copy_of(&mixed)) {
            Ok(found) => assert_eq!(found, expected, "{name}"),
            Err(_) => assert!(check_repair(&mixed, &expected, &known, name), "{name}"),
        }
    }
}

/// Two histories that went on from the same backup.
struct Histories {
    ours: Files,
    theirs: Files,
    expected: Messages,
    /// All that was ever in ours.
    known: BTreeSet<(Sequence, String)>,
}

impl Histories {
    fn random(random: &Random) -> Histories {
        let disk = disk_of(&Files::new());
        let mut known = BTreeSet::new();
        for _ in 0..=random.below(3) {
            Round::random("before", random).run(&disk, &mut known);
        }
        let parallel = copy_of(&disk);
        for _ in 0..=random.below(3) {
            Round::random("ours", random).run(&disk, &mut known);
        }
        for _ in 0..=random.below(3) {
            Round::random("theirs", random).run(&parallel, &mut BTreeSet::new());
        }
        let (ours, theirs) = (files_of(&disk), files_of(&parallel));
        let expected = live(&ours);
        Histories { ours, theirs, expected, known }
    }

    /// Files of theirs that ours has not, or has with other bytes.
    fn foreign(&self) -> Vec<&String> {
        let differs = |name: &&String| self.ours.get(*name) != self.theirs.get(*name);
        self.theirs.keys().filter(|name| is_segment(name)).filter(differs).collect()
    }

    /// Ours with some files of theirs, and maybe without some of its own.
    fn mixture(&self, random: &Random) -> (Files, String) {
        let mut mixed = self.ours.clone();
        let foreign = self.foreign();
        let share = 1 + random.below(3);
        let mut put = Vec::new();
        for name in &foreign {
            if random.below(4) < share {
                mixed.insert((*name).clone(), self.theirs[*name].clone());
                put.push(*name);
            }
        }
        let mut removed = Vec::new();
        if random.one_in(3) {
            removed = self.ours.keys().filter(|n| is_segment(n) && random.one_in(8)).collect();
            mixed.retain(|name, _| !removed.contains(&name));
        }
        (mixed, format!("put {put:?}, removed {removed:?}"))
    }

    /// Checks a mixture: it is refused and repaired, or opens with all of ours and nothing else.
    /// Returns `true` if it was repaired.
    fn check(&self, mixed: &Files, case: &str) -> bool {
        let mixed = disk_of(mixed);
        match outcome(&copy_of(&mixed)) {
            Ok(found) => {
                assert!(found == self.expected, "{case}: {} messages", found.len());
                false
            }
            Err(_) => check_repair(&mixed, &self.expected, &self.known, case),
        }
    }
}

#[test]
fn no_message_of_another_history_stands_in_a_repaired_store() {
    let seeds = std::env::var("HAYPILE_MIXTURE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let (mut cases, mut repaired) = (0, 0);
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let random = Random::new(seed);
        let histories = Histories::random(&random);
        for name in histories.foreign() {
            let mut mixed = histories.ours.clone();
            mixed.insert(name.clone(), histories.theirs[name].clone());
            let case = format!("seed {seed}, {name}");
            repaired += u64::from(histories.check(&mixed, &case));
            cases += 1;
        }
        for number in 0..MIXTURES {
            let (mixed, what) = histories.mixture(&random);
            let case = format!("seed {seed}, mixture {number}: {what}");
            repaired += u64::from(histories.check(&mixed, &case));
            cases += 1;
        }
    }
    eprintln!("{cases} mixtures, {repaired} of them repaired");
    assert!(repaired > 0, "none of {cases} mixtures was repaired");
}
