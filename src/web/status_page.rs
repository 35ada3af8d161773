//! `/status` as a person reads it: the same data, in plots, tables and words.
//!
//! What it is made of is in `status.rs`, the templates are in `ui`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde_json::Value;

use super::Site;
use super::ops_query::OpsQuery;

use super::audit::AdvisoryStatus;
use super::failures::Failure;
use super::operator_page::{PageQuery, html, json, moment, wants_html};
use super::policy::PolicyStatus;
use super::readiness::ReadinessReport;
use super::status::{
    Bounded, HistoryStatus, IssuerStatus, QuotaStatus, Resources, RouteStatus, Status, TimelineStatus,
};
use super::tls::TlsReport;
use crate::ui::{self, Cell, Mark, Plot, PlotLine, StatusPage, Table, Unit};

/// A certificate or token that ends sooner than this is worth a look, in seconds.
const SOON: i64 = 14 * 24 * 60 * 60;

/// `GET /status`: a page for browsers, JSON for everything else.
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    OpsQuery(query): OpsQuery<PageQuery>,
    headers: HeaderMap,
) -> Response {
    let status = Status::of(&site);
    if wants_html(&headers) { html(document(&status, query.is_live()), query) } else { json(&status) }
}

/// `GET /status.json`.
pub(super) async fn data(State(site): State<Arc<Site>>) -> Response {
    json(&Status::of(&site))
}

/// The whole page.
fn document(status: &Status, is_live: bool) -> String {
    let (state, summary) = state(&status.readiness);
    let tables = [
        Some(routes(&status.routes)),
        Some(resources(&status.resources)),
        Some(quota(&status.quota)),
        status.fleet.as_ref().map(fleet),
        Some(rules(&status.policy)),
        status.advisories.as_ref().map(AdvisoryStatus::table),
        (!status.issuers.is_empty()).then(|| issuers(&status.issuers)),
        status.tls.as_ref().map(certificates),
        Some(failures(&status.failures)),
    ];
    ui::status(&StatusPage {
        state,
        summary,
        version: status.version,
        uptime_seconds: status.uptime_seconds,
        now: moment(status.now),
        is_live,
        plots: plots(&status.history, &status.resources),
        tables: tables.into_iter().flatten().collect(),
    })
}

fn state(readiness: &ReadinessReport) -> (Mark, String) {
    let reason = readiness.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    match readiness {
        ReadinessReport { ready: false, .. } => (Mark::Bad, format!("Not ready{reason}")),
        ReadinessReport { degraded: true, .. } => (Mark::Warning, format!("Degraded{reason}")),
        ReadinessReport { .. } => (Mark::Good, format!("Ready{reason}")),
    }
}

/// The values of an interval, wherever it comes from.
type Values = fn(&TimelineStatus) -> Vec<Option<f64>>;

fn known(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().copied().map(Some).collect()
}

