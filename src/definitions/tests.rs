//! A file that RabbitMQ 3.10.8 has written, one of each shape that others have, and what is wrong with files.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::broker::access::Right;
use crate::broker::definitions::{Count, Definitions, Imported};
use crate::broker::policy::{ApplyTo, PolicyKind};
use crate::broker::{Broker, HostDescription, HostLimits};
use crate::storage::{Options, Store};

/// Made with `rabbitmqctl export_definitions`, of a broker with a few of everything.
const RABBITMQ: &[u8] = include_bytes!("../../tests/definitions/rabbitmq-3.10.8.json");

fn broker() -> (Broker, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 1 << 20, ..Options::default() };
    let store = Store::open(directory.path().join("data"), options).unwrap();
    (Broker::open(store).unwrap(), directory)
}

fn import(broker: &Broker, definitions: &Definitions) -> Imported {
    broker.administer().import(definitions).unwrap()
}

fn counts(imported: &Imported) -> Vec<(&'static str, u64, u64, u64)> {
    let all = imported.counts.iter();
    all.map(|(what, Count { imported, unchanged, left_out })| {
        (*what, *imported, *unchanged, *left_out)
    })
    .collect()
}

fn wrong(file: &Value) -> Vec<String> {
    read(file.to_string().as_bytes(), None).unwrap_err()
}

#[test]
fn a_file_of_rabbitmq_is_understood() {
    let Read { definitions, notes } = read(RABBITMQ, None).unwrap();
    assert_eq!(notes, ["global_parameters[0] ('cluster_name'): is not understood, and left out"]);
    let Definitions { virtual_hosts, users, permissions, policies, .. } = &definitions;
    let (name, orders) = &virtual_hosts[0];
    assert_eq!(
        (&name[..], orders.description.as_str()),
        (&b"orders"[..], "Orders and what becomes of them")
    );
    assert_eq!(
        orders.tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["production", "eu"]
    );
    let limits = HostLimits { max_connections: Some(100), max_queues: Some(50) };
    assert_eq!(orders.limits, limits);
    assert_eq!(virtual_hosts[1].1.limits, HostLimits::default());
    let shop = users.iter().find(|user| &user.name[..] == b"shop").unwrap();
    assert!(shop.password.as_ref().unwrap().verify(b"s3cret"));
    assert_eq!((shop.limits.max_connections, shop.limits.max_channels), (Some(20), Some(200)));
    let auditor = users.iter().find(|user| &user.name[..] == b"auditor").unwrap();
    assert!(auditor.password.as_ref().unwrap().verify(b"l00k"));
    assert_eq!(auditor.tags.len(), 2);
    let (_, (_, of_shop)) = permissions.iter().find(|(_, (user, _))| &user[..] == b"shop").unwrap();
    assert_eq!(of_shop.pattern(Right::Write), "^(shop\\.|amq\\.default$)");
    let kinds: Vec<_> = policies
        .iter()
        .map(|(_, p)| (p.name.to_string(), p.kind, p.apply_to, p.priority))
        .collect();
    assert_eq!(
        kinds,
        [
            ("short".to_owned(), PolicyKind::User, ApplyTo::Queues, 1),
            ("unrouted".to_owned(), PolicyKind::User, ApplyTo::Exchanges, 0),
            ("ceiling".to_owned(), PolicyKind::Operator, ApplyTo::Queues, 0),
        ]
    );
}

