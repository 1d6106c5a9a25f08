//! The log: records in, durability out.
//!
//! Appenders encode their records into the open [group](group) under a short lock and get an LSN. One writer takes the
//! group, writes it, syncs it once, publishes the durable LSN and tells those who wait for it; meanwhile the next
//! group fills. So the size of a group follows the load, without timers and without tuning. A group that nobody waits
//! for is written when it is [`lazy_sync`](crate::storage::Options::lazy_sync) old.
//!
//! What lives here: groups, the writer, the waiting. It may use segments, records and the disk; it must never know
//! what a record means. The first failed write or sync is the last thing that happens: see [`StoreError::Failed`].

mod budget;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod checked_group;
mod durable;
pub(crate) mod group;
mod unit;
mod waiters;
mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use self::budget::KEPT_IDLE;
pub(crate) use self::budget::{KEPT_FOR_OPENS, RESERVE};
pub use self::durable::Durable;
use self::group::{GROUP_HEADER, Group};
pub(crate) use self::unit::Outline;
use self::waiters::{Action, Waiters};
use self::writer::Target;
use super::checksum::StoreId;
use super::disk::PageBuffer;
use super::entropy::Entropy;
use super::error::StoreError;
use super::mutant::{Mutant, is_active};
use super::options::Background;
use super::record::{self, FRAME, RecordKind};
use super::segment::{PAGE, Segment, SegmentHeader, SegmentPool, SegmentSet};
use super::sync::{
    AtomicBool, AtomicU64, Bell, Condvar, Mutex, MutexGuard, OnceLock, Ordering, Slip, breaks,
};
use super::units::{Lsn, SegmentId};

/// The largest record, in bytes.
pub(crate) const RECORD_LIMIT: u64 = 1 << 30;

/// A lazy group of this size is not kept waiting any longer, in bytes.
const LAZY_BYTES: usize = 1 << 20;

/// What a log needs to know.
#[derive(Debug)]
pub(crate) struct LogConfig {
    pub(crate) store: StoreId,
    pub(crate) dir: PathBuf,
    pub(crate) segments_ahead: usize,
    pub(crate) lazy_sync: Duration,
    pub(crate) unsynced_limit: u64,
    pub(crate) background: Background,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// The log of a store.
#[derive(Debug)]
pub(crate) struct Log {
    config: LogConfig,
    segments: Arc<SegmentSet>,
    pool: Arc<SegmentPool>,
    core: Mutex<Core>,
    /// There is something to write, or it is time to stop.
    work: Condvar,
    durable: AtomicU64,
    failure: OnceLock<StoreError>,
    failure_callbacks: Mutex<Vec<FailureCallback>>,
    waiters: Waiters,
    /// For threads that wait, by turns for one batch and for the next: those who wait for the next are not woken for nothing.
    bells: [Bell; 2],
    /// Held by whoever writes.
    writing: Mutex<Option<Target>>,
    /// The newest segment with something durable in it; 0: none since this log was opened.
    newest: AtomicU64,
    new_segment: OnceLock<SegmentCallback>,
    /// Somebody wants to be told of the next group, wherever it goes.
    tell: AtomicBool,
    groups: AtomicU64,
    bytes: AtomicU64,
    /// No thread writes yet: a caller that waits does.
    unattended: AtomicBool,
    /// The thread that writes, if there is one.
    writer: std::sync::OnceLock<ThreadId>,
    /// The store is being opened: all groups are provisional.
    opening: AtomicBool,
    /// The salt of the first segment.
    first_salt: u64,
}

/// Told, once, that the log has failed.
pub(crate) struct FailureCallback(pub(crate) Box<dyn FnOnce(StoreError) + Send>);

impl std::fmt::Debug for FailureCallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FailureCallback")
    }
}

struct SegmentCallback(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for SegmentCallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SegmentCallback")
    }
}

#[derive(Debug)]
struct Core {
    open: Group,
    /// Complete, because the log went on to another segment.
    sealed: VecDeque<Group>,
    /// The segments to come; their files are being made ready.
    planned: VecDeque<Arc<Segment>>,
    next_segment: SegmentId,
    /// Somebody waits for this much.
    wanted: Lsn,
    /// When the open group got its first record.
    open_since: Instant,
    in_flight: u64,
    writer_waits: bool,
    stopping: bool,
    spare_buffer: PageBuffer,
    /// How many batches of groups the writer has taken.
    batches: u64,
    /// Where the last of them ends.
    taken: Lsn,
}

