//! The configuration of a server as it runs: file, environment and flags, what is refused, and what is then in force.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use haypile::amqp::codec::{Method, PROTOCOL_HEADER};
use tempfile::TempDir;

use super::common::Client;
use super::common::process::{Process, haypile, prepare, run};
use super::text;

/// A directory with a configuration file of that text, and room for data beside it.
struct Place(TempDir);

impl Place {
    fn with(file: &str) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.file(), file).unwrap();
        fs::create_dir(place.data()).unwrap();
        prepare(&place.data());
        place
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("haypile.toml")
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn serve(&self) -> Process {
        Process::serve_with(
            &self.data(),
            &["--listen", "127.0.0.1:0", "--config", utf8(&self.file())],
        )
    }
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `haypile serve` with these arguments and variables, which must not start: its complaints.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = haypile(&["serve", "--listen", "127.0.0.1:0"]);
    command.args(arguments).envs(variables.iter().copied());
    let output = run(command);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(text(&output.stdout), "");
    errors
}

fn config(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = haypile(&["config"]);
    command.args(arguments).envs(variables.iter().copied());
    run(command)
}

/// Publishes a message of so many bytes, and what then comes: the confirm, or the end of the channel.
fn publish(client: &mut Client, size: usize) -> Option<u16> {
    client.publish(1, "", "q", &vec![7; size]);
    match client.method().method() {
        Method::BasicAck { .. } => None,
        Method::ChannelClose { reply_code, .. } => Some(reply_code),
        other => panic!("{other:?}"),
    }
}

fn confirming(server: &Process) -> Client {
    let mut client = server.open_channel();
    client.declare_queue(1, "q", true);
    assert_eq!(
        client.call(1, &Method::ConfirmSelect { nowait: false }).name(),
        "confirm.select-ok"
    );
    client
}

#[test]
fn a_limit_of_the_file_is_in_force_on_the_wire() {
    let place = Place::with("[limits]\nmessage_size = \"2 KiB\"\n");
    let server = place.serve();
    let mut client = confirming(&server);
    assert_eq!(publish(&mut client, 2048), None);
    assert_eq!(publish(&mut client, 2049), Some(406));
}

