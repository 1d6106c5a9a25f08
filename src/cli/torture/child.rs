//! The hidden command `torture-child`: what the torture kills.
//!
//! It dies with the torture, however that ends: nothing goes on working in a directory that nobody looks at.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use clap::Subcommand;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::faults::FaultyDisk;
use super::store_child::StoreChild;
use crate::cli::{COULD_NOT_RUN, complain, config, logging, serve};
use crate::server::Config;
use crate::storage::disk::{Disk, RealDisk};

/// A process to be killed; `haypile torture` starts it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TortureChild {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A broker.
    Serve(ServeChild),
    /// A program that embeds the engine.
    Store(StoreChild),
}

/// Where, and on what kind of disk.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    #[arg(long)]
    pub(super) data_dir: PathBuf,
    #[arg(long)]
    fail_sync: Option<u64>,
    #[arg(long)]
    room: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct ServeChild {
    #[command(flatten)]
    place: Place,
}

impl Place {
    /// The disk, with its faults if it is to have some.
    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        if self.fail_sync.is_none() && self.room.is_none() {
            return Arc::new(RealDisk);
        }
        Arc::new(FaultyDisk::new(self.fail_sync, self.room))
    }
}

impl TortureChild {
    pub(in crate::cli) fn run(self) -> u8 {
        if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
            complain(&format!("cannot tie this process to the one that has started it: {error}"));
            return COULD_NOT_RUN;
        }
        match self.what {
            What::Serve(child) => child.run(),
            What::Store(child) => child.run(),
        }
    }
}

impl ServeChild {
    const LISTEN: &str = "127.0.0.1:0";

    fn run(self) -> u8 {
        if self.place.fail_sync.is_none() && self.place.room.is_none() {
            return self.become_a_server();
        }
        let Ok(listen) = Self::LISTEN.parse() else { return COULD_NOT_RUN };
        let mut config = Config { listen: vec![listen], ..Config::default() };
        config.storage.disk = self.place.disk();
        config.data_dir = self.place.data_dir;
        let _log = logging::start_of_a_child();
        serve::run(config)
    }

    /// Becomes `haypile serve`: what is tortured is the very command that people run.
    fn become_a_server(&self) -> u8 {
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => {
                complain(&format!("cannot find this program: {error}"));
                return COULD_NOT_RUN;
            }
        };
        let mut command = Command::new(program);
        command.args(["serve", "--listen", Self::LISTEN, "--data-dir"]).arg(&self.place.data_dir);
        // The settings of whoever runs the torture are for another server: the clients of this one are `guest`.
        for name in config::variables().filter(|name| name != "HAYPILE_LOG") {
            command.env_remove(name);
        }
        let error = command.exec();
        complain(&format!("cannot start {command:?}: {error}"));
        COULD_NOT_RUN
    }
}
