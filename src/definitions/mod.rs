//! Definitions files: RabbitMQ's `definitions.json`, read and written.
//!
//! - [`read`]: a file's text to what a broker takes in ([`broker::definitions`](crate::broker::definitions)), or all that is wrong with it; what is
//!   not understood and left out is said line by line. The shapes of RabbitMQ 3.8 to 3.13 are known.
//! - [`write()`]: what a broker holds as a file that RabbitMQ imports, and that this program imports without a loss.
//!
//! It may use the broker's definitions and the message model. It must never touch a broker or a file.

mod entry;
mod policies;
mod reading;
mod topology;
mod users;
mod values;
mod writing;

pub use policies::{policy_definition, read_policy_definition};
pub use reading::{Read, read};
pub use writing::{Written, write};

#[cfg(test)]
mod tests;
