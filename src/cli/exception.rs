//! `wheelport exception`: lifts rules in a running server for a while. The server records it.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::operations::{Answer, Operations, limited_to};
use super::outcome::{CommandError, Ended};

#[derive(Debug, Args)]
pub(super) struct ExceptionArgs {
    #[command(subcommand)]
    action: ExceptionAction,
}

#[derive(Debug, Subcommand)]
enum ExceptionAction {
    Add(AddArgs),
    /// List the exceptions that were granted in a running server
    List {
        #[command(flatten)]
        at: Operations,
    },
    /// Take an exception back; exit code 1 if there is none of this id
    Remove {
        /// Its id, as `exception list` shows it
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        at: Operations,
    },
}

/// Lift the rules for a project, or for versions of it, until a moment
///
/// Asks a running server through its address for operations. The exception holds for the next request and outlives a
/// restart. It does not lift the guard of private names. Ends with exit code 2 if the server cannot be asked or
/// does not take it.
#[derive(Debug, Args)]
struct AddArgs {
    /// The project, or a glob over normalised names
    #[arg(value_name = "PROJECT")]
    project: String,
    /// The versions, such as "==2.6.3" [default: all]
    #[arg(long, value_name = "VERSIONS")]
    versions: Option<String>,
    /// The advisory of malware that is lifted too, such as MAL-2026-1; nothing else lifts it
    #[arg(long, value_name = "ID")]
    advisory: Option<String>,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so; it is recorded
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Until when: a time, or a date, whose day is included
    #[arg(long, value_name = "DATE")]
    expires: String,
    #[command(flatten)]
    at: Operations,
}

pub(super) async fn run(args: &ExceptionArgs) -> Result<Ended, CommandError> {
    match &args.action {
        ExceptionAction::Add(new) => {
            let query = [
                ("project", Some(new.project.as_str())),
                ("versions", new.versions.as_deref()),
                ("advisory", new.advisory.as_deref()),
                ("reason", Some(new.reason.as_str())),
                ("by", Some(new.by.as_str())),
                ("expires", Some(new.expires.as_str())),
            ];
            Ok(report("granted", &new.at.ask("/exceptions", &query).await?))
        }
        ExceptionAction::Remove { id, at } => {
            Ok(report("taken back", &at.ask("/exceptions/remove", &[("id", Some(id.as_str()))]).await?))
        }
        ExceptionAction::List { at } => {
            let listed = at.find_out("GET", "/exceptions", &[], "").await?;
            for exception in listed["exceptions"].as_array().into_iter().flatten() {
                println!("{}", line(exception));
            }
            Ok(Ended::Well)
        }
    }
}

fn report(what: &str, answer: &Answer) -> Ended {
    match answer {
        Answer::Done(done) => {
            println!("{what}: {}", line(&done["exception"]));
            if let Some(where_it_holds) = limited_to(&done["spread"]) {
                println!("{where_it_holds}");
            }
            Ended::Well
        }
        Answer::No(why) => {
            println!("refused: {why}");
            Ended::Badly
        }
    }
}

fn line(exception: &Value) -> String {
    let text = |key: &str| exception[key].as_str().unwrap_or_default();
    let end = if exception["holds"].as_bool().unwrap_or(true) { "until" } else { "expired" };
    let (id, project, versions) = (text("id"), text("project"), text("versions"));
    let advisory = exception["advisory"].as_str().map(|advisory| format!(", lifts {advisory}")).unwrap_or_default();
    format!("{id} {project}{versions} {end} {}: {} ({}{advisory})", text("expires"), text("reason"), text("by"))
}
