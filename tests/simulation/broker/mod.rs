//! The broker on the simulated disk: what its clients were told before a power cut, and what there is afterwards.
//!
//! No sockets and no threads: sessions and channels are driven from one thread on a store that works in the caller's
//! ([`Background::Caller`](haypile::storage::Background::Caller)), so that a session goes the same way every time.
//!
//! | file | what it is |
//! |---|---|
//! | `model` | exchanges, bindings, queues and messages as AMQP sees them, with a routing of its own |
//! | `letters` | what dead letters say of themselves |
//! | `oracle` | the history of a broker, what its clients were promised, and what a restart may therefore bring back |
//! | `observe` | what a broker that was started again has, as a client finds it |
//! | `clients` | sessions and channels whose every step is noted in the history |
//! | `cuts` | cutting the power at every change of the disk, in many ways |
//! | `expiring` | messages whose time is over, and their letters, with an oracle of its own and a clock that is set |
//! | `recorded`, `random`, `lies` | the tests: one session with everything in it, sessions of a seed, and that lies are caught |

#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml allows them in `#[test]`s, not in their helpers

mod clients;
mod cuts;
mod expiring;
mod letters;
mod lies;
mod model;
mod observe;
mod oracle;
mod random;
mod recorded;
