//! What a long command says of itself while it works, on standard error.

use std::io::{self, IsTerminal};

use crate::cli::escape::escaped;
use crate::cli::output::{self, remark};

/// So much of a line is shown on a terminal, in characters: it has to stay one line.
const SHOWN: usize = 150;

/// A line that is written anew each time on a terminal, and one after the other elsewhere.
#[derive(Debug)]
pub(super) struct StatusLine {
    terminal: bool,
}

impl Default for StatusLine {
    fn default() -> StatusLine {
        StatusLine { terminal: io::stderr().is_terminal() }
    }
}

impl StatusLine {
    /// Says something that is worth a line of its own where lines are kept.
    pub(super) fn say(&self, line: &str) {
        if self.terminal {
            self.glimpse(line);
        } else {
            remark!("{line}");
        }
    }

    /// Says something that will have changed in a moment: on a terminal alone.
    pub(super) fn glimpse(&self, line: &str) {
        if self.terminal {
            let line: String = escaped(line).chars().take(SHOWN).collect();
            output::glimpse(format_args!("\r\x1b[K{line}"));
        }
    }

    /// Leaves the line that was there, for what is printed next.
    pub(super) fn end(&self) {
        if self.terminal {
            remark!();
        }
    }
}
