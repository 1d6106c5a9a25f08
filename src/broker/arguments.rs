//! The optional arguments of declarations and consumers: which are understood, which are refused.
//!
//! An argument that asks for something the broker does not do is refused, never ignored: a message that
//! should have expired, and did not, is a broken promise too. Arguments that only tune another broker's memory
//! or replication are kept, because a second declaration has to repeat them.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::equivalence::{check_arguments, check_field, type_name};
use super::queue::{Queue, QueueSpec};
use super::refusal::{Reason, Refusal};
use super::rotation::Turns;
use super::rules::{LONGEST, Overflow, Rules, Strategy};
use crate::message::{FieldTable, Value};

const QUEUE_TYPE: &str = "x-queue-type";
const CLASSIC: &[u8] = b"classic";
const QUORUM: &[u8] = b"quorum";
const MAX_PRIORITY: &str = "x-max-priority";
const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const PRIORITY: &[u8] = b"x-priority";
const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";

/// The argument that names the exchange that a message goes to when an exchange routes it nowhere.
pub(super) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// Arguments that ask for something that classic queues do not do, and are refused with.
const NOT_FOR_CLASSIC: [&str; 13] = [
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-consumer-disconnected-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

/// The arguments of a quorum queue. RabbitMQ's have delayed retries: those here do not.
const NOT_FOR_QUORUM: [&str; 11] = [
    MAX_PRIORITY,
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

/// Arguments of a consumer that neither type of queue knows: a consumer is refused with them.
const NOT_FOR_CONSUMERS: [&str; 3] =
    ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

/// RabbitMQ's names of the types.
const CLASSIC_TYPE: &str = "rabbit_classic_queue";
const QUORUM_TYPE: &str = "rabbit_quorum_queue";

/// Queue arguments that a second declaration has to repeat, apart from the type.
const COMPARED: [&str; 18] = [
    MAX_PRIORITY,
    SINGLE_ACTIVE_CONSUMER,
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    CONSUMER_TIMEOUT,
    "x-queue-mode",
    "x-queue-version",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-queue-leader-locator",
];

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
        None => Ok(CLASSIC),
        Some(Value::LongStr(kind)) => Ok(&kind[..]),
        Some(value) => Err(invalid(label, QUEUE_TYPE, &unacceptable(value))),
    }
}

/// How many priorities above 0 a queue tells apart, as its declaration says.
pub(super) fn max_priority(arguments: &FieldTable) -> u8 {
    let max = arguments.get(MAX_PRIORITY.as_bytes()).and_then(Value::as_integer).unwrap_or(0);
    u8::try_from(max.max(0)).unwrap_or(u8::MAX)
}

fn check_max_priority(label: &str, arguments: &FieldTable) -> Result<(), Refusal> {
    let Some(value) = arguments.get(MAX_PRIORITY.as_bytes()) else { return Ok(()) };
    let why = match value.as_integer() {
        Some(0..=255) => return Ok(()),
        Some(negative @ ..0) => format!("{{value_negative,{negative}}}"),
        Some(high) => format!("{{max_value_exceeded,{high}}}"),
        None => format!("\"expected integer, got {}\"", type_name(value.tag())),
    };
    Err(invalid(label, MAX_PRIORITY, &why))
}

/// Which of a queue's consumers get messages, as its declaration says.
pub(super) fn turns(arguments: &FieldTable) -> Turns {
    let single = arguments.get(SINGLE_ACTIVE_CONSUMER.as_bytes());
    if single != Some(&Value::Bool(true)) {
        return Turns::All;
    }
    // RabbitMQ's two types of queues differ in it.
    let kind = arguments.get(QUEUE_TYPE.as_bytes()).and_then(Value::as_long_str);
    if kind.is_some_and(|kind| kind == QUORUM) {
        Turns::SingleByAge
    } else {
        Turns::SingleByPriority
    }
}

/// RabbitMQ's words for a value of another type than a string.
fn unacceptable(value: &Value) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value.tag()))
}

