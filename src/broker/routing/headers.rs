//! Headers exchanges: the binding's arguments are compared with the message's headers.
//!
//! `x-match` says whether `all` (the default) or `any` of the binding's other arguments have to be there
//! with the same value; a void value only asks for presence. Arguments whose names begin with `x-` are
//! left out, unless it is `all-with-x` or `any-with-x`.
//!
//! # Long lookups
//! Thousands of bindings with many arguments are millions of steps, which nobody else must wait for. A lookup can stop after any
//! binding, let go of the topology's lock, and go on later ([`Lookup`]). Bindings that are added meanwhile are noted, and
//! compared at the end; of those that were found, the ones that are still there count.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::destinations::{Matches, Target};
use super::news::News;
use super::next_router;
use super::topic::Effort;
use crate::broker::equivalence::{shown_value, type_name};
use crate::broker::refusal::{Reason, Refusal};
use crate::message::{FieldTable, RawTable, RawValue};

const X_MATCH: &[u8] = b"x-match";

/// Headers of more bytes are indexed before they are looked through for what bindings want: tens of thousands of headers against
/// tens of thousands of arguments would take seconds else.
const FEW: usize = 512;

/// Bytes of a value that are compared in one step.
const BYTES_OF_A_STEP: u64 = 256;
/// Bytes of headers that are indexed in one step.
const INDEXED_BYTES_OF_A_STEP: u64 = 8;

/// The bindings. A lookup looks at each of them.
#[derive(Debug)]
pub(in crate::broker) struct HeadersRouter {
    /// Tells routers apart for as long as the process runs.
    id: u64,
    /// In an order, so that a lookup can go on behind the last one.
    bindings: BTreeMap<Arc<HeadersBinding>, Mode>,
    /// The number of bindings that were ever added.
    version: u64,
    news: News<Arc<HeadersBinding>>,
}

/// The progress of a message at a headers exchange.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The router's version when it began.
    pub(super) version: u64,
    /// The steps taken.
    pub(super) steps: u64,
    /// The last binding that was compared.
    last: Option<Arc<HeadersBinding>>,
    /// Whether that was the last of all.
    is_done: bool,
    found: Vec<Arc<HeadersBinding>>,
}

/// A binding's arguments, in the bytes that they are sent in: unpacked they would take many times as much memory.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HeadersBinding {
    arguments: Bytes,
    target: Target,
}

/// The comparison of a binding's arguments, and how often the binding was added.
#[derive(Debug, Clone, Copy)]
struct Mode {
    all: bool,
    with_x: bool,
    times: u32,
}

