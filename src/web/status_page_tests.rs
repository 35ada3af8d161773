use std::sync::Arc;

use serde_json::json;

use super::super::changed_files::ChangedFilesStatus;
use super::*;
use crate::web::CertificateReport;

/// A timeline of four intervals, of which two have passed.
fn timeline() -> TimelineStatus {
    let figures = |number: f64| vec![number, 2.0 * number];
    TimelineStatus {
        step_seconds: 30,
        intervals: 4,
        requests_per_second: figures(20.0),
        upstream_requests_per_second: figures(1.5),
        cache_share: vec![None, Some(0.975)],
        sent_bytes_per_second: figures(1024.0),
        upstream_bytes_per_second: figures(512.0),
        failures_per_second: figures(0.05),
        throttles_per_second: figures(0.0),
        busiest_second: figures(30.0),
        memory_bytes: figures(1_048_576.0),
        disk_bytes: figures(2_097_152.0),
        requests_in_flight: figures(3.0),
        connections: figures(7.0),
    }
}

fn resources() -> Resources {
    let bounded = |used| Bounded { used, limit: 8 << 20 };
    Resources {
        memory: bounded(2 << 20),
        disk: bounded(4 << 20),
        records: bounded(1 << 20),
        documents: bounded(0),
        connections: Bounded { used: 14, limit: 1000 },
        storage: true,
    }
}

fn explained(mark: Mark, text: &str, more: &str) -> Cell {
    Cell::Explained(mark, text.to_owned(), more.to_owned())
}

#[test]
fn every_plot_has_its_own_figures() {
    let history = HistoryStatus { hour: timeline(), day: timeline() };
    let drawn = plots(&history, &resources());
    let newest: Vec<(&str, Vec<Option<f64>>)> = drawn
        .iter()
        .map(|plot| (plot.title, plot.lines.iter().filter_map(|line| line.hour.last().copied()).collect()))
        .collect();
    let expected = [
        ("Requests", vec![Some(40.0), Some(3.0)]),
        ("Served from the cache", vec![Some(0.975)]),
        ("Traffic", vec![Some(2048.0), Some(1024.0)]),
        ("Failures", vec![Some(6.0), Some(0.0)]),
        ("Busiest second to CodeArtifact", vec![Some(60.0)]),
        ("Connections", vec![Some(14.0), Some(6.0)]),
        ("Memory", vec![Some(2_097_152.0)]),
        ("Cache directory", vec![Some(4_194_304.0)]),
    ];
    assert_eq!(newest, expected);
    assert!(drawn.iter().all(|plot| plot.most == [4, 4]));
    assert_eq!(drawn[6].top, Some(8_388_608.0), "memory is drawn against its bound");
}

#[test]
fn how_ready_it_is_stands_first() {
    let report = |ready, degraded, reason| state(&ReadinessReport { ready, degraded, reason });
    assert_eq!(report(true, false, None), (Mark::Good, "Ready".to_owned()));
    assert_eq!(report(true, true, Some("a route")), (Mark::Warning, "Degraded: a route".to_owned()));
    assert_eq!(report(false, false, Some("stopping")), (Mark::Bad, "Not ready: stopping".to_owned()));
}

#[test]
fn quotas_are_compared_with_the_busiest_seconds() {
    let shown = quota(&QuotaStatus {
        account: 800,
        token: 1200,
        request_rate: 350,
        busiest_second_of_minute: 3.0,
        busiest_second_of_hour: 80.0,
        busiest_second_of_day: 400.0,
        throttled_in_hour: 2.0,
    });
    let usage = |used, bound| Cell::Usage { used, bound, unit: Unit::PerSecond };
    let cells: Vec<_> = shown.rows.iter().map(|row| row[1].clone()).collect();
    assert_eq!(cells, [usage(80.0, 800.0), usage(400.0, 800.0), usage(80.0, 1200.0), usage(400.0, 1200.0)]);
    assert!(shown.about.contains("at most 350/s") && shown.about.contains("throttled 2 requests"), "{}", shown.about);
}

#[test]
fn parts_that_replicas_share_are_shown_with_all_they_say() {
    let section = json!({
        "store": { "breaker": "closed", "leases": true },
        "redis": { "breaker": "open" },
        "events": { "working": false, "failures_in_a_row": 3, "last_error": "<denied>" },
    });
    let rows = fleet(&section).rows;
    let expected = [
        ("store", Cell::State(Mark::Good, "works".to_owned()), "leases: yes"),
        ("redis", Cell::State(Mark::Bad, "away, breaker open".to_owned()), ""),
        ("events", Cell::State(Mark::Bad, "not read".to_owned()), "failures in a row: 3, last error: <denied>"),
    ];
    for (row, (part, state, details)) in rows.iter().zip(expected) {
        assert_eq!(*row, [Cell::text(part), state, Cell::text(details)]);
    }
    assert_eq!(rows.len(), 3);
}