#[test]
fn importing_twice_is_as_good_as_once_and_survives_a_restart() {
    let (broker, directory) = broker();
    let definitions = read(RABBITMQ, None).unwrap().definitions;
    let first = import(&broker, &definitions);
    assert_eq!(
        counts(&first),
        [
            // `guest` is not stored in this broker, and may do everything.
            ("users", 2, 0, 1),
            ("permissions", 2, 0, 2),
            ("topic permissions", 1, 0, 0),
            ("vhosts", 2, 0, 0),
            ("policies", 3, 0, 0),
            ("exchanges", 3, 0, 0),
            ("queues", 5, 0, 0),
            // RabbitMQ writes the bindings of internal exchanges, and not the exchanges.
            ("bindings", 4, 0, 1),
        ]
    );
    assert_eq!(
        first.notes,
        [
            "user 'guest' is not stored, and may do everything: left out",
            "binding from 'shop.unrouted' to queue 'shop.unrouted' with key '' in vhost 'orders' is left out: \
             there is no such source",
        ]
    );
    let again = import(&broker, &definitions);
    assert!(again.counts.iter().all(|(_, count)| count.imported == 0), "{:?}", again.counts);
    let before = broker.definitions();
    broker.store().wait_durable(first.durable_at.unwrap()).unwrap();
    let store = broker.store().clone();
    drop(broker);
    store.close().unwrap();
    let broker =
        Broker::open(Store::open(directory.path().join("data"), Options::default()).unwrap())
            .unwrap();
    let after = broker.definitions();
    assert_eq!((after.users, after.permissions), (before.users, before.permissions));
    assert_eq!(after.topic_permissions, before.topic_permissions);
    assert_eq!((after.virtual_hosts, after.policies), (before.virtual_hosts, before.policies));
    // What is not durable is gone, as it is meant to be.
    assert_eq!(after.exchanges.len() + 1, before.exchanges.len());
    assert_eq!(after.queues.len() + 1, before.queues.len());
    assert_eq!(after.bindings, before.bindings);
}

#[test]
fn what_is_written_says_the_same_when_it_is_read() {
    let (broker, _directory) = broker();
    let mut definitions = read(RABBITMQ, None).unwrap().definitions;
    let own = crate::broker::access::Password::new(b"new").unwrap();
    definitions.users.retain(|user| &user.name[..] != b"guest");
    definitions.users[0].password = Some(own);
    import(&broker, &definitions);
    let held = broker.definitions();
    let Written { file, notes } = write(&held);
    assert!(notes.is_empty());
    assert_eq!(file["users"][1]["password_hash"], "", "RabbitMQ cannot verify it");
    let back = read(file.to_string().as_bytes(), None).unwrap();
    assert_eq!(back.definitions, held);
    assert!(back.notes.is_empty(), "{:?}", back.notes);
    let (other, _directory) = self::broker();
    import(&other, &back.definitions);
    assert_eq!(other.definitions(), held);
}

#[test]
fn the_shapes_of_other_versions_are_understood() {
    let file = json!({
        "rabbit_version": "3.8.0",
        "users": [
            {"name": "old", "password_hash": "3S7h9CiqgHoiamit+kiU5JkMRr/W5GTrv0jGKAhLUkWLR7Dn", "tags": "administrator,monitoring"},
            {"name": "new", "password": "plain", "hashing_algorithm": "rabbit_password_hashing_sha512", "tags": []},
        ],
        "vhosts": [
            {"name": "a"},
            {"name": "b", "description": "B", "tags": ["x"], "default_queue_type": "classic"},
            {"name": "c", "limits": [["max-queues", 5], ["max-connections", -1]],
             "metadata": {"description": "C", "tags": [], "default_queue_type": "quorum"}},
        ],
        "parameters": [
            {"component": "policy", "vhost": "a", "name": "p",
             "value": {"pattern": ".*", "definition": [["max-length", 5]], "apply-to": "classic_queues"}},
            {"component": "shovel", "vhost": "a", "name": "s", "value": {}},
        ],
        "queues": [{"name": "q", "vhost": "a", "durable": true, "auto_delete": false, "type": "quorum", "arguments": {}}],
    });
    let Read { definitions, notes } = read(file.to_string().as_bytes(), None).unwrap();
    assert_eq!(definitions.users[0].tags.len(), 2);
    assert!(definitions.users[0].password.as_ref().unwrap().verify(b"s3cret"));
    assert!(definitions.users[1].password.as_ref().unwrap().verify(b"plain"));
    assert_eq!(
        definitions.virtual_hosts[2].1.limits,
        HostLimits { max_connections: None, max_queues: Some(5) }
    );
    assert_eq!(definitions.policies[0].1.apply_to, ApplyTo::ClassicQueues);
    assert!(definitions.queues[0].1.arguments.get(b"x-queue-type").is_some());
    assert_eq!(
        notes,
        [
            "parameters[1] ('s'): component 'shovel' is not understood, and left out",
            "vhosts[2] ('c').metadata: field 'default_queue_type' is not understood, and left out: queues are classic \
             unless they say otherwise",
        ]
    );
}