/// Checks the arguments of a new queue.
pub(super) fn check_queue(label: &str, queue: &QueueSpec) -> Result<(), Refusal> {
    let arguments = &queue.arguments;
    match queue_type(label, arguments)? {
        CLASSIC => refuse_foreign(label, &NOT_FOR_CLASSIC, CLASSIC_TYPE, arguments)?,
        QUORUM => {
            refuse_foreign(label, &NOT_FOR_QUORUM, QUORUM_TYPE, arguments)?;
            check_quorum(label, queue)?;
        }
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
    check_max_priority(label, arguments)?;
    match arguments.get(SINGLE_ACTIVE_CONSUMER.as_bytes()) {
        None | Some(Value::Bool(_)) => {}
        Some(value) => return Err(invalid(label, SINGLE_ACTIVE_CONSUMER, &unacceptable(value))),
    }
    check_choice(label, arguments, "x-queue-mode", &[b"default", b"lazy"])?;
    check_rules(label, arguments)?;
    check_version(label, arguments)
}

fn check_version(label: &str, arguments: &FieldTable) -> Result<(), Refusal> {
    let name = "x-queue-version";
    let Some(value) = arguments.get(name.as_bytes()) else { return Ok(()) };
    let why = match value.as_integer() {
        Some(1 | 2) => return Ok(()),
        Some(other) => format!("\"unsupported queue version '{other}'\""),
        None => format!("\"expected integer, got {}\"", type_name(value.tag())),
    };
    Err(invalid(label, name, &why))
}

/// Refuses a quorum queue whose name the server is to make up.
pub(super) fn check_server_named(arguments: &FieldTable) -> Result<(), Refusal> {
    if !counts_deliveries(arguments) {
        return Ok(());
    }
    let why = "Cannot declare a server-named queue for type rabbit_quorum_queue";
    Err(Refusal::new(Reason::PreconditionFailed, why))
}

/// Checks what [`Rules`](super::rules::Rules) are made of.
fn check_rules(label: &str, arguments: &FieldTable) -> Result<(), Refusal> {
    check_number(label, arguments, "x-message-ttl", 0..=LONGEST)?;
    check_number(label, arguments, "x-expires", 1..=LONGEST)?;
    check_number(label, arguments, CONSUMER_TIMEOUT, 0..=LONGEST)?;
    for name in ["x-max-length", "x-max-length-bytes"] {
        check_number(label, arguments, name, 0..=u64::MAX)?;
    }
    // Below zero there is no limit.
    check_integer(label, arguments, "x-delivery-limit")?;
    check_name(label, arguments, "x-overflow", |text| {
        Overflow::named(text).map(|_| ()).ok_or("invalid_overflow")
    })?;
    check_name(label, arguments, "x-dead-letter-strategy", |text| {
        Strategy::named(text).map(|_| ()).ok_or("invalid_dlx_strategy")
    })?;
    if Rules::of_arguments(arguments).contradicts_at_least_once() {
        let why =
            "\"at-least-once needs x-overflow reject-publish where the queue's length is limited\"";
        return Err(invalid(label, "x-dead-letter-strategy", why));
    }
    let exchange = arguments.get(DEAD_LETTER_EXCHANGE.as_bytes());
    if let Some(value) = exchange
        && value.as_long_str().is_none()
    {
        let kind = type_name(value.tag());
        return Err(Refusal::new(
            Reason::PreconditionFailed,
            format_args!("invalid type '{kind}' for arg '{DEAD_LETTER_EXCHANGE}' in {label}"),
        ));
    }
    check_name(label, arguments, "x-dead-letter-routing-key", |_| {
        exchange.map(|_| ()).ok_or("routing_key_but_no_dlx_defined")
    })
}

/// Refuses an argument that is no integer.
fn check_integer(label: &str, arguments: &FieldTable, name: &str) -> Result<(), Refusal> {
    match arguments.get(name.as_bytes()) {
        Some(value) if value.as_integer().is_none() => Err(no_integer(label, name, value)),
        _ => Ok(()),
    }
}

fn no_integer(label: &str, name: &str, value: &Value) -> Refusal {
    invalid(label, name, &format!("\"expected integer, got {}\"", type_name(value.tag())))
}

/// Refuses an argument that is no integer, or one that is out of range.
fn check_number(
    label: &str,
    arguments: &FieldTable,
    name: &str,
    range: RangeInclusive<u64>,
) -> Result<(), Refusal> {
    let Some(value) = arguments.get(name.as_bytes()) else { return Ok(()) };
    let why = match value.as_integer() {
        None => return Err(no_integer(label, name, value)),
        Some(number) => match u64::try_from(number) {
            Err(_) => format!("{{value_negative,{number}}}"),
            Ok(number) if number > *range.end() => format!("{{value_too_large,{number}}}"),
            Ok(number) if number < *range.start() => format!("{{value_zero,{number}}}"),
            Ok(_) => return Ok(()),
        },
    };
    Err(invalid(label, name, &why))
}

/// Refuses an argument that is no string, or one that `check` has something against.
fn check_name(
    label: &str,
    arguments: &FieldTable,
    name: &str,
    check: impl Fn(&[u8]) -> Result<(), &'static str>,
) -> Result<(), Refusal> {
    match arguments.get(name.as_bytes()) {
        None => Ok(()),
        Some(Value::LongStr(text)) => check(text).map_err(|why| invalid(label, name, why)),
        Some(value) => Err(invalid(label, name, &unacceptable(value))),
    }
}

/// Refuses an argument that means something, but not to a queue of that type, or to its consumers.
fn refuse_foreign(
    label: &str,
    foreign: &[&str],
    kind: &str,
    arguments: &FieldTable,
) -> Result<(), Refusal> {
    match foreign.iter().find(|name| arguments.get(name.as_bytes()).is_some()) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            Reason::PreconditionFailed,
            format_args!("invalid arg '{name}' for {label} of queue type {kind}"),
        )),
    }
}

