//! What one channel may do: what its user is granted, remembered for as long as nothing changes.

use std::sync::Arc;

use super::accounts::Accounts;
use super::permissions::{Permissions, Right};
use super::topics::Topics;
use crate::broker::copies::Copies;
use crate::broker::refusal::{Reason, Refusal};
use crate::message::{Envelope, ShortStr};

/// What the default exchange is called where permissions are concerned.
const DEFAULT_EXCHANGE: &[u8] = b"amq.default";

/// What a user may do in a virtual host.
#[derive(Debug, Clone)]
pub(in crate::broker) enum Grant {
    /// Everything: an administrator.
    Everything,
    /// What these permissions say.
    Some(Arc<Permissions>),
    /// Nothing, not even connect.
    Nothing,
}

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resource<'n> {
    Exchange(&'n [u8]),
    Queue(&'n [u8]),
}

impl<'n> Resource<'n> {
    fn name(self) -> &'n [u8] {
        match self {
            Resource::Exchange(b"") => DEFAULT_EXCHANGE,
            Resource::Exchange(name) | Resource::Queue(name) => name,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Resource::Exchange(_) => "exchange",
            Resource::Queue(_) => "queue",
        }
    }
}

/// The powers of one channel.
#[derive(Debug)]
pub(in crate::broker) struct Powers {
    accounts: Arc<Accounts>,
    user: ShortStr,
    virtual_host: ShortStr,
    /// Of the accounts, when all of the following was so.
    generation: u64,
    grant: Grant,
    /// Where the routing keys are restricted, if that is so anywhere.
    topics: Topics,
    writes_everywhere: bool,
    /// The exchange that was last published to with permission.
    written: Option<ShortStr>,
}

impl Powers {
    pub(in crate::broker) fn new(
        accounts: Arc<Accounts>,
        user: ShortStr,
        virtual_host: ShortStr,
    ) -> Self {
        let mut powers = Self {
            accounts,
            user,
            virtual_host,
            generation: 0,
            grant: Grant::Nothing,
            topics: Topics::default(),
            writes_everywhere: false,
            written: None,
        };
        powers.refresh();
        powers
    }

    /// Refuses (403) to publish to an exchange. Where permission has been given before, this is two comparisons. `is_topic` says
    /// whether it is a topic exchange.
    #[inline]
    pub(in crate::broker) fn check_publish(
        &mut self,
        envelope: &Envelope<'_>,
        is_topic: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        let exchange = envelope.exchange;
        let current = self.generation == self.accounts.generation();
        let written = || self.written.as_ref().is_some_and(|name| &name[..] == exchange);
        if current && (self.writes_everywhere || written()) {
            return Ok(());
        }
        self.look_up_publish(envelope, is_topic)
    }

    #[cold]
    fn look_up_publish(
        &mut self,
        envelope: &Envelope<'_>,
        is_topic: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        let Envelope { exchange, routing_key, .. } = *envelope;
        self.check(Right::Write, Resource::Exchange(exchange))?;
        if self.topics.of(exchange).is_none() {
            self.written = Some(ShortStr::copy_of(exchange));
            return Ok(());
        }
        // Nothing can be remembered here: an exchange of another type may have become a topic exchange by the next message.
        if !is_topic() {
            return Ok(());
        }
        // Each key by itself, also those of copies.
        let copies = envelope.properties.headers().map(Copies::named_by).transpose()?.flatten();
        let copies = copies.iter().flat_map(Copies::keys);
        std::iter::once(routing_key)
            .chain(copies)
            .try_for_each(|key| self.check_topic(Right::Write, exchange, key))
    }

    fn refresh(&mut self) {
        // First the number: should there be a change in between, the next look is one too many.
        self.generation = self.accounts.generation();
        self.grant = self.accounts.grant(&self.user, &self.virtual_host);
        self.writes_everywhere = match &self.grant {
            Grant::Everything => true,
            Grant::Some(permissions) => permissions.allow_everything(Right::Write),
            Grant::Nothing => false,
        };
        self.topics = match &self.grant {
            Grant::Some(_) => self.accounts.topics(&self.user, &self.virtual_host),
            Grant::Everything | Grant::Nothing => Topics::default(),
        };
        self.writes_everywhere &= self.topics.is_empty();
        self.written = None;
    }

    fn has(&mut self, right: Right, resource: Resource<'_>) -> bool {
        if self.generation != self.accounts.generation() {
            self.refresh();
        }
        match &self.grant {
            Grant::Everything => true,
            Grant::Some(permissions) => permissions.allow(right, resource.name()),
            Grant::Nothing => false,
        }
    }

    /// Refuses (403) a routing key of an exchange where the user may only use others.
    pub(super) fn check_topic(
        &self,
        right: Right,
        exchange: &[u8],
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        if self.topics.of(exchange).is_none_or(|topics| topics.allow(right, routing_key)) {
            return Ok(());
        }
        let Self { user, virtual_host, .. } = self;
        let (key, exchange) =
            (String::from_utf8_lossy(routing_key), String::from_utf8_lossy(exchange));
        Err(Refusal::new(
            Reason::AccessRefused,
            format_args!(
                "access to topic '{key}' in exchange '{exchange}' in vhost '{virtual_host}' \
                 refused for user '{user}'"
            ),
        ))
    }

    /// Refuses (403) what the user has no right to.
    pub(super) fn check(&mut self, right: Right, resource: Resource<'_>) -> Result<(), Refusal> {
        self.check_any(&[right], resource)
    }

    /// Refuses (403) what the user has none of these rights to.
    pub(super) fn check_any(
        &mut self,
        rights: &[Right],
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        if rights.iter().any(|right| self.has(*right, resource)) {
            return Ok(());
        }
        let (kind, name) = (resource.kind(), String::from_utf8_lossy(resource.name()));
        let Self { user, virtual_host, .. } = self;
        Err(Refusal::new(
            Reason::AccessRefused,
            format_args!(
                "access to {kind} '{name}' in vhost '{virtual_host}' refused for user '{user}'"
            ),
        ))
    }
}
