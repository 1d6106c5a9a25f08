//! A store in use on a simulated disk, and the recording of all that happens to that disk.
//!
//! A [`Workload`] plays on a [`Scene`]. What is recorded is each [`Moment`] before a change of the disk, and the one at the
//! end, with what the store's user knew at it. Nothing is compared here.

use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Operation, SimulatedDisk, Verdict};
use super::driver::{Driver, ReopenError};
use super::image::Image;
use super::ledger::{Ledger, Position};
use super::random::Random;
use crate::storage::{Background, Options, StoreError, Timestamp};

/// Where the store is on the simulated disk: below a directory that has to be made too.
pub const DIR: &str = "/data/store";

/// Something that a store is put through.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// The bytes that all files together may take, if there is a limit.
    pub capacity: Option<u64>,
    /// The disk that it begins on, and what is known of the store there.
    pub before: fn() -> (Image, Ledger),
    /// What is special about the store's options.
    pub tune: fn(&mut Options),
    /// What happens.
    pub play: fn(&mut Scene) -> Result<(), SceneError>,
}

/// Why a workload could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The store said so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be opened again, or was not the same.
    #[error(transparent)]
    Reopen(#[from] ReopenError),
    /// Something did not happen that the workload is about.
    #[error("this was to happen, and did not: {0}")]
    Pointless(&'static str),
}

impl Workload {
    /// The options of its store, on this disk; salts come from the seed.
    pub fn options(&self, disk: &SimulatedDisk, seed: u64) -> Options {
        let mut options = Options {
            segment_size: 16 << 10,
            segments_ahead: 1,
            segments_spare: 1,
            checkpoint_distance: u64::MAX,
            cache: 1000,
            index: 1000,
            chunk_places: 16,
            background: Background::Caller,
            disk: Arc::new(disk.clone()),
            clock: Arc::new(Timestamp::from_unix_millis(0)),
            entropy: Arc::new(Random::new(seed)),
            ..Options::default()
        };
        (self.tune)(&mut options);
        options
    }

    /// A disk in this state, as large as the workload's.
    pub fn disk(&self, image: Image) -> SimulatedDisk {
        let disk = SimulatedDisk::of(image);
        disk.set_capacity(self.capacity);
        disk
    }

    /// Plays all of it, and records.
    ///
    /// # Errors
    /// With all going well on the disk, there should be none.
    pub fn record(&self, seed: u64) -> Result<Recording, SceneError> {
        let (image, ledger) = (self.before)();
        let disk = self.disk(image);
        let recorder = Recorder::attach(&disk, ledger);
        let mut scene = Scene { workload: *self, disk, seed, recorder, driver: None };
        scene.open()?;
        (self.play)(&mut scene)?;
        Ok(scene.finish())
    }
}

/// An empty disk, of which nothing is known.
pub(super) fn empty() -> (Image, Ledger) {
    (Image::default(), Ledger::new())
}

/// A moment in the life of a disk.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The disk.
    pub image: Image,
    /// The change that came next; `None`: there was no other.
    pub next: Option<Operation>,
    /// What of the history the store's user knew.
    pub position: Position,
    /// Which of the ledgers that is a position in.
    life: usize,
}

/// Everything that happened to a disk.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The moments, in order.
    pub moments: Vec<Moment>,
    /// Of each moment.
    known: Vec<Ledger>,
}

impl Recording {
    fn new(moments: Vec<Moment>, ledgers: &[Ledger]) -> Recording {
        let mut known: Vec<Ledger> = Vec::new();
        let mut before: Option<(usize, Position)> = None;
        for Moment { life, position, .. } in &moments {
            // Of most moments nothing more is known than of the one before.
            let ledger = match known.last() {
                Some(last) if before == Some((*life, *position)) => last.clone(),
                _ => ledgers[*life].at(*position).settled(),
            };
            before = Some((*life, *position));
            known.push(ledger);
        }
        Recording { moments, known }
    }

    /// What the store's user knew at the moment of this number.
    pub fn ledger(&self, moment: usize) -> &Ledger {
        &self.known[moment]
    }

    /// What the user knew to be durable: how many steps, of which life.
    pub(super) fn durable_at(&self, moment: &Moment) -> (usize, usize) {
        (moment.life, moment.position.durable)
    }
}

#[derive(Debug)]
struct Recorder {
    moments: Vec<Moment>,
    ledgers: Vec<Ledger>,
    /// Where the present life's ledger is. Between two lives it is the one before's.
    now: Arc<Mutex<Position>>,
}

impl Recorder {
    fn attach(disk: &SimulatedDisk, ledger: Ledger) -> Arc<Mutex<Recorder>> {
        let now = Arc::new(Mutex::new(ledger.position()));
        let recorder = Recorder { moments: Vec::new(), ledgers: vec![ledger], now };
        let recorder = Arc::new(Mutex::new(recorder));
        let sink = recorder.clone();
        disk.direct(move |operation, image| {
            if operation.is_change() {
                sink.lock().note(image, Some(operation));
            }
            Verdict::Proceed
        });
        recorder
    }

    fn note(&mut self, image: &Image, next: Option<&Operation>) {
        self.moments.push(Moment {
            image: image.clone(),
            next: next.cloned(),
            position: *self.now.lock(),
            life: self.ledgers.len() - 1,
        });
    }

    /// The recording; the present life's ledger has been put in.
    fn take(&mut self) -> Recording {
        Recording::new(std::mem::take(&mut self.moments), &std::mem::take(&mut self.ledgers))
    }
}

