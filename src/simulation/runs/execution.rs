//! Carrying out a plan: a store's lives, one after the other, and what has to be true of each.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Rig;
use super::damage::Damage;
use super::failure::{Failure, FailureKind};
use super::plan::{Action, Fault, Plan, SEGMENT, Stop};
use super::summary::Summary;
use super::watch::{Watch, direct};
use crate::simulation::disk::SimulatedDisk;
use crate::simulation::driver::{Driver, ReopenError};
use crate::simulation::image::{Fate, Image};
use crate::simulation::judge::content_of;
use crate::simulation::ledger::{Known, Ledger};
use crate::simulation::random::Random;
use crate::storage::Timestamp;
use crate::storage::inspect::verify;
use crate::storage::{Background, OpenError, Options, Queue, QueueId, Sequence, Store};

/// Where the store is.
pub(super) const DIR: &str = "/store";

/// What is in queues besides what the ledger knows: it does not survive a restart.
pub(super) type Passing = BTreeMap<QueueId, BTreeMap<Sequence, Known>>;

/// A run.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    rig: &'a Rig,
    entropy: Arc<Random>,
    pub(super) disk: SimulatedDisk,
    traced: bool,
    trace: u64,
    pub(super) watch: Arc<Mutex<Watch>>,
    pub(super) state: State,
    capacity: Option<u64>,
    /// The last thing that was done to the store was to wait, and whoever waits makes its segments ready.
    pub(super) has_waited: bool,
    /// When it was last stopped the store had all the segments ready that it wants: a full disk is no reason not to open it.
    had_room: bool,
    pub(super) passing: Passing,
    pub(super) volatile: Option<Queue>,
    pub(super) damage: Option<Damage>,
    /// Something has been unreadable in this life of the store.
    pub(super) unreadable: bool,
    /// Messages that were published.
    pub(super) published: u64,
    pub(super) summary: Summary,
}

/// Whether there is a store in use.
pub(super) enum State {
    Running(Driver),
    Stopped(Ledger),
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) summary: Summary,
    pub(super) trace: u64,
    pub(super) failure: Option<Failure>,
}

/// Carries out a plan.
pub(super) fn execute(plan: &Plan, rig: &Rig, traced: bool) -> Ended {
    let watch = Watch::new(SEGMENT);
    let mut run = Run {
        plan,
        rig,
        entropy: Arc::new(Random::new(plan.seed)),
        disk: SimulatedDisk::new(),
        traced,
        trace: 0,
        watch: Arc::new(Mutex::new(watch)),
        state: State::Stopped(Ledger::new()),
        capacity: None,
        has_waited: false,
        had_room: false,
        passing: Passing::new(),
        volatile: None,
        damage: None,
        unreadable: false,
        published: 0,
        summary: Summary::default(),
    };
    run.install(Image::default());
    let mut at = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| run.all(&mut at)));
    let failure = match outcome {
        Ok(outcome) => outcome.err(),
        Err(panic) => Some(Failure::of_panic(&*panic)),
    };
    let failure = failure.map(|failure| failure.at(at));
    run.summary.seeds = 1;
    run.summary.messages = run.published;
    run.summary.faults = std::mem::take(&mut run.watch.lock().faults);
    run.fold_trace();
    Ended { summary: run.summary, trace: run.trace, failure }
}

/// The disk after a power cut: a seed says what becomes of each of the pending units, at random, or of all of them alike; in
/// half of the cases lengths and names are kept in the order in which they were made, as a journaling file system does.
pub fn fates(image: &Image, seed: u64) -> Image {
    let random = Random::new(seed);
    let odds = [0, 1, 4, 7, 8, 4][random.below(6) as usize];
    let ordered = random.one_in(2);
    let metadata = image.pending().iter().filter(|unit| unit.is_metadata()).count() as u64;
    let kept = random.below(metadata + 1);
    let mut seen = 0;
    image.after_power_cut(|_, unit| {
        if ordered && unit.is_metadata() {
            seen += 1;
            return if seen <= kept { Fate::Kept } else { Fate::Dropped };
        }
        match random.below(8) < odds {
            true => Fate::Kept,
            false if unit.is_fresh() && random.one_in(4) => Fate::Garbage(random.next() as u8 | 1),
            false if unit.is_fresh() && random.one_in(3) => Fate::Zeroed,
            false => Fate::Dropped,
        }
    })
}

