//! What a peer has said to be on stable storage survives the death of its process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const MESSAGES: &str = "3000";

fn measure(peer: &str, step: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haypile-peers"));
    command.args([
        "measure",
        "--peer",
        peer,
        "--step",
        step,
        "--messages",
        MESSAGES,
        "--size",
        "500",
    ]);
    command.arg("--dir").arg(dir).stdout(Stdio::piped());
    command
}

#[test]
fn a_backlog_is_whole_after_kill_nine() {
    for peer in ["haypile", "sqlite", "redb", "fjall", "raft-engine"] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = measure(peer, "fill", dir.path()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(line, "filled\n", "{peer}");
        // It counts the messages, and fails if there are more or fewer.
        for _ in 0..2 {
            let output = measure(peer, "reopen", dir.path()).output().unwrap();
            assert!(output.status.success(), "{peer}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
