//! Where a password comes from: standard input, or a file.
#![expect(clippy::disallowed_methods, reason = "it is no file of the engine's")]

use std::fs;
use std::io::{self, BufRead};
use std::path::PathBuf;

use super::CommandError;
use crate::broker::access::Password;

/// Where to read a password.
#[derive(Debug, clap::Args)]
pub(super) struct PasswordSource {
    /// The file whose first line is the password; standard input unless given.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordSource {
    /// Reads the password, and hashes it: it leaves this process in no other form.
    pub(super) fn read(&self) -> Result<Password, CommandError> {
        let (path, read) = match &self.password_file {
            Some(path) => (path.display().to_string(), fs::read(path)),
            None => {
                let mut line = Vec::new();
                let read = io::stdin().lock().read_until(b'\n', &mut line);
                ("standard input".to_owned(), read.map(|_| line))
            }
        };
        let read = read.map_err(|error| CommandError::File { path: path.clone(), error })?;
        let line = read.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let plain = line.strip_suffix(b"\r").unwrap_or(line);
        Password::new(plain).map_err(|error| CommandError::Argument(format!("{path}: {error}")))
    }
}
