//! The signals that end the process: SIGTERM from orchestrators, SIGINT from people.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the first signal. A second one ends the process at once, for people who are in a hurry.
pub(super) fn until_stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Outlives the drain: without it a second signal would have no effect.
        #[expect(clippy::disallowed_methods, reason = "it ends the process, so nothing can join it")]
        drop(tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        }));
    })
}