/// What says something about the file was taken for lists that are none, and such files were refused.
#[test]
fn what_newer_versions_say_of_a_file_is_no_obstacle() {
    let file = json!({
        "rabbit_version": "4.0.5",
        "rabbitmq_version": "4.0.5",
        "product_name": "RabbitMQ",
        "product_version": "4.0.5",
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": "/",
        "original_cluster_name": "rabbit@host",
        "explanation": "Definitions of virtual host '/'",
        "default_queue_type": "quorum",
        "metadata": {"description": "", "tags": []},
        "global_parameters": [{"name": "cluster_name", "value": "rabbit@host"}],
        "queues": [{"name": "q", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}}],
    });
    let Read { definitions, notes } = read(file.to_string().as_bytes(), None).unwrap();
    assert_eq!(definitions.queues.len(), 1);
    assert_eq!(
        notes,
        [
            "'default_queue_type': is not understood, and left out",
            "global_parameters[0] ('cluster_name'): is not understood, and left out",
            "'metadata': is not understood, and left out",
        ]
    );
    assert_eq!(wrong(&json!({"users": "all"}))[0], "'users' is a text, and should be a list");
}

#[test]
fn a_file_of_one_virtual_host_is_for_the_one_that_is_meant() {
    let file = json!({
        "queues": [{"name": "q", "durable": true}],
        "policies": [{"name": "p", "pattern": "", "definition": {"max-length": 1}}],
        "bindings": [{"source": "amq.direct", "destination": "q", "destination_type": "queue", "routing_key": ""}],
    });
    let text = file.to_string();
    let orders = crate::message::ShortStr::from_static("orders");
    let read_for = read(text.as_bytes(), Some(&orders)).unwrap().definitions;
    assert_eq!(read_for.queues[0].0, orders);
    assert_eq!((&read_for.policies[0].0, &read_for.bindings[0].0), (&orders, &orders));
    assert_eq!(wrong(&file)[0], "bindings[0]: field 'vhost' is missing");
}

/// Such a file says what the limits are, and nothing else of its virtual host: it was refused.
#[test]
fn a_file_of_one_virtual_host_may_limit_it() {
    let (broker, _directory) = broker();
    let file = json!({
        "parameters": [{"component": "vhost-limits", "name": "limits", "value": {"max-queues": 5}}],
    });
    let text = file.to_string();
    let orders = crate::message::ShortStr::from_static("orders");
    let definitions = read(text.as_bytes(), Some(&orders)).unwrap().definitions;
    assert_eq!(
        broker.administer().import(&definitions).unwrap_err(),
        ["limits: vhost 'orders' is neither here nor in the definitions"]
    );
    let described =
        HostDescription { description: "sold".to_owned(), ..HostDescription::default() };
    broker.administer().add_virtual_host(&orders, described.clone()).unwrap();
    for (imported, unchanged) in [(1, 0), (0, 1)] {
        let vhosts = counts(&import(&broker, &definitions))[3];
        assert_eq!(vhosts, ("vhosts", imported, unchanged, 0));
    }
    let limits = HostLimits { max_connections: None, max_queues: Some(5) };
    assert_eq!(broker.virtual_hosts()[1], (orders, HostDescription { limits, ..described }));
}

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    assert!(wrong(&json!([]))[0].contains("this is a list, and should be an object"));
    assert!(read(b"{", None).unwrap_err()[0].starts_with("this is no JSON: EOF"));
    let file = json!({
        "queues": [
            {"name": "q", "vhost": "/", "durable": "yes"},
            {"vhost": "/"},
            7,
            {"name": "r", "vhost": "/", "arguments": []},
        ],
        "users": [{"name": "u", "password_hash": "AAAA", "hashing_algorithm": "rabbit_password_hashing_md5"}],
        "permissions": [{"user": "u", "vhost": "/", "configure": "(", "write": "", "read": ""}],
        "policies": [{"vhost": "/", "name": "p", "pattern": "^a", "definition": {"max-length": -5}}],
        "bindings": [{"vhost": "/", "source": "a", "destination": "b", "destination_type": "x", "routing_key": ""}],
        "exchanges": {},
    });
    assert_eq!(
        wrong(&file),
        [
            "bindings[0]: field 'destination_type' is 'x', and should be 'queue' or 'exchange'",
            "'exchanges' is an object, and should be a list",
            "permissions[0]: user 'u' in vhost '/': the pattern '(' is not understood: unclosed group",
            "policies[0] ('p'): '-5' is not a valid maximum length ('max-length')",
            "queues[0] ('q'): field 'durable' is a text, and should be true or false",
            "queues[1]: field 'name' is missing",
            "queues[2] is a number, and should be an object",
            "users[0] ('u'): the password cannot be used: the hashing algorithm 'rabbit_password_hashing_md5' is not \
             supported; known are rabbit_password_hashing_sha256, rabbit_password_hashing_sha512, argon2id. Give the user \
             a new password, or take the field out",
        ]
    );
}

