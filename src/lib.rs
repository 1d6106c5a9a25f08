//! Haypile: a durable message store with a write-ahead log, and an AMQP 0-9-1 broker on top of it.

pub mod storage;
