//! The clients that must not suffer: canaries.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use haypile::amqp::codec::{FrameKind, Method};
use haypile::message::{Properties, RawTable};

use super::support::Outcome;
use super::support::client::{Client, Place, consume, declare};

/// A message each.
pub(crate) const PERIOD: Duration = Duration::from_millis(100);

/// Publishes a message each [`PERIOD`] to a queue of its own, and consumes it, until `stop`. Returns how long each took from the
/// moment that it was due until it was both confirmed and delivered. The messages must all arrive, in their order.
pub(crate) fn sing(place: Place<'_>, queue: &str, stop: &AtomicBool) -> Outcome<Vec<Duration>> {
    let mut client = Client::open(place)?;
    client.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
    client.call(&declare(queue, RawTable::EMPTY), "queue.declare-ok")?;
    client.send_all([consume(queue, "canary", true)].into_iter())?;
    let begun = Instant::now();
    let mut times = Vec::new();
    while !stop.load(Relaxed) {
        let number = times.len() as u64;
        let due = begun + PERIOD * u32::try_from(number)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        client.publish("", queue, Properties::default(), &number.to_be_bytes())?;
        receive(&mut client, number)?;
        times.push(due.elapsed());
    }
    Ok(times)
}

/// Waits for the confirm and the delivery of a message.
fn receive(client: &mut Client, number: u64) -> Outcome {
    let (mut confirmed, mut delivered) = (false, false);
    while !(confirmed && delivered) {
        let frame = client.frame()?;
        match frame.kind {
            FrameKind::Header => {}
            FrameKind::Body if frame.payload[..] == number.to_be_bytes() => delivered = true,
            FrameKind::Method => match Method::decode(&frame.payload)? {
                Method::BasicDeliver { .. } => {}
                Method::BasicAck { delivery_tag, .. } if delivery_tag == number + 1 => {
                    confirmed = true;
                }
                other => {
                    return Err(format!("message {number} was expected, {other:?} came").into());
                }
            },
            other => return Err(format!("message {number} was expected, {other:?} came").into()),
        }
    }
    Ok(())
}

/// Logs in each [`PERIOD`] until `stop`. Returns how long each login took, from connecting to `connection.open-ok`, and how many were
/// refused or cut off.
pub(crate) fn log_in(place: Place<'_>, stop: &AtomicBool) -> (Vec<Duration>, u64) {
    let (mut times, mut refused) = (Vec::new(), 0);
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        match Client::open(place) {
            Ok(_) => times.push(begun.elapsed()),
            Err(_) => refused += 1,
        }
        thread::sleep(PERIOD.saturating_sub(begun.elapsed()));
    }
    (times, refused)
}
