//! The main jobs of a broker, done by the clients that people use, unchanged, against the real binary.
//! `tests/interop/README.md` says what is there.
//!
//! Each test runs one Python program, which starts the broker and the client's programs. The clients are pinned, and put under
//! the target directory. Where what a client needs is missing, the test says so loudly on standard error and passes; with
//! `HAYPILE_REQUIRE_INTEROP=1` that is a failure.

#![cfg(feature = "broker")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the rule that only the engine's disk trait touches files is for the product"
)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

#[path = "common/certificates.rs"]
mod certificates;
#[path = "interop/environment.rs"]
mod environment;

use environment::{
    amqp_tools, amqplib_of_debian, bounded, bunny, go_client, node_modules, source_distributions,
    virtual_environment,
};

/// How long a quick scenario may take. The Python side has tighter bounds of its own, and explains
/// what it was waiting for; this is for the case that it cannot.
const SCENARIO: Duration = Duration::from_secs(300);

/// The same for the kill rounds, many times what they need.
const KILL_ROUNDS: Duration = Duration::from_secs(1800);

mod current_pika {
    use super::{Client, KILL_ROUNDS, SCENARIO, certificate_files, run};

    #[test]
    fn the_oracle_of_the_kill_rounds_notices_every_fault() {
        run(Client::Pika, "test_oracle.py", &[], SCENARIO);
    }

    #[test]
    fn hello_world_arrives() {
        run(Client::Pika, "test_hello.py", &[], SCENARIO);
    }

    #[test]
    fn workers_share_a_work_queue() {
        run(Client::Pika, "test_work_queue.py", &[], SCENARIO);
    }

    #[test]
    fn messages_alternate_between_workers_without_prefetch() {
        run(Client::Pika, "test_round_robin.py", &[], SCENARIO);
    }

    #[test]
    fn a_killed_workers_task_goes_to_another_at_once() {
        run(Client::Pika, "test_acknowledgement.py", &[], SCENARIO);
    }

    #[test]
    fn a_slow_worker_gets_no_task_while_a_fast_one_is_idle() {
        run(Client::Pika, "test_fair_dispatch.py", &[], SCENARIO);
    }

    #[test]
    fn three_threads_share_ten_thousand_messages() {
        run(Client::Pika, "test_threads.py", &[], SCENARIO);
    }

    #[test]
    fn what_an_exchange_routes_nowhere_is_kept_by_its_alternate() {
        run(Client::Pika, "test_alternate_exchange.py", &[], SCENARIO);
    }

    #[test]
    fn copies_go_to_several_queues_and_blind_ones_are_not_told_of() {
        run(Client::Pika, "test_copies.py", &[], SCENARIO);
    }

    #[test]
    fn calls_are_answered_directly() {
        run(Client::Pika, "test_direct_reply_to.py", &[], SCENARIO);
    }

    #[test]
    fn what_is_committed_is_there_and_what_is_rolled_back_is_not() {
        run(Client::Pika, "test_transactions.py", &["pika"], SCENARIO);
    }

    #[test]
    fn urgent_tasks_come_first_and_a_single_active_consumer_is_followed_by_the_next() {
        run(Client::Pika, "test_priorities.py", &[], SCENARIO);
    }

    #[test]
    fn messages_go_through_tls_and_a_client_certificate_is_shown_or_not() {
        let directory = certificate_files();
        run(Client::Pika, "test_tls.py", &[directory.path().to_str().unwrap()], SCENARIO);
    }

    #[test]
    fn what_a_publisher_saw_confirmed_survives_kill_nine() {
        run(Client::Pika, "test_confirms.py", &[], SCENARIO);
    }

    #[test]
    fn a_dead_letter_is_in_one_of_its_two_queues_after_kill_nine() {
        run(Client::Pika, "test_dead_letters.py", &[], SCENARIO);
    }

    #[test]
    fn confirmed_messages_survive_twenty_rounds_of_kill_nine() {
        run(Client::Pika, "test_durability.py", &[], KILL_ROUNDS);
    }
}

mod classic_pika {
    use super::{Client, SCENARIO, run};

    #[test]
    fn hello_world_arrives() {
        run(Client::ClassicPika, "test_hello.py", &[], SCENARIO);
    }

