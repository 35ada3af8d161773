//! What CodeArtifact was spared, what that would have cost, and how far its quotas are: `/savings`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::Serialize;

use super::operator_page::{PageQuery, html, json, moment, wants_html};
use super::ops_query::OpsQuery;
use super::status::{QuotaStatus, whole};
use super::{Prices, Site, status_page};
use crate::telemetry::{Measure, MonthOfSavings, RequestTally, Sample, SavingsView};
use crate::ui::{self, Cell, SavingsPage, Table};

/// The page as data.
#[derive(Serialize)]
struct SavingsReport {
    /// When this was true, in seconds since the Unix epoch.
    now: u64,
    /// The name of this month in UTC, such as `2026-11`.
    month: String,
    /// Since when this month is counted, in seconds since the Unix epoch.
    since: u64,
    so_far: Balance,
    /// What this month comes to at its end; null before a day of it was counted.
    projected: Option<Balance>,
    /// The months before, the newest first.
    earlier: Vec<EarlierMonth>,
    /// How requests since the start of the process were served.
    served: ServedStatus,
    quota: QuotaStatus,
    /// When the counts were last written to the cache directory.
    written: Option<u64>,
    /// Why they could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    write_error: Option<String>,
}

#[derive(Serialize)]
struct EarlierMonth {
    month: String,
    since: u64,
    #[serde(flatten)]
    balance: Balance,
}

/// What was requested, what was not, and what that is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Balance {
    #[serde(flatten)]
    tally: RequestTally,
    spared_requests: i64,
    spared_bytes: i64,
    /// Only where there are prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    money: Option<Money>,
}

/// What it costs at the configured prices.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Money {
    currency: String,
    /// What clients would have cost without this server.
    without: f64,
    /// What this server cost.
    with: f64,
    spared: f64,
}

/// Requests by where their response came from.
#[derive(Serialize)]
struct ServedStatus {
    /// From the cache.
    cache: u64,
    /// From upstream, or from what replicas share.
    elsewhere: u64,
    /// Objects that came from what replicas share, in place of CodeArtifact.
    shared_tier: u64,
}

impl Balance {
    fn of(tally: RequestTally, prices: &Prices) -> Self {
        let (requests, bytes) = (tally.spared_requests(), tally.spared_bytes());
        let size = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let without = prices.cost(size(tally.requests), size(tally.bytes));
        let with = prices.cost(size(tally.upstream_requests), size(tally.upstream_bytes));
        let money = without.zip(with).map(|(without, with)| Money {
            currency: prices.currency.as_str().to_owned(),
            without,
            with,
            spared: without - with,
        });
        Self { tally, spared_requests: requests, spared_bytes: bytes, money }
    }
}

impl SavingsReport {
    fn of(site: &Site) -> Self {
        let (sample, now) = (site.sample(), site.flow.policy().now().0);
        // What came since the last sample is on the page too, so that it agrees with the metrics.
        let since_sample = RequestTally::between(&site.history.newest().unwrap_or_else(Sample::zero), &sample);
        let SavingsView { name, mut month, projected, earlier, written, failure } = site.savings.view(now);
        month.tally += since_sample;
        let balance = |tally| Balance::of(tally, &site.prices);
        let before = |(month, MonthOfSavings { since, tally })| EarlierMonth { month, since, balance: balance(tally) };
        Self {
            now,
            month: name,
            since: month.since,
            so_far: balance(month.tally),
            projected: projected.map(balance),
            earlier: earlier.into_iter().map(before).collect(),
            served: ServedStatus {
                cache: whole(&sample, Measure::Hits),
                elsewhere: whole(&sample, Measure::Misses),
                shared_tier: whole(&sample, Measure::TierHits),
            },
            quota: QuotaStatus::of(site, &sample),
            written,
            write_error: failure,
        }
    }
}

/// `GET /savings`: a page for browsers, JSON for everything else.
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    OpsQuery(query): OpsQuery<PageQuery>,
    headers: HeaderMap,
) -> Response {
    let report = SavingsReport::of(&site);
    if wants_html(&headers) { html(document(&report), query) } else { json(&report) }
}

/// `GET /savings.json`.
pub(super) async fn data(State(site): State<Arc<Site>>) -> Response {
    json(&SavingsReport::of(&site))
}

fn document(report: &SavingsReport) -> String {
    let headline = match &report.so_far.money {
        Some(money) => (amount(money.spared, &money.currency), "spared this month".to_owned()),
        None => (ui::number(report.so_far.spared_requests), "requests spared this month".to_owned()),
    };
    let warning = report.write_error.as_ref().map(|error| {
        format!("The counts cannot be written to the cache directory, so a restart would lose them: {error}")
    });
    ui::savings(&SavingsPage {
        now: moment(report.now),
        headline,
        notes: notes(report),
        warning,
        tables: vec![this_month(report), served(&report.served), status_page::quota(&report.quota), earlier(report)],
    })
}

/// A moment in a sentence.
fn spoken(seconds: u64) -> String {
    moment(seconds).replace('T', " ").replace('Z', "")
}

fn amount(money: f64, currency: &str) -> String {
    format!("{}{:.2} {currency}", if money < -0.004 { "−" } else { "" }, money.abs())
}

#[expect(clippy::cast_precision_loss, reason = "a size is shown with three digits")]
fn size(bytes: i64) -> String {
    ui::bytes(bytes as f64)
}

