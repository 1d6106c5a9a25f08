//! Segments made ready ahead of need, out of dead ones where there are any.

mod making;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::making::Trouble;
use super::Segment;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering, Slip, breaks};
use crate::storage::units::{Lsn, SegmentId, SegmentTag};

/// How long to wait before a full disk is asked again.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// What a pool needs to know of its store.
#[derive(Debug)]
pub(crate) struct PoolConfig {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) segment_size: u64,
    /// How many dead files are kept for recycling.
    pub(crate) spare: usize,
    pub(crate) register: Arc<dyn Register>,
}

/// The durable list of the segments that the log may go on in: the store's superblock.
pub(crate) trait Register: Send + Sync + std::fmt::Debug {
    /// Adds segments whose files are ready, removes those that are given up, and notes the newest segment that the log has
    /// reached and how far it is durable. Durable on return, with one update for all of it. Returns the number of segments
    /// that it has added: fewer than all, the first ones, if the list has no room for more.
    ///
    /// # Errors
    /// It is not known what a restart will find: the log must not go on.
    fn note(
        &self,
        ready: &[SegmentTag],
        dropped: &[SegmentTag],
        reached: Option<(SegmentTag, Lsn)>,
    ) -> io::Result<usize>;
}

/// The file of a segment that nothing needs any more.
#[derive(Debug)]
pub(crate) struct FreeFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// What [`SegmentPool::prepare_next`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// A file was made, or the register names one that was made before.
    One,
    /// No segment was wanted.
    Nothing,
    /// There was no room for it, and nothing that could be recycled.
    NoRoom,
    /// The register has no room for another one, until the log has reached a further segment.
    Crowded,
}

/// How a pool stands, for an inspection.
#[derive(Debug)]
pub(crate) struct PoolOutlook {
    /// Segments that are not ready yet.
    pub(crate) wanted: u64,
    /// Files to be recycled.
    pub(crate) free: Vec<PathBuf>,
}

/// Told that the disk became full, or has room again.
struct RoomCallback(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for RoomCallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoomCallback")
    }
}

/// Makes segment files ready. Preparing one leaves it durable in every respect: header, zeros (or the stale bytes of
/// an earlier life, which the new salt makes invalid) and directory entry; so rolling over costs nothing.
#[derive(Debug)]
pub(crate) struct SegmentPool {
    config: PoolConfig,
    state: Mutex<PoolState>,
    /// There is something to prepare, or it is time to stop.
    work: Condvar,
    /// Something was made ready, or preparing failed.
    ready: Condvar,
    /// The segment that has been wanted for longest found no room; cleared when none is wanted any more.
    full: AtomicBool,
    /// Other space than that of segments is short: nothing dead is kept.
    low: AtomicBool,
    room_callbacks: Mutex<Vec<RoomCallback>>,
}

#[derive(Debug, Default)]
struct PoolState {
    wanted: VecDeque<Arc<Segment>>,
    preparing: Option<SegmentId>,
    /// Segments whose files are made, and that a thread has the register name now: one thread at a time does so.
    naming: Vec<SegmentId>,
    /// Decided on, and then not needed after all.
    abandoned: BTreeSet<SegmentId>,
    free: Vec<FreeFile>,
    /// Files of segments that were decided on and are not needed after all. The register still names them, so that they must
    /// keep their names.
    given_up: Vec<(SegmentTag, FreeFile)>,
    /// The newest segment with something durable in it, and where that ended then.
    reached: Option<(SegmentTag, Lsn)>,
    /// The register had no room for a further segment.
    crowded: bool,
    /// Segments that the register does not name yet, because more of them are being made or it had no room, with their files,
    /// which have their names already. Invariant: no file in `free` has the name of a segment that is still to be made.
    held: VecDeque<(Arc<Segment>, Arc<dyn DiskFile>)>,
    /// Files of several slots that were [reserved](SegmentPool::reserve_large), with their slots.
    large: Vec<(u32, FreeFile)>,
    /// How many of these there have been.
    reserved: u64,
    failure: Option<Arc<str>>,
    /// A file came back since preparing last failed for lack of room.
    recycled: bool,
    /// Nobody has the patience to wait for room.
    closing: bool,
    stopping: bool,
}

