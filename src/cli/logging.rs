//! The log, on standard error: one line for each event, whatever its texts are, and no failure when nobody takes it.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

/// Log lines go to standard error.
pub(super) fn start(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| EachOnOneLine(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        // It would be told on standard error, which is what has failed, and would end the thread.
        .log_internal_errors(false)
        .init();
}

/// The same for what is no `haypile serve` and has no configuration: the variable `HAYPILE_LOG` says how many.
pub(super) fn start_of_a_child() {
    start(EnvFilter::try_from_env("HAYPILE_LOG").unwrap_or_else(|_| EnvFilter::new("info")));
}

/// Writes an event at a time, and has each stay on its line: names, reasons and whatever else clients say is in there, also of those
/// who have not logged in, and none of it may look like another event.
///
/// What cannot be written is lost: a full disk, or a reader that has gone, is nothing that the server should stop for.
struct EachOnOneLine<W>(W);

impl<W: Write> Write for EachOnOneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if text.iter().any(|byte| is_odd(*byte)) {
            let mut tame = Vec::with_capacity(event.len() + 16);
            for byte in text {
                if is_odd(*byte) {
                    tame.extend(byte.escape_ascii());
                } else {
                    tame.push(*byte);
                }
            }
            tame.push(b'\n');
            self.0.write_all(&tame).ok();
        } else {
            self.0.write_all(event).ok();
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Control characters, but for the one that colours begin with: the subscriber writes those itself, and escapes others'.
fn is_odd(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t' && byte != b'\x1b'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_on_its_line_and_every_other_byte_as_it_is() {
        let written = |event: &[u8]| {
            let mut out = Vec::new();
            assert_eq!(EachOnOneLine(&mut out).write(event).unwrap(), event.len());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written("plain, \u{fc}\t\x1b[1mbold\n".as_bytes()),
            "plain, \u{fc}\t\x1b[1mbold\n"
        );
        assert_eq!(written(b"bye\r\nINFO forged\0\n"), "bye\\r\\nINFO forged\\x00\n");
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
        let mut log = EachOnOneLine(Gone);
        assert!(log.write_all(b"event\n").is_ok() && log.flush().is_ok());
    }
}
