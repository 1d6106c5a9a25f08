//! What is asked of a queue beyond keeping messages: how long they live, how many there may be, where those go that leave it
//! otherwise than to a consumer.
//!
//! A queue's own arguments and a policy say it in the same words, the arguments with an `x-` in front. Where both say
//! something, the smaller of two numbers is in force, and the argument of two other things.

use crate::message::{FieldTable, ShortStr, Value};

/// The longest time that can be asked for: ten years, in milliseconds.
pub(super) const LONGEST: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// What becomes of a message for which there is no room in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Overflow {
    /// The oldest ones leave.
    #[default]
    DropHead,
    /// It is refused, and its publisher told so.
    RejectPublish,
    /// The same, and it is dead-lettered.
    RejectPublishAndDeadLetter,
}

impl Overflow {
    /// The names that arguments and policies have for them.
    const NAMES: [(&'static [u8], Self); 3] = [
        (b"drop-head", Self::DropHead),
        (b"reject-publish", Self::RejectPublish),
        (b"reject-publish-dlx", Self::RejectPublishAndDeadLetter),
    ];

    /// What is called that.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, overflow)| *overflow)
    }
}

/// Messages, and the bytes of their bodies: how much is ready in a queue, or how much of that exceeds its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// Where messages go that are rejected, expire, or find no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeadLetters {
    /// The exchange. There need not be one of that name: then they go nowhere.
    pub(super) exchange: ShortStr,
    /// The routing key that they get; their own if `None`.
    pub(super) routing_key: Option<ShortStr>,
}

/// Strategy for a dead letter that has no route, or whose target queue refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Strategy {
    /// It is dropped.
    #[default]
    AtMostOnce,
    /// It stays in its source queue, and is tried again.
    AtLeastOnce,
}

impl Strategy {
    /// Returns the strategy with that name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"at-most-once" => Some(Self::AtMostOnce),
            b"at-least-once" => Some(Self::AtLeastOnce),
            _ => None,
        }
    }
}

/// What is asked of a queue. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rules {
    /// How long a message lives.
    pub(super) message_ttl: Option<u64>,
    /// How long the queue may be unused.
    pub(super) expires: Option<u64>,
    /// Messages that may be ready. Read through [`Rules::excess`] and [`Rules::refuses`] alone, which know the overflow.
    max_length: Option<u64>,
    /// Bytes that the bodies of ready messages may have. Read in the same two ways.
    max_bytes: Option<u64>,
    overflow: Option<Overflow>,
    dead_letter_exchange: Option<ShortStr>,
    dead_letter_routing_key: Option<ShortStr>,
    dead_letter_strategy: Option<Strategy>,
    /// The number of times that a message may be redelivered. `None` means no limit, as arguments and policies say with a number below zero; one
    /// that is a limit is smaller than that.
    pub(super) delivery_limit: Option<u64>,
    /// The time-out of an unacknowledged delivery.
    pub(super) consumer_timeout: Option<u64>,
}

impl Rules {
    /// What the arguments of a queue say, which have been checked.
    pub(super) fn of_arguments(arguments: &FieldTable) -> Self {
        Self::of(|name| arguments.get([b"x-", name].concat().as_slice()))
    }

    /// What the definition of a policy says.
    pub(super) fn of_policy(definition: &FieldTable) -> Self {
        Self::of(|name| definition.get(name))
    }