fn per_minute(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().map(|value| Some(value * 60.0)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a plot shows three digits")]
fn plots(history: &HistoryStatus, resources: &Resources) -> Vec<Plot> {
    let line = |name, values: Values| PlotLine { name, hour: values(&history.hour), day: values(&history.day) };
    let plot = |title, unit, top, lines| {
        let most = [history.hour.intervals, history.day.intervals];
        Plot { title, unit, top, lines, most }
    };
    vec![
        plot(
            "Requests",
            Unit::PerSecond,
            None,
            vec![
                line("from clients", |of| known(&of.requests_per_second)),
                line("to CodeArtifact", |of| known(&of.upstream_requests_per_second)),
            ],
        ),
        plot("Served from the cache", Unit::Share, Some(1.0), vec![line("share", |of| of.cache_share.clone())]),
        plot(
            "Traffic",
            Unit::BytesPerSecond,
            None,
            vec![
                line("to clients", |of| known(&of.sent_bytes_per_second)),
                line("from CodeArtifact", |of| known(&of.upstream_bytes_per_second)),
            ],
        ),
        plot(
            "Failures",
            Unit::PerMinute,
            None,
            vec![
                line("responses 5xx", |of| per_minute(&of.failures_per_second)),
                line("throttled upstream", |of| per_minute(&of.throttles_per_second)),
            ],
        ),
        plot(
            "Busiest second to CodeArtifact",
            Unit::PerSecond,
            None,
            vec![line("requests", |of| known(&of.busiest_second))],
        ),
        plot(
            "Connections",
            Unit::Number,
            None,
            vec![
                line("open", |of| known(&of.connections)),
                line("requests in flight", |of| known(&of.requests_in_flight)),
            ],
        ),
        plot(
            "Memory",
            Unit::Bytes,
            Some(resources.memory.limit as f64),
            vec![line("resident", |of| known(&of.memory_bytes))],
        ),
        plot(
            "Cache directory",
            Unit::Bytes,
            Some(resources.disk.limit as f64),
            vec![line("used", |of| known(&of.disk_bytes))],
        ),
    ]
}

fn routes(routes: &[RouteStatus]) -> Table {
    let row = |route: &RouteStatus| {
        let name = if route.gated { format!("{} (identities only)", route.route) } else { route.route.to_string() };
        let rate = route.rate_limit.map_or("–".to_owned(), |rate| format!("{}/s", ui::rough(rate)));
        let changed = match route.changed_files.number {
            0 => Cell::text("none"),
            number => Cell::State(Mark::Warning, number.to_string()),
        };
        vec![
            Cell::Text(name),
            Cell::Code(route.repository.clone()),
            token(route),
            upstream(route),
            Cell::Figure(rate),
            changed,
        ]
    };
    Table {
        title: "Routes",
        about: String::new(),
        columns: &["Route", "Repository", "Token", "CodeArtifact", "Rate limit now", "Changed files"],
        rows: routes.iter().map(row).collect(),
        empty: "No route is configured.",
    }
}

fn token(route: &RouteStatus) -> Cell {
    let left = route.token_remaining_seconds.map(|left| format!("{} left", ui::duration(left)));
    let failed = route.token_error.as_deref().filter(|_| route.token_failures > 0);
    match (route.token, failed) {
        (true, None) => Cell::State(Mark::Good, left.unwrap_or_else(|| "usable".to_owned())),
        (true, Some(error)) => {
            let left = left.unwrap_or_else(|| "usable".to_owned());
            Cell::Explained(Mark::Warning, left, format!("renewal fails: {error}"))
        }
        (false, Some(error)) => Cell::Explained(Mark::Bad, "none".to_owned(), error.to_owned()),
        (false, None) => Cell::State(Mark::Bad, "none".to_owned()),
    }
}

fn upstream(route: &RouteStatus) -> Cell {
    let (mark, text) = match route.upstream {
        _ if route.denied => (Mark::Bad, "the role may no longer read"),
        _ if route.missing_everything => (Mark::Bad, "says that everything is missing"),
        None => (Mark::Bad, "its address is not known yet"),
        Some("closed") => (Mark::Good, "in use"),
        Some("failing") => (Mark::Warning, "the last attempts failed"),
        Some("throttled") => (Mark::Warning, "throttles; requests wait"),
        Some("probing") => (Mark::Warning, "probed after an outage"),
        Some(_) => (Mark::Bad, "does not respond; circuit breaker open"),
    };
    Cell::State(mark, text.to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "a bar shows three digits")]
fn usage(Bounded { used, limit }: Bounded, unit: Unit) -> Cell {
    Cell::Usage { used: used as f64, bound: limit as f64, unit }
}

fn resources(resources: &Resources) -> Table {
    let row = |name: &str, bounded, unit, setting: &str| {
        vec![Cell::text(name), usage(bounded, unit), Cell::Code(setting.to_owned())]
    };
    Table {
        title: "Disk and memory",
        about: if resources.storage { String::new() } else { "The cache directory cannot be written.".to_owned() },
        columns: &["What", "Used", "Bound"],
        rows: vec![
            row("Cache directory", resources.disk, Unit::Bytes, "[cache] max_size"),
            row("Memory of the process", resources.memory, Unit::Bytes, "[server] memory"),
            row("Records of the index in memory", resources.records, Unit::Bytes, "[cache] memory"),
            row("Rendered pages in memory", resources.documents, Unit::Bytes, "[cache] memory"),
            row("Connections", resources.connections, Unit::Number, "[server] max_connections"),
        ],
        empty: "",
    }
}

/// Also on the page of savings.
pub(super) fn quota(quota: &QuotaStatus) -> Table {
    let row = |name: &str, used: f64, bound: u32| {
        vec![Cell::text(name), Cell::Usage { used, bound: f64::from(bound), unit: Unit::PerSecond }]
    };
    Table {
        title: "Head-room to the quotas",
        about: format!(
            "The busiest second of this process alone: other replicas and other callers of the account come on top. It \
             sends at most {}/s ([upstream] request_rate). CodeArtifact throttled {} requests in the last hour.",
            quota.request_rate,
            ui::rough(quota.throttled_in_hour)
        ),
        columns: &["Quota", "Busiest second"],
        rows: vec![
            row("Account and region, last hour", quota.busiest_second_of_hour, quota.account),
            row("Account and region, last day", quota.busiest_second_of_day, quota.account),
            row("Each token at most, last hour", quota.busiest_second_of_hour, quota.token),
            row("Each token at most, last day", quota.busiest_second_of_day, quota.token),
        ],
        empty: "",
    }
}

/// Each part is an object; what it says of its health comes first.
fn fleet(section: &Value) -> Table {
    let row = |(part, said): (&String, &Value)| {
        let works = match (said["breaker"].as_str(), said["working"].as_bool()) {
            (Some("closed"), _) | (None, Some(true)) => Cell::State(Mark::Good, "works".to_owned()),
            (Some(breaker), _) => Cell::State(Mark::Bad, format!("away, breaker {breaker}")),
            (None, Some(false)) => Cell::State(Mark::Bad, "not read".to_owned()),
            (None, None) => Cell::text("not known"),
        };
        let details = said.as_object().into_iter().flatten().filter(|(key, _)| *key != "breaker" && *key != "working");
        let details: Vec<_> =
            details.map(|(key, value)| format!("{}: {}", key.replace('_', " "), plain(value))).collect();
        vec![Cell::text(part.as_str()), works, Cell::Text(details.join(", "))]
    };
    Table {
        title: "Shared by replicas",
        about: String::new(),
        columns: &["Part", "State", "Details"],
        rows: section.as_object().into_iter().flatten().map(row).collect(),
        empty: "Nothing is shared.",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rules(policy: &PolicyStatus) -> Table {
    let state = match &policy.error {
        None => Cell::State(Mark::Good, "in force".to_owned()),
        Some(error) => {
            Cell::Explained(Mark::Bad, "files cannot be used; the rules before stay".to_owned(), error.clone())
        }
    };
    let short = policy.digest.get(..12).unwrap_or(&policy.digest).to_owned();
    let figure = |number: usize| Cell::Figure(number.to_string());
    Table {
        title: "Rules",
        about: String::new(),
        columns: &["State", "Rules", "Exceptions", "Read again", "Digest"],
        rows: vec![vec![
            state,
            figure(policy.rules),
            figure(policy.exceptions),
            Cell::Figure(policy.swaps.to_string()),
            Cell::Code(short),
        ]],
        empty: "",
    }
}

fn issuers(issuers: &[IssuerStatus]) -> Table {
    let row = |issuer: &IssuerStatus| {
        let state = match issuer {
            IssuerStatus { keys: 0, .. } => (Mark::Bad, "no keys yet"),
            IssuerStatus { failing: true, .. } => (Mark::Warning, "the last fetch failed; keys are kept"),
            _ => (Mark::Good, "keys are there"),
        };
        let age = issuer.age_seconds.map_or("–".to_owned(), ui::duration);
        vec![
            Cell::text(&*issuer.issuer),
            Cell::State(state.0, state.1.to_owned()),
            Cell::Figure(issuer.keys.to_string()),
            Cell::Figure(age),
        ]
    };
    Table {
        title: "Issuers of identities",
        about: String::new(),
        columns: &["Issuer", "State", "Keys", "Age"],
        rows: issuers.iter().map(row).collect(),
        empty: "",
    }
}

fn certificates(tls: &TlsReport) -> Table {
    let row = |certificate: &super::CertificateReport| {
        let state = match (u64::try_from(certificate.ends_in_seconds).map(ui::duration), &certificate.error) {
            (Err(_), _) => Cell::State(Mark::Bad, "has ended".to_owned()),
            (Ok(left), Some(error)) => {
                let about = format!("the new files cannot be used: {error}");
                Cell::Explained(Mark::Warning, format!("{left} left"), about)
            }
            (Ok(left), None) if certificate.ends_in_seconds < SOON => {
                Cell::State(Mark::Warning, format!("{left} left"))
            }
            (Ok(left), None) => Cell::State(Mark::Good, format!("{left} left")),
        };
        let file = certificate.certificate.display().to_string();
        vec![Cell::Text(certificate.names.join(", ")), state, Cell::Code(file)]
    };
    let authority = tls.client_ca_error.as_ref().map(|error| {
        vec![
            Cell::text("client authorities"),
            Cell::Explained(Mark::Warning, "those before stay".to_owned(), error.clone()),
            Cell::text(""),
        ]
    });
    Table {
        title: "Certificates",
        about: String::new(),
        columns: &["Names", "State", "File"],
        rows: tls.certificates.iter().map(row).chain(authority).collect(),
        empty: "",
    }
}

fn failures(failures: &[Failure]) -> Table {
    let row = |failure: &Failure| {
        vec![
            Cell::Time(moment(failure.at)),
            Cell::Code(failure.request.clone()),
            Cell::text(failure.route.as_deref().unwrap_or("–")),
            Cell::Path(format!("{} {}", failure.method, failure.path)),
            Cell::Text(format!("{} {}", failure.status, failure.error.unwrap_or_default())),
        ]
    };
    Table {
        title: "Last failures",
        about: "What this server, or something behind it, did wrong; the log says more under the request's id."
            .to_owned(),
        columns: &["Time", "Request id", "Route", "Request", "Response"],
        rows: failures.iter().map(row).collect(),
        empty: "None since the start.",
    }
}

#[cfg(test)]
#[path = "status_page_tests.rs"]
mod tests;