/// What a header has to be. Whether it is takes no longer than looking at it once: nothing is unpacked.
#[derive(Debug)]
enum Wanted<'a> {
    /// Anything, if it is there.
    Anything,
    /// A whole number, whatever its width: clients choose that by the value's size.
    Number(i64),
    /// A floating-point number, whatever its width.
    Real(f64),
    /// One of the two.
    Truth(bool),
    /// These octets, as a text or as a byte array: clients choose that by their languages' types.
    Octets(&'a [u8]),
    /// The same type and the same bytes.
    Same { tag: u8, bytes: &'a [u8] },
}

/// A message's headers, to be found by name. Of several of one name the first counts.
enum Headers<'a> {
    Few(RawTable<'a>),
    Many(HashMap<&'a [u8], RawValue<'a>>),
}

/// `x-match`, read: whether all have to match, and whether `x-` arguments count. 406 for anything else.
fn mode(arguments: &FieldTable) -> Result<(bool, bool), Refusal> {
    let Some(value) = arguments.get(X_MATCH) else { return Ok((true, false)) };
    let Some(text) = value.as_long_str() else {
        return Err(Refusal::new(
            Reason::PreconditionFailed,
            format_args!(
                "Invalid x-match field type {} (value {}); expected longstr",
                type_name(value.tag()),
                shown_value(value)
            ),
        ));
    };
    match &text[..] {
        b"all" => Ok((true, false)),
        b"any" => Ok((false, false)),
        b"all-with-x" => Ok((true, true)),
        b"any-with-x" => Ok((false, true)),
        other => Err(Refusal::new(
            Reason::PreconditionFailed,
            format_args!(
                "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
                String::from_utf8_lossy(other)
            ),
        )),
    }
}

/// Refuses a binding to a headers exchange whose `x-match` means nothing (406).
pub(in crate::broker) fn check_arguments(arguments: &FieldTable) -> Result<(), Refusal> {
    mode(arguments).map(drop)
}

impl Default for HeadersRouter {
    fn default() -> Self {
        let (bindings, news) = (BTreeMap::new(), News::default());
        Self { id: next_router(), bindings, version: 0, news }
    }
}

impl HeadersRouter {
    pub(super) fn add(&mut self, arguments: Bytes, target: Target) {
        // Arguments are checked when the binding is made; those of a store that another version
        // wrote may be strange after all, and then match as if they said nothing.
        let table = RawTable::from_checked(&arguments).to_table();
        let (all, with_x) = mode(&table).unwrap_or((true, false));
        match self.bindings.entry(Arc::new(HeadersBinding { arguments, target })) {
            Entry::Occupied(mut entry) => entry.get_mut().times += 1,
            Entry::Vacant(entry) => {
                self.version += 1;
                self.news.add(self.version, self.version, || Arc::clone(entry.key()));
                entry.insert(Mode { all, with_x, times: 1 });
            }
        }
    }

    pub(super) fn remove(&mut self, arguments: Bytes, target: &Target) {
        let binding = HeadersBinding { arguments, target: target.clone() };
        let Some(mode) = self.bindings.get_mut(&binding) else { return };
        mode.times -= 1;
        if mode.times == 0 {
            self.bindings.remove(&binding);
        }
    }

    /// Adds everything to `matches` that a message with these headers goes to, or puts it off.
    pub(super) fn route(&self, headers: Option<RawTable<'_>>, matches: &mut Matches) {
        let table = headers.unwrap_or_default();
        let known = matches.walks.take_lookup(self.id, self.news.complete_from());
        let mut lookup = known.unwrap_or_else(|| Lookup::new(self.version));
        let indexing = Headers::indexing_steps(table);
        if !lookup.is_done && matches.walks.lacks(indexing) {
            return self.put_off(lookup, matches);
        }
        let headers = Headers::of(table);
        if !lookup.is_done {
            let begin = lookup.steps;
            lookup.steps += indexing;
            let is_done = self.look(&headers, &mut lookup, matches.walks.limit(begin));
            matches.walks.spent(lookup.steps - begin);
            if !is_done {
                return self.put_off(lookup, matches);
            }
        }
        for found in &lookup.found {
            if self.bindings.contains_key(found) {
                matches.add(&found.target);
            }
        }
        for added in self.news.since(lookup.version) {
            if let Some(mode) = self.bindings.get(added)
                && added.matches(*mode, &headers).0
            {
                matches.add(&added.target);
            }
        }
        if matches.walks.effort() == Effort::Piece {
            matches.walks.keep_lookup(self.id, lookup);
        }
    }

    /// Compares bindings until `limit` steps are taken. Returns `true` if none is left.
    fn look(&self, headers: &Headers<'_>, lookup: &mut Lookup, limit: u64) -> bool {
        let from = lookup.last.take();
        let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        for (binding, mode) in self.bindings.range::<HeadersBinding, _>((from, Bound::Unbounded)) {
            let (matches, steps) = binding.matches(*mode, headers);
            lookup.steps += steps;
            if matches {
                lookup.found.push(Arc::clone(binding));
            }
            if lookup.steps >= limit {
                lookup.last = Some(Arc::clone(binding));
                return false;
            }
        }
        lookup.is_done = true;
        true
    }

    fn put_off(&self, lookup: Lookup, matches: &mut Matches) {
        self.news.want();
        matches.walks.wait();
        matches.walks.keep_lookup(self.id, lookup);
    }
}

impl Lookup {
    fn new(version: u64) -> Self {
        Self { version, steps: 0, last: None, is_done: false, found: Vec::new() }
    }
}

impl HeadersBinding {
    /// Whether the headers have what the binding asks for, and the steps that it took to find out.
    fn matches(&self, mode: Mode, headers: &Headers<'_>) -> (bool, u64) {
        let entries = RawTable::from_checked(&self.arguments).entries();
        let mut compared = entries
            .filter(|(name, _)| *name != X_MATCH && (mode.with_x || !name.starts_with(b"x-")));
        let mut steps = 1;
        let has = |(name, wanted): (&[u8], RawValue<'_>)| {
            steps += headers.steps() + wanted.as_bytes().len() as u64 / BYTES_OF_A_STEP;
            headers.get(name).is_some_and(|header| Wanted::new(wanted).is_met_by(header))
        };
        let is_met = if mode.all { compared.all(has) } else { compared.any(has) };
        (is_met, steps)
    }
}

impl<'a> Headers<'a> {
    /// The steps that it takes to index these headers, if they are many.
    fn indexing_steps(table: RawTable<'_>) -> u64 {
        let bytes = table.as_bytes().len();
        if bytes <= FEW { 0 } else { bytes as u64 / INDEXED_BYTES_OF_A_STEP }
    }

    /// The steps that it takes to find one.
    fn steps(&self) -> u64 {
        match self {
            Self::Few(table) => 1 + table.as_bytes().len() as u64 / INDEXED_BYTES_OF_A_STEP / 4,
            Self::Many(_) => 4,
        }
    }

    fn of(table: RawTable<'a>) -> Self {
        if table.as_bytes().len() <= FEW {
            return Self::Few(table);
        }
        let mut index = HashMap::new();
        for (name, value) in table.entries() {
            count_steps(|| 1);
            index.entry(name).or_insert(value);
        }
        Self::Many(index)
    }

    fn get(&self, name: &[u8]) -> Option<RawValue<'a>> {
        match self {
            Self::Few(table) => {
                count_steps(|| table.entries().count());
                table.get(name)
            }
            Self::Many(index) => {
                count_steps(|| 1);
                index.get(name).copied()
            }
        }
    }
}

