//! Queues that do what a queue must not do, one way at a time, and one that does everything right.

use super::*;

const QUEUE: QueueNumber = QueueNumber(0);
const OTHER: QueueNumber = QueueNumber(1);
const CONSUMER: Consumer = Consumer(0);

fn id(publisher: u16, number: u64) -> Identity {
    Identity { publisher: Publisher(publisher), number }
}

fn sent(identity: Identity, persistent: bool) -> Sent {
    let queues = QueueSet::one(QUEUE);
    Sent { stamp: Stamp { identity, queues, length: 40 }, persistent }
}

fn found(identity: Identity) -> Found {
    let body = sent(identity, true).stamp.body();
    Found::new(identity.to_string().as_bytes(), &body, false)
}

fn flagged(identity: Identity) -> Found {
    Found { redelivered: true, ..found(identity) }
}

/// Two queues; the first has ten confirmed messages of publisher 1.
fn ten() -> (Oracle, Vec<Identity>) {
    let mut oracle = Oracle::new(2);
    let messages: Vec<Identity> = (0..10).map(|number| id(1, number)).collect();
    for identity in &messages {
        oracle.published(sent(*identity, true));
    }
    oracle.confirmed_below(Publisher(1), 10);
    (oracle, messages)
}

fn all(messages: &[Identity]) -> Vec<Found> {
    messages.iter().copied().map(found).collect()
}

/// The one kind of defect that there is, and how often.
fn only(oracle: &Oracle) -> (DefectKind, u64) {
    let kinds: Vec<DefectKind> =
        DefectKind::ALL.into_iter().filter(|kind| oracle.defects().count(*kind) > 0).collect();
    assert_eq!(kinds.len(), 1, "{:?}", oracle.defects().list());
    (kinds[0], oracle.defects().total())
}

fn nothing_wrong(oracle: &Oracle) {
    assert_eq!(oracle.defects().total(), 0, "{:?}", oracle.defects().list());
}

#[test]
fn a_queue_that_keeps_everything_is_not_complained_of() {
    let (mut oracle, messages) = ten();
    assert_eq!((oracle.required(), oracle.confirmed_count()), (10, 10));
    oracle.recovered(QUEUE, &all(&messages));
    oracle.recovered(QUEUE, &all(&messages));
    nothing_wrong(&oracle);
}

#[test]
fn a_confirmed_message_that_is_missing_is_lost_once() {
    let (mut oracle, messages) = ten();
    oracle.recovered(QUEUE, &all(&messages[1..]));
    assert_eq!(only(&oracle), (DefectKind::Lost, 1));
    assert!(oracle.defects().list()[0].text.contains("1.0"));
    oracle.recovered(QUEUE, &all(&messages[1..]));
    assert_eq!(only(&oracle), (DefectKind::Lost, 1));
}

#[test]
fn a_message_that_one_of_its_queues_lost_is_lost() {
    let mut oracle = Oracle::new(2);
    let mut both = sent(id(1, 0), true);
    both.stamp.queues = QueueSet::all(2);
    oracle.published(both);
    oracle.confirmed(id(1, 0));
    let body = both.stamp.body();
    oracle.recovered(QUEUE, &[Found::new(b"1.0", &body, false)]);
    nothing_wrong(&oracle);
    oracle.recovered(OTHER, &[]);
    assert_eq!(only(&oracle), (DefectKind::Lost, 1));
}

#[test]
fn what_was_not_confirmed_may_be_there_or_not() {
    for there in [true, false] {
        let mut oracle = Oracle::new(1);
        oracle.published(sent(id(1, 0), true));
        let contents = |there: bool| all(&[id(1, 0)][..usize::from(there)]);
        oracle.recovered(QUEUE, &contents(there));
        nothing_wrong(&oracle);
        // From then on it is settled which.
        oracle.recovered(QUEUE, &contents(!there));
        let kind = if there { DefectKind::Lost } else { DefectKind::Resurrected };
        assert_eq!(only(&oracle), (kind, 1));
    }
}

