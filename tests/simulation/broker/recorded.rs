//! One session with everything in it, and the power cut at every change of the disk.

use haypile::simulation::Image;

use super::clients::{Answer, At, Clients};
use super::cuts::Stage;
use super::model::{
    Binding, COPY, Exchange, Kind, Name, QueueSpec, Wanted, World, grave_of, limit_of,
};

pub(super) const DURABLE: QueueSpec = QueueSpec {
    durable: true,
    exclusive: false,
    auto_delete: false,
    mode: None,
    max_priority: 0,
    grave: None,
    max_length: None,
};

pub(super) fn exchange(kind: Kind) -> Exchange {
    Exchange::durable(kind)
}

pub(super) fn binding(source: Name, destination: Name, key: &'static str) -> Binding {
    Binding { source, to_exchange: false, destination, key, wanted: None }
}

/// Somebody does something and does not wait for the answer; another one does the same, which is nothing any more, and waits.
fn twice(clients: &mut Clients, does: impl Fn(&mut Clients) -> Answer) {
    let _unheard = does(clients);
    let answer = does(clients);
    clients.receive(answer);
}

/// Declares, binds, publishes to every type of exchange, consumes, acknowledges, requeues, purges, unbinds and deletes.
pub(super) fn everything(clients: &mut Clients) {
    let publisher = At(clients.connect(1), 0);
    let owner = clients.connect(2);
    let (one, other) = (At(owner, 0), At(owner, 1));
    // Topology, durable and not.
    for (name, kind) in [
        ("ex-direct", Kind::Direct),
        ("ex-fanout", Kind::Fanout),
        ("ex-topic", Kind::Topic),
        ("ex-headers", Kind::Headers),
    ] {
        // Declared before it, and missing for a while.
        let alternate = (name == "ex-direct").then_some("ex-inner");
        let exchange = Exchange { alternate, ..exchange(kind) };
        let answer = clients.declare_exchange(publisher, name, exchange);
        clients.receive(answer);
    }
    let internal = Exchange { internal: true, ..exchange(Kind::Fanout) };
    let answer = clients.declare_exchange(publisher, "ex-inner", internal);
    clients.receive(answer);
    for (name, spec) in [
        ("q-a", QueueSpec { grave: grave_of("q-a"), ..DURABLE }),
        ("q-b", QueueSpec { mode: Some("lazy"), max_priority: 2, ..DURABLE }),
        ("q-c", DURABLE),
        ("q-auto", QueueSpec { auto_delete: true, ..DURABLE }),
        ("q-volatile", QueueSpec { durable: false, ..DURABLE }),
        ("q-exclusive", QueueSpec { exclusive: true, ..DURABLE }),
    ] {
        let answer = clients.declare_queue(one, name, spec);
        clients.receive(answer);
    }
    let wanted = Wanted { all: true, headers: vec![("crop", "hay"), ("state", "dry")] };
    let inner = Binding { to_exchange: true, ..binding("ex-topic", "ex-inner", "straw.#") };
    let dry = Binding { wanted: Some(wanted), ..binding("ex-headers", "q-c", "") };
    let bindings = [
        binding("ex-direct", "q-a", "hay"),
        binding("ex-direct", "q-volatile", "hay"),
        binding("ex-fanout", "q-a", ""),
        binding("ex-fanout", "q-b", ""),
        binding("ex-topic", "q-b", "hay.*"),
        inner,
        binding("ex-inner", "q-c", ""),
        dry.clone(),
        binding("amq.topic", "q-auto", "#"),
        binding("amq.fanout", "q-exclusive", ""),
    ];
    for binding in &bindings {
        let answer = clients.bind(one, binding);
        clients.receive(answer);
    }
    // Messages: to one queue, to several, through exchanges to exchanges, with and without a confirm.
    clients.confirm_select(publisher);
    clients.publish(publisher, ("", "q-a"), &[], true, 10);
    clients.await_confirms(publisher);
    clients.publish(publisher, ("ex-fanout", ""), &[], true, 600);
    clients.publish(publisher, ("ex-topic", "hay.dry"), &[], true, 3000);
    clients.publish(publisher, ("ex-topic", "straw"), &[], true, 10);
    clients.publish(publisher, ("ex-direct", "straw"), &[], true, 10);
    clients.publish(publisher, ("", "q-a"), &[(COPY, "q-c")], true, 10);
    clients.publish(publisher, ("ex-direct", "straw"), &[(COPY, "hay")], true, 10);
    clients.await_confirms(publisher);
    clients.publish(publisher, ("ex-headers", ""), &[("crop", "hay"), ("state", "dry")], true, 10);
    clients.publish(publisher, ("ex-headers", ""), &[("crop", "hay")], true, 10);
    clients.publish(publisher, ("ex-direct", "hay"), &[], false, 10);
    clients.publish(publisher, ("ex-direct", "hay"), &[], true, 20_000);
    clients.publish(publisher, ("amq.fanout", ""), &[], true, 10);
    clients.publish(publisher, ("amq.topic", "hay"), &[], true, 10);
    clients.await_confirms(publisher);
    // Consumers, one of which answers with a message of its own.
    clients.confirm_select(one);
    clients.consume(one, "q-a", "a", 3);
    clients.consume(one, "q-b", "b", 0);
    clients.consume(other, "q-c", "no-ack-c", 0);
    clients.take_all();
    clients.acknowledge(one, 0, false, false);
    clients.publish(one, ("", "q-c"), &[], true, 10);
    clients.await_confirms(one);
    clients.requeue(one, 0, false);
    clients.take_all();
    clients.flush(one);
    clients.flush(other);
    clients.acknowledge(one, 1, true, false);
    clients.flush(one);
    clients.publish(publisher, ("ex-fanout", ""), &[], true, 100);
    clients.await_confirms(publisher);
    clients.take_all();
    clients.acknowledge(one, 0, false, true);
    clients.publish(one, ("", "nowhere"), &[], true, 10);
    clients.await_confirms(one);
    clients.look_after(false);
    clients.get(other, "q-a");
    clients.flush(other);
    clients.look_after(true);
    // Dead letters: two of one queue, whose messages are read back for it, and one that dies again.
    for _ in 0..2 {
        clients.publish(publisher, ("", "q-a"), &[(COPY, "q-b")], true, 10);
    }
    clients.await_confirms(publisher);
    clients.take_all();
    let held = clients.holds(one);
    clients.acknowledge(one, held - 1, true, true);
    clients.flush(one);
    clients.take_all();
    clients.publish(publisher, ("", "q-a"), &[], true, 10);
    clients.await_confirms(publisher);
    // Too many of them, published and returned, with a dead-letter exchange and without.
    let short = QueueSpec { max_length: limit_of("q-short"), ..DURABLE };
    for spec in [QueueSpec { grave: grave_of("q-short"), ..short }, short] {
        for (name, spec) in [("q-short", spec), ("q-spill", DURABLE)] {
            let answer = clients.declare_queue(other, name, spec);
            clients.receive(answer);
        }
        let before = clients.holds(other);
        for round in 0..2 {
            for _ in 0..4 - round {
                clients.publish(publisher, ("", "q-short"), &[], true, 10);
            }
            clients.await_confirms(publisher);
            clients.get(other, "q-short");
        }
        clients.requeue(other, before, false);
        clients.acknowledge(other, before, false, true);
        clients.flush(other);
        clients.take_all();
        let answer = clients.delete_queue(other, "q-short");
        clients.receive(answer);
    }
    // What is taken away.
    let answer = clients.unbind(one, &dry);
    clients.receive(answer);
    clients.cancel(one, "b");
    let answer = clients.purge(one, "q-b");
    clients.receive(answer);
    clients.publish(publisher, ("ex-fanout", ""), &[], true, 10);
    let answer = clients.delete_queue(publisher, "q-b");
    clients.receive(answer);
    let answer = clients.declare_queue(publisher, "q-b", DURABLE);
    clients.receive(answer);
    clients.await_confirms(publisher);
    let answer = clients.delete_exchange(publisher, "ex-inner");
    clients.receive(answer);
    clients.consume(other, "q-auto", "auto", 0);
    clients.take_all();
    clients.cancel(other, "auto");
    clients.publish(publisher, ("", "q-b"), &[], true, 10);
    clients.await_confirms(publisher);
    // What another one has just done.
    twice(clients, |clients| clients.declare_exchange(publisher, "ex-inner", internal));
    let chain = Binding { to_exchange: true, ..binding("ex-inner", "ex-fanout", "") };
    twice(clients, |clients| clients.bind(publisher, &chain));
    twice(clients, |clients| clients.unbind(publisher, &chain));
    twice(clients, |clients| clients.purge(publisher, "q-b"));
    twice(clients, |clients| clients.delete_exchange(publisher, "ex-inner"));
    twice(clients, |clients| clients.delete_queue(publisher, "q-b"));
    twice(clients, |clients| clients.declare_queue(publisher, "q-b", DURABLE));
    clients.disconnect(owner);
    clients.publish(publisher, ("", "q-a"), &[], true, 10);
    clients.await_confirms(publisher);
}

#[test]
fn what_clients_were_told_is_so_after_a_power_cut_with_any_change_of_the_disk() {
    let mut stage = Stage::open(Image::default(), World::default(), (0, 0), 1);
    everything(&mut stage.clients);
    let begun = std::time::Instant::now();
    let count = stage.end().cut_everywhere(4, 8).unwrap();
    eprintln!("recorded session: {count} in {:?}", begun.elapsed());
}
