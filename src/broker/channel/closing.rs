//! Closing a channel in pieces.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Channel;
use super::working::{PIECE, Step, Work};
use crate::broker::consumer::Consumer;
use crate::broker::delivery::DeliveryTag;
use crate::broker::session::give_back;
use crate::broker::settlement::Requeue;

/// The progress of a channel that is being closed.
#[derive(Debug, Default)]
pub(super) struct Closing {
    stage: Stage,
    /// Consumers that get nothing more, and count still as consumers.
    stopped: Vec<Arc<Consumer>>,
    requeue: Requeue,
}

/// What is done next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// The channel is open.
    #[default]
    Begin,
    /// The method that is under way is completed.
    Finish,
    /// Consumers get nothing more.
    Stop,
    /// Unacknowledged deliveries go back to their queues.
    Requeue,
    /// The queues hand them out.
    Resume,
    /// The queues forget the consumers.
    Remove,
    /// Nothing: the channel is closed.
    Closed,
}

impl Channel {
    /// Closes the channel as dropping it does, but does only a piece of it, so that others have their turn in between. Returns
    /// `true` if the channel is closed now: until then, the caller must call this again, and nothing else.
    pub fn close_some(&mut self) -> bool {
        let mut left = PIECE;
        while left > 0 && self.closing.stage != Stage::Closed {
            match self.closing.stage {
                Stage::Begin => self.begin_closing(),
                Stage::Finish => left = self.finish_work(),
                Stage::Stop => left -= self.stop_some(left),
                Stage::Requeue => left -= self.requeue_some(left),
                Stage::Resume => self.resume_requeued(&mut left),
                Stage::Remove => left -= self.remove_some(left),
                Stage::Closed => {}
            }
        }
        self.closing.stage == Stage::Closed
    }

    fn begin_closing(&mut self) {
        self.session.live.channels.fetch_sub(1, Relaxed);
        self.forget_reply_consumer();
        self.closing.stage = Stage::Finish;
    }

    /// Goes on with what the channel was doing in pieces. Returns what is left of the piece.
    fn finish_work(&mut self) -> usize {
        match self.work.take() {
            // The other deliveries go back as well.
            Some(Work::Requeue { requeue, .. }) => self.closing.requeue = requeue,
            Some(work) => {
                self.work = Some(work);
                match self.go_on() {
                    Ok(Step::More) => return 0,
                    Ok(Step::Done(_)) => {}
                    Err(error) => {
                        tracing::error!(%error, "a method of a closing channel is not completed");
                    }
                }
            }
            None => {}
        }
        self.closing.stage = Stage::Stop;
        PIECE
    }

    /// Stops consumers. They go when what they hold is back in its place: others that wait for that begin with it.
    fn stop_some(&mut self, most: usize) -> usize {
        let consumers = std::iter::from_fn(|| self.consumers.pop_first());
        let mut some: Vec<_> = consumers.take(most).map(|(_, consumer)| consumer).collect();
        // By queue: a channel may have tens of thousands of consumers of one. Stable, so that it is always the same order.
        some.sort_by_key(|consumer| consumer.queue().id());
        for of_queue in some.chunk_by(|one, other| one.queue() == other.queue()) {
            of_queue[0].queue().stop_consumers(of_queue);
        }
        let count = some.len();
        self.closing.stopped.append(&mut some);
        if self.consumers.is_empty() {
            self.retract();
            self.closing.stage = Stage::Requeue;
        }
        count
    }

    /// Takes back what has not been sent, and does what has been gathered.
    fn retract(&mut self) {
        for queue in self.pending_gets.drain(..) {
            queue.forget_gets(&self.session.outbox, self.number);
        }
        // Deliveries that have not been sent, answers to `basic.get`, and notices that nobody will read.
        give_back(self.session.outbox.retract_channel(self.number));
        self.arrivals.dispatch(&mut self.pending_sources);
        self.arrivals.send_replies(self.session.virtual_host.replies());
        if let Err(error) = self.settlement.flush(&mut self.pending_sources) {
            tracing::error!(%error, "acknowledgements of a closing channel are lost");
        }
        self.abandon_transaction();
    }

    fn requeue_some(&mut self, most: usize) -> usize {
        let all = DeliveryTag(u64::MAX);
        let given_back = self.unacknowledged.take_some_back(all, most);
        let (count, last) = (given_back.len(), self.unacknowledged.len() == 0);
        self.closing.requeue.put_back(given_back, last, &mut self.pending_sources);
        if last {
            self.closing.stage = Stage::Resume;
        }
        count
    }

    fn resume_requeued(&mut self, left: &mut usize) {
        if self.closing.requeue.resume_some(*left, &mut self.pending_sources) {
            self.closing.stage = Stage::Remove;
        } else {
            *left = 0;
        }
        self.pending_sources.transfer();
    }

    fn remove_some(&mut self, most: usize) -> usize {
        let count = most.min(self.closing.stopped.len());
        let some: Vec<_> = self.closing.stopped.drain(..count).collect();
        for of_queue in some.chunk_by(|one, other| one.queue() == other.queue()) {
            let queue = of_queue[0].queue();
            if queue.remove_stopped(of_queue) {
                self.session.virtual_host.delete_abandoned(queue);
                self.session.note_deletion();
            }
        }
        if self.closing.stopped.is_empty() {
            self.credit.close();
            self.closing.stage = Stage::Closed;
        }
        count
    }
}
