//! What a message's properties ask of the broker, beyond being passed on.
//!
//! A property that asks for something the broker does not do is refused, never ignored: a message that does not expire is a
//! broken promise too.

use super::copies::Copies;
use super::refusal::{Reason, Refusal};
use crate::message::{RawProperties, ShortStr};

/// The name that stands for answers without a queue, in `basic.consume` and `reply-to`.
pub(super) const DIRECT_REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// Refuses a message whose properties are not to be believed (406), or ask for what this version does not do (540). Returns the
/// copies that it asks for, if it does.
///
/// Done for every message: what is absent costs the look at a flag, and nothing is allocated.
pub(super) fn check_properties<'a>(
    properties: &RawProperties<'a>,
    user: &ShortStr,
) -> Result<Option<Copies<'a>>, Refusal> {
    if let Some(claimed) = properties.user_id()
        && claimed != user.as_bytes()
    {
        let claimed = String::from_utf8_lossy(claimed);
        return Err(precondition(format_args!(
            "user_id property set to '{claimed}' but authenticated user was '{user}'"
        )));
    }
    if let Some(expiration) = properties.expiration() {
        return Err(refuse_expiration(expiration));
    }
    if let Some(mode) = properties.delivery_mode_octet()
        && !matches!(mode, 1 | 2)
    {
        return Err(precondition(format_args!(
            "invalid message: {{delivery_mode_unknown,{mode}}}"
        )));
    }
    if properties.reply_to() == Some(DIRECT_REPLY_TO) {
        return Err(no_direct_reply_to());
    }
    properties.headers().map_or(Ok(None), Copies::named_by)
}

/// 540: answers without a queue are not there yet.
pub(super) fn no_direct_reply_to() -> Refusal {
    Refusal::new(Reason::NotImplemented, "direct reply-to is not supported by this version")
}

fn precondition(what: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::PreconditionFailed, what)
}

/// Any `expiration` is refused: 406 for one that is not a time in milliseconds.
fn refuse_expiration(expiration: &[u8]) -> Refusal {
    let text = String::from_utf8_lossy(expiration);
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", &*text),
    };
    let rest = digits.trim_start_matches(|character: char| character.is_ascii_digit());
    let number = digits[..digits.len() - rest.len()].trim_start_matches('0');
    let why = if rest.len() == digits.len() {
        "no_integer".to_owned()
    } else if !rest.is_empty() {
        format!("{{leftover_string,\"{rest}\"}}")
    } else if sign == "-" && !number.is_empty() {
        format!("{{value_negative,-{number}}}")
    } else {
        return Refusal::new(
            Reason::NotImplemented,
            format_args!("property expiration ('{text}') is not supported by this version"),
        );
    };
    precondition(format_args!("invalid expiration '{text}': {why}"))
}
