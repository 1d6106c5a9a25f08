//! The optional arguments of declarations and consumers: which are understood, which are refused.
//!
//! An argument that asks for something the broker does not do is refused, never ignored: a message that
//! should have expired, and did not, is a broken promise too. Arguments that only tune another broker's memory
//! or replication are kept, because a second declaration has to repeat them.

use super::equivalence::{check_arguments, check_field, type_name};
use super::queue::{Queue, QueueSpec};
use super::refusal::{Reason, Refusal};
use crate::message::{FieldTable, Value};

const QUEUE_TYPE: &str = "x-queue-type";
const PRIORITY: &[u8] = b"x-priority";

/// The argument that names the exchange that a message goes to when an exchange routes it nowhere.
pub(super) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// Queue arguments with a meaning that this version does not implement.
const UNSUPPORTED_BY_QUEUES: [&str; 10] = [
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-priority",
    "x-single-active-consumer",
    "x-delivery-limit",
];

/// Queue arguments that a second declaration has to repeat, apart from the type.
const COMPARED: [&str; 7] = [
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-queue-leader-locator",
];

fn refuse_unsupported(
    label: &str,
    unsupported: &[&str],
    arguments: &FieldTable,
) -> Result<(), Refusal> {
    match unsupported.iter().find(|name| arguments.get(name.as_bytes()).is_some()) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            Reason::NotImplemented,
            format_args!("argument '{name}' for {label} is not supported by this version"),
        )),
    }
}

fn invalid(label: &str, name: &str, why: &str) -> Refusal {
    Refusal::new(
        Reason::PreconditionFailed,
        format_args!("invalid arg '{name}' for {label}: {why}"),
    )
}

/// Checks the arguments of a new exchange.
pub(super) fn check_exchange(label: &str, arguments: &FieldTable) -> Result<(), Refusal> {
    match arguments.get(ALTERNATE_EXCHANGE.as_bytes()) {
        None | Some(Value::LongStr(_)) => Ok(()),
        Some(value) => {
            let kind = type_name(value.tag());
            Err(Refusal::new(
                Reason::PreconditionFailed,
                format_args!("invalid type '{kind}' for arg '{ALTERNATE_EXCHANGE}' in {label}"),
            ))
        }
    }
}

/// The type of a queue: `classic` where nothing is said.
fn queue_type<'a>(label: &str, arguments: &'a FieldTable) -> Result<&'a [u8], Refusal> {
    match arguments.get(QUEUE_TYPE.as_bytes()) {
        None => Ok(b"classic"),
        Some(Value::LongStr(kind)) => Ok(&kind[..]),
        Some(value) => Err(invalid(label, QUEUE_TYPE, &unacceptable(value))),
    }
}

/// RabbitMQ's words for a value of another type than a string.
fn unacceptable(value: &Value) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value.tag()))
}

/// Checks the arguments of a new queue.
pub(super) fn check_queue(label: &str, queue: &QueueSpec) -> Result<(), Refusal> {
    refuse_unsupported(label, &UNSUPPORTED_BY_QUEUES, &queue.arguments)?;
    match queue_type(label, &queue.arguments)? {
        b"classic" => {}
        b"quorum" => check_quorum(label, queue)?,
        b"stream" => {
            return Err(Refusal::new(
                Reason::NotImplemented,
                format_args!("queue type 'stream' for {label} is not supported by this version"),
            ));
        }
        other => {
            let why = format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(other));
            return Err(invalid(label, QUEUE_TYPE, &why));
        }
    }
    check_choice(label, &queue.arguments, "x-queue-mode", &[b"default", b"lazy"])?;
    let overflow: [&[u8]; 3] = [b"drop-head", b"reject-publish", b"reject-publish-dlx"];
    check_choice(label, &queue.arguments, "x-overflow", &overflow)?;
    match queue.arguments.get(b"x-queue-version").map(Value::as_integer) {
        None | Some(Some(1 | 2)) => Ok(()),
        Some(_) => Err(invalid(label, "x-queue-version", "it must be 1 or 2")),
    }
}

/// A quorum queue is an ordinary queue here, but its properties are those that RabbitMQ demands.
fn check_quorum(label: &str, queue: &QueueSpec) -> Result<(), Refusal> {
    let property = if !queue.durable {
        "non-durable"
    } else if queue.owner.is_some() {
        "exclusive-owner"
    } else if queue.auto_delete {
        "auto-delete"
    } else {
        return Ok(());
    };
    let what = format_args!("invalid property '{property}' for {label}");
    Err(Refusal::new(Reason::PreconditionFailed, what))
}

fn check_choice(
    label: &str,
    arguments: &FieldTable,
    name: &str,
    choices: &[&[u8]],
) -> Result<(), Refusal> {
    match arguments.get(name.as_bytes()) {
        None => Ok(()),
        Some(Value::LongStr(text)) if choices.contains(&&text[..]) => Ok(()),
        Some(Value::LongStr(text)) => {
            let what = name.trim_start_matches("x-").replace('-', " ");
            let why = format!("\"unsupported {what} '{}'\"", String::from_utf8_lossy(text));
            Err(invalid(label, name, &why))
        }
        Some(value) => Err(invalid(label, name, &unacceptable(value))),
    }
}

/// Refuses a declaration that says something else than the queue's own did: 405 for another owner, else 406.
pub(super) fn check_queue_equivalence(queue: &Queue, other: &QueueSpec) -> Result<(), Refusal> {
    let current = queue.spec();
    if other.owner != current.owner {
        return Err(queue.locked());
    }
    let label = queue.label();
    check_field(&label, "durable", &other.durable, &current.durable)?;
    check_field(&label, "auto_delete", &other.auto_delete, &current.auto_delete)?;
    let received = queue_type(&label, &other.arguments)?;
    if received != queue_type(&label, &current.arguments)? {
        check_arguments(&label, &[QUEUE_TYPE], &other.arguments, &current.arguments)?;
    }
    refuse_unsupported(&label, &UNSUPPORTED_BY_QUEUES, &other.arguments)?;
    check_arguments(&label, &COMPARED, &other.arguments, &current.arguments)
}

/// The priority of a consumer: `x-priority`, an integer, 0 where nothing is said.
pub(super) fn consumer_priority(label: &str, arguments: &FieldTable) -> Result<i64, Refusal> {
    match arguments.get(PRIORITY) {
        None => Ok(0),
        Some(value) => value.as_integer().ok_or_else(|| {
            let why = format!("\"expected integer, got {}\"", type_name(value.tag()));
            invalid(label, "x-priority", &why)
        }),
    }
}