#[test]
fn nothing_is_imported_where_something_cannot_be() {
    let (broker, _directory) = broker();
    let file = json!({
        "vhosts": [{"name": "a"}],
        "permissions": [
            {"user": "nobody", "vhost": "a", "configure": "", "write": "", "read": ""},
            {"user": "nobody", "vhost": "b", "configure": "", "write": "", "read": ""},
        ],
        "exchanges": [{"name": "x", "vhost": "a", "type": "x-delayed-message", "durable": true}],
        "queues": [
            {"name": "s", "vhost": "a", "durable": true, "arguments": {"x-queue-type": "stream"}},
            {"name": "m", "vhost": "a", "durable": true, "arguments": {"x-queue-mode": "odd"}},
            {"name": "fine", "vhost": "/", "durable": true},
        ],
    });
    let definitions = read(file.to_string().as_bytes(), None).unwrap().definitions;
    let problems = broker.administer().import(&definitions).unwrap_err();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert_eq!(
        problems[0],
        "permissions of user 'nobody' in vhost 'a': user 'nobody' does not exist"
    );
    assert_eq!(
        problems[1],
        "permissions of user 'nobody' in vhost 'b': vhost 'b' is neither here nor in the definitions"
    );
    assert_eq!(problems[2], "exchange 'x' in vhost 'a': unknown exchange type 'x-delayed-message'");
    assert!(problems[3].contains("queue 's' in vhost 'a'"), "{}", problems[3]);
    assert!(problems[4].contains("invalid arg 'x-queue-mode' for queue 'm' in vhost 'a'"));
    assert_eq!(broker.virtual_hosts().len(), 1);
    assert!(broker.definitions().queues.is_empty());
}

/// The second one was refused when the first was there already, and with it the rest of the file.
#[test]
fn of_what_a_file_declares_twice_the_first_counts() {
    let (broker, _directory) = broker();
    let file = json!({
        "exchanges": [
            {"name": "x", "vhost": "/", "type": "direct", "durable": true},
            {"name": "x", "vhost": "/", "type": "fanout", "durable": true},
        ],
        "queues": [
            {"name": "q", "vhost": "/", "durable": true},
            {"name": "q", "vhost": "/", "durable": false},
            {"name": "r", "vhost": "/", "durable": true},
        ],
    });
    let imported = import(&broker, &read(file.to_string().as_bytes(), None).unwrap().definitions);
    assert_eq!(
        imported.notes,
        [
            "exchange 'x' in vhost '/' is there twice in the definitions: the first one counts",
            "queue 'q' in vhost '/' is there twice in the definitions: the first one counts",
        ]
    );
    let all = broker.definitions();
    assert_eq!(&all.exchanges[0].1.kind[..], b"direct");
    let queues: Vec<_> = all.queues.iter().map(|(_, q)| (q.name.to_string(), q.durable)).collect();
    assert_eq!(queues, [("q".to_owned(), true), ("r".to_owned(), true)]);
}

#[test]
fn what_is_there_in_another_form_is_kept_and_noted() {
    let (broker, _directory) = broker();
    let with = |durable: bool, numbers: Value| {
        let file = json!({
            "exchanges": [{"name": "x", "vhost": "/", "type": "headers", "durable": true}],
            "queues": [{"name": "q", "vhost": "/", "durable": durable}],
            "bindings": [{"vhost": "/", "source": "x", "destination": "q", "destination_type": "queue",
                          "routing_key": "", "arguments": {"n": numbers}}],
        });
        import(&broker, &read(file.to_string().as_bytes(), None).unwrap().definitions)
    };
    with(true, json!(7));
    let again = with(false, json!(7));
    assert_eq!(
        again.notes,
        [
            "queue 'q' in vhost '/' is there, and kept as it is: inequivalent arg 'durable' for queue 'q' in vhost '/': \
             received 'false' but current is 'true'"
        ]
    );
    assert_eq!(broker.definitions().bindings.len(), 1);
    with(true, json!(8));
    assert_eq!(broker.definitions().bindings.len(), 2);
}
