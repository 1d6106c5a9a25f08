//! Haypile: a durable message store with a write-ahead log, and an AMQP 0-9-1 broker on top of it.
//!
//! | module | what it is | it builds on |
//! |---|---|---|
//! | [`storage`] | the engine: queues of messages over one log, to be embedded in other programs | nothing |
//! | `message` | the AMQP message model: properties and field tables | nothing |
//! | `broker` | exchanges, bindings, queues, consumers, confirms; no sockets | `storage`, `message` |
//! | `definitions` | users, policies, exchanges, queues and bindings as a file | `broker` |
//! | `amqp` | the protocol: framing, methods, connections | `broker` |
//! | `server` | listeners, configuration, start and stop | `amqp`, `definitions` |
//! | `cli` | the command line | all of them |
//! | `simulation` | a disk that is worse than any real one, and what the engine is put through on it | `storage` |
//!
//! With `default-features = false` there is the engine alone; `simulation` is there with the feature of that name.

#[cfg(feature = "broker")]
pub mod amqp;
#[cfg(feature = "benchmarks")]
#[doc(hidden)]
pub mod benchmarks;
#[cfg(feature = "broker")]
pub mod broker;
#[cfg(feature = "broker")]
pub mod cli;
#[cfg(feature = "broker")]
pub mod definitions;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "broker")]
pub mod message;
#[cfg(feature = "broker")]
pub mod server;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod storage;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
