//! The stores that are compared, one file each: how it is set up, and the queue on it.
//!
//! All of them get the same [memory](MEMORY) for what they keep of their data, compress nothing (the bodies are random), and
//! have said that a commit is on stable storage only when they have synced it. Each keeps, beside the messages, the place up to
//! which the queue was acknowledged, so that none has to search for its front.

mod fjall;
mod haypile;
mod raft_engine;
mod redb;
mod sqlite;

use std::path::Path;

use crate::Outcome;
use crate::peer::Peer;

/// What a store may keep in memory of its data, in bytes.
const MEMORY: u64 = 64 << 20;

/// A store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    Haypile,
    Sqlite,
    Redb,
    Fjall,
    RaftEngine,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Haypile, Kind::Sqlite, Kind::Redb, Kind::Fjall, Kind::RaftEngine];

    /// As it is called on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Haypile => "haypile",
            Kind::Sqlite => "sqlite",
            Kind::Redb => "redb",
            Kind::Fjall => "fjall",
            Kind::RaftEngine => "raft-engine",
        }
    }

    /// Opens the store in `dir`, which is there; creates it if there is none.
    pub(crate) fn open(self, dir: &Path) -> Outcome<Box<dyn Peer>> {
        Ok(match self {
            Kind::Haypile => Box::new(haypile::open(dir)?),
            Kind::Sqlite => Box::new(sqlite::open(dir)?),
            Kind::Redb => Box::new(redb::open(dir)?),
            Kind::Fjall => Box::new(fjall::open(dir)?),
            Kind::RaftEngine => Box::new(raft_engine::open(dir)?),
        })
    }
}
