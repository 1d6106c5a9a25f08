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
use super::stamp::Identity;
use super::store_check::{Check, Checked};
use super::{READY, ROUNDS_PER_STORE, TortureError, Victim};
use crate::cli::workplace::Workplace;
use crate::storage::disk::RealDisk;
use crate::storage::inspect::verify;

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

    fn verify(&self) {
        match verify(&RealDisk::shared(), &self.data, |_| {}) {
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
        let check = Check {
            data: self.data.clone(),
            segment_size: self.segment_size,
            queues: self.plan.queues,
            oracle: self.oracle.clone(),
            keep: if bounds.is_much(self.workplace.bytes()) { 0.0 } else { round.keep },
            random: round.random.fork(),
        };
        let Checked { opening: restart, found } = check.run()?;
        self.last_restart = restart;
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