impl SegmentPool {
    pub(crate) fn new(config: PoolConfig, free: Vec<FreeFile>) -> SegmentPool {
        let state = PoolState { free, ..PoolState::default() };
        SegmentPool {
            config,
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
            full: AtomicBool::new(false),
            low: AtomicBool::new(false),
            room_callbacks: Mutex::default(),
        }
    }

    /// Whether there is no room for all the segments that are wanted.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Says whether space is short for others than this store: dead files are removed at once then.
    pub(crate) fn set_low(&self, low: bool) -> io::Result<()> {
        self.low.store(low, Ordering::Release);
        if low { self.remove_spares() } else { Ok(()) }
    }

    pub(crate) fn is_low(&self) -> bool {
        self.low.load(Ordering::Acquire)
    }

    /// The number of dead files that are ready to be used again.
    pub(crate) fn spares(&self) -> usize {
        self.state.lock().free.len()
    }

    pub(crate) fn outlook(&self) -> PoolOutlook {
        let state = self.state.lock();
        let in_work = usize::from(state.preparing.is_some()) + state.naming.len();
        PoolOutlook {
            wanted: (state.wanted.len() + state.held.len() + in_work) as u64,
            free: {
                let given_up = state.given_up.iter().map(|(_, file)| file);
                state.free.iter().chain(given_up).map(|free| free.path.clone()).collect()
            },
        }
    }

    /// Has `callback` called, with nothing locked, whenever [`is_full`](Self::is_full) has changed.
    pub(crate) fn on_room_change(&self, callback: Arc<dyn Fn() + Send + Sync>) {
        self.room_callbacks.lock().push(RoomCallback(callback));
    }

    /// Notes whether there is room. This changes under the lock under which segments are wanted, so that it is never older than
    /// what it follows from; the callbacks are called behind it.
    fn set_full(&self, full: bool, state: MutexGuard<'_, PoolState>) {
        let before = self.full.swap(full, Ordering::AcqRel);
        drop(state);
        if before == full {
            return;
        }
        if full {
            tracing::error!(
                directory = %self.config.dir.display(),
                bytes = self.config.segment_size,
                "the disk is full: publishers are held back until some space is freed, or consumers have taken \
                 messages away; everything goes on by itself then"
            );
        } else {
            tracing::info!(directory = %self.config.dir.display(), "the disk has room again");
        }
        let callbacks: Vec<_> =
            self.room_callbacks.lock().iter().map(|callback| callback.0.clone()).collect();
        callbacks.iter().for_each(|callback| callback());
    }

    /// Asks for a segment's file.
    pub(crate) fn want(&self, segment: Arc<Segment>) {
        self.state.lock().wanted.push_back(segment);
        self.work.notify_one();
    }

    /// Takes back a [`want`](Self::want): the log passed over this number.
    pub(crate) fn abandon(&self, segment: &Segment) {
        let mut state = self.state.lock();
        state.wanted.retain(|wanted| wanted.id() != segment.id());
        if let Some(file) = segment.file() {
            let free = FreeFile { path: segment.path.clone(), file: file.clone() };
            state.given_up.push((segment.tag(), free));
        } else if let Some(place) =
            state.held.iter().position(|(held, _)| held.id() == segment.id())
        {
            if let Some((held, file)) = state.held.remove(place) {
                state.free.push(FreeFile { path: held.path.clone(), file });
            }
        } else if state.is_in_work(segment.id()) {
            state.abandoned.insert(segment.id());
        }
        state.crowded = false;
        self.work.notify_one();
        self.ready.notify_all();
    }

