//! The process edge: arguments, telemetry, the asynchronous runtime and the exit code.

use std::process::ExitCode;

use crate::cli::{self, Cli, CommandError, Ended};
use crate::telemetry;
use anyhow::Context as _;

/// Does what the command line says.
pub fn run() -> ExitCode {
    wheelport_runtime::return_free_memory();
    match start(Cli::read()) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::FAILURE,
        Err(error) => {
            // Our errors name their cause in their own sentence.
            eprintln!("wheelport: {error}");
            ExitCode::from(error.downcast_ref::<CommandError>().map_or(1, CommandError::exit_code))
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<Ended> {
    // Two TLS providers in one process would fail at the first connection, so one is chosen before anything connects.
    let chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(chosen.is_ok(), "this is the only place that chooses a provider");
    let _flush = telemetry::start(cli.log_format(), cli.log_filter()).map_err(CommandError::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")?;
    Ok(runtime.block_on(cli::run(cli))?)
}
