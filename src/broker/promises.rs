//! What a message's properties ask of the broker, beyond being passed on.
//!
//! A property that is not to be believed is refused, never ignored.

use bytes::Bytes;

use super::copies::Copies;
use super::refusal::{Reason, Refusal};
use super::replies::DIRECT_REPLY_TO;
use super::rules::LONGEST;
use crate::message::{RawProperties, ShortStr};

/// Who publishes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher<'p> {
    pub(super) user: &'p ShortStr,
    /// Where answers to its channel go, if it consumes any.
    pub(super) reply_address: Option<&'p ShortStr>,
}

/// What a message asks for that takes more than to store it as it is where its routing key leads.
#[derive(Debug)]
pub(super) struct Wishes<'a> {
    pub(super) copies: Option<Copies<'a>>,
    /// The address that takes the place of its `reply-to`.
    reply_to: Option<&'a ShortStr>,
    /// Whether it expires by itself.
    pub(super) expires: bool,
}

impl Wishes<'_> {
    /// The message's properties as they are to be stored and delivered, if that is not as they are.
    pub(super) fn rewrite(&self, properties: &RawProperties<'_>) -> Option<Bytes> {
        let blind = self.copies.as_ref().is_some_and(Copies::is_blind);
        let without = blind.then(|| properties.without_header(Copies::BLIND));
        let Some(address) = self.reply_to else { return without };
        let properties = without.as_deref().map_or(*properties, RawProperties::from_checked);
        Some(properties.with_reply_to(address))
    }
}

/// Refuses a message whose properties are not to be believed (406). Returns what it asks for, if anything.
///
/// Done for every message: what is absent costs the look at a flag, and nothing is allocated.
pub(super) fn check_properties<'a>(
    properties: &RawProperties<'a>,
    publisher: Publisher<'a>,
) -> Result<Option<Wishes<'a>>, Refusal> {
    let Publisher { user, reply_address } = publisher;
    let replies_directly = properties.reply_to() == Some(DIRECT_REPLY_TO);
    if replies_directly && reply_address.is_none() {
        return Err(precondition("fast reply consumer does not exist"));
    }
    if let Some(claimed) = properties.user_id()
        && claimed != user.as_bytes()
    {
        let claimed = String::from_utf8_lossy(claimed);
        return Err(precondition(format_args!(
            "user_id property set to '{claimed}' but authenticated user was '{user}'"
        )));
    }
    let expiration = properties.expiration();
    if let Some(expiration) = expiration {
        milliseconds(expiration).map_err(|why| {
            let text = String::from_utf8_lossy(expiration);
            precondition(format_args!("invalid expiration '{text}': {why}"))
        })?;
    }
    if let Some(mode) = properties.delivery_mode_octet()
        && !matches!(mode, 1 | 2)
    {
        return Err(precondition(format_args!(
            "invalid message: {{delivery_mode_unknown,{mode}}}"
        )));
    }
    let copies = properties.headers().map_or(Ok(None), Copies::named_by)?;
    let reply_to = reply_address.filter(|_| replies_directly);
    let expires = expiration.is_some();
    let asks = copies.is_some() || reply_to.is_some() || expires;
    Ok(asks.then_some(Wishes { copies, reply_to, expires }))
}

fn precondition(what: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::PreconditionFailed, what)
}

/// The milliseconds that an `expiration` says; or what is wrong with it, in RabbitMQ's words.
pub(super) fn milliseconds(expiration: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(expiration);
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", &*text),
    };
    let rest = digits.trim_start_matches(|character: char| character.is_ascii_digit());
    let number = digits[..digits.len() - rest.len()].trim_start_matches('0');
    if rest.len() == digits.len() {
        return Err("no_integer".to_owned());
    }
    if !rest.is_empty() {
        return Err(format!("{{leftover_string,\"{rest}\"}}"));
    }
    if number.is_empty() {
        return Ok(0);
    }
    if sign == "-" {
        return Err(format!("{{value_negative,-{number}}}"));
    }
    let milliseconds = number.parse().ok().filter(|milliseconds| *milliseconds <= LONGEST);
    milliseconds.ok_or_else(|| format!("{{value_too_large,{number}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiration_is_digits_and_no_more_than_ten_years() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("00", Ok(0)),
            ("-0", Ok(0)),
            ("+5", Ok(5)),
            ("4294967296", Ok(4_294_967_296)),
            ("315360000000", Ok(LONGEST)),
            ("315360000001", Err("{value_too_large,315360000001}")),
            ("99999999999999999999999", Err("{value_too_large,99999999999999999999999}")),
            ("", Err("no_integer")),
            ("a", Err("no_integer")),
            (" 5", Err("no_integer")),
            ("1.5", Err("{leftover_string,\".5\"}")),
            ("-1", Err("{value_negative,-1}")),
        ] {
            assert_eq!(milliseconds(text.as_bytes()), expected.map_err(str::to_owned), "{text}");
        }
    }
}
