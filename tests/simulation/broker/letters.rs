//! What a message says of itself when it has died, as RabbitMQ's books describe it. Nothing here comes from the broker.
//!
//! The clock of these sessions stands still: everybody dies in the first second of Unix time.

use std::collections::BTreeMap;

use bytes::Bytes;
use haypile::message::{Envelope, FieldTable, RawProperties, Value};

use super::clients::short;
use super::model::{COPY, Message, Name};

/// The header that tells of all deaths.
const DEATHS: &str = "x-death";

/// Why a message has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Rejected,
    MaxLength,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::MaxLength => "maxlen",
        }
    }
}

type Headers = BTreeMap<String, Value>;

fn texts(entries: &[(&str, &[u8])]) -> Vec<(String, Value)> {
    let text = |bytes: &[u8]| Value::LongStr(Bytes::copy_from_slice(bytes));
    entries.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
}

fn table(entries: impl IntoIterator<Item = (String, Value)>) -> FieldTable {
    entries.into_iter().map(|(name, value)| (short(&name), value)).collect()
}

/// What becomes of a message that dies in `queue`, whose dead letters go by the default exchange to the queue `grave`.
pub(super) fn letter(message: &Message, queue: Name, reason: Reason, grave: Name) -> Message {
    let envelope = Envelope::parse(&message.header).expect("the envelope of a stored message");
    let mut properties = envelope.properties.to_properties();
    let headers = properties.headers.take().unwrap_or_default();
    let mut headers: Headers =
        headers.entries().map(|(name, value)| (name.to_string(), value.clone())).collect();
    // It goes where the queue says, and nowhere else: other keys are told of, and gone.
    let mut keys = vec![Value::LongStr(Bytes::copy_from_slice(envelope.routing_key))];
    if let Some(Value::Array(copies)) = headers.remove(COPY) {
        keys.extend(copies);
    }
    let mut deaths = match headers.remove(DEATHS) {
        Some(Value::Array(deaths)) => deaths,
        _ => Vec::new(),
    };
    if deaths.is_empty() {
        headers.extend(texts(&[
            ("x-first-death-exchange", envelope.exchange),
            ("x-first-death-queue", queue.as_bytes()),
            ("x-first-death-reason", reason.name().as_bytes()),
        ]));
    }
    let known = deaths.iter().position(|death| is_of(death, queue, reason));
    let death = match known.map(|known| deaths.remove(known)) {
        Some(death) => once_more(death),
        None => {
            let what = [("reason", reason.name().as_bytes()), ("queue", queue.as_bytes())];
            let count = [("count".to_owned(), Value::I64(1))].into_iter();
            let death = count.chain(texts(&what));
            let death = death.chain([("time".to_owned(), Value::Timestamp(0))]);
            let death = death.chain(texts(&[("exchange", envelope.exchange)]));
            table(death.chain([("routing-keys".to_owned(), Value::Array(keys))]))
        }
    };
    deaths.insert(0, Value::Table(death));
    headers.insert(DEATHS.to_owned(), Value::Array(deaths));
    properties.headers = Some(table(headers));
    let properties = properties.to_bytes();
    let envelope = Envelope {
        exchange: b"",
        routing_key: grave.as_bytes(),
        properties: RawProperties::parse(&properties).expect("they were just made"),
        published_at: None,
    };
    Message { header: envelope.to_bytes(), redelivered: false, ..message.clone() }
}

fn is_of(death: &Value, queue: Name, reason: Reason) -> bool {
    let Value::Table(death) = death else { return false };
    let says = |name: &str, value| death.get(name.as_bytes()) == Some(&Value::text(value));
    says("queue", queue) && says("reason", reason.name())
}

fn once_more(death: Value) -> FieldTable {
    let Value::Table(death) = death else { panic!("deaths are tables: {death:?}") };
    let entries = death.entries().map(|(name, value)| match value {
        Value::I64(count) => (name.clone(), Value::I64(count + 1)),
        other => (name.clone(), other.clone()),
    });
    entries.collect()
}
