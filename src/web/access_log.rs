//! One line in the log, and one count in the metrics, for every request; one more line for a file that rules refuse.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;

use super::context::RequestContext;
use super::headers::REQUEST_ID;
use super::upload::CLIENT;
use super::{Response, Site};
use crate::flow::{BlockedFile, Notice, Served};
use crate::telemetry::{AccessLine, GaugeGuard, ResponseKind};
use wheelport_index::{FileAddress, shortened};
use wheelport_runtime::{Waits, sabotaged};

/// The longest path in a log line, in characters.
const LONGEST_PATH: usize = 400;
/// The longest user agent in a log line, in characters.
const LONGEST_AGENT: usize = 80;

/// A response that takes longer than this is reported, whatever its client thought of it.
const SLOW: Duration = Duration::from_secs(15);

/// What the line says besides what the request says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// How the response came about, where the cache had a part in it.
    pub served: Option<Served>,
    /// The code of the error, if it is one.
    pub error: Option<&'static str>,
}

/// Says what a slow request has waited for. What is missing from its time was spent without waiting, or because this
/// process or its machine stood still.
pub(super) fn report_slow(site: &Site, context: &RequestContext, waits: &Waits) {
    let took = context.started.elapsed();
    if let Some(waited_for) = slow(took, waits) {
        site.metrics.slow_response(waits.longest_besides(CLIENT).unwrap_or("nothing"));
        tracing::warn!(
            request = context.id.as_str(),
            kind = context.kind.as_str(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            waited_for,
            "a response took long"
        );
    }
}

/// What a response has waited for, if it took longer than it should, whatever its client thought of it.
fn slow(took: Duration, waits: &Waits) -> Option<String> {
    let is_slow = took.saturating_sub(waits.of(CLIENT)) > SLOW && !sabotaged("slow-response");
    is_slow.then(|| waits.summary())
}

/// One audit line for each refusal by a rule. Operators hear of malware at once.
pub(super) fn note_refusal(site: &Site, context: &RequestContext, blocked: &BlockedFile) {
    let BlockedFile { route, address, grounds } = blocked;
    site.flow.policy().counts().refused(&grounds.rule);
    tracing::info!(
        target: "wheelport::audit",
        request = context.id.as_str(), %route, client = %context.client,
        project = %address.project, version = %address.version, file = %address.file,
        rule = %grounds.rule, advisory = grounds.advisory.as_deref(),
        until = grounds.until.map(tracing::field::display),
        "refused by a rule"
    );
    if let Some(advisory) = grounds.advisory.clone().filter(|_| !sabotaged("notice-malware")) {
        let FileAddress { project, version, file } = address.clone();
        let (route, request) = (Arc::clone(route), context.id.as_str().to_owned());
        site.flow.notices().tell(Notice::MalwareRefused { route, project, version, file, advisory, request });
    }
}

/// Logs and counts a response, and gives it the id of its request.
pub(super) fn record(
    site: &Site,
    context: &RequestContext,
    outcome: Outcome,
    mut response: Response,
    in_flight: GaugeGuard,
) -> Response {
    let elapsed = context.started.elapsed();
    if let Ok(value) = HeaderValue::from_str(context.id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (kind, status) = (context.kind, response.status().as_u16());
    let served = outcome.served.map_or("none", Served::as_str);
    let sent = site.metrics.responded(kind, status, served, elapsed);
    site.failures.note(site, context, status, outcome.error);
    // Probes come every few seconds and say nothing.
    if kind == ResponseKind::Health {
        tracing::debug!(request = context.id.as_str(), client = %context.client, status, "probed");
    } else if AccessLine::is_enabled() {
        let agent = context.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let agent = agent.map(|agent| shortened(agent, LONGEST_AGENT));
        let line = AccessLine {
            request: context.id.as_str(),
            client: context.client,
            method: context.method.as_str(),
            path: &shortened(context.path(), LONGEST_PATH),
            status,
            kind: kind.as_str(),
            served,
            identity: context.identity.name(),
            error: outcome.error,
            ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            agent: agent.as_deref(),
        };
        line.log();
    }
    response.body_mut().count(sent, in_flight);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_response_names_what_it_waited_for_and_a_slow_upload_of_a_client_is_none() {
        let waits = Waits::default();
        let sleep = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        waits
            .serve(async {
                Waits::note("index", sleep(9)).await;
                Waits::note("rendering", sleep(7)).await;
                Waits::note(CLIENT, sleep(100)).await;
            })
            .await;
        let took = |seconds| slow(Duration::from_secs(seconds), &waits);
        assert_eq!(took(137).as_deref(), Some("index 9.0 s, rendering 7.0 s, client 100.0 s"));
        assert_eq!((took(116).is_some(), took(115), took(1)), (true, None, None));
    }
}