impl<'a> Wanted<'a> {
    fn new(value: RawValue<'a>) -> Self {
        if let Some(octets) = value.as_octets() {
            return Self::Octets(octets);
        }
        if let Some(number) = value.as_real() {
            return Self::Real(number);
        }
        match (value.tag(), value.as_integer()) {
            (b'V', _) => Self::Anything,
            (b't', _) => Self::Truth(value.as_bytes() != [0]),
            (_, Some(number)) => Self::Number(number),
            (tag, None) => Self::Same { tag, bytes: value.as_bytes() },
        }
    }

    fn is_met_by(&self, header: RawValue<'_>) -> bool {
        count_steps(|| 1);
        match self {
            Self::Anything => true,
            Self::Number(number) => header.as_integer() == Some(*number),
            Self::Real(number) => {
                header.as_real().is_some_and(|real| real.to_bits() == number.to_bits())
            }
            Self::Octets(octets) => header.as_octets().is_some_and(|header| header == *octets),
            Self::Truth(truth) => header.tag() == b't' && (header.as_bytes() != [0]) == *truth,
            Self::Same { tag, bytes } => header.tag() == *tag && header.as_bytes() == *bytes,
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Headers and arguments that the thread has looked at.
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts steps of a lookup, for tests alone.
#[cfg(test)]
fn count_steps(steps: impl FnOnce() -> usize) {
    STEPS.set(STEPS.get() + steps());
}

#[cfg(not(test))]
fn count_steps(_: impl FnOnce() -> usize) {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::broker::routing::ExchangeEnd;
    use crate::message::{ShortStr, Value};

    fn table(entries: &[(&str, Value)]) -> FieldTable {
        entries
            .iter()
            .map(|(name, value)| (ShortStr::try_from(*name).unwrap(), value.clone()))
            .collect()
    }

    fn matches(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
        let mut router = HeadersRouter::default();
        let name = ShortStr::try_from("target").unwrap();
        router.add(
            table(arguments).to_bytes(),
            Target::Exchange(Arc::new(ExchangeEnd::new(name, 0))),
        );
        let mut found = Matches::default();
        let headers = table(headers).to_bytes();
        router.route(Some(RawTable::parse(&headers).unwrap()), &mut found);
        found.next_exchange().is_some()
    }

    #[test]
    fn all_wants_every_argument_and_any_wants_one() {
        let (a, b) = (("a", Value::text("1")), ("b", Value::I32(2)));
        let all = ("x-match", Value::text("all"));
        let any = ("x-match", Value::text("any"));
        assert!(matches(&[all.clone(), a.clone(), b.clone()], &[b.clone(), a.clone()]));
        assert!(!matches(&[all, a.clone(), b.clone()], std::slice::from_ref(&a)));
        assert!(matches(&[any.clone(), a.clone(), b.clone()], std::slice::from_ref(&a)));
        assert!(!matches(&[any, a.clone(), b], &[("a", Value::text("other"))]));
        assert!(matches(std::slice::from_ref(&a), std::slice::from_ref(&a)), "all is the default");
    }

    #[test]
    fn without_arguments_all_matches_everything_and_any_nothing() {
        assert!(matches(&[], &[]));
        assert!(!matches(&[("x-match", Value::text("any"))], &[("a", Value::text("1"))]));
    }

    #[test]
    fn arguments_that_begin_with_x_count_only_when_asked_for() {
        let x = ("x-color", Value::text("red"));
        assert!(matches(&[("x-match", Value::text("all")), x.clone()], &[]));
        assert!(!matches(&[("x-match", Value::text("all-with-x")), x.clone()], &[]));
        assert!(matches(&[("x-match", Value::text("any-with-x")), x.clone()], &[x]));
    }

    #[test]
    fn a_void_argument_asks_for_presence_and_numbers_compare_by_value() {
        assert!(matches(&[("a", Value::Void)], &[("a", Value::Bool(false))]));
        assert!(!matches(&[("a", Value::Void)], &[("b", Value::Bool(false))]));
        assert!(matches(&[("a", Value::I64(7))], &[("a", Value::U8(7))]));
    }

    #[test]
    fn values_are_equal_by_value_and_not_by_their_types_on_the_wire() {
        let nested = |truth| Value::Table(table(&[("t", Value::Bool(truth)), ("n", Value::I8(1))]));
        // Each line is one value in all its encodings.
        let values = [
            vec![Value::Bool(true)],
            vec![Value::Bool(false)],
            vec![
                Value::I8(1),
                Value::U8(1),
                Value::I16(1),
                Value::ShortInt(1),
                Value::U16(1),
                Value::I32(1),
                Value::U32(1),
                Value::I64(1),
                Value::LongLong(1),
            ],
            vec![Value::I8(-1), Value::I16(-1), Value::I64(-1)],
            vec![Value::U8(255), Value::I16(255), Value::LongLong(255)],
            vec![Value::F32(1.0), Value::F64(1.0)],
            vec![Value::F64(0.1)],
            vec![Value::text("1"), Value::Bytes(b"1"[..].into())],
            vec![Value::text(""), Value::Bytes(Bytes::new())],
            vec![Value::Timestamp(1)],
            vec![Value::Decimal { scale: 0, value: 1 }],
            vec![Value::Array(vec![Value::I32(1)])],
            vec![nested(true)],
            vec![nested(false)],
        ];
        let all = || values.iter().enumerate().flat_map(|(n, all)| all.iter().map(move |v| (n, v)));
        for (one, wanted) in all() {
            for (other, header) in all() {
                let met = matches(&[("a", wanted.clone())], &[("a", header.clone())]);
                assert_eq!(met, one == other, "{wanted:?} {header:?}");
            }
        }
    }

    #[test]
    fn many_headers_are_found_as_few_are() {
        let many: Vec<(String, Value)> =
            (0..1000).map(|n| (format!("name {n}"), Value::I32(n))).collect();
        let mut headers: Vec<(&str, Value)> =
            many.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        headers.push(("name 7", Value::text("a later one")));
        let wanted = |value| [("x-match", Value::text("all")), ("name 7", value)];
        assert!(matches(&wanted(Value::I64(7)), &headers));
        assert!(!matches(&wanted(Value::text("a later one")), &headers));
        assert!(!matches(&[("name 1000", Value::Void)], &headers));
    }

    /// One message of 128 KiB kept a connection's thread, and whoever wanted to declare something, waiting for minutes.
    #[test]
    fn many_headers_against_many_arguments_cost_no_more_than_their_length() {
        let named = |letter: &str, value: &Value| -> Vec<(String, Value)> {
            (0..20_000).map(|n| (format!("{letter}{n}"), value.clone())).collect()
        };
        let borrowed = |entries: &[(String, Value)]| -> FieldTable {
            let entries = entries.iter();
            entries
                .map(|(name, value)| (ShortStr::try_from(name.as_str()).unwrap(), value.clone()))
                .collect()
        };
        let large = Value::Array(vec![Value::I8(1); 50_000]);
        let mut arguments = borrowed(&named("a", &Value::Void));
        arguments.push(ShortStr::from_static("x-match"), Value::text("any"));
        for _ in 0..20_000 {
            // A name again and again, whose header is large.
            arguments.push(ShortStr::from_static("large"), Value::Array(Vec::new()));
        }
        let mut headers = borrowed(&named("b", &Value::Void));
        headers.push(ShortStr::from_static("large"), large);
        let headers = headers.to_bytes();
        let mut router = HeadersRouter::default();
        let end = ExchangeEnd::new(ShortStr::from_static("target"), 0);
        router.add(arguments.to_bytes(), Target::Exchange(Arc::new(end)));
        let mut found = Matches::default();
        STEPS.set(0);
        router.route(Some(RawTable::parse(&headers).unwrap()), &mut found);
        assert!(found.next_exchange().is_none());
        // Each header once; each argument is looked for, and compared if it is there.
        let most = 20_001 + 2 * 40_000;
        assert!(STEPS.get() <= most, "{} of {most}", STEPS.get());
    }

    #[test]
    fn a_lookup_in_pieces_finds_what_is_bound_at_its_end() {
        const BINDINGS: i32 = 300;
        let target = |n: i32| {
            let name = ShortStr::try_from(format!("target {n}").as_str()).unwrap();
            Target::Exchange(Arc::new(ExchangeEnd::new(name, n as u64)))
        };
        let arguments = |n: i32| table(&[("a", Value::I32(n % 3)), ("n", Value::I32(n))]);
        let any = |n: i32| {
            let mut arguments = arguments(n);
            arguments.push(ShortStr::from_static("x-match"), Value::text("any"));
            arguments
        };
        let headers = table(&[("a", Value::I32(0))]).to_bytes();
        let headers = Some(RawTable::parse(&headers).unwrap());
        for changes in [0, 10, 2000] {
            let mut router = HeadersRouter::default();
            (0..BINDINGS).for_each(|n| router.add(any(n).to_bytes(), target(n)));
            let mut matches = Matches::default();
            let mut pieces = 0;
            loop {
                matches.clear();
                matches.walks.start_piece(100);
                router.route(headers, &mut matches);
                if !matches.is_put_off() {
                    break;
                }
                pieces += 1;
                // Some come, of which one in three matches, and some go again, with the first and the last that there were.
                if pieces == 2 {
                    (0..changes)
                        .for_each(|n| router.add(any(1000 + n).to_bytes(), target(1000 + n)));
                    (0..changes / 2)
                        .for_each(|n| router.remove(any(1000 + n).to_bytes(), &target(1000 + n)));
                    [0, 297].iter().for_each(|n| router.remove(any(*n).to_bytes(), &target(*n)));
                }
            }
            assert!(pieces >= 5, "{pieces}");
            let mut found = std::iter::from_fn(|| matches.next_exchange()).collect::<Vec<_>>();
            found.sort_unstable();
            let stays =
                (1..BINDINGS).filter(|n| *n != 297).chain(1000 + changes / 2..1000 + changes);
            let mut expected: Vec<_> = stays
                .filter(|n| n % 3 == 0)
                .map(|n| ShortStr::try_from(format!("target {n}").as_str()).unwrap())
                .collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{changes}");
            matches.finish();
        }
    }

    #[test]
    fn another_x_match_is_refused() {
        let refusal = check_arguments(&table(&[("x-match", Value::text("some"))])).unwrap_err();
        assert_eq!(refusal.code(), 406);
        assert!(check_arguments(&table(&[("x-match", Value::I32(1))])).is_err());
    }
}
