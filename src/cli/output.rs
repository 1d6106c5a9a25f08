//! What commands print: results on standard output, remarks on standard error.
//!
//! Whoever reads it may go away in the middle, as `head` does: then the rest is for nobody, and the command goes on to its end with the
//! exit code that it has anyway. What cannot be written for another reason is told at the end.
//!
//! Clients choose the names in these lines, so every line is [escaped](super::escape): it stays one line, and tells a terminal
//! nothing.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use super::escape::{escaped, escaped_json};
use super::{COULD_NOT_RUN, DONE, complain};

/// Prints a line of a result.
macro_rules! say {
    () => { $crate::cli::output::line(format_args!("")) };
    ($($what:tt)*) => { $crate::cli::output::line(format_args!($($what)*)) };
}

/// Prints a line for whoever looks on, on standard error.
macro_rules! remark {
    () => { $crate::cli::output::remark_line(format_args!("")) };
    ($($what:tt)*) => { $crate::cli::output::remark_line(format_args!($($what)*)) };
}

pub(super) use {remark, say};

/// Why a part of the result could not be written.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

fn note(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first one says enough.
        UNWRITTEN.get_or_init(|| error);
    }
}

/// See [`say!`].
pub(super) fn line(what: fmt::Arguments<'_>) {
    note(writeln!(io::stdout().lock(), "{}", escaped(&what.to_string())));
}

/// Prints a result for programs, which is JSON.
pub(super) fn json(what: &dyn fmt::Display) {
    note(writeln!(io::stdout().lock(), "{}", escaped_json(&what.to_string())));
}

/// Prints a result that is no line, just as it is.
pub(super) fn text(text: &[u8]) {
    note(io::stdout().lock().write_all(text));
}

/// See [`remark!`].
pub(super) fn remark_line(what: fmt::Arguments<'_>) {
    writeln!(io::stderr().lock(), "{}", escaped(&what.to_string())).ok();
}

/// Prints something for whoever looks on that is no line.
pub(super) fn glimpse(what: fmt::Arguments<'_>) {
    write!(io::stderr().lock(), "{what}").ok();
}

/// The exit code of a command that has come to its end.
pub(super) fn end(code: u8) -> u8 {
    note(io::stdout().lock().flush());
    match UNWRITTEN.get() {
        Some(error) => {
            complain(&format_args!("the result could not be written: {error}"));
            if code == DONE { COULD_NOT_RUN } else { code }
        }
        None => code,
    }
}
