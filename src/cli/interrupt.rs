//! SIGINT and SIGTERM: the first asks for a clean end, the second is one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a process that was interrupted, as shells count it.
const INTERRUPTED: i32 = 130;

/// What is set when the process is to end.
pub(super) fn watch() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        let interrupt = signal(SignalKind::interrupt())?;
        (interrupt, signal(SignalKind::terminate())?)
    };
    let set = flag.clone();
    thread::spawn(move || {
        runtime.block_on(async {
            for wanted in [false, true] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if wanted {
                    std::process::exit(INTERRUPTED);
                }
                set.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(flag)
}
