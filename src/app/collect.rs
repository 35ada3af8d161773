//! Metrics that are read when they are scraped: tokens, rates and the cache.

use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::flow::{Flow, Route};
use crate::web::{ServerCertificates, Site};

/// A gauge with one value per route: name, help, values.
type PerRoute = (&'static str, &'static str, Vec<(Arc<str>, f64)>);

/// Reads tokens and the cache.
pub(super) struct Collected {
    flow: Flow,
    /// Weak, because the site holds the registry that holds this.
    site: Weak<Site>,
    routes: Vec<Arc<Route>>,
    memory_limit: u64,
    certificates: Option<ServerCertificates>,
}

impl Collected {
    /// For these routes over this cache, in a process that may take so many bytes of memory.
    pub(super) fn new(
        flow: Flow,
        site: &Arc<Site>,
        routes: Vec<Arc<Route>>,
        memory_limit: u64,
        certificates: Option<ServerCertificates>,
    ) -> Self {
        Self { flow, site: Arc::downgrade(site), routes, memory_limit, certificates }
    }

    /// When certificates end, and how many of their files cannot be used. Nothing where TLS is off.
    fn encode_certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(report) = self.certificates.as_ref().map(ServerCertificates::report) else { return Ok(()) };
        let gauge = ConstGauge::new(0_i64);
        let help = "Seconds until the certificate ends; negative once it has";
        let mut family =
            encoder.encode_descriptor("tls_certificate_remaining_seconds", help, None, gauge.metric_type())?;
        for certificate in &report.certificates {
            let file = certificate.certificate.display().to_string();
            let labels = [("certificate", file.as_str())];
            ConstGauge::new(certificate.ends_in_seconds).encode(family.encode_family(&labels)?)?;
        }
        let help = "Certificates and authorities whose files were changed to something that cannot be used";
        let failing = ConstGauge::new(i64::try_from(report.failing()).unwrap_or(i64::MAX));
        let metric = encoder.encode_descriptor("tls_unusable_files", help, None, failing.metric_type())?;
        failing.encode(metric)
    }

    fn token_gauges(&self) -> Vec<PerRoute> {
        let states: Vec<_> = self.routes.iter().map(|route| (Arc::clone(&route.name), route.token.state())).collect();
        let seconds = |duration: Option<std::time::Duration>| duration.map_or(0.0, |duration| duration.as_secs_f64());
        let read = |value: &dyn Fn(&crate::token::KeeperState) -> f64| {
            states.iter().map(|(name, state)| (Arc::clone(name), value(state))).collect()
        };
        vec![
            (
                "token_usable",
                "Whether the route has a token that can be used",
                read(&|state| f64::from(u8::from(state.usable))),
            ),
            ("token_remaining_seconds", "Life left of the route's token", read(&|state| seconds(state.remaining))),
            ("token_age_seconds", "Time since the route's token was minted", read(&|state| seconds(state.age))),
            (
                "token_failures_in_a_row",
                "Failed renewals since the last good one",
                read(&|state| f64::from(state.failures_in_a_row)),
            ),
        ]
    }
}

impl Collected {
    fn doubts(&self) -> [PerRoute; 2] {
        let read = |value: &dyn Fn(&Route) -> bool| {
            let gauge = |route: &Arc<Route>| (Arc::clone(&route.name), f64::from(u8::from(value(route))));
            self.routes.iter().map(gauge).collect()
        };
        [
            (
                "route_denied",
                "Whether the route's role may no longer read, so that nothing of it is served",
                read(&Route::is_denied),
            ),
            (
                "route_missing_everything",
                "Whether upstream says of known projects that they do not exist, so that no 404 is believed",
                read(&Route::is_missing_everything),
            ),
        ]
    }

    fn changed_files(&self) -> PerRoute {
        let pending = |route: &Arc<Route>| {
            let number = u32::try_from(self.flow.changes(route).pending).unwrap_or(u32::MAX);
            (Arc::clone(&route.name), f64::from(number))
        };
        (
            "changed_files",
            "Files whose bytes are not those that were first seen, and that no operator has accepted",
            self.routes.iter().map(pending).collect(),
        )
    }

    fn busiest_seconds(&self) -> PerRoute {
        let known = |route: &Arc<Route>| Some((Arc::clone(&route.name), f64::from(route.busiest_second()?)));
        (
            "upstream_busiest_second",
            "Requests to upstream in the busiest second of the last minute; routes of one quota share it",
            self.routes.iter().filter_map(known).collect(),
        )
    }