#[test]
fn issuers_and_certificates_say_what_is_wrong_with_them() {
    let issuer = |keys, failing| IssuerStatus { issuer: Arc::from("ci"), keys, age_seconds: Some(90), failing };
    let states: Vec<_> =
        issuers(&[issuer(2, false), issuer(2, true), issuer(0, true)]).rows.iter().map(|row| row[1].clone()).collect();
    let state = |mark, text: &str| Cell::State(mark, text.to_owned());
    let expected = [
        state(Mark::Good, "keys are there"),
        state(Mark::Warning, "the last fetch failed; keys are kept"),
        state(Mark::Bad, "no keys yet"),
    ];
    assert_eq!(states, expected);
    let certificate = |ends_in_seconds, error: Option<&str>| CertificateReport {
        certificate: "/tls/tls.crt".into(),
        names: vec!["a.internal".to_owned(), "b.internal".to_owned()],
        ends_in_seconds,
        error: error.map(str::to_owned),
    };
    let day = 24 * 60 * 60;
    let report = TlsReport {
        certificates: vec![
            certificate(60 * day, None),
            certificate(3 * day, None),
            certificate(60 * day, Some("no key")),
            certificate(-1, None),
        ],
        client_ca_error: Some("empty".to_owned()),
    };
    let states: Vec<_> = certificates(&report).rows.iter().map(|row| row[1].clone()).collect();
    let expected = [
        state(Mark::Good, "60 d left"),
        state(Mark::Warning, "3 d left"),
        explained(Mark::Warning, "60 d left", "the new files cannot be used: no key"),
        state(Mark::Bad, "has ended"),
        explained(Mark::Warning, "those before stay", "empty"),
    ];
    assert_eq!(states, expected);
}

#[test]
fn hostile_text_of_failures_is_text() {
    let hostile = "/simple/\"'><script>alert(1)</script>&\u{202e}";
    let failure = Failure {
        at: 1_793_491_200,
        request: "0123456789abcdef".to_owned(),
        route: Some(Arc::from(hostile)),
        method: hostile.to_owned(),
        path: hostile.to_owned(),
        kind: "page",
        status: 503,
        error: Some("unavailable-token"),
    };
    let table = failures(&[failure]);
    assert_eq!(table.rows[0][4], Cell::text("503 unavailable-token"));
    let page = ui::status(&StatusPage {
        state: Mark::Bad,
        summary: hostile.to_owned(),
        version: "1",
        uptime_seconds: 0,
        now: moment(0),
        is_live: false,
        plots: Vec::new(),
        tables: vec![table],
    });
    assert!(!page.contains("<script>alert") && !page.contains("\"'>"), "{page}");
    assert!(page.contains("2026-11-01 00:00:00 UTC") && page.contains("0123456789abcdef"), "{page}");
}

#[test]
fn routes_say_how_their_tokens_and_upstreams_are() {
    let good = || RouteStatus {
        route: Arc::from("pypi"),
        token: true,
        token_remaining_seconds: Some(39_600),
        token_failures: 0,
        token_error: Some("network: an old one".to_owned()),
        endpoint: true,
        changed_files: ChangedFilesStatus::default(),
        repository: "acme/python".to_owned(),
        upstream: Some("closed"),
        rate_limit: Some(87.5),
        denied: false,
        missing_everything: false,
        gated: false,
    };
    let state = |mark, text: &str| Cell::State(mark, text.to_owned());
    let row = routes(&[good()]).rows.remove(0);
    let expected = [
        Cell::text("pypi"),
        Cell::Code("acme/python".to_owned()),
        state(Mark::Good, "11 h left"),
        state(Mark::Good, "in use"),
        Cell::Figure("87.5/s".to_owned()),
        Cell::text("none"),
    ];
    assert_eq!(row, expected);
    let failing =
        |token| RouteStatus { token, token_failures: 2, token_error: Some("denied: no".to_owned()), ..good() };
    assert_eq!(token(&failing(true)), explained(Mark::Warning, "11 h left", "renewal fails: denied: no"));
    assert_eq!(token(&failing(false)), explained(Mark::Bad, "none", "denied: no"));
    for (route, mark, text) in [
        (RouteStatus { denied: true, ..good() }, Mark::Bad, "the role may no longer read"),
        (RouteStatus { missing_everything: true, ..good() }, Mark::Bad, "says that everything is missing"),
        (RouteStatus { upstream: None, ..good() }, Mark::Bad, "its address is not known yet"),
        (RouteStatus { upstream: Some("open"), ..good() }, Mark::Bad, "does not respond; circuit breaker open"),
        (RouteStatus { upstream: Some("throttled"), ..good() }, Mark::Warning, "throttles; requests wait"),
    ] {
        assert_eq!(upstream(&route), state(mark, text));
    }
    let gated = RouteStatus { gated: true, ..good() };
    assert_eq!(routes(&[gated]).rows[0][0], Cell::text("pypi (identities only)"));
}
