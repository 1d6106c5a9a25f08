//! What benchmarks of a running server share: the server, and a client.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod client;
pub(crate) mod server;

use std::error::Error;

/// An error is printed and ends the program.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;
