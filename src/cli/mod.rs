//! The command line: one file per command. Parses arguments and environment, calls the composition root, prints.
//!
//! The argument parser is one of the two readers of the environment (the AWS SDK is the other). [`run`] is the one way
//! into every command. The doc comments of arguments and commands are their help texts.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::Overrides;
use crate::fleet::RedisAddress;
use crate::telemetry::LogFormat;
use wheelport_runtime::sabotaged;

mod accept;
mod audit;
mod cache;
mod check;
mod demo;
mod demo_certificate;
mod emulate;
mod exception;
mod generate;
mod healthcheck;
mod iam_policy;
mod identity;
mod operations;
mod outcome;
mod plain_http;
mod policy;
mod public_index;
mod serve;
mod signals;
mod token;
mod unverified_tls;
mod usage;
mod warm;
mod why;

pub use outcome::{CommandError, Ended};

/// The argument that may hold no password.
const REDIS_FLAG: &str = "fleet_redis";

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
    /// Look at, verify or empty a cache directory, accept files that have changed, or fetch what a lock file names
    Cache(cache::CacheArgs),
    /// Lift rules in a running server for a while
    Exception(exception::ExceptionArgs),
    Why(why::WhyArgs),
    Usage(usage::UsageArgs),
    Audit(audit::AuditArgs),
    /// Try rules before they are in force
    Policy(policy::PolicyArgs),
    /// Print the least that AWS has to allow, as a policy to attach
    IamPolicy(iam_policy::IamPolicyArgs),
    /// Find out who a token is, and what it may do
    Identity(identity::IdentityArgs),
    /// Exchange a token at a server for one that is good for fifteen minutes
    Token(token::TokenArgs),
    /// Check a running server, for container engines: exit code 0 if it is healthy, else 1
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Generate shell completions and man pages
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Cli {
    /// Reads the arguments of the process; ends it with a message where they are wrong.
    pub fn read() -> Self {
        let matches = Self::command().get_matches();
        Self::from_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// A secret in an argument is in everyone's list of processes, so an address of Redis that holds one has to come
    /// from elsewhere.
    fn from_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let command = matches.subcommand().map(|(_, matches)| matches);
        let address =
            command.and_then(|of| of.try_get_one::<RedisAddress>(REDIS_FLAG).ok().flatten().map(|it| (of, it)));
        if let Some((of, address)) = address
            && of.value_source(REDIS_FLAG) == Some(ValueSource::CommandLine)
            && address.has_password()
            && !sabotaged("redis-password")
        {
            let message = "--fleet-redis holds a password, which every user of this machine can see; \
                           put the address into WHEELPORT_FLEET_REDIS or into the configuration file\n";
            return Err(Self::command().error(ErrorKind::ValueValidation, message));
        }
        Self::from_arg_matches(matches)
    }

    /// What is logged: servers log what they do; other commands print their result and log only what goes wrong.
    pub fn log_filter(&self) -> &str {
        let default = match &self.command {
            Command::Serve(_) | Command::Emulate(_) => "info",
            Command::Demo(_)
            | Command::Cache(_)
            | Command::Exception(_)
            | Command::Why(_)
            | Command::Usage(_)
            | Command::Audit(_)
            | Command::Policy(_)
            | Command::Generate(_)
            | Command::IamPolicy(_)
            | Command::Token(_) => "warn",
            // Their report contains everything they find.
            Command::Check(_) | Command::Healthcheck(_) | Command::Identity(_) => "off",
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
        Command::Usage(args) => usage::run(&args).await,
        Command::Audit(args) => audit::run(&args).await,
        Command::Policy(args) => policy::run(&args).await,
        Command::IamPolicy(args) => iam_policy::run(&args),
        Command::Token(args) => Box::pin(token::run(args)).await,
        Command::Identity(args) => Box::pin(identity::run(args)).await,
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Generate(args) => generate::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_for_redis_is_no_argument() {
        let read = |address: &str| {
            let arguments = ["wheelport", "serve", "--fleet-redis", address];
            Cli::from_matches(&Cli::command().try_get_matches_from(arguments).expect("arguments"))
        };
        assert!(read("rediss://cache.internal:6379").is_ok());
        assert!(read("rediss://user@cache.internal:6379").is_ok());
        let refused = read("rediss://:hunter2@cache.internal:6379").expect_err("a password").to_string();
        assert!(refused.contains("WHEELPORT_FLEET_REDIS") && !refused.contains("hunter2"), "{refused}");
        let other = Cli::command().try_get_matches_from(["wheelport", "generate", "man"]);
        assert!(other.is_ok_and(|matches| Cli::from_matches(&matches).is_ok()), "commands without the flag");
    }
}
