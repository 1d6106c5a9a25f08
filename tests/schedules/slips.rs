//! Each rule of the protocol, broken on purpose, is noticed. What would not be noticed is not tested.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::rig::explore;
use super::{failing, segments, stopping, waiting};
use crate::storage::sync::{Slip, with_broken};

/// What the scheduler, or a check, has to say about a broken rule.
fn complaint(slip: Slip, scenario: fn()) -> String {
    let run = || with_broken(slip, || explore("", scenario));
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else {
        panic!("{slip:?} is not noticed");
    };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn assert_noticed(slip: Slip, scenario: fn(), by: &str) {
    let complaint = complaint(slip, scenario);
    assert!(complaint.contains(by), "{slip:?}: {complaint}");
}

#[test]
fn an_lsn_that_is_durable_before_its_sync_is_noticed() {
    let by = "was reported durable before it was synced";
    assert_noticed(Slip::DurableBeforeSync, waiting::asked_for, by);
}

#[test]
fn a_waiter_that_slips_through_is_noticed() {
    assert_noticed(Slip::AskBeforeLock, waiting::asked_for, "deadlock");
}

#[test]
fn a_thread_that_listens_too_late_is_noticed() {
    assert_noticed(Slip::AskBeforeListening, waiting::asked_for, "deadlock");
}

#[test]
fn a_writer_that_sleeps_through_its_work_is_noticed() {
    assert_noticed(Slip::SleepUnannounced, waiting::asked_for, "deadlock");
}

#[test]
fn a_waiter_who_comes_while_a_failure_is_told_and_hears_nothing_is_noticed() {
    assert_noticed(Slip::TellBeforeFailed, failing::first_sync, "deadlock");
}

#[test]
fn a_log_that_stops_too_early_is_noticed() {
    assert_noticed(Slip::StopBeforeWritten, stopping::while_publishing, "deadlock");
}

#[test]
fn a_file_that_comes_back_in_silence_is_noticed() {
    assert_noticed(Slip::RecycledUntold, segments::room_comes_later, "deadlock");
}

#[test]
fn a_segment_that_is_made_ready_in_silence_is_noticed() {
    assert_noticed(Slip::ReadyUntold, segments::one_after_the_other, "deadlock");
}
