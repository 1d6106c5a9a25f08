//! What a dead letter says of its deaths: the header `x-death`, an array of one table for each queue and reason, the latest
//! first, and the headers `x-first-death-*`.
//!
//! | entry | type | meaning |
//! |---|---|---|
//! | `count` | `l` | how often it died in that queue for that reason |
//! | `reason` | `S` | `rejected`, `expired`, `maxlen` or `delivery_limit` |
//! | `queue` | `S` | where |
//! | `time` | `T` | when, the first time, in seconds of Unix time |
//! | `exchange` | `S` | the exchange that it had been published to |
//! | `routing-keys` | `A` of `S` | its routing key, and those of `CC` |
//! | `original-expiration` | `S` | its `expiration`, which it loses, if it had one |

use std::collections::HashMap;

use crate::message::{Envelope, FieldTable, Properties, RawProperties, RawTable, ShortStr, Value};

const DEATHS: &[u8] = b"x-death";
const FIRST: [&str; 3] = ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];

/// Why a message leaves its queue otherwise than to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Death {
    /// A consumer rejected it, and it was not to be requeued.
    Rejected,
    /// Its time was over.
    Expired,
    /// The queue had more than it may have.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
}

impl Death {
    /// What the header calls it.
    pub(in crate::broker) const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

fn entry(name: &'static str, value: Value) -> (ShortStr, Value) {
    (ShortStr::from_static(name), value)
}

fn text(bytes: &[u8]) -> Value {
    Value::LongStr(bytes.to_vec().into())
}

fn is_text(value: Option<&Value>, wanted: &[u8]) -> bool {
    matches!(value, Some(Value::LongStr(text)) if text == wanted)
}

/// The properties of a message that dies in `queue` at `time` (seconds of Unix time): with the death in its headers,
/// without an expiration. `keeps_copies`: whether it goes on to the keys of its `CC` as well, and keeps that header.
pub(in crate::broker) fn bury(
    envelope: &Envelope<'_>,
    queue: &ShortStr,
    death: Death,
    time: u64,
    keeps_copies: bool,
) -> Properties {
    let mut properties = envelope.properties.to_properties();
    let headers = properties.headers.take().unwrap_or_default();
    let expiration = properties.expiration.take();
    let event = event(envelope, queue, death, time, expiration.as_ref(), &headers);
    let mut entries: Vec<(ShortStr, Value)> = headers
        .entries()
        .filter(|(name, _)| name.as_bytes() != b"CC" || keeps_copies)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let deaths = entries.iter_mut().find(|(name, _)| name.as_bytes() == DEATHS);
    match deaths {
        Some((_, Value::Array(deaths))) => add(deaths, event, queue, death),
        // Somebody else's header of that name has to give way.
        Some((_, other)) => *other = Value::Array(vec![Value::Table(event)]),
        None => {
            let deaths = Value::Array(vec![Value::Table(event)]);
            entries.push((ShortStr::copy_of(DEATHS), deaths));
            let first = [envelope.exchange, queue.as_bytes(), death.name().as_bytes()];
            for (name, value) in FIRST.into_iter().zip(first) {
                let name = ShortStr::from_static(name);
                entries.retain(|(other, _)| *other != name);
                entries.push((name, text(value)));
            }
        }
    }
    entries.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    properties.headers = Some(entries.into_iter().collect());
    properties
}

fn event(
    envelope: &Envelope<'_>,
    queue: &ShortStr,
    death: Death,
    time: u64,
    expiration: Option<&ShortStr>,
    headers: &FieldTable,
) -> FieldTable {
    let mut keys = vec![text(envelope.routing_key)];
    if let Some(Value::Array(copies)) = headers.get(b"CC") {
        keys.extend(copies.iter().filter(|key| key.as_long_str().is_some()).cloned());
    }
    let mut event: FieldTable = [
        entry("count", Value::I64(1)),
        entry("reason", Value::text(death.name())),
        entry("queue", text(queue)),
        entry("time", Value::Timestamp(time)),
        entry("exchange", text(envelope.exchange)),
        entry("routing-keys", Value::Array(keys)),
    ]
    .into_iter()
    .collect();
    if let Some(expiration) = expiration {
        event.push(ShortStr::from_static("original-expiration"), text(expiration));
    }
    event
}

/// Puts a death in front of the others. Where it is the queue's and reason's second one, it is counted there.
fn add(deaths: &mut Vec<Value>, event: FieldTable, queue: &ShortStr, death: Death) {
    merge(deaths);
    let same = deaths.iter().position(|other| {
        matches!(other, Value::Table(other) if is_text(other.get(b"queue"), queue)
            && is_text(other.get(b"reason"), death.name().as_bytes()))
    });
    let latest = match same.map(|place| deaths.remove(place)) {
        Some(Value::Table(known)) => counted(&known),
        _ => event,
    };
    deaths.insert(0, Value::Table(latest));
}

/// Merges entries of the same queue and reason into the first of them. RabbitMQ before 3.6 wrote an entry for each death and no
/// count: the count is then the number of entries. A header with a single entry is left as it is, as RabbitMQ leaves it.
fn merge(deaths: &mut Vec<Value>) {
    if deaths.len() < 2 {
        return;
    }
    // The place of the first entry, and the number of entries.
    let mut found: HashMap<DeathKey<'_>, (usize, i64)> = HashMap::new();
    let mut is_first = Vec::with_capacity(deaths.len());
    for (place, death) in deaths.iter().enumerate() {
        let first = key(death).is_none_or(|key| {
            let (first, count) = found.entry(key).or_insert((place, 0));
            *count += 1;
            *first == place
        });
        is_first.push(first);
    }
    let mut counts: Vec<Option<i64>> = vec![None; deaths.len()];
    found.into_values().for_each(|(place, count)| counts[place] = Some(count));
    for (death, count) in deaths.iter_mut().zip(counts) {
        if let (Value::Table(entries), Some(count)) = (death, count)
            && entries.get(b"count").is_none()
        {
            *entries = with_count(entries, count);
        }
    }
    let mut is_first = is_first.into_iter();
    deaths.retain(|_| is_first.next() == Some(true));
}

/// Queue and reason.
type DeathKey<'a> = (&'a [u8], &'a [u8]);

/// The queue and the reason of an entry; `None` where it does not name both.
fn key(death: &Value) -> Option<DeathKey<'_>> {
    let Value::Table(death) = death else { return None };
    let text = |name: &[u8]| death.get(name).and_then(Value::as_long_str);
    Some((text(b"queue")?, text(b"reason")?))
}