/// Where a record went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) lsn: Lsn,
    /// Bytes of the whole record.
    pub(crate) length: u32,
    /// When this is durable, the record is.
    pub(crate) end: Lsn,
}

/// What the log has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStatistics {
    /// Sync groups written, each with one sync.
    pub groups: u64,
    /// Bytes written, headers and padding included.
    pub bytes: u64,
}

/// How a log stands, for an inspection.
#[derive(Debug)]
pub(crate) struct LogOutlook {
    pub(crate) end_of_groups: Lsn,
    /// The files of the segments to come that are ready.
    pub(crate) ready: Vec<PathBuf>,
}

impl Log {
    /// A log that goes on behind `end`, in a fresh segment with number `next_segment`. What lies behind `end` in the
    /// old segment is void as soon as the first group of the fresh one is durable.
    pub(crate) fn new(
        config: LogConfig,
        segments: Arc<SegmentSet>,
        pool: Arc<SegmentPool>,
        end: Lsn,
        next_segment: SegmentId,
    ) -> Log {
        let size = segments.segment_size();
        let mut next_segment = next_segment;
        let mut plan = || plan(&config, &pool, &mut next_segment, 1);
        let first = plan();
        let planned = (0..config.segments_ahead).map(|_| plan()).collect();
        let start = first.id().start(size).plus(PAGE);
        let salt = segments.ending_at(end).map_or(0, |last| last.header.salt);
        let first_salt = first.header.salt;
        segments.insert(first.clone());
        let core = Core {
            open: Group::new(first, start, end, salt, PageBuffer::default()),
            sealed: VecDeque::new(),
            planned,
            next_segment,
            wanted: Lsn::ZERO,
            open_since: Instant::now(),
            in_flight: 0,
            writer_waits: false,
            stopping: false,
            spare_buffer: PageBuffer::default(),
            batches: 0,
            taken: end,
        };
        Log {
            config,
            segments,
            pool,
            core: Mutex::new(core),
            work: Condvar::new(),
            durable: AtomicU64::new(end.0),
            failure: OnceLock::new(),
            failure_callbacks: Mutex::default(),
            waiters: Waiters::default(),
            bells: Default::default(),
            writing: Mutex::new(None),
            newest: AtomicU64::new(0),
            new_segment: OnceLock::new(),
            tell: AtomicBool::new(false),
            groups: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            unattended: AtomicBool::new(false),
            writer: std::sync::OnceLock::new(),
            opening: AtomicBool::new(true),
            first_salt,
        }
    }

    /// Appends a record of `size` payload bytes that `encode` adds to the buffer it is given, and counts it as live
    /// for `references`, each with its share of the bytes (no smaller than that of one in 65,535: an index counts no
    /// further). Does not wait for the disk.
    pub(crate) fn append(
        &self,
        kind: RecordKind,
        size: usize,
        references: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Placed, StoreError> {
        let length = FRAME + size;
        if length as u64 > RECORD_LIMIT {
            return Err(StoreError::TooLarge { bytes: length as u64, limit: RECORD_LIMIT });
        }
        let mut core = self.open_for_appending()?;
        let oversized = self.make_room(&mut core, length);
        let placed = core.put(kind, length, references, encode);
        let begun = core.open.records == 1;
        self.appended(&mut core, oversized, begun);
        Ok(placed)
    }

    /// The lock under which records are appended, of a log that takes them.
    fn open_for_appending(&self) -> Result<MutexGuard<'_, Core>, StoreError> {
        let core = self.core.lock();
        self.check()?;
        if core.stopping {
            return Err(StoreError::Closed);
        }
        Ok(core)
    }

    /// Goes on behind what fills a segment by itself, and wakes the writer where it has something to do: be it to set a
    /// deadline for a group that has `begun` with what was appended.
    fn appended(&self, core: &mut Core, oversized: bool, begun: bool) {
        if oversized {
            self.roll(core);
        }
        if core.writer_waits && (core.writer_has_work(&self.config) || begun) {
            core.writer_waits = false;
            self.work.notify_one();
        }
    }

