//! Power cuts, on a disk in memory that keeps of the unsynced what it likes.
//!
//! What is modelled: bytes count only once their file was synced, and names (of files and of directories) only once
//! their directory was. A power cut comes with some operation, which fails as all later ones do. Then each unsynced
//! sector of 512 bytes is kept or lost by itself, and so is each unsynced change of a directory. A seed gives
//! everything: a failing one is printed, and run again alone by putting it in place of the range in the test.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use haypile::storage::disk::{Access, DirectoryLock, Disk, DiskFile};
use haypile::storage::inspect::repair;
use haypile::storage::{
    Entropy, Fetch, Fetched, Lsn, OpenError, Options, Persistence, Queue, Sequence, SequenceRange,
    Store,
};
use parking_lot::Mutex;

use crate::support::*;

const SECTOR: usize = 512;

/// Random numbers (SplitMix64), for the disk, the workload and the engine's salts alike.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::SeqCst).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.next() % end
    }
}

impl Entropy for Random {
    fn number(&self) -> u64 {
        self.next()
    }
}

/// A file's bytes, as they are read, and what of them is safe.
#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    unsynced: BTreeSet<usize>,
}

/// An unsynced change of a directory.
#[derive(Debug)]
enum Change {
    Link { path: PathBuf, inode: usize },
    Rename { from: PathBuf, to: PathBuf, inode: usize },
    Unlink { path: PathBuf },
    MakeDir { path: PathBuf },
}

impl Change {
    fn directory(&self) -> Option<&Path> {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } | Change::MakeDir { path } => {
                path.parent()
            }
            Change::Rename { to, .. } => to.parent(),
        }
    }
}

/// The names on the disk.
#[derive(Clone, Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link { path, inode } => {
                self.files.insert(path.clone(), *inode);
            }
            Change::Rename { from, to, inode } => {
                self.files.remove(from);
                self.files.insert(to.clone(), *inode);
            }
            Change::Unlink { path } => {
                self.files.remove(path);
            }
            Change::MakeDir { path } => {
                self.dirs.insert(path.clone());
            }
        }
    }
}

#[derive(Debug)]
struct World {
    random: Random,
    inodes: Vec<Inode>,
    names: Names,
    synced: Names,
    unsynced: Vec<Change>,
    /// Operations that still succeed.
    left: u64,
    off: bool,
}

