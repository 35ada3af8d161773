//! `wheelport identity test`: who a token is for this configuration, and what it may do. Never prints the token.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use secrecy::zeroize::Zeroizing;

use super::outcome::{CommandError, Ended};
use crate::app::identities_of;
use crate::config::{Overrides, Settings};
use crate::identity::{Identity, IdentityKind, NotSettled};
use crate::upstream::ClientError;
use wheelport_runtime::{Clock, Tasks};

/// Look at identities
#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    #[command(subcommand)]
    command: IdentityCommand,
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Say which rules fit the token in a file, and what they grant
    ///
    /// Ends with exit code 1 if the token is good for nothing here, and with 2 if that cannot be found out.
    Test(Box<IdentityTestArgs>),
}

#[derive(Debug, Args)]
struct IdentityTestArgs {
    /// A file that holds an ID token, a static token or a minted one; `-` reads standard input
    #[arg(value_name = "TOKEN-FILE")]
    token_file: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, thiserror::Error)]
enum IdentityTestError {
    #[error("{path} cannot be read: {source}", path = path.display())]
    Token { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("nothing can be said of this token: {0}")]
    Unsettled(String),
}

pub(super) async fn run(args: IdentityArgs) -> Result<Ended, CommandError> {
    let IdentityCommand::Test(args) = args.command;
    let settings = Settings::load(args.overrides).map_err(CommandError::usage)?;
    let token = read(&args.token_file)
        .map_err(|source| CommandError::usage(IdentityTestError::Token { path: args.token_file.clone(), source }))?;
    let token = Zeroizing::new(token.trim().to_owned());
    let tasks = Tasks::new();
    let identities = identities_of(&settings, Clock::system(), &tasks)
        .map_err(|error| CommandError::usage(IdentityTestError::from(error)))?;
    let found = identities.identify(token.as_bytes()).await;
    tasks.stop();
    let (text, ended) = match &found {
        Ok(identity) => (granted(identity, &identities.fitting_rules(&token)), Ended::Well),
        Err(NotSettled::Fault(fault)) => (format!("This token is of no use here: {fault}.\n"), Ended::Badly),
        Err(error) => return Err(CommandError::unanswered(IdentityTestError::Unsettled(error.to_string()))),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CommandError::start)?;
    Ok(ended)
}

/// The text of a file, or of standard input.
pub(super) fn read(path: &PathBuf) -> std::io::Result<Zeroizing<String>> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin().lock())?
    } else {
        std::fs::read_to_string(path)?
    };
    Ok(Zeroizing::new(text))
}

fn granted(identity: &Identity, rules: &[String]) -> String {
    let mut text = format!("identity: {}\nkind: {}\n", identity.name, identity.kind.as_str());
    for rule in rules {
        text.extend(["rule: ", rule, "\n"]);
    }
    if identity.kind == IdentityKind::IdToken && rules.is_empty() {
        text.push_str("rule: none fits; the token is good, and its bearer may do nothing\n");
    }
    for line in identity.grants.describe() {
        text.extend([&line, "\n"]);
    }
    text
}
