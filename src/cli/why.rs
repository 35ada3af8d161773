//! `wheelport why`: what a running server decides about each file of a project, and why.

use std::str::FromStr as _;

use clap::Args;
use pep440_rs::Version;
use serde_json::Value;

use super::operations::Operations;
use super::outcome::{CommandError, Ended};

/// Say what is decided about each file of a project, and why
///
/// Asks a running server through its address for operations. Ends with exit code 1 if a file is refused, and with 2 if
/// the server cannot be asked or has no such route, project or version.
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

#[derive(Debug, thiserror::Error)]
enum WhyError {
    #[error("the page of {0} lists no files")]
    NoFiles(String),
    #[error("the page of {project} lists no files of version {version}")]
    NoSuchVersion { project: String, version: String },
}

pub(super) async fn run(args: &WhyArgs) -> Result<Ended, CommandError> {
    let (project, version) = match args.wanted.split_once("==") {
        Some((project, version)) => (project.trim(), Some(version.trim())),
        None => (args.wanted.trim(), None),
    };
    let query = [("route", Some(args.route.as_str())), ("project", Some(project))];
    let report = args.at.find_out("GET", "/why", &query, "").await?;
    let files = report["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_wanted = |file: &&Value| {
        let listed = file["version"].as_str().unwrap_or_default();
        version.is_none_or(|version| is_version(listed, version))
    };
    let mut wanted = files.iter().filter(is_wanted).peekable();
    if wanted.peek().is_none() {
        let project = project.to_owned();
        return Err(CommandError::unanswered(match version {
            Some(version) if !files.is_empty() => WhyError::NoSuchVersion { project, version: version.to_owned() },
            _ => WhyError::NoFiles(project),
        }));
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

/// Whether a version is the wanted one, however the two are written; as text where one is outside PEP 440.
fn is_version(listed: &str, wanted: &str) -> bool {
    match (Version::from_str(listed), Version::from_str(wanted)) {
        (Ok(listed), Ok(wanted)) => listed == wanted,
        _ => listed == wanted,
    }
}

/// What a ruling means for a client.
pub(super) fn in_words(ruling: &str) -> String {
    if ruling == "allow" { "allowed".to_owned() } else { format!("refused ({ruling})") }
}

fn line(file: &Value) -> String {
    let text = |key: &str| file[key].as_str();
    let mut line = format!("{}: {}", text("file").unwrap_or_default(), in_words(text("ruling").unwrap_or_default()));
    for (key, word) in [("rule", " by rule"), ("until", " until"), ("exception", ", under the exception")] {
        if let Some(value) = text(key) {
            line = format!("{line}{word} {value}");
        }
    }
    // Quoted, because it is a sentence of its own.
    if let Some(reason) = text("reason") {
        line = format!("{line}, because \"{reason}\"");
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
    match text("date") {
        Some(date) => format!("{line} (date {date}: {}{origin})", text("date_from").unwrap_or_default()),
        None => format!("{line} (no date is known{origin})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_compared_as_versions() {
        for (listed, wanted, same) in [
            ("2.0.0", "2.0", true),
            ("2.0rc1", "2.0.RC.1", true),
            ("2.0.1", "2.0", false),
            ("1.0+cpu", "1.0", false),
            ("2004d", "2004d", true),
            ("2004d", "2004", false),
        ] {
            assert_eq!(is_version(listed, wanted), same, "{listed} {wanted}");
        }
    }

    #[test]
    fn a_line_says_what_is_decided_in_words() {
        let refused = json!({
            "file": "a-1.tar.gz", "ruling": "explain", "rule": "cooldown", "reason": "Wait.",
            "until": "2026-12-01T00:00:00Z", "date": "2026-11-24T00:00:00Z", "date_from": "upload-time",
        });
        let expected = "a-1.tar.gz: refused (explain) by rule cooldown until 2026-12-01T00:00:00Z, because \"Wait.\" \
                        (date 2026-11-24T00:00:00Z: upload-time)";
        assert_eq!(line(&refused), expected);
        let excepted = json!({"file": "a", "ruling": "allow", "exception": "fix (sec)", "date_from": "none is known"});
        assert_eq!(line(&excepted), "a: allowed, under the exception fix (sec) (no date is known)");
    }
}
