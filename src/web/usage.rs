//! Who has what: the page and the JSON of the listener for operations. What was counted, `flow` knows.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Site;
use super::operator_page::{self, PageQuery};
use super::ops_query::{BadQuery, OpsQuery};
use crate::flow::{ReportRow, UsageError, UsageGrouping, UsageParams, UsageReport};
use crate::ui::{UsageForm, UsagePage, UsageRow, usage_page};
use wheelport_runtime::sabotaged;

/// What was downloaded by whom, as JSON or as a page.
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    params: Result<OpsQuery<UsageParams>, BadQuery>,
) -> Response {
    let (params, report) = match params {
        Ok(OpsQuery(params)) => {
            let report = site.flow.usage.report(&params).await;
            let report = report.map_err(|error| (status(&error), error.to_string()));
            let report = report.and_then(|report| known_route(&site, report));
            (params, report)
        }
        Err(rejection) => (UsageParams::default(), Err((StatusCode::BAD_REQUEST, rejection.to_string()))),
    };
    let code = report.as_ref().err().map_or(StatusCode::OK, |(code, _)| *code);
    let mut response = if operator_page::wants_html(&headers) {
        let page = page(&site, &params, report.as_ref().map_err(|(_, error)| error.as_str()));
        operator_page::html(page, PageQuery::default())
    } else {
        match report {
            Ok(report) => operator_page::json(&report),
            Err((_, error)) => format!("{error}\n").into_response(),
        }
    };
    *response.status_mut() = code;
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(5));
    }
    response
}

/// A report about a route that is there, or was: of one that is gone, records say something. Else a mistyped
/// name would look like one of which nothing was taken.
fn known_route(site: &Site, report: UsageReport) -> Result<UsageReport, (StatusCode, String)> {
    let is_empty = report.rows.is_empty() && report.complete && !sabotaged("usage-route");
    match report.route.as_deref().filter(|_| is_empty).map(|route| site.asked_route(route)) {
        Some(Err(unknown)) => Err((StatusCode::NOT_FOUND, unknown)),
        _ => Ok(report),
    }
}

fn status(error: &UsageError) -> StatusCode {
    match error {
        UsageError::Off => StatusCode::NOT_FOUND,
        UsageError::Invalid(_) => StatusCode::BAD_REQUEST,
        UsageError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        UsageError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn page(site: &Site, params: &UsageParams, report: Result<&UsageReport, &str>) -> String {
    let routes: Vec<&str> = site.routes.iter().map(|route| &*route.route.name).collect();
    // `PROJECT==VERSION` comes back as the two that it is.
    let found = report.ok();
    let shown = |found: Option<&String>, sent: &str| found.map_or(sent.to_owned(), Clone::clone);
    let project = shown(found.and_then(|report| report.project.as_ref()), &params.project);
    let version = shown(found.and_then(|report| report.version.as_ref()), &params.version);
    let rows: Vec<UsageRow> =
        found.map(|report| report.rows.iter().map(|row| shown_row(report, params, row)).collect()).unwrap_or_default();
    let json = address(&[
        ("route", &params.route),
        ("project", &project),
        ("version", &version),
        ("identity", &params.identity),
        ("since", &params.since),
        ("until", &params.until),
    ]);
    usage_page(&UsagePage {
        form: UsageForm {
            routes: &routes,
            route: &params.route,
            project: &project,
            version: &version,
            identity: &params.identity,
            since: &params.since,
            until: &params.until,
        },
        error: report.err(),
        summary: &found.map(summary).unwrap_or_default(),
        subject: found.map_or("", |report| subject(report.by)),
        rows: &rows,
        notes: &found.map(notes).unwrap_or_default(),
        json: &json,
    })
}

fn subject(by: UsageGrouping) -> &'static str {
    match by {
        UsageGrouping::Project => "Project",
        UsageGrouping::Version => "Version",
        UsageGrouping::Identity => "Identity",
    }
}

fn summary(report: &UsageReport) -> String {
    let what = match (&report.project, &report.version) {
        (Some(project), Some(version)) => format!("{project} {version}"),
        (Some(project), None) => project.clone(),
        (None, _) => "all projects".to_owned(),
    };
    let by = report.identity.as_ref().map(|identity| format!(" by {identity}")).unwrap_or_default();
    let downloads = match report.downloads {
        0 => "no download".to_owned(),
        1 => "1 download".to_owned(),
        count => format!("{count} downloads"),
    };
    format!("{downloads} of {what}{by} from {} to {}.", report.since, report.until)
}

fn notes(report: &UsageReport) -> Vec<String> {
    let mut notes: Vec<String> = report.notes.iter().map(|note| format!("Not complete: {note}.")).collect();
    if report.unattributed > 0 {
        notes.push(format!(
            "{} downloads are counted by route only, because there was no counter for them; some may belong here.",
            report.unattributed
        ));
    }
    if report.left_off > 0 {
        notes.push(format!("{} more rows are not shown.", report.left_off));
    }
    notes
}

fn shown_row(report: &UsageReport, params: &UsageParams, row: &ReportRow) -> UsageRow {
    let project = report.project.as_deref().unwrap_or_default();
    let more = row.name.as_deref().map(|name| {
        let of = match report.by {
            UsageGrouping::Project => [("project", name), ("version", ""), ("identity", params.identity.as_str())],
            UsageGrouping::Version => [("project", project), ("version", name), ("identity", &params.identity)],
            UsageGrouping::Identity => [("project", ""), ("version", ""), ("identity", name)],
        };
        let within = [("route", &*row.route), ("since", &params.since), ("until", &params.until)];
        address(&[&of[..], &within].concat())
    });
    let name = match (&row.name, row.others) {
        (Some(name), _) => name.to_string(),
        (None, true) => "others, counted together".to_owned(),
        (None, false) => "no identity".to_owned(),
    };
    UsageRow {
        route: row.route.to_string(),
        name,
        href: more,
        downloads: row.downloads,
        identities: row.identities,
        first: ReportRow::shown(row.first),
        last: ReportRow::shown(row.last),
    }
}

/// The address of a report; empty parameters are left out.
fn address(params: &[(&str, &str)]) -> String {
    let given = params.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
    if pairs.is_empty() { "/usage".to_owned() } else { format!("/usage?{}", pairs.join("&")) }
}
