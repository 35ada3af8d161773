//! `wheelport serve`: the proxy.

use std::io::Write as _;

use super::outcome::{CommandError, Ended};
use super::signals;
use crate::app::{App, forbid_core_dumps};
use crate::config::{Overrides, Settings};
use wheelport_runtime::{Clock, Tasks};

/// Runs the proxy until a signal.
pub(super) async fn run(overrides: Overrides) -> Result<Ended, CommandError> {
    forbid_core_dumps();
    let settings = Settings::load(overrides).map_err(CommandError::usage)?;
    let stop = signals::until_stopped().map_err(CommandError::start)?;
    let tasks = Tasks::new();
    let app = Box::pin(App::start(settings, Clock::system(), tasks)).await.map_err(CommandError::start)?;
    announce(&app);
    Ok(if app.run(stop).await { Ended::Well } else { Ended::Badly })
}

/// Says where the proxy listens: on standard output for people and scripts, and in the log.
fn announce(app: &App) {
    let mut out = std::io::stdout().lock();
    for address in &app.addresses {
        let _ = writeln!(out, "wheelport listens on {}://{address}", app.scheme);
        tracing::info!(%address, "listening");
    }
    if let Some(address) = app.ops_address {
        let _ = writeln!(out, "wheelport operations on http://{address}");
        tracing::info!(%address, "listening for operations");
    }
    let _ = out.flush();
}
