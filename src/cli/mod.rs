//! The command line: one file per command. Parses arguments and environment, calls the composition root, prints.
//!
//! The argument parser is one of the two readers of the environment (the AWS SDK is the other). [`run`] is the one way
//! into every command. The doc comments of arguments and commands are their help texts.

use clap::{Args, Parser, Subcommand};

use crate::config::Overrides;
use crate::telemetry::LogFormat;

mod accept;
mod cache;
mod check;
mod demo;
mod demo_certificate;
mod emulate;
mod exception;
mod generate;
mod healthcheck;
mod iam_policy;
mod operations;
mod outcome;
mod plain_http;
mod policy;
mod public_index;
mod serve;
mod signals;
mod unverified_tls;
mod why;

pub use outcome::{CommandError, Ended};

/// A credential-free Python package index and upload target in front of AWS CodeArtifact.
#[derive(Debug, Parser)]
#[command(name = "wheelport", version, about, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Logging {
    /// What is logged: a level (error, warn, info, debug, trace), or levels by module as in
    /// `wheelport::flow=debug,info`
    #[arg(long, global = true, value_name = "FILTER", env = "WHEELPORT_LOG")]
    log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "WHEELPORT_LOG_FORMAT", default_value = "auto")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve CodeArtifact repositories
    Serve(Box<Overrides>),
    /// Try everything without AWS: the proxy and an emulator with sample packages, on loopback
    Demo(demo::DemoArgs),
    /// Find out what is wrong with configuration, credentials, permissions, network and cache directory
    Check(Box<check::CheckArgs>),
    /// Emulate CodeArtifact alone, for tests and for trying SDKs, Terraform and CI jobs
    Emulate(Box<emulate::EmulateArgs>),
    /// Look at, verify or empty a cache directory, or accept files that have changed
    Cache(cache::CacheArgs),
    /// Lift rules in a running server for a while
    Exception(exception::ExceptionArgs),
    Why(why::WhyArgs),
    /// Try rules before they are in force
    Policy(policy::PolicyArgs),
    /// Print the least that AWS has to allow, as a policy to attach
    IamPolicy(iam_policy::IamPolicyArgs),
    /// Check a running server, for container engines: exit code 0 if it is healthy, else 1
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Generate shell completions and man pages
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Cli {
    /// What is logged: servers log what they do; other commands print their result and log only what goes wrong.
    pub fn log_filter(&self) -> &str {
        let default = match &self.command {
            Command::Serve(_) | Command::Emulate(_) => "info",
            Command::Demo(_)
            | Command::Cache(_)
            | Command::Exception(_)
            | Command::Why(_)
            | Command::Policy(_)
            | Command::Generate(_)
            | Command::IamPolicy(_) => "warn",
            // Their report contains everything they find.
            Command::Check(_) | Command::Healthcheck(_) => "off",
        };
        self.logging.log.as_deref().unwrap_or(default)
    }

    /// How log lines look.
    pub fn log_format(&self) -> LogFormat {
        self.logging.log_format
    }
}

/// Runs the command until it ends by itself or a signal ends it.
pub async fn run(cli: Cli) -> Result<Ended, CommandError> {
    match cli.command {
        Command::Serve(overrides) => Box::pin(serve::run(*overrides)).await,
        Command::Demo(args) => Box::pin(demo::run(args)).await,
        Command::Check(args) => Box::pin(check::run(*args)).await,
        Command::Emulate(args) => Box::pin(emulate::run(*args)).await.map_err(CommandError::start),
        Command::Cache(args) => cache::run(&args).await,
        Command::Exception(args) => exception::run(&args).await,
        Command::Why(args) => why::run(&args).await,
        Command::Policy(args) => policy::run(&args).await,
        Command::IamPolicy(args) => iam_policy::run(&args),
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Generate(args) => generate::run(&args),
    }
}