    fn of<'v>(value: impl Fn(&[u8]) -> Option<&'v Value>) -> Self {
        let number = |name: &[u8]| {
            value(name).and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok())
        };
        // A name that nothing can have names nothing.
        let name = |name: &[u8]| {
            value(name)
                .and_then(Value::as_long_str)
                .and_then(|text| ShortStr::try_from(&text[..]).ok())
        };
        Self {
            message_ttl: number(b"message-ttl"),
            expires: number(b"expires"),
            max_length: number(b"max-length"),
            max_bytes: number(b"max-length-bytes"),
            overflow: name(b"overflow").and_then(|text| Overflow::named(&text)),
            dead_letter_exchange: name(b"dead-letter-exchange"),
            dead_letter_routing_key: name(b"dead-letter-routing-key"),
            dead_letter_strategy: name(b"dead-letter-strategy")
                .and_then(|text| Strategy::named(&text)),
            delivery_limit: number(b"delivery-limit"),
            consumer_timeout: number(b"consumer-timeout"),
        }
    }

    /// What is in force where these and a policy's are.
    pub(super) fn under(self, policy: Self) -> Self {
        let smaller = |own: Option<u64>, other: Option<u64>| match (own, other) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            message_ttl: smaller(self.message_ttl, policy.message_ttl),
            expires: smaller(self.expires, policy.expires),
            max_length: smaller(self.max_length, policy.max_length),
            max_bytes: smaller(self.max_bytes, policy.max_bytes),
            overflow: self.overflow.or(policy.overflow),
            dead_letter_exchange: self.dead_letter_exchange.or(policy.dead_letter_exchange),
            dead_letter_routing_key: self
                .dead_letter_routing_key
                .or(policy.dead_letter_routing_key),
            dead_letter_strategy: self.dead_letter_strategy.or(policy.dead_letter_strategy),
            delivery_limit: smaller(self.delivery_limit, policy.delivery_limit),
            consumer_timeout: smaller(self.consumer_timeout, policy.consumer_timeout),
        }
    }

    /// What becomes of a message for which there is no room.
    pub(super) fn overflow(&self) -> Overflow {
        self.overflow.unwrap_or_default()
    }

    /// Whether messages that leave otherwise than to a consumer go anywhere.
    pub(super) fn has_dead_letters(&self) -> bool {
        self.dead_letter_exchange.is_some()
    }

    /// Where messages go that leave otherwise than to a consumer; `None`: nowhere.
    pub(super) fn dead_letters(&self) -> Option<DeadLetters> {
        let exchange = self.dead_letter_exchange.clone()?;
        Some(DeadLetters { exchange, routing_key: self.dead_letter_routing_key.clone() })
    }

    /// Whether a dead letter that has no route, or whose target queue refuses it, stays in its
    /// source queue. Not with `drop-head`, because a removed message has to make room.
    pub(super) fn is_at_least_once(&self) -> bool {
        self.has_dead_letters()
            && self.dead_letter_strategy == Some(Strategy::AtLeastOnce)
            && !self.contradicts_at_least_once()
    }

    /// Whether the rules ask for at-least-once in a bounded queue that does not refuse publishes,
    /// where it cannot be.
    pub(super) fn contradicts_at_least_once(&self) -> bool {
        self.dead_letter_strategy == Some(Strategy::AtLeastOnce)
            && self.is_bounded()
            && self.overflow() != Overflow::RejectPublish
    }

    /// Whether they bound how many messages may be ready.
    pub(super) fn is_bounded(&self) -> bool {
        self.max_length.is_some() || self.max_bytes.is_some()
    }

    /// Whether they bound the bytes of ready bodies.
    pub(super) fn bounds_bytes(&self) -> bool {
        self.max_bytes.is_some()
    }

    /// Returns how much must be removed from the head of a queue with `ready`, so that it keeps its bounds.
    ///
    /// Invariant: only `drop-head` ever removes. A queue that refuses publishes keeps all that it has accepted, also when
    /// requeued messages, a restart or a new policy leave it with more than its bounds.
    pub(super) fn excess(&self, ready: Load) -> Load {
        if self.overflow() != Overflow::DropHead {
            return Load::default();
        }
        let beyond =
            |have: u64, most: Option<u64>| most.map_or(0, |most| have.saturating_sub(most));
        Load {
            messages: beyond(ready.messages, self.max_length),
            bytes: beyond(ready.bytes, self.max_bytes),
        }
    }

    /// Whether a queue with these rules ever refuses a message.
    pub(super) fn can_refuse(&self) -> bool {
        self.is_bounded() && self.overflow() != Overflow::DropHead
    }

    /// Whether a queue with `ready` refuses another message with a body of so many bytes.
    pub(super) fn refuses(&self, ready: Load, body: usize) -> bool {
        self.can_refuse()
            && (self.max_length.is_some_and(|most| ready.messages >= most)
                || self.max_bytes.is_some_and(|most| ready.bytes + body as u64 > most))
    }

    /// Whether there is nothing that a publisher or a consumer could notice.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&'static str, Value)]) -> FieldTable {
        entries.iter().map(|(name, value)| (ShortStr::from_static(name), value.clone())).collect()
    }

    #[test]
    fn arguments_and_policies_say_the_same_in_the_same_words() {
        let own = table(&[
            ("x-message-ttl", Value::I8(7)),
            ("x-max-length", Value::I64(9)),
            ("x-overflow", Value::text("reject-publish-dlx")),
            ("x-dead-letter-exchange", Value::text("")),
            ("max-length-bytes", Value::I32(1)),
        ]);
        let rules = Rules::of_arguments(&own);
        assert_eq!(
            (rules.message_ttl, rules.max_length, rules.max_bytes),
            (Some(7), Some(9), None)
        );
        assert_eq!(rules.overflow(), Overflow::RejectPublishAndDeadLetter);
        let nowhere = DeadLetters { exchange: ShortStr::default(), routing_key: None };
        assert_eq!(rules.dead_letters(), Some(nowhere));
        assert!(rules.can_refuse() && !rules.is_plain());
        assert!(Rules::of_arguments(&FieldTable::new()).is_plain());

        let policy = table(&[
            ("message-ttl", Value::I64(5)),
            ("max-length", Value::I64(10)),
            ("expires", Value::I64(60_000)),
            ("overflow", Value::text("drop-head")),
            ("dead-letter-exchange", Value::text("graves")),
            ("dead-letter-routing-key", Value::text("plot")),
            ("x-delivery-limit", Value::I64(1)),
        ]);
        let both = rules.under(Rules::of_policy(&policy));
        let numbers = (both.message_ttl, both.expires, both.max_length, both.delivery_limit);
        assert_eq!(numbers, (Some(5), Some(60_000), Some(9), None));
        assert_eq!(both.overflow(), Overflow::RejectPublishAndDeadLetter);
        let key = Some(ShortStr::from_static("plot"));
        let graves = DeadLetters { exchange: ShortStr::default(), routing_key: key };
        assert_eq!(both.dead_letters(), Some(graves));
    }

    #[test]
    fn only_drop_head_removes_and_only_the_others_refuse() {
        let bounds = [("x-max-length", Value::U8(3)), ("x-max-length-bytes", Value::U8(10))];
        let full = Load { messages: 3, bytes: 10 };
        let over = Load { messages: 5, bytes: 30 };
        let dropping = Rules::of_arguments(&table(&bounds));
        assert_eq!(dropping.excess(full), Load::default());
        assert_eq!(dropping.excess(over), Load { messages: 2, bytes: 20 });
        assert!(!dropping.refuses(over, 1));
        for overflow in ["reject-publish", "reject-publish-dlx"] {
            let overflow = ("x-overflow", Value::text(overflow));
            let rules = Rules::of_arguments(&table(&[&bounds[..], &[overflow]].concat()));
            assert_eq!(rules.excess(over), Load::default());
            assert!(rules.refuses(full, 0) && rules.refuses(Load { messages: 2, bytes: 9 }, 2));
            assert!(!rules.refuses(Load { messages: 2, bytes: 9 }, 1));
        }
    }

    #[test]
    fn a_routing_key_alone_leads_nowhere() {
        let rules = Rules::of_policy(&table(&[("dead-letter-routing-key", Value::text("plot"))]));
        assert_eq!(rules.dead_letters(), None);
    }
}