    /// Goes on to another segment where the open one has no room; true: to one that is for this record alone.
    fn make_room(&self, core: &mut Core, length: usize) -> bool {
        let size = self.segments.segment_size();
        let segment_end = core.open.segment.id().start(size).plus(size);
        if core.open.end_with(length) <= segment_end {
            return false;
        }
        let alone = PAGE + group::span(GROUP_HEADER + length);
        if alone <= size {
            self.roll(core);
            return false;
        }
        // The numbers that were planned lie below the one that is needed now; their files can have others.
        for segment in core.planned.drain(..) {
            self.pool.abandon(&segment);
        }
        let oversized = self.plan(core, alone.div_ceil(size) as u32);
        core.planned.push_back(oversized);
        for _ in 0..self.config.segments_ahead {
            let next = self.plan(core, 1);
            core.planned.push_back(next);
        }
        self.roll(core);
        true
    }

    /// Decides on the next segment, of so many slots.
    fn plan(&self, core: &mut Core, slots: u32) -> Arc<Segment> {
        plan(&self.config, &self.pool, &mut core.next_segment, slots)
    }

    /// Goes on to the next segment.
    fn roll(&self, core: &mut Core) {
        let next = core.planned.pop_front().expect("segments are planned ahead");
        while core.planned.len() < self.config.segments_ahead {
            let further = self.plan(core, 1);
            core.planned.push_back(further);
        }
        self.segments.insert(next.clone());
        let start = next.id().start(self.segments.segment_size()).plus(PAGE);
        let (previous, salt) = (core.open.end_of_log(), core.open.salt_at_end());
        let buffer = std::mem::take(&mut core.spare_buffer);
        let full =
            std::mem::replace(&mut core.open, Group::new(next, start, previous, salt, buffer));
        if !full.is_empty() {
            core.sealed.push_back(full);
        }
    }

    /// The size in bytes of the first file that is to be written to and is not ready.
    pub(crate) fn missing_file(&self) -> Option<u64> {
        let core = self.core.lock();
        let open = Some(&core.open).filter(|group| !group.is_empty());
        let missing =
            core.sealed.iter().chain(open).find(|group| group.segment.file().is_none())?;
        Some(u64::from(missing.segment.header.slots) * self.segments.segment_size())
    }

    /// Gives up segments that were made ready beyond those that an idle store keeps. They are made ready again
    /// when the log goes on to another segment.
    pub(crate) fn give_up_idle_segments(&self) {
        let mut core = self.core.lock();
        while core.planned.len() > KEPT_IDLE
            && let Some(last) = core.planned.pop_back()
        {
            self.pool.abandon(&last);
        }
    }

    /// Where the last complete group ends. All that is appended from now on comes behind.
    pub(crate) fn end_of_groups(&self) -> Lsn {
        self.core.lock().open.previous
    }

    pub(crate) fn outlook(&self) -> LogOutlook {
        let core = self.core.lock();
        let ready = core.planned.iter().filter(|segment| segment.file().is_some());
        LogOutlook {
            end_of_groups: core.open.previous,
            ready: ready.map(|segment| segment.path.clone()).collect(),
        }
    }

    /// The identity of the store that this is the log of.
    pub(crate) fn store(&self) -> StoreId {
        self.config.store
    }

    /// Has `callback` called by the writer whenever something has become durable in a further segment.
    pub(crate) fn on_new_segment(&self, callback: Box<dyn Fn() + Send + Sync>) {
        assert!(self.new_segment.set(SegmentCallback(callback)).is_ok(), "it is set once");
    }

    /// Has that callback called for the next group as well, whichever segment it is in.
    ///
    /// Whoever sleeps for it asks for the number of groups after this, and the writer counts a group before it looks whether
    /// somebody wants to be told: one of them sees the other, if all four are in one order (`SeqCst`).
    pub(crate) fn tell_of_next_group(&self) {
        self.tell.store(true, Ordering::SeqCst);
    }

    /// Everything that has been appended so far is durable when this is.
    pub(crate) fn end(&self) -> Lsn {
        self.core.lock().last_record_end()
    }

    /// The salt of the first segment that the log has gone to since it was opened.
    pub(crate) fn first_salt(&self) -> u64 {
        self.first_salt
    }