/// Whether a queue with these arguments, which have been checked, says with each delivery how often the message came back.
pub(super) fn counts_deliveries(arguments: &FieldTable) -> bool {
    matches!(arguments.get(QUEUE_TYPE.as_bytes()), Some(Value::LongStr(kind)) if kind == QUORUM)
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
    check_arguments(&label, &COMPARED, &other.arguments, &current.arguments)
}

/// Refuses the arguments of a consumer that ask for something that its queue does not do.
pub(super) fn check_consumer(queue: &Queue, arguments: &FieldTable) -> Result<(), Refusal> {
    let is_quorum = counts_deliveries(&queue.spec().arguments);
    let kind = if is_quorum { QUORUM_TYPE } else { CLASSIC_TYPE };
    refuse_foreign(&queue.label(), &NOT_FOR_CONSUMERS, kind, arguments)
}

/// The priority of a consumer: `x-priority`, an integer, 0 where nothing is said.
pub(super) fn consumer_priority(label: &str, arguments: &FieldTable) -> Result<i64, Refusal> {
    match arguments.get(PRIORITY) {
        None => Ok(0),
        Some(value) => value.as_integer().ok_or_else(|| no_integer(label, "x-priority", value)),
    }
}

/// How long a consumer may hold a message unacknowledged: `x-consumer-timeout`, in milliseconds.
pub(super) fn consumer_timeout(
    label: &str,
    arguments: &FieldTable,
) -> Result<Option<Duration>, Refusal> {
    check_number(label, arguments, CONSUMER_TIMEOUT, 0..=LONGEST)?;
    let milliseconds = arguments.get(CONSUMER_TIMEOUT.as_bytes()).and_then(Value::as_integer);
    Ok(milliseconds.and_then(|time| u64::try_from(time).ok()).map(Duration::from_millis))
}
