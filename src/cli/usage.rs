//! `wheelport usage`: who has what, as a running server has counted it.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::operations::Operations;
use super::outcome::{CommandError, Ended};

/// Say which pipelines took a project or a version, how often, and when last
///
/// Asks a running server through its address for operations. With a version, a row for each identity; with a project,
/// one for each version; else one for each project. Ends with exit code 2 if the server cannot be asked or does
/// not say.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// The project, or one version of it as PROJECT==VERSION [default: all]
    #[arg(value_name = "PROJECT[==VERSION]")]
    wanted: Option<String>,
    /// One route alone
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// What one identity took
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// The first day, in UTC [default: all that is kept]
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// The last day, in UTC [default: today]
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// The most rows [default: 500]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<String>,
    /// How the report looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: UsageFormat,
    #[command(flatten)]
    at: Operations,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UsageFormat {
    Text,
    Json,
}

pub(super) async fn run(args: &UsageArgs) -> Result<Ended, CommandError> {
    let query = [
        ("project", args.wanted.as_deref()),
        ("route", args.route.as_deref()),
        ("identity", args.identity.as_deref()),
        ("since", args.since.as_deref()),
        ("until", args.until.as_deref()),
        ("limit", args.limit.as_deref()),
    ];
    let report = args.at.find_out("GET", "/usage", &query, "").await?;
    match args.format {
        UsageFormat::Json => println!("{report:#}"),
        UsageFormat::Text => print!("{}", text(&report)),
    }
    Ok(Ended::Well)
}

fn text(report: &Value) -> String {
    let word = |key: &str| report[key].as_str().unwrap_or_default();
    let number = |key: &str| report[key].as_u64().unwrap_or_default();
    let mut lines = table(&word("by").to_uppercase(), report["rows"].as_array().map(Vec::as_slice).unwrap_or_default());
    lines.push(format!("{} from {} to {}", downloads(number("downloads")), word("since"), word("until")));
    if number("left_off") > 0 {
        let rows = if number("left_off") == 1 { "row is" } else { "rows are" };
        lines.push(format!("{} more {rows} not shown; --limit shows more", number("left_off")));
    }
    if number("unattributed") > 0 {
        lines.push(format!("counted by route only, and may belong here: {}", downloads(number("unattributed"))));
    }
    let notes = report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.extend(notes.map(|note| format!("not complete: {note}")));
    lines.push(String::new());
    lines.join("\n")
}

fn downloads(number: u64) -> String {
    if number == 1 { "1 download".to_owned() } else { format!("{number} downloads") }
}

/// The rows in columns, below what they are; nothing where there are none.
fn table(subject: &str, rows: &[Value]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let head = [subject, "ROUTE", "DOWNLOADS", "LAST", "FIRST"].map(str::to_owned);
    let cells: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(row)).collect();
    let width = |column: usize| cells.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let [of_name, of_route, of_downloads, of_last, _]: [usize; 5] = std::array::from_fn(width);
    let line = |[name, route, downloads, last, first]: &[String; 5]| {
        format!("{name:of_name$}  {route:of_route$}  {downloads:>of_downloads$}  {last:of_last$}  {first}")
    };
    cells.iter().map(line).collect()
}

fn row(row: &Value) -> [String; 5] {
    let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let name = match (row["name"].as_str(), row["others"].as_bool().unwrap_or(false)) {
        (Some(name), _) => printable(name),
        (None, true) => "(others)".to_owned(),
        (None, false) => "(no identity)".to_owned(),
    };
    [name, word("route"), row["downloads"].to_string(), word("last"), word("first")]
}

/// A name that a token chose does nothing to a terminal.
fn printable(name: &str) -> String {
    name.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_a_table_with_what_may_be_missing() {
        let row = |name: Value, others: bool, downloads: u64| {
            let (first, last) = ("2026-11-01T00:00:00Z", "2026-11-28T10:00:00Z");
            json!({
                "route": "main", "name": name, "others": others, "downloads": downloads, "first": first, "last": last,
            })
        };
        let report = json!({
            "by": "identity", "since": "2026-11-01", "until": "2026-11-28", "downloads": 13, "left_off": 2,
            "unattributed": 0, "notes": ["the store is away"],
            "rows": [row(json!("ci:web\u{1b}[0m"), false, 10), row(json!(null), false, 2), row(json!(null), true, 1)],
        });
        let expected = "\
IDENTITY       ROUTE  DOWNLOADS  LAST                  FIRST
ci:web\u{fffd}[0m     main          10  2026-11-28T10:00:00Z  2026-11-01T00:00:00Z
(no identity)  main           2  2026-11-28T10:00:00Z  2026-11-01T00:00:00Z
(others)       main           1  2026-11-28T10:00:00Z  2026-11-01T00:00:00Z
13 downloads from 2026-11-01 to 2026-11-28
2 more rows are not shown; --limit shows more
not complete: the store is away
";
        assert_eq!(text(&report), expected);
        let none = json!({"by": "project", "since": "2026-11-01", "until": "2026-11-28", "downloads": 0, "rows": []});
        assert_eq!(text(&none), "0 downloads from 2026-11-01 to 2026-11-28\n");
        let one = json!({"by": "project", "since": "2026-11-01", "until": "2026-11-28", "downloads": 1, "rows": []});
        assert_eq!(text(&one), "1 download from 2026-11-01 to 2026-11-28\n");
    }
}
