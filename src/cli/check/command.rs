//! The arguments of `wheelport check`, and its way from settings to a report.

use std::io::Write as _;

use clap::Args;

use super::{CacheTarget, CheckTarget, Doctor, Report};
use crate::cli::serve::ServeArgs;
use crate::cli::{CommandError, Ended};
use crate::config::{RouteSettings, Settings};
use crate::runtime::Clock;
use crate::web::guard::UploadPolicy;

/// Arguments of `check`: those of `serve`, and how to report.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// How the findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: ReportFormat,
    /// What to look at.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Human,
    /// For scripts.
    Json,
}

/// Looks at everything that `serve` with the same arguments would need; 1 if something failed.
pub async fn run(args: CheckArgs) -> Result<Ended, CommandError> {
    let report = match Settings::load(args.serve.overrides()) {
        Ok(settings) => examine(settings).await,
        Err(error) => Report::of_bad_configuration(&error.to_string()),
    };
    let text = match args.format {
        ReportFormat::Human => report.human(),
        ReportFormat::Json => report.json() + "\n",
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CommandError::start)?;
    Ok(if report.ok { Ended::Well } else { Ended::Badly })
}

async fn examine(settings: Settings) -> Report {
    #[expect(
        clippy::disallowed_methods,
        reason = "the doctor explains what the AWS SDK makes of the environment"
    )]
    let environment = |name: &str| std::env::var(name).ok();
    let doctor = Doctor {
        targets: settings.routes.into_iter().map(target).collect(),
        cache: CacheTarget { dir: settings.cache_dir, max_size: settings.cache.max_size.bytes() },
        upstream: settings.upstream,
        environment: &environment,
        clock: Clock::system(),
    };
    doctor.run().await
}

fn target(route: RouteSettings) -> CheckTarget {
    CheckTarget {
        route: route.name.as_ref().to_owned(),
        domain: route.domain,
        owner: route.domain_owner,
        repository: route.repository,
        aws: route.aws,
        upload: route.upload != UploadPolicy::Off,
        endpoint: route.endpoint,
    }
}