#[test]
fn an_altered_body_is_found_with_and_without_its_label() {
    let mut body = sent(id(1, 4), true).stamp.body();
    body[30] ^= 1;
    let (mut oracle, messages) = ten();
    let mut contents = all(&messages);
    contents[4] = Found::new(b"1.4", &body, false);
    oracle.recovered(QUEUE, &contents);
    assert_eq!(only(&oracle), (DefectKind::Altered, 1));

    let (mut oracle, _) = ten();
    contents[4] = Found::new(b"\xff", &body, false);
    oracle.recovered(QUEUE, &contents);
    // The one that it was is missing as well.
    assert_eq!(oracle.defects().count(DefectKind::Altered), 1);
    assert_eq!(oracle.defects().count(DefectKind::Lost), 1);
}

#[test]
fn a_whole_body_of_another_message_or_another_length_is_altered() {
    let (mut oracle, messages) = ten();
    let mut contents = all(&messages);
    contents[4].label = Some(id(1, 5));
    oracle.recovered(QUEUE, &contents);
    assert_eq!(only(&oracle), (DefectKind::Altered, 1));

    let (mut oracle, messages) = ten();
    let mut contents = all(&messages);
    let mut longer = sent(id(1, 4), true).stamp;
    longer.length += 1;
    contents[4].content = Ok(longer);
    oracle.recovered(QUEUE, &contents);
    assert_eq!(only(&oracle), (DefectKind::Altered, 1));
}

#[test]
fn an_altered_body_is_found_when_it_is_handed_out_too() {
    let (mut oracle, _) = ten();
    let mut body = sent(id(1, 0), true).stamp.body();
    body.pop();
    let cut = Found::new(b"1.0", &body, false);
    assert_eq!(oracle.handed_out(CONSUMER, QUEUE, &cut), Some(id(1, 0)));
    assert_eq!(only(&oracle), (DefectKind::Altered, 1));
}

#[test]
fn a_message_that_is_there_twice_is_duplicated() {
    let (mut oracle, messages) = ten();
    let mut contents = all(&messages);
    contents.push(flagged(messages[9]));
    oracle.recovered(QUEUE, &contents);
    assert_eq!(only(&oracle), (DefectKind::Duplicated, 1));
}

#[test]
fn a_second_hand_out_needs_the_flag() {
    let (mut oracle, messages) = ten();
    assert_eq!(oracle.handed_out(CONSUMER, QUEUE, &found(messages[0])), Some(messages[0]));
    oracle.handed_out(CONSUMER, QUEUE, &flagged(messages[0]));
    nothing_wrong(&oracle);
    oracle.handed_out(CONSUMER, QUEUE, &found(messages[0]));
    assert_eq!(only(&oracle), (DefectKind::Duplicated, 1));
}

#[test]
fn after_a_restart_the_flag_is_needed_if_the_hand_out_was_settled() {
    for settled in [false, true] {
        let (mut oracle, messages) = ten();
        oracle.handed_out(CONSUMER, QUEUE, &found(messages[0]));
        if settled {
            oracle.settled(QUEUE, &[], &messages[..1]);
        }
        oracle.recovered(QUEUE, &all(&messages));
        if settled {
            assert_eq!(only(&oracle), (DefectKind::Duplicated, 1));
        } else {
            nothing_wrong(&oracle);
        }
    }
}

#[test]
fn a_flag_that_was_there_stays() {
    let (mut oracle, messages) = ten();
    let mut contents = all(&messages);
    contents[3].redelivered = true;
    oracle.recovered(QUEUE, &contents);
    nothing_wrong(&oracle);
    oracle.recovered(QUEUE, &all(&messages));
    assert_eq!(only(&oracle), (DefectKind::Duplicated, 1));
}

#[test]
fn another_order_within_a_publisher_is_found() {
    let (mut oracle, messages) = ten();
    let mut contents = all(&messages);
    contents.swap(3, 4);
    oracle.recovered(QUEUE, &contents);
    assert_eq!(only(&oracle), (DefectKind::Reordered, 1));

    let (mut oracle, messages) = ten();
    oracle.handed_out(CONSUMER, QUEUE, &found(messages[1]));
    oracle.handed_out(Consumer(1), QUEUE, &found(messages[0]));
    nothing_wrong(&oracle);
    oracle.handed_out(Consumer(1), QUEUE, &found(messages[3]));
    oracle.handed_out(Consumer(1), QUEUE, &found(messages[2]));
    assert_eq!(only(&oracle), (DefectKind::Reordered, 1));
}

