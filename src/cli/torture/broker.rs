//! Torture of the broker: `haypile serve`, its clients, its ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::Client;
use super::defect::DefectKind;
use super::ending::{Bounds, end, is_full, may_refuse};
use super::look::look;
use super::oracle::{Consumer, Oracle};
use super::peers::{EVERYWHERE, PAIRS, Peers, consume, publish};
use super::plan::{Ending, Plan, Round};
use super::process::{Process, child_command, describe};
use super::report::{Report, RoundResult};
use super::stamp::{Publisher, QueueNumber};
use super::{READY, ROUNDS_PER_STORE, TortureError, Victim};
use crate::amqp::codec::Method;
use crate::cli::client::{ClientError, declaration};
use crate::cli::workplace::Workplace;
use crate::message::RawTable;
use crate::storage::disk::RealDisk;
use crate::storage::inspect::verify;
use crate::storage::{Options, Store};

/// Segments have 2 to the power of this many bytes, drawn anew for each data directory: the largest messages do not fit into
/// the smaller ones.
const SEGMENT_POWERS: std::ops::Range<u32> = 20..24;

/// A round publishes so many messages at most.
const MESSAGES: i64 = 100_000;

/// Where a server listens, once it is ready.
type Ready = Arc<Mutex<Option<SocketAddr>>>;

/// See the module.
#[derive(Debug)]
pub(super) struct TorturedBroker {
    plan: Plan,
    workplace: Workplace,
    data: PathBuf,
    /// The server, while it is ready.
    server: Option<(Process, SocketAddr)>,
    /// The next number of each publisher, and of each consumer and each look as publishers.
    publishers: Vec<AtomicU64>,
    fences: Vec<AtomicU64>,
    oracle: Arc<Mutex<Oracle>>,
    last_restart: Duration,
    last_words: String,
}

impl TorturedBroker {
    pub(super) fn new(plan: Plan, mut workplace: Workplace) -> Result<Self, TortureError> {
        let numbers = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let looks = usize::from(Plan::looker(plan.queues, QueueNumber(plan.queues)).0);
        Ok(TorturedBroker {
            plan,
            data: workplace.begin_data()?,
            workplace,
            server: None,
            publishers: numbers(usize::from(plan.publishers)),
            fences: numbers(looks),
            oracle: Arc::new(Mutex::new(Oracle::new(plan.queues))),
            last_restart: Duration::from_millis(100),
            last_words: String::new(),
        })
    }

    fn misbehaved(&self, text: String) {
        self.oracle.lock().defect(DefectKind::Misbehaved, text);
    }

    /// Starts a server, on a disk with the faults of that ending.
    fn spawn(&self, ending: Option<Ending>) -> Result<(Process, Ready), TortureError> {
        let mut command = child_command("serve", &self.data)?;
        command.env("HAYPILE_LOG", "warn");
        let mut fault = |option: &str, value: u64| {
            command.arg(option).arg(value.to_string());
        };
        match ending {
            Some(Ending::SyncFails(sync)) => fault("--fail-sync", sync),
            Some(Ending::DiskFull(room)) => fault("--room", room),
            _ => {}
        }
        let address = Arc::new(Mutex::new(None));
        let ready = address.clone();
        let process = Process::start(command, move |line| {
            let said = line.strip_prefix("ready ").and_then(|address| address.parse().ok());
            if said.is_some() {
                *ready.lock() = said;
            }
        })?;
        Ok((process, address))
    }

    /// Starts a server and waits until it is ready. Whether it is: on a disk with faults it may refuse, if it says why.
    fn start(&mut self, faults: Option<Ending>) -> Result<bool, TortureError> {
        let began = Instant::now();
        let (mut process, address) = self.spawn(faults)?;
        let status = process
            .wait_while(|| address.lock().is_none() && began.elapsed() < READY)
            .map_err(TortureError::Control)?;
        let ready = *address.lock();
        if let (Some(address), None) = (ready, status) {
            self.last_restart = began.elapsed();
            self.server = Some((process, address));
            return Ok(true);
        }
        self.last_words = process.last_words();
        let code = status.and_then(|status| status.code());
        if faults.is_none() && is_full(&self.last_words) {
            return Err(TortureError::NoRoom(self.data.clone()));
        }
        if faults.is_none_or(|ending| !may_refuse(ending, code, &self.last_words)) {
            let how = status.map_or("not ready in time".to_owned(), describe);
            self.misbehaved(format!("the server did not start: {how}"));
        }
        Ok(false)
    }

    fn stop(&mut self) -> Result<(), TortureError> {
        if let Some((mut process, _)) = self.server.take() {
            process.kill().map_err(TortureError::Control)?;
        }
        Ok(())
    }

    /// Begins an empty data directory with everything declared.
    fn begin(&mut self, round: &mut Round, report: &mut Report) -> Result<(), TortureError> {
        self.stop()?;
        if report.stores > 0 {
            self.verify();
            self.data = self.workplace.begin_data()?;
            self.oracle.lock().forget();
        }
        report.stores += 1;
        prepare(&self.data, 1 << round.random.u32(SEGMENT_POWERS))?;
        if self.start(None)?
            && let Some((_, address)) = &self.server
            && let Err(error) = declare(*address, self.plan.queues)
        {
            self.misbehaved(format!("declaring the queues: {error}"));
        }
        Ok(())
    }

