//! The project list, which comes from the control plane.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::client::{JSON, until};
use crate::support::proxy::{PACKAGES, Proxy, refusal};
use crate::support::scripted::{Gate, Reply};

fn packages(names: &[&str], next: Option<&str>) -> Reply {
    let packages: Vec<Value> = names.iter().map(|name| json!({"format": "pypi", "package": name})).collect();
    let mut listing = json!({"packages": packages});
    if let Some(next) = next {
        listing["nextToken"] = next.into();
    }
    Reply::ok(listing.to_string()).header("content-type", "application/json")
}

fn asked(proxy: &Proxy) -> usize {
    proxy.control.requests_to(PACKAGES).len()
}

#[tokio::test]
async fn paginated_listings_are_merged_and_sorted() {
    let proxy = Proxy::start().await;
    proxy.control.on_each(PACKAGES, [packages(&["zebra", "A.b"], Some("more")), packages(&["a_b", "mid"], None)]);
    let json = proxy.get("/simple/").json().send().await.expect(200);
    json.expect_headers(&[
        ("content-type", JSON),
        ("content-length", "*"),
        ("etag", "*"),
        ("cache-control", "no-cache"),
        ("vary", "Accept, Accept-Encoding"),
        ("cache-status", "wheelport; fwd=miss; stored"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "*"),
    ]);
    assert_eq!(
        json.value(),
        json!({"meta": {"api-version": "1.0"}, "projects": [{"name": "a-b"}, {"name": "mid"}, {"name": "zebra"}]})
    );
    let html = proxy.get("/pypi/main/simple/").send().await.expect(200);
    assert_eq!(html.header("cache-status"), Some("wheelport; hit"));
    for name in ["a-b", "mid", "zebra"] {
        assert!(html.text().contains(&format!("<a href=\"{name}/\">{name}</a>")), "{}", html.text());
    }
    let tag = json.header("etag").expect("a tag");
    proxy.get("/simple/").json().header("if-none-match", tag).send().await.expect(304);
    assert_eq!(asked(&proxy), 2);
}

#[tokio::test]
async fn concurrent_requests_share_one_call() {
    let (proxy, gate) = (Proxy::start().await, Gate::closed());
    proxy.control.on(PACKAGES, packages(&["a"], None).before_head(&gate));
    let opening = async {
        gate.reached().await;
        gate.open();
    };
    let (responses, ()) = tokio::join!(join_all((0..10).map(|_| proxy.get("/simple/").json().send())), opening);
    for response in responses {
        response.expect(200);
    }
    assert_eq!(asked(&proxy), 1);
}

#[tokio::test]
async fn a_role_that_may_not_list_gives_404_with_the_missing_permission() {
    let proxy = Proxy::start().await;
    proxy.control.on(PACKAGES, refusal(403, "AccessDeniedException", "not authorized"));
    for _ in 0..2 {
        let response = proxy.get("/simple/").json().send().await.expect(404);
        assert_eq!(response.value()["code"], "list-not-offered");
        assert!(response.text().contains("codeartifact:ListPackages"), "{}", response.text());
    }
    assert_eq!(asked(&proxy), 1, "the refusal is remembered");
    // But not forever.
    proxy.control.on(PACKAGES, packages(&["a"], None));
    proxy.pass(Duration::from_secs(61)).await;
    proxy.get("/simple/").json().send().await.expect(200);
}

#[tokio::test]
async fn a_failing_control_plane_is_503_and_never_an_empty_list() {
    let proxy = Proxy::start().await;
    proxy.control.on(PACKAGES, Reply::raw(""));
    let response = proxy.get("/simple/").json().send().await;
    assert_eq!((response.status, response.header("retry-after").is_some()), (503, true), "{response:?}");
    proxy.control.on(PACKAGES, packages(&["a"], None));
    proxy.get("/simple/").json().send().await.expect(200);
}

#[tokio::test]
async fn an_old_list_is_served_while_the_new_one_is_fetched_and_when_that_fails() {
    let proxy = Proxy::start().await;
    proxy.control.on(PACKAGES, packages(&["a"], None));
    proxy.get("/simple/").json().send().await.expect(200);
    proxy.control.on(PACKAGES, refusal(400, "ValidationException", "broken"));
    proxy.pass(Duration::from_secs(5 * 60 + 1)).await;
    let old = proxy.get("/simple/").json().send().await.expect(200);
    assert_eq!(old.value()["projects"], json!([{"name": "a"}]));
    until("the failed refresh", async || (asked(&proxy) >= 2).then_some(())).await;
    let stale = async || {
        let response = proxy.get("/simple/").json().send().await.expect(200);
        assert_eq!(response.value()["projects"], json!([{"name": "a"}]));
        (response.header("cache-status") == Some("wheelport; fwd=stale")).then_some(())
    };
    until("the failure to be known", stale).await;
    proxy.control.on(PACKAGES, packages(&["a", "b"], None));
    proxy.pass(Duration::from_secs(11)).await;
    let renewed = async || {
        let projects = proxy.get("/simple/").json().send().await.expect(200).value()["projects"].clone();
        (projects == json!([{"name": "a"}, {"name": "b"}])).then_some(())
    };
    until("the new list", renewed).await;
}
