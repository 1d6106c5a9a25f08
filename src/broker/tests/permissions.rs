//! Users and what they may do, in RabbitMQ 3.10's words.

use super::*;
use crate::broker::access::{Permissions, TopicPermissions, User, UserLimits};

fn user(text: &str) -> User {
    User { name: name(text), password: None, tags: Vec::new(), limits: UserLimits::default() }
}

impl Rig {
    /// A user with these permissions on `/`, and a connection.
    fn connect_with(&self, who: &str, configure: &str, write: &str, read: &str) -> Client {
        let administration = self.broker.administer();
        administration.add_user(user(who)).unwrap();
        drop(administration);
        self.permit(who, configure, write, read);
        self.connect_as(who)
    }

    fn permit(&self, who: &str, configure: &str, write: &str, read: &str) {
        let permissions = Permissions::new(configure, write, read).unwrap();
        self.broker.administer().permit(&name(who), &name("/"), permissions).unwrap();
    }

    fn connect_as(&self, who: &str) -> Client {
        let session = self.broker.connect(b"/", who.as_bytes()).unwrap();
        Client { channel: session.open_channel(ChannelNumber(1)), session }
    }
}

fn refused(kind: &str, what: &str) -> (u16, String) {
    (403, format!("ACCESS_REFUSED - access to {kind} '{what}' in vhost '/' refused for user 'u'"))
}

fn publish(client: &mut Client, to: &str) -> Result<usize, Refusal> {
    let sent = client.channel.publish(&message(to, "k", "body", &persistent()));
    sent.map(|published| published.queues)
}

/// `mine` and `theirs`: a queue and an exchange of each name.
fn rig_with_two_of_each() -> Rig {
    let rig = Rig::new();
    let mut guest = rig.connect();
    for name in ["mine", "theirs"] {
        guest.channel.declare_queue(&durable(name)).unwrap();
        guest.channel.declare_exchange(&exchange(name, "topic")).unwrap();
    }
    rig
}

#[test]
fn declaring_and_deleting_need_configure() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", "^m", ".*", ".*");
    let channel = &mut client.channel;
    channel.declare_queue(&durable("mine")).unwrap();
    channel.declare_queue(&queue("my own")).unwrap();
    channel.declare_exchange(&exchange("my own", "direct")).unwrap();
    for theirs in ["theirs", "nobody's"] {
        assert_eq!(refusal(channel.declare_queue(&durable(theirs))), refused("queue", theirs));
        assert_eq!(
            refusal(channel.delete_queue(theirs.as_bytes(), false, false)),
            refused("queue", theirs)
        );
        let declared = channel.declare_exchange(&exchange(theirs, "topic"));
        assert_eq!(refusal(declared), refused("exchange", theirs));
        let deleted = channel.delete_exchange(theirs.as_bytes(), false);
        assert_eq!(refusal(deleted), refused("exchange", theirs));
    }
    channel.delete_queue(b"mine", false, false).unwrap();
    channel.delete_exchange(b"mine", false).unwrap();
    let (code, text) = refusal(channel.declare_queue(&queue("")));
    assert_eq!(code, 403);
    assert!(text.starts_with("ACCESS_REFUSED - access to queue 'amq.gen-"), "{text}");
}

#[test]
fn what_is_wrong_for_everybody_is_told_first() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", "", "", "");
    let channel = &mut client.channel;
    let text = |outcome: Result<(), Refusal>| refusal(outcome).1;
    assert_eq!(
        text(channel.declare_queue(&queue("amq.x")).map(drop)),
        "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'"
    );
    assert_eq!(
        text(channel.declare_exchange(&exchange("x", "weird")).map(drop)),
        "PRECONDITION_FAILED - unknown exchange type 'weird'"
    );
    assert_eq!(
        text(channel.declare_exchange(&exchange("", "direct")).map(drop)),
        "ACCESS_REFUSED - operation not permitted on the default exchange"
    );
    assert_eq!(
        text(channel.delete_exchange(b"amq.direct", false).map(drop)),
        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
    assert_eq!(
        refusal(channel.declare_exchange(&exchange("amq.x", "direct"))),
        refused("exchange", "amq.x")
    );
}

#[test]
fn asking_for_a_name_needs_some_right_to_it() {
    let rig = rig_with_two_of_each();
    for (configure, write, read) in [("^mine$", "", ""), ("", "^mine$", ""), ("", "", "^mine$")] {
        rig.broker.administer().delete_user(&name("u")).ok();
        let mut client = rig.connect_with("u", configure, write, read);
        let passive = |what| DeclareQueue { passive: true, ..queue(what) };
        client.channel.declare_queue(&passive("mine")).unwrap();
        client
            .channel
            .declare_exchange(&DeclareExchange { passive: true, ..exchange("mine", "") })
            .unwrap();
        for what in ["theirs", "nobody's"] {
            assert_eq!(
                refusal(client.channel.declare_queue(&passive(what))),
                refused("queue", what)
            );
            let passive = DeclareExchange { passive: true, ..exchange(what, "") };
            assert_eq!(
                refusal(client.channel.declare_exchange(&passive)),
                refused("exchange", what)
            );
        }
    }
}

