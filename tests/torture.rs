//! `haypile torture` as a person or a script uses it: that it passes what is right, finds what is wrong, and says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // files are looked at from outside here

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::process::{haypile, run_for, signal};
use serde_json::Value;

/// Long enough for any machine; none of the runs is meant to take a tenth of it.
const PATIENCE: Duration = Duration::from_secs(300);

/// A seed whose first five rounds have every ending there is, and four kills in recovery.
const EVERY_ENDING: &str = "106354";

fn torture(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = haypile(&["torture", dir.to_str().unwrap()]);
    command.args(arguments);
    run_for(PATIENCE, command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("no {field} in {report}"))
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

/// Five rounds that end in every way there is, in which nothing is wrong.
fn passes(mode: &str, more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("made/for/it");
    let arguments = [&["--rounds", "5", "--seed", EVERY_ENDING, "--json"], more].concat();
    let output = torture(&below, &arguments);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}{errors}", text(&output.stdout));
    let report = report(&output);
    assert_eq!(report["mode"], mode);
    assert_eq!(number(&report, "seed").to_string(), EVERY_ENDING);
    for (field, expected) in [("rounds", 5), ("clean_ends", 1), ("full_disks", 1), ("restarts", 5)]
    {
        assert_eq!(number(&report, field), expected, "{field}: {report}");
    }
    for field in ["confirmed", "acknowledged", "found", "required", "kills"] {
        assert!(number(&report, field) > 0, "{field}: {report}");
    }
    for (kind, count) in report["wrong"].as_object().unwrap() {
        assert_eq!(count, 0, "{kind}: {report}");
    }
    assert_eq!((&report["kept"], &report["defects"]), (&Value::Null, &Value::Array(vec![])));
    assert_eq!(errors.lines().filter(|line| line.starts_with("round ")).count(), 5, "{errors}");
    assert!(is_empty(&below), "what was not needed any more was left");
}

#[test]
fn the_broker_passes_its_torture_and_leaves_nothing_behind() {
    passes("broker", &[]);
}

/// What is tortured is `haypile serve`, which would let in somebody else than the clients of the torture.
#[test]
fn the_settings_of_another_server_do_not_reach_the_tortured_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = haypile(&["torture", dir.path().to_str().unwrap()]);
    command
        .args(["--rounds", "1", "--seed", EVERY_ENDING, "--json"])
        .env("HAYPILE_LOGIN_USER", "somebody")
        .env("HAYPILE_LISTEN", "nonsense");
    let output = run_for(PATIENCE, command);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(number(&report(&output), "confirmed") > 0);
}

#[test]
fn the_store_passes_its_torture_and_leaves_nothing_behind() {
    passes("store", &["--store"]);
}

#[test]
fn one_queue_that_nobody_consumes_from_can_be_tortured_for_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--minutes", "0.02", "--queues", "1", "--publishers", "1", "--consumers", "0"];
    for more in [&[][..], &["--store"]] {
        let output = torture(dir.path(), &[&arguments, more].concat());
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
        for words in ["rounds of the", "seed", "confirmed", "the slowest took", "nothing is wrong"]
        {
            assert!(said.contains(words), "{words:?} is not in: {said}");
        }
    }
}

/// A check that cannot fail proves nothing: this child tells that messages are durable when they are only in its memory.
#[test]
fn a_store_that_confirms_too_early_is_found_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--store", "--sabotage", "--rounds", "50", "--seed", "7"];
    let output = torture(dir.path(), &[&arguments[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let found = report(&output);
    assert!(number(&found["wrong"], "lost") > 0, "{found}");
    let first = &found["defects"][0];
    assert_eq!(first["kind"], "lost", "{found}");
    assert_eq!(first["round"], found["rounds"], "it goes on after a defect: {found}");
    let kept = Path::new(found["kept"].as_str().unwrap());
    assert!(kept.starts_with(dir.path()) && kept.join("data-1/superblock").is_file(), "{kept:?}");

    let said = torture(dir.path(), &arguments);
    assert_eq!(said.status.code(), Some(1));
    let said = text(&said.stdout);
    for words in ["LOST: torture.", "seed 7", "keep ", "was confirmed and not acknowledged"] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

#[test]
fn a_child_whose_sync_fails_confirms_no_more_and_ends_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = haypile(&["torture-child", "store", "--data-dir", data.to_str().unwrap()]);
    command.args(
        "--seed 1 --life 1 --queues 2 --publishers 2 --consumers 2 --largest 1000".split(' '),
    );
    command.args("--segment-size 65536 --first 0,0 --budget 1000000 --fail-sync 40".split(' '));
    let output = run_for(PATIENCE, command);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("haypile: the log failed and takes nothing more"), "{errors}");
    assert!(errors.contains("made by the torture"), "{errors}");
}

#[test]
fn ctrl_c_ends_it_with_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = haypile(&["torture", dir.path().to_str().unwrap(), "--store", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("round 1: killed after"), "{line}");
    signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report = report(&output);
    assert_eq!(report["interrupted"], true, "{report}");
    assert!(is_empty(dir.path()));
}

#[test]
fn what_cannot_be_tortured_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let output = torture(&file, &["--minutes", "0.01"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(errors.contains(file.to_str().unwrap()) && errors.contains("directory"), "{errors}");
    for arguments in [&["--minutes", "0"][..], &["--minutes", "-1"], &["--disk-limit", "1"]] {
        let output = torture(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(arguments[0]), "{}", text(&output.stderr));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
