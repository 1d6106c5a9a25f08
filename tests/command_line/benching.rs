//! `haypile bench`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use super::common::process::{haypile, run, signal};
use super::{json, text};

/// Small enough to be a part of every test run: small segments, few messages, a twentieth of a second each.
const TINY: [&str; 7] = ["--quick", "--seconds", "0.05", "--segment", "1", "--backlog", "2000"];

fn bench_store(directory: &Path, more: &[&str]) -> Output {
    let mut command = haypile(&["bench", "store", directory.to_str().unwrap()]);
    command.args(more);
    run(command)
}

/// It could not begin: exit code 2, nothing on standard output, these words on standard error, and nothing in the directory.
fn refused(directory: &Path, arguments: &[&str], words: &[&str]) {
    let output = bench_store(directory, arguments);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
    if directory.is_dir() {
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn bench_store_measures_every_scenario_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("precious"), "mine").unwrap();
    fs::create_dir(directory.path().join("bench-1")).unwrap();
    let plot = tempfile::tempdir().unwrap();
    let plot = plot.path().join("plot.svg");
    let more = ["--json", "--svg", plot.to_str().unwrap()];
    let output = bench_store(directory.path(), &[&TINY[..], &more].concat());
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(!errors.contains('\x1b') && errors.contains("append"), "{errors}");

    let report = json(&output);
    assert_eq!(report["format"], 1);
    assert_eq!(report["command"], "bench store");
    assert_eq!(report["interrupted"], false);
    assert_eq!(report["failed"], Value::Null);
    let listed = run(haypile(&["bench", "store", "--list"]));
    assert_eq!(listed.status.code(), Some(0));
    let measurements = report["measurements"].as_array().unwrap();
    for line in text(&listed.stdout).lines() {
        let scenario = line.split_whitespace().next().unwrap();
        let of_it = measurements.iter().filter(|one| one["scenario"] == scenario);
        assert!(of_it.count() > 0, "{scenario} was not measured");
    }
    for one in measurements {
        assert!(one["count"].as_u64().unwrap() > 0, "{one}");
        assert_eq!(one["wrong"].as_array().unwrap().len(), 0, "{one}");
    }
    let waited = measurements
        .iter()
        .find(|one| one["scenario"] == "append" && one["parameters"]["writers"] == 64);
    let waited = waited.unwrap();
    assert_eq!(waited["latencies"][0]["count"], waited["count"]);
    assert_eq!(waited["latencies"][0]["since"], "begun");
    assert!(waited["share"]["reference_per_second"].as_f64().unwrap() > 0.0, "{waited}");
    let rated = measurements.iter().find(|one| one["scenario"] == "rate").unwrap();
    assert_eq!(rated["latencies"][0]["since"], "due");

    assert!(fs::read_to_string(plot).unwrap().starts_with("<svg"));
    assert_eq!(fs::read_to_string(directory.path().join("precious")).unwrap(), "mine");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn bench_store_measures_every_combination_of_what_was_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let chosen =
        ["--scenario", "append", "--writers", "1,3", "--size", "10,2048", "--sync", "each,lazy"];
    let output = bench_store(directory.path(), &[&TINY[..], &chosen].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.split('|').skip(1).take(3).map(str::trim).collect())
        .collect();
    let expected = [
        ["writers", "size", "sync"],
        ["1", "10 B", "each"],
        ["1", "2 KiB", "each"],
        ["3", "10 B", "each"],
        ["3", "2 KiB", "each"],
        ["1", "10 B", "lazy"],
        ["1", "2 KiB", "lazy"],
        ["3", "10 B", "lazy"],
        ["3", "2 KiB", "lazy"],
    ];
    assert_eq!(rows, expected, "{table}");
    assert!(table.contains("closed loop"), "{table}");
}

#[test]
fn bench_store_says_what_it_cannot_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(directory.path(), &["--seconds", "0"], &["--seconds", "above zero", "0.5"]);
    refused(directory.path(), &["--writers", "0"], &["--writers", "1..=1024"]);
    refused(directory.path(), &["--scenario", "sprint"], &["sprint", "append", "recovery"]);
    refused(directory.path(), &["--svg", "/nowhere/plot.svg"], &["there is no directory /nowhere"]);
    refused(file.path(), &["--quick"], &["cannot use", "give a directory"]);
    let much = ["--backlog", "1000000000", "--size", "16777216"];
    refused(directory.path(), &much, &["this needs", "TiB", "free some", "--quick"]);
    let output = run(haypile(&["bench", "store"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("<DIR>"));
}

#[test]
fn an_interrupted_bench_tells_what_it_has_measured_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    // One short measurement, and one that would take an hour.
    let mut command = haypile(&["bench", "store", directory.path().to_str().unwrap(), "--json"]);
    command.args(["--segment", "1", "--scenario", "queues", "--seconds", "3600"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = progress.by_ref().map(Result::unwrap).find(|line| line.contains("queues a second"));
    assert!(told.is_some());
    signal(child.id(), "INT");
    progress.for_each(drop);
    let mut result = String::new();
    child.stdout.take().unwrap().read_to_string(&mut result).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{result}");
    let report: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(report["interrupted"], true);
    let measured: Vec<&Value> = report["measurements"].as_array().unwrap().iter().collect();
    assert_eq!(measured.len(), 1, "{report}");
    assert_eq!(measured[0]["counted"], "queues");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
