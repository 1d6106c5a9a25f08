//! `haypile config`

use super::sources::Sources;
use super::template;
use crate::cli::{COULD_NOT_RUN, DONE, output};

/// Print the settings that `serve` would run with, as a commented configuration file.
///
/// It takes the flags of `serve`, and looks at the same file and environment variables. What is not a default is set, with
/// a word on where it comes from; defaults are comments, so that what is printed is a file to begin with. A password is
/// never printed. Exit code 0: these settings can be used, 2: they cannot, and why.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    sources: Sources,
}

impl Show {
    pub(in crate::cli) fn run(&self) -> u8 {
        let Some(effective) = self.sources.effective() else { return COULD_NOT_RUN };
        output::text(template::render(&effective).as_bytes());
        DONE
    }
}
