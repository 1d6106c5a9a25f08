//! Messages whose time is over, and queues.

use parking_lot::Mutex;

use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};
use crate::storage::{Background, Clock, Timestamp};

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub(super) struct Hands(Mutex<u64>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(*self.0.lock())
    }
}

/// A broker without threads of its own, on a clock that goes when it is told to.
pub(super) struct Slow {
    pub(super) broker: Broker,
    clock: Arc<Hands>,
    dir: TempDir,
}

impl Slow {
    pub(super) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Self {
        let clock = Arc::new(Hands(Mutex::new(1_000_000_000_000)));
        Self::open(tempfile::tempdir().unwrap(), clock, options)
    }

    fn on(dir: TempDir, clock: Arc<Hands>) -> Self {
        Self::open(dir, clock, Options::default())
    }

    fn open(dir: TempDir, clock: Arc<Hands>, options: Options) -> Self {
        let options = Options {
            segment_size: 1 << 20,
            background: Background::Caller,
            clock: clock.clone(),
            ..options
        };
        let store = Store::open(dir.path().join("data"), options).unwrap();
        let slow = Self { broker: Broker::open(store).unwrap(), clock, dir };
        slow.pass(0);
        slow
    }

    pub(super) fn restart(self) -> Self {
        let Self { broker, clock, dir } = self;
        let store = broker.store().clone();
        drop(broker);
        store.close().unwrap();
        Self::on(dir, clock)
    }

    /// As after a crash: what is on the disk, and nothing that somebody said when he went.
    #[expect(
        clippy::disallowed_methods,
        reason = "a copy of a store's files, made behind its back"
    )]
    fn restart_after_crash(self) -> Self {
        self.broker.store().checkpoint().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        for file in std::fs::read_dir(self.dir.path().join("data")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), dir.path().join("data").join(file.file_name())).unwrap();
        }
        Self::on(dir, self.clock)
    }

    pub(super) fn connect(&self) -> Client {
        let session = self.broker.connect(b"/", b"guest").unwrap();
        Client { channel: session.open_channel(ChannelNumber(1)), session }
    }

    /// What is in a queue, read back where it has to be.
    pub(super) fn drain(&self, client: &mut Client, queue: &str) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let delivery = match client.channel.get(queue.as_bytes(), true).unwrap() {
                Get::Message(delivery, _) => delivery,
                Get::Empty => return found,
                Get::Pending => {
                    self.pass(0);
                    match client.events().pop() {
                        Some(Event::Got { message: Some((delivery, _)), .. }) => delivery,
                        Some(Event::Got { message: None, .. }) => return found,
                        other => panic!("{other:?}"),
                    }
                }
            };
            found.push(client.accept(delivery).body);
            client.channel.flush().unwrap();
        }
    }

    /// Time goes by, and nobody notices.
    pub(super) fn clock_only(&self, milliseconds: u64) {
        *self.clock.0.lock() += milliseconds;
    }

    /// Time goes by, and the broker does what is due.
    pub(super) fn pass(&self, milliseconds: u64) {
        self.clock_only(milliseconds);
        while self.broker.work_off() {}
    }
}

pub(super) fn with(text: &str, arguments: &[(&str, Value)]) -> DeclareQueue {
    DeclareQueue { arguments: table(arguments), ..durable(text) }
}

fn living(milliseconds: &str) -> Properties {
    Properties { expiration: Some(name(milliseconds)), ..persistent() }
}

impl Client {
    fn send_living(&mut self, queue: &str, body: &str, milliseconds: &str) {
        let message = message("", queue, body, &living(milliseconds));
        assert_eq!(self.channel.publish(&message).unwrap().queues, 1);
        self.channel.flush().unwrap();
    }
}

#[test]
fn a_message_lives_as_long_as_its_queue_or_its_own_expiration_says_whichever_is_less() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("q", &[("x-message-ttl", Value::I32(100))])).unwrap();
    client.send_living("q", "50", "50");
    client.send_living("q", "200", "200");
    client.send("q", "100");
    slow.pass(49);
    assert_eq!(client.ready("q"), 3);
    slow.pass(1);
    assert_eq!(client.ready("q"), 2);
    slow.pass(49);
    assert_eq!(client.ready("q"), 2);
    slow.pass(1);
    assert_eq!(client.ready("q"), 0);
}