/// The rows of one balance: without this server, with it, spared.
fn rows(name: &str, balance: &Balance) -> Vec<Vec<Cell>> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let row = |what: &str, figures: [String; 3]| {
        let [without, with, spared] = figures.map(Cell::Figure);
        vec![Cell::Text(format!("{what} {name}")), without, with, spared]
    };
    let Balance { tally, spared_requests, spared_bytes, money } = balance;
    let numbers = [count(tally.requests), count(tally.upstream_requests), *spared_requests].map(ui::number);
    let sizes = [count(tally.bytes), count(tally.upstream_bytes), *spared_bytes].map(size);
    let costs =
        money.as_ref().map(|money| [money.without, money.with, money.spared].map(|of| amount(of, &money.currency)));
    let costs = costs.map(|costs| row("Money", costs));
    [row("Requests", numbers), row("Bytes", sizes)].into_iter().chain(costs).collect()
}

fn this_month(report: &SavingsReport) -> Table {
    let projected = report.projected.as_ref().map(|balance| rows("by the end of the month", balance));
    Table {
        title: "This month",
        about: format!("{} in UTC, counted since {}.", report.month, spoken(report.since)),
        columns: &["What", "Clients asked for", "Asked of CodeArtifact", "Spared"],
        rows: rows("so far", &report.so_far).into_iter().chain(projected.into_iter().flatten()).collect(),
        empty: "",
    }
}

fn served(served: &ServedStatus) -> Table {
    let row = |what: &str, number: u64| {
        vec![Cell::text(what), Cell::Figure(ui::number(i64::try_from(number).unwrap_or(i64::MAX)))]
    };
    Table {
        title: "Where responses came from",
        about: "Since the start of this process.".to_owned(),
        columns: &["From", "Number"],
        rows: vec![
            row("The cache of this process", served.cache),
            row("CodeArtifact, or what replicas share", served.elsewhere),
            row("Objects found in what replicas share", served.shared_tier),
        ],
        empty: "",
    }
}

fn earlier(report: &SavingsReport) -> Table {
    let row = |month: &EarlierMonth| {
        let money =
            month.balance.money.as_ref().map_or("–".to_owned(), |money| amount(money.spared, &money.currency));
        vec![
            Cell::text(month.month.as_str()),
            Cell::Figure(ui::number(month.balance.spared_requests)),
            Cell::Figure(size(month.balance.spared_bytes)),
            Cell::Figure(money),
        ]
    };
    Table {
        title: "Earlier months",
        about: String::new(),
        columns: &["Month", "Requests spared", "Bytes spared", "Money spared"],
        rows: report.earlier.iter().map(row).collect(),
        empty: "Nothing was counted before this month.",
    }
}

fn notes(report: &SavingsReport) -> Vec<String> {
    let mut notes = vec![
        "Clients asked for: pages, files and core metadata that were answered with content or “not modified”, and \
         uploads. CodeArtifact has no core metadata of its own; a client would have fetched the wheel, or a part of \
         it, so this is less than it would have been."
            .to_owned(),
        "Asked of CodeArtifact: every HTTP request to its repositories, with refreshes, retries and what is fetched \
         ahead of clients. Calls of its control plane, such as for tokens and project lists, are not counted."
            .to_owned(),
        "This is one process, or all that share its cache directory; other replicas count for themselves.".to_owned(),
    ];
    notes.push(match report.written {
        Some(written) => format!("The counts survive restarts; they were last written at {}.", spoken(written)),
        None => "The counts are written to the cache directory every ten minutes and at the stop.".to_owned(),
    });
    if report.projected.is_none() {
        notes.push("The end of the month is projected once a day of it was counted.".to_owned());
    }
    if report.so_far.money.is_none() {
        notes.push("No money is shown, because the configuration has no [prices].".to_owned());
    } else {
        notes.push("Money is at the prices of the configuration ([prices]), without free tiers.".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_is_what_clients_asked_for_less_what_was_asked_of_codeartifact() {
        let prices: Prices =
            toml::from_str("per_10k_requests = 0.5\nper_gb_out = 2.0\ncurrency = \"EUR\"").expect("prices");
        let tally = RequestTally {
            requests: 50_000,
            upstream_requests: 10_000,
            bytes: 4_000_000_000,
            upstream_bytes: 1_000_000_000,
            tier_hits: 3,
        };
        let balance = Balance::of(tally, &prices);
        assert_eq!((balance.spared_requests, balance.spared_bytes), (40_000, 3_000_000_000));
        let money = balance.money.clone().expect("there are prices");
        for (found, expected) in [(money.without, 10.5), (money.with, 2.5), (money.spared, 8.0)] {
            assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        }
        let texts: Vec<Vec<Cell>> = rows("so far", &balance);
        let figure = |text: &str| Cell::Figure(text.to_owned());
        assert_eq!(texts[0], [Cell::text("Requests so far"), figure("50,000"), figure("10,000"), figure("40,000")]);
        assert_eq!(texts[1][1..], [figure("3.73 GiB"), figure("954 MiB"), figure("2.79 GiB")][..]);
        assert_eq!(texts[2][1..], [figure("10.50 EUR"), figure("2.50 EUR"), figure("8.00 EUR")][..]);
        assert_eq!(Balance::of(tally, &Prices::default()).money, None, "no prices, no money");
    }

    #[test]
    fn a_loss_is_shown_as_one() {
        let prices: Prices = toml::from_str("per_10k_requests = 1.0").expect("a price");
        let balance = Balance::of(RequestTally { upstream_requests: 20_000, ..RequestTally::default() }, &prices);
        assert_eq!(rows("", &balance)[2][3], Cell::Figure("−2.00 USD".to_owned()));
        assert_eq!(amount(-0.001, "USD"), "0.00 USD");
    }
}
