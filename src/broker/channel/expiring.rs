//! Deliveries that a client holds unacknowledged for longer than it may.
//!
//! Nothing is noted with a delivery. Each look leaves a [mark](Marks) with the newest tag, and the first mark at or beyond
//! a delivery's tag says how long the client has had it at least.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Channel;
use crate::broker::delivery::DeliveryTag;
use crate::broker::refusal::{Reason, Refusal};
use crate::broker::unacknowledged::Held;

/// More marks than this are thinned out. Deliveries then seem younger than they are, never older.
const MOST_MARKS: usize = 64;

/// Tags that had been given out by a time, both in ascending order.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(DeliveryTag, Instant)>);

impl Marks {
    /// Notes that tags up to `last` have been given out by now; deliveries before `first` are done with.
    fn note(&mut self, first: DeliveryTag, last: DeliveryTag, now: Instant) {
        while self.0.front().is_some_and(|(tag, _)| *tag < first) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(tag, _)| *tag < last) {
            self.0.push_back((last, now));
        }
        if self.0.len() > MOST_MARKS {
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// Returns the least age of the delivery with that tag. `None` means that no mark knows of it.
    fn age(&self, tag: DeliveryTag, now: Instant) -> Option<Duration> {
        let index = self.0.partition_point(|(last, _)| *last < tag);
        self.0.get(index).map(|(_, at)| now.saturating_duration_since(*at))
    }
}

impl Channel {
    /// Looks for a delivery that the client has held for longer than it may: the channel is then to be closed. A time-out is
    /// noticed at the second look after it at the latest, and never early.
    ///
    /// # Errors
    /// 406 for a delivery that has not been acknowledged in time.
    pub fn check_timeouts(&mut self, now: Instant) -> Result<(), Refusal> {
        let host = &self.session.virtual_host;
        let Some(shortest) = host.shortest_timeout() else { return Ok(()) };
        let Some(first) = self.unacknowledged.first() else {
            self.marks = Marks::default();
            return Ok(());
        };
        self.marks.note(first, self.last_tag, now);
        // Tags are in order, and so are ages: the first that is too young for any time-out ends the search.
        for (tag, held) in self.unacknowledged.iter() {
            let Some(age) = self.marks.age(tag, now).filter(|age| *age >= shortest) else { break };
            if let Some(timeout) = timeout(held).or(host.limits().consumer_timeout)
                && age >= timeout
            {
                return Err(Refusal::new(
                    Reason::PreconditionFailed,
                    format_args!(
                        "delivery acknowledgement on channel {} timed out. Timeout value used: {} \
                         ms. This timeout value can be configured, see consumers doc guide to \
                         learn more",
                        self.number.0,
                        timeout.as_millis()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Returns the time-out of a delivery: its consumer's, or else its queue's.
fn timeout(held: &Held) -> Option<Duration> {
    let of_consumer = held.origin.consumer().and_then(|consumer| consumer.timeout());
    of_consumer.or_else(|| {
        let rules = held.origin.queue().rules();
        if rules.any() { rules.get().consumer_timeout.map(Duration::from_millis) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_never_seems_older_than_it_is() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let mut marks = Marks::default();
        for second in 0..1000 {
            // A delivery each second, just before the look.
            marks.note(DeliveryTag(1), DeliveryTag(second + 1), at(second));
            assert!(marks.0.len() <= MOST_MARKS);
            for tag in 1..=second + 1 {
                let age = marks.age(DeliveryTag(tag), at(second)).map_or(0, |age| age.as_secs());
                assert!(age <= second + 1 - tag, "{tag} at {second}");
            }
            assert_eq!(marks.age(DeliveryTag(1), at(second)), Some(Duration::from_secs(second)));
        }
        marks.note(DeliveryTag(1000), DeliveryTag(1000), at(1000));
        // It was delivered just before the look at second 999.
        assert_eq!(marks.age(DeliveryTag(1000), at(1002)), Some(Duration::from_secs(3)));
        assert_eq!(marks.age(DeliveryTag(1001), at(1002)), None);
    }
}
