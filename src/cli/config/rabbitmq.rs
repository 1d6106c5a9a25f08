//! Recognises a `rabbitmq.conf`, and says in TOML what it sets.
//!
//! RabbitMQ's file has lines of the form `key = value` (its documentation, "Configuration"). An operator
//! who starts Haypile with that file gets the same settings as TOML instead of a syntax error.

use std::net::SocketAddr;
use std::time::Duration;

use super::addresses;
use super::kind::{Written, quoted};
use super::settings::Settings;
use super::table::{SECTIONS, SETTINGS, Setting};
use super::units;

/// The beginnings of keys that `rabbitmq.conf` has and Haypile's file has not.
const PREFIXES: &[&str] = &[
    "listeners.",
    "ssl_options.",
    "default_",
    "loopback_users",
    "vm_memory_high_watermark",
    "disk_free_limit",
    "log.",
    "management.",
    "cluster_",
    "tcp_listen_options.",
    "auth_backends.",
    "auth_mechanisms.",
    "auth_ldap.",
    "auth_oauth2.",
    "prometheus.",
    "mqtt.",
    "stomp.",
    "stream.",
    "definitions.",
    "quorum_",
    "classic_queue.",
    "raft.",
    "collect_statistics",
    "num_acceptors.",
];

/// Keys of `rabbitmq.conf` without a point, each of them whole.
const KEYS: &[&str] = &[
    "heartbeat",
    "frame_max",
    "channel_max",
    "channel_max_per_node",
    "connection_max",
    "handshake_timeout",
    "max_message_size",
    "consumer_timeout",
    "load_definitions",
    "queue_master_locator",
    "hipe_compile",
    "background_gc_enabled",
    "vhost_max",
];