    #[test]
    fn workers_share_a_work_queue() {
        run(Client::ClassicPika, "test_work_queue.py", &[], SCENARIO);
    }

    #[test]
    fn messages_alternate_between_workers_without_prefetch() {
        run(Client::ClassicPika, "test_round_robin.py", &[], SCENARIO);
    }

    #[test]
    fn a_killed_workers_task_goes_to_another_at_once() {
        run(Client::ClassicPika, "test_acknowledgement.py", &[], SCENARIO);
    }

    #[test]
    fn a_slow_worker_gets_no_task_while_a_fast_one_is_idle() {
        run(Client::ClassicPika, "test_fair_dispatch.py", &[], SCENARIO);
    }

    #[test]
    fn three_threads_share_ten_thousand_messages() {
        run(Client::ClassicPika, "test_threads.py", &[], SCENARIO);
    }

    #[test]
    fn what_an_exchange_routes_nowhere_is_kept_by_its_alternate() {
        run(Client::ClassicPika, "test_alternate_exchange.py", &[], SCENARIO);
    }

    #[test]
    fn copies_go_to_several_queues_and_blind_ones_are_not_told_of() {
        run(Client::ClassicPika, "test_copies.py", &[], SCENARIO);
    }

    #[test]
    fn calls_are_answered_directly() {
        run(Client::ClassicPika, "test_direct_reply_to.py", &[], SCENARIO);
    }

    #[test]
    fn what_a_publisher_saw_confirmed_survives_kill_nine() {
        run(Client::ClassicPika, "test_confirms.py", &[], SCENARIO);
    }
}

mod celery {
    use super::{Client, SCENARIO, run};

    #[test]
    fn results_of_a_hundred_tasks_come_back() {
        run(Client::Celery, "test_celery.py", &["results"], SCENARIO);
    }

    #[test]
    fn the_task_of_a_killed_worker_is_done_by_another() {
        run(Client::Celery, "test_celery.py", &["killed_worker"], SCENARIO);
    }

    #[test]
    fn tasks_that_fail_are_tried_again_and_delayed_ones_are_done() {
        run(Client::Celery, "test_celery.py", &["retry"], SCENARIO);
    }

    #[test]
    fn the_task_of_a_killed_process_is_rejected_and_comes_again() {
        run(Client::Celery, "test_celery.py", &["killed_process"], SCENARIO);
    }

    #[test]
    fn a_task_that_is_not_done_in_time_is_not_done_at_all() {
        run(Client::Celery, "test_celery.py", &["expired"], SCENARIO);
    }

    #[test]
    fn workers_find_each_other_and_are_told_what_to_do() {
        run(Client::Celery, "test_celery.py", &["control"], SCENARIO);
    }

    #[test]
    fn tasks_of_a_quorum_queue_wait_in_the_broker_until_they_are_due() {
        run(Client::Celery, "test_celery.py", &["quorum"], SCENARIO);
    }

    #[test]
    fn important_tasks_are_done_first() {
        run(Client::Celery, "test_celery.py", &["priorities"], SCENARIO);
    }

    #[test]
    fn confirmed_tasks_survive_kill_nine_of_the_broker() {
        run(Client::Celery, "test_celery.py", &["killed_broker"], SCENARIO);
    }
}

mod py_amqp {
    use super::{Client, SCENARIO, run};

    #[test]
    fn what_is_committed_is_there_and_what_is_rolled_back_is_not() {
        run(Client::Celery, "test_transactions.py", &["py_amqp"], SCENARIO);
    }
}

/// Clients that speak AMQP 0-8, or say that they speak 0-9.
mod older_clients {
    use super::{Client, SCENARIO, run};

    #[test]
    fn carbon_stores_a_hundred_metrics_of_its_own_publisher() {
        run(Client::Older, "test_older_clients.py", &["carbon"], SCENARIO);
    }

    #[test]
    fn confirmed_messages_of_aioamqp_survive_kill_nine_and_are_consumed_in_order() {
        run(Client::Older, "test_older_clients.py", &["aioamqp"], SCENARIO);
    }
}

