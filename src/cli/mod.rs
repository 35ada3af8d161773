//! The command line: one file per command. Parses arguments and environment, calls the composition root, prints.
//!
//! The argument parser is one of the two readers of the environment (the AWS SDK is the other).

use clap::{Args, Parser, Subcommand};

use crate::telemetry::LogFormat;

pub mod cache;
pub mod check;
pub mod demo;
pub mod emulate;
pub mod generate;
pub mod healthcheck;
pub mod iam_policy;
pub mod public_index;
pub mod serve;
pub mod signals;

/// A credential-free Python package index and upload target in front of AWS CodeArtifact.
#[derive(Debug, Parser)]
#[command(name = "wheelport", version, about, propagate_version = true)]
pub struct Cli {
    /// How logs look.
    #[command(flatten)]
    pub logging: Logging,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Logging options of every command.
#[derive(Debug, Args)]
pub struct Logging {
    /// What is logged: a level (error, warn, info, debug, trace), or levels by module as in `wheelport::flow=debug,info`
    #[arg(long, global = true, value_name = "FILTER", env = "WHEELPORT_LOG")]
    pub log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "WHEELPORT_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve CodeArtifact repositories
    Serve(Box<serve::ServeArgs>),
    /// Try everything without AWS: the proxy and an emulator with sample packages, on loopback
    Demo(demo::DemoArgs),
    /// Find out what is wrong with configuration, credentials, permissions, network and cache directory
    Check(Box<check::CheckArgs>),
    /// Emulate CodeArtifact alone, for tests and for trying SDKs, Terraform and CI jobs
    Emulate(Box<emulate::Args>),
    /// Look at, verify or empty a cache directory
    Cache(cache::CacheArgs),
    /// Print the least that AWS has to allow, as a policy to attach
    IamPolicy(iam_policy::IamPolicyArgs),
    /// Ask a running server how it is: exit code 0 if well, else 1; for container engines
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Make shell completions and man pages
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

/// How a command ended; becomes the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// 0
    Well,
    /// 1: it ran and found or met something wrong.
    Badly,
}

/// Why a command did not run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Exit code 2: arguments or configuration.
    #[error(transparent)]
    Usage(Box<dyn std::error::Error + Send + Sync>),
    /// Exit code 1: it could not start.
    #[error(transparent)]
    Start(Box<dyn std::error::Error + Send + Sync>),
}

impl CommandError {
    /// An error of arguments or configuration.
    pub fn usage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Usage(Box::new(error))
    }

    /// A failure to start.
    pub fn start(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Start(Box::new(error))
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Start(_) => 1,
        }
    }
}
