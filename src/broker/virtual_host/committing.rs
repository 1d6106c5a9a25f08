//! Committing a transaction as one change of the store.

use std::collections::VecDeque;
use std::sync::Arc;

use super::publishing::persistence;
use super::staging::envelope;
use super::together::Part;
use super::{Routed, VirtualHost};
use crate::broker::arrivals::Arrivals;
use crate::broker::queue::Queue;
use crate::broker::refusal::Refusal;
use crate::broker::routing::Matches;
use crate::broker::topology::Topology;
use crate::broker::transaction::Staged;
use crate::message::Envelope;
use crate::storage::{Draft, Lsn, Sequence, StoreError};

/// What a commit at once has come to.
#[derive(Debug)]
pub(in crate::broker) struct AtOnce {
    /// Where each message went.
    pub(in crate::broker) routed: Vec<Routed>,
    /// When all is durable.
    pub(in crate::broker) durable_at: Option<Lsn>,
}

impl VirtualHost {
    /// Stores messages, and takes others out of their queues for good: after a crash all of it is so, or nothing.
    /// `None`: that cannot be done at once, and nothing has been.
    pub(in crate::broker) fn publish_together(
        &self,
        staged: &VecDeque<Staged>,
        acknowledged: &[(Arc<Queue>, Vec<Sequence>)],
        arrivals: &mut Arrivals,
        matches: &mut Matches,
    ) -> Result<Option<AtOnce>, Refusal> {
        let topology = self.topology.read();
        let mut parts = Vec::with_capacity(staged.len());
        for staged in staged {
            let Some(part) = self.part(&topology, staged, arrivals)? else { return Ok(None) };
            parts.push(part);
        }
        let durable_at = match self.store_together(&topology, &parts, acknowledged, arrivals) {
            Ok(applied) => applied.durable_at,
            Err(StoreError::TooLarge { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        drop(topology);
        let mut all = Vec::with_capacity(parts.len());
        for (part, staged) in parts.iter().zip(staged) {
            let queues = part.queues.len();
            let mut routed = Routed { queues, durable_at, ..Routed::default() };
            if !staged.replies.is_empty() {
                matches.clear();
                staged.replies.iter().for_each(|address| matches.add_reply(address));
                let envelope = envelope(&staged.message)?;
                let draft = Draft::Whole(&staged.message);
                routed = self.reply(&envelope, draft, routed, arrivals, matches);
            }
            all.push(routed);
        }
        Ok(Some(AtOnce { routed: all, durable_at }))
    }

    /// A message as its queues' rules have it; `None`: one of them may refuse it, which is found out one message after the other.
    fn part(
        &self,
        topology: &Topology,
        staged: &Staged,
        arrivals: &mut Arrivals,
    ) -> Result<Option<Part>, Refusal> {
        let found = staged.queues.iter().filter_map(|name| topology.queue(name));
        let queues: Vec<_> = found.map(Arc::clone).collect();
        let envelope = envelope(&staged.message)?;
        let mut timed = envelope.properties.expiration().is_some();
        if timed {
            queues.iter().for_each(|queue| queue.note_expiration());
        }
        for queue in queues.iter().filter(|queue| queue.rules().any()) {
            let rules = queue.rules().get();
            if rules.can_refuse() {
                return Ok(None);
            }
            timed |= rules.message_ttl.is_some();
        }
        let message = if timed {
            let published_at = arrivals.published_at(|| self.store.now()).unix_millis();
            let envelope = Envelope { published_at: Some(published_at), ..envelope };
            staged.message.with_header(envelope.to_bytes())
        } else {
            staged.message.clone()
        };
        let priority = envelope.properties.priority();
        let persistence = persistence(&envelope);
        Ok(Some(Part { message, persistence, priority, queues, timed }))
    }
}
