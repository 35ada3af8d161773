//! `wheelport cache accept`: tells a running server that files whose bytes have changed are right.
//!
//! The server records it; this command only asks it to, through the listener for operations.

use clap::Args;

use super::operations::{Answer, Operations, limited_to};
use super::outcome::{CommandError, Ended};

/// Accept files whose bytes have changed in the repository, in a running server
///
/// Asks the server through its address for operations, whose /status lists what has changed. Accepts what the
/// repository lists now; a later change is a new one. The server records it with the reason. Ends
/// with exit code 1 if nothing has changed that could be accepted, and with 2 if the server cannot be asked.
#[derive(Debug, Args)]
pub(super) struct AcceptArgs {
    /// The project
    #[arg(value_name = "PROJECT")]
    project: String,
    /// The files [default: all changed files of the project]
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// Why the other bytes are right; it is recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so; it is recorded
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// The route that serves the repository
    #[arg(long, value_name = "NAME")]
    route: String,
    #[command(flatten)]
    at: Operations,
}

/// Asks for each file; ends badly if the server refuses one.
pub(super) async fn run(args: &AcceptArgs) -> Result<Ended, CommandError> {
    let wanted: Vec<Option<&str>> = match args.files.as_slice() {
        [] => vec![None],
        files => files.iter().map(|file| Some(file.as_str())).collect(),
    };
    let mut ended = Ended::Well;
    for file in wanted {
        let query = [
            ("route", Some(args.route.as_str())),
            ("project", Some(args.project.as_str())),
            ("reason", Some(args.reason.as_str())),
            ("file", file),
            ("by", args.by.as_deref()),
        ];
        match args.at.ask("/accept", &query).await? {
            Answer::Done(accepted) => {
                for file in accepted["accepted"].as_array().into_iter().flatten() {
                    let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
                    println!("accepted: {}, {} (was {})", text("file"), text("now"), text("was"));
                }
                if let Some(where_it_holds) = limited_to(&accepted["spread"]) {
                    println!("{where_it_holds}");
                }
            }
            Answer::No(why) => {
                println!("not accepted: {why}");
                ended = Ended::Badly;
            }
        }
    }
    Ok(ended)
}