mod amqplib {
    use super::{Client, SCENARIO, run};

    #[test]
    fn confirmed_messages_survive_kill_nine_and_are_consumed_in_order() {
        run(Client::Amqplib, "test_amqplib.py", &["confirmed"], SCENARIO);
    }

    #[test]
    fn each_type_of_exchange_routes() {
        run(Client::Amqplib, "test_amqplib.py", &["exchanges"], SCENARIO);
    }

    #[test]
    fn what_cannot_be_routed_is_returned_before_its_confirm() {
        run(Client::Amqplib, "test_amqplib.py", &["returns"], SCENARIO);
    }

    #[test]
    fn a_channel_error_leaves_the_connection_alone() {
        run(Client::Amqplib, "test_amqplib.py", &["channel_errors"], SCENARIO);
    }

    #[test]
    fn every_type_of_a_field_table_comes_back_as_it_went() {
        run(Client::Amqplib, "test_amqplib.py", &["tables"], SCENARIO);
    }
}

mod amqp_tools {
    use super::{Client, SCENARIO, run};

    #[test]
    fn a_queue_from_its_declaration_to_its_deletion() {
        run(Client::Tools, "test_amqp_tools.py", &["queue"], SCENARIO);
    }

    #[test]
    fn a_consumer_runs_a_command_for_each_message() {
        run(Client::Tools, "test_amqp_tools.py", &["consume"], SCENARIO);
    }

    #[test]
    fn refusals_arrive_in_words() {
        run(Client::Tools, "test_amqp_tools.py", &["errors"], SCENARIO);
    }
}

mod bunny_client {
    use super::{Client, SCENARIO, run};

    #[test]
    fn confirmed_messages_survive_kill_nine_and_are_consumed_in_order() {
        run(Client::Bunny, "test_bunny.py", &["confirmed"], SCENARIO);
    }

    #[test]
    fn each_type_of_exchange_routes() {
        run(Client::Bunny, "test_bunny.py", &["exchanges"], SCENARIO);
    }

    #[test]
    fn what_cannot_be_routed_is_returned_before_its_confirm() {
        run(Client::Bunny, "test_bunny.py", &["returns"], SCENARIO);
    }

    #[test]
    fn a_channel_error_leaves_the_connection_alone() {
        run(Client::Bunny, "test_bunny.py", &["channel_errors"], SCENARIO);
    }

    #[test]
    fn a_client_comes_back_to_its_queues_and_consumers_by_itself() {
        run(Client::Bunny, "test_bunny.py", &["recovery"], SCENARIO);
    }
}

/// What the clients' authors test their clients with.
mod suites {
    use super::{Client, SCENARIO, certificate_files, run};

    #[test]
    fn py_amqp() {
        let directory = certificate_files();
        let certificates = directory.path().to_str().unwrap();
        run(Client::PythonSuites, "test_suites.py", &["py_amqp", certificates], SCENARIO);
    }

    #[test]
    fn kombu() {
        run(Client::PythonSuites, "test_suites.py", &["kombu"], SCENARIO);
    }

    #[test]
    fn amqpstorm() {
        run(Client::PythonSuites, "test_suites.py", &["amqpstorm"], SCENARIO);
    }

    #[test]
    fn amqplib() {
        run(Client::DebianAmqplib, "test_suites.py", &["amqplib"], SCENARIO);
    }

    #[test]
    fn txamqp() {
        run(Client::Older, "test_suites.py", &["txamqp"], SCENARIO);
    }

    #[test]
    fn amqp091() {
        run(Client::Go, "test_suites.py", &["amqp091"], SCENARIO);
    }
}

mod tutorials {
    use super::{Client, SCENARIO, run};

