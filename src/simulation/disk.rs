//! The simulated disk: an [`Image`] behind the engine's disk trait, with somebody who watches and decides.
//!
//! Everything that happens is an [`Operation`] with a number. A [director](SimulatedDisk::direct) sees each of them before it
//! is carried out, with the image as it is then, and says what comes of it: so a power cut, an error, a short write or a
//! flipped bit can be put anywhere, and every moment of a run can be kept and returned to. Without one, all goes well.
//!
//! Nothing here is random: the same calls in the same order give the same images. [`trace`](SimulatedDisk::trace) tells two
//! runs apart that differ in a single byte.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::image::{FileId, Image, SECTOR};
use crate::storage::disk::{Access, DirectoryLock, Disk, DiskFile};

/// What somebody asks of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Counted from the first one on this disk.
    pub number: u64,
    /// What is to be done.
    pub kind: OperationKind,
    /// The file or directory.
    pub path: PathBuf,
}

/// The kinds of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of the disk trait")]
pub enum OperationKind {
    CreateDirAll,
    List,
    Open,
    Create,
    Rename { to: PathBuf },
    Remove,
    SyncDir,
    LockDir,
    Read { offset: u64, bytes: usize },
    Write { offset: u64, bytes: usize },
    SyncData,
    SyncAll,
    Size,
}

impl Operation {
    /// Whether it changes what a power cut would leave.
    pub fn is_change(&self) -> bool {
        use OperationKind::{List, LockDir, Open, Read, Size};
        !matches!(self.kind, List | LockDir | Open | Read { .. } | Size)
    }

    /// Whether it is to make something durable.
    pub fn is_sync(&self) -> bool {
        use OperationKind::{SyncAll, SyncData, SyncDir};
        matches!(self.kind, SyncData | SyncAll | SyncDir)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "{}: ", self.number)?;
        match &self.kind {
            OperationKind::CreateDirAll => write!(f, "make directory {path}"),
            OperationKind::List => write!(f, "list {path}"),
            OperationKind::Open => write!(f, "open {path}"),
            OperationKind::Create => write!(f, "create {path}"),
            OperationKind::Rename { to } => write!(f, "rename {path} to {}", to.display()),
            OperationKind::Remove => write!(f, "remove {path}"),
            OperationKind::SyncDir => write!(f, "sync directory {path}"),
            OperationKind::LockDir => write!(f, "lock {path}"),
            OperationKind::Read { offset, bytes } => write!(f, "read {path} {offset}+{bytes}"),
            OperationKind::Write { offset, bytes } => write!(f, "write {path} {offset}+{bytes}"),
            OperationKind::SyncData => write!(f, "sync data of {path}"),
            OperationKind::SyncAll => write!(f, "sync {path}"),
            OperationKind::Size => write!(f, "size of {path}"),
        }
    }
}

/// What comes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Proceed,
    /// It fails. A write may have got halfway; what a sync of a file was to make durable never will be, though it can still be
    /// read; anything else changes nothing.
    Fail(io::ErrorKind),
    /// A read or a write moves so many bytes at most; anything else is carried out.
    Short(usize),
    /// A read gives this bit of what it reads the wrong way round; anything else is carried out.
    Flip {
        /// Counted from the first byte's lowest bit; beyond the end it is a bit of the same place modulo the length.
        bit: usize,
    },
    /// The power goes off: a write is pending, anything else is not carried out, and this and all later operations fail.
    PowerCut,
}

type Director = Box<dyn FnMut(&Operation, &Image) -> Verdict + Send>;

#[derive(Default)]
struct State {
    image: Image,
    operations: u64,
    trace: Option<u64>,
    director: Option<Director>,
    capacity: Option<u64>,
    locked: BTreeSet<PathBuf>,
    off: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("operations", &self.operations).finish_non_exhaustive()
    }
}

/// A disk in memory. Cheap to clone; all clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// A disk in this state: the same as before a process ended, or the one [after a power cut](Image::after_power_cut).
    pub fn of(image: Image) -> SimulatedDisk {
        SimulatedDisk(Arc::new(Mutex::new(State { image, ..State::default() })))
    }

    /// The same disk as [`verify`](crate::storage::inspect::verify()) and its siblings take it.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// The state of the disk.
    pub fn image(&self) -> Image {
        self.0.lock().image.clone()
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// From now on a [trace](Self::trace) is kept, which takes a part of the time.
    pub fn keep_trace(&self) {
        self.0.lock().trace = Some(0xcbf2_9ce4_8422_2325);
    }

    /// A number that depends on every operation since [`keep_trace`](Self::keep_trace), what it wrote and what was decided.
    pub fn trace(&self) -> Option<u64> {
        self.0.lock().trace
    }

    /// Has `director` decide on every operation from now on. It must not use the disk.
    pub fn direct(&self, director: impl FnMut(&Operation, &Image) -> Verdict + Send + 'static) {
        self.0.lock().director = Some(Box::new(director));
    }

    /// From now on all goes well again.
    pub fn undirect(&self) {
        self.0.lock().director = None;
    }

    /// Has the power go off with the operation after so many further changes of the disk.
    pub fn cut_after(&self, changes: u64) {
        let mut left = changes;
        self.direct(move |operation, _| match left {
            0 if operation.is_change() => Verdict::PowerCut,
            _ => {
                left -= u64::from(operation.is_change());
                Verdict::Proceed
            }
        });
    }

    /// Whether the power has gone off.
    pub fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// Changes the bytes of a sector behind everybody's back; see [`Image::corrupt`].
    pub fn corrupt(&self, path: &Path, offset: u64, change: impl Fn(&mut [u8; SECTOR])) {
        self.0.lock().image.corrupt(path, offset, change);
    }

    /// The bytes that all files together may take; `None`: any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// The bytes that all files together take.
    pub fn used(&self) -> u64 {
        self.0.lock().image.used()
    }
}

