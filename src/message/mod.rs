//! The AMQP message model: field values and tables, the 14 basic properties, and the envelope in
//! which a message's addressing and properties are stored.
//!
//! Everything here is pure: bytes in, values out, and back. It may use `bytes` and nothing else of
//! this crate; it must never know of sockets, frames, queues or the log.
//!
//! Three rules hold throughout:
//! - **Bytes stay bytes.** AMQP 0-9-1 says "UTF-8" for short strings, and real clients send
//!   anything. Nothing here decodes text, so nothing here can refuse or alter it.
//! - **Announced lengths are claims.** They are checked against what is really there before
//!   anything is done with them; nothing is allocated for them.
//! - **Views first.** [`RawTable`], [`RawProperties`] and [`Envelope`] borrow the received bytes
//!   and are validated once, so that the message path looks properties up without allocating;
//!   [`FieldTable`] and [`Properties`] are the owned forms for building and keeping.

mod envelope;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod properties;
mod raw_table;
mod reader;
mod short_str;
mod table;

pub(crate) use envelope::Scratch;
pub use envelope::{Envelope, EnvelopeError};
pub use properties::{DeliveryMode, Properties, RawProperties};
pub use raw_table::{Elements, Entries, RawTable, RawValue};
pub use reader::{DecodeError, MAX_DEPTH, Reader};
pub use short_str::{ShortStr, TooLong};
pub use table::{FieldTable, Value};
pub(crate) use table::{put_long_str, put_short_str};
