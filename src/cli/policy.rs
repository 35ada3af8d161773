//! `wheelport policy test`: what other rules would change in a running server.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::operations::Operations;
use super::outcome::{CommandError, Ended};
use super::why::in_words;

#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    action: PolicyAction,
}

#[derive(Debug, Subcommand)]
enum PolicyAction {
    Test(TestArgs),
}

/// Say what rules would newly refuse or allow, over the pages that a running server has cached
///
/// The files stand in place of those of the server's directory of rules. Nothing is applied. Ends with exit code 2 if
/// the rules cannot be used or the server cannot be asked.
#[derive(Debug, Args)]
struct TestArgs {
    /// Files of rules, or directories of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The route whose pages are looked at
    #[arg(long, value_name = "NAME")]
    route: String,
    #[command(flatten)]
    at: Operations,
}

#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {source}", path = path.display())]
struct RulesError {
    path: PathBuf,
    source: std::io::Error,
}

pub(super) async fn run(args: &PolicyArgs) -> Result<Ended, CommandError> {
    let PolicyAction::Test(args) = &args.action;
    let mut text = String::new();
    for path in &args.paths {
        let read = read(path).map_err(|source| CommandError::usage(RulesError { path: path.clone(), source }))?;
        text.push_str(&read);
    }
    let query = [("route", Some(args.route.as_str()))];
    let trial = args.at.find_out("POST", "/policy/test", &query, &text).await?;
    for file in trial["files"].as_array().into_iter().flatten() {
        let text = |key: &str| file[key].as_str().unwrap_or_default();
        let rule = file["rule"].as_str().map(|rule| format!(" by rule {rule}")).unwrap_or_default();
        let (now, before) = (in_words(text("ruling")), in_words(text("before")));
        println!("{} {}: newly {now}{rule}, was {before}", text("project"), text("file"));
    }
    let count = |key: &str| trial[key].as_u64().unwrap_or_default();
    println!(
        "{} projects looked at: {} files newly refused, {} newly allowed",
        count("projects"),
        count("newly_refused"),
        count("newly_allowed")
    );
    Ok(Ended::Well)
}

/// A file, or all of a directory by name.
fn read(path: &Path) -> std::io::Result<String> {
    if !path.is_dir() {
        return fs::read_to_string(path).map(|text| text + "\n");
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).map(|text| text + "\n")).collect()
}
