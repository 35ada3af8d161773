//! `wheelport why`: what a running server decides about each file of a project, and why.

use clap::Args;
use serde_json::Value;

use super::operations::{Answer, Operations};
use super::outcome::{CommandError, Ended};

/// Say what is decided about each file of a project, and why
///
/// Asks a running server through its address for operations. Ends with exit code 1 if a file is refused.
#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The route
    #[arg(value_name = "ROUTE")]
    route: String,
    /// The project, or one version of it as PROJECT==VERSION
    #[arg(value_name = "PROJECT[==VERSION]")]
    wanted: String,
    #[command(flatten)]
    at: Operations,
}

pub(super) async fn run(args: &WhyArgs) -> Result<Ended, CommandError> {
    let (project, version) = match args.wanted.split_once("==") {
        Some((project, version)) => (project, Some(version)),
        None => (args.wanted.as_str(), None),
    };
    let query = [("route", Some(args.route.as_str())), ("project", Some(project))];
    let report = match args.at.ask("GET", "/why", &query).await? {
        Answer::Done(report) => report,
        Answer::Refused(why) => {
            println!("refused: {why}");
            return Ok(Ended::Badly);
        }
    };
    let files = report["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut wanted = files.iter().filter(|file| version.is_none_or(|version| file["version"] == version)).peekable();
    if wanted.peek().is_none() {
        println!("the page lists no such files");
        return Ok(Ended::Badly);
    }
    let mut ended = Ended::Well;
    for file in wanted {
        println!("{}", line(file));
        if file["ruling"] != "allow" {
            ended = Ended::Badly;
        }
    }
    Ok(ended)
}

fn line(file: &Value) -> String {
    let text = |key: &str| file[key].as_str();
    let mut line = format!("{}: {}", text("file").unwrap_or_default(), text("ruling").unwrap_or_default());
    for (key, word) in [("rule", "rule"), ("reason", "because"), ("until", "until"), ("exception", "lifted by")] {
        if let Some(value) = text(key) {
            line = format!("{line}, {word} {value}");
        }
    }
    let audited: Vec<&str> = file["audited"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !audited.is_empty() {
        line = format!("{line}, looked at by {}", audited.join(", "));
    }
    let flaws: Vec<&str> = file["vulnerabilities"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !flaws.is_empty() {
        line = format!("{line}, vulnerable by {}", flaws.join(", "));
    }
    let origin = text("origin").map(|origin| format!("; {origin}")).unwrap_or_default();
    format!("{line} (date {}: {}{origin})", text("date").unwrap_or("-"), text("date_from").unwrap_or_default())
}
