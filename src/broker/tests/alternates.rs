//! Alternate exchanges: where a message goes that an exchange routes nowhere.

use super::*;

fn with_alternate(text: &str, kind: &str, alternate: &str) -> DeclareExchange {
    let arguments = table(&[("alternate-exchange", Value::text(alternate))]);
    DeclareExchange { arguments, ..exchange(text, kind) }
}

/// A fanout exchange `rest` that leads to the queue `leftover`.
fn declare_rest(client: &mut Client) {
    client.channel.declare_exchange(&exchange("rest", "fanout")).unwrap();
    client.channel.declare_queue(&queue("leftover")).unwrap();
    client.channel.bind(&binding("rest", "leftover", "")).unwrap();
}

#[test]
fn what_an_exchange_routes_nowhere_goes_to_its_alternate_and_nothing_else_does() {
    let rig = Rig::new();
    let mut client = rig.connect();
    declare_rest(&mut client);
    for kind in ["direct", "topic", "fanout", "headers"] {
        client.channel.declare_exchange(&with_alternate(kind, kind, "rest")).unwrap();
        assert_eq!(client.send_to(kind, "k", kind), 1, "{kind}");
    }
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.bind(&binding("direct", "q", "k")).unwrap();
    assert_eq!(client.send_to("direct", "k", "taken"), 1);
    assert_eq!((client.ready("q"), client.ready("leftover")), (1, 4));
    client.channel.unbind(&binding("direct", "q", "k")).unwrap();
    assert_eq!(client.send_to("direct", "k", "not any more"), 1);
    assert_eq!((client.ready("q"), client.ready("leftover")), (1, 5));
}

#[test]
fn alternates_have_alternates_and_one_that_is_missing_is_passed_over() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_exchange(&with_alternate("a", "direct", "b")).unwrap();
    assert_eq!(client.send_to("a", "k", "b does not exist"), 0);
    client.channel.declare_exchange(&with_alternate("b", "topic", "rest")).unwrap();
    assert_eq!(client.send_to("a", "k", "rest does not exist"), 0);
    declare_rest(&mut client);
    assert_eq!(client.send_to("a", "k", "rest has it"), 1);
    client.channel.delete_exchange(b"b", false).unwrap();
    assert_eq!(client.send_to("a", "k", "b does not exist"), 0);
    // The default exchange is nobody's alternate, and no exchange has a name as long as this one.
    for nobody in ["", "amq.default", &"x".repeat(300)] {
        client.channel.declare_exchange(&with_alternate("c", "direct", nobody)).unwrap();
        assert_eq!(client.send_to("c", "leftover", "nobody has it"), 0);
        client.channel.delete_exchange(b"c", false).unwrap();
    }
    assert_eq!(client.ready("leftover"), 1);
}

#[test]
fn a_cycle_of_alternates_ends() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_exchange(&with_alternate("self", "direct", "self")).unwrap();
    assert_eq!(client.send_to("self", "k", "x"), 0);
    client.channel.declare_exchange(&with_alternate("a", "direct", "b")).unwrap();
    client.channel.declare_exchange(&with_alternate("b", "direct", "c")).unwrap();
    client.channel.declare_exchange(&with_alternate("c", "direct", "a")).unwrap();
    assert_eq!(client.send_to("a", "k", "x"), 0);
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.bind(&binding("c", "q", "k")).unwrap();
    for from in ["a", "b", "c"] {
        assert_eq!(client.send_to(from, "k", "x"), 1, "{from}");
    }
    assert_eq!(client.ready("q"), 3);
}

#[test]
fn an_exchange_that_a_binding_leads_to_has_its_own_alternate_and_the_source_routes_somewhere() {
    let rig = Rig::new();
    let mut client = rig.connect();
    declare_rest(&mut client);
    let to = |source: &str, destination: &str| Bind {
        kind: DestinationKind::Exchange,
        ..binding(source, destination, "")
    };
    client.channel.declare_exchange(&with_alternate("source", "fanout", "rest")).unwrap();
    client.channel.declare_exchange(&exchange("dead end", "direct")).unwrap();
    client.channel.bind(&to("source", "dead end")).unwrap();
    assert_eq!(client.send_to("source", "k", "the binding takes it, and it is lost behind it"), 0);
    client.channel.declare_exchange(&with_alternate("way out", "direct", "rest")).unwrap();
    client.channel.bind(&to("source", "way out")).unwrap();
    assert_eq!(client.send_to("source", "k", "the way out leads on"), 1);
    // Reached twice, by a binding and as an alternate: once in the queue.
    client.channel.bind(&to("source", "rest")).unwrap();
    assert_eq!(client.send_to("source", "k", "once"), 1);
    assert_eq!(client.ready("leftover"), 2);
}

#[test]
fn an_internal_exchange_may_be_an_alternate() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let internal = DeclareExchange { internal: true, ..exchange("inside", "fanout") };
    client.channel.declare_exchange(&internal).unwrap();
    client.channel.declare_queue(&queue("q")).unwrap();
    client.channel.bind(&binding("inside", "q", "")).unwrap();
    client.channel.declare_exchange(&with_alternate("outside", "direct", "inside")).unwrap();
    assert_eq!(client.send_to("outside", "k", "x"), 1);
}

#[test]
fn an_alternate_is_a_part_of_the_declaration() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let declare = with_alternate("x", "direct", "rest");
    client.channel.declare_exchange(&declare).unwrap();
    client.channel.declare_exchange(&declare).unwrap();
    let inequivalent = |what: &str| {
        let arg = "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/'";
        (406, format!("PRECONDITION_FAILED - {arg}: received {what}"))
    };
    assert_eq!(
        refusal(client.channel.declare_exchange(&exchange("x", "direct"))),
        inequivalent("none but current is the value 'rest' of type 'longstr'")
    );
    assert_eq!(
        refusal(client.channel.declare_exchange(&with_alternate("x", "direct", "other"))),
        inequivalent("'other' but current is 'rest'")
    );
    let number = table(&[("alternate-exchange", Value::I32(5))]);
    let number =
        |text: &str| DeclareExchange { arguments: number.clone(), ..exchange(text, "direct") };
    assert_eq!(
        refusal(client.channel.declare_exchange(&number("x"))),
        inequivalent("'5' but current is 'rest'")
    );
    assert_eq!(
        refusal(client.channel.declare_exchange(&number("new"))),
        (
            406,
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in \
             exchange 'new' in vhost '/'"
                .to_owned()
        )
    );
    assert_eq!(refusal(client.channel.declare_exchange(&number("amq.new"))).0, 403);
}

#[test]
fn an_alternate_is_one_after_a_restart_too() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let declare = DeclareExchange { durable: true, ..with_alternate("x", "direct", "amq.fanout") };
    client.channel.declare_exchange(&declare).unwrap();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.channel.bind(&binding("amq.fanout", "q", "")).unwrap();
    assert_eq!(client.send_to("x", "k", "before"), 1);
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect();
    client.channel.declare_exchange(&declare).unwrap();
    assert_eq!(client.send_to("x", "k", "after"), 1);
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(client.await_bodies(2), ["before", "after"]);
}
