//! What `/status` says to operators, as data. How a person reads it is in `status_page.rs`.
//!
//! Fields are only added, because scripts read them.

use std::sync::Arc;

use serde::Serialize;

use super::audit::AdvisoryStatus;
use super::changed_files::ChangedFilesStatus;
use super::failures::Failure;
use super::policy::PolicyStatus;
use super::readiness::{Readiness, ReadinessReport};
use super::tls::{ServerCertificates, TlsReport};
use super::{ReadPolicy, RouteSite, Site};
use crate::flow::EndpointState;
use crate::telemetry::{Measure, Sample, Timeline};

/// What CodeArtifact allows one token, in requests per second; no support case raises it.
pub(super) const TOKEN_QUOTA: u32 = 1200;

/// What `status` says, to operators only.
#[derive(Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    pub(super) readiness: ReadinessReport,
    pub(super) version: &'static str,
    pub(super) policy: PolicyStatus,
    /// Only where a source of advisories is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advisories: Option<AdvisoryStatus>,
    pub(super) routes: Vec<RouteStatus>,
    /// How what replicas share works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fleet: Option<serde_json::Value>,
    /// Only where the listener for clients speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<TlsReport>,
    /// When this was true, in seconds since the Unix epoch.
    pub(super) now: u64,
    pub(super) uptime_seconds: u64,
    pub(super) resources: Resources,
    pub(super) quota: QuotaStatus,
    /// The issuers of ID tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) issuers: Vec<IssuerStatus>,
    pub(super) history: HistoryStatus,
    /// The newest first.
    pub(super) failures: Vec<Failure>,
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field that scripts read")]
pub(super) struct RouteStatus {
    pub(super) route: Arc<str>,
    /// Whether the token can be used now.
    pub(super) token: bool,
    /// Seconds until it ends.
    pub(super) token_remaining_seconds: Option<u64>,
    /// Failed renewals since the last good one.
    pub(super) token_failures: u32,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_error: Option<String>,
    /// Whether the repository's address is known.
    pub(super) endpoint: bool,
    /// Files whose bytes are not those that were first seen.
    pub(super) changed_files: ChangedFilesStatus,
    /// `domain/repository`.
    pub(super) repository: String,
    /// Whether requests go to upstream (`closed`, as a circuit breaker is), or why not; none until its address is
    /// known.
    pub(super) upstream: Option<&'static str>,
    /// The requests per second that may go there now.
    pub(super) rate_limit: Option<f64>,
    /// Whether the role may no longer read, so that nothing is served.
    pub(super) denied: bool,
    /// Whether upstream says of known projects that they do not exist, so that no 404 is believed.
    pub(super) missing_everything: bool,
    /// Whether reading needs an identity.
    pub(super) gated: bool,
}

/// How much of a bound is used.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Bounded {
    pub(super) used: u64,
    pub(super) limit: u64,
}

/// What this process takes of what it may take, in bytes unless it says otherwise.
#[derive(Serialize)]
pub(super) struct Resources {
    pub(super) memory: Bounded,
    pub(super) disk: Bounded,
    /// Records of the index in memory.
    pub(super) records: Bounded,
    /// Rendered documents in memory.
    pub(super) documents: Bounded,
    /// Connections of clients, as a number; those of operators count with them.
    pub(super) connections: Bounded,
    /// Whether the cache directory can be written.
    pub(super) storage: bool,
}

/// The bounds of a process, which do not change while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct SiteBounds {
    /// Memory that is divided among the parts, in bytes.
    pub memory: u64,
    /// Records of the index, in bytes.
    pub records: u64,
    /// Rendered documents, in bytes.
    pub documents: u64,
    /// Connections of clients.
    pub connections: usize,
    /// Requests to upstream per second that the configuration allows.
    pub request_rate: u32,
    /// What CodeArtifact allows the account.
    pub account_quota: u32,
}

/// What is used of CodeArtifact's quotas, in requests per second, by this process alone.
#[derive(Clone, Copy, Serialize)]
pub(super) struct QuotaStatus {
    pub(super) account: u32,
    pub(super) token: u32,
    /// What this process limits itself to.
    pub(super) request_rate: u32,
    /// The most requests in one second. No token was used for more than these.
    pub(super) busiest_second_of_minute: f64,
    pub(super) busiest_second_of_hour: f64,
    pub(super) busiest_second_of_day: f64,
    /// Responses 429 in the last hour.
    pub(super) throttled_in_hour: f64,
}

#[derive(Serialize)]
pub(super) struct IssuerStatus {
    pub(super) issuer: Arc<str>,
    pub(super) keys: usize,
    pub(super) age_seconds: Option<u64>,
    /// Whether the last fetch failed.
    pub(super) failing: bool,
}

#[derive(Serialize)]
pub(super) struct HistoryStatus {
    pub(super) hour: TimelineStatus,
    pub(super) day: TimelineStatus,
}

