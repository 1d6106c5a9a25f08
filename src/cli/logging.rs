//! The log, on standard error: one line for each event, whatever its texts are, and nobody waits for whoever takes it.
//!
//! A thread writes it. A disk that is full or slow, or a reader that has stopped, costs lines of the log (how many is
//! written when it goes on) and nothing else: events come from the threads that serve connections.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

use super::escape::escaped;

/// So many events may wait to be written.
const WAITING: usize = 4096;

/// How long the end waits for those that do.
const PATIENCE: Duration = Duration::from_secs(1);

/// A log that is being written. When it is dropped, what waits has been, if somebody takes it.
#[derive(Debug)]
#[must_use = "what waits to be written is lost when the process ends first"]
pub(super) struct Log {
    events: SyncSender<Entry>,
    /// Disconnected when everything is written.
    ended: Receiver<()>,
}

/// What the thread gets.
#[derive(Debug)]
enum Entry {
    Event(Vec<u8>),
    End,
}

/// Log lines go to standard error.
pub(super) fn start(filter: EnvFilter) -> Log {
    let (log, events) = Log::to(io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || events.clone())
        .with_ansi(io::stderr().is_terminal())
        .init();
    log
}

/// The same for what is no `haypile serve` and has no configuration: the variable `HAYPILE_LOG` says how many.
pub(super) fn start_of_a_child() -> Log {
    start(EnvFilter::try_from_env("HAYPILE_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
}

impl Log {
    /// A log that goes there, and where its events are written to.
    fn to(out: impl Write + Send + 'static) -> (Log, Events) {
        let (events, waiting) = sync_channel(WAITING);
        let (ending, ended) = sync_channel::<()>(0);
        let lost = Arc::new(AtomicU64::new(0));
        let not_taken = Arc::clone(&lost);
        let body = move || {
            write_all(out, &waiting, &not_taken);
            drop(ending);
        };
        // Without a thread there is no log: the channel says so to whoever writes.
        thread::Builder::new().name("haypile-stderr".to_owned()).spawn(body).ok();
        (Log { events: events.clone(), ended }, Events { events, lost })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let begin = Instant::now();
        let mut end = Entry::End;
        while let Err(TrySendError::Full(again)) = self.events.try_send(end) {
            if begin.elapsed() > PATIENCE {
                return;
            }
            end = again;
            thread::sleep(Duration::from_millis(5));
        }
        // That it ends, or that it takes too long: there is nothing more to do either way.
        self.ended.recv_timeout(PATIENCE.saturating_sub(begin.elapsed())).ok();
    }
}

/// Writes what comes until the end. What cannot be written is lost: it is nothing that the server should stop for.
fn write_all(mut out: impl Write, waiting: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(Entry::Event(event)) = waiting.recv() {
        out.write_all(&event).ok();
        let lost = lost.swap(0, Relaxed);
        if lost > 0 {
            let remark =
                format!("haypile: {lost} lines of the log were not taken in time, and are lost\n");
            out.write_all(remark.as_bytes()).ok();
        }
    }
}

/// Takes an event at a time, and has each stay on its line: names, reasons and whatever else clients say is in there, also of those
/// who have not logged in, and none of it may look like another event.
#[derive(Clone, Debug)]
struct Events {
    events: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if self.events.try_send(Entry::Event(on_one_line(event))).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn on_one_line(event: &[u8]) -> Vec<u8> {
    let event = String::from_utf8_lossy(event);
    let text = event.strip_suffix('\n').unwrap_or(&event);
    // The subscriber begins colours with this one. It writes it by itself, and escapes that of others.
    let mut line = String::with_capacity(event.len());
    for (index, part) in text.split('\x1b').enumerate() {
        if index > 0 {
            line.push('\x1b');
        }
        line.push_str(&escaped(part));
    }
    line.push('\n');
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_on_its_line_and_every_other_byte_as_it_is() {
        let written = |event: &[u8]| String::from_utf8(on_one_line(event)).unwrap();
        let plain = "plain, \u{fc}\x1b[1mbold\n";
        assert_eq!(written(plain.as_bytes()), plain);
        let odd = "bye\r\n\tINFO forged\0\u{9b}1m\n";
        assert_eq!(written(odd.as_bytes()), "bye\\r\\n\\tINFO forged\\u{0}\\u{9b}1m\n");
    }

    /// Takes nothing before it is told to.
    struct Slow {
        go: Receiver<()>,
        taken: std::sync::mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.go.recv().ok();
            self.taken.send(line.to_vec()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_whoever_takes_the_log_and_what_is_lost_is_counted() {
        let (go_on, go) = sync_channel(0);
        let (taken, lines) = std::sync::mpsc::channel();
        let (log, mut events) = Log::to(Slow { go, taken });
        // One is being written, and so many wait.
        let kept = WAITING + 1;
        for n in 0..kept + 10 {
            events.write_all(format!("{n}\n").as_bytes()).unwrap();
            if n == 0 {
                go_on.send(()).unwrap();
                assert_eq!(lines.recv().unwrap(), b"0\n");
            }
        }
        drop((go_on, events));
        drop(log);
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8(line).unwrap()).collect();
        let is_told = |line: &String| line.contains("lines of the log were not taken in time");
        assert_eq!(lines.iter().filter(|line| is_told(line)).count(), 1);
        assert!(lines.len() > WAITING && lines.len() < kept + 10, "{}", lines.len());
    }

    #[test]
    fn what_nobody_takes_is_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let (log, mut events) = Log::to(Gone);
        for _ in 0..3 {
            assert!(events.write_all(b"event\n").is_ok() && events.flush().is_ok());
        }
        drop(log);
    }
}
