//! Declaring, binding, purging and deleting; whatever is refused is expected to be.

use haypile::broker::{Bind, DeclareExchange, DeclareQueue};

use super::super::model::{Binding, Effect, Exchange, Incarnation, Name, Place, QueueSpec};
use super::{
    Answer, At, Clients, Thing, alternate_arguments, queue_arguments, short, wanted_arguments,
};

impl Clients {
    pub(in super::super) fn declare_exchange(
        &mut self,
        at: At,
        name: Name,
        exchange: Exchange,
    ) -> Answer {
        let known = self.world.exchanges.get(name).copied();
        if known.is_none() {
            self.one(Effect::DeclareExchange(name, exchange));
        }
        let request = DeclareExchange {
            name: short(name),
            kind: short(exchange.kind.name()),
            passive: false,
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: alternate_arguments(exchange.alternate),
        };
        let outcome = self.chan(at).inner.declare_exchange(&request);
        if known.is_some_and(|known| known != exchange) {
            assert_eq!(outcome.unwrap_err().code(), 406, "exchange {name}");
            return Answer { durable_at: None, vouches_for: None };
        }
        self.answer(outcome.unwrap(), &Thing::Exchange(name))
    }

    pub(in super::super) fn delete_exchange(&mut self, at: At, name: Name) -> Answer {
        if self.world.exchanges.contains_key(name) {
            self.one(Effect::DeleteExchange(name));
        }
        let durable_at = self.chan(at).inner.delete_exchange(name.as_bytes(), false).unwrap();
        self.answer(durable_at, &Thing::Exchange(name))
    }

    pub(in super::super) fn declare_queue(
        &mut self,
        at: At,
        name: Name,
        spec: QueueSpec,
    ) -> Answer {
        let known = self.world.queues.get(name).map(|queue| (queue.incarnation, queue.spec));
        let owner = known.and_then(|(queue, _)| self.owners.get(&queue)).copied();
        if known.is_none() {
            self.incarnations += 1;
            let incarnation = Incarnation(self.incarnations);
            if spec.exclusive {
                self.owners.insert(incarnation, at.0);
            }
            self.one(Effect::DeclareQueue(name, incarnation, spec));
        }
        let request = DeclareQueue {
            name: short(name),
            passive: false,
            durable: spec.durable,
            exclusive: spec.exclusive,
            auto_delete: spec.auto_delete,
            arguments: queue_arguments(&spec),
        };
        let outcome = self.chan(at).inner.declare_queue(&request);
        if let Some((_, known)) = known {
            let locked = owner != spec.exclusive.then_some(at.0);
            if locked || known != spec {
                let code = if locked { 405 } else { 406 };
                assert_eq!(outcome.unwrap_err().code(), code, "queue {name}");
                return Answer { durable_at: None, vouches_for: None };
            }
        }
        self.answer(outcome.unwrap().durable_at, &Thing::Queue(name))
    }

    /// Whether a client may use a queue: it is there, and nobody else's.
    pub(in super::super) fn may_use(&self, at: At, name: Name) -> bool {
        let owner = |queue: Incarnation| self.owners.get(&queue).copied();
        let queue = self.world.queues.get(name);
        queue.is_some_and(|queue| owner(queue.incarnation).is_none_or(|owner| owner == at.0))
    }

    pub(in super::super) fn delete_queue(&mut self, at: At, name: Name) -> Answer {
        self.note_flush(at);
        if let Some(queue) = self.world.queues.get(name) {
            let incarnation = queue.incarnation;
            let deletion = self.deletion((name, incarnation));
            self.note(vec![deletion]);
            self.out.retain(|(queue, _)| *queue != incarnation);
            let chans = self.clients.iter_mut().flatten().flat_map(|client| &mut client.channels);
            chans.for_each(|chan| chan.consumers.retain(|_, (_, queue)| *queue != incarnation));
        }
        let deleted = self.chan(at).inner.delete_queue(name.as_bytes(), false, false).unwrap();
        self.answer(deleted.durable_at, &Thing::Queue(name))
    }

    fn bind_request(binding: &Binding) -> Bind {
        Bind {
            source: short(binding.source),
            kind: binding.kind(),
            destination: short(binding.destination),
            routing_key: short(binding.key),
            arguments: wanted_arguments(binding.wanted.as_ref()),
        }
    }

    /// Whether both ends of a binding are there, and may be bound by this client.
    pub(in super::super) fn may_bind(&self, at: At, binding: &Binding) -> bool {
        let exchange = |name| self.world.exchanges.contains_key(name);
        exchange(binding.source)
            && if binding.to_exchange {
                exchange(binding.destination)
            } else {
                self.may_use(at, binding.destination)
            }
    }

    pub(in super::super) fn bind(&mut self, at: At, binding: &Binding) -> Answer {
        assert!(self.may_bind(at, binding), "{binding:?}");
        if !self.world.bindings.contains(binding) {
            self.one(Effect::Bind(binding.clone()));
        }
        let durable_at = self.chan(at).inner.bind(&Self::bind_request(binding)).unwrap();
        self.answer(durable_at, &Thing::Binding(binding.clone()))
    }

    pub(in super::super) fn unbind(&mut self, at: At, binding: &Binding) -> Answer {
        if self.world.bindings.contains(binding) {
            self.one(Effect::Unbind(binding.clone()));
        }
        let durable_at = self.chan(at).inner.unbind(&Self::bind_request(binding)).unwrap();
        self.answer(durable_at, &Thing::Binding(binding.clone()))
    }

    /// Takes everybody's deliveries first, so that what is left is ready.
    pub(in super::super) fn purge(&mut self, at: At, name: Name) -> Answer {
        self.take_all();
        let queue = &self.world.queues[name];
        let incarnation = queue.incarnation;
        let ready =
            queue.messages.keys().filter(|place| !self.out.contains(&(incarnation, **place)));
        let ready: Vec<Place> = ready.copied().collect();
        let count = ready.len();
        let stored =
            queue.spec.is_stored() && ready.iter().any(|place| queue.messages[place].persistent);
        if count > 0 {
            let gone = Place::by_rank(ready).into_iter();
            let gone = gone.map(|places| Effect::Acknowledge(name, incarnation, places));
            let step = self.note(vec![gone.collect()]);
            if stored {
                self.changed.insert(Thing::Backlog(name), step);
            }
        }
        let purged = self.chan(at).inner.purge_queue(name.as_bytes()).unwrap();
        assert_eq!(purged.messages as usize, count, "ready in {name}");
        self.answer(purged.durable_at, &Thing::Backlog(name))
    }
}