#[test]
fn a_flag_changes_the_limit_of_a_variable_which_changes_that_of_the_file() {
    let place = Place::with("limits.message_size = \"1 KiB\"\nlimits.consumers = 1\n");
    let mut command = haypile(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    command
        .arg(place.data())
        .args(["--set", "limits.message_size=3 KiB"])
        .env("HAYPILE_CONFIG", place.file())
        .env("HAYPILE_LIMITS_MESSAGE_SIZE", "2 KiB")
        .env("HAYPILE_LIMITS_CHANNEL_MAX", "5");
    let server = Process::start(command);
    let mut client = Client::new(server.addresses()[0]);
    client.open_connection(5, 131_072, 0);
    client.open_channel(1);
    client.declare_queue(1, "q", true);
    client.call(1, &Method::ConfirmSelect { nowait: false });
    assert_eq!(publish(&mut client, 3072), None);
    assert_eq!(publish(&mut client, 3073), Some(406));
}

#[test]
fn what_is_offered_to_clients_is_what_the_file_says() {
    let place =
        Place::with("[limits]\nchannel_max = 7\nframe_max = \"8 KiB\"\nheartbeat = \"2 min\"\n");
    let server = place.serve();
    let mut client = Client::new(server.addresses()[0]);
    client.send_bytes(&PROTOCOL_HEADER);
    assert_eq!(client.method().name(), "connection.start");
    client.start_ok("PLAIN", b"\0guest\0guest", true);
    let received = client.method();
    let Method::ConnectionTune { channel_max, frame_max, heartbeat } = received.method() else {
        panic!("{received:?}");
    };
    assert_eq!((channel_max, frame_max, heartbeat), (7, 8192, 120));
}

#[test]
fn the_user_of_the_file_gets_in_and_the_default_one_does_not() {
    let place = Place::with("login = { user = \"pika\", password = \"hay\" }\n");
    let server = place.serve();
    for (login, welcome) in [(&b"\0pika\0hay"[..], true), (b"\0guest\0guest", false)] {
        let mut client = Client::new(server.addresses()[0]);
        client.send_bytes(&PROTOCOL_HEADER);
        assert_eq!(client.method().name(), "connection.start");
        client.start_ok("PLAIN", login, true);
        if welcome {
            assert_eq!(client.method().name(), "connection.tune");
        } else {
            client.expect_close(403);
        }
    }
}

#[test]
fn the_file_alone_says_where_the_data_is_and_on_which_addresses() {
    let place = Place::with("");
    let settings = format!(
        "data_dir = \"{}\"\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nthreads = 1\nlog = \"off\"\n",
        utf8(&place.data())
    );
    fs::write(place.file(), settings).unwrap();
    let server = Process::start(haypile(&["serve", "--config", utf8(&place.file())]));
    assert_eq!(server.addresses().len(), 2);
    let mut client = confirming(&server);
    assert_eq!(publish(&mut client, 10), None);
    server.signal("TERM");
    client.expect_close(320);
    let (status, errors) = server.end();
    assert_eq!((status.code(), &*errors), (Some(0), ""));
    assert!(place.data().join("superblock").is_file());
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_lines_and_the_data_directory_left_alone() {
    let place = Place::with("# mine\n[limits]\nmesage_size = \"1 MiB\"\nframe_max = \"1 MB\"\n");
    let data = place.0.path().join("new");
    let file = place.file();
    let errors = refused(&["--config", utf8(&file), "--data-dir", utf8(&data)], &[]);
    let file = utf8(&file);
    let expected = format!(
        "haypile: {file}, line 3: unknown key `limits.mesage_size`: did you mean `limits.message_size`?\n\
         haypile: {file}, line 4: `limits.frame_max` cannot be \"1 MB\": it must be a size from 4 KiB to 16 MiB, \
         written like \"64 MiB\", with B, KiB, MiB or GiB\n"
    );
    assert_eq!(errors, expected);
    assert!(!data.exists());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("missing.toml"), directory.path().to_owned()] {
        for errors in [
            refused(&["--config", utf8(&path)], &[]),
            refused(&[], &[("HAYPILE_CONFIG", utf8(&path))]),
        ] {
            let begin = format!("haypile: cannot read the configuration file {}: ", utf8(&path));
            assert!(errors.starts_with(&begin), "{errors}");
        }
    }
}

#[test]
fn wrong_flags_and_variables_are_refused_by_name() {
    for (arguments, variables, complaint) in [
        (
            &[][..],
            &[("HAYPILE_LOG", "inof")][..],
            "haypile: variable HAYPILE_LOG: `log` cannot be \"inof\"",
        ),
        (
            &[],
            &[("HAYPILE_GRACE", "5")],
            "haypile: variable HAYPILE_GRACE: `grace` cannot be \"5\"",
        ),
        (
            &["--set", "limits.chanel_max=1"],
            &[],
            "haypile: flag --set: unknown key `limits.chanel_max`: did you mean `limits.channel_max`?",
        ),
        (
            &["--set", "grace=1 s"],
            &[],
            "haypile: `grace` = \"1 s\" (flag --set) and `limits.close_timeout` = \"3 s\" (default) make no sense together",
        ),
        (
            &["--set", "grace"],
            &[],
            "error: invalid value 'grace' for '--set <KEY=VALUE>': there is no '=' in it",
        ),
    ] {
        let errors = refused(arguments, variables);
        assert!(errors.starts_with(complaint), "{errors}");
    }
}

#[test]
fn a_variable_with_a_typo_is_a_warning_even_when_the_log_is_off() {
    let place = Place::with("");
    let mut command = haypile(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(place.data()).env("HAYPILE_LOG", "off").env("HAYPILE_LIMIT_MESSAGE_SIZE", "1 KiB");
    let server = Process::start(command);
    server.signal("TERM");
    let (status, errors) = server.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        errors,
        "haypile: warning: the variable HAYPILE_LIMIT_MESSAGE_SIZE is none of the settings: did you mean HAYPILE_LIMITS_MESSAGE_SIZE?\n"
    );
}

#[test]
fn config_prints_a_file_with_the_same_effect_and_where_each_value_is_from() {
    let place = Place::with("[limits]\nmessage_size = \"1 MiB\"\n");
    let file = place.file();
    let variables = [("HAYPILE_STORAGE_CACHE", "0 B"), ("HAYPILE_LOGIN_PASSWORD", "s3cret")];
    let output = config(&["--config", utf8(&file), "--listen", "127.0.0.1:1"], &variables);
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(0), ""));
    let printed = text(&output.stdout);
    for part in [
        "# From: flag --listen\nlisten = [\"127.0.0.1:1\"]\n",
        "# From: variable HAYPILE_STORAGE_CACHE\ncache = \"0 B\"\n",
        &format!("# From: {}, line 2\nmessage_size = \"1 MiB\"\n", utf8(&file)),
        "\n# grace = \"5 s\"\n",
        "# From: variable HAYPILE_LOGIN_PASSWORD; not shown\n",
    ] {
        assert!(printed.contains(part), "{part:?} is not in: {printed}");
    }
    assert!(!printed.contains("s3cret"), "{printed}");
    fs::write(&file, &printed).unwrap();
    let again = text(&config(&["--config", utf8(&file)], &[]).stdout);
    let values = |printed: &str| -> Vec<String> {
        printed.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(values(&again), values(&printed));
}

