//! What a torture comes to: the figures, the defects, for a person and as JSON.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::defect::{Defect, DefectKind};
use super::oracle::Oracle;
use super::plan::Ending;
use crate::cli::output::say;
use crate::cli::status_line::StatusLine;
use crate::cli::text;

/// So many defects are printed; all of those that are kept are in the JSON.
const PRINTED: usize = 20;

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Report {
    mode: &'static str,
    seed: u64,
    began: Instant,
    pub(super) line: StatusLine,
    pub(super) rounds: u64,
    pub(super) kills: u64,
    pub(super) kills_in_recovery: u64,
    pub(super) clean_ends: u64,
    pub(super) failed_syncs: u64,
    pub(super) full_disks: u64,
    /// Messages that restarts gave back, and how many of them had to be there.
    pub(super) found: u64,
    pub(super) required: u64,
    /// Stores that were begun.
    pub(super) stores: u64,
    pub(super) interrupted: bool,
    restarts: Vec<Duration>,
    confirmed: u64,
    acknowledged: u64,
    /// Defects of each kind, and in all.
    counts: Vec<(DefectKind, u64)>,
    wrong: u64,
    defects: Vec<(u64, Defect)>,
    last_words: String,
    /// What was kept because something was wrong.
    pub(super) kept: Option<PathBuf>,
}

/// What one round came to, for a line.
#[derive(Clone, Debug)]
pub(super) struct RoundResult {
    pub(super) ended: String,
    pub(super) kills_in_recovery: u64,
    pub(super) restart: Duration,
    pub(super) found: u64,
    pub(super) required: u64,
}

impl Report {
    pub(super) fn new(mode: &'static str, seed: u64) -> Report {
        Report {
            mode,
            seed,
            began: Instant::now(),
            line: StatusLine::default(),
            rounds: 0,
            kills: 0,
            kills_in_recovery: 0,
            clean_ends: 0,
            failed_syncs: 0,
            full_disks: 0,
            found: 0,
            required: 0,
            stores: 0,
            interrupted: false,
            restarts: Vec::new(),
            confirmed: 0,
            acknowledged: 0,
            counts: DefectKind::ALL.into_iter().map(|kind| (kind, 0)).collect(),
            wrong: 0,
            defects: Vec::new(),
            last_words: String::new(),
            kept: None,
        }
    }

    /// A start that found something of an earlier life, and how long it took to be ready.
    pub(super) fn restarted(&mut self, took: Duration) {
        self.restarts.push(took);
    }

    /// The program was ended as planned.
    pub(super) fn ended(&mut self, ending: Ending, by_itself: bool) {
        match ending {
            Ending::Killed => self.kills += 1,
            Ending::Terminated => self.clean_ends += 1,
            Ending::SyncFails(_) if by_itself => self.failed_syncs += 1,
            Ending::SyncFails(_) => self.kills += 1,
            Ending::DiskFull(_) => {
                self.full_disks += 1;
                self.kills += u64::from(!by_itself);
            }
        }
    }

    /// The round is over: what it came to, and a line about it.
    pub(super) fn round(&mut self, number: u64, result: &RoundResult, oracle: &Oracle) {
        let confirmed = oracle.confirmed_count() - self.confirmed;
        let acknowledged = oracle.acknowledged_count() - self.acknowledged;
        self.take(number, oracle, "");
        self.rounds = number;
        self.found += result.found;
        self.required += result.required;
        let again = match result.kills_in_recovery {
            0 => String::new(),
            1 => ", killed once more while it recovered".to_owned(),
            times => format!(", killed {times} times more while it recovered"),
        };
        self.line.say(&format!(
            "round {number}: {}{again}; {} confirmed, {} acknowledged; ready again in {}, {} found, {} of them required{}",
            result.ended,
            text::count(confirmed),
            text::count(acknowledged),
            milliseconds(result.restart),
            text::count(result.found),
            text::count(result.required),
            if self.failed() { ": SOMETHING IS WRONG" } else { "" }
        ));
    }

