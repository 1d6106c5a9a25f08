//! Haypile: a durable message store with a write-ahead log, and an AMQP 0-9-1 broker on top of it.

#[cfg(feature = "broker")]
pub mod amqp;
#[cfg(feature = "broker")]
pub mod broker;
#[cfg(feature = "broker")]
pub mod message;
#[cfg(feature = "broker")]
pub mod server;
pub mod storage;