/// The same death once more.
fn counted(known: &FieldTable) -> FieldTable {
    let count = known.get(b"count").and_then(Value::as_integer).unwrap_or(0).saturating_add(1);
    with_count(known, count)
}

fn with_count(known: &FieldTable, count: i64) -> FieldTable {
    let others = known.entries().filter(|(name, _)| name.as_bytes() != b"count");
    let others = others.map(|(name, value)| (name.clone(), value.clone()));
    std::iter::once(entry("count", Value::I64(count))).chain(others).collect()
}

/// Whether a dead letter with these properties has been in `queue` before, and nobody has rejected it since: it would go
/// round for ever.
pub(in crate::broker) fn is_cycle(properties: &RawProperties<'_>, queue: &ShortStr) -> bool {
    let deaths = properties.headers().and_then(|headers| headers.get(DEATHS));
    let Some(deaths) = deaths.and_then(|deaths| deaths.elements()) else { return false };
    for death in deaths {
        let Some(death) = death.as_table() else { continue };
        if is(death, b"reason", Death::Rejected.name().as_bytes()) {
            return false;
        }
        if is(death, b"queue", queue) {
            return true;
        }
    }
    false
}

fn is(death: RawTable<'_>, name: &[u8], wanted: &[u8]) -> bool {
    death.get(name).and_then(|value| value.as_long_str()) == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: u64 = 1_700_000_000;

    fn table(entries: &[(&'static str, Value)]) -> FieldTable {
        entries.iter().map(|(name, value)| entry(name, value.clone())).collect()
    }

    fn names(table: &FieldTable) -> Vec<String> {
        table.entries().map(|(name, _)| name.to_string()).collect()
    }

    /// Dies in `queue`, having been published with `key`.
    fn died(
        properties: &Properties,
        queue: &'static str,
        death: Death,
        copies: bool,
    ) -> Properties {
        let bytes = properties.to_bytes();
        let envelope = Envelope {
            exchange: b"ex",
            routing_key: b"key",
            properties: RawProperties::parse(&bytes).unwrap(),
            published_at: None,
        };
        bury(&envelope, &ShortStr::from_static(queue), death, TIME, copies)
    }

    fn deaths(properties: &Properties) -> Vec<FieldTable> {
        match properties.headers.as_ref().unwrap().get(DEATHS) {
            Some(Value::Array(deaths)) => deaths
                .iter()
                .map(|death| match death {
                    Value::Table(death) => death.clone(),
                    other => panic!("{other:?}"),
                })
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_death_is_told_whole() {
        let copies = Value::Array(vec![Value::text("b"), Value::I32(1)]);
        let properties = Properties {
            headers: Some(table(&[("zz", Value::I32(1)), ("CC", copies)])),
            expiration: Some(ShortStr::from_static("60000")),
            priority: Some(3),
            ..Properties::default()
        };
        let buried = died(&properties, "q", Death::Rejected, false);
        assert_eq!((buried.priority, &buried.expiration), (Some(3), &None));
        let headers = buried.headers.as_ref().unwrap();
        let expected = ["x-death", FIRST[0], FIRST[1], FIRST[2], "zz"];
        assert_eq!(names(headers), expected);
        assert_eq!(headers.get(b"x-first-death-exchange"), Some(&Value::text("ex")));
        assert_eq!(headers.get(b"x-first-death-queue"), Some(&Value::text("q")));
        assert_eq!(headers.get(b"x-first-death-reason"), Some(&Value::text("rejected")));
        let keys = Value::Array(vec![Value::text("key"), Value::text("b")]);
        let event = table(&[
            ("count", Value::I64(1)),
            ("reason", Value::text("rejected")),
            ("queue", Value::text("q")),
            ("time", Value::Timestamp(TIME)),
            ("exchange", Value::text("ex")),
            ("routing-keys", keys),
            ("original-expiration", Value::text("60000")),
        ]);
        assert_eq!(deaths(&buried), [event]);
        let kept = died(&properties, "q", Death::Expired, true);
        assert_eq!(names(kept.headers.as_ref().unwrap())[0], "CC");
    }

    #[test]
    fn each_queue_and_reason_is_counted_and_the_latest_comes_first() {
        let once = died(&Properties::default(), "q", Death::Expired, true);
        let twice = died(&once, "p", Death::Rejected, true);
        let thrice = died(&twice, "q", Death::Expired, true);
        let told: Vec<_> = deaths(&thrice)
            .iter()
            .map(|death| (death.get(b"queue").cloned(), death.get(b"count").cloned()))
            .collect();
        let expected = [("q", 2), ("p", 1)]
            .map(|(queue, count)| (Some(Value::text(queue)), Some(Value::I64(count))));
        assert_eq!(told, expected);
        let first = thrice.headers.as_ref().unwrap().get(b"x-first-death-reason");
        assert_eq!(first, Some(&Value::text("expired")));
    }

    #[test]
    fn headers_of_that_name_that_the_broker_did_not_make_do_no_harm() {
        let strange = table(&[("x-death", Value::text("me")), (FIRST[1], Value::text("mine"))]);
        let strange = Properties { headers: Some(strange), ..Properties::default() };
        let buried = died(&strange, "q", Death::Rejected, true);
        assert_eq!(deaths(&buried).len(), 1);
        assert_eq!(names(buried.headers.as_ref().unwrap()), ["x-death", FIRST[1]]);

        let odd = table(&[("queue", Value::text("q")), ("reason", Value::text("rejected"))]);
        let odd = Value::Array(vec![Value::I32(7), Value::Table(odd), Value::Table(table(&[]))]);
        let odd = table(&[("x-death", odd)]);
        let odd = Properties { headers: Some(odd), ..Properties::default() };
        let buried = died(&odd, "q", Death::Rejected, true);
        let Some(Value::Array(all)) = buried.headers.as_ref().unwrap().get(DEATHS) else {
            panic!()
        };
        let Value::Table(first) = &all[0] else { panic!("{all:?}") };
        assert_eq!(first.get(b"count"), Some(&Value::I64(2)), "an entry without a count is one");
        assert_eq!(all[1..], [Value::I32(7), Value::Table(table(&[]))]);
        let bytes = buried.to_bytes();
        assert!(!is_cycle(&RawProperties::parse(&bytes).unwrap(), &ShortStr::from_static("p")));
    }

    #[test]
    fn entries_of_older_brokers_are_merged_by_queue_and_reason() {
        let old = |queue: &str, reason: &str, time: u64| {
            Value::Table(table(&[
                ("reason", Value::text(reason)),
                ("queue", Value::text(queue)),
                ("time", Value::Timestamp(time)),
            ]))
        };
        let counted = table(&[
            ("count", Value::I64(7)),
            ("reason", Value::text("rejected")),
            ("queue", Value::text("p")),
        ]);
        let entries = vec![
            old("p", "expired", 9),
            old("q", "rejected", 8),
            old("q", "rejected", 7),
            old("q", "expired", 6),
            Value::Table(counted),
            old("q", "rejected", 5),
            old("p", "rejected", 4),
        ];
        let old = table(&[("x-death", Value::Array(entries))]);
        let old = Properties { headers: Some(old), ..Properties::default() };
        let buried = died(&old, "q", Death::Rejected, true);
        let told: Vec<_> = deaths(&buried)
            .iter()
            .map(|death| {
                let text = |name: &str| {
                    let text = death.get(name.as_bytes()).and_then(Value::as_long_str);
                    String::from_utf8(text.unwrap().to_vec()).unwrap()
                };
                let count = death.get(b"count").and_then(Value::as_integer);
                (text("queue"), text("reason"), count)
            })
            .collect();
        let expected =
            [("q", "rejected", 4), ("p", "expired", 1), ("q", "expired", 1), ("p", "rejected", 7)]
                .map(|(queue, reason, count)| (queue.to_owned(), reason.to_owned(), Some(count)));
        assert_eq!(told, expected);
        assert_eq!(deaths(&buried)[0].get(b"time"), Some(&Value::Timestamp(8)));

        let alone = table(&[("queue", Value::text("q")), ("reason", Value::text("rejected"))]);
        let alone = table(&[("x-death", Value::Array(vec![Value::Table(alone)]))]);
        let alone = Properties { headers: Some(alone), ..Properties::default() };
        let buried = died(&alone, "q", Death::Rejected, true);
        assert_eq!(deaths(&buried)[0].get(b"count"), Some(&Value::I64(1)));
    }

    #[test]
    fn a_letter_that_nobody_has_rejected_since_goes_round() {
        let cycle = |properties: &Properties, queue| {
            let bytes = properties.to_bytes();
            is_cycle(&RawProperties::parse(&bytes).unwrap(), &ShortStr::from_static(queue))
        };
        let mut properties = Properties::default();
        assert!(!cycle(&properties, "q"));
        for (queue, death, again) in [
            ("q", Death::Expired, true),
            ("p", Death::MaxLength, true),
            ("r", Death::Rejected, false),
            ("s", Death::DeliveryLimit, false),
        ] {
            properties = died(&properties, queue, death, true);
            assert_eq!(cycle(&properties, "q"), again, "{queue}");
        }
        assert!(cycle(&properties, "s"));
        assert!(!cycle(&properties, "r"), "what was rejected there may come back");
    }
}
