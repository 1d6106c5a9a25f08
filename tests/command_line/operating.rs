//! `haypile users`, `vhosts`, `policies`, `connections` and `definitions`: as docs/definitions.md prints them, with a server and without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::common::process::{Process, haypile, prepare, run};
use crate::common::{Client, eventually};
use crate::text;

/// What RabbitMQ 3.10.8 has exported.
const RABBITMQ: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/definitions/rabbitmq-3.10.8.json");

fn on(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = haypile(arguments);
    command.arg("--data-dir").arg(directory.join("haypile-data"));
    run(command)
}

/// What a command prints that is expected to do what it is asked for.
fn done(directory: &Path, arguments: &[&str]) -> String {
    let output = on(directory, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The commands of the page, each with what is printed below it.
fn examples() -> Vec<(String, String)> {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/definitions.md")).unwrap();
    let mut examples: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line.strip_prefix("$ ")) {
            (false, _) => inside = line == "```console",
            (true, _) if line == "```" => inside = false,
            (true, Some(command)) => examples.push((command.to_owned(), String::new())),
            (true, None) => {
                let (_, expected) = examples.last_mut().unwrap();
                expected.push_str(line);
                expected.push('\n');
            }
        }
    }
    examples
}

/// Runs what the page prints, and compares what comes of it.
fn follow_the_page(directory: &Path) {
    let path = Path::new(env!("CARGO_BIN_EXE_haypile")).parent().unwrap();
    let examples = examples();
    assert!(examples.len() > 15, "{}", examples.len());
    for (command, expected) in examples {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(format!("{command} 2>&1")).current_dir(directory);
        shell.env_remove("HAYPILE_DATA_DIR");
        shell.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
        assert_eq!(text(&run(shell).stdout), expected, "{command}");
    }
}

fn place() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    prepare(&directory.path().join("haypile-data"));
    directory
}

