//! Virtual hosts, their limits and policies.

use super::*;
use crate::broker::access::{Permissions, User, UserLimits};
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};

fn about(text: &str) -> HostDescription {
    HostDescription { description: text.to_owned(), ..HostDescription::default() }
}

impl Rig {
    fn add_host(&self, host: &str) {
        self.broker.administer().add_virtual_host(&name(host), about("a test")).unwrap();
    }

    fn connect_to(&self, host: &str) -> Client {
        let session = self.broker.connect(host.as_bytes(), b"guest").unwrap();
        Client { channel: session.open_channel(ChannelNumber(1)), session }
    }

    fn limit(&self, host: &str, limits: HostLimits) {
        let description = HostDescription { limits, ..about("limited") };
        self.broker.administer().describe_virtual_host(&name(host), description).unwrap();
    }

    fn set_alternate(&self, policy: &str, pattern: &str, priority: i64, alternate: &str) {
        let definition = table(&[("alternate-exchange", Value::text(alternate))]);
        let policy = Policy::new(
            PolicyKind::User,
            name(policy),
            pattern,
            ApplyTo::Exchanges,
            priority,
            definition,
        );
        self.broker.administer().set_policy(&name("/"), policy.unwrap()).unwrap();
    }
}

#[test]
fn what_is_in_one_virtual_host_is_not_in_another() {
    let rig = Rig::new();
    rig.add_host("orders");
    let (mut here, mut there) = (rig.connect(), rig.connect_to("orders"));
    here.channel.declare_queue(&durable("q")).unwrap();
    there.channel.declare_queue(&durable("q")).unwrap();
    there.send("q", "there");
    assert_eq!((here.ready("q"), there.ready("q")), (0, 1));
    let missing = refusal(there.channel.bind(&binding("amq.direct", "p", "k"))).1;
    assert_eq!(missing, "NOT_FOUND - no queue 'p' in vhost 'orders'");
    let rig = {
        drop((here, there));
        rig.restart()
    };
    assert_eq!((rig.connect().ready("q"), rig.connect_to("orders").ready("q")), (0, 1));
    let hosts = rig.broker.virtual_hosts();
    assert_eq!(hosts[1], (name("orders"), about("a test")));
    assert_eq!(hosts[0], (name("/"), HostDescription::default()));
}

#[test]
fn a_virtual_host_goes_with_all_that_is_in_it_and_its_connections() {
    let rig = Rig::new();
    rig.add_host("orders");
    let (mut here, mut there) = (rig.connect(), rig.connect_to("orders"));
    for client in [&mut here, &mut there] {
        client
            .channel
            .declare_exchange(&DeclareExchange { durable: true, ..exchange("x", "direct") })
            .unwrap();
        client.channel.declare_queue(&durable("q")).unwrap();
        client.channel.declare_queue(&DeclareQueue { exclusive: true, ..queue("own") }).unwrap();
        client.channel.bind(&binding("x", "q", "k")).unwrap();
        assert_eq!(client.send_to("x", "k", "body"), 1);
        client.channel.consume(&consumer("own", "c")).unwrap();
    }
    let administration = rig.broker.administer();
    let limits = UserLimits::default();
    let user = User { name: name("u"), password: None, tags: vec![], limits };
    administration.add_user(user).unwrap();
    let all = Permissions::new(".*", ".*", ".*").unwrap();
    administration.permit(&name("u"), &name("orders"), all).unwrap();
    administration.delete_virtual_host(&name("orders")).unwrap();
    drop(administration);
    let why = there.session.take_order_to_close();
    assert_eq!(why.as_deref(), Some("vhost 'orders' is down"));
    assert_eq!(here.session.take_order_to_close(), None);
    // Until it is closed the connection finds nothing, and adds nothing.
    assert_eq!(there.send("q", "nobody has it"), 0);
    assert_eq!(refusal(there.channel.declare_queue(&durable("new"))).0, 530);
    assert_eq!(refusal(there.channel.declare_exchange(&exchange("new", "direct"))).0, 530);
    assert_eq!(refusal(rig.broker.connect(b"orders", b"guest").map(drop)).0, 530);
    assert!(rig.broker.accounts().permissions().is_empty());
    // One of the same name is another one.
    rig.add_host("orders");
    drop(there);
    let mut there = rig.connect_to("orders");
    assert_eq!(refusal(there.channel.get(b"q", true)).0, 404);
    assert_eq!(here.ready("q"), 1);
    let rig = {
        drop((here, there));
        rig.restart()
    };
    assert_eq!(rig.connect().ready("q"), 1);
    assert_eq!(refusal(rig.connect_to("orders").channel.get(b"q", true)).0, 404);
    assert_eq!(rig.broker.store().queues().len(), 1);
    // Exchange and binding here, the new virtual host, the user, and the note that there were first users.
    assert_eq!(rig.broker.store().entries().len(), 5);
}

#[test]
fn the_virtual_host_that_is_always_there_stays() {
    let rig = Rig::new();
    let administration = rig.broker.administer();
    let text = |outcome: Result<Option<crate::storage::Lsn>, AdministrationError>| {
        outcome.unwrap_err().to_string()
    };
    let deleted = administration.delete_virtual_host(&name("/"));
    assert_eq!(text(deleted), "vhost '/' is always there, and cannot be deleted");
    assert_eq!(text(administration.delete_virtual_host(&name("x"))), "vhost 'x' does not exist");
    let again = administration.add_virtual_host(&name("/"), about(""));
    assert_eq!(text(again), "vhost '/' already exists");
    assert_eq!(
        text(administration.add_virtual_host(&name(""), about(""))),
        "a vhost must have a name"
    );
}