impl Run<'_> {
    fn all(&mut self, at: &mut usize) -> Result<(), Failure> {
        for (number, action) in self.plan.actions.iter().enumerate() {
            *at = number;
            self.summary.steps += 1;
            self.act(action)?;
        }
        // And whatever it was, a power cut does no harm to what is left.
        self.stop(Stop::PowerCut { fate: self.plan.seed })?;
        self.heal()?;
        self.disk.set_capacity(None);
        self.capacity = None;
        self.running()?;
        self.stop(Stop::Process)?;
        let verified = verify(&SimulatedDisk::of(self.disk.image()).shared(), DIR.as_ref(), |_| {});
        match verified {
            Ok(verified) if verified.is_whole() => Ok(()),
            other => Err(Failure::new(
                FailureKind::Differs,
                format!("verify does not find the store whole: {other:?}"),
            )),
        }
    }

    fn act(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Stop(how) => self.stop(*how),
            Action::OpenAmid(fault) => {
                self.stop(Stop::Process)?;
                self.open_amid(*fault)
            }
            Action::Strike(fault) => {
                self.running()?;
                self.watch.lock().arm(Some(*fault));
                Ok(())
            }
            Action::Fill { segments } => {
                self.set_capacity(Some(self.disk.used() + u64::from(*segments) * SEGMENT));
                Ok(())
            }
            Action::Room => {
                self.set_capacity(None);
                match self.state {
                    State::Running(_) => {
                        let outcome = self.resume();
                        self.settle(action, outcome)
                    }
                    State::Stopped(_) => Ok(()),
                }
            }
            Action::Probe(rot) => self.probe(*rot),
            Action::Damage(rot) => self.damage(*rot),
            other => {
                self.running()?;
                let outcome = self.use_store(other);
                self.settle(other, outcome)
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.capacity.is_some()
    }

    fn set_capacity(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
        self.disk.set_capacity(capacity);
    }

    /// The disk is in this state from now on.
    fn install(&mut self, image: Image) {
        self.fold_trace();
        self.disk = SimulatedDisk::of(image);
        if self.traced {
            self.disk.keep_trace();
        }
        self.disk.set_capacity(self.capacity);
        direct(&self.disk, &self.watch);
    }

    fn fold_trace(&mut self) {
        let trace = self.disk.trace().unwrap_or_default();
        self.trace = self.trace.rotate_left(7) ^ trace;
    }

    fn options(&self, disk: &SimulatedDisk, entropy: Arc<Random>) -> Options {
        let setup = &self.plan.setup;
        Options {
            segment_size: SEGMENT,
            segments_ahead: setup.segments_ahead,
            segments_spare: setup.segments_spare,
            checkpoint_distance: setup.checkpoint_distance,
            cache: setup.cache,
            index: setup.index,
            chunk_places: 16,
            background: Background::Caller,
            disk: (self.rig.disk)(disk.clone()),
            entropy,
            clock: Arc::new(Timestamp::from_unix_millis(0)),
            ..Options::default()
        }
    }

    /// The same for a copy that is looked at and thrown away.
    pub(super) fn options_of_copy(&self, disk: &SimulatedDisk) -> Options {
        self.options(disk, Arc::new(Random::new(self.plan.seed ^ 1)))
    }

    pub(super) fn ledger(&self) -> &Ledger {
        match &self.state {
            State::Running(driver) => driver.ledger(),
            State::Stopped(ledger) => ledger,
        }
    }

    /// The store in use.
    pub(super) fn driver(&mut self) -> &mut Driver {
        match &mut self.state {
            State::Running(driver) => driver,
            State::Stopped(_) => unreachable!("it was opened before anything is done to it"),
        }
    }

    /// Ends the store's life.
    pub(super) fn stop(&mut self, how: Stop) -> Result<(), Failure> {
        self.volatile = None;
        self.passing.clear();
        self.unreadable = false;
        let stopped = State::Stopped(self.ledger().clone());
        let before = std::mem::replace(&mut self.state, stopped);
        let mut how = how;
        if let State::Running(driver) = &before {
            let failed = self.watch.lock().is_fatal();
            self.had_room = self.has_waited && !driver.store().is_full() && !failed;
        }
        if let State::Running(driver) = before
            && how == Stop::Close
        {
            self.summary.closes += 1;
            match driver.close() {
                // What a power cut hit may be the removal of a file, which a closed store can do without.
                Ok(_) if self.watch.lock().is_fatal() && !self.disk.is_off() => {
                    let what = "the store was closed although the disk failed";
                    return Err(Failure::new(FailureKind::PassedOver, what));
                }
                Ok(ledger) => self.state = State::Stopped(ledger),
                Err(error) => self.not_closed(&error)?,
            }
        }
        if self.disk.is_off() {
            let fault = self.watch.lock().struck();
            how = Stop::PowerCut { fate: fault.map_or(0, |fault| fault.fate) };
        }
        self.watch.lock().arm(None);
        let image = self.disk.image();
        let after = match how {
            Stop::PowerCut { fate } => {
                self.summary.power_cuts += 1;
                fates(&image, fate)
            }
            Stop::Close | Stop::Process => image,
        };
        self.install(after);
        Ok(())
    }

    /// Ends a life in which something has gone wrong.
    pub(super) fn give_up(&mut self) -> Result<(), Failure> {
        let struck = self.watch.lock().struck();
        self.stop(struck.map_or(Stop::Process, Fault::aftermath))
    }

    fn not_closed(&self, error: &crate::storage::StoreError) -> Result<(), Failure> {
        if self.watch.lock().is_fatal() || self.is_full() {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Refused, format!("the store is not closed: {error}")))
    }

    /// Opens the store if it is stopped, and compares it. In half of the runs it is a copy that is read, so that of the store
    /// in use nothing is in memory yet.
    pub(super) fn running(&mut self) -> Result<(), Failure> {
        if matches!(self.state, State::Running(_)) {
            return Ok(());
        }
        self.heal()?;
        self.watch.lock().arm(None);
        self.summary.opens += 1;
        let mut ledger = self.ledger().clone();
        if self.plan.seed.is_multiple_of(2) {
            let copy = SimulatedDisk::of(self.disk.image());
            let driver = Driver::open(DIR, self.options_of_copy(&copy), ledger)?;
            ledger = driver.into_ledger();
        }
        let store = loop {
            match Store::open(DIR, self.options(&self.disk, self.entropy.clone())) {
                Ok(store) => break store,
                Err(error) if self.is_for_want_of_room(&error) => {
                    self.summary.refused_full += 1;
                    self.set_capacity(None);
                }
                Err(error) => return Err(ReopenError::from(error).into()),
            }
        };
        if !self.plan.seed.is_multiple_of(2) {
            let found = content_of(&store).map_err(ReopenError::Read)?;
            ledger.restarted(found).map_err(ReopenError::Mismatch)?;
        }
        if store.set_aside() > 0 {
            let what = format!("{} messages are set aside", store.set_aside());
            return Err(ReopenError::Read(what).into());
        }
        self.has_waited = false;
        self.state = State::Running(Driver::of(store, ledger));
        Ok(())
    }

    /// Whether an open may end so on a full disk: where the store was not left with segments for it, or is not there yet.
    fn is_for_want_of_room(&self, error: &OpenError) -> bool {
        let has_reserve = self.had_room && self.plan.setup.segments_ahead >= 4;
        let created = self.disk.image().contents().keys().any(|path| path.ends_with("superblock"));
        self.is_full()
            && match error {
                // A last message that is larger than a segment is written anew, to a file that no reserve holds.
                OpenError::Full { bytes, .. } => !has_reserve || *bytes > SEGMENT,
                OpenError::Io { source, .. } => {
                    source.kind() == io::ErrorKind::StorageFull && !created
                }
                _ => false,
            }
    }

    /// Tries to open the store that is stopped while something goes wrong.
    fn open_amid(&mut self, fault: Fault) -> Result<(), Failure> {
        self.heal()?;
        self.had_room = false;
        let before = self.disk.image();
        let groups = self.watch.lock().groups.clone();
        self.watch.lock().arm(Some(fault));
        self.summary.opens += 1;
        let opened = Store::open(DIR, self.options(&self.disk, self.entropy.clone()));
        let fatal = self.watch.lock().is_fatal();
        let misread = self.watch.lock().is_misread();
        if self.disk.is_off() {
            drop(opened);
            return self.give_up();
        }
        let store = match opened {
            Ok(store) => store,
            Err(error) if self.is_for_want_of_room(&error) => {
                self.summary.refused_full += 1;
                self.set_capacity(None);
                return self.give_up();
            }
            Err(error) if fatal || misread => {
                // Before it is accepted nothing is changed; and reading is all that is done before.
                let changed = self.disk.image().contents() != before.contents();
                if misread && self.watch.lock().hit_early && changed {
                    let what = format!("an open that could not read changed files: {error}");
                    return Err(Failure::new(FailureKind::Changed, what));
                }
                return self.give_up();
            }
            Err(error) => return Err(ReopenError::from(error).into()),
        };
        let flipped = self.watch.lock().flipped.clone();
        // Once it is accepted, an open may write a checkpoint, and reads lists of messages for it that it can do without.
        let unread = misread && flipped.is_none() && self.watch.lock().hit_early;
        if fatal || unread {
            let what = format!("the store was opened although {fault}");
            return Err(Failure::new(FailureKind::PassedOver, what));
        }
        let found = match content_of(&store) {
            Ok(found) => found,
            // Reading waits for what is not written yet, and so meets what was not met before.
            Err(_) if self.watch.lock().is_fatal() => {
                drop(store);
                return self.give_up();
            }
            Err(error) => return Err(ReopenError::Read(error).into()),
        };
        let misread = self.watch.lock().is_misread();
        let aside = store.set_aside();
        if aside > 0 && !misread {
            let what = format!("{aside} messages are set aside that could be read");
            return Err(Failure::new(FailureKind::Differs, what));
        }
        let mut ledger = self.ledger().clone();
        if !ledger.allows(&found, aside) {
            let unproven = flipped.and_then(|(path, at)| groups.unproven_at(&before, &path, at));
            if let Some(lsn) = unproven {
                self.summary.cut_off += 1;
                ledger = ledger.durable_below(lsn);
            }
        }
        if aside > 0 {
            // What could not be read this time is there the next time.
            if !ledger.allows(&found, aside) {
                let what = format!("{aside} messages are set aside, and others are missing");
                return Err(Failure::new(FailureKind::Silent, what));
            }
            self.summary.set_aside += aside;
            drop(store);
            return self.give_up();
        }
        ledger.restarted(found).map_err(ReopenError::Mismatch)?;
        self.watch.lock().arm(None);
        self.has_waited = false;
        self.state = State::Running(Driver::of(store, ledger));
        Ok(())
    }
}

impl From<ReopenError> for Failure {
    fn from(error: ReopenError) -> Failure {
        let kind = match error {
            ReopenError::Open(_) => FailureKind::NotOpened,
            ReopenError::Read(_) => FailureKind::Differs,
            ReopenError::Mismatch(_) => FailureKind::Mismatch,
        };
        Failure::new(kind, error.to_string())
    }
}