#[test]
fn the_order_that_a_restart_has_shown_stays_across_publishers() {
    let mut oracle = Oracle::new(1);
    for identity in [id(1, 0), id(2, 0)] {
        oracle.published(sent(identity, true));
        oracle.confirmed(identity);
    }
    oracle.recovered(QUEUE, &[found(id(2, 0)), found(id(1, 0))]);
    nothing_wrong(&oracle);
    oracle.published(sent(id(2, 1), true));
    oracle.recovered(QUEUE, &[found(id(2, 0)), found(id(1, 0)), found(id(2, 1))]);
    nothing_wrong(&oracle);
    oracle.recovered(QUEUE, &[found(id(1, 0)), found(id(2, 0)), found(id(2, 1))]);
    assert_eq!(only(&oracle), (DefectKind::Reordered, 1));
}

#[test]
fn what_is_new_does_not_come_before_what_was_there() {
    let (mut oracle, messages) = ten();
    oracle.recovered(QUEUE, &all(&messages));
    oracle.published(sent(id(2, 0), true));
    let mut contents = all(&messages);
    contents.insert(9, found(id(2, 0)));
    oracle.recovered(QUEUE, &contents);
    assert_eq!(only(&oracle), (DefectKind::Reordered, 1));
}

#[test]
fn an_acknowledgement_may_be_lost_until_it_is_settled() {
    for settled in [false, true] {
        let (mut oracle, messages) = ten();
        oracle.acknowledged(QUEUE, messages[0]);
        if settled {
            oracle.settled(QUEUE, &messages[..1], &[]);
        }
        oracle.recovered(QUEUE, &all(&messages));
        if settled {
            assert_eq!(only(&oracle), (DefectKind::Resurrected, 1));
        } else {
            nothing_wrong(&oracle);
        }
    }
}

#[test]
fn an_acknowledged_message_is_not_handed_out_again_in_the_same_life() {
    let (mut oracle, messages) = ten();
    oracle.handed_out(CONSUMER, QUEUE, &found(messages[0]));
    oracle.acknowledged(QUEUE, messages[0]);
    oracle.handed_out(CONSUMER, QUEUE, &flagged(messages[0]));
    assert_eq!(only(&oracle), (DefectKind::Resurrected, 1));
}

#[test]
fn a_transient_message_does_not_outlive_its_life() {
    let mut oracle = Oracle::new(1);
    oracle.published(sent(id(1, 0), false));
    oracle.confirmed(id(1, 0));
    oracle.recovered(QUEUE, &[]);
    nothing_wrong(&oracle);
    oracle.recovered(QUEUE, &[found(id(1, 0))]);
    assert_eq!(only(&oracle), (DefectKind::Resurrected, 1));

    let mut oracle = Oracle::new(1);
    oracle.published(sent(id(1, 0), false));
    oracle.recovered(QUEUE, &[found(id(1, 0))]);
    assert_eq!(only(&oracle), (DefectKind::Resurrected, 1));
}

#[test]
fn what_nobody_published_here_is_found() {
    let (mut oracle, messages) = ten();
    let mut contents = all(&messages);
    contents.push(found(id(1, 10)));
    oracle.recovered(QUEUE, &contents);
    oracle.handed_out(CONSUMER, QUEUE, &found(id(7, 0)));
    oracle.recovered(OTHER, &all(&messages[..1]));
    assert_eq!(only(&oracle), (DefectKind::Unknown, 3));
}

#[test]
fn a_confirm_that_nobody_waits_for_is_found() {
    let (mut oracle, messages) = ten();
    oracle.confirmed(messages[0]);
    assert_eq!(only(&oracle), (DefectKind::Misbehaved, 1));
}

#[test]
fn all_defects_are_counted_and_the_first_are_kept() {
    let mut oracle = Oracle::new(1);
    for number in 0..5000 {
        oracle.published(sent(id(1, number), true));
    }
    oracle.confirmed_below(Publisher(1), 5000);
    oracle.recovered(QUEUE, &[]);
    assert_eq!(only(&oracle), (DefectKind::Lost, 5000));
    assert_eq!(oracle.defects().list().len(), 1000);
    assert!(oracle.defects().list()[999].text.contains("1.999"));
}
