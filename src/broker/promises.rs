//! What a message's properties ask of the broker, beyond being passed on.
//!
//! A property that asks for something the broker does not do is refused, never ignored: a message that does not expire is a
//! broken promise too.

use bytes::Bytes;

use super::copies::Copies;
use super::refusal::{Reason, Refusal};
use super::replies::DIRECT_REPLY_TO;
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

/// Refuses a message whose properties are not to be believed (406), or ask for what this version does not do (540). Returns what
/// it asks for that this version does, if anything.
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
    let copies = properties.headers().map_or(Ok(None), Copies::named_by)?;
    let reply_to = reply_address.filter(|_| replies_directly);
    let asks = copies.is_some() || reply_to.is_some();
    Ok(asks.then_some(Wishes { copies, reply_to }))
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
