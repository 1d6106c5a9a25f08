//! The store: what a program that embeds the engine opens.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::cache::{Cache, ResidentPlaces};
use super::catalog::Catalog;
use super::checkpoint::{Checkpointer, LastCheckpoint};
use super::clock::{Clock, Timestamp};
use super::compaction::{Compacted, Progress, Relief};
use super::disk::{Descriptors, DirectoryLock, MOST_OPEN};
use super::error::{OpenError, StoreError};
use super::index::{QueueIndex, Released};
use super::log::{Durable, FailureCallback, Log, LogConfig, LogStatistics, RESERVE};
use super::mutant::{Mutant, is_active};
use super::options::{Background, Options};
use super::queue::{Queue, QueueCore};
use super::reader::ReadBuffers;
use super::record::{RecordKind, StoredChange, TopologyRecord};
use super::recovery::{self, OpenedStore, RecoveryReport};
use super::segment::{PoolConfig, Prepared, SegmentPool, SegmentSet};
use super::shared_reads::SharedReads;
use super::superblock::FORMAT_VERSION;
use super::threads::Threads;
use super::units::{Lsn, QueueId};
use super::upkeep::Upkeep;

/// A durable message store in a directory of its own. Cheap to clone; all clones mean the same store.
///
/// Nothing here blocks on the disk unless it says so. What is to be durable says at which [`Lsn`] it will be; waiting
/// for that is up to the caller: [`wait_durable`](Self::wait_durable) from a thread,
/// [`on_durable`](Self::on_durable) with a callback, [`durable`](Self::durable) as a future.
///
/// When the last clone is dropped, everything appended is written and the threads end. [`close`](Self::close) writes a
/// checkpoint besides, so that the next open has nothing to replay.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    threads: Arc<Threads>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    pub(super) background: Background,
    pub(super) checkpoint_distance: u64,
    pub(super) log: Arc<Log>,
    pub(super) segments: Arc<SegmentSet>,
    pub(super) pool: Arc<SegmentPool>,
    pub(super) catalog: Mutex<Catalog>,
    pub(super) cache: Cache,
    /// For messages that were fetched, and may be given back.
    pub(super) allowances: Cache,
    pub(super) read_buffers: ReadBuffers,
    pub(super) shared_reads: SharedReads,
    pub(super) places: ResidentPlaces,
    /// Pages of the last checkpoint that compaction wants out of their segments.
    pub(super) moving_pages: Mutex<BTreeSet<Lsn>>,
    pub(super) checkpointer: Mutex<Checkpointer>,
    pub(super) last_checkpoint: Mutex<LastCheckpoint>,
    /// Held by the one who compacts. Never taken while the checkpointer is held.
    pub(super) compacting: Mutex<()>,
    pub(super) compaction: Progress,
    /// What compaction has found out on a full disk.
    pub(super) relief: Relief,
    /// The size of the last checkpoint, as far as it is known, in bytes.
    pub(super) checkpoint_bytes: AtomicU64,
    /// Hand-outs were noted in memory only, which the next checkpoint makes durable.
    pub(super) unrecorded: AtomicBool,
    chunk_places: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) upkeep: Upkeep,
    next_volatile: AtomicU64,
    set_aside: AtomicU64,
    report: RecoveryReport,
    /// Held for as long as the store is open.
    _lock: Box<dyn DirectoryLock>,
}

/// A change of what there is in the store; see [`Store::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a metadata entry, in place of one with this key.
    Put {
        /// The key, opaque to the engine.
        key: Bytes,
        /// The value, opaque to the engine.
        value: Bytes,
    },
    /// Removes a metadata entry, if there is one.
    Remove {
        /// The key.
        key: Bytes,
    },
    /// Deletes a queue with all of its messages, if there is one.
    DeleteQueue(QueueId),
}

impl Change {
    /// [Sets](Change::Put) a metadata entry. Bytes that the caller keeps as well are in memory once.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
        Change::Put { key: key.into(), value: value.into() }
    }

    /// [Removes](Change::Remove) a metadata entry.
    pub fn remove(key: impl Into<Bytes>) -> Change {
        Change::Remove { key: key.into() }
    }
}

