//! The store's threads: upkeep, the log's writer, and the one that makes segments ready.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::options::Background;
use super::store::Shared;

/// The store's threads; they end with the last clone of the store.
#[derive(Debug)]
pub(super) struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
}

impl Threads {
    pub(super) fn start(shared: &Arc<Shared>) -> Threads {
        let handles = match shared.background {
            Background::Caller => Vec::new(),
            Background::Threads => {
                let weak = Arc::downgrade(shared);
                let wake_upkeep = move || {
                    if let Some(shared) = weak.upgrade() {
                        shared.upkeep.wake();
                    }
                };
                shared.log.on_new_segment(Box::new(wake_upkeep.clone()));
                shared.pool.on_room_change(Arc::new(wake_upkeep));
                shared.log.set_unattended(false);
                // In the order in which they end: each of them may wait for the next one's work.
                vec![
                    spawn("haypile-upkeep", shared, |shared| {
                        shared.run_upkeep().map_err(|e| e.to_string())
                    }),
                    spawn("haypile-log", shared, |shared| {
                        shared.log.run().map_err(|e| e.to_string())
                    }),
                    spawn("haypile-segments", shared, |shared| {
                        shared.pool.run().map_err(|e| e.to_string())
                    }),
                ]
            }
        };
        Threads {
            shared: shared.clone(),
            handles: Mutex::new(handles),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn stop(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let handles = std::mem::take(&mut *self.handles.lock());
        let own = |handle: &JoinHandle<()>| handle.thread().id() == thread::current().id();
        if handles.iter().any(own) {
            // The last clone was dropped by a callback: the log's thread cannot wait for its own end.
            let shared = self.shared.clone();
            thread::spawn(move || shared.end(handles));
        } else {
            self.shared.end(handles);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a thread whose failure, or panic, is the log's failure.
fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    body: fn(&Shared) -> Result<(), String>,
) -> JoinHandle<()> {
    let shared = shared.clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| body(&shared)));
            let reason = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => reason,
                Err(_) => format!("the thread {name} panicked"),
            };
            shared.log.fail(&reason);
        })
        .expect("the system has room for a thread")
}

impl Shared {
    /// Ends the threads, in order, when everything has been written for which there is room.
    fn end(&self, handles: Vec<JoinHandle<()>>) {
        self.pool.close();
        if self.log.check().is_err() {
            self.pool.stop(); // The log may wait for a segment that there is no room for.
        }
        let stop: [fn(&Shared); 3] = [
            |shared| shared.upkeep.stop(),
            |shared| shared.log.stop(),
            |shared| shared.pool.stop(),
        ];
        let mut handles = handles.into_iter();
        for stop in stop {
            stop(self);
            if handles.next().is_some_and(|handle| handle.join().is_err()) {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}
