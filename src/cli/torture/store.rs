//! Torture of the engine alone: a child that embeds it, and a check that opens the store itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::defect::DefectKind;
use super::ending::{Bounds, end, is_full, may_refuse};
use super::note::Note;
use super::oracle::{Found, Oracle};
use super::plan::{Ending, Plan, Round};
use super::process::{Process, child_command, describe};
use super::report::{Report, RoundResult};
use super::stamp::{Identity, QueueNumber};
use super::store_child::{find, found, options};
use super::workplace::Workplace;
use super::{READY, ROUNDS_PER_STORE, TortureError, Victim};
use crate::storage::disk::RealDisk;
use crate::storage::inspect::verify;
use crate::storage::{
    Fetch, Fetched, OpenError, Queue, Sequence, SequenceRange, Store, StoreError,
};

/// Segments have 2 to the power of this many bytes, drawn anew for each store.
const SEGMENT_POWERS: std::ops::Range<u32> = 16..20;

/// See the module.
#[derive(Debug)]
pub(super) struct TorturedStore {
    plan: Plan,
    workplace: Workplace,
    data: PathBuf,
    segment_size: u64,
    heard: Arc<Mutex<Heard>>,
    oracle: Arc<Mutex<Oracle>>,
    sabotage: bool,
    last_restart: Duration,
    last_words: String,
}

/// What the children have told.
#[derive(Debug)]
struct Heard {
    plan: Plan,
    oracle: Arc<Mutex<Oracle>>,
    /// Of each publisher: the number of its next message.
    next: Vec<u64>,
    /// Of each consumer: what it has taken and acknowledged and does not know to be durable.
    unsettled: Vec<(Vec<Identity>, Vec<Identity>)>,
}

impl Heard {
    fn note(&mut self, note: Note) {
        let mut oracle = self.oracle.lock();
        match note {
            Note::Ready => {}
            Note::Announced(publisher, below) => {
                if let Some(next) = self.next.get_mut(usize::from(publisher.0)) {
                    for number in *next..below {
                        oracle.published(self.plan.message(Identity { publisher, number }));
                    }
                    *next = below;
                }
            }
            Note::Confirmed(publisher, below) => oracle.confirmed_below(publisher, below),
            Note::HandedOut(consumer, queue, messages) => {
                for (identity, redelivered) in messages {
                    let content = Ok(self.plan.message(identity).stamp);
                    let found = Found { label: Some(identity), content, redelivered };
                    let known = oracle.handed_out(consumer, queue, &found);
                    if let Some(unsettled) = self.unsettled.get_mut(usize::from(consumer.0)) {
                        unsettled.0.extend(known);
                    }
                }
            }
            Note::Acknowledged(consumer, queue, messages) => {
                messages.iter().for_each(|identity| oracle.acknowledged(queue, *identity));
                if let Some(unsettled) = self.unsettled.get_mut(usize::from(consumer.0)) {
                    unsettled.1.extend(messages);
                }
            }
            Note::Settled(consumer) => {
                if let Some(unsettled) = self.unsettled.get_mut(usize::from(consumer.0)) {
                    let (handed_out, acknowledged) = std::mem::take(unsettled);
                    let queue = self.plan.consumed_by(consumer);
                    oracle.settled(queue, &acknowledged, &handed_out);
                }
            }
            Note::Altered(text) => oracle.defect(DefectKind::Altered, text),
        }
    }
}

impl TorturedStore {
    pub(super) fn new(
        plan: Plan,
        mut workplace: Workplace,
        sabotage: bool,
    ) -> Result<TorturedStore, TortureError> {
        let oracle = Arc::new(Mutex::new(Oracle::new(plan.queues)));
        let heard = Heard {
            plan,
            oracle: oracle.clone(),
            next: vec![0; usize::from(plan.publishers)],
            unsettled: vec![Default::default(); usize::from(plan.consumers)],
        };
        Ok(TorturedStore {
            plan,
            data: workplace.begin_data()?,
            workplace,
            segment_size: 1 << SEGMENT_POWERS.start,
            heard: Arc::new(Mutex::new(heard)),
            oracle,
            sabotage,
            last_restart: Duration::from_millis(10),
            last_words: String::new(),
        })
    }

    fn misbehaved(&self, text: String) {
        self.oracle.lock().defect(DefectKind::Misbehaved, text);
    }

    fn is_wrong(&self) -> bool {
        self.oracle.lock().defects().total() > 0
    }