/// As in RabbitMQ: the next one is the oldest of the highest priority, and what is behind it is not looked at.
#[test]
fn with_priorities_a_message_expires_when_it_is_the_next_one() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("q", &[("x-max-priority", Value::U8(5))])).unwrap();
    for (body, priority, expires) in [
        ("high", 5, false),
        ("low, short", 0, true),
        ("low", 0, false),
        ("middle", 3, false),
        ("middle, short", 3, true),
    ] {
        let expiration = expires.then(|| name("100"));
        let properties = Properties { priority: Some(priority), expiration, ..persistent() };
        client.channel.publish(&message("", "q", body, &properties)).unwrap();
    }
    client.channel.flush().unwrap();
    slow.pass(500);
    assert_eq!(client.ready("q"), 5);
    assert_eq!(slow.drain(&mut client, "q"), ["high", "middle", "low"]);
    let letters = [
        ("x-max-priority", Value::U8(5)),
        ("x-message-ttl", Value::U8(200)),
        ("x-dead-letter-exchange", Value::text("")),
        ("x-dead-letter-routing-key", Value::text("letters")),
    ];
    client.channel.declare_queue(&with("dying", &letters)).unwrap();
    client.channel.declare_queue(&durable("letters")).unwrap();
    for (body, priority) in [("a0", 0), ("b5", 5), ("c3", 3), ("d5", 5)] {
        client.send_ranked("dying", priority, body);
    }
    drop(client);
    let slow = slow.restart();
    slow.pass(500);
    let mut client = slow.connect();
    assert_eq!(client.ready("dying"), 0);
    assert_eq!(slow.drain(&mut client, "letters"), ["b5", "d5", "c3", "a0"]);
}

#[test]
fn a_message_expires_when_it_is_the_next_one() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    client.send_living("q", "long", "1000");
    client.send_living("q", "short", "10");
    client.send("q", "for ever");
    slow.pass(500);
    assert_eq!(client.ready("q"), 3);
    let (long, left) = client.get("q").unwrap();
    assert_eq!((long.body.as_str(), left), ("long", 1), "the short one is not there any more");
    slow.pass(499);
    client.channel.nack(long.tag, false, true).unwrap();
    assert_eq!(client.ready("q"), 2);
    slow.pass(1);
    assert_eq!(
        slow.drain(&mut client, "q"),
        ["for ever"],
        "what came back expires when it would have"
    );
}

#[test]
fn what_has_expired_is_never_delivered() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("q", &[("x-message-ttl", Value::I32(100))])).unwrap();
    for number in 0..200 {
        client.send("q", &number.to_string());
        *slow.clock.0.lock() += 1;
    }
    // The timer has not come to it, and the consumer is quicker.
    client.channel.consume(&consumer("q", "c")).unwrap();
    assert_eq!(bodies(&client.await_deliveries(99)), numbers(101..200));
    assert!(client.receive().is_empty());
}

#[test]
fn what_lives_no_time_at_all_gets_to_who_waits_for_it() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("q", &[("x-message-ttl", Value::I32(0))])).unwrap();
    client.send("q", "nobody waits");
    assert_eq!(client.ready("q"), 0);
    client.channel.qos(0, 2, false).unwrap();
    client.channel.consume(&consumer("q", "c")).unwrap();
    for body in ["0", "1", "too many"] {
        let message = message("", "q", body, &persistent());
        client.channel.publish(&message).unwrap();
        // The clock may go on before they are handed out together.
        *slow.clock.0.lock() += 1;
    }
    client.channel.flush().unwrap();
    assert_eq!(bodies(&client.receive()), ["0", "1"]);
    assert_eq!(client.ready("q"), 0);
}

#[test]
fn time_goes_on_over_a_restart() {
    for background_knows in [true, false] {
        let slow = Slow::new();
        let mut client = slow.connect();
        client.channel.declare_queue(&with("q", &[("x-message-ttl", Value::I32(100))])).unwrap();
        client.channel.declare_queue(&durable("own")).unwrap();
        client.send("q", "queue's");
        client.send_living("own", "own", "100");
        client.send("own", "for ever");
        drop(client);
        slow.pass(60);
        let slow = slow.restart();
        let mut client = slow.connect();
        slow.pass(39);
        assert_eq!((client.ready("q"), client.ready("own")), (1, 2));
        if background_knows {
            slow.pass(1);
            assert_eq!((client.ready("q"), client.ready("own")), (0, 1));
        } else {
            *slow.clock.0.lock() += 1;
        }
        assert_eq!(slow.drain(&mut client, "q"), [""; 0]);
        assert_eq!(slow.drain(&mut client, "own"), ["for ever"]);
    }
}

#[test]
fn an_expiration_that_is_no_time_is_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    let outcome = client.channel.publish(&message("", "q", "x", &living("1s")));
    let expected = "PRECONDITION_FAILED - invalid expiration '1s': {leftover_string,\"s\"}";
    assert_eq!(refusal(outcome), (406, expected.to_owned()));
}

#[test]
fn a_queue_that_nobody_uses_goes_after_its_time() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let declare = with("q", &[("x-expires", Value::I32(1000))]);
    let exists = |client: &mut Client| {
        let passive = DeclareQueue { passive: true, ..queue("q") };
        client.channel.declare_queue(&passive).is_ok()
    };
    client.channel.declare_queue(&declare).unwrap();
    slow.pass(999);
    client.channel.declare_queue(&declare).unwrap();
    slow.pass(999);
    assert!(client.get("q").is_none());
    slow.pass(999);
    assert!(exists(&mut client), "asking for it is using it");
    client.channel.consume(&consumer("q", "c")).unwrap();
    slow.pass(5000);
    assert!(exists(&mut client), "it has a consumer");
    client.channel.cancel(b"c").unwrap();
    client.send("q", "publishing is no use");
    slow.pass(999);
    client.send("q", "publishing is no use");
    slow.pass(1);
    assert!(!exists(&mut client));
    drop(client);
    assert!(slow.broker.store().queues().is_empty());
    assert!(slow.broker.store().entries().is_empty(), "nothing of it is left in the store");
}