    /// Takes over what the oracle has counted until now.
    pub(super) fn take(&mut self, round: u64, oracle: &Oracle, last_words: &str) {
        self.confirmed = oracle.confirmed_count();
        self.acknowledged = oracle.acknowledged_count();
        self.wrong = oracle.defects().total();
        for (kind, count) in &mut self.counts {
            *count = oracle.defects().count(*kind);
        }
        let new = oracle.defects().list().iter().skip(self.defects.len());
        self.defects.extend(new.map(|defect| (round, defect.clone())));
        if self.failed() && self.last_words.is_empty() {
            last_words.clone_into(&mut self.last_words);
        }
    }

    /// Whether anything is wrong.
    pub(super) fn failed(&self) -> bool {
        self.wrong > 0
    }

    fn slowest(&self) -> Duration {
        self.restarts.iter().max().copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        let mut sorted = self.restarts.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    pub(super) fn print(&self) {
        let count = text::count;
        say!(
            "{} rounds of the {} in {:.0} s, seed {}{}",
            count(self.rounds),
            self.mode,
            self.began.elapsed().as_secs_f64(),
            self.seed,
            if self.interrupted { ", interrupted" } else { "" }
        );
        say!(
            "ended: {} times by SIGKILL, {} times more while it recovered; {} times cleanly; {} times by a failed sync; {} times with a full disk",
            count(self.kills),
            count(self.kills_in_recovery),
            count(self.clean_ends),
            count(self.failed_syncs),
            count(self.full_disks)
        );
        say!(
            "messages: {} confirmed, {} acknowledged; restarts gave back {}, {} of them required",
            count(self.confirmed),
            count(self.acknowledged),
            count(self.found),
            count(self.required)
        );
        say!(
            "restarts: {}, the slowest took {}, half of them up to {}",
            count(self.restarts.len() as u64),
            milliseconds(self.slowest()),
            milliseconds(self.median())
        );
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|(kind, defects)| format!("{} {}", count(*defects), kind.word()))
            .collect();
        say!("wrong: {}", counts.join(", "));
        for (round, defect) in self.defects.iter().take(PRINTED) {
            say!("  round {round}, seed {}: {defect}", self.seed);
        }
        let left_out = self.wrong.saturating_sub(PRINTED.min(self.defects.len()) as u64);
        if left_out > 0 {
            say!("  … and {} more", count(left_out));
        }
        if !self.last_words.is_empty() {
            say!("the last that the program said:");
            self.last_words.lines().for_each(|line| say!("  {line}"));
        }
        match &self.kept {
            Some(dir) => say!(
                "keep {} and this report: the data directory is in it, as the restart that showed it has left it",
                dir.display()
            ),
            None => say!("nothing is wrong"),
        }
    }

    /// All of it.
    pub(super) fn as_json(&self) -> Value {
        let mut counts = serde_json::Map::new();
        for (kind, defects) in &self.counts {
            counts.insert(kind.word().to_owned(), json!(defects));
        }
        json!({
            "mode": self.mode,
            "seed": self.seed,
            "seconds": self.began.elapsed().as_secs_f64(),
            "interrupted": self.interrupted,
            "rounds": self.rounds,
            "stores": self.stores,
            "kills": self.kills,
            "kills_in_recovery": self.kills_in_recovery,
            "clean_ends": self.clean_ends,
            "failed_syncs": self.failed_syncs,
            "full_disks": self.full_disks,
            "confirmed": self.confirmed,
            "acknowledged": self.acknowledged,
            "found": self.found,
            "required": self.required,
            "restarts": self.restarts.len(),
            "slowest_restart_seconds": self.slowest().as_secs_f64(),
            "median_restart_seconds": self.median().as_secs_f64(),
            "wrong": counts,
            "defects": self.defects.iter().map(|(round, defect)| json!({
                "round": round,
                "kind": defect.kind.word(),
                "what": defect.text,
            })).collect::<Vec<_>>(),
            "last_words": self.last_words,
            "kept": self.kept,
        })
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}