/// Opens a store on a disk, and records what that does to the disk; the ledger is what is known before.
///
/// # Errors
/// Those of [`Driver::open`].
pub fn record_opening(
    disk: &SimulatedDisk,
    options: Options,
    ledger: Ledger,
) -> Result<(Driver, Recording), ReopenError> {
    let recorder = Recorder::attach(disk, ledger.clone());
    let driver = Driver::open(DIR, options, ledger)?;
    disk.undirect();
    let recording = recorder.lock().take();
    Ok((driver, recording))
}

/// A store in use, whatever becomes of it.
#[derive(Debug)]
pub struct Scene {
    workload: Workload,
    disk: SimulatedDisk,
    seed: u64,
    recorder: Arc<Mutex<Recorder>>,
    driver: Option<Driver>,
}

impl Scene {
    /// A scene that has not begun, on a disk that somebody else watches: nothing is recorded.
    pub fn on(workload: Workload, disk: SimulatedDisk, seed: u64) -> Scene {
        let nothing = SimulatedDisk::new();
        let recorder = Recorder::attach(&nothing, Ledger::new());
        Scene { workload, disk, seed, recorder, driver: None }
    }

    /// Opens the store, the first time or once more.
    ///
    /// # Errors
    /// Those of [`Driver::open`].
    pub fn open(&mut self) -> Result<(), ReopenError> {
        self.seed += 1;
        let options = self.workload.options(&self.disk, self.seed);
        let ledger = self.recorder.lock().ledgers.last().cloned().unwrap_or_default();
        let driver = Driver::open(DIR, options, ledger)?;
        let mut recorder = self.recorder.lock();
        recorder.now = driver.now();
        recorder.ledgers.push(driver.ledger().clone());
        drop(recorder);
        self.driver = Some(driver);
        Ok(())
    }

    /// The store in use.
    ///
    /// # Panics
    /// If it is not open.
    pub fn driver(&mut self) -> &mut Driver {
        self.driver.as_mut().expect("a workload opens the store before it uses it")
    }

    /// The store, if it is open.
    pub fn try_driver(&mut self) -> Option<&mut Driver> {
        self.driver.as_mut()
    }

    /// The disk.
    pub fn disk(&self) -> &SimulatedDisk {
        &self.disk
    }

    /// Ends the process as it is, and starts another: the disk keeps what is only in its cache.
    ///
    /// # Errors
    /// Those of [`Driver::open`].
    pub fn kill(&mut self) -> Result<(), ReopenError> {
        self.put_away();
        self.open()
    }

    /// Closes the store, and opens it again.
    ///
    /// # Errors
    /// Those of closing and opening.
    pub fn reopen(&mut self) -> Result<(), SceneError> {
        if let Some(driver) = self.driver.take() {
            let before = driver.ledger().at(*driver.now().lock());
            let closed = driver.close();
            let ledger = closed.as_ref().map_or(before, Clone::clone);
            let mut recorder = self.recorder.lock();
            *recorder.now.lock() = ledger.position();
            recorder.put_ledger(ledger);
            drop(recorder);
            closed?;
        }
        Ok(self.open()?)
    }

    /// Drops the store, and gives what is known of it.
    pub fn into_ledger(mut self) -> Ledger {
        self.put_away();
        let mut recorder = self.recorder.lock();
        recorder.ledgers.pop().unwrap_or_default()
    }

    fn put_away(&mut self) {
        if let Some(driver) = self.driver.take() {
            let ledger = driver.into_ledger();
            self.recorder.lock().put_ledger(ledger);
        }
    }

    fn finish(mut self) -> Recording {
        let image = self.disk.image();
        self.recorder.lock().note(&image, None);
        self.disk.undirect();
        self.put_away();
        self.recorder.lock().take()
    }
}

impl Recorder {
    /// Replaces the present life's ledger by what it has become.
    fn put_ledger(&mut self, ledger: Ledger) {
        if let Some(last) = self.ledgers.last_mut() {
            *last = ledger;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A queue, and one message in it.
    pub(in crate::simulation) fn one_message() -> Workload {
        Workload {
            name: "one message",
            capacity: None,
            before: empty,
            tune: |_| {},
            play: |scene| {
                let driver = scene.driver();
                let queue = driver.create_queue(b"orders")?;
                driver.publish("one bale of hay", &[&queue])?;
                driver.confirm()?;
                Ok(())
            },
        }
    }

    #[test]
    fn the_same_workload_is_the_same_to_the_byte_and_another_seed_is_not() {
        let trace = |seed| {
            let workload = one_message();
            let disk = workload.disk(Image::default());
            disk.keep_trace();
            let mut scene = Scene::on(workload, disk.clone(), seed);
            scene.open().unwrap();
            (workload.play)(&mut scene).unwrap();
            scene.reopen().unwrap();
            disk.trace().unwrap()
        };
        assert_eq!(trace(7), trace(7));
        assert_ne!(trace(7), trace(8));
    }

    #[test]
    fn each_moment_knows_what_was_confirmed_before_it() {
        let recording = one_message().record(1).unwrap();
        let known: Vec<Position> = recording.moments.iter().map(|at| at.position).collect();
        let durable: Vec<usize> = known.iter().map(|position| position.durable).collect();
        assert!(durable.is_sorted(), "{durable:?}");
        assert_eq!(known.first(), Some(&Position { steps: 0, durable: 0 }));
        assert_eq!(known.last(), Some(&Position { steps: 2, durable: 2 }));
        let sync = recording.moments.iter().rfind(|at| at.position.durable < 2).unwrap();
        assert!(sync.next.as_ref().unwrap().is_sync(), "confirmed by {:?}", sync.next);
    }
}
