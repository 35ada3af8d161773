//! `wheelport check`, the doctor: takes the steps of a request one by one and says what is wrong and what to do.
//!
//! It reads, it never publishes: the only things it creates are the cache directory and, for a moment, a file in it,
//! and the only message that it sends is a notice of the type `test`, where a webhook is configured.
//! A step that depends on a failed one is skipped, so that the first failure is the one to repair. Each step is a
//! function that returns a `Finding`; `doctor` has their order.

use std::io::Write as _;

use clap::{Args, ValueEnum};

use super::outcome::{CommandError, Ended};
use crate::config::{Overrides, Settings};
use wheelport_runtime::Clock;

mod advisories;
mod aws;
mod cache_dir;
mod certificates;
mod data_plane;
mod doctor;
mod events;
mod hints;
mod identities;
mod origins;
mod profile;
mod profile_files;

mod report;
mod repository;
mod store;
mod target;
#[cfg(test)]
mod tests;
mod upstreams;
mod webhook;

pub(super) use cache_dir::about;

use doctor::Doctor;
use report::Report;

#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    /// How the report looks
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: ReportFormat,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For a person.
    Human,
    /// For scripts.
    Json,
}

/// Runs the doctor and prints its report.
pub(super) async fn run(args: CheckArgs) -> Result<Ended, CommandError> {
    #[expect(clippy::disallowed_methods, reason = "looks at what the AWS SDK will read, to explain it")]
    let environment = |name: &str| std::env::var(name).ok();
    let report = match Settings::load(args.overrides) {
        Ok(settings) => Doctor::new(settings, &environment, Clock::system()).run().await,
        Err(error) => Report::of_bad_configuration(&error.to_string()),
    };
    let text = match args.format {
        ReportFormat::Human => report.human(),
        ReportFormat::Json => report.json() + "\n",
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CommandError::start)?;
    Ok(if report.ok { Ended::Well } else { Ended::Badly })
}
