//! `wheelport cache accept`: tells a running server that files whose bytes have changed are right.
//!
//! The server records it; this command only asks it to, through the listener for operations.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use url::Url;

use super::operations::OperationsArgs;
use super::outcome::{CommandError, Ended};
use super::plain_http::{PlainUrl, reachable};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Accept files whose bytes have changed in the repository, in a running server
///
/// Asks the server through its address for operations, whose /status lists what has changed. Accepts what the
/// repository lists now; a later change is a new one. The server records it with the reason.
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
    #[command(flatten)]
    server: OperationsArgs,
}

#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error("http://{at} does not respond: {reason}; is the server running, and is this its address for operations?")]
    Unreachable { at: SocketAddr, reason: String },
}

/// Asks for each file; ends badly if the server refuses one.
pub(super) async fn run(args: &AcceptArgs) -> Result<Ended, CommandError> {
    let secret = args.server.secret()?;
    let secret = secret.as_deref();
    let wanted: Vec<Option<&str>> = match args.files.as_slice() {
        [] => vec![None],
        files => files.iter().map(|file| Some(file.as_str())).collect(),
    };
    let mut ended = Ended::Well;
    for file in wanted {
        let response = ask(args, file, secret).await.map_err(CommandError::start)?;
        if !report(&response) {
            ended = Ended::Badly;
        }
    }
    Ok(ended)
}

async fn ask(args: &AcceptArgs, file: Option<&str>, secret: Option<&str>) -> Result<String, AcceptError> {
    let at = reachable(args.server.ops_listen);
    let mut url = Url::parse(&format!("http://{at}/accept")).expect("an address and a fixed path are a URL");
    url.query_pairs_mut()
        .append_pair("route", &args.server.route)
        .append_pair("project", &args.project)
        .append_pair("reason", &args.reason)
        .extend_pairs(file.map(|file| ("file", file)))
        .extend_pairs(args.by.as_deref().map(|by| ("by", by)));
    let target = PlainUrl::of(&url, &["http"]).expect("a plain URL");
    let asking = tokio::time::timeout(TIMEOUT, target.request("POST", "wheelport-cache-accept", secret));
    match asking.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(AcceptError::Unreachable { at, reason: error.to_string() }),
        Err(_) => Err(AcceptError::Unreachable { at, reason: format!("nothing within {} s", TIMEOUT.as_secs()) }),
    }
}

/// Prints what the server says. Returns whether it accepted something.
fn report(response: &str) -> bool {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    let status = head.split("\r\n").next().unwrap_or_default();
    let accepted = serde_json::from_str::<Value>(body).ok();
    let accepted = accepted.as_ref().and_then(|body| body["accepted"].as_array());
    let Some(accepted) = accepted.filter(|_| status.starts_with("HTTP/1.1 200")) else {
        println!("not accepted: {} ({status})", body.trim());
        return false;
    };
    for file in accepted {
        let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
        println!("accepted: {}, {} (was {})", text("file"), text("now"), text("was"));
    }
    true
}
