//! The headers `CC` and `BCC`: routing keys that a message has besides its own.

use super::equivalence::type_name;
use super::refusal::{Reason, Refusal};
use crate::message::{RawTable, RawValue};

/// The keys that everybody may see.
const CARBON: &str = "CC";
/// The keys that nobody gets to see: the header goes before the message is stored.
const BLIND: &str = "BCC";

/// The copies that a message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copies<'a> {
    carbon: Option<RawValue<'a>>,
    blind: Option<RawValue<'a>>,
}

impl<'a> Copies<'a> {
    /// The header that the message loses.
    pub(super) const BLIND: &'static [u8] = BLIND.as_bytes();

    /// The copies that these headers ask for; `None` without one of the two. Of several headers of one name the first counts.
    ///
    /// # Errors
    /// 406 for a header that is no array.
    pub(super) fn named_by(headers: RawTable<'a>) -> Result<Option<Self>, Refusal> {
        let mut copies = Self { carbon: None, blind: None };
        for (name, keys) in headers.entries() {
            if name == CARBON.as_bytes() {
                copies.carbon.get_or_insert(keys);
            } else if name == BLIND.as_bytes() {
                copies.blind.get_or_insert(keys);
            }
        }
        for (name, keys) in [(CARBON, copies.carbon), (BLIND, copies.blind)] {
            if let Some(keys) = keys
                && keys.elements().is_none()
            {
                return Err(Refusal::new(
                    Reason::PreconditionFailed,
                    format_args!(
                        "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
                        type_name(keys.tag())
                    ),
                ));
            }
        }
        Ok((copies != Self { carbon: None, blind: None }).then_some(copies))
    }

    /// The keys, in no order that counts. What is no string is no key.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        let arrays = [self.carbon, self.blind].into_iter().flatten();
        arrays.filter_map(|keys| keys.elements()).flatten().filter_map(|key| key.as_long_str())
    }

    /// Whether the message has a header that consumers must not see.
    pub(super) fn is_blind(&self) -> bool {
        self.blind.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FieldTable, ShortStr, Value};

    fn table(entries: &[(&str, Value)]) -> Vec<u8> {
        let table: FieldTable = entries
            .iter()
            .map(|(name, value)| (ShortStr::try_from(*name).unwrap(), value.clone()))
            .collect();
        table.to_bytes().to_vec()
    }

    fn array(keys: &[&str]) -> Value {
        Value::Array(keys.iter().map(|key| Value::text(key)).collect())
    }

    #[test]
    fn the_keys_are_the_strings_of_both_headers() {
        let mixed =
            Value::Array(vec![Value::text("a"), Value::I32(7), array(&["in"]), Value::text("")]);
        let headers = table(&[("x", Value::Void), ("CC", mixed), ("BCC", array(&["b", "c"]))]);
        let copies = Copies::named_by(RawTable::parse(&headers).unwrap()).unwrap().unwrap();
        assert_eq!(copies.keys().collect::<Vec<_>>(), [&b"a"[..], b"", b"b", b"c"]);
        assert!(copies.is_blind());
        let headers = table(&[("CC", array(&[]))]);
        let copies = Copies::named_by(RawTable::parse(&headers).unwrap()).unwrap().unwrap();
        assert_eq!((copies.keys().count(), copies.is_blind()), (0, false));
    }

    #[test]
    fn other_headers_ask_for_nothing() {
        let headers = table(&[("cc", array(&["a"])), ("BCC ", array(&["b"])), ("", Value::Void)]);
        assert_eq!(Copies::named_by(RawTable::parse(&headers).unwrap()).unwrap(), None);
        assert_eq!(Copies::named_by(RawTable::EMPTY).unwrap(), None);
    }
}
