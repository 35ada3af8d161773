//! Storms: many clients request much that is not in the cache. Upstream's quota holds, no client sees a failure, and no
//! client waits for the backlog of another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use wheelport_runtime::HumanDuration;

use crate::support::client::{JSON, until};
use crate::support::proxy::{Builder, Proxy};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::wheels::{REPOSITORY, Sample, publish};

const SECOND: Duration = Duration::from_secs(1);

fn empty_page() -> Reply {
    let page = json!({"meta": {"api-version": "1.1"}, "name": "x", "versions": [], "files": []});
    Reply::ok(page.to_string()).header("content-type", JSON)
}

/// What an upstream with a quota has seen.
#[derive(Default)]
struct Quota {
    within_a_second: VecDeque<Instant>,
    throttled: usize,
}

/// Serves these projects, this many requests in any second, and responds 429 to the rest.
fn enforce(upstream: &Scripted, projects: &[String], per_second: usize) -> Arc<Mutex<Quota>> {
    let quota = Arc::new(Mutex::new(Quota::default()));
    let shared = Arc::clone(&quota);
    let reply = Reply::with(move |_| {
        let (mut quota, now) = (shared.lock(), Instant::now());
        while quota.within_a_second.front().is_some_and(|seen| now.duration_since(*seen) >= SECOND) {
            quota.within_a_second.pop_front();
        }
        if quota.within_a_second.len() >= per_second {
            quota.throttled += 1;
            return Reply::status(429);
        }
        quota.within_a_second.push_back(now);
        empty_page()
    });
    for project in projects {
        upstream.on(&format!("GET {REPOSITORY}/simple/{project}/"), reply.clone());
    }
    quota
}