    /// Everything below this is on stable storage.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// The LSN to wait for before more is appended, if too much is unsynced.
    pub(crate) fn congested(&self) -> Option<Lsn> {
        let core = self.core.lock();
        let sealed: usize = core.sealed.iter().map(|group| group.buffer.len()).sum();
        let unsynced = core.in_flight + (sealed + core.open.buffer.len()) as u64;
        (unsynced > self.config.unsynced_limit).then(|| core.last_record_end())
    }

    /// Why the log takes nothing more, if so. Inlined, because each append asks.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Ends the log for good: nothing more is appended, nothing more is confirmed. Gives the error that everybody is told from
    /// now on.
    pub(crate) fn fail(&self, reason: &str) -> StoreError {
        if breaks(Slip::TellBeforeFailed) {
            self.settle(Err(&StoreError::Failed(reason.into())));
        }
        let failure = self.failure.get_or_init(|| {
            let failure = StoreError::Failed(reason.into());
            tracing::error!("{failure}");
            failure
        });
        if !breaks(Slip::TellBeforeFailed) {
            self.settle(Err(failure));
        }
        self.work.notify_all();
        let callbacks = std::mem::take(&mut *self.failure_callbacks.lock());
        callbacks.into_iter().for_each(|callback| callback.0(failure.clone()));
        failure.clone()
    }

    /// Has `callback` called when the log fails: now, if it has.
    pub(crate) fn on_failure(&self, callback: FailureCallback) {
        let mut callbacks = self.failure_callbacks.lock();
        match self.failure.get() {
            Some(failure) => {
                drop(callbacks);
                callback.0(failure.clone());
            }
            None => callbacks.push(callback),
        }
    }