#[test]
fn config_refuses_what_serve_refuses() {
    let place = Place::with("threads = 0\n");
    let file = place.file();
    let output = config(&["--config", utf8(&file)], &[]);
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(2), ""));
    assert_eq!(text(&output.stderr), refused(&["--config", utf8(&file)], &[]));
}

#[test]
fn a_port_and_localhost_listen_on_the_loopback_addresses() {
    for listen in ["0", "localhost:0"] {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let data = utf8(directory.path());
        let server = Process::start(haypile(&["serve", "--listen", listen, "--data-dir", data]));
        let addresses = server.addresses();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        assert!(addresses.iter().any(|address| address.is_ipv4()), "{addresses:?}");
    }
}

#[test]
fn an_address_that_cannot_be_listened_on_is_refused_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (listen, advice) in [
        (":5672", "for all IPv4 addresses of this machine, [::]:5672 for IPv6 too"),
        ("broker.example:5672", "`broker.example` is a host name"),
        // TEST-NET-1 of RFC 5737 belongs to no machine.
        ("192.0.2.1:5672", "this machine has no such address"),
        (&*taken, "another program listens there"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let data = utf8(directory.path());
        let output = run(haypile(&["serve", "--listen", listen, "--data-dir", data]));
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(advice), "{listen}: {errors}");
    }
}

#[test]
fn a_rabbitmq_conf_is_answered_with_the_toml_that_means_the_same() {
    let conf = "listeners.tcp.default = 5673\nheartbeat = 30\ncluster_name = hay\n";
    let place = Place::with(conf);
    let errors = refused(&["--config", utf8(&place.file())], &[]);
    let begin = format!("haypile: {} is a configuration of RabbitMQ", utf8(&place.file()));
    assert!(errors.starts_with(&begin), "{errors}");
    let (_, toml) = errors.split_once("same meaning:\n").unwrap();
    fs::write(place.file(), toml).unwrap();
    let output = config(&["--config", utf8(&place.file())], &[]);
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(0), ""));
    let printed = text(&output.stdout);
    assert!(printed.contains("\nlisten = [\"0.0.0.0:5673\"]\n"), "{printed}");
    assert!(printed.contains("\nheartbeat = \"30 s\"\n"), "{printed}");
}

#[test]
fn a_data_directory_that_is_a_file_is_named_as_one() {
    let place = Place::with("");
    let file = place.file();
    let errors = refused(&["--data-dir", utf8(&file)], &[]);
    assert!(errors.contains("haypile.toml: it is a file, or lies below one"), "{errors}");
    for command in [&["inspect"][..], &["verify"], &["repair"], &["users", "list"]] {
        let mut command = haypile(command);
        command.args(["--data-dir", utf8(&file)]);
        let output = run(command);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("is a file"), "{errors}");
    }
}

/// A file that every user of the machine can read, or its owner alone.
fn set_readers(file: &Path, all: bool) {
    fs::set_permissions(file, fs::Permissions::from_mode(if all { 0o644 } else { 0o600 })).unwrap();
}

#[test]
fn a_configuration_file_with_a_password_that_every_user_can_read_is_warned_of() {
    let place = Place::with("[login]\npassword = \"meadow\"\n");
    for (all, password) in [(true, true), (false, true), (true, false)] {
        if !password {
            fs::write(place.file(), "log = \"info\"\n").unwrap();
        }
        set_readers(&place.file(), all);
        let output = config(&["--config", utf8(&place.file())], &[]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{errors}");
        let warned = errors.contains("warning: every user of this machine can read")
            && errors.contains(utf8(&place.file()))
            && errors.contains("chmod o=");
        assert_eq!(warned, all && password, "{errors}");
    }
}

#[test]
fn a_private_key_that_every_user_can_read_is_warned_of() {
    let place = Place::with("");
    let (certificate, key) =
        (place.0.path().join("certificate.pem"), place.0.path().join("key.pem"));
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&certificate, identity.cert.pem()).unwrap();
    fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    let file = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\nlisten = [\"127.0.0.1:0\"]\n",
        utf8(&certificate),
        utf8(&key)
    );
    fs::write(place.file(), file).unwrap();
    for all in [true, false] {
        set_readers(&key, all);
        let server = place.serve();
        server.signal("TERM");
        let (status, errors) = server.end();
        assert_eq!(status.code(), Some(0), "{errors}");
        let warned = errors.contains("every user of this machine can read the private key");
        assert_eq!(warned, all, "{errors}");
        assert!(!all || errors.contains(utf8(&key)), "{errors}");
    }
}
