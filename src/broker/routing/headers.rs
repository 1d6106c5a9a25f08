//! Headers exchanges: the binding's arguments are compared with the message's headers.
//!
//! `x-match` says whether `all` (the default) or `any` of the binding's other arguments have to be there
//! with the same value; a void value only asks for presence. Arguments whose names begin with `x-` are
//! left out, unless it is `all-with-x` or `any-with-x`.

use super::destinations::{Matches, Target};
use crate::broker::equivalence::{shown_value, type_name};
use crate::broker::refusal::{Reason, Refusal};
use crate::message::{FieldTable, RawTable, RawValue, ShortStr, Value};

const X_MATCH: &[u8] = b"x-match";

/// The bindings in the order in which they were added. A lookup looks at each of them.
#[derive(Debug, Default)]
pub(in crate::broker) struct HeadersRouter {
    bindings: Vec<HeadersBinding>,
}

#[derive(Debug)]
struct HeadersBinding {
    /// As given, to find it again.
    arguments: FieldTable,
    /// The arguments that are compared.
    wanted: Vec<(ShortStr, Value)>,
    all: bool,
    target: Target,
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

impl HeadersRouter {
    pub(super) fn add(&mut self, arguments: &FieldTable, target: Target) {
        // Arguments are checked when the binding is made; those of a store that another version
        // wrote may be strange after all, and then match as if they said nothing.
        let (all, with_x) = mode(arguments).unwrap_or((true, false));
        let wanted = arguments
            .entries()
            .filter(|(name, _)| name.as_bytes() != X_MATCH && (with_x || !name.starts_with(b"x-")))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        self.bindings.push(HeadersBinding { arguments: arguments.clone(), wanted, all, target });
    }

    pub(super) fn remove(&mut self, arguments: &FieldTable, target: &Target) {
        let found = self
            .bindings
            .iter()
            .position(|binding| binding.target == *target && binding.arguments == *arguments);
        if let Some(place) = found {
            self.bindings.remove(place);
        }
    }

    pub(super) fn route(&self, headers: Option<RawTable<'_>>, matches: &mut Matches) {
        let headers = headers.unwrap_or_default();
        for binding in &self.bindings {
            if binding.matches(headers) {
                matches.add(&binding.target);
            }
        }
    }
}

impl HeadersBinding {
    fn matches(&self, headers: RawTable<'_>) -> bool {
        let mut wanted = self.wanted.iter();
        let has = |(name, value): &(ShortStr, Value)| {
            headers.get(name).is_some_and(|header| is_same(value, header))
        };
        if self.all { wanted.all(has) } else { wanted.any(has) }
    }
}

/// Whether a header has the wanted value. Numbers are compared as numbers, whatever their width: clients choose
/// the width by the value's size.
fn is_same(wanted: &Value, header: RawValue<'_>) -> bool {
    match wanted {
        Value::Void => true,
        Value::LongStr(text) => header.as_long_str() == Some(&text[..]),
        _ => {
            let header = header.to_value();
            match (wanted.as_integer(), header.as_integer()) {
                (Some(wanted), Some(header)) => wanted == header,
                _ => *wanted == header,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, Value)]) -> FieldTable {
        entries
            .iter()
            .map(|(name, value)| (ShortStr::try_from(*name).unwrap(), value.clone()))
            .collect()
    }

    fn matches(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
        let mut router = HeadersRouter::default();
        let name = ShortStr::try_from("target").unwrap();
        router.add(&table(arguments), Target::Exchange(name));
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
    fn another_x_match_is_refused() {
        let refusal = check_arguments(&table(&[("x-match", Value::text("some"))])).unwrap_err();
        assert_eq!(refusal.code(), 406);
        assert!(check_arguments(&table(&[("x-match", Value::I32(1))])).is_err());
    }
}