/// What happened, interval by interval, the oldest first.
#[derive(Serialize)]
pub(super) struct TimelineStatus {
    pub(super) step_seconds: u64,
    /// The intervals of the whole time; fewer are there until it has passed.
    pub(super) intervals: usize,
    pub(super) requests_per_second: Vec<f64>,
    pub(super) upstream_requests_per_second: Vec<f64>,
    /// Between 0 and 1; null where nothing was served.
    pub(super) cache_share: Vec<Option<f64>>,
    pub(super) sent_bytes_per_second: Vec<f64>,
    pub(super) upstream_bytes_per_second: Vec<f64>,
    pub(super) failures_per_second: Vec<f64>,
    pub(super) throttles_per_second: Vec<f64>,
    pub(super) busiest_second: Vec<f64>,
    pub(super) memory_bytes: Vec<f64>,
    pub(super) disk_bytes: Vec<f64>,
    pub(super) requests_in_flight: Vec<f64>,
    pub(super) connections: Vec<f64>,
}

impl Status {
    pub(super) fn of(site: &Site) -> Self {
        let sample = site.sample();
        Self {
            readiness: Readiness::of(site).into(),
            version: env!("CARGO_PKG_VERSION"),
            policy: PolicyStatus::of(site.flow.policy()),
            advisories: site.flow.advisories().state().map(AdvisoryStatus::from),
            routes: site.routes.iter().map(|route| RouteStatus::of(site, route)).collect(),
            fleet: site.fleet.as_ref().map(|section| section()),
            tls: site.certificates.as_ref().map(ServerCertificates::report),
            now: site.flow.policy().now().0,
            uptime_seconds: site.started.elapsed().as_secs(),
            resources: Resources::of(site, &sample),
            quota: QuotaStatus::of(site, &sample),
            issuers: site.identities.key_states().into_iter().map(IssuerStatus::of).collect(),
            history: HistoryStatus {
                hour: TimelineStatus::of(&site.history.hour()),
                day: TimelineStatus::of(&site.history.day()),
            },
            failures: site.failures.newest(),
        }
    }
}

impl RouteStatus {
    fn of(site: &Site, RouteSite { route, read, .. }: &RouteSite) -> Self {
        let token = route.token.state();
        Self {
            route: Arc::clone(&route.name),
            token: token.usable,
            token_remaining_seconds: token.remaining.map(|remaining| remaining.as_secs()),
            token_failures: token.failures_in_a_row,
            token_error: token.last_error.map(|error| format!("{}: {}", error.kind, error.message)),
            endpoint: route.is_resolved(),
            changed_files: ChangedFilesStatus::of(&site.flow, route),
            repository: route.label.clone(),
            upstream: route.endpoint_state().map(EndpointState::as_str),
            rate_limit: route.rate_limit(),
            denied: route.is_denied(),
            missing_everything: route.is_missing_everything(),
            gated: *read == ReadPolicy::Identity,
        }
    }
}

/// A figure that counts something.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it counts, so it is whole and not negative"
)]
pub(super) fn whole(sample: &Sample, measure: Measure) -> u64 {
    sample.get(measure).max(0.0) as u64
}

impl Resources {
    fn of(site: &Site, sample: &Sample) -> Self {
        let (figures, bounds) = (site.flow.figures(), &site.bounds);
        Self {
            memory: Bounded { used: whole(sample, Measure::ResidentBytes), limit: bounds.memory },
            disk: Bounded { used: figures.disk, limit: figures.disk_limit },
            records: Bounded { used: figures.records, limit: bounds.records },
            documents: Bounded { used: site.rendered_bytes(), limit: bounds.documents },
            connections: Bounded { used: whole(sample, Measure::Connections), limit: bounds.connections as u64 },
            storage: site.flow.storage_works(),
        }
    }
}

impl QuotaStatus {
    pub(super) fn of(site: &Site, sample: &Sample) -> Self {
        let minute = sample.get(Measure::BusiestSecond);
        let [hour, day] = site.history.busiest_seconds();
        Self {
            account: site.bounds.account_quota,
            token: TOKEN_QUOTA,
            request_rate: site.bounds.request_rate,
            busiest_second_of_minute: minute,
            busiest_second_of_hour: hour.max(minute),
            busiest_second_of_day: day.max(minute),
            throttled_in_hour: site.history.hour().growth(Measure::Throttles),
        }
    }
}

impl IssuerStatus {
    fn of(state: crate::identity::KeyState) -> Self {
        let (keys, age_seconds) = (state.number, state.age.map(|age| age.as_secs()));
        Self { issuer: state.issuer, keys, age_seconds, failing: state.has_failed }
    }
}

impl TimelineStatus {
    fn of(timeline: &Timeline) -> Self {
        Self {
            step_seconds: timeline.step.as_secs(),
            intervals: timeline.most,
            requests_per_second: timeline.rate(Measure::Requests),
            upstream_requests_per_second: timeline.rate(Measure::UpstreamRequests),
            cache_share: timeline.share(Measure::Hits, Measure::Misses),
            sent_bytes_per_second: timeline.rate(Measure::SentBytes),
            upstream_bytes_per_second: timeline.rate(Measure::UpstreamBytes),
            failures_per_second: timeline.rate(Measure::ServerErrors),
            throttles_per_second: timeline.rate(Measure::Throttles),
            busiest_second: timeline.level(Measure::BusiestSecond),
            memory_bytes: timeline.level(Measure::ResidentBytes),
            disk_bytes: timeline.level(Measure::DiskBytes),
            requests_in_flight: timeline.level(Measure::RequestsInFlight),
            connections: timeline.level(Measure::Connections),
        }
    }
}