    /// The log has come to a further segment, and is durable up to there.
    pub(crate) fn reached(&self, segment: SegmentTag, durable: Lsn) {
        let mut state = self.state.lock();
        state.reached = Some((segment, durable));
        if std::mem::take(&mut state.crowded) {
            self.work.notify_one();
        }
    }

    /// The same, and the register says so on return.
    pub(crate) fn note_reached(&self, segment: SegmentTag, durable: Lsn) -> Result<(), Arc<str>> {
        self.reached(segment, durable);
        self.note(&[], &[], Some((segment, durable))).map(drop)
    }

    /// Has the register forget the segments that were given up. Their files may have other names then.
    pub(crate) fn release_given_up(&self) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        if state.given_up.is_empty() {
            return Ok(());
        }
        let (tags, files): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.given_up).into_iter().unzip();
        let reached = state.reached;
        drop(state);
        self.note(&[], &tags, reached)?;
        self.state.lock().free.extend(files);
        Ok(())
    }

    /// An error is final, as that of a sync is.
    fn note(
        &self,
        ready: &[SegmentTag],
        dropped: &[SegmentTag],
        reached: Option<(SegmentTag, Lsn)>,
    ) -> Result<usize, Arc<str>> {
        self.config.register.note(ready, dropped, reached).map_err(|error| {
            let failure: Arc<str> = format!("cannot write the superblock: {error}").into();
            self.state.lock().failure = Some(failure.clone());
            self.ready.notify_all();
            failure
        })
    }

    /// Waits until these segments have their files, or will not get them: because the disk is full, making one failed, they
    /// were given up, or the store is being closed.
    pub(crate) fn wait_for_answer(&self, segments: &[Arc<Segment>]) {
        let mut state = self.state.lock();
        loop {
            let missing = segments.iter().filter(|segment| segment.file().is_none());
            let (mut held, mut coming) = (false, false);
            for id in missing.map(|segment| segment.id()) {
                held |= state.is_held(id);
                coming |= state.is_in_work(id) && !state.abandoned.contains(&id);
                coming |= state.wanted.iter().any(|wanted| wanted.id() == id);
            }
            let over = state.closing || state.stopping || state.crowded || state.failure.is_some();
            if !(held || coming) || over || self.is_full() {
                return;
            }
            if coming {
                self.ready.wait(&mut state);
                continue;
            }
            // The thread that makes files may be at others, which this does not wait for.
            drop(state);
            if self.name_held().is_err() {
                return;
            }
            state = self.state.lock();
        }
    }

    /// Waits for the file of a segment that was asked for; on a full disk until there is room, unless the store is being
    /// [closed](Self::close).
    pub(crate) fn wait_ready(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>, Arc<str>> {
        if let Some(file) = segment.file() {
            return Ok(file.clone());
        }
        let mut state = self.state.lock();
        loop {
            if let Some(file) = segment.file() {
                return Ok(file.clone());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.stopping {
                return Err("the store is closing".into());
            }
            if state.is_held(segment.id()) && !state.crowded {
                // The thread that makes files may be at others, which this does not wait for.
                drop(state);
                self.name_held()?;
                state = self.state.lock();
                continue;
            }
            if state.closing && state.preparing.is_none() && self.is_full() {
                let path = segment.path.display();
                return Err(
                    format!("no room for {path}: the store is closed on a full disk").into()
                );
            }
            self.ready.wait(&mut state);
        }
    }

    /// Takes a dead file for recycling, or removes it where there are enough of them.
    pub(crate) fn recycle(&self, file: FreeFile) -> io::Result<()> {
        let mut state = self.state.lock();
        let whole = file.file.size()? == self.config.segment_size;
        let spare = if self.is_low() { 0 } else { self.config.spare };
        let recycled = whole && state.free.len() < spare + state.wanted.len();
        if recycled {
            state.free.push(file);
        } else {
            drop(state);
            self.config.disk.remove(&file.path)?;
            state = self.state.lock();
        }
        // Either way there is room now.
        state.recycled = true;
        if !breaks(Slip::RecycledUntold) {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Removes the spare files, of a store that is not in use.
    pub(crate) fn remove_spares(&self) -> io::Result<()> {
        let spares = {
            let mut state = self.state.lock();
            let large = std::mem::take(&mut state.large);
            let free = std::mem::take(&mut state.free);
            free.into_iter().chain(large.into_iter().map(|(_, file)| file)).collect::<Vec<_>>()
        };
        spares.iter().try_for_each(|spare| self.config.disk.remove(&spare.path))
    }

    /// Prepares segments until [`stop`](Self::stop); the body of a thread. A full disk is asked again each second, and
    /// whenever a file comes back. Any other error is returned, after it has been told to everybody who waits.
    ///
    /// Of several segments the register names the first as soon as its file is made, because the log needs that one next, and
    /// then all others with one update. A log that needs one of those earlier [does not wait](Self::wait_ready) for the rest.
    pub(crate) fn run(&self) -> Result<(), Arc<str>> {
        let mut is_first = true;
        loop {
            let mut state = self.state.lock();
            while (state.wanted.is_empty() && state.held.is_empty() || state.crowded)
                && !state.stopping
            {
                is_first = true;
                self.work.wait(&mut state);
            }
            if state.stopping {
                return Ok(());
            }
            let is_named_now = is_first || state.wanted.is_empty();
            drop(state);
            let prepared = if is_named_now { self.prepare_next()? } else { self.make_next()? };
            is_first = prepared == Prepared::NoRoom;
            if is_first {
                let mut state = self.state.lock();
                if !state.recycled && !state.stopping {
                    self.work.wait_for(&mut state, FULL_DISK_RETRY);
                }
            }
        }
    }

    /// Prepares all segments that are wanted, as far as there is room, and has the register name all of them with one update.
    pub(crate) fn prepare_wanted(&self) -> Result<(), Arc<str>> {
        while self.make_next()? == Prepared::One {}
        while self.name_held()? == Prepared::One {}
        Ok(())
    }

    /// Prepares the segment that has been wanted for longest, if any.
    ///
    /// Its file can be had when it is in its place, and the register names it: so the log never goes on in a segment that
    /// nobody would miss.
    pub(crate) fn prepare_next(&self) -> Result<Prepared, Arc<str>> {
        match self.name_held()? {
            Prepared::Nothing => {}
            named => return Ok(named),
        }
        match self.make_next()? {
            Prepared::One => self.name_held(),
            other => Ok(other),
        }
    }

    /// Makes the file of the segment that has been wanted for longest, if any. The register does not name it before
    /// [`name_held`](Self::name_held).
    pub(crate) fn make_next(&self) -> Result<Prepared, Arc<str>> {
        self.make_one(false)
    }

    /// The same with a new file where there are dead ones too: to know whether the disk has room.
    pub(crate) fn make_next_anew(&self) -> Result<Prepared, Arc<str>> {
        self.make_one(true)
    }

    fn make_one(&self, anew: bool) -> Result<Prepared, Arc<str>> {
        self.release_given_up()?;
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.crowded {
            return Ok(Prepared::Crowded);
        }
        let Some(segment) = state.wanted.pop_front() else { return Ok(Prepared::Nothing) };
        let recycled = match segment.header.slots {
            1 if anew => None,
            1 => state.free.pop(),
            slots => {
                let reserved = state.large.iter().position(|(reserved, _)| *reserved == slots);
                reserved.map(|at| state.large.swap_remove(at).1)
            }
        };
        state.preparing = Some(segment.id());
        state.recycled = false;
        drop(state);

        let made = self.make(&segment, recycled);

        let mut state = self.state.lock();
        state.preparing = None;
        let is_abandoned = state.abandoned.remove(&segment.id());
        match made {
            Ok(file) if is_abandoned => {
                state.free.push(FreeFile { path: segment.path.clone(), file });
            }
            Ok(file) => state.held.push_back((segment, file)),
            Err(Trouble::NoRoom) => {
                if !is_abandoned {
                    state.wanted.push_front(segment);
                }
                drop(state);
                // All that there was room for can be had before the disk is told to be full.
                self.name_held()?;
                self.set_full(true, self.state.lock());
                // Under the lock, so that it cannot fall between the question and the sleep.
                let _state = self.state.lock();
                self.ready.notify_all();
                return Ok(Prepared::NoRoom);
            }
            Err(Trouble::Failed(error)) => {
                let failure: Arc<str> =
                    format!("cannot prepare segment {}: {error}", segment.path.display()).into();
                state.failure = Some(failure.clone());
                self.ready.notify_all();
                return Err(failure);
            }
        }
        // A log that waits for this file has the register name it at once.
        if !breaks(Slip::ReadyUntold) {
            self.ready.notify_all();
        }
        Ok(Prepared::One)
    }

    /// Has the register name all segments whose files are made, with one update: the log can go on in them then.
    pub(crate) fn name_held(&self) -> Result<Prepared, Arc<str>> {
        self.release_given_up()?;
        let mut state = self.state.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.naming.is_empty() {
                break;
            }
            // In order: those that the log comes to first must not find that later ones have taken the register's room.
            self.ready.wait(&mut state);
        }
        if state.held.is_empty() {
            return Ok(Prepared::Nothing);
        }
        if state.crowded {
            return Ok(Prepared::Crowded);
        }
        let mut made = std::mem::take(&mut state.held);
        let tags: Vec<SegmentTag> = made.iter().map(|(segment, _)| segment.tag()).collect();
        state.naming = tags.iter().map(|tag| tag.id).collect();
        let reached = state.reached;
        drop(state);

        let named = if is_active(Mutant::UnnamedSegment) {
            tags.len()
        } else {
            self.note(&tags, &[], reached)?
        };

        let mut state = self.state.lock();
        state.naming.clear();
        for (segment, file) in made.drain(..named) {
            if state.abandoned.remove(&segment.id()) {
                let free = FreeFile { path: segment.path.clone(), file };
                state.given_up.push((segment.tag(), free));
            } else {
                segment.set_file(file);
            }
        }
        let is_crowded = !made.is_empty();
        for (segment, file) in made.into_iter().rev() {
            if state.abandoned.remove(&segment.id()) {
                state.free.push(FreeFile { path: segment.path.clone(), file });
            } else {
                state.held.push_front((segment, file));
            }
        }
        if is_crowded {
            // Otherwise there may be room by now.
            state.crowded = state.reached == reached && state.given_up.is_empty();
        }
        if !breaks(Slip::ReadyUntold) {
            self.ready.notify_all();
        }
        let enough = state.wanted.is_empty() && state.preparing.is_none();
        if enough || is_crowded {
            // As many as are wanted are ready, or as many as can be named, with a file that was made besides.
            self.set_full(false, state);
        }
        Ok(if is_crowded { Prepared::Crowded } else { Prepared::One })
    }

    /// From now on nobody waits for room on a full disk: what needs some is an error.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.ready.notify_all();
    }

    /// Ends [`run`](Self::run), and every wait for a file that is not ready.
    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_all();
        self.ready.notify_all();
    }
}

impl PoolState {
    /// Whether the file of the segment is made, and the register does not name it yet.
    fn is_held(&self, id: SegmentId) -> bool {
        self.held.iter().any(|(held, _)| held.id() == id)
    }

    /// Whether a file is being made for the segment, or a thread has the register name it.
    fn is_in_work(&self, id: SegmentId) -> bool {
        self.preparing == Some(id) || self.naming.contains(&id)
    }
}