#[test]
fn binding_needs_write_on_the_destination_and_read_on_the_source() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", "", "^mine", "^mine");
    let channel = &mut client.channel;
    channel.bind(&binding("mine", "mine", "k")).unwrap();
    channel.unbind(&binding("mine", "mine", "k")).unwrap();
    let to_exchange =
        |source, to| Bind { kind: DestinationKind::Exchange, ..binding(source, to, "k") };
    channel.bind(&to_exchange("mine", "mine")).unwrap();
    for (bind, kind, what) in [
        (binding("mine", "theirs", "k"), "queue", "theirs"),
        (binding("theirs", "mine", "k"), "exchange", "theirs"),
        (binding("nobody's", "mine", "k"), "exchange", "nobody's"),
        (binding("", "theirs", "k"), "queue", "theirs"),
        (to_exchange("mine", "theirs"), "exchange", "theirs"),
        (to_exchange("theirs", "mine"), "exchange", "theirs"),
        (to_exchange("mine", ""), "exchange", "amq.default"),
    ] {
        assert_eq!(refusal(channel.bind(&bind)), refused(kind, what));
        assert_eq!(refusal(channel.unbind(&bind)), refused(kind, what));
    }
    let default = refusal(channel.bind(&binding("", "mine", "k"))).1;
    assert_eq!(default, "ACCESS_REFUSED - operation not permitted on the default exchange");
}

#[test]
fn publishing_needs_write_also_for_what_is_not_there() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", "", "^mine", "");
    for _ in 0..2 {
        assert_eq!(publish(&mut client, "mine").unwrap(), 0);
        for (to, called) in [("theirs", "theirs"), ("nobody's", "nobody's"), ("", "amq.default")] {
            assert_eq!(refusal(publish(&mut client, to)), refused("exchange", called));
        }
    }
    rig.permit("u", "", "^amq\\.default$", "");
    assert_eq!(publish(&mut client, "").unwrap(), 0);
    assert_eq!(refusal(publish(&mut client, "mine")), refused("exchange", "mine"));
}

#[test]
fn in_a_transaction_a_message_is_refused_when_it_is_published() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", "", "^mine", "");
    client.channel.tx_select().unwrap();
    let mut stage =
        |to| client.channel.stage(&message(to, "k", "body", &persistent()), false).map(drop);
    stage("mine").unwrap();
    assert_eq!(refusal(stage("theirs")), refused("exchange", "theirs"));
}

#[test]
fn a_direct_reply_needs_write_on_the_default_exchange_as_everything_published_there() {
    let rig = rig_with_two_of_each();
    let mut asking = rig.connect();
    let consume = Consume { no_ack: true, ..consumer("amq.rabbitmq.reply-to", "replies") };
    asking.channel.consume(&consume).unwrap();
    let mut client = rig.connect_with("u", ".*", "^mine", ".*");
    let reply = message("", "amq.rabbitmq.reply-to.whoever", "answer", &persistent());
    let refusal = refusal(client.channel.publish(&reply));
    assert_eq!(refusal, refused("exchange", "amq.default"));
}

#[test]
fn reading_needs_read() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", "", "", "^mine");
    let channel = &mut client.channel;
    assert!(matches!(channel.get(b"mine", true).unwrap(), Get::Empty));
    channel.purge_queue(b"mine").unwrap();
    channel.consume(&consumer("mine", "c")).unwrap();
    for what in ["theirs", "nobody's", "amq.rabbitmq.reply-to"] {
        assert_eq!(refusal(channel.get(what.as_bytes(), true)), refused("queue", what));
        assert_eq!(refusal(channel.purge_queue(what.as_bytes())), refused("queue", what));
    }
    assert_eq!(refusal(channel.consume(&consumer("theirs", "d"))), refused("queue", "theirs"));
}

#[test]
fn a_new_exchange_with_an_alternate_needs_read_on_it_and_write_on_the_alternate() {
    let rig = rig_with_two_of_each();
    let arguments = |to| table(&[("alternate-exchange", Value::text(to))]);
    let with = |what, to| DeclareExchange { arguments: arguments(to), ..exchange(what, "direct") };
    let mut client = rig.connect_with("u", ".*", "^mine", "^may");
    let channel = &mut client.channel;
    channel.declare_exchange(&with("may", "mine")).unwrap();
    assert_eq!(refusal(channel.declare_exchange(&with("my", "mine"))), refused("exchange", "my"));
    let theirs = refusal(channel.declare_exchange(&with("mayx", "theirs")));
    assert_eq!(theirs, refused("exchange", "theirs"));
    let default = refusal(channel.declare_exchange(&with("mayx", "")));
    assert_eq!(default, refused("exchange", "amq.default"));
    // There is one already: what is wrong is that it differs.
    assert_eq!(refusal(channel.declare_exchange(&with("may", "theirs"))).0, 406);
}