/// The meaning of a line of `rabbitmq.conf` here.
enum Meaning {
    /// The setting with that key, and its value as TOML.
    Setting(&'static str, String),
    /// One more address of that setting.
    Address(&'static str, String),
    /// The default says the same.
    Default,
    /// No setting, and the reason or the other way.
    None(&'static str),
}

/// The text as TOML with the same meaning, if it is a `rabbitmq.conf` rather than a file of ours.
pub(super) fn translated(text: &str) -> Option<String> {
    if is_erlang_terms(text) {
        return Some(
            "# This is RabbitMQ's classic configuration, in Erlang terms, which is not translated.\n\
             # `haypile config` prints all settings, with their defaults.\n"
                .to_owned(),
        );
    }
    // RabbitMQ's file has no sections.
    if text.lines().any(|line| line.trim_start().starts_with('[')) {
        return None;
    }
    let lines: Vec<(&str, &str)> = text.lines().filter_map(line).collect();
    let theirs = lines.iter().filter(|(key, _)| is_theirs(key)).count();
    let ours = lines.iter().filter(|(key, _)| Setting::find(key).is_some()).count();
    (theirs > ours).then(|| render(&lines))
}

fn is_erlang_terms(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('%'));
    lines.find(|line| !line.is_empty()).is_some_and(|line| line.starts_with('['))
        && text.contains("{rabbit,")
}

/// Key and value of a line, without a comment.
fn line(line: &str) -> Option<(&str, &str)> {
    let line = line.split('#').next().unwrap_or_default();
    let (key, value) = line.split_once('=')?;
    let value = value.trim().trim_matches(['"', '\'']);
    Some((key.trim(), value))
}

fn is_theirs(key: &str) -> bool {
    KEYS.contains(&key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

fn render(lines: &[(&str, &str)]) -> String {
    let mut values: Vec<(&str, String)> = Vec::new();
    let mut listening: Vec<(&str, String)> = Vec::new();
    let mut left: Vec<String> = Vec::new();
    for (key, value) in lines {
        match meaning(key, value) {
            Meaning::Setting(setting, value) => values.push((setting, value)),
            Meaning::Address(setting, address) => listening.push((setting, address)),
            Meaning::Default => {}
            Meaning::None(reason) => left.push(format!("# {key} = {value}: {reason}\n")),
        }
    }
    for setting in ["listen", "tls.listen"] {
        let of_setting = listening.iter().filter(|(of, _)| *of == setting);
        let all: Vec<String> = of_setting.map(|(_, address)| format!("\"{address}\"")).collect();
        if !all.is_empty() {
            values.push((setting, format!("[{}]", all.join(", "))));
        }
    }
    let mut text = String::new();
    for (section, _) in SECTIONS {
        let mut begun = section.is_empty();
        for setting in SETTINGS.iter().filter(|setting| setting.place().0 == section) {
            // The last line counts, as in RabbitMQ.
            let Some((key, value)) = values.iter().rfind(|(key, _)| *key == setting.key) else {
                continue;
            };
            if !begun {
                text.push_str(&format!("\n[{section}]\n"));
                begun = true;
            }
            let name = key.rsplit('.').next().unwrap_or(key);
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    if !left.is_empty() {
        text.push_str("\n# Without a setting here:\n");
        text.extend(left);
    }
    text
}

fn meaning(key: &str, value: &str) -> Meaning {
    use Meaning::{Default, None, Setting};
    match key {
        "listeners.tcp" | "listeners.ssl" => match value {
            "none" if key == "listeners.tcp" => Setting("tls.only", "true".to_owned()),
            _ => Default,
        },
        _ if key.starts_with("listeners.tcp.") => address("listen", value),
        _ if key.starts_with("listeners.ssl.") => address("tls.listen", value),
        "ssl_options.certfile" => text("tls.certificate", value),
        "ssl_options.keyfile" => text("tls.key", value),
        "ssl_options.cacertfile" => text("tls.client_roots", value),
        "ssl_options.fail_if_no_peer_cert" => {
            checked("tls.require_client_certificate", value.to_owned())
        }
        "ssl_options.verify" => {
            None("a client's certificate is checked if tls.client_roots is set")
        }
        "default_user" => text("login.user", value),
        "default_pass" => text("login.password", value),
        "default_vhost" | "default_user_tags.administrator" => {
            None("the first user may do everything in the virtual host `/`")
        }
        "loopback_users" if value == "none" => Setting("login.remote", "true".to_owned()),
        "loopback_users.guest" => checked("login.remote", (value != "true").to_string()),
        "heartbeat" => checked("limits.heartbeat", format!("\"{value} s\"")),
        "handshake_timeout" => milliseconds("limits.handshake_timeout", value),
        "consumer_timeout" => milliseconds("limits.consumer_timeout", value),
        "frame_max" => size("limits.frame_max", value),
        "max_message_size" => size("limits.message_size", value),
        "channel_max" => checked("limits.channel_max", value.to_owned()),
        "connection_max" if value == "infinity" => Default,
        "connection_max" => checked("limits.connections", value.to_owned()),
        "tcp_listen_options.backlog" => checked("limits.backlog", value.to_owned()),
        "vm_memory_high_watermark.absolute" => size("limits.memory", value),
        "vm_memory_high_watermark.relative" => {
            None("limits.memory is a share of the machine's memory by default (\"auto\")")
        }
        "disk_free_limit.absolute" => size("limits.disk_free", value),
        "disk_free_limit.relative" => None("write an absolute limits.disk_free"),
        "log.console.level" | "log.file.level" | "log.default.level" => log_level(value),
        "load_definitions" | "definitions.local.path" => {
            None("run `haypile definitions import FILE` once; what it adds is kept")
        }
        _ if key.starts_with("log.") => None("the log goes to standard error, as text"),
        _ if key.starts_with("management.") || key.starts_with("prometheus.") => {
            None("there is no HTTP interface yet")
        }
        _ if key.starts_with("cluster_") => None("there are no clusters"),
        _ if key.starts_with("auth_") => None("users are kept in the store: `haypile users`"),
        _ => None("no setting means the same"),
    }
}

/// The setting with that value, if it is one that may be set so.
fn checked(key: &'static str, value: String) -> Meaning {
    let written = match value.trim_matches('"') {
        text if value.starts_with('"') => Written::Text(text.to_owned()),
        "true" => Written::Truth(true),
        "false" => Written::Truth(false),
        number => Written::Number(number.to_owned()),
    };
    match Setting::find(key) {
        None => Meaning::None("no setting means the same"),
        Some(setting) if setting.kind.set(&mut Settings::default(), &written).is_ok() => {
            Meaning::Setting(key, value)
        }
        Some(_) => Meaning::None("out of the bounds that `haypile config` shows"),
    }
}

fn text(key: &'static str, value: &str) -> Meaning {
    Meaning::Setting(key, quoted(value))
}

fn address(key: &'static str, value: &str) -> Meaning {
    // RabbitMQ listens on all addresses where a port stands alone.
    let address = match value.parse::<u16>() {
        Ok(port) => format!("0.0.0.0:{port}"),
        Err(_) => value.to_owned(),
    };
    match addresses::parse(&address) {
        Ok(_) => Meaning::Address(key, address),
        Err(_) if value.parse::<SocketAddr>().is_err() => {
            Meaning::None("write an address of this machine and a port")
        }
        Err(_) => Meaning::None("not an address"),
    }
}

fn milliseconds(key: &'static str, value: &str) -> Meaning {
    match value.parse() {
        Ok(time) => checked(key, format!("\"{}\"", units::show_time(Duration::from_millis(time)))),
        Err(_) => Meaning::None("not a number of milliseconds"),
    }
}

/// A number of bytes, or a number with one of RabbitMQ's units.
fn size(key: &'static str, value: &str) -> Meaning {
    const UNITS: &[(&str, u64)] = &[
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("ki", 1 << 10),
        ("mi", 1 << 20),
        ("gi", 1 << 30),
        ("ti", 1 << 40),
        ("k", 1 << 10),
        ("m", 1 << 20),
        ("g", 1 << 30),
        ("t", 1 << 40),
        ("", 1),
    ];
    let value = value.to_lowercase();
    let digits = value.trim_end_matches(|sign: char| !sign.is_ascii_digit());
    let unit = value[digits.len()..].trim();
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let bytes =
        digits.parse::<u64>().ok().zip(unit).and_then(|(n, (_, unit))| n.checked_mul(*unit));
    match bytes {
        Some(bytes) => checked(key, format!("\"{}\"", units::show_size(bytes))),
        None => Meaning::None("not a size"),
    }
}

fn log_level(value: &str) -> Meaning {
    let level = match value {
        "debug" | "info" | "error" => value,
        "warning" => "warn",
        "critical" => "error",
        "none" => "off",
        _ => return Meaning::None("not a level"),
    };
    Meaning::Setting("log", format!("\"{level}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "\
## a node of ours
listeners.tcp.default = 5673
listeners.tcp.2 = 127.0.0.1:5674   # admin
ssl_options.certfile = /etc/ssl/our \"server\".pem
default_user = pika
default_pass = hay
loopback_users.guest = false
heartbeat = 30
consumer_timeout = 900000
max_message_size = 16777216
vm_memory_high_watermark.absolute = 2GiB
disk_free_limit.absolute = 1GB
log.console.level = warning
cluster_formation.peer_discovery_backend = k8s
management.tcp.port = 15672
";

    #[test]
    fn a_rabbitmq_conf_becomes_toml_that_is_accepted_and_means_the_same() {
        let toml = translated(CONF).unwrap();
        let (found, problems) = crate::cli::config::file::read("x.toml".as_ref(), &toml);
        assert_eq!(problems, [], "{toml}");
        let mut settings = Settings::default();
        for (setting, written, _) in found {
            setting.kind.set(&mut settings, &written).unwrap();
        }
        let shown = |key| Setting::find(key).unwrap().kind.show(&settings).unwrap();
        for (key, value) in [
            ("listen", "[\"0.0.0.0:5673\", \"127.0.0.1:5674\"]"),
            ("tls.certificate", "\"/etc/ssl/our \\\"server\\\".pem\""),
            ("login.user", "\"pika\""),
            ("login.remote", "true"),
            ("limits.heartbeat", "\"30 s\""),
            ("limits.consumer_timeout", "\"15 min\""),
            ("limits.message_size", "\"16 MiB\""),
            ("limits.memory", "\"2 GiB\""),
            ("limits.disk_free", "\"1000000000 B\""),
            ("log", "\"warn\""),
        ] {
            assert_eq!(shown(key), value, "{key} in {toml}");
        }
        assert_eq!(settings.login.password, "hay");
        for untranslated in ["cluster_formation.peer_discovery_backend", "management.tcp.port"] {
            assert!(toml.contains(&format!("\n# {untranslated} = ")), "{toml}");
        }
    }

    #[test]
    fn a_value_out_of_bounds_is_left_out_and_named() {
        let toml = translated("heartbeat = 100000\nchannel_max = 100\n").unwrap();
        assert!(toml.contains("# heartbeat = 100000: out of the bounds"), "{toml}");
        assert!(toml.contains("[limits]\nchannel_max = 100\n"), "{toml}");
    }

    #[test]
    fn a_file_of_ours_is_no_rabbitmq_conf() {
        for ours in [
            "listen = [\"127.0.0.1:5672\"]\n[limits]\nheartbeat = \"30 s\"\n",
            "[limits]\nmesage_size = \"1 MiB\"\nframe_max = \"1 MB\"\n",
            "limits.heartbeat = \"1 s\"\nlog = \"info\"\nheartbeat = 5\n",
            "",
            "nonsense",
        ] {
            assert_eq!(translated(ours), None, "{ours}");
        }
    }

    #[test]
    fn erlang_terms_are_recognised() {
        let terms = "% classic\n[\n  {rabbit, [{tcp_listeners, [5672]}]}\n].\n";
        assert!(translated(terms).unwrap().contains("classic configuration"));
    }
}
