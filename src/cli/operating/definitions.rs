//! `haypile definitions`
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "definitions files are no files of the engine's"
)]

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::target::Target;
use super::{CommandError, Ended, end};
use crate::cli::DONE;
use crate::cli::escape::escaped_json;
use crate::cli::output::{self, remark, say};
use crate::server::control::{Answer, CountRow, Request};

/// Take in and write out users, permissions, virtual hosts, policies, exchanges, queues and bindings, as RabbitMQ's definitions.json.
///
/// The server that runs on the data directory does it; if there is none, the directory is opened.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Definitions {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take a file in: all of it, or nothing if something is wrong with it. What is there already stays as it is.
    ///
    /// Prints what became of how many on standard output, and what was left out, a line each, on standard error.
    Import {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// The virtual host of what does not say in which one it is: for files that were exported of one alone.
        #[arg(long)]
        vhost: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Write a file that RabbitMQ imports, and that `import` takes back without a loss.
    Export {
        /// The file, which is made or replaced, and is readable for its owner alone; `-`, or nothing, for standard output.
        file: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
}

impl Definitions {
    pub(in crate::cli) fn run(self) -> u8 {
        end(match self.action {
            Action::Import { file, vhost, target } => import(&file, vhost, &target),
            Action::Export { file, target } => {
                export(file.as_deref().filter(|file| *file != Path::new("-")), &target)
            }
        })
    }
}

fn import(file: &Path, vhost: Option<String>, target: &Target) -> Ended {
    let mut text = Vec::new();
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().read_to_end(&mut text).map(|_| ()),
        _ => fs::read(file).map(|read| text = read),
    };
    let path = file.display().to_string();
    read.map_err(|error| CommandError::File { path: path.clone(), error })?;
    let file = serde_json::from_slice(&text).map_err(|error| {
        CommandError::Refused(vec![format!("{path}: this is no JSON: {error}")])
    })?;
    let Answer::Imported { counts, notes } =
        target.perform(&Request::ImportDefinitions { file, vhost })?
    else {
        return Err(CommandError::OtherAnswer);
    };
    for note in notes {
        remark!("haypile: {note}");
    }
    counts.iter().for_each(print);
    Ok(DONE)
}

fn print(count: &CountRow) {
    let CountRow { what, imported, unchanged, left_out } = count;
    say!("{what}: {imported} imported, {unchanged} unchanged, {left_out} left out");
}

fn export(file: Option<&Path>, target: &Target) -> Ended {
    let Answer::Definitions { file: definitions, notes } =
        target.perform(&Request::ExportDefinitions)?
    else {
        return Err(CommandError::OtherAnswer);
    };
    let failed = |error: io::Error| {
        let path = file.map_or("standard output".to_owned(), |path| path.display().to_string());
        CommandError::File { path, error }
    };
    let text = serde_json::to_string_pretty(&definitions);
    let mut text = text.map_err(|error| failed(error.into()))?;
    text.push('\n');
    let text = escaped_json(&text).into_owned();
    for note in notes {
        remark!("haypile: {note}");
    }
    match file {
        None => {
            output::text(text.as_bytes());
            Ok(())
        }
        // There are hashes of passwords in it.
        Some(path) => fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes())),
    }
    .map_err(failed)?;
    Ok(DONE)
}