fn projects(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// Settings that tell clients apart by the address that the test gives them.
fn behind_a_proxy() -> Builder {
    Proxy::builder().set(|builder| {
        builder.server.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
    })
}

async fn page(proxy: &Proxy, client: u8, project: &str) -> u16 {
    let asking = proxy.get(&format!("/simple/{project}/"));
    asking.header("x-forwarded-for", &format!("10.0.0.{client}")).send().await.status
}

/// Several clients request all of these at once. Returns the statuses they get.
async fn storm(proxy: &Proxy, projects: &[String]) -> Vec<u16> {
    let asking = projects.iter().zip((1..=5).cycle());
    join_all(asking.map(|(project, client)| page(proxy, client, project))).await
}

/// Waits until this many requests are queued for a permit.
async fn queued(proxy: &Proxy, count: usize) {
    let line = format!("wheelport_upstream_queued{{route=\"main\",queue=\"in-flight\"}} {count}");
    until(&line, async || proxy.metrics().await.contains(&format!("{line}\n")).then_some(())).await;
}

/// The projects in the order in which upstream got requests for them.
fn order(proxy: &Proxy) -> Vec<String> {
    let project = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    proxy.upstream.requests().iter().map(|seen| project(seen.path())).collect()
}

#[tokio::test]
async fn a_cold_storm_stays_below_the_quota_and_no_client_sees_a_failure() {
    let proxy = behind_a_proxy().set(|builder| {
        builder.client.request_rate = 120.try_into().expect("not zero");
        builder.client.request_burst = 20.try_into().expect("not zero");
    });
    let proxy = proxy.start().await;
    let projects = projects("cold", 300);
    let quota = enforce(&proxy.upstream, &projects, 200);
    let began = Instant::now();
    let statuses = storm(&proxy, &projects).await;
    let took = began.elapsed();
    assert_eq!(statuses.iter().filter(|status| **status != 200).count(), 0, "{statuses:?}");
    assert_eq!(quota.lock().throttled, 0);
    assert!(took >= Duration::from_millis(2300), "all but the burst come at the rate: {took:?}");
    assert_eq!(proxy.upstream.requests().len(), projects.len(), "each once");
}

#[tokio::test]
async fn the_rate_settles_at_a_smaller_quota_and_no_client_sees_a_failure() {
    // Requests in flight when the quota runs out are refused, however soon the proxy notices.
    let proxy = behind_a_proxy().set(|builder| builder.client.max_in_flight = 8).start().await;
    let projects = projects("cold", 250);
    let quota = enforce(&proxy.upstream, &projects, 100);
    let statuses = storm(&proxy, &projects).await;
    assert_eq!(statuses.iter().filter(|status| **status != 200).count(), 0, "{statuses:?}");
    let throttled = quota.lock().throttled;
    println!("{throttled} of {} were throttled", projects.len());
    assert!((1..=3 * 8).contains(&throttled), "{throttled} of {} were throttled", projects.len());
    let metrics = proxy.metrics().await;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    let limit = value("wheelport_upstream_rate_limit{route=\"main\"}");
    assert!((7.0..=200.0).contains(&limit), "{limit}");
    let counted = format!("wheelport_upstream_throttles_total{{route=\"main\"}} {throttled}\n");
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test]
async fn one_request_does_not_wait_for_the_backlog_of_another_client() {
    let proxy = behind_a_proxy().set(|builder| builder.client.max_in_flight = 4).start().await;
    let gate = Gate::closed();
    let (greedy, modest) = (projects("greedy", 60), projects("modest", 1));
    for project in greedy.iter().chain(&modest) {
        let held = empty_page().before_head(&gate);
        proxy.upstream.on(&format!("GET {REPOSITORY}/simple/{project}/"), held);
    }
    let many = join_all(greedy.iter().map(|project| page(&proxy, 1, project)));
    let one = async {
        queued(&proxy, greedy.len() - 4).await;
        let opening = async {
            queued(&proxy, greedy.len() - 4 + 1).await;
            gate.open();
        };
        join(page(&proxy, 2, &modest[0]), opening).await.0
    };
    let (many, one) = join(many, one).await;
    assert_eq!((one, many.iter().filter(|status| **status == 200).count()), (200, greedy.len()));
    let order = order(&proxy);
    let at = order.iter().position(|project| *project == modest[0]).expect("it was requested");
    // Behind those in flight and one turn of the other client; four at a time may arrive out of order.
    assert!(at < 4 + 2 + 4, "it came after {at} others: {order:?}");
}

#[tokio::test]
async fn a_background_refresh_comes_last() {
    let always_stale = |builder: Builder| {
        builder.windows(HumanDuration::millis(0), HumanDuration::secs(3600), HumanDuration::secs(7200))
    };
    let proxy = always_stale(behind_a_proxy()).set(|builder| builder.client.max_in_flight = 2).start().await;
    let gate = Gate::closed();
    let cold = projects("cold", 6);
    let known = format!("GET {REPOSITORY}/simple/known/");
    proxy.upstream.on(&known, empty_page());
    assert_eq!(page(&proxy, 1, "known").await, 200);
    proxy.upstream.on(&known, empty_page().before_head(&gate));
    for project in &cold {
        let held = empty_page().before_head(&gate);
        proxy.upstream.on(&format!("GET {REPOSITORY}/simple/{project}/"), held);
    }
    let (first, later) = cold.split_at(2);
    let asking = join_all(first.iter().map(|project| page(&proxy, 1, project)));
    let rest = async {
        gate.reached_by(2).await;
        assert_eq!(page(&proxy, 1, "known").await, 200, "a cached page is served at once");
        queued(&proxy, 1).await;
        let opening = async {
            queued(&proxy, 1 + later.len()).await;
            gate.open();
        };
        join(join_all(later.iter().map(|project| page(&proxy, 1, project))), opening).await.0
    };
    let (first, later) = join(asking, rest).await;
    assert!(first.iter().chain(&later).all(|status| *status == 200), "{first:?} {later:?}");
    proxy.asked_by(&known, 2).await;
    let order = order(&proxy);
    // Two at a time may arrive in either order.
    assert!(order[order.len() - 2..].contains(&"known".to_owned()), "{order:?}");
}

#[tokio::test]
async fn a_request_that_finds_the_queue_full_gets_503() {
    let proxy = behind_a_proxy().set(|builder| {
        builder.client.max_in_flight = 2;
        builder.client.max_queue = 1;
    });
    let proxy = proxy.start().await;
    let gate = Gate::closed();
    let waiting = projects("waiting", 3);
    for project in waiting.iter().map(String::as_str).chain(["refused"]) {
        let held = empty_page().before_head(&gate);
        proxy.upstream.on(&format!("GET {REPOSITORY}/simple/{project}/"), held);
    }
    let asking = join_all(waiting.iter().map(|project| page(&proxy, 1, project)));
    let refused = async {
        queued(&proxy, 1).await;
        proxy.get("/simple/refused/").send().await.expect_unavailable("unavailable-busy");
        gate.open();
    };
    let (statuses, ()) = join(asking, refused).await;
    assert_eq!(statuses, [200, 200, 200]);
    assert_eq!(proxy.asked(&format!("GET {REPOSITORY}/simple/refused/")), 0);
}

#[tokio::test]
async fn made_up_names_cost_upstream_no_more_than_its_limit_and_real_projects_stay_hits() {
    const RATE: u32 = 100;
    const BURST: u32 = 10;
    let proxy = behind_a_proxy().set(|builder| {
        builder.client.request_rate = RATE.try_into().expect("not zero");
        builder.client.request_burst = BURST.try_into().expect("not zero");
    });
    let proxy = proxy.start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    assert_eq!(page(&proxy, 9, "a-b").await, 200);
    let made_up = projects("made-up", 300);
    for name in &made_up {
        proxy.upstream.on(&format!("GET {REPOSITORY}/simple/{name}/"), Reply::status(404));
    }
    let began = Instant::now();
    let storming = storm(&proxy, &made_up);
    let meanwhile = async {
        for _ in 0..100 {
            let hit = proxy.get("/simple/a-b/").send().await.expect(200);
            assert_eq!(hit.header("cache-status").map(|status| status.starts_with("wheelport; hit")), Some(true));
        }
    };
    let (statuses, ()) = join(storming, meanwhile).await;
    let allowed = began.elapsed().as_secs_f64() * f64::from(RATE) + f64::from(BURST) + 1.0;
    assert!(statuses.iter().all(|status| *status == 404), "{statuses:?}");
    let asked = proxy.upstream.requests().len();
    assert!(
        u32::try_from(asked).is_ok_and(|asked| f64::from(asked) <= allowed),
        "{asked} requests where {allowed} are allowed"
    );
    // The same names again cost nothing.
    assert!(storm(&proxy, &made_up).await.iter().all(|status| *status == 404));
    assert_eq!(proxy.upstream.requests().len(), asked);
    let metrics = proxy.metrics().await;
    let held = metrics.lines().find_map(|line| line.strip_prefix("wheelport_cache_negative_entries "));
    let held: usize = held.and_then(|held| held.parse().ok()).expect("a gauge");
    assert!((1..=made_up.len()).contains(&held), "{held} entries");
}
