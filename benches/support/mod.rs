//! The server and the client of the benchmarks that start a server.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod client;
pub(crate) mod server;

use std::error::Error;

/// An error is printed and ends the program.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;
