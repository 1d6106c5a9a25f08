//! Everything that a restarted broker has, taken out through AMQP and shown to the oracle.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::{Client, DeliveryTag, Event};
use super::defect::DefectKind;
use super::oracle::{Found, Oracle};
use super::peers::{begin_consuming, route};
use super::plan::{Plan, Round};
use super::stamp::{Identity, QueueNumber};
use crate::cli::client::ClientError;

/// How long the next message of a queue may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shows the oracle all queues; acknowledges all but a share of it, and lets that be settled. Gives how many messages were
/// there.
pub(super) fn look(
    address: SocketAddr,
    plan: &Plan,
    oracle: &Mutex<Oracle>,
    fences: &[AtomicU64],
    keep: f64,
    round: &mut Round,
) -> Result<u64, ClientError> {
    let mut count = 0;
    for queue in (0..plan.queues).map(QueueNumber) {
        let mut client = Client::connect(address)?;
        let found = contents(&mut client, queue, oracle)?;
        count += found.len() as u64;
        let contents: Vec<Found> = found.iter().map(|(_, found)| found.clone()).collect();
        {
            let mut oracle = oracle.lock();
            oracle.recovered(queue, &contents);
            oracle.all_handed_out(queue);
            if oracle.defects().total() > 0 {
                continue; // It is evidence: nothing is acknowledged.
            }
        }
        let handed_out: Vec<Identity> = contents.iter().filter_map(|found| found.label).collect();
        let mut gone = Vec::new();
        for (tag, found) in &found {
            if round.random.f64() < keep {
                continue;
            }
            client.acknowledge(*tag, false);
            gone.extend(found.label);
        }
        {
            let mut oracle = oracle.lock();
            gone.iter().for_each(|identity| oracle.acknowledged(queue, *identity));
        }
        settle(&mut client, plan, queue, fences, oracle)?;
        oracle.lock().settled(queue, &gone, &handed_out);
        client.close()?;
    }
    Ok(count)
}

/// The whole content of a queue, in order; none of it is acknowledged.
fn contents(
    client: &mut Client,
    queue: QueueNumber,
    oracle: &Mutex<Oracle>,
) -> Result<Vec<(DeliveryTag, Found)>, ClientError> {
    let expected = client.waiting(queue)? as usize;
    begin_consuming(client, queue, 0)?;
    let mut found = Vec::with_capacity(expected);
    let mut newest = Instant::now();
    while found.len() < expected && newest.elapsed() < PATIENCE {
        if let Some(Event::Delivered(tag, item)) = client.event(PATIENCE)? {
            found.push((tag, item));
            newest = Instant::now();
        }
    }
    // An answer: whatever else the queue has given came before it.
    let left = client.waiting(queue)?;
    while let Some(event) = client.event(Duration::ZERO)? {
        if let Event::Delivered(tag, item) = event {
            found.push((tag, item));
        }
    }
    if found.len() != expected || left != 0 {
        let came = found.len();
        let text =
            format!("{queue}: it said it had {expected} messages; {came} came, {left} are left");
        oracle.lock().defect(DefectKind::Misbehaved, text);
    }
    Ok(found)
}

/// Waits until all that went over this channel is durable.
fn settle(
    client: &mut Client,
    plan: &Plan,
    queue: QueueNumber,
    fences: &[AtomicU64],
    oracle: &Mutex<Oracle>,
) -> Result<(), ClientError> {
    let looker = Plan::looker(plan.queues, queue);
    let next = fences.get(usize::from(looker.0)).expect("there is a number for each look");
    let number = next.fetch_add(1, Ordering::Relaxed);
    let sent = plan.message(Identity { publisher: Plan::fencer(looker), number });
    oracle.lock().published(sent);
    client.publish(&route(plan, sent), sent);
    client.flush()?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(Event::Confirmed(confirmed)) = client.event(PATIENCE)? {
            let mut oracle = oracle.lock();
            confirmed.iter().for_each(|identity| oracle.confirmed(*identity));
            return Ok(());
        }
    }
    Err(ClientError::Silent(PATIENCE))
}