#[test]
fn the_time_of_an_unused_queue_goes_on_over_a_restart() {
    const HOUR: u64 = 3_600_000;
    let slow = Slow::new();
    let mut client = slow.connect();
    let hour = [("x-expires", Value::I64(HOUR as i64))];
    for text in ["unused", "left", "kept"] {
        client.channel.declare_queue(&with(text, &hour)).unwrap();
    }
    client.channel.consume(&consumer("left", "l")).unwrap();
    client.channel.consume(&consumer("kept", "k")).unwrap();
    slow.pass(HOUR / 2);
    client.channel.declare_queue(&with("unused", &hour)).unwrap();
    client.channel.cancel(b"l").unwrap();
    // As after a crash: nobody says that the consumer goes.
    std::mem::forget(client);
    slow.pass(HOUR / 4);
    let slow = slow.restart_after_crash();
    slow.pass(3 * HOUR / 4 - 1);
    let names = |slow: &Slow| {
        let mut names: Vec<_> = slow
            .broker
            .store()
            .queues()
            .iter()
            .map(|queue| StoredQueue::read(queue.attributes()).unwrap().name)
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&slow), ["kept", "left", "unused"]);
    slow.pass(1);
    assert_eq!(names(&slow), ["kept"], "their time went on, that of a queue in use begins");
    slow.pass(HOUR / 8);
    let slow = slow.restart();
    // Its time was over long ago.
    *slow.clock.0.lock() += 5 * HOUR;
    let slow = slow.restart();
    slow.pass(59_999);
    assert_eq!(names(&slow), ["kept"], "its clients have a minute to come back");
    slow.pass(1);
    assert!(names(&slow).is_empty());
}

impl Slow {
    /// How many queues the timer is to wake.
    pub(super) fn waiting(&self) -> usize {
        self.broker.inner.workers.workers().timer.waiting()
    }
}

#[test]
fn however_often_the_next_to_expire_changes_its_queue_is_not_woken_more_often_for_it() {
    let slow = Slow::new();
    let mut client = slow.connect();
    client.channel.declare_queue(&with("q", &[("x-max-priority", Value::I32(9))])).unwrap();
    // Each comes in front of those before it, and expires earlier.
    for priority in 0..10 {
        let milliseconds = (10_000 - u32::from(priority) * 1000).to_string();
        let properties = Properties { priority: Some(priority), ..living(&milliseconds) };
        let message = message("", "q", &milliseconds, &properties);
        assert_eq!(client.channel.publish(&message).unwrap().queues, 1);
        client.channel.flush().unwrap();
    }
    assert_eq!(slow.waiting(), 1);
    slow.pass(1000);
    client.send_living("q", "last", "100000");
    for left in (2..=10).rev() {
        assert_eq!((client.ready("q"), slow.waiting()), (left, 1));
        slow.pass(1000);
    }
    assert_eq!(slow.waiting(), 1);
    assert_eq!(slow.drain(&mut client, "q"), ["last"]);
}

#[test]
fn messages_that_expire_do_not_have_it_looked_more_often_whether_their_queue_has() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let expires = ("x-expires", Value::I32(1_000_000));
    client
        .channel
        .declare_queue(&with("q", &[("x-message-ttl", Value::I32(10)), expires]))
        .unwrap();
    for _ in 0..5 {
        client.send("q", "short-lived");
        slow.pass(10);
        assert_eq!(client.ready("q"), 0);
        assert_eq!(slow.waiting(), 1, "for the queue alone");
    }
    slow.pass(1_000_000);
    assert_eq!(slow.waiting(), 0);
    let declared = client.channel.declare_queue(&DeclareQueue { passive: true, ..durable("q") });
    assert_eq!(refusal(declared).0, 404);
}

#[test]
fn a_policy_that_comes_back_or_says_less_is_gone_by() {
    let slow = Slow::new();
    let mut client = slow.connect();
    let expires = |milliseconds| {
        let definition = table(&[("expires", Value::I64(milliseconds))]);
        let policy =
            Policy::new(PolicyKind::User, name("unused"), "", ApplyTo::Queues, 0, definition);
        slow.broker.administer().set_policy(&name("/"), policy.unwrap()).unwrap();
    };
    client.channel.declare_queue(&durable("q")).unwrap();
    expires(5000);
    slow.broker.administer().delete_policy(&name("/"), PolicyKind::User, &name("unused")).unwrap();
    slow.pass(10_000);
    assert_eq!(client.ready("q"), 0, "nothing is asked of it");
    expires(900_000);
    expires(5000);
    slow.pass(5000);
    let declared = client.channel.declare_queue(&DeclareQueue { passive: true, ..durable("q") });
    assert_eq!(refusal(declared).0, 404);
    slow.pass(900_000);
}