    /// Lets publishers and consumers work until the server is ended.
    fn storm(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
        report: &mut Report,
    ) -> Result<String, TortureError> {
        let Some((mut process, address)) = self.server.take() else {
            report.ended(round.ending, true);
            return Ok("did not start on a disk that failed".to_owned());
        };
        let over = AtomicBool::new(false);
        let peers = Peers {
            address,
            plan: &self.plan,
            oracle: &self.oracle,
            over: &over,
            messages: AtomicI64::new(MESSAGES),
            bytes: AtomicI64::new(i64::try_from(bounds.budget()).unwrap_or(i64::MAX)),
            // What a connection that publishes sends is not read any more while the disk is full.
            fences: !matches!(round.ending, Ending::DiskFull(_)),
        };
        let (publishers, fences) = (&self.publishers, &self.fences);
        let mut complaints: Vec<String> = Vec::new();
        let ended = thread::scope(|scope| {
            let peers = &peers;
            let mut threads = Vec::new();
            for (publisher, next) in (0..self.plan.publishers).map(Publisher).zip(publishers) {
                threads.push(scope.spawn(move || publish(peers, publisher, next)));
            }
            for (consumer, next) in (0..self.plan.consumers).map(Consumer).zip(fences) {
                let random = round.random.fork();
                threads.push(scope.spawn(move || consume(peers, consumer, next, random)));
            }
            let ended = end(&mut process, round, bounds, &self.workplace, &over, &self.oracle);
            if ended.is_err() {
                over.store(true, Ordering::Relaxed);
                process.kill().ok(); // Else the clients would go on waiting for it.
            }
            for thread in threads {
                let complaint = thread.join().expect("the clients of the torture do not panic");
                complaints.extend(complaint);
            }
            ended
        })?;
        self.last_words = process.last_words();
        // A server whose sync has failed may hang up on everybody.
        let excused = matches!(round.ending, Ending::SyncFails(_)) && ended.by_itself;
        for complaint in complaints.into_iter().filter(|_| !excused) {
            self.misbehaved(complaint);
        }
        report.ended(round.ending, ended.by_itself);
        Ok(ended.text)
    }

    /// Kills servers that are recovering; gives how many were.
    fn kill_in_recovery(&mut self, round: &mut Round) -> Result<u64, TortureError> {
        let mut kills = 0;
        for share in std::mem::take(&mut round.kills_in_recovery) {
            let (mut process, address) = self.spawn(None)?;
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
            kills += u64::from(address.lock().is_none());
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

impl Victim for TorturedBroker {
    fn round(
        &mut self,
        round: &mut Round,
        bounds: &Bounds,
        report: &mut Report,
    ) -> Result<RoundResult, TortureError> {
        self.last_words.clear();
        if report.rounds.is_multiple_of(ROUNDS_PER_STORE)
            || self.workplace.bytes() > bounds.disk_limit
        {
            self.begin(round, report)?;
        }
        let faulty = matches!(round.ending, Ending::SyncFails(_) | Ending::DiskFull(_));
        if faulty || self.server.is_none() {
            self.stop()?;
            self.start(Some(round.ending))?;
        }
        let ended = self.storm(round, bounds, report)?;
        let kills_in_recovery = self.kill_in_recovery(round)?;
        report.kills_in_recovery += kills_in_recovery;
        let required = self.oracle.lock().required();
        let mut found = 0;
        if self.start(None)?
            && let Some((_, address)) = &self.server
        {
            report.restarted(self.last_restart);
            let keep = if bounds.is_much(self.workplace.bytes()) { 0.0 } else { round.keep };
            let looked = look(*address, &self.plan, &self.oracle, &self.fences, keep, round);
            match looked {
                Ok(messages) => found = messages,
                Err(error) => self.misbehaved(format!("while the queues were looked at: {error}")),
            }
        }
        let restart = self.last_restart;
        Ok(RoundResult { ended, kills_in_recovery, restart, found, required })
    }

    fn finish(&mut self) -> Result<(), TortureError> {
        const PATIENCE: Duration = Duration::from_secs(60);
        if let Some((mut process, _)) = self.server.take() {
            process.terminate().map_err(TortureError::Control)?;
            let status = process.wait_for(PATIENCE).map_err(TortureError::Control)?;
            if status.and_then(|status| status.code()) != Some(0) {
                self.last_words = process.last_words();
                let how = status.map_or("it runs on".to_owned(), describe);
                self.misbehaved(format!("SIGTERM at the end: {how}"));
            }
        }
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

/// Makes an empty store with segments of this size: the server takes them as they are.
fn prepare(data: &Path, segment_size: u64) -> Result<(), TortureError> {
    Store::open(data, Options { segment_size, ..Options::default() })?.close()?;
    Ok(())
}

/// Declares the queues, and the exchanges that lead to two and to all of them.
fn declare(address: SocketAddr, queues: u8) -> Result<(), ClientError> {
    let mut client = Client::connect(address)?;
    for (exchange, kind) in [(EVERYWHERE, "fanout"), (PAIRS, "direct")] {
        let declare = Method::ExchangeDeclare {
            reserved_1: 0,
            exchange: exchange.as_bytes(),
            kind: kind.as_bytes(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        };
        client.call(&declare, "exchange.declare-ok")?;
    }
    let all = || (0..queues).map(QueueNumber);
    for queue in all() {
        client
            .call(&declaration(&queue.to_string(), false, RawTable::EMPTY), "queue.declare-ok")?;
    }
    for queue in all() {
        let next = QueueNumber((queue.0 + 1) % queues);
        for (destination, exchange, key) in [
            (queue, EVERYWHERE, String::new()),
            (queue, PAIRS, queue.to_string()),
            (next, PAIRS, queue.to_string()),
        ] {
            let destination = destination.to_string();
            let bind = Method::QueueBind {
                reserved_1: 0,
                queue: destination.as_bytes(),
                exchange: exchange.as_bytes(),
                routing_key: key.as_bytes(),
                nowait: false,
                arguments: RawTable::EMPTY,
            };
            client.call(&bind, "queue.bind-ok")?;
        }
    }
    client.close()
}