#[test]
fn a_virtual_host_has_as_many_connections_and_queues_as_its_limits_say() {
    let rig = Rig::new();
    rig.limit("/", HostLimits { max_connections: Some(1), max_queues: Some(1) });
    let mut client = rig.connect();
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached";
    assert_eq!(refusal(rig.broker.connect(b"/", b"guest").map(drop)), (530, text.to_owned()));
    client.channel.declare_queue(&durable("q1")).unwrap();
    client.channel.declare_queue(&durable("q1")).unwrap();
    let text =
        "PRECONDITION_FAILED - cannot declare queue 'q2': queue limit in vhost '/' (1) is reached";
    assert_eq!(refusal(client.channel.declare_queue(&queue("q2"))), (406, text.to_owned()));
    client.channel.delete_queue(b"q1", false, false).unwrap();
    client.channel.declare_queue(&queue("q2")).unwrap();
    let rig = {
        drop(client);
        rig.restart()
    };
    let client = rig.connect();
    assert_eq!(refusal(rig.broker.connect(b"/", b"guest").map(drop)).0, 530);
    drop(client);
    rig.limit("/", HostLimits::default());
    let _both = (rig.connect(), rig.connect());
}

#[test]
fn a_policy_gives_exchanges_an_alternate_at_once_and_their_own_comes_first() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for rest in ["rest", "other"] {
        client
            .channel
            .declare_exchange(&DeclareExchange { durable: true, ..exchange(rest, "fanout") })
            .unwrap();
        client.channel.declare_queue(&durable(rest)).unwrap();
        client.channel.bind(&binding(rest, rest, "")).unwrap();
    }
    let own = table(&[("alternate-exchange", Value::text("other"))]);
    let durable = |what| DeclareExchange { durable: true, ..exchange(what, "direct") };
    client.channel.declare_exchange(&durable("shop")).unwrap();
    client
        .channel
        .declare_exchange(&DeclareExchange { arguments: own, ..durable("shop.own") })
        .unwrap();
    assert_eq!(client.send_to("shop", "k", "nowhere"), 0);
    rig.set_alternate("unrouted", "^shop", 0, "rest");
    assert_eq!(client.send_to("shop", "k", "rest"), 1);
    assert_eq!(client.send_to("shop.own", "k", "other"), 1);
    client.channel.declare_exchange(&durable("shop.new")).unwrap();
    assert_eq!(client.send_to("shop.new", "k", "rest"), 1);
    assert_eq!((client.ready("rest"), client.ready("other")), (2, 1));
    rig.set_alternate("first", "^shop$", 1, "other");
    assert_eq!(client.send_to("shop", "k", "other"), 1);
    assert_eq!((client.ready("rest"), client.ready("other")), (2, 2));
    let rig = {
        drop(client);
        rig.restart()
    };
    let mut client = rig.connect();
    assert_eq!(client.send_to("shop", "k", "other"), 1);
    assert_eq!((client.ready("rest"), client.ready("other")), (2, 3));
    let administration = rig.broker.administer();
    administration.delete_policy(&name("/"), PolicyKind::User, &name("first")).unwrap();
    assert_eq!(client.send_to("shop", "k", "rest"), 1);
    administration.delete_policy(&name("/"), PolicyKind::User, &name("unrouted")).unwrap();
    assert_eq!(client.send_to("shop", "k", "nowhere"), 0);
    let missing = administration.delete_policy(&name("/"), PolicyKind::User, &name("first"));
    assert_eq!(missing.unwrap_err().to_string(), "there is no policy 'first' in vhost '/'");
    drop(administration);
    drop(client);
    assert_eq!(rig.restart().broker.policies(b"/").unwrap(), []);
}

#[test]
fn connections_are_listed_and_closed() {
    let rig = Rig::new();
    rig.add_host("orders");
    let (here, there) = (rig.connect(), rig.connect_to("orders"));
    here.session.set_peer("127.0.0.1:1".to_owned());
    let listed = rig.broker.connections();
    let of = |listing: &ConnectionListing| {
        (listing.virtual_host.clone(), listing.peer.clone(), listing.channels)
    };
    assert_eq!(of(&listed[0]), ("/".to_owned(), "127.0.0.1:1".to_owned(), 1));
    assert_eq!(of(&listed[1]), ("orders".to_owned(), String::new(), 1));
    assert_eq!(rig.broker.close_connections(Some(listed[0].id), "because"), 1);
    assert_eq!(here.session.take_order_to_close().as_deref(), Some("because"));
    assert_eq!(there.session.take_order_to_close(), None);
    assert_eq!(rig.broker.close_connections(None, "all of them"), 2);
    // It has been told why already.
    assert_eq!(here.session.take_order_to_close(), None);
    assert_eq!(there.session.take_order_to_close().as_deref(), Some("all of them"));
    drop((here, there));
    assert!(rig.broker.connections().is_empty());
}
