//! A real small file system that is full most of the time, with kills and proper ends in between.
//!
//! `cargo run --release --example full_disk -- DIR --rounds 20` uses a directory on a file system of a few hundred megabytes
//! (an image of ext4 or xfs on a loop device, or a tmpfs with a size) that holds nothing else. Each round fills the store,
//! consumes in a pattern that leaves some messages in each segment (19 of 20, every 4th, all), or hands messages out again and
//! again without an acknowledgement. Meanwhile the process that does so is killed, or ended properly, several times. The
//! round has to end with a store that opens, has every message that was confirmed and not acknowledged, gives back space and
//! takes new messages. Exit code 1 says that one did not.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use haypile::storage::{
    Fetch, Message, Options, Persistence, Queue, Sequence, SequenceRange, Store, StoreError,
};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Fills a small file system again and again.
#[derive(Debug, Parser)]
struct Arguments {
    /// A directory on a small file system.
    directory: PathBuf,
    /// How many rounds.
    #[arg(long, default_value_t = 6)]
    rounds: u64,
    /// The first round's number, which everything random follows from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The size of a message in bytes.
    #[arg(long, default_value_t = 20_000)]
    size: usize,
    /// The size of a segment in bytes.
    #[arg(long, default_value_t = 64 << 20)]
    segment: u64,
    /// What a process does until it is told to end; for the program's own use.
    #[arg(long, hide = true)]
    work: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.work {
        Some(work) => Worker::run(&arguments, work),
        None => all_rounds(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED {error}");
            ExitCode::FAILURE
        }
    }
}

/// A process that uses the store, and says on its output what it has done.
struct Worker {
    store: Store,
    queue: Queue,
    size: usize,
}