    pub(crate) fn statistics(&self) -> LogStatistics {
        LogStatistics {
            groups: self.groups.load(Ordering::SeqCst),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// What waiting for `lsn` comes to by now, if it is settled.
    fn settled(&self, lsn: Lsn) -> Option<Result<(), StoreError>> {
        if lsn <= self.durable() {
            return Some(Ok(()));
        }
        self.check().err().map(Err)
    }

    /// The outcome of a wait, if it is known at once: an LSN behind the end of the log was never given out.
    fn known(&self, lsn: Lsn) -> Option<Result<(), StoreError>> {
        let unknown = || (lsn > self.end()).then_some(Err(StoreError::UnknownLsn { lsn }));
        self.settled(lsn).or_else(unknown)
    }

    /// Tells everybody who waits for `durable` or less that it is durable; or everybody that it never will be.
    fn settle(&self, outcome: Result<Lsn, &StoreError>) {
        self.waiters.settle(outcome);
        self.bells.iter().for_each(Bell::ring);
    }

    /// The bell that is rung when a batch of groups is durable.
    fn bell(&self, batch: u64) -> &Bell {
        &self.bells[(batch % 2) as usize]
    }

    /// Has the group with `lsn` written without further delay, by whoever writes. Returns the batch of groups that it is in,
    /// if it is not durable.
    pub(crate) fn expedite(&self, lsn: Lsn) -> u64 {
        let mut core = self.core.lock();
        core.wanted = core.wanted.max(lsn.min(core.last_record_end()));
        if core.writer_waits && core.writer_has_work(&self.config) {
            core.writer_waits = false;
            self.work.notify_one();
        }
        core.batches + u64::from(lsn > core.taken)
    }

    /// Blocks the thread until `lsn` is durable.
    pub(crate) fn wait(&self, lsn: Lsn) -> Result<(), StoreError> {
        if let Some(outcome) = self.known(lsn) {
            return outcome;
        }
        if self.is_written_by_callers() {
            return self.write_until(lsn);
        }
        loop {
            let bell = self.bell(self.expedite(lsn));
            let early = if breaks(Slip::AskBeforeListening) { self.settled(lsn) } else { None };
            let listener = bell.listen();
            let settled = if breaks(Slip::AskBeforeListening) { early } else { self.settled(lsn) };
            if let Some(outcome) = settled {
                return outcome;
            }
            listener.sleep();
            if let Some(outcome) = self.settled(lsn) {
                return outcome;
            }
        }
    }

    /// Blocks the thread until what is to be read below `lsn` is in its file. What a damaged list puts behind the end of the
    /// log was never appended: waiting would have no end, and reading says what is wrong.
    pub(crate) fn wait_to_read(&self, lsn: Lsn) -> Result<(), StoreError> {
        self.wait(lsn.min(self.end()))
    }

    /// Calls `callback` once `lsn` is durable, or never will be: on the log's thread, or here and now.
    pub(crate) fn on_durable(
        &self,
        lsn: Lsn,
        callback: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
    ) {
        if let Some(outcome) = self.known(lsn) {
            return callback(outcome);
        }
        let waiting = self.waiters.add(lsn, Action::Call(callback), || self.settled(lsn));
        match waiting {
            Some((action, outcome)) => action.run(outcome),
            None => self.hurry(lsn),
        }
    }

    /// Sees to it that `lsn` becomes durable without anybody's further help.
    fn hurry(&self, lsn: Lsn) {
        if self.is_written_by_callers() {
            // A failure has been told to everybody who waits, this one included; and on a full disk it goes on waiting.
            let _told: Result<(), StoreError> = self.write_until(lsn);
        } else {
            self.expedite(lsn);
        }
    }

    /// From now on groups count when they are durable. What was written before does so because the superblock says that it was
    /// durable: that comes first.
    pub(crate) fn end_opening(&self) {
        self.opening.store(false, Ordering::SeqCst);
    }

    /// Says whether the writer's thread is still to come, so that callers that wait write meanwhile.
    pub(crate) fn set_unattended(&self, unattended: bool) {
        self.unattended.store(unattended, Ordering::SeqCst);
    }

    /// Whether this is the thread that writes: it must not wait for what it has to write.
    fn is_writers_thread(&self) -> bool {
        self.writer.get() == Some(&thread::current().id())
    }

    /// Whether callers that wait do the writing, because no thread does.
    pub(crate) fn is_written_by_callers(&self) -> bool {
        self.config.background == Background::Caller || self.unattended.load(Ordering::SeqCst)
    }

    /// Writes everything, then ends the writer's thread.
    pub(crate) fn stop(&self) {
        self.core.lock().stopping = true;
        self.work.notify_all();
    }
}

/// Decides on a segment with the next number, and has its file made ready.
fn plan(
    config: &LogConfig,
    pool: &SegmentPool,
    next_segment: &mut SegmentId,
    slots: u32,
) -> Arc<Segment> {
    let header = SegmentHeader {
        store: config.store,
        id: *next_segment,
        slots,
        salt: if is_active(Mutant::RecycleWithoutSalt) { 0 } else { config.entropy.number() },
    };
    *next_segment = next_segment.plus(u64::from(slots));
    let segment = Arc::new(Segment::planned(header, &config.dir));
    pool.want(segment.clone());
    segment
}

impl Core {
    /// Adds a record of `length` bytes to the open group, which has room for it.
    fn put(
        &mut self,
        kind: RecordKind,
        length: usize,
        references: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Placed {
        let group = &mut self.open;
        let (lsn, start) = (group.position(), group.buffer.len());
        // With the padding that may follow, so that the bytes of a group need not move once more.
        group.buffer.reserve(length + PAGE as usize);
        let buffer = group.buffer.tail();
        buffer.resize(buffer.len() + FRAME, 0);
        encode(buffer);
        debug_assert_eq!(group.buffer.len(), start + length, "a record is as long as announced");
        record::seal(&mut group.buffer.as_mut_slice()[start..], kind, lsn, group.segment.seed);
        group.records += 1;
        let placed = Placed { lsn, length: length as u32, end: group.position() };
        if let Some(share) = placed.length.checked_div(references.min(u32::from(u16::MAX))) {
            group.segment.live.add(references, u64::from(share) * u64::from(references));
        }
        if group.records == 1 {
            self.open_since = Instant::now();
        }
        placed
    }

    fn last_record_end(&self) -> Lsn {
        if self.open.is_empty() { self.open.previous } else { self.open.position() }
    }

    fn writer_has_work(&self, config: &LogConfig) -> bool {
        !self.sealed.is_empty()
            || !self.open.is_empty()
                && (self.wanted > self.open.lsn
                    || self.stopping && !breaks(Slip::StopBeforeWritten)
                    || self.open.buffer.len() >= LAZY_BYTES
                    || self.open_since.elapsed() >= config.lazy_sync)
    }
}
