//! Which data directory a command is about.

use std::path::PathBuf;

/// The variable that says so where no flag does.
const VARIABLE: &str = "HAYPILE_DATA_DIR";

/// The directory that is meant where nothing says so.
const DEFAULT: &str = "haypile-data";

/// The data directory, by a flag.
#[derive(Debug, clap::Args)]
pub(super) struct DataDirectory {
    /// The data directory; HAYPILE_DATA_DIR, or `haypile-data` in the current directory, unless given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDirectory {
    pub(super) fn path(&self) -> PathBuf {
        let variable = || std::env::var_os(VARIABLE).filter(|dir| !dir.is_empty());
        let given = self.data_dir.clone().or_else(|| variable().map(PathBuf::from));
        given.unwrap_or_else(|| PathBuf::from(DEFAULT))
    }
}

/// The directory of a store, by a flag or as it is.
#[derive(Debug, clap::Args)]
pub(super) struct StoreDirectory {
    /// The data directory, as --data-dir; while a server is running on it, `inspect` alone works.
    #[arg(value_name = "DIR", conflicts_with = "data_dir")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    data_directory: DataDirectory,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(super) json: bool,
    /// Print long lists in full; with --json they are anyway.
    #[arg(long)]
    pub(super) all: bool,
}

impl StoreDirectory {
    pub(super) fn path(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| self.data_directory.path())
    }
}
