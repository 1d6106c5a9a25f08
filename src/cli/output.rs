//! What commands print: results on standard output, remarks on standard error.
//!
//! Whoever reads it may go away in the middle, as `head` does: then the rest is for nobody, and the command goes on to its end with the
//! exit code that it has anyway. What cannot be written for another reason is told at the end.
//!
//! Names are in there that clients have chosen. What would tell a terminal to do something is shown instead.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

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
    note(writeln!(io::stdout().lock(), "{}", tame(what.to_string())));
}

/// Prints a result for programs, just as it is.
pub(super) fn json(what: &dyn fmt::Display) {
    note(writeln!(io::stdout().lock(), "{what}"));
}

/// Prints a result that is no line, just as it is.
pub(super) fn text(text: &[u8]) {
    note(io::stdout().lock().write_all(text));
}

/// See [`remark!`].
pub(super) fn remark_line(what: fmt::Arguments<'_>) {
    writeln!(io::stderr().lock(), "{}", tame(what.to_string())).ok();
}

/// The same without characters that a terminal would obey.
fn tame(text: String) -> String {
    let is_odd = |sign: char| sign.is_control() && sign != '\n' && sign != '\t';
    if !text.contains(is_odd) {
        return text;
    }
    let mut tame = String::with_capacity(text.len() + 8);
    for sign in text.chars() {
        if is_odd(sign) {
            tame.extend(sign.escape_default());
        } else {
            tame.push(sign);
        }
    }
    tame
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_tell_a_terminal_to_do_something_is_shown() {
        let plain = "three words,\tand \u{fc}\non two lines";
        assert_eq!(tame(plain.to_owned()), plain);
        let odd = "queue '\x1b[2J\x07\r\u{9b}1m\x7f'".to_owned();
        assert_eq!(tame(odd), "queue '\\u{1b}[2J\\u{7}\\r\\u{9b}1m\\u{7f}'");
    }
}