    #[test]
    fn every_page_is_followed() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorials");
        let mut names: Vec<_> = std::fs::read_dir(pages)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let followed = [
            "1-hello.md",
            "2-work-queues.md",
            "3-publish-subscribe.md",
            "4-routing.md",
            "5-topics.md",
            "6-rpc.md",
            "README.md",
        ];
        assert_eq!(names, followed, "each page has a test here, and each test a page");
    }

    #[test]
    fn hello() {
        run(Client::Pika, "test_tutorials.py", &["1-hello"], SCENARIO);
    }

    #[test]
    fn work_queues() {
        run(Client::Pika, "test_tutorials.py", &["2-work-queues"], SCENARIO);
    }

    #[test]
    fn publish_and_subscribe() {
        run(Client::Pika, "test_tutorials.py", &["3-publish-subscribe"], SCENARIO);
    }

    #[test]
    fn routing() {
        run(Client::Pika, "test_tutorials.py", &["4-routing"], SCENARIO);
    }

    #[test]
    fn topics() {
        run(Client::Pika, "test_tutorials.py", &["5-topics"], SCENARIO);
    }

    #[test]
    fn calls_with_answers() {
        run(Client::Pika, "test_tutorials.py", &["6-rpc"], SCENARIO);
    }
}

/// What clients see in each situation, beside what RabbitMQ lets them see.
mod settled {
    use super::{Client, SCENARIO, run};

    #[test]
    fn the_comparison_notices_every_fault() {
        run(Client::Pika, "test_settled.py", &["judge"], SCENARIO);
    }

    #[test]
    fn the_page_tells_what_is_settled() {
        run(Client::Pika, "test_settled.py", &["page"], SCENARIO);
    }

    #[test]
    fn connecting() {
        run(Client::Pika, "test_settled.py", &["connecting"], SCENARIO);
    }

    #[test]
    fn framing() {
        run(Client::Pika, "test_settled.py", &["framing"], SCENARIO);
    }

    #[test]
    fn declaring() {
        run(Client::Pika, "test_settled.py", &["declaring"], SCENARIO);
    }

    #[test]
    fn routing() {
        run(Client::Pika, "test_settled.py", &["routing"], SCENARIO);
    }

    #[test]
    fn publishing() {
        run(Client::Pika, "test_settled.py", &["publishing"], SCENARIO);
    }

    #[test]
    fn consuming() {
        run(Client::Pika, "test_settled.py", &["consuming"], SCENARIO);
    }

    #[test]
    fn direct_replies() {
        run(Client::Pika, "test_settled.py", &["direct_replies"], SCENARIO);
    }

    #[test]
    fn expiring() {
        run(Client::Pika, "test_settled.py", &["expiring"], SCENARIO);
    }

    #[test]
    fn dead_letters() {
        run(Client::Pika, "test_settled.py", &["dead_letters"], SCENARIO);
    }

    #[test]
    fn limiting() {
        run(Client::Pika, "test_settled.py", &["limiting"], SCENARIO);
    }

    #[test]
    fn queue_arguments() {
        run(Client::Pika, "test_settled.py", &["queue_arguments"], SCENARIO);
    }

    #[test]
    fn permitting() {
        run(Client::Pika, "test_settled.py", &["permitting"], SCENARIO);
    }

    #[test]
    fn ruling() {
        run(Client::Pika, "test_settled.py", &["ruling"], SCENARIO);
    }
}

/// A client, at the version that is pinned for it.
#[derive(Clone, Copy)]
enum Client {
    /// Python's `pika`: the current release.
    Pika,
    /// The last one with the 0.x interface.
    ClassicPika,
    /// Python's Celery, with `kombu` and `py-amqp` under it.
    Celery,
    /// Node's amqplib.
    Amqplib,
    /// rabbitmq-c's command-line tools, at the version that is installed.
    Tools,
    /// Ruby's Bunny, at the version that is installed.
    Bunny,
    /// Go's amqp091, at the version that is installed.
    Go,
    /// The sources of Python's clients, with what runs the tests in them.
    PythonSuites,
    /// Python's aioamqp, and the sources of carbon and of its client, txAMQP.
    Older,
    /// Python's amqplib, at the version that is installed.
    DebianAmqplib,
}