impl World {
    fn step(&mut self) -> io::Result<()> {
        self.off |= self.left == 0;
        self.left = self.left.saturating_sub(1);
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn change(&mut self, change: Change) {
        self.names.apply(&change);
        self.unsynced.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.names.files.get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The power comes back: what had not been synced is there or not.
    fn restart(&mut self) {
        let odds = [0, 1, 2, 4][self.random.below(4) as usize];
        let kept = |random: &Random| random.below(4) < odds;
        let mut names = std::mem::take(&mut self.synced);
        for change in std::mem::take(&mut self.unsynced) {
            if kept(&self.random) {
                names.apply(&change);
            }
        }
        let reachable = |path: &Path, dirs: &BTreeSet<PathBuf>| {
            path.ancestors().skip(1).all(|dir| dir.parent().is_none() || dirs.contains(dir))
        };
        let dirs = names.dirs.clone();
        names.dirs.retain(|path| reachable(path, &dirs));
        names.files.retain(|path, _| reachable(path, &dirs));
        for inode in &mut self.inodes {
            for sector in std::mem::take(&mut inode.unsynced) {
                let range = sector * SECTOR..inode.bytes.len().min((sector + 1) * SECTOR);
                if kept(&self.random) {
                    inode.synced.resize(inode.synced.len().max(range.end), 0);
                    inode.synced[range.clone()].copy_from_slice(&inode.bytes[range]);
                }
            }
            inode.bytes = inode.synced.clone();
        }
        self.names = names.clone();
        self.synced = names;
        self.off = false;
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk(Arc<Mutex<World>>);

#[derive(Debug)]
struct SimulatedFile(Arc<Mutex<World>>, usize);

#[derive(Debug)]
struct SimulatedLock;

impl DirectoryLock for SimulatedLock {}

impl SimulatedDisk {
    pub(crate) fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk(Arc::new(Mutex::new(World {
            random: Random::new(seed),
            inodes: Vec::new(),
            names: Names::default(),
            synced: Names::default(),
            unsynced: Vec::new(),
            left: u64::MAX,
            off: false,
        })))
    }

    /// The power goes off after so many operations.
    pub(crate) fn cut_after(&self, operations: u64) {
        self.0.lock().left = operations;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// The power comes back, for good.
    pub(crate) fn restart(&self) {
        let mut world = self.0.lock();
        world.left = u64::MAX;
        world.restart();
    }
}

impl Disk for SimulatedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        let mut missing: Vec<_> = path
            .ancestors()
            .filter(|dir| dir.parent().is_some() && !world.names.dirs.contains(*dir))
            .map(Path::to_owned)
            .collect();
        missing.reverse();
        missing.into_iter().for_each(|path| world.change(Change::MakeDir { path }));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.0.lock();
        let all = world.names.files.keys().chain(&world.names.dirs);
        let inside = all.filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.0.lock().find(path)?;
        Ok(Arc::new(SimulatedFile(self.0.clone(), inode)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.0.lock();
        world.step()?;
        if world.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = world.inodes.len();
        world.inodes.push(Inode::default());
        world.change(Change::Link { path: path.to_owned(), inode });
        Ok(Arc::new(SimulatedFile(self.0.clone(), inode)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        let inode = world.find(from)?;
        world.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        world.find(path)?;
        world.change(Change::Unlink { path: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        let (now, later) = std::mem::take(&mut world.unsynced)
            .into_iter()
            .partition(|change| change.directory() == Some(dir));
        world.unsynced = later;
        let now: Vec<Change> = now;
        now.iter().for_each(|change| world.synced.apply(change));
        Ok(())
    }

    fn lock_dir(&self, _dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        Ok(Some(Box::new(SimulatedLock)))
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.0.lock();
        let rest = world.inodes[self.1].bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.0.lock();
        // The write that the power cut comes with may have got anywhere, so it is made all the same.
        let outcome = if world.off { return world.step().map(|()| 0) } else { world.step() };
        let inode = &mut world.inodes[self.1];
        let (start, end) = (offset as usize, offset as usize + buffer.len());
        inode.bytes.resize(inode.bytes.len().max(end), 0);
        inode.bytes[start..end].copy_from_slice(buffer);
        inode.unsynced.extend(start / SECTOR..end.div_ceil(SECTOR));
        outcome.map(|()| buffer.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.0.lock();
        world.step()?;
        let inode = &mut world.inodes[self.1];
        for sector in std::mem::take(&mut inode.unsynced) {
            let range = sector * SECTOR..inode.bytes.len().min((sector + 1) * SECTOR);
            inode.synced.resize(inode.synced.len().max(range.end), 0);
            inode.synced[range.clone()].copy_from_slice(&inode.bytes[range]);
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().inodes[self.1].bytes.len() as u64)
    }
}

/// What is known of the one queue that the workload uses.
#[derive(Debug, Default)]
struct Known {
    /// Messages that were confirmed and of which no acknowledgement was ever appended.
    confirmed: BTreeSet<u64>,
    /// Messages that were appended and may be there.
    possible: BTreeSet<u64>,
    published: u64,
}

impl Known {
    /// Compares with what a restart has brought back, which counts from now on.
    fn check(&mut self, messages: &[Fetched], seed: u64) {
        let found: Vec<u64> = messages.iter().map(number).collect();
        assert!(found.is_sorted(), "seed {seed}: out of order");
        let found: BTreeSet<u64> = found.into_iter().collect();
        let lost: Vec<_> = self.confirmed.difference(&found).collect();
        assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
        let back: Vec<_> = found.difference(&self.possible).collect();
        assert!(back.is_empty(), "seed {seed}: came back {back:?}");
        self.confirmed.clone_from(&found);
        self.possible = found;
    }
}

/// The number that a message was published with.
fn number(fetched: &Fetched) -> u64 {
    body(fetched).trim().parse().unwrap()
}

/// All live messages, or why they cannot be had.
fn try_fetch_all(queue: &Queue) -> Result<Vec<Fetched>, String> {
    let mut all = Vec::new();
    let next = |all: &[Fetched]| all.last().map_or(Sequence::FIRST, |last| last.sequence.next());
    while queue.fetch(next(&all), 1000, &mut all) == Fetch::NeedsLoad {
        queue.load(next(&all)).map_err(|error| error.to_string())?;
    }
    Ok(all)
}

/// One life of the store, until the power goes off (an error that only the disk knows of) or it is dropped.
fn live(options: Options, random: &Random, known: &mut Known, seed: u64) -> Result<(), String> {
    let store = Store::open("/a/b/store", options).map_err(|e: OpenError| e.to_string())?;
    work(&store, 0, random, known, seed)
}

/// The workload, on the queue that this one owns.
fn work(
    store: &Store,
    owner: u8,
    random: &Random,
    known: &mut Known,
    seed: u64,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let queue = match store.queues().into_iter().find(|queue| queue.attributes()[..] == [owner]) {
        Some(queue) => queue,
        None => {
            assert!(known.confirmed.is_empty(), "seed {seed}: the queue is lost");
            let (queue, created) = store.create_queue(&[owner]).map_err(|e| text(&e))?;
            store.wait_durable(created).map_err(|e| text(&e))?;
            queue
        }
    };
    known.check(&try_fetch_all(&queue)?, seed);
    assert_eq!(store.set_aside(), 0, "seed {seed}");
    let mut waiting: Vec<(Lsn, Option<u64>)> = Vec::new();
    let mut gone: Vec<(Lsn, u64)> = Vec::new();
    for _ in 0..random.below(60) {
        match random.below(10) {
            0..5 => {
                let width = if random.below(8) == 0 { random.below(40_000) } else { 600 } as usize;
                let number = known.published;
                known.published += 1;
                known.possible.insert(number);
                let message = message(format!("{number:>width$}"));
                let appended = store
                    .append(&message, Persistence::Durable, &[&queue])
                    .map_err(|e| text(&e))?;
                waiting.push((appended.durable_at.unwrap(), Some(number)));
            }
            5..7 => {
                let all = try_fetch_all(&queue)?;
                let Some(fetched) = all.get(random.below(4) as usize) else { continue };
                let number = number(fetched);
                known.confirmed.remove(&number);
                waiting.iter_mut().filter(|(_, n)| *n == Some(number)).for_each(|w| w.1 = None);
                let range = SequenceRange::one(fetched.sequence);
                let done = queue.acknowledge(&[range]).map_err(|e| text(&e))?;
                gone.push((done.durable_at.unwrap(), number));
            }
            7 => store.checkpoint().map_err(|e| text(&e))?,
            _ => {
                let end = waiting.iter().map(|w| w.0).chain(gone.iter().map(|g| g.0)).max();
                store.wait_durable(end.unwrap_or(Lsn::ZERO)).map_err(|e| text(&e))?;
                known.confirmed.extend(waiting.drain(..).filter_map(|(_, number)| number));
                gone.drain(..).for_each(|(_, number)| {
                    known.possible.remove(&number);
                });
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_a_power_cut_leaves_the_store_opens_with_all_that_was_confirmed() {
    let mut cuts = 0;
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let random = Arc::new(Random::new(!seed));
        let mut known = Known::default();
        for _ in 0..25 {
            let options = Options {
                segment_size: 16 << 10,
                checkpoint_distance: [50 << 10, 200 << 10][random.below(2) as usize],
                disk: Arc::new(disk.clone()),
                entropy: random.clone(),
                ..manual()
            };
            let limit = [15, 60, 200][random.below(3) as usize];
            disk.0.lock().left = random.below(limit);
            if let Err(error) = live(options, &random, &mut known, seed) {
                assert!(disk.0.lock().off, "seed {seed}: {error}");
                cuts += 1;
            }
            disk.0.lock().restart();
        }
    }
    assert!(cuts > SEEDS, "{cuts} power cuts");
}

/// Damages what a file has where these bytes are.
fn damage(disk: &SimulatedDisk, wanted: &[u8]) {
    let mut world = disk.0.lock();
    let found = world.inodes.iter_mut().find_map(|inode| {
        let offset = inode.bytes.windows(wanted.len()).position(|w| w == wanted)?;
        Some((inode, offset))
    });
    let (inode, offset) = found.unwrap();
    inode.bytes[offset] ^= 1;
    inode.synced[offset] ^= 1;
}

#[test]
fn a_repair_that_a_power_cut_ends_leaves_the_damage_or_the_repaired_store() {
    let dir = Path::new("/data");
    for cut in 0.. {
        let disk = SimulatedDisk::new(cut);
        let options = Options {
            segment_size: 16 << 10,
            disk: Arc::new(disk.clone()),
            entropy: Arc::new(Random::new(cut)),
            checkpoint_distance: u64::MAX,
            ..manual()
        };
        let store = Store::open(dir, options.clone()).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        for n in 10..30 {
            confirm(&store, &orders, format!("message {n}"));
            if n == 19 {
                store.checkpoint().unwrap();
            }
        }
        drop((store, orders));
        damage(&disk, b"message 13");
        damage(&disk, b"message 24");
        let expected: Vec<String> =
            (10..30).filter(|n| ![13, 24].contains(n)).map(|n| format!("message {n}")).collect();

        disk.0.lock().left = cut;
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let outcome = repair(&shared, dir, true, |_| {});
        let finished = outcome.is_ok();
        assert!(finished || disk.0.lock().off, "{outcome:?}");
        disk.0.lock().left = u64::MAX;
        disk.0.lock().restart();
        match repair(&shared, dir, true, |_| {}) {
            Ok(again) => assert!(!finished || again.applied.is_none(), "{cut}: {again:?}"),
            Err(error) => panic!("{cut}: {error}"),
        }
        let store = Store::open(dir, options).unwrap_or_else(|error| panic!("{cut}: {error}"));
        assert_eq!(bodies(&queue(&store, "orders")), expected, "{cut}");
        if finished {
            assert!(cut > 20, "{cut} operations");
            return;
        }
    }
}

/// The same with the store's own threads and with three that use it, so that checkpoints, recycling and publishing
/// meet. A seed does not give all of it here.
#[test]
fn whatever_a_power_cut_leaves_of_many_threads_work_the_store_opens_with_all_that_was_confirmed() {
    let mut cuts = 0;
    for seed in 0..THREADED_SEEDS {
        let disk = SimulatedDisk::new(seed);
        let random = Arc::new(Random::new(!seed));
        let mut known = [(); 3].map(|()| Known::default());
        for _ in 0..15 {
            let options = Options {
                segment_size: 16 << 10,
                checkpoint_distance: 40 << 10,
                disk: Arc::new(disk.clone()),
                entropy: random.clone(),
                ..small()
            };
            let limit = [30, 200, 600][random.below(3) as usize];
            disk.0.lock().left = random.below(limit);
            match Store::open("/a/b/store", options) {
                Ok(store) => std::thread::scope(|scope| {
                    for (owner, known) in (0..).zip(&mut known) {
                        let (store, random, disk) = (&store, &random, &disk);
                        scope.spawn(move || {
                            if let Err(error) = work(store, owner, random, known, seed) {
                                assert!(disk.0.lock().off, "seed {seed}: {error}");
                            }
                        });
                    }
                }),
                Err(error) => assert!(disk.0.lock().off, "seed {seed}: {error}"),
            }
            cuts += u64::from(disk.0.lock().off);
            disk.0.lock().restart();
        }
    }
    assert!(cuts > THREADED_SEEDS, "{cuts} power cuts");
}

/// How many runs of 15 lives each.
const THREADED_SEEDS: u64 = 40;

/// How many runs of 25 lives each.
const SEEDS: u64 = 50;
