//! Where an exchange sends a message: one router per exchange, by the exchange's type.
//!
//! A router is an index over the exchange's bindings, made for looking up. It may use the message model and
//! the handles of queues; it must never know of connections, nor how bindings are stored.

mod destinations;
mod direct;
mod headers;
mod news;
mod topic;

#[cfg(test)]
pub(super) use destinations::NO_CROWD;
pub(super) use destinations::{Destinations, ExchangeEnd, Matches, Target};
pub(super) use headers::check_arguments as check_headers_arguments;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use self::direct::DirectRouter;
use self::headers::HeadersRouter;
pub use self::topic::Effort;
use self::topic::TopicRouter;
pub(super) use self::topic::{PATTERN_WORD, PIECE as STEPS_OF_A_TURN};
use crate::message::{RawProperties, ShortStr};

/// A number for a router, which no other one of the process has.
fn next_router() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// The type of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ExchangeKind {
    /// The binding's key equals the routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// The binding's key is a pattern of words, `*` and `#`.
    Topic,
    /// The binding's arguments are compared with the message's headers.
    Headers,
}

impl ExchangeKind {
    /// Every type, with its name in `exchange.declare`.
    pub(super) const ALL: [(Self, &'static str); 4] = [
        (Self::Direct, "direct"),
        (Self::Fanout, "fanout"),
        (Self::Topic, "topic"),
        (Self::Headers, "headers"),
    ];

    /// The type with that name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| known.as_bytes() == name).map(|(kind, _)| *kind)
    }

    /// Its name in `exchange.declare`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// The index of one exchange's bindings.
#[derive(Debug)]
pub(super) enum Router {
    Direct(DirectRouter),
    Fanout(Destinations),
    Topic(Box<TopicRouter>),
    Headers(HeadersRouter),
}

impl Router {
    /// An index without bindings.
    pub(super) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(DirectRouter::default()),
            ExchangeKind::Fanout => Self::Fanout(Destinations::default()),
            ExchangeKind::Topic => Self::Topic(Box::default()),
            ExchangeKind::Headers => Self::Headers(HeadersRouter::default()),
        }
    }

    /// Adds a binding. The same target may be bound several times, also with the same key.
    pub(super) fn add(&mut self, key: &ShortStr, arguments: Bytes, target: Target) {
        match self {
            Self::Direct(router) => router.add(key, target),
            Self::Fanout(destinations) => destinations.add(target),
            Self::Topic(router) => router.add(key, target),
            Self::Headers(router) => router.add(arguments, target),
        }
    }

    /// Removes a binding that was added before.
    pub(super) fn remove(&mut self, key: &ShortStr, arguments: Bytes, target: &Target) {
        match self {
            Self::Direct(router) => router.remove(key, target),
            Self::Fanout(destinations) => destinations.remove(target),
            Self::Topic(router) => router.remove(key, target),
            Self::Headers(router) => router.remove(arguments, target),
        }
    }

    /// Adds to `matches` everything that a message with these keys, one at least, goes to. Returns whether there was
    /// anything.
    pub(super) fn route(
        &self,
        keys: &[&[u8]],
        properties: &RawProperties<'_>,
        matches: &mut Matches,
    ) -> bool {
        let before = matches.len();
        match self {
            Self::Direct(router) => {
                let mut is_taken = false;
                for key in keys {
                    let before = matches.len();
                    router.route(key, matches);
                    is_taken |= matches.len() > before;
                    if keys.len() > 1 {
                        matches.bound();
                    }
                }
                return is_taken;
            }
            Self::Topic(router) => router.route(keys, matches),
            // Here keys make no difference.
            Self::Fanout(destinations) => destinations.add_to(matches),
            Self::Headers(router) => router.route(properties.headers(), matches),
        }
        matches.len() > before
    }
}