#[test]
fn a_new_queue_with_a_dead_letter_exchange_needs_read_on_it_and_write_on_that_exchange() {
    let rig = rig_with_two_of_each();
    let arguments = |to| table(&[("x-dead-letter-exchange", Value::text(to))]);
    let with = |what, to| DeclareQueue { arguments: arguments(to), ..queue(what) };
    let mut client = rig.connect_with("u", ".*", "^mine", "^may");
    let channel = &mut client.channel;
    assert_eq!(refusal(channel.declare_queue(&with("my", "mine"))), refused("queue", "my"));
    let theirs = refusal(channel.declare_queue(&with("may", "theirs")));
    assert_eq!(theirs, refused("exchange", "theirs"));
    let default = refusal(channel.declare_queue(&with("may", "")));
    assert_eq!(default, refused("exchange", "amq.default"));
}

#[test]
fn the_routing_keys_of_a_topic_exchange_may_be_restricted() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", ".*", ".*", ".*");
    client.channel.bind(&binding("mine", "mine", "any.key")).unwrap();
    publish(&mut client, "mine").unwrap();
    let restrict = |exchange, write, read| {
        let (user, host) = (name("u"), name("/"));
        let topics = TopicPermissions::new(&user, &host, write, read).unwrap();
        rig.broker.administer().permit_topics(&user, &host, &name(exchange), topics).unwrap();
    };
    restrict("mine", "^{username}\\.", "^r");
    restrict("amq.direct", "^x", "^x");
    let topic = |key: &str| {
        let text = format!(
            "ACCESS_REFUSED - access to topic '{key}' in exchange 'mine' in vhost '/' refused for user 'u'"
        );
        (403, text)
    };
    let mut send = |exchange: &str, key: &str, properties: &Properties| {
        client.channel.publish(&message(exchange, key, "body", properties)).map(drop)
    };
    for _ in 0..2 {
        send("mine", "u.k", &persistent()).unwrap();
        assert_eq!(refusal(send("mine", "k", &persistent())), topic("k"));
        for free in ["theirs", "amq.direct", ""] {
            send(free, "k", &persistent()).unwrap();
        }
    }
    for header in ["CC", "BCC"] {
        let keys = Value::Array(vec![Value::text("u.copy"), Value::text("copy")]);
        let headers = Some(table(&[(header, keys)]));
        let copied = Properties { headers, ..persistent() };
        assert_eq!(refusal(send("mine", "u.k", &copied)), topic("copy"));
    }
    client.channel.bind(&binding("mine", "mine", "r.k")).unwrap();
    client.channel.bind(&binding("amq.direct", "mine", "k")).unwrap();
    for key in ["k", "#"] {
        assert_eq!(refusal(client.channel.bind(&binding("mine", "mine", key))), topic(key));
        assert_eq!(refusal(client.channel.unbind(&binding("mine", "mine", key))), topic(key));
    }
    drop(client);
    let rig = rig.restart();
    let mut client = rig.connect_as("u");
    client.channel.declare_exchange(&exchange("mine", "topic")).unwrap();
    assert_eq!(refusal(publish(&mut client, "mine")), topic("k"));
    rig.broker.administer().free_topics(&name("u"), &name("/"), &name("mine")).unwrap();
    publish(&mut client, "mine").unwrap();
    rig.broker.administer().delete_user(&name("u")).unwrap();
    assert!(rig.broker.accounts().topic_permissions().is_empty());
}

#[test]
fn permissions_hold_at_once_on_connections_that_are_open() {
    let rig = rig_with_two_of_each();
    let mut client = rig.connect_with("u", "", ".*", "");
    publish(&mut client, "theirs").unwrap();
    rig.permit("u", "", "^mine", "");
    assert_eq!(refusal(publish(&mut client, "theirs")), refused("exchange", "theirs"));
    publish(&mut client, "mine").unwrap();
    rig.broker.administer().forbid(&name("u"), &name("/")).unwrap();
    assert_eq!(refusal(publish(&mut client, "mine")), refused("exchange", "mine"));
    let again = rig.broker.connect(b"/", b"u").map(drop);
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'u'".to_owned();
    assert_eq!(refusal(again), (530, text));
}

