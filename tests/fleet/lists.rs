//! Project lists over several replicas: `ListPackages` is called once for all of them, and what it said once serves
//! those that cannot call it.

use wheelport_runtime::HumanDuration;

use super::servers::{ministack, new_bucket};
use super::support::client::until;
use super::support::proxy::{Builder, PACKAGES, Proxy, control_plane, refusal};
use super::support::scripted::{Reply, Scripted};
use super::support::wheels::{PAGE, Sample, page};

const LIST: &str = "/simple/";

async fn replica(control: &Scripted, upstream: &Scripted, fleet: &wheelport::fleet::FleetSettings) -> Proxy {
    let builder = Proxy::builder().control(control).upstream(upstream).set(|builder: &mut Builder| {
        builder.fleet = fleet.clone();
        builder.cache.list_fresh_for = HumanDuration::secs(300);
    });
    let proxy = builder.start().await;
    // Its role has to show that it may read.
    proxy.get("/simple/a-b/").json().send().await.expect(200);
    proxy
}

async fn names(proxy: &Proxy) -> Vec<String> {
    let list = proxy.get(LIST).json().send().await.expect(200).value();
    let projects = list["projects"].as_array().cloned().unwrap_or_default();
    projects.iter().filter_map(|project| project["name"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_project_list_is_asked_for_once_by_all_replicas_and_served_while_it_cannot_be_asked_for() {
    let (control, upstream) = (control_plane().await, Scripted::start().await);
    upstream.on(PAGE, page(&[Sample::wheel().entry()]));
    let packages = r#"{"packages": [{"format": "pypi", "package": "A.b"}, {"format": "pypi", "package": "hello"}]}"#;
    control.on(PACKAGES, Reply::ok(packages).header("content-type", "application/json"));
    let fleet = new_bucket(ministack().port).await;
    let first = replica(&control, &upstream, &fleet).await;
    assert_eq!(names(&first).await, ["a-b", "hello"]);
    until("the shared list", async || {
        first.metrics().await.contains("wheelport_fleet_tier_total{kind=\"list\",result=\"written\"} 1").then_some(())
    })
    .await;
    control.on(PACKAGES, refusal(500, "InternalServerException", "not now"));
    let second = replica(&control, &upstream, &fleet).await;
    assert_eq!(names(&second).await, ["a-b", "hello"]);
    assert_eq!(control.requests_to(PACKAGES).len(), 1, "once for both");
    // Older than it may be, and better than nothing.
    let later = Proxy::builder().control(&control).upstream(&upstream).later(600).set(|builder: &mut Builder| {
        builder.fleet = fleet.clone();
        builder.cache.list_fresh_for = HumanDuration::secs(300);
    });
    let later = later.start().await;
    later.get("/simple/a-b/").json().send().await.expect(200);
    assert_eq!(names(&later).await, ["a-b", "hello"]);
    assert!(control.requests_to(PACKAGES).len() > 1, "it was asked for");
}
