//! The table of all settings. The parser, `haypile config` and docs/configuration.md are made of it, so that none of them can
//! forget one.

use super::kind::Kind;

/// One line of the table.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its name in the file, behind its section's and a point.
    pub(super) key: &'static str,
    /// What it means, in sentences.
    pub(super) meaning: &'static str,
    pub(super) kind: Kind,
}

/// Where keys without a point belong, then the sections, each with a word on it.
pub(super) const SECTIONS: [(&str, &str); 5] = [
    ("", "The server"),
    ("tls", "TLS"),
    ("login", "Who may log in"),
    ("limits", "What clients may cost"),
    ("storage", "The engine"),
];

/// Before each environment variable's name.
pub(super) const PREFIX: &str = "HAYPILE_";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * MINUTE;

/// All settings, in the order of their [`SECTIONS`].
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        key: "data_dir",
        meaning: "Where the data is kept; made if it is not there. A relative path begins where the server is started.",
        kind: Kind::Directory(|all| &mut all.data_dir),
    },
    Setting {
        key: "listen",
        meaning: "The addresses to listen on. `localhost:PORT`, or a port alone, stands for both loopback addresses. Port 0 is any free port. \
                  In a variable or a flag, with commas between them.",
        kind: Kind::Addresses(|all| &mut all.listen),
    },
    Setting {
        key: "threads",
        meaning: "Threads that serve connections; each connection stays on one of them. \"auto\" is one for each processor.",
        kind: Kind::Threads(|all| &mut all.threads, 1..=1024),
    },
    Setting {
        key: "log",
        meaning: "How much the server says on standard error.",
        kind: Kind::LogFilter(|all| &mut all.log),
    },
    Setting {
        key: "grace",
        meaning: "How long connections may take to say goodbye when the server stops.",
        kind: Kind::Time(|all| &mut all.grace, 100..=60 * MINUTE, 1),
    },
    Setting {
        key: "tls.certificate",
        meaning: "The server's certificate, followed by those between it and a root, as PEM. With it and its key TLS is served.",
        kind: Kind::File(|all| &mut all.tls.certificate),
    },
    Setting {
        key: "tls.key",
        meaning: "The certificate's private key, as PEM and not encrypted. The file should be readable for the server's user alone.",
        kind: Kind::File(|all| &mut all.tls.key),
    },
    Setting {
        key: "tls.listen",
        meaning: "The addresses to serve TLS on.",
        kind: Kind::Addresses(|all| &mut all.tls.listen),
    },
    Setting {
        key: "tls.only",
        meaning: "Whether nothing but TLS is served: the addresses of `listen` are left alone then.",
        kind: Kind::Truth(|all| &mut all.tls.only),
    },
    Setting {
        key: "tls.client_roots",
        meaning: "The roots that vouch for clients' certificates, as PEM. With them a client is asked for a certificate, and one that is shown is checked.",
        kind: Kind::File(|all| &mut all.tls.client_roots),
    },
    Setting {
        key: "tls.require_client_certificate",
        meaning: "Whether a client without a certificate is refused on TLS.",
        kind: Kind::Truth(|all| &mut all.tls.require_client_certificate),
    },
    Setting {
        key: "login.user",
        meaning: "The name of the user that is stored when a server starts on an empty data directory, with all permissions in the virtual host `/`. It is a user like any other from then on: `haypile users` changes and deletes it.",
        kind: Kind::Name(|all| &mut all.login.user),
    },
    Setting {
        key: "login.password",
        meaning: "That user's password when it is stored; later `haypile users password` changes it. A file with a password in it should be readable for the server's user alone.",
        kind: Kind::Secret(|all| &mut all.login.password),
    },
    Setting {
        key: "login.remote",
        meaning: "Whether a user of that name may connect from other machines too, at any time. Without TLS the password crosses the network as it is.",
        kind: Kind::Truth(|all| &mut all.login.remote),
    },
    Setting {
        key: "limits.connections",
        meaning: "Connections at the same time; more are closed as soon as they are accepted.",
        kind: Kind::Count(|all| &mut all.limits.connections, 1..=1_000_000),
    },
    Setting {
        key: "limits.backlog",
        meaning: "Connections that may wait to be accepted, on each address. The system may allow fewer (`net.core.somaxconn`). A client beyond them tries again after a second.",
        kind: Kind::Count(|all| &mut all.limits.backlog, 1..=65_535),
    },
    Setting {
        key: "limits.channel_max",
        meaning: "Channels of a connection, as offered to the client.",
        kind: Kind::Count(|all| &mut all.limits.channel_max, 1..=65_535),
    },
    Setting {
        key: "limits.frame_max",
        meaning: "The largest frame, as offered to the client. A connection may need as much memory.",
        kind: Kind::Size(|all| &mut all.limits.frame_max, 4 * KIB..=16 * MIB, 1),
    },
    Setting {
        key: "limits.heartbeat",
        meaning: "The time between heartbeats, as offered to the client, which has the last word. \"0 s\" is none.",
        kind: Kind::Time(|all| &mut all.limits.heartbeat, 0..=60 * MINUTE, SECOND),
    },
    Setting {
        key: "limits.consumers",
        meaning: "Consumers of a connection, on all of its channels.",
        kind: Kind::Count(|all| &mut all.limits.consumers, 1..=1_000_000),
    },
    Setting {
        key: "limits.message_size",
        meaning: "The largest body of a message. Bodies that have not arrived completely may together take twice as much of a connection. \"auto\" is a quarter of `limits.memory`, 128 MiB at most.",
        kind: Kind::Budget(|all| &mut all.limits.message_size, 1..=512 * MIB),
    },
    Setting {
        key: "limits.receive_memory",
        meaning: "Memory for read buffers and unfinished bodies of all connections together. A connection for which none is left is not read until others have finished; one at a time may exceed this to finish its message. \"auto\" is an eighth of `limits.memory`, 512 MiB at most.",
        kind: Kind::Budget(|all| &mut all.limits.receive_memory, MIB..=1024 * GIB),
    },
    Setting {
        key: "limits.message_timeout",
        meaning: "The time in which a message that arrives by parts is complete or has got 64 KiB more. The connection is closed after up to twice that time.",
        kind: Kind::Time(|all| &mut all.limits.message_timeout, 100..=60 * MINUTE, 1),
    },
    Setting {
        key: "limits.unacknowledged",
        meaning: "Deliveries that a channel's client may hold unacknowledged. Its consumers get no more before it acknowledges some; `basic.get` is refused.",
        kind: Kind::Count(|all| &mut all.limits.unacknowledged, 1..=4_000_000_000),
    },
    Setting {
        key: "limits.consumer_timeout",
        meaning: "How long a client may hold a delivery unacknowledged before its channel is closed. `x-consumer-timeout` of a consumer or a queue, and `consumer-timeout` of a policy, count more. \"0 s\" is without a limit; RabbitMQ's default is 30 minutes.",
        kind: Kind::Time(|all| &mut all.limits.consumer_timeout, 0..=TEN_YEARS, 1),
    },
    Setting {
        key: "limits.transaction_size",
        meaning: "What messages that are published in transactions may take of a connection until these are committed. \"auto\" is a quarter of `limits.memory`, 256 MiB at most.",
        kind: Kind::Budget(|all| &mut all.limits.transaction_size, 1..=1024 * GIB),
    },
    Setting {
        key: "limits.queues",
        meaning: "Queues of a virtual host.",
        kind: Kind::Count(|all| &mut all.limits.queues, 1..=100_000_000),
    },
    Setting {
        key: "limits.exchanges",
        meaning: "Exchanges of a virtual host, besides those that there always are.",
        kind: Kind::Count(|all| &mut all.limits.exchanges, 1..=100_000_000),
    },
    Setting {
        key: "limits.bindings",
        meaning: "Bindings of a virtual host.",
        kind: Kind::Count(|all| &mut all.limits.bindings, 1..=100_000_000),
    },
    Setting {
        key: "limits.topology",
        meaning: "The memory that the queues, exchanges and bindings of a virtual host take, messages and consumers not included. \"auto\" is a quarter of `limits.memory`, 512 MiB at most.",
        kind: Kind::Budget(|all| &mut all.limits.topology, MIB..=1024 * GIB),
    },
    Setting {
        key: "limits.connection_topology",
        meaning: "The memory that the exclusive queues of a connection take, with the bindings to them. \"auto\" is a sixteenth of `limits.memory`, 128 MiB at most.",
        kind: Kind::Budget(|all| &mut all.limits.owned_topology, MIB..=1024 * GIB),
    },
    Setting {
        key: "limits.memory",
        meaning: "Publishers are held back while the server uses more memory than this, messages that it keeps in memory included. \"auto\" is two fifths of what the machine, or the server's control group, has.",
        kind: Kind::Budget(|all| &mut all.limits.memory, MIB..=1024 * GIB),
    },
    Setting {
        key: "limits.disk_free",
        meaning: "Publishers are held back while less than this is left on the file system of the data directory.",
        kind: Kind::Size(|all| &mut all.limits.disk_free, 0..=1024 * GIB, 1),
    },
    Setting {
        key: "limits.handshake_timeout",
        meaning: "How long a client may take from connecting to having opened the virtual host.",
        kind: Kind::Time(|all| &mut all.limits.handshake_timeout, 100..=10 * MINUTE, 1),
    },
    Setting {
        key: "limits.close_timeout",
        meaning: "How long a client may take to answer the server's goodbye, or to read what is left for it, before it is cut off.",
        kind: Kind::Time(|all| &mut all.limits.close_timeout, 100..=10 * MINUTE, 1),
    },
    Setting {
        key: "storage.cache",
        meaning: "Memory for messages that wait to be delivered. Beyond it they are read back from the log. Half as much again, at most, is for \
                  what clients hold unacknowledged or have given back, so that it can be delivered again at once. \"auto\" is a quarter of `limits.memory`, 64 MiB at most.",
        kind: Kind::Budget(|all| &mut all.storage.cache, 0..=1024 * GIB),
    },
    Setting {
        key: "storage.index",
        meaning: "Memory for the indexes of all queues. Beyond it parts of them are left to the log. \"auto\" is a sixteenth of `limits.memory`, 16 MiB at most.",
        kind: Kind::Budget(|all| &mut all.storage.index, MIB..=1024 * GIB),
    },
    Setting {
        key: "storage.segment_size",
        meaning: "The size of the log's files. It counts when a data directory is made, and changes nothing in one that is there.",
        kind: Kind::Size(|all| &mut all.storage.segment_size, MIB..=4 * GIB, 4 * KIB),
    },
    Setting {
        key: "storage.segments_ahead",
        meaning: "Segments made ready ahead of need. The last four of them are the reserve for a full disk.",
        kind: Kind::Count(|all| &mut all.storage.segments_ahead, 4..=16),
    },
    Setting {
        key: "storage.segments_spare",
        meaning: "Dead segments, beyond these, that are kept to be used again until the server has been quiet for a while.",
        kind: Kind::Count(|all| &mut all.storage.segments_spare, 0..=1000),
    },
    Setting {
        key: "storage.checkpoint_distance",
        meaning: "A checkpoint is written when the log has grown by so much. A start after a crash reads about as much.",
        kind: Kind::Size(|all| &mut all.storage.checkpoint_distance, MIB..=1024 * GIB, 1),
    },
    Setting {
        key: "storage.lazy_sync",
        meaning: "How long what nobody waits for (an acknowledgement by a consumer, say) may stay unsynced. Confirms do not depend on it.",
        kind: Kind::Time(|all| &mut all.storage.lazy_sync, 1..=10 * SECOND, 1),
    },
    Setting {
        key: "storage.unsynced_limit",
        meaning: "Publishers are held back when so much data waits for the disk. \"auto\" is an eighth of `limits.memory`, 16 MiB at most.",
        kind: Kind::Budget(|all| &mut all.storage.unsynced_limit, MIB..=GIB),
    },
];

impl Setting {
    /// The setting with that key.
    pub(super) fn find(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Its section, and its key there.
    pub(super) fn place(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }

    /// The environment variable that overrides it: the key in capitals, with an underscore for the point.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.replace('.', "_").to_uppercase())
    }
}