    fn rate_limits(&self) -> PerRoute {
        let known = |route: &Arc<Route>| Some((Arc::clone(&route.name), route.rate_limit()?));
        (
            "upstream_rate_limit",
            "Requests per second upstream is asked at most, now; routes of one quota share it",
            self.routes.iter().filter_map(known).collect(),
        )
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauges =
            self.token_gauges().into_iter().chain([self.rate_limits(), self.busiest_seconds(), self.changed_files()]);
        for (name, help, values) in gauges.chain(self.doubts()) {
            let gauge = ConstGauge::new(0.0_f64);
            let mut family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            for (route, value) in values {
                let labels = [("route", route.as_ref())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, of) in
            [("token_renewals", "Tokens minted", true), ("token_failures", "Mints that failed", false)]
        {
            let counter = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            for route in &self.routes {
                let state = route.token.state();
                let labels = [("route", route.name.as_ref())];
                let value = if of { state.renewals } else { state.failures };
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let counter = ConstCounter::new(0_u64);
        let help = "Files that were found to have other bytes than before";
        let mut family = encoder.encode_descriptor("file_changes", help, None, counter.metric_type())?;
        for route in &self.routes {
            let labels = [("route", route.name.as_ref())];
            ConstCounter::new(self.flow.changes(route).noticed).encode(family.encode_family(&labels)?)?;
        }
        let figures = self.flow.figures();
        for (name, help, value) in [
            (
                "cache_rendered_bytes",
                "Rendered documents in memory",
                self.site.upgrade().map_or(0, |site| site.rendered_bytes()),
            ),
            ("cache_records_bytes", "Records of the index in memory", figures.records),
            (
                "cache_negative_entries",
                "Projects and lists of which is remembered that they are missing or failing",
                figures.negative,
            ),
            ("cache_disk_bytes", "Files kept in the cache directory", figures.disk),
            ("cache_disk_limit_bytes", "The size the cache directory is kept below", figures.disk_limit),
            ("upload_spool_bytes", "Uploads on disk that are not published yet", figures.spooled),
            ("downloads_in_flight", "Files being fetched", figures.downloads),
            ("buffered_bytes", "Bytes of files that wait in memory for clients to take them", figures.buffers),
            ("memory_resident_bytes", "Memory of this process; 0 where it is not known", resident_memory()),
            ("memory_limit_bytes", "The memory that this process divides among its parts", self.memory_limit),
            (
                "socket_memory_bytes",
                "Memory of the system for the connections of the control group; 0 where it is not known",
                socket_memory(),
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let help = "Pages to be fetched before a client asks for them, by outcome";
        let counter = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor("prefetches", help, None, counter.metric_type())?;
        for (outcome, count) in figures.prefetches {
            let labels = [("result", outcome.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Attempts to read core metadata from a part of its wheel, by outcome";
        let mut family = encoder.encode_descriptor("metadata_by_range", help, None, counter.metric_type())?;
        for (outcome, count) in figures.by_range {
            let labels = [("result", outcome.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Guesses which core metadata a client will ask for, by whether it did";
        let mut family = encoder.encode_descriptor("metadata_guesses", help, None, counter.metric_type())?;
        for (guess, count) in figures.guesses {
            ConstCounter::new(count).encode(family.encode_family(&[("result", guess.as_str())])?)?;
        }
        let mismatches = ConstCounter::new(figures.metadata_mismatches);
        let help = "Core metadata that was read by range and is not that of its wheel";
        let metric = encoder.encode_descriptor("metadata_mismatches", help, None, mismatches.metric_type())?;
        mismatches.encode(metric)?;
        let scrubbed = ConstCounter::new(figures.scrubbed);
        let help = "Bytes of the cache directory that were read in the background to find damage";
        let metric = encoder.encode_descriptor("cache_scrubbed_bytes", help, None, scrubbed.metric_type())?;
        scrubbed.encode(metric)?;
        let help = "Cached files that were found damaged, and removed, by kind";
        let mut family = encoder.encode_descriptor("cache_damaged", help, None, counter.metric_type())?;
        for (kind, count) in figures.damaged {
            ConstCounter::new(count).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        self.encode_certificates(&mut encoder)?;
        let failures = ConstCounter::new(figures.commit_failures);
        let help = "Files that were fetched and served, and could not be stored";
        let metric = encoder.encode_descriptor("commit_failures", help, None, failures.metric_type())?;
        failures.encode(metric)
    }
}

/// What the process has in memory.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// What the system holds for sockets, which is no part of the process's own memory.
fn socket_memory() -> u64 {
    let statistics = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    statistics.lines().find_map(|line| line.strip_prefix("sock ")?.parse().ok()).unwrap_or(0)
}

impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collected").finish_non_exhaustive()
    }
}
