//! `wheelport audit`: what a running server refuses, and what advisories report, of what lock files name.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::operations::Operations;
use super::outcome::{CommandError, Ended};
use super::warm::{LockedFile, Pins, read};

/// How long the server may take: it may have to ask for the page of every project first.
const PATIENCE: Duration = Duration::from_mins(10);
/// What makes an audit fail.
const BAD: [&str; 4] = ["malware", "refused", "vulnerable", "changed"];

/// Say what of lock files is refused by a rule, malicious or vulnerable
///
/// Reads uv.lock, poetry.lock, pdm.lock, pylock.toml and requirements, and asks a running server through its address
/// for operations. Ends with exit code 1 if anything was found, and with 2 if the server cannot be asked or cannot say.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The lock files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The route that serves the repository
    #[arg(long, value_name = "NAME")]
    route: String,
    /// How the result looks
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: AuditFormat,
    #[command(flatten)]
    at: Operations,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AuditFormat {
    /// For a person.
    Human,
    /// For scripts.
    Json,
}

#[derive(Debug, thiserror::Error)]
#[error("of {0} files nothing could be found out")]
struct UnknownFiles(usize);

pub(super) async fn run(args: &AuditArgs) -> Result<Ended, CommandError> {
    let mut files: Vec<LockedFile> = Vec::new();
    for path in &args.files {
        for file in read(path, Pins::Take).map_err(CommandError::usage)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    let (query, list) = ([("route", Some(args.route.as_str()))], json!({ "files": files }).to_string());
    let report = args.at.find_out_within(PATIENCE, "POST", "/audit", &query, &list).await?;
    match args.format {
        AuditFormat::Json => println!("{report:#}"),
        AuditFormat::Human => print(&report),
    }
    let count = |verdicts: &[&str]| {
        let verdict = |file: &&Value| file["verdict"].as_str().is_some_and(|verdict| verdicts.contains(&verdict));
        report["files"].as_array().into_iter().flatten().filter(verdict).count()
    };
    match (count(&BAD), count(&["unknown"])) {
        (0, 0) => Ok(Ended::Well),
        (0, unknown) => Err(CommandError::unanswered(UnknownFiles(unknown))),
        _ => Ok(Ended::Badly),
    }
}

fn print(report: &Value) {
    let files = report["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    for file in files {
        println!("{}", line(file));
    }
    let is_bad = |file: &&Value| file["verdict"].as_str().is_some_and(|verdict| BAD.contains(&verdict));
    let found = files.iter().filter(is_bad).count();
    println!("{} files looked at, {found} with findings", report["checked"].as_u64().unwrap_or_default());
    if report["advisories"].is_null() {
        println!("the server has no source of advisories: malware and vulnerabilities are not known to it");
    }
}

fn line(file: &Value) -> String {
    let text = |value: &Value| shown(value.as_str().unwrap_or_default());
    let name = file["file"]
        .as_str()
        .map_or_else(|| format!("{} {}", text(&file["project"]), text(&file["version"])).trim().to_owned(), shown);
    let mut line = format!("{name}: {}", text(&file["verdict"]));
    if let Some(rule) = file["rule"].as_str() {
        line = format!("{line} by rule {}", shown(rule));
    }
    if let Some(reason) = file["reason"].as_str() {
        line = format!("{line}: {}", shown(reason));
    }
    for advisory in file["advisories"].as_array().into_iter().flatten() {
        let summary = advisory["summary"].as_str().map(|summary| format!(" {}", shown(summary))).unwrap_or_default();
        line = format!("{line}\n  {}{summary}", text(&advisory["id"]));
    }
    line
}

/// Without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}