    /// Starts a child, and waits until its store is open or it has ended.
    fn start(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
    ) -> Result<(Process, bool), TortureError> {
        let ready = Arc::new(AtomicBool::new(false));
        let mut process = self.spawn(round, bounds, false, &ready)?;
        let until = Instant::now() + READY;
        process
            .wait_while(|| !ready.load(Ordering::Acquire) && Instant::now() < until)
            .map_err(TortureError::Control)?;
        Ok((process, ready.load(Ordering::Acquire)))
    }

    fn spawn(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
        idle: bool,
        ready: &Arc<AtomicBool>,
    ) -> Result<Process, TortureError> {
        let mut command = child_command("store", &self.data)?;
        command.env("HAYPILE_LOG", "warn");
        let mut option = |name: &str, value: u64| {
            command.arg(name).arg(value.to_string());
        };
        option("--seed", self.plan.seed);
        option("--life", round.random.u64(..));
        option("--queues", u64::from(self.plan.queues));
        option("--publishers", u64::from(self.plan.publishers));
        option("--consumers", u64::from(self.plan.consumers));
        option("--largest", u64::from(self.plan.largest));
        option("--segment-size", self.segment_size);
        option("--budget", bounds.budget());
        match round.ending {
            _ if idle => {}
            Ending::SyncFails(sync) => option("--fail-sync", sync),
            Ending::DiskFull(room) => option("--room", room),
            Ending::Killed | Ending::Terminated => {}
        }
        let first: Vec<String> = self.heard.lock().next.iter().map(u64::to_string).collect();
        command.arg("--first").arg(first.join(","));
        if idle {
            command.arg("--idle");
        }
        if self.sabotage {
            command.arg("--sabotage");
        }
        let (heard, oracle, ready) = (self.heard.clone(), self.oracle.clone(), ready.clone());
        Process::start(command, move |line| match line.parse() {
            Ok(Note::Ready) => ready.store(true, Ordering::Release),
            Ok(note) => heard.lock().note(note),
            Err(error) => oracle.lock().defect(DefectKind::Misbehaved, format!("{error}")),
        })
    }

    /// One life, from its start to its end.
    fn live(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
        report: &mut Report,
    ) -> Result<String, TortureError> {
        let (mut process, ready) = self.start(round, bounds)?;
        let over = AtomicBool::new(false);
        if ready {
            let ended = end(&mut process, round, bounds, &self.workplace, &over, &self.oracle)?;
            report.ended(round.ending, ended.by_itself);
            self.last_words = process.last_words();
            return Ok(ended.text);
        }
        let status = process.ended().map_err(TortureError::Control)?;
        self.last_words = process.last_words();
        let how = status.map_or("it was not ready in time".to_owned(), describe);
        if may_refuse(round.ending, status.and_then(|status| status.code()), &self.last_words) {
            report.ended(round.ending, true);
            return Ok(format!("did not open on a disk that failed, {how}"));
        }
        self.misbehaved(format!("the store was not opened by the child: {how}"));
        Ok(format!("not opened, {how}"))
    }

    /// Kills children that are opening the store; gives how many were.
    fn kill_in_recovery(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
    ) -> Result<u64, TortureError> {
        let mut kills = 0;
        for share in std::mem::take(&mut round.kills_in_recovery) {
            let ready = Arc::new(AtomicBool::new(false));
            let mut process = self.spawn(round, bounds, true, &ready)?;
            let early = process
                .wait_for(self.last_restart.mul_f64(share))
                .map_err(TortureError::Control)?;
            if let Some(status) = early {
                self.last_words = process.last_words();
                if is_full(&self.last_words) {
                    return Err(TortureError::NoRoom(self.data.clone()));
                }
                self.misbehaved(format!("it ended while it recovered: {}", describe(status)));
                break;
            }
            process.kill().map_err(TortureError::Control)?;
            kills += u64::from(!ready.load(Ordering::Acquire));
        }
        Ok(kills)
    }

    /// Opens the store, has the oracle judge it, and acknowledges a part of what is there.
    fn check(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
    ) -> Result<(Duration, u64), TortureError> {
        let began = Instant::now();
        let opened = Store::open(&self.data, options(self.segment_size, Arc::new(RealDisk)));
        let took = began.elapsed();
        let store = match opened {
            Ok(store) => store,
            Err(OpenError::Full { dir, .. }) => return Err(TortureError::NoRoom(dir)),
            Err(error) => {
                self.misbehaved(format!("the store does not open: {error}"));
                return Ok((took, 0));
            }
        };
        self.last_restart = took;
        let keep = if bounds.is_much(self.workplace.bytes()) { 0.0 } else { round.keep };
        let checked = self.check_open(&store, round, keep);
        if store.set_aside() > 0 {
            self.misbehaved(format!("{} messages were set aside", store.set_aside()));
        }
        // A close writes a checkpoint, and leaves the next open nothing to replay; a drop does not.
        // Neither is done to a store with a defect: it is evidence.
        let closes = round.random.bool() && !self.is_wrong();
        let closed = if closes { store.close() } else { Ok(()) };
        match checked.and_then(|found| closed.map(|()| found)) {
            Ok(found) => Ok((took, found)),
            Err(error) => {
                self.misbehaved(format!("the open store failed: {error}"));
                Ok((took, 0))
            }
        }
    }