#[test]
fn the_page_is_true_of_a_running_server() {
    let directory = place();
    let server = Process::serve(&directory.path().join("haypile-data"));
    follow_the_page(directory.path());
    let mode = fs::metadata(directory.path().join("before.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = directory.path().join("haypile-data/control.socket");
    let mode = fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn what_is_said_survives_kill_nine() {
    let directory = place();
    let data = directory.path().join("haypile-data");
    let server = Process::serve(&data);
    done(directory.path(), &["definitions", "import", RABBITMQ]);
    let listed = |what: &str| done(directory.path(), &[what, "list", "--json"]);
    let exported = || done(directory.path(), &["definitions", "export"]);
    let before = (listed("users"), listed("vhosts"), listed("policies"));
    let durable = |export: &str| {
        let mut file: serde_json::Value = serde_json::from_str(export).unwrap();
        for list in ["queues", "exchanges"] {
            file[list].as_array_mut().unwrap().retain(|one| one["durable"] == true);
        }
        file
    };
    let all = durable(&exported());
    server.signal("KILL");
    server.end();
    let server = Process::serve(&data);
    assert_eq!((listed("users"), listed("vhosts"), listed("policies")), before);
    assert_eq!(durable(&exported()), all);
    // The password is the one that RabbitMQ has hashed.
    let mut client = Client::new(server.addresses()[0]);
    client.send_bytes(&haypile::amqp::codec::PROTOCOL_HEADER);
    client.method();
    client.start_ok("PLAIN", b"\0shop\0s3cret", true);
    assert_eq!(client.method().name(), "connection.tune");
}

/// Half of an import is not lost, and not a hindrance: importing again adds the rest.
#[test]
fn an_import_that_is_cut_off_by_kill_nine_is_completed_by_the_next_one() {
    let directory = place();
    let data = directory.path().join("haypile-data");
    let queues: Vec<_> = (0..3000)
        .map(|number| serde_json::json!({"name": format!("q{number}"), "vhost": "v", "durable": true}))
        .collect();
    let file = serde_json::json!({"vhosts": [{"name": "v"}], "queues": queues}).to_string();
    let path = directory.path().join("many.json");
    fs::write(&path, file).unwrap();
    let arguments = ["definitions", "import", path.to_str().unwrap()];
    for patience in [5, 40, 120] {
        let server = Process::serve(&data);
        let mut importing = haypile(&arguments);
        importing.arg("--data-dir").arg(&data);
        let mut importing = importing.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(patience));
        server.signal("KILL");
        server.end();
        importing.kill().unwrap();
        importing.wait().unwrap();
    }
    let _server = Process::serve(&data);
    done(directory.path(), &arguments);
    let again = done(directory.path(), &arguments);
    assert!(again.contains("queues: 0 imported, 3000 unchanged, 0 left out"), "{again}");
}

#[test]
fn without_a_server_the_directory_is_opened() {
    let directory = place();
    let imported = done(directory.path(), &["definitions", "import", RABBITMQ]);
    // The user of the settings is not known, and is stored as any other.
    assert!(imported.starts_with("users: 3 imported, 0 unchanged, 0 left out\n"), "{imported}");
    assert!(imported.contains("queues: 5 imported, 0 unchanged, 0 left out"));
    let again = done(directory.path(), &["definitions", "import", RABBITMQ]);
    assert!(again.starts_with("users: 0 imported, 3 unchanged, 0 left out\n"), "{again}");
    assert!(
        done(directory.path(), &["users", "list"]).contains("auditor [monitoring, policymaker]\n")
    );
    for command in [&["connections", "list"][..], &["connections", "close", "1"]] {
        let output = on(directory.path(), command);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.starts_with("haypile: no server answers on "), "{errors}");
        assert!(errors.contains("Start one with `haypile serve`"), "{errors}");
    }
}

#[test]
fn the_user_of_the_settings_is_stored_once_and_stays_deleted() {
    let directory = place();
    let data = directory.path().join("haypile-data");
    let guest = "guest [administrator]\n  in vhost '/': configure '.*', write '.*', read '.*'\n";
    let server = Process::serve(&data);
    assert_eq!(done(directory.path(), &["users", "list"]), guest);
    server.open_channel();
    assert_eq!(done(directory.path(), &["users", "delete", "guest"]), "user 'guest' deleted\n");
    drop(server);
    let _server = Process::serve(&data);
    assert_eq!(done(directory.path(), &["users", "list"]), "");
}

#[test]
fn nobody_can_be_asked_where_there_is_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = on(directory.path(), &["users", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("say which one with --data-dir"));
    assert!(!directory.path().join("haypile-data").exists());
}

#[test]
fn a_password_is_read_from_a_file_and_never_printed() {
    let directory = place();
    let file = directory.path().join("password");
    fs::write(&file, "s3cret\r\n").unwrap();
    let add = ["users", "add", "shop", "--password-file", file.to_str().unwrap()];
    done(directory.path(), &add);
    let exported = done(directory.path(), &["definitions", "export"]);
    assert!(exported.contains("\"haypile_password_hash\": \"$argon2id$"));
    assert!(!exported.contains("s3cret"));
    let taken = on(directory.path(), &add);
    assert_eq!(text(&taken.stderr), "haypile: user 'shop' already exists\n");
    fs::write(&file, "\n").unwrap();
    let empty = on(
        directory.path(),
        &["users", "password", "shop", "--password-file", file.to_str().unwrap()],
    );
    assert_eq!(empty.status.code(), Some(2));
    assert!(text(&empty.stderr).ends_with("an empty password is no password\n"));
}

#[test]
fn a_connection_is_closed_by_its_number() {
    let directory = place();
    let server = Process::serve(&directory.path().join("haypile-data"));
    let mut client = server.open_channel();
    let listed = done(directory.path(), &["connections", "list"]);
    let (number, rest) = listed.split_once(": 127.0.0.1:").unwrap();
    assert!(rest.ends_with(" as 'guest' in vhost '/', 1 channels\n"), "{listed}");
    let close = ["connections", "close", number, "--reason", "tea time"];
    assert_eq!(done(directory.path(), &close), "1 told to close\n");
    assert_eq!(client.expect_close(320), "CONNECTION_FORCED - tea time");
    eventually("it is gone", || done(directory.path(), &["connections", "list"]).is_empty());
}