impl State {
    fn begin(&mut self, kind: OperationKind, path: &Path) -> io::Result<(u64, Verdict)> {
        let operation = Operation { number: self.operations, kind, path: path.to_owned() };
        if self.off {
            return Err(power_is_off());
        }
        self.operations += 1;
        let verdict = match &mut self.director {
            Some(director) => director(&operation, &self.image),
            None => Verdict::Proceed,
        };
        if self.trace.is_some() {
            self.note(format!("{operation}: {verdict:?}").as_bytes());
        }
        self.off = verdict == Verdict::PowerCut;
        Ok((operation.number, verdict))
    }

    /// The same for an operation that is carried out or not.
    fn whole(&mut self, kind: OperationKind, path: &Path) -> io::Result<u64> {
        match self.begin(kind, path)? {
            (_, Verdict::Fail(kind)) => Err(kind.into()),
            (_, Verdict::PowerCut) => Err(power_is_off()),
            (number, _) => Ok(number),
        }
    }

    /// FNV-1a.
    fn note(&mut self, bytes: &[u8]) {
        if let Some(trace) = &mut self.trace {
            for byte in bytes {
                *trace = (*trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

/// Gives the directory back when it is dropped.
#[derive(Debug)]
struct Lock(Arc<Mutex<State>>, PathBuf);

impl DirectoryLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.lock().locked.remove(&self.1);
    }
}

#[derive(Debug)]
struct SimulatedFile(Arc<Mutex<State>>, FileId);

impl Disk for SimulatedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let number = state.whole(OperationKind::CreateDirAll, path)?;
        state.image.make_dirs(number, path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.whole(OperationKind::List, dir)?;
        state.image.list(dir)
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.whole(OperationKind::Open, path)?;
        let file = state.image.find(path)?;
        Ok(Arc::new(SimulatedFile(self.0.clone(), file)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        let number = state.whole(OperationKind::Create, path)?;
        let file = state.image.create(number, path)?;
        Ok(Arc::new(SimulatedFile(self.0.clone(), file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let number = state.whole(OperationKind::Rename { to: to.to_owned() }, from)?;
        state.image.rename(number, from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let number = state.whole(OperationKind::Remove, path)?;
        state.image.remove(number, path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let outcome = state.whole(OperationKind::SyncDir, dir);
        state.image.sync_dir(dir, outcome.is_err());
        outcome.map(|_| ())
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        let mut state = self.0.lock();
        state.whole(OperationKind::LockDir, dir)?;
        if !state.locked.insert(dir.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(Lock(self.0.clone(), dir.to_owned()))))
    }
}

impl SimulatedFile {
    fn sync(&self, kind: OperationKind) -> io::Result<()> {
        let mut state = self.0.lock();
        let path = state.image.path(self.1).to_owned();
        match state.begin(kind, &path)?.1 {
            // Nothing was decided on: what is pending stays so for the power cut.
            Verdict::PowerCut => Err(power_is_off()),
            Verdict::Fail(kind) => {
                state.image.sync(self.1, true);
                Err(kind.into())
            }
            _ => {
                state.image.sync(self.1, false);
                Ok(())
            }
        }
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.0.lock();
        let path = state.image.path(self.1).to_owned();
        let kind = OperationKind::Read { offset, bytes: buffer.len() };
        let (_, verdict) = state.begin(kind, &path)?;
        let (limit, flipped) = match verdict {
            Verdict::Fail(kind) => return Err(kind.into()),
            Verdict::PowerCut => return Err(power_is_off()),
            Verdict::Short(bytes) => (bytes.max(1), None),
            Verdict::Flip { bit } => (usize::MAX, Some(bit)),
            Verdict::Proceed => (usize::MAX, None),
        };
        let length = buffer.len().min(limit);
        let count = state.image.read(self.1, &mut buffer[..length], offset);
        if let Some(bit) = flipped.filter(|_| count > 0) {
            buffer[bit / 8 % count] ^= 1 << (bit % 8);
        }
        Ok(count)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.0.lock();
        let path = state.image.path(self.1).to_owned();
        let kind = OperationKind::Write { offset, bytes: buffer.len() };
        let (number, verdict) = state.begin(kind, &path)?;
        state.note(buffer);
        let (taken, outcome) = match verdict {
            Verdict::Fail(kind) => (buffer.len() / 2 / SECTOR * SECTOR, Err(kind.into())),
            Verdict::PowerCut => (buffer.len(), Err(power_is_off())),
            Verdict::Short(bytes) => {
                let taken = buffer.len().min(bytes.max(1));
                (taken, Ok(taken))
            }
            _ => (buffer.len(), Ok(buffer.len())),
        };
        let growth = (offset + taken as u64).saturating_sub(state.image.length(self.1));
        let fits = |capacity| growth == 0 || state.image.used() + growth <= capacity;
        if !state.capacity.is_none_or(fits) {
            // What was to fail fails with that error, full disk or not.
            return outcome.and(Err(io::ErrorKind::StorageFull.into()));
        }
        state.image.write(number, self.1, &buffer[..taken], offset);
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(OperationKind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(OperationKind::SyncAll)
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.0.lock();
        let path = state.image.path(self.1).to_owned();
        state.whole(OperationKind::Size, &path)?;
        Ok(state.image.length(self.1))
    }
}

#[cfg(test)]
mod tests;
