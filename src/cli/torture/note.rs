//! What the child of `--store` tells on its pipe: a line each, written before or after the deed as the oracle needs it.
//!
//! The parent reads until the pipe ends, after the kill too: whatever is in the pipe was told. A line that was cut off was not.

use std::fmt::Write as _;
use std::str::FromStr;

use super::oracle::Consumer;
use super::stamp::{Identity, Publisher, QueueNumber};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The store is open.
    Ready,
    /// The publisher is about to publish its messages below this number.
    Announced(Publisher, u64),
    /// All of the publisher's messages below this number are durable.
    Confirmed(Publisher, u64),
    /// The consumer was handed these, whole, each with or without the flag; the store does not know of it yet.
    HandedOut(Consumer, QueueNumber, Vec<(Identity, bool)>),
    /// The consumer is about to acknowledge these.
    Acknowledged(Consumer, QueueNumber, Vec<Identity>),
    /// All that the consumer has told of until now is durable.
    Settled(Consumer),
    /// Something is wrong with a message that was handed out.
    Altered(String),
}

/// A line that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the child says '{0}', which means nothing")]
pub(super) struct NotANote(String);

impl Note {
    /// As a line, with its end.
    pub(super) fn line(&self) -> String {
        let mut line = String::new();
        let written = match self {
            Note::Ready => write!(line, "ready"),
            Note::Announced(publisher, below) => write!(line, "announced {} {below}", publisher.0),
            Note::Confirmed(publisher, below) => write!(line, "confirmed {} {below}", publisher.0),
            Note::HandedOut(consumer, queue, messages) => {
                let begun = write!(line, "handed-out {} {}", consumer.0, queue.0);
                messages.iter().fold(begun, |done, (identity, redelivered)| {
                    done.and_then(|()| write!(line, " {identity}.{}", u8::from(*redelivered)))
                })
            }
            Note::Acknowledged(consumer, queue, messages) => {
                let begun = write!(line, "acknowledged {} {}", consumer.0, queue.0);
                messages
                    .iter()
                    .fold(begun, |done, identity| done.and_then(|()| write!(line, " {identity}")))
            }
            Note::Settled(consumer) => write!(line, "settled {}", consumer.0),
            Note::Altered(text) => write!(line, "altered {}", text.replace('\n', " ")),
        };
        written.expect("a string takes whatever is written to it");
        line.push('\n');
        line
    }
}

impl FromStr for Note {
    type Err = NotANote;

    fn from_str(line: &str) -> Result<Note, NotANote> {
        read(line).ok_or_else(|| NotANote(line.to_owned()))
    }
}

fn read(line: &str) -> Option<Note> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    if word == "altered" {
        return Some(Note::Altered(rest.to_owned()));
    }
    let mut words = rest.split_ascii_whitespace();
    let note = match word {
        "ready" => Note::Ready,
        "announced" => {
            Note::Announced(Publisher(words.next()?.parse().ok()?), words.next()?.parse().ok()?)
        }
        "confirmed" => {
            Note::Confirmed(Publisher(words.next()?.parse().ok()?), words.next()?.parse().ok()?)
        }
        "handed-out" => {
            let consumer = Consumer(words.next()?.parse().ok()?);
            let queue = QueueNumber(words.next()?.parse().ok()?);
            let message = |word: &str| {
                let (identity, flag) = word.rsplit_once('.')?;
                Some((identity.parse().ok()?, flag == "1"))
            };
            let messages: Option<Vec<_>> = words.by_ref().map(message).collect();
            Note::HandedOut(consumer, queue, messages?)
        }
        "acknowledged" => {
            let consumer = Consumer(words.next()?.parse().ok()?);
            let queue = QueueNumber(words.next()?.parse().ok()?);
            let messages: Result<Vec<Identity>, _> = words.by_ref().map(str::parse).collect();
            Note::Acknowledged(consumer, queue, messages.ok()?)
        }
        "settled" => Note::Settled(Consumer(words.next()?.parse().ok()?)),
        _ => return None,
    };
    words.next().is_none().then_some(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_is_read_as_it_is_written() {
        let id = |number| Identity { publisher: Publisher(2), number };
        for note in [
            Note::Ready,
            Note::Announced(Publisher(0), 64),
            Note::Confirmed(Publisher(9), u64::MAX),
            Note::HandedOut(Consumer(1), QueueNumber(3), vec![(id(7), false), (id(8), true)]),
            Note::HandedOut(Consumer(1), QueueNumber(3), vec![]),
            Note::Acknowledged(Consumer(1), QueueNumber(0), vec![id(7), id(9)]),
            Note::Settled(Consumer(1)),
            Note::Altered("torture.0: 1.2: its checksum".to_owned()),
        ] {
            let line = note.line();
            assert_eq!(line.trim_end_matches('\n').parse(), Ok(note));
        }
    }

    #[test]
    fn what_means_nothing_is_no_note() {
        for line in ["", "rea", "announced 1", "settled 1 2", "acknowledged 1 2 3", "settled x"] {
            assert!(line.parse::<Note>().is_err(), "{line}");
        }
    }
}
