//! The process edge: arguments, telemetry, run mode and exit code.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use wheelport::cli::{self, Cli, Command, CommandError, Ended};
use wheelport::telemetry;
use wheelport_runtime::Tasks;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::FAILURE,
        Err(error) => {
            // Our errors tell their cause in their own sentence.
            eprintln!("wheelport: {error}");
            ExitCode::from(error.downcast_ref::<CommandError>().map_or(1, CommandError::exit_code))
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<Ended> {
    // Two TLS providers in one process would fail at the first connection, so one is chosen before anything connects.
    let chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(chosen.is_ok(), "nothing has chosen a provider before");
    let filter = cli.logging.log.as_deref().unwrap_or(default_filter(&cli.command));
    let _flush = telemetry::start(cli.logging.log_format, filter).map_err(CommandError::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")?;
    Ok(runtime.block_on(run(cli.command))?)
}

/// Servers log what they do; other commands print their result and log only trouble.
fn default_filter(command: &Command) -> &'static str {
    match command {
        Command::Serve(_) | Command::Emulate(_) => "info",
        Command::Demo(_) | Command::Cache(_) | Command::Generate(_) | Command::IamPolicy(_) => "warn",
        // Everything they meet is in their report.
        Command::Check(_) | Command::Healthcheck(_) => "off",
    }
}

async fn run(command: Command) -> Result<Ended, CommandError> {
    match command {
        Command::Serve(args) => Box::pin(cli::serve::run(*args)).await,
        Command::Demo(args) => Box::pin(cli::demo::run(args)).await,
        Command::Check(args) => Box::pin(cli::check::run(*args)).await,
        Command::Emulate(args) => {
            Box::pin(cli::emulate::run(*args, Tasks::new())).await.map(|()| Ended::Well).map_err(CommandError::start)
        }
        Command::Cache(args) => cli::cache::run(&args),
        Command::IamPolicy(args) => cli::iam_policy::run(&args),
        Command::Healthcheck(args) => cli::healthcheck::run(args).await,
        Command::Generate(args) => cli::generate::run(&args),
    }
}
