//! All measurements: one peer after the other, round after round, so that what disturbs the machine disturbs all of them.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;
use tempfile::TempDir;

use crate::Outcome;
use crate::arguments::{Arguments, Step};
use crate::measure::Figures;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::stores::Kind;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let or_all = |some: &[Kind]| if some.is_empty() { Kind::ALL.to_vec() } else { some.to_vec() };
    let peers = or_all(&arguments.peers);
    let scenarios = match &arguments.scenarios[..] {
        [] => &Scenario::ALL,
        some => some,
    };
    let mut report = Report::new(&peers, arguments);
    for &scenario in scenarios {
        // The two ways to open a store are measured on the same one; whichever was asked for first does so.
        if report.has(scenario) {
            continue;
        }
        for round in 1..=arguments.rounds {
            for &peer in &peers {
                if std::io::stderr().is_terminal() {
                    eprint!("\r\x1b[K{}, round {round}: {}", scenario.title(), peer.name());
                }
                let bench = Bench { arguments, peer, dir: directory(arguments)? };
                if scenario.is_a_time() {
                    let [killed, closed] = bench.reopen(scenario)?;
                    report.add(Scenario::ReopenKilled, peer, killed);
                    report.add(Scenario::ReopenClosed, peer, closed);
                } else {
                    report.add(scenario, peer, bench.measure(scenario.step(), scenario)?);
                }
            }
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
    report.print(scenarios)
}

/// A fresh directory, which is removed with everything in it.
fn directory(arguments: &Arguments) -> Outcome<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("haypile-peers-");
    Ok(match &arguments.dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    })
}

/// One measurement of one peer.
struct Bench<'a> {
    arguments: &'a Arguments,
    peer: Kind,
    dir: TempDir,
}

impl Bench<'_> {
    fn measure(&self, step: Step, scenario: Scenario) -> Outcome<Figures> {
        let output = self.process(step, scenario)?.stdout(Stdio::piped()).output()?;
        if !output.status.success() {
            return Err(format!("{} has failed: {scenario:?}", self.peer.name()).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Fills a store, kills its process, opens it, closes it, and opens it again.
    fn reopen(&self, scenario: Scenario) -> Outcome<[Figures; 2]> {
        let mut child = Killed(self.process(Step::Fill, scenario)?.stdout(Stdio::piped()).spawn()?);
        let output = child.0.stdout.take().ok_or("the output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line != "filled\n" {
            return Err(format!("{} could not be filled", self.peer.name()).into());
        }
        drop(child);
        let killed = self.measure(Step::Reopen, scenario)?;
        Ok([killed, self.measure(Step::Reopen, scenario)?])
    }

    fn process(&self, step: Step, scenario: Scenario) -> Outcome<Command> {
        let messages = (scenario.messages() * self.arguments.scale / 100).max(100);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("measure");
        command.args(["--peer", &name(self.peer)?, "--step", &name(step)?]);
        command.args(["--messages", &messages.to_string()]);
        command.args(["--size", &self.arguments.size.to_string()]);
        command.arg("--dir").arg(Path::new(self.dir.path()));
        Ok(command)
    }
}

fn name<V: ValueEnum>(value: V) -> Outcome<String> {
    let value = value.to_possible_value().ok_or("every value has a name")?;
    Ok(value.get_name().to_owned())
}

/// A process that is killed, and gone, when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed: that is fine.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