    fn check_open(
        &mut self,
        store: &Store,
        round: &mut Round,
        keep: f64,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        for number in (0..self.plan.queues).map(QueueNumber) {
            let queue = find(store, number);
            let all = queue.as_ref().map_or(Ok(Vec::new()), fetch_all)?;
            let contents: Vec<Found> = all.iter().map(|(_, found)| found.clone()).collect();
            count += contents.len() as u64;
            self.oracle.lock().recovered(number, &contents);
            // Of evidence, nothing is acknowledged.
            let Some(queue) = queue.filter(|_| !self.is_wrong()) else { continue };
            let gone: Vec<&(Sequence, Found)> =
                all.iter().filter(|_| round.random.f64() >= keep).collect();
            let ranges: Vec<SequenceRange> =
                gone.iter().map(|(place, _)| SequenceRange::one(*place)).collect();
            let identities: Vec<Identity> =
                gone.iter().filter_map(|(_, found)| found.label).collect();
            let acknowledged = queue.acknowledge(&ranges)?;
            if acknowledged.messages != ranges.len() as u64 {
                self.misbehaved(format!(
                    "{number}: {} messages were acknowledged, and {} are gone",
                    ranges.len(),
                    acknowledged.messages
                ));
            }
            if let Some(durable_at) = acknowledged.durable_at {
                store.wait_durable(durable_at)?;
            }
            let mut oracle = self.oracle.lock();
            identities.iter().for_each(|identity| oracle.acknowledged(number, *identity));
            oracle.settled(number, &identities, &[]);
        }
        Ok(count)
    }

    fn verify(&self) {
        match verify(&RealDisk, &self.data, |_| {}) {
            Ok(verification) if verification.is_whole() => {}
            Ok(verification) => self.misbehaved(format!(
                "verify finds {} damaged places and {} holes",
                verification.damage.len(),
                verification.holes.len()
            )),
            Err(error) => self.misbehaved(format!("verify cannot read the store: {error}")),
        }
    }
}

impl Victim for TorturedStore {
    fn round(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
        report: &mut Report,
    ) -> Result<RoundResult, TortureError> {
        if report.rounds.is_multiple_of(ROUNDS_PER_STORE)
            || self.workplace.bytes() > bounds.disk_limit
        {
            if report.stores > 0 {
                self.verify();
                self.data = self.workplace.begin_data()?;
                self.oracle.lock().forget();
            }
            report.stores += 1;
            self.segment_size = 1 << round.random.u32(SEGMENT_POWERS);
        }
        self.last_words.clear();
        let ended = self.live(round, bounds, report)?;
        // What was on the way to be settled when the child ended never will be.
        self.heard
            .lock()
            .unsettled
            .iter_mut()
            .for_each(|unsettled| *unsettled = Default::default());
        let kills_in_recovery = self.kill_in_recovery(round, bounds)?;
        report.kills_in_recovery += kills_in_recovery;
        let required = self.oracle.lock().required();
        let (restart, found) = self.check(round, bounds)?;
        report.restarted(restart);
        Ok(RoundResult { ended, kills_in_recovery, restart, found, required })
    }

    fn finish(&mut self) -> Result<(), TortureError> {
        self.verify();
        Ok(())
    }

    fn oracle(&self) -> &Mutex<Oracle> {
        &self.oracle
    }

    fn workplace(&self) -> &Workplace {
        &self.workplace
    }

    fn last_words(&self) -> String {
        self.last_words.clone()
    }
}

fn fetch_all(queue: &Queue) -> Result<Vec<(Sequence, Found)>, StoreError> {
    const AT_ONCE: usize = 256;
    let mut all = Vec::new();
    let mut from = Sequence::FIRST;
    loop {
        let mut fetched: Vec<Fetched> = Vec::new();
        let fetch = queue.fetch(from, AT_ONCE, &mut fetched);
        if let Some(last) = fetched.last() {
            from = last.sequence.next();
        }
        let more = !fetched.is_empty();
        all.extend(fetched.iter().map(|fetched| (fetched.sequence, found(fetched))));
        match fetch {
            Fetch::NeedsLoad => queue.load(from)?,
            Fetch::Complete if more => {}
            Fetch::Complete => return Ok(all),
        }
    }
}