impl Client {
    /// What the Python that runs the scenarios has in it.
    fn requirements(self) -> &'static str {
        match self {
            Client::Pika | Client::Amqplib | Client::Tools | Client::Bunny | Client::Go => {
                "requirements.txt"
            }
            Client::ClassicPika => "requirements-0x.txt",
            Client::Celery => "requirements-celery.txt",
            Client::PythonSuites => "requirements-suites.txt",
            Client::Older | Client::DebianAmqplib => "requirements-older.txt",
        }
    }

    /// The Python of the client's environment, made once per run of the tests; or why there is none.
    fn python(self) -> Result<PathBuf, String> {
        static PIKA: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static CLASSIC_PIKA: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static CELERY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static SUITES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static OLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let made = match self {
            Client::Pika | Client::Amqplib | Client::Tools | Client::Bunny | Client::Go => &PIKA,
            Client::ClassicPika => &CLASSIC_PIKA,
            Client::Celery => &CELERY,
            Client::PythonSuites => &SUITES,
            Client::Older | Client::DebianAmqplib => &OLDER,
        };
        made.get_or_init(|| virtual_environment(self.requirements())).clone()
    }

    /// What else its programs find in their environment; or why the client cannot be had.
    fn variables(self) -> Result<Option<(&'static str, PathBuf)>, String> {
        static AMQPLIB: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static SOURCES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static OLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let packed = |kept: &'static OnceLock<Result<PathBuf, String>>, pins| {
            let python = self.python()?;
            let packed = || source_distributions(&python, pins);
            Ok(Some(("INTEROP_SOURCES", kept.get_or_init(packed).clone()?)))
        };
        match self {
            Client::Pika | Client::Celery => Ok(None),
            Client::ClassicPika => Ok(Some(("PYTHONPATH", sources().join("python310")))),
            Client::Amqplib => {
                let modules = AMQPLIB.get_or_init(|| node_modules("nodejs")).clone()?;
                Ok(Some(("NODE_PATH", modules)))
            }
            Client::Tools => amqp_tools().map(|()| None),
            Client::Bunny => bunny().map(|()| None),
            Client::Go => go_client().map(|()| None),
            Client::PythonSuites => packed(&SOURCES, "suites/sources.txt"),
            Client::Older => packed(&OLDER, "suites/sources-older.txt"),
            Client::DebianAmqplib => {
                amqplib_of_debian()?;
                packed(&OLDER, "suites/sources-older.txt")
            }
        }
    }
}

/// A directory with certificates, and their keys, for `localhost` and for a client, and with who vouches for them.
fn certificate_files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let write = |name: &str, content: String| {
        std::fs::write(directory.path().join(name), content).expect("there is room for a file");
    };
    let authority = certificates::Authority::new();
    write("roots.pem", authority.certificate());
    for name in ["localhost", "client"] {
        let identity = authority.vouch_for(name);
        write(&format!("{name}.pem"), identity.certificate);
        write(&format!("{name}.key"), identity.key);
    }
    directory
}

/// Runs one Python program to its end; fails with what it printed.
fn run(client: Client, program: &str, arguments: &[&str], limit: Duration) {
    let (python, variables) =
        match client.python().and_then(|python| Ok((python, client.variables()?))) {
            Ok(environment) => environment,
            Err(reason) => return skip(program, &reason),
        };
    let mut command = Command::new(python);
    command
        .arg(sources().join(program))
        .args(arguments)
        .env("HAYPILE_BIN", env!("CARGO_BIN_EXE_haypile"))
        .env("INTEROP_SCRATCH", env!("CARGO_TARGET_TMPDIR"))
        .env_remove("INTEROP_BROKER")
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .envs(variables);
    let (status, output) = bounded(&mut command, limit)
        .unwrap_or_else(|error| (None, format!("cannot run {program}: {error}")));
    // For `cargo test -- --nocapture`, and for a failure.
    eprintln!("--- {program} {arguments:?}\n{output}");
    assert!(
        status.is_some_and(|status| status.success()),
        "{program} failed ({}); its output is above",
        status.map_or_else(|| "no exit status".to_owned(), |status| status.to_string()),
    );
}

/// Says on the real standard error, which the test harness does not capture, that nothing was tested.
fn skip(program: &str, reason: &str) {
    let required = std::env::var("HAYPILE_REQUIRE_INTEROP").is_ok_and(|value| value == "1");
    assert!(!required, "HAYPILE_REQUIRE_INTEROP=1, but {program} cannot run: {reason}");
    let line = format!("\n!!! SKIPPED tests/interop/{program}: {reason}\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error takes a line");
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}
