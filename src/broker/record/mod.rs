//! Topology, users and policies as they are stored: one file per type of record, each with its byte layout, a version and golden bytes.
//!
//! Exchanges, bindings, virtual hosts, users, permissions and policies are entries of the store's metadata, whose keys begin with a letter per type; a queue's
//! record is the attributes of the engine's queue, and so is that of a further level of a queue with priorities. Names are AMQP short strings (a length byte, then that many
//! bytes), tables AMQP field tables (a big-endian u32 of length, then the entries), both as on the wire.
//!
//! A version is the first byte of a value. What a newer version wrote is refused, never guessed at.

mod binding;
mod exchange;
mod founding;
mod level;
mod note;
mod permission;
mod policy;
mod queue;
mod topic_permission;
mod user;
mod virtual_host;

pub(super) use binding::{BindingKey, BindingRecord};
pub(super) use exchange::{ExchangeKey, ExchangeRecord};
pub(super) use founding::{FoundingKey, decode_founding, encode_founding};
pub(super) use level::LevelRecord;
pub(super) use note::QueueNote;
pub(super) use permission::{PermissionKey, decode_permissions, encode_permissions};
pub(super) use policy::{PolicyKey, decode_policy, encode_policy};
pub(super) use queue::QueueRecord;
pub(super) use topic_permission::{
    TopicPermissionKey, decode_topic_permissions, encode_topic_permissions,
};
pub(super) use user::{UserKey, decode_user, encode_user};
pub(super) use virtual_host::{VirtualHostKey, decode_virtual_host, encode_virtual_host};

use thiserror::Error;

use crate::message::{DecodeError, Reader, ShortStr};

/// What one of the engine's queues is to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QueueAttributes {
    /// A queue; where it has priorities, its level of priority 0.
    Queue(QueueRecord),
    /// A further level of one.
    Level(LevelRecord),
}

impl QueueAttributes {
    /// Reads the attributes of one of the engine's queues.
    pub(super) fn decode(attributes: &[u8]) -> Result<Self, RecordError> {
        match attributes.first() {
            Some(&level::KIND) => LevelRecord::decode(attributes).map(Self::Level),
            _ => QueueRecord::decode(attributes).map(Self::Queue),
        }
    }
}

/// Why a stored record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Another version of the program wrote it.
    #[error("the {what} record has version {found}, this program reads version {known}")]
    Version {
        /// Type of the record.
        what: &'static str,
        /// Version that it has.
        found: u8,
        /// Version that is understood.
        known: u8,
    },
    /// It cannot be decoded.
    #[error("the {what} record is malformed: {source}")]
    Malformed {
        /// Type of the record.
        what: &'static str,
        /// What is wrong.
        source: DecodeError,
    },
    /// It names something that does not exist.
    #[error("the {what} record has an unknown {field} {value}")]
    Unknown {
        /// Type of the record.
        what: &'static str,
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u8,
    },
    /// It can be read, and says what cannot be done.
    #[error("the {what} record cannot be used: {why}")]
    Unusable {
        /// Type of the record.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl RecordError {
    fn malformed(what: &'static str) -> impl Fn(DecodeError) -> Self {
        move |source| Self::Malformed { what, source }
    }

    fn unusable(what: &'static str, why: &dyn std::fmt::Display) -> Self {
        Self::Unusable { what, why: why.to_string() }
    }
}

/// Checks the version at the beginning of a value.
fn check_version(what: &'static str, known: u8, found: u8) -> Result<(), RecordError> {
    if found == known { Ok(()) } else { Err(RecordError::Version { what, found, known }) }
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    let length = u8::try_from(name.len()).expect("a ShortStr has at most 255 bytes");
    out.push(length);
    out.extend_from_slice(name);
}

fn name(reader: &mut Reader<'_>) -> Result<ShortStr, DecodeError> {
    reader.short_str().map(ShortStr::copy_of)
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("what comes in a request is shorter than 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// At most 65,535 names: what was checked when they were given.
fn put_names(out: &mut Vec<u8>, names: &[ShortStr]) {
    let count = u16::try_from(names.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    names.iter().take(count.into()).for_each(|name| put_name(out, name));
}

fn names(reader: &mut Reader<'_>) -> Result<Vec<ShortStr>, DecodeError> {
    let count = reader.u16()?;
    (0..count).map(|_| name(reader)).collect()
}

#[cfg(test)]
fn sample_table() -> crate::message::FieldTable {
    use crate::message::Value;
    [(ShortStr::from_static("k"), Value::I32(1))].into_iter().collect()
}