impl Worker {
    fn run(arguments: &Arguments, work: &str) -> Result<(), Failed> {
        let begin = Instant::now();
        let options = Options { segment_size: arguments.segment, ..Options::default() };
        let store = Store::open(arguments.directory.join("store"), options)?;
        let queue = match store.queues().into_iter().next() {
            Some(queue) => queue,
            None => {
                let (queue, created) = store.create_queue(b"orders")?;
                store.wait_durable(created)?;
                queue
            }
        };
        println!("o {}", begin.elapsed().as_millis());
        // The parent closes it for a proper end.
        let (ended, end) = std::sync::mpsc::channel::<()>();
        thread::spawn(move || {
            let _closed = std::io::stdin().lines().next();
            drop(ended);
        });
        let goes_on = move || matches!(end.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
        let mut worker = Worker { store, queue, size: arguments.size };
        let (what, number) = work.split_once('-').unwrap_or((work, "0"));
        let number: u64 = number.parse()?;
        match what {
            "fill" => worker.fill(&goes_on)?,
            "leave" => worker.acknowledge(|at| !at.is_multiple_of(number), &goes_on)?,
            "take" => worker.acknowledge(|at| at.is_multiple_of(number), &goes_on)?,
            "deliver" => worker.hand_out(&goes_on)?,
            "list" => worker.list()?,
            _ => worker.take_new(number)?,
        }
        println!("e");
        while goes_on() {
            thread::sleep(Duration::from_millis(5));
        }
        let Worker { store, queue, .. } = worker;
        drop(queue);
        match store.close() {
            Ok(()) | Err(StoreError::Full) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes until nothing is taken for a second.
    fn fill(&mut self, goes_on: &dyn Fn() -> bool) -> Result<(), Failed> {
        let mut last = Instant::now();
        while goes_on() && last.elapsed() < Duration::from_secs(1) {
            if self.publish(16)? { last = Instant::now() } else { pause() }
        }
        Ok(())
    }

    /// Publishes some messages, and waits until they are durable; `false`: the store takes nothing.
    fn publish(&mut self, count: u64) -> Result<bool, Failed> {
        let mut published = Vec::new();
        let mut durable = None;
        for _ in 0..count {
            let number = self.queue.next_sequence().get();
            let message = Message::new("h", format!("{number:>width$}", width = self.size));
            match self.store.append(&message, Persistence::Durable, &[&self.queue]) {
                Ok(appended) => {
                    durable = appended.durable_at;
                    published.push(number);
                }
                Err(StoreError::Full) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(durable) = durable {
            self.store.wait_durable(durable)?;
            if let [first, .., last] | [first @ last] = &published[..] {
                println!("+ {first} {last}");
            }
        }
        Ok(!published.is_empty())
    }

    /// Acknowledges messages by where they are in the queue, each by itself.
    fn acknowledge(
        &mut self,
        chosen: impl Fn(u64) -> bool,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), Failed> {
        let mut at = 0;
        let mut from = Sequence::FIRST;
        while let Some(places) = self.places(&mut from)? {
            for place in places {
                at += 1;
                if !goes_on() {
                    return Ok(());
                }
                if chosen(at) {
                    println!("- {}", place.get());
                    self.queue.acknowledge(&[SequenceRange::one(place)])?;
                }
            }
        }
        Ok(())
    }

    /// Hands all messages out, again and again, each by itself.
    fn hand_out(&mut self, goes_on: &dyn Fn() -> bool) -> Result<(), Failed> {
        for round in 1.. {
            let mut from = Sequence::FIRST;
            while let Some(places) = self.places(&mut from)? {
                for places in places.chunks(3) {
                    let counts: Vec<_> = places.iter().map(|place| (*place, round)).collect();
                    let _recorded = self.queue.mark_delivered(&counts)?;
                    if !goes_on() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The next messages of the queue; `None`: there are no more.
    fn places(&self, from: &mut Sequence) -> Result<Option<Vec<Sequence>>, Failed> {
        let mut fetched = Vec::new();
        loop {
            let outcome = self.queue.fetch(*from, 100, &mut fetched);
            if let Some(last) = fetched.last() {
                *from = last.sequence.next();
                return Ok(Some(fetched.iter().map(|found| found.sequence).collect()));
            }
            match outcome {
                Fetch::Complete => return Ok(None),
                _ => self.queue.load(*from)?,
            }
        }
    }

    fn list(&self) -> Result<(), Failed> {
        let mut from = Sequence::FIRST;
        while let Some(places) = self.places(&mut from)? {
            places.iter().for_each(|place| println!("l {}", place.get()));
        }
        Ok(())
    }

    /// Has so many messages taken, within two minutes.
    fn take_new(&mut self, count: u64) -> Result<(), Failed> {
        let begin = Instant::now();
        for number in 0..count {
            while !self.publish(1)? {
                if begin.elapsed() > Duration::from_secs(120) {
                    return Err(format!("nothing is taken any more after {number} messages").into());
                }
                pause();
            }
        }
        println!("t {}", begin.elapsed().as_millis());
        Ok(())
    }
}

fn pause() {
    thread::sleep(Duration::from_millis(20));
}

/// What is known of the store.
#[derive(Default)]
struct Known {
    confirmed: BTreeSet<u64>,
    /// Acknowledged, perhaps without an effect.
    perhaps_gone: BTreeSet<u64>,
    listed: BTreeSet<u64>,
    opens: u64,
    kills: u64,
    longest_open: u64,
    taken: u64,
}

impl Known {
    fn hear(&mut self, line: &str) -> Result<(), Failed> {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        match (word, &numbers[..]) {
            ("o", [took]) => {
                self.opens += 1;
                self.longest_open = self.longest_open.max(*took);
            }
            ("+", [first, last]) => self.confirmed.extend(*first..=*last),
            ("-", [place]) => {
                self.perhaps_gone.insert(*place);
            }
            ("l", [place]) => {
                self.listed.insert(*place);
            }
            ("t", [took]) => self.taken = *took,
            _ if line.starts_with("FAILED") => return Err(line.to_owned().into()),
            _ => {}
        }
        Ok(())
    }
}

/// How a process ends.
#[derive(Clone, Copy)]
enum Ending {
    Kill(Duration),
    WhenDone,
}

fn work(
    arguments: &Arguments,
    work: &str,
    ending: Ending,
    known: &mut Known,
) -> Result<(), Failed> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(&arguments.directory)
        .args(["--work", work, "--size", &arguments.size.to_string()])
        .args(["--segment", &arguments.segment.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let (send, heard) = std::sync::mpsc::channel();
    thread::spawn(move || lines.map_while(Result::ok).all(|line| send.send(line).is_ok()));
    let limit = match ending {
        Ending::Kill(after) => after,
        Ending::WhenDone => Duration::from_secs(300),
    };
    let outcome = listen(&mut child, &heard, Instant::now() + limit, known);
    match (&outcome, ending) {
        (Ok(true), _) => {
            // Closing it tells the process to end.
            drop(child.stdin.take());
            let code = child.wait()?;
            heard.iter().try_for_each(|line| known.hear(&line))?;
            if !code.success() {
                return Err(format!("{work}: {code}").into());
            }
        }
        (Ok(false), Ending::Kill(_)) => {
            child.kill()?;
            child.wait()?;
            known.kills += 1;
            // The last line may be cut off: what it says may have been done.
            heard.iter().try_for_each(|line| known.hear(&line))?;
        }
        _ => {
            child.kill()?;
            child.wait()?;
            outcome?;
            return Err(format!("{work} does not end").into());
        }
    }
    Ok(())
}

/// Hears what a process says until it has done its work; `false`: until the time is over.
fn listen(
    child: &mut Child,
    heard: &std::sync::mpsc::Receiver<String>,
    until: Instant,
    known: &mut Known,
) -> Result<bool, Failed> {
    loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) if line == "e" => return Ok(true),
            Ok(line) => known.hear(&line)?,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Ok(false),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                return Err(format!("a process ended by itself: {}", child.wait()?).into());
            }
        }
    }
}

fn all_rounds(arguments: &Arguments) -> Result<(), Failed> {
    let begin = Instant::now();
    let mut known = Known::default();
    let mut state = arguments.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    };
    for round in 0..arguments.rounds {
        let pattern = ["leave-20", "take-4", "deliver", "leave-3"][(round % 4) as usize];
        work(arguments, "fill", Ending::WhenDone, &mut known)?;
        let full = used(&arguments.directory.join("store"))?;
        for _ in 0..2 + below(4) {
            let after = Duration::from_millis(20 + below(1500));
            let what = if below(3) == 0 { "fill" } else { pattern };
            work(arguments, what, Ending::Kill(after), &mut known)?;
        }
        let pattern = if pattern == "deliver" { "leave-20" } else { pattern };
        work(arguments, pattern, Ending::WhenDone, &mut known)?;
        for _ in 0..below(5) {
            work(arguments, "list", Ending::Kill(Duration::from_millis(below(400))), &mut known)?;
        }
        known.listed.clear();
        work(arguments, "list", Ending::WhenDone, &mut known)?;
        let lost: Vec<_> = known.confirmed.difference(&known.listed).collect();
        if let Some(lost) = lost.iter().find(|place| !known.perhaps_gone.contains(place)) {
            return Err(format!("message {lost} is lost").into());
        }
        let left = known.listed.len();
        work(arguments, "new-200", Ending::WhenDone, &mut known)?;
        let Known { opens, kills, longest_open, taken, .. } = known;
        let elapsed = begin.elapsed().as_secs();
        println!(
            "{elapsed:>5} s, round {round}, {pattern}: {full} bytes when full, {left} messages left, 200 more taken in \
             {taken} ms; {opens} opens, the longest of {longest_open} ms, {kills} kills so far"
        );
        std::io::stdout().flush()?;
        // What may be gone is not looked for any more.
        known.confirmed.retain(|place| !known.perhaps_gone.contains(place));
        known.perhaps_gone.clear();
        if round % 4 == 3 {
            work(arguments, "leave-1000000000", Ending::WhenDone, &mut known)?;
            known.confirmed.clear();
        }
    }
    work(arguments, "leave-1000000000", Ending::WhenDone, &mut known)?;
    println!("every round ended with a store that opens, drains and takes new messages");
    Ok(())
}

/// The bytes that the store's files take.
#[expect(clippy::disallowed_methods, reason = "files are counted from outside")]
fn used(directory: &Path) -> Result<u64, Failed> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