/// That it was none once does not make all keys free: the permission for the exchange was remembered, and with it the keys.
#[test]
fn an_exchange_that_becomes_a_topic_exchange_has_its_routing_keys_restricted() {
    let rig = Rig::new();
    let mut guest = rig.connect();
    guest.channel.declare_exchange(&exchange("mine", "direct")).unwrap();
    let mut client = rig.connect_with("u", "", "^mine", "");
    let topics = TopicPermissions::new(&name("u"), &name("/"), "^u", "").unwrap();
    rig.broker.administer().permit_topics(&name("u"), &name("/"), &name("mine"), topics).unwrap();
    publish(&mut client, "mine").unwrap();
    guest.channel.delete_exchange(b"mine", false).unwrap();
    guest.channel.declare_exchange(&exchange("mine", "topic")).unwrap();
    let (code, text) = refusal(publish(&mut client, "mine"));
    assert_eq!(code, 403);
    assert!(text.contains("access to topic 'k' in exchange 'mine'"), "{text}");
}

#[test]
fn a_deleted_user_is_told_to_go_and_does_not_come_back() {
    let rig = Rig::new();
    let client = rig.connect_with("u", ".*", ".*", ".*");
    let other = rig.connect();
    rig.broker.administer().delete_user(&name("u")).unwrap();
    assert!(client.has_events());
    let why = client.session.take_order_to_close();
    assert_eq!(why.as_deref(), Some("user 'u' is deleted"));
    assert_eq!(client.session.take_order_to_close(), None);
    assert_eq!(other.session.take_order_to_close(), None);
    assert_eq!(refusal(rig.broker.connect(b"/", b"u").map(drop)).0, 530);
    // One of the same name later is somebody else.
    rig.broker.administer().add_user(user("u")).unwrap();
    assert_eq!(refusal(rig.broker.connect(b"/", b"u").map(drop)).0, 530);
}

#[test]
fn a_user_has_as_many_connections_and_channels_as_the_limits_say() {
    let rig = Rig::new();
    let first = rig.connect_with("u", ".*", ".*", ".*");
    let limits = UserLimits { max_connections: Some(2), max_channels: Some(3) };
    rig.broker.administer().change_user(&name("u"), |user| user.limits = limits).unwrap();
    let second = rig.connect_as("u");
    let text =
        "NOT_ALLOWED - connection refused for user 'u': user connection limit (2) is reached";
    assert_eq!(refusal(rig.broker.connect(b"/", b"u").map(drop)), (530, text.to_owned()));
    second.session.check_channel_limit().unwrap();
    let third = second.session.open_channel(ChannelNumber(2));
    let text = "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (3)";
    assert_eq!(refusal(first.session.check_channel_limit()), (530, text.to_owned()));
    drop(third);
    first.session.check_channel_limit().unwrap();
    drop(first);
    rig.connect_as("u");
}

#[test]
fn users_and_permissions_survive_a_restart_and_the_settings_user_needs_none() {
    let rig = rig_with_two_of_each();
    drop(rig.connect_with("u", "", "^mine", ""));
    drop(rig.connect_with("gone", ".*", ".*", ".*"));
    rig.broker.administer().delete_user(&name("gone")).unwrap();
    let rig = rig.restart();
    let accounts = rig.broker.accounts();
    assert_eq!(accounts.users(), [user("u")]);
    let permissions = Permissions::new("", "^mine", "").unwrap();
    assert_eq!(accounts.permissions(), [(name("u"), name("/"), permissions)]);
    let mut client = rig.connect_as("u");
    assert_eq!(refusal(publish(&mut client, "theirs")), refused("exchange", "theirs"));
    assert_eq!(publish(&mut rig.connect(), "").unwrap(), 0);
}

#[test]
fn what_cannot_be_changed_is_told() {
    let rig = Rig::new();
    let administration = rig.broker.administer();
    administration.add_user(user("u")).unwrap();
    let text = |outcome: Result<Option<crate::storage::Lsn>, AdministrationError>| {
        outcome.unwrap_err().to_string()
    };
    let all = || Permissions::new(".*", ".*", ".*").unwrap();
    assert_eq!(text(administration.add_user(user("u"))), "user 'u' already exists");
    assert_eq!(text(administration.delete_user(&name("x"))), "user 'x' does not exist");
    assert_eq!(
        text(administration.permit(&name("x"), &name("/"), all())),
        "user 'x' does not exist"
    );
    assert_eq!(
        text(administration.permit(&name("u"), &name("x"), all())),
        "vhost 'x' does not exist"
    );
    assert_eq!(text(administration.add_user(user(""))), "a user must have a name");
    for outcome in [
        administration.add_user(user("guest")),
        administration.delete_user(&name("guest")),
        administration.permit(&name("guest"), &name("/"), all()),
    ] {
        assert!(text(outcome).starts_with("user 'guest' is not stored"));
    }
}