impl Store {
    /// Opens the store in `dir`; creates it if there is none.
    ///
    /// Returns when the store is ready: the tail of the log has been replayed, what a crash had left torn has been cut
    /// off durably. Time and memory depend on that tail, not on how much is stored.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing that was stored has been changed. A store that is refused (damaged, locked, of another format)
    /// is not touched at all. One that was accepted, and could not go on then ([`OpenError::Full`], [`OpenError::Store`], or
    /// [`OpenError::Io`] while files are tidied up), may have lost files that hold nothing, unfinished segments and those that
    /// nothing needs; and one that was to be created may be there, empty.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Store, OpenError> {
        options.check()?;
        let dir = dir.as_ref();
        // However many segments there are, a bounded number of their files is open.
        let disk = Arc::new(Descriptors::new(options.disk.clone(), MOST_OPEN));
        let options = Options { disk, ..options };
        let opened = recovery::open(dir, &options)?;
        let upgraded_from = opened.upgraded_from;
        let store = Store::start(dir, &options, opened)?;
        if let Some(found) = upgraded_from {
            // So that all that is needed of older segments is tied to this history of the store; a later checkpoint does as well.
            match store.checkpoint() {
                Ok(()) | Err(StoreError::Full) => {}
                Err(error) => return Err(error.into()),
            }
            tracing::info!(
                directory = %dir.display(),
                from = found,
                to = FORMAT_VERSION,
                "the store has been brought up to date: earlier versions of this program cannot open it any more"
            );
        }
        Ok(store)
    }

    /// Makes a store of what recovery has read.
    pub(super) fn start(
        dir: &Path,
        options: &Options,
        opened: OpenedStore,
    ) -> Result<Store, OpenError> {
        let mut recovered = opened.recovered;
        let recovered_end = recovered.end;
        let superblock = *opened.superblock.state();
        let register = Arc::new(Mutex::new(opened.superblock));
        let segment_size = superblock.segment_size;
        let pool = Arc::new(SegmentPool::new(
            PoolConfig {
                dir: dir.to_owned(),
                disk: options.disk.clone(),
                segment_size,
                spare: options.segments_spare,
                register: register.clone(),
            },
            opened.free,
        ));
        let segments = Arc::new(recovered.segments);
        let log = Log::new(
            LogConfig {
                store: superblock.store,
                dir: dir.to_owned(),
                segments_ahead: options.segments_ahead,
                lazy_sync: options.lazy_sync,
                unsynced_limit: options.unsynced_limit,
                background: options.background,
                entropy: options.entropy.clone(),
            },
            segments.clone(),
            pool.clone(),
            recovered.end,
            recovered.next_segment,
        );
        if let Some(tail) = &recovered.tail {
            let catalog = recovery::take_up(tail, &log, &segments, recovered.catalog)?;
            recovered.report.count(&catalog);
            recovered.catalog = catalog;
        }
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            background: options.background,
            checkpoint_distance: options.checkpoint_distance,
            log: Arc::new(log),
            segments,
            pool,
            catalog: Mutex::new(recovered.catalog),
            cache: Cache::new(options.cache),
            allowances: Cache::new(options.cache / 4),
            read_buffers: ReadBuffers::default(),
            shared_reads: SharedReads::default(),
            places: ResidentPlaces::new(options.index),
            moving_pages: Mutex::default(),
            checkpointer: Mutex::new(Checkpointer::new(register, recovered.checkpoint)),
            last_checkpoint: Mutex::new(LastCheckpoint::new(&superblock, recovered.replayed_from)),
            compacting: Mutex::default(),
            compaction: Progress::new(superblock.compacted),
            relief: Relief::default(),
            checkpoint_bytes: AtomicU64::new(0),
            unrecorded: AtomicBool::new(false),
            chunk_places: u32::from(options.chunk_places),
            clock: options.clock.clone(),
            upkeep: Upkeep::default(),
            next_volatile: AtomicU64::new(QueueId::FIRST_VOLATILE.0),
            set_aside: AtomicU64::new(0),
            report: recovered.report,
            _lock: opened.lock,
        });
        for queue in shared.catalog.lock().queues.iter() {
            let mut state = queue.state.lock();
            state.index.set_chunk_places(shared.chunk_places);
            shared.places.take(state.index.resident() as i64);
        }
        let store = Store::begin(dir, shared, recovered_end)?;
        // Without threads the segments to come are made ready here.
        if options.background == Background::Caller {
            match store.shared.look_after() {
                Ok(()) | Err(StoreError::Full) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(store)
    }

    /// Has the log go on in a fresh segment, which makes the cut durable, and starts the threads.
    ///
    /// Until the superblock says that what this has written is durable, it counts for nothing: an open that is cut off leaves
    /// to the next one what it has found.
    fn begin(dir: &Path, shared: Arc<Shared>, recovered_end: Lsn) -> Result<Store, OpenError> {
        let segment_size = shared.segments.segment_size();
        let full = |bytes| OpenError::Full { dir: dir.to_owned(), bytes };
        let failed = StoreError::Failed;
        // One segment has to be had; all others are made when there is room.
        if shared.pool.make_next().map_err(failed)? == Prepared::NoRoom {
            return Err(full(segment_size));
        }
        // What was taken up anew may go on in another, or need a larger one.
        while let Some(bytes) = shared.log.missing_file() {
            if shared.pool.prepare_next().map_err(failed)? != Prepared::One {
                return Err(full(bytes));
            }
        }
        // And one more, to know at once whether the disk is full: then the next open may need what this one can free.
        if shared.pool.spares() < RESERVE {
            shared.pool.make_next_anew().map_err(failed)?;
        } else {
            shared.pool.make_next().map_err(failed)?;
        }
        // One update of the superblock names both.
        shared.pool.name_held().map_err(failed)?;
        // This makes the cut durable: from now on the log goes on in a fresh segment, and says where the old one ended. A last
        // group that was taken up anew does so as well, and fills a segment again if it did before.
        if shared.log.end() <= recovered_end {
            shared.log.append(RecordKind::Opened, 0, 0, |_| {})?;
        }
        shared.log.set_unattended(true);
        if shared.pool.is_full() {
            shared.replace_what_opening_takes().map_err(|error| match error {
                // What was taken up anew has filled the one segment, and will fill one the next time.
                StoreError::Full => full(2 * segment_size),
                error => error.into(),
            })?;
        } else if !is_active(Mutant::CutUnsynced) {
            shared.log.wait(shared.log.end())?;
        }
        shared.checkpointer.lock().note_durable(&shared.log)?;
        shared.log.end_opening();
        let threads = Threads::start(&shared);
        Ok(Store { shared, threads: Arc::new(threads) })
    }

    /// The directory that the store is in.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// What time it is for the store, by [`Options::clock`](super::Options::clock).
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Who does its work.
    pub fn background(&self) -> Background {
        self.shared.background
    }

    /// What opening the store found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The durable queues.
    pub fn queues(&self) -> Vec<Queue> {
        self.shared.catalog.lock().queues.iter().map(|core| self.handle(core.clone())).collect()
    }

    /// The metadata entries, in no particular order.
    pub fn entries(&self) -> Vec<(Bytes, Bytes)> {
        self.shared.catalog.lock().entries.iter().cloned().collect()
    }

    /// Creates a durable queue. It is there at once; it is safe to tell others so when the LSN is durable.
    ///
    /// `attributes` mean something to the caller alone.
    pub fn create_queue(&self, attributes: &[u8]) -> Result<(Queue, Lsn), StoreError> {
        let mut catalog = self.shared.catalog.lock();
        let id = catalog.take_queue_id();
        let created = StoredChange::CreateQueue { id, attributes: attributes.to_vec() };
        let end = self.append_topology(vec![created])?;
        Ok((self.insert_queue(&mut catalog, id, attributes), end))
    }

    /// Creates `count` durable queues: all of them, or none should the machine crash in between. `attributes` gets their numbers
    /// and the place of one of them in that list, and gives that one's attributes.
    pub fn create_queues(
        &self,
        count: usize,
        attributes: impl Fn(&[QueueId], usize) -> Vec<u8>,
    ) -> Result<(Vec<Queue>, Lsn), StoreError> {
        let mut catalog = self.shared.catalog.lock();
        let ids: Vec<QueueId> = (0..count).map(|_| catalog.take_queue_id()).collect();
        let given: Vec<Vec<u8>> = (0..count).map(|place| attributes(&ids, place)).collect();
        let created = ids.iter().zip(&given);
        let created = created.map(|(id, attributes)| StoredChange::CreateQueue {
            id: *id,
            attributes: attributes.clone(),
        });
        let end = self.append_topology(created.collect())?;
        let queues = ids.into_iter().zip(&given);
        let queues = queues.map(|(id, attributes)| self.insert_queue(&mut catalog, id, attributes));
        Ok((queues.collect(), end))
    }

    fn insert_queue(&self, catalog: &mut Catalog, id: QueueId, attributes: &[u8]) -> Queue {
        let index = self.shared.new_index();
        let core = Arc::new(QueueCore::new(id, Bytes::copy_from_slice(attributes), index));
        catalog.insert_queue(core.clone());
        self.handle(core)
    }

    /// Creates a queue that is gone after a restart, and with the last of its handles.
    pub fn create_volatile_queue(&self) -> Queue {
        let id = QueueId(self.shared.next_volatile.fetch_add(1, Ordering::Relaxed));
        let index = self.shared.new_index();
        let core = Arc::new(QueueCore::volatile(id, index, &self.shared));
        self.shared.catalog.lock().insert_volatile(&core);
        self.handle(core)
    }

    /// Makes all of the changes, or none of them should the machine crash in between. They hold at once; it is safe to
    /// tell others so when the LSN is durable.
    pub fn apply(&self, changes: Vec<Change>) -> Result<Lsn, StoreError> {
        let stored: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Put { key, value } => {
                    StoredChange::Put { key: key.to_vec(), value: value.to_vec() }
                }
                Change::Remove { key } => StoredChange::Remove { key: key.to_vec() },
                Change::DeleteQueue(id) => StoredChange::DeleteQueue { id: *id },
            })
            .collect();
        self.shared.keep_room_for_checkpoints(stored.len())?;
        let mut catalog = self.shared.catalog.lock();
        let end = self.append_topology(stored)?;
        let mut released = Released::default();
        for change in changes {
            match change {
                Change::Put { key, value } => catalog.put(key, value),
                Change::Remove { key } => catalog.remove(&key),
                Change::DeleteQueue(id) => {
                    if let Some(core) = catalog.remove_queue(id) {
                        let mut state = core.state.lock();
                        state.deleted = true;
                        state.index.clear(&mut released);
                    }
                }
            }
        }
        drop(catalog);
        self.shared.give_back(&released);
        Ok(end)
    }

    fn append_topology(&self, changes: Vec<StoredChange>) -> Result<Lsn, StoreError> {
        let mut payload = Vec::new();
        let grows = changes.iter().any(|change| {
            matches!(change, StoredChange::CreateQueue { .. } | StoredChange::Put { .. })
        });
        TopologyRecord { changes }.encode(&mut payload);
        if grows {
            self.shared.log.admit(payload.len())?;
        }
        let placed = self.shared.log.append(RecordKind::Topology, payload.len(), 0, |buffer| {
            buffer.extend_from_slice(&payload);
        })?;
        Ok(placed.end)
    }

    /// Everything below this is on stable storage.
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.log.durable()
    }

    /// Blocks the thread until everything below `lsn` is on stable storage.
    ///
    /// # Errors
    /// [`StoreError::UnknownLsn`], at once: the store has never given out this LSN. [`StoreError::Failed`]: it never will be.
    /// [`StoreError::Full`], with [`Background::Caller`] alone: there is no room, wait again when there may be.
    pub fn wait_durable(&self, lsn: Lsn) -> Result<(), StoreError> {
        self.shared.log.wait(lsn)?;
        // What is durable is so, whatever has failed behind it; but a log that has failed leaves the disk alone.
        if self.shared.background == Background::Caller && self.shared.log.check().is_ok() {
            match self.shared.look_after().and_then(|()| self.shared.restore_reserve()) {
                // What was waited for is durable; the rest is done when there is room.
                Ok(()) | Err(StoreError::Full) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Calls back when everything below `lsn` is on stable storage, or never will be: at once, or later on the log's
    /// thread, which the callback must not hold up. The errors are those of [`wait_durable`](Self::wait_durable).
    pub fn on_durable(
        &self,
        lsn: Lsn,
        callback: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        self.shared.log.on_durable(lsn, Box::new(callback));
    }

    /// Has everything up to `lsn` written as soon as possible, for somebody who will wait for it later: so that the disk need
    /// not wait for him. Without threads ([`Background::Caller`](super::Background::Caller)) the waiting does all.
    pub fn expedite(&self, lsn: Lsn) {
        self.shared.log.expedite(lsn);
    }

    /// A future of [`wait_durable`](Self::wait_durable), for any runtime.
    pub fn durable(&self, lsn: Lsn) -> Durable {
        Durable::new(self.shared.log.clone(), lsn)
    }

    /// Calls back once when the log fails, if it ever does: nothing is confirmed any more then, and the process should
    /// end. Whoever waits for an LSN, or appends, is told besides; this is for those who do neither. The callback must
    /// not wait for this store, nor close it.
    pub fn on_failure(&self, callback: impl FnOnce(StoreError) + Send + 'static) {
        self.shared.log.on_failure(FailureCallback(Box::new(callback)));
    }

    /// Where more unsynced data has piled up than [`Options::unsynced_limit`] allows: the LSN whose durability to wait
    /// for before more is accepted. Appending does not ask this by itself.
    pub fn congested(&self) -> Option<Lsn> {
        self.shared.log.congested()
    }

    /// Whether the disk is full: there is no room for all the segments that are to be ready ahead of need.
    ///
    /// Whoever has something new to store should wait for [`on_room_change`](Self::on_room_change) then. What is appended
    /// nevertheless is taken for as long as four ready segments are left behind it, and refused with [`StoreError::Full`] from
    /// then on: durable messages, queues and entries. Those segments are the reserve. Hand-outs leave three of them, and compaction
    /// two, which are for the next open. Acknowledgements and deletions are always taken. As soon as nothing is live in a segment a
    /// checkpoint makes its file free again, and compaction moves what is live out of the emptiest ones.
    pub fn is_full(&self) -> bool {
        self.shared.pool.is_full()
    }

    /// Says whether space on the disk is short, by some measure of the caller's: compaction and checkpoints then give back
    /// whatever they can, as on a full disk, and dead files are removed instead of being kept. Nothing is refused for it.
    pub fn set_low_on_space(&self, low: bool) {
        if let Err(error) = self.shared.pool.set_low(low) {
            tracing::warn!("cannot remove a spare segment: {error}");
        }
        self.shared.upkeep.wake();
    }

    /// Calls back whenever [`is_full`](Self::is_full) has changed, on a thread of the store's, for as long as the store is
    /// open. The callback must not wait for this store; what it asks may have changed again.
    pub fn on_room_change(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.shared.pool.on_room_change(Arc::new(callback));
    }

    /// Writes a checkpoint. Appending goes on meanwhile. Blocks the thread until the checkpoint is durable.
    ///
    /// There is no need to call this: a store writes its checkpoints by itself.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.shared.checkpoint()
    }

    /// Compacts as much as there is to gain, as fast as it goes; while others append it takes a part of the time only.
    /// Blocks the thread.
    ///
    /// There is no need to call this: a store compacts by itself, at a measured pace.
    pub fn compact(&self) -> Result<Compacted, StoreError> {
        self.shared.compact_fully()
    }

    /// What compaction has done since the store was opened. Never waits, also while it runs.
    pub fn compacted(&self) -> Compacted {
        self.shared.compaction.total()
    }

    /// How many messages were damaged when they were to be read, and have been set aside, since the store was opened.
    pub fn set_aside(&self) -> u64 {
        self.shared.set_aside_messages()
    }

    /// How much the log has written since the store was opened.
    pub fn log_statistics(&self) -> LogStatistics {
        self.shared.log.statistics()
    }

    /// What the messages in memory that are to be delivered take there, as [`Options::cache`] counts it, in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.shared.cache.taken()
    }

    /// Gives up memory that is kept to be used again, for groups of the log and for reading, and messages of many queues that are kept
    /// because another one may want to read them.
    pub fn release_spare_memory(&self) {
        self.shared.log.release_spare_memory();
        self.shared.read_buffers.release();
        self.shared.shared_reads.release();
    }

    /// Takes messages out of memory that wait to be [fetched](Queue::fetch), for a process that has too little of it: they must be
    /// [loaded](Queue::load) then. Messages that need not survive a restart are written to the log first, and stay in memory
    /// as long as the disk is full or the log is [congested](Self::congested). Does not wait for the disk.
    ///
    /// # Errors
    /// [`StoreError::Failed`], [`StoreError::Closed`].
    pub fn evict_messages(&self) -> Result<(), StoreError> {
        self.shared.evict()
    }

    /// Places of the queues' indexes that are in memory, as [`Options::index`] counts them: in steps.
    pub fn resident_places(&self) -> u64 {
        self.shared.places.taken()
    }

    /// Makes everything durable, writes a checkpoint, ends the store's threads and gives the directory back as soon as
    /// the last [`Store`] and [`Queue`] is dropped. Whatever is appended afterwards is refused.
    ///
    /// # Errors
    /// [`StoreError::Failed`] or [`StoreError::Full`]: not everything was written, on a full disk for want of room, which is
    /// not waited for. What was confirmed is safe.
    pub fn close(self) -> Result<(), StoreError> {
        self.shared.pool.close();
        // Whoever compacts ends, and moves nothing behind the checkpoint.
        self.shared.upkeep.stop();
        drop(self.shared.compacting.lock());
        // First the log, so that the checkpoint begins behind all of it.
        self.shared.log.wait(self.shared.log.end())?;
        self.shared.checkpoint()?;
        self.shared.log.wait(self.shared.log.end())?;
        self.threads.stop();
        self.shared.log.check()?;
        // The log goes nowhere from here, so no file that was ready for it is needed.
        self.shared.checkpointer.lock().forget_ahead(&self.shared.log)
    }

    /// Refuses the handle of another store's queue: its places and numbers mean something else here.
    pub(super) fn check_owns(&self, queue: &Queue) -> Result<(), StoreError> {
        if Arc::ptr_eq(&self.shared, &queue.shared) {
            Ok(())
        } else {
            Err(StoreError::ForeignQueue { queue: queue.id() })
        }
    }

    fn handle(&self, core: Arc<QueueCore>) -> Queue {
        Queue { shared: self.shared.clone(), core }
    }
}

impl Shared {
    fn new_index(&self) -> QueueIndex {
        let mut index = QueueIndex::new(self.segments.segment_size());
        index.set_chunk_places(self.chunk_places);
        index
    }

    /// Gives back what an operation on an index has released.
    pub(super) fn give_back(&self, released: &Released) {
        for share in &released.shares {
            self.segments.remove_live(share.segment, share.references, share.bytes);
        }
        self.cache.give_back(released.cached);
        self.places.take(-released.places);
    }

    pub(super) fn count_set_aside(&self, messages: u64) {
        self.set_aside.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn set_aside_messages(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    pub(super) fn checkpoint(&self) -> Result<(), StoreError> {
        self.checkpointer.lock().checkpoint(self)
    }
}
