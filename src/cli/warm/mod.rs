//! `wheelport cache warm`: has a running server fetch what lock files name, before a client asks for it.
//!
//! ```text
//! lock files ─► files and digests by project ─► POST /warm ─► a line for each file ─► progress, exit code
//! ```

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::operations::Operations;
use super::outcome::{CommandError, Ended};
use super::plain_http::{PlainUrl, reachable};

mod conversation;
mod lock;
mod locked_file;
mod progress;
mod requirements;
mod toml_locks;

use conversation::Conversation;
pub(super) use lock::read;
pub(super) use locked_file::{LockedFile, Pins};
use progress::{Progress, Told};

/// Fetch what lock files name, in a running server
///
/// Reads uv.lock, poetry.lock, pdm.lock, pylock.toml, and requirements with hashes. The server fetches what it does not
/// have, in the background, through its address for operations. Ends with exit code 1 if a file could not be fetched,
/// and with 2 if the server cannot be asked.
#[derive(Debug, Args)]
pub(super) struct WarmArgs {
    /// The lock files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The route that serves the repository
    #[arg(long, value_name = "NAME")]
    route: String,
    #[command(flatten)]
    at: Operations,
}

#[derive(Debug, thiserror::Error)]
enum WarmError {
    #[error(
        "http://{at} does not respond as it should: {reason}; is the server running, and is this its address for \
         operations?"
    )]
    Conversation { at: std::net::SocketAddr, reason: String },
    #[error("the server does not take the list: {0}")]
    Refused(String),
    #[error("the connection ended before everything was done; what was fetched stays")]
    CutOff,
}

/// Reads the locks, asks, and shows what comes of it.
pub(super) async fn run(args: &WarmArgs) -> Result<Ended, CommandError> {
    let secret = args.at.secret()?;
    let mut files: Vec<LockedFile> = Vec::new();
    for path in &args.files {
        for file in read(path, Pins::Refuse).map_err(CommandError::usage)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    if files.is_empty() {
        println!("nothing to fetch: the lock files name no file of an index");
        return Ok(Ended::Well);
    }
    let list = serde_json::json!({ "files": files }).to_string();
    ask(args, &list, secret.as_deref(), Progress::new(files.len())).await.map_err(CommandError::unanswered)
}

async fn ask(args: &WarmArgs, list: &str, secret: Option<&str>, mut progress: Progress) -> Result<Ended, WarmError> {
    let at = reachable(args.at.ops_listen);
    let mut url = Url::parse(&format!("http://{at}/warm")).expect("an address and a fixed path are a URL");
    url.query_pairs_mut().append_pair("route", &args.route);
    let target = PlainUrl::of(&url, &["http"]).expect("a plain URL");
    let failed = |error: std::io::Error| WarmError::Conversation { at, reason: error.to_string() };
    let mut conversation = Conversation::begin(&target, list, secret).await.map_err(failed)?;
    if conversation.status != 200 {
        return Err(WarmError::Refused(conversation.rest().await.map_err(failed)?));
    }
    while let Some(line) = conversation.line().await.map_err(failed)? {
        match progress.take(&line) {
            Told::File => {}
            Told::Done { failed } => return Ok(if failed { Ended::Badly } else { Ended::Well }),
            Told::Nonsense => {
                return Err(WarmError::Conversation { at, reason: "it sends something else than results".to_owned() });
            }
        }
    }
    Err(WarmError::CutOff)
}
