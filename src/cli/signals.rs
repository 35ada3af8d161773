//! The signals that end the process: SIGTERM from orchestrators, SIGINT from people.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the first signal. A second one ends the process at once, for people who are in a hurry.
pub fn until_stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // A thread of the runtime that outlives the drain; there is nothing to join.
        #[expect(clippy::disallowed_methods, reason = "it ends the process and cannot be awaited by anybody")]
        drop(tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        }));
    })
}
