//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to. A runtime that moves its tasks to whichever thread is idle wakes
//! threads that find nothing to do, and what a connection touches and frees is then in another processor's caches; measured
//! in docs/benchmarks.md. The price: two busy connections may share a thread while another is idle.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads that connections are spread over. Dropping it ends them, and what they serve, soon.
#[derive(Debug)]
pub(super) struct ConnectionThreads {
    threads: Vec<ConnectionThread>,
    handles: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Debug)]
struct ConnectionThread {
    runtime: Handle,
    /// How many connections it serves.
    connections: Arc<AtomicUsize>,
    /// Ends the thread when it is dropped.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

/// One connection of a thread, while it lasts.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionThreads {
    /// Starts so many threads, and one at least.
    pub(super) fn start(count: usize) -> io::Result<ConnectionThreads> {
        let (mut threads, mut handles) = (Vec::new(), Vec::new());
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (stop, stopped) = oneshot::channel();
            threads.push(ConnectionThread {
                runtime: runtime.handle().clone(),
                connections: Arc::default(),
                stop: Mutex::new(Some(stop)),
            });
            let body = move || {
                // Nothing is ever sent: the sender goes.
                runtime.block_on(stopped).ok();
            };
            handles
                .push(thread::Builder::new().name(format!("haypile-amqp-{number}")).spawn(body)?);
        }
        Ok(ConnectionThreads { threads, handles: Mutex::new(handles) })
    }

    /// Serves a connection on the thread that has fewest: with what `serve` makes there.
    pub(super) fn serve<F>(&self, serve: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        let connections = |thread: &&ConnectionThread| thread.connections.load(Ordering::Relaxed);
        let Some(thread) = self.threads.iter().min_by_key(connections) else { return };
        thread.connections.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&thread.connections));
        thread.runtime.spawn(async move {
            serve().await;
            drop(counted);
        });
    }

    /// Ends the threads, and whatever they still serve, and waits until they have gone.
    pub(super) async fn stop(&self) {
        self.threads.iter().for_each(|thread| drop(thread.stop.lock().take()));
        let handles = std::mem::take(&mut *self.handles.lock());
        let joined = tokio::task::spawn_blocking(move || {
            handles.into_iter().filter_map(|handle| handle.join().err()).count()
        });
        if joined.await.is_ok_and(|panicked| panicked > 0) {
            tracing::error!("a thread that served connections has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::ThreadId;

    use super::*;

    /// Where a connection is served that lasts until `end` is dropped.
    fn serve(threads: &ConnectionThreads, end: oneshot::Receiver<()>) -> ThreadId {
        let (told, place) = mpsc::channel();
        threads.serve(move || async move {
            told.send(thread::current().id()).unwrap();
            end.await.ok();
        });
        place.recv().unwrap()
    }

    #[tokio::test]
    async fn a_connection_goes_to_the_thread_that_has_fewest() {
        let threads = ConnectionThreads::start(2).unwrap();
        let (ends, mut waits): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
        let first = serve(&threads, waits.remove(0));
        let second = serve(&threads, waits.remove(0));
        assert_ne!(first, second);
        drop(ends);
        // Both have ended as soon as their threads have nothing left.
        while threads.threads.iter().any(|one| one.connections.load(Ordering::Relaxed) > 0) {
            tokio::task::yield_now().await;
        }
        let (_end, wait) = oneshot::channel();
        assert_eq!(serve(&threads, wait), first);
        let (_end, wait) = oneshot::channel();
        assert_eq!(serve(&threads, wait), second);
        threads.stop().await;
    }

    #[tokio::test]
    async fn stopping_ends_what_is_still_served() {
        struct Gone(mpsc::Sender<()>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (sender, receiver) = mpsc::channel();
        let threads = ConnectionThreads::start(1).unwrap();
        let gone = Gone(sender);
        threads.serve(move || async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        });
        threads.stop().await;
        receiver.try_recv().unwrap();
    }
}
