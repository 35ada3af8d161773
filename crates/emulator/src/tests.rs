//! The data plane over real sockets: what a client sees, in the order in which it meets it.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use self::support::{FakeIndex, TestResponse, TestWorld, upload_form};
use crate::Oddities;
use crate::store::{
    AllowedActions, NewRepository, OriginRestriction, OriginRestrictions, VersionStatus, VersionsAction,
    VersionsRequest,
};
use wheelport_index::ProjectName;

const HELLO: &str = "/pypi/python/simple/wheelport-hello/";
const WHEEL: &str = "/pypi/python/simple/wheelport-hello/1.0.0/wheelport_hello-1.0.0-py3-none-any.whl";
const JSON: &str = wheelport_index::media::JSON_V1;

fn name(text: &str) -> ProjectName {
    ProjectName::parse(text).expect("the tests name projects well")
}

#[tokio::test]
async fn the_list_is_missing_and_the_rest_needs_a_token() {
    let world = TestWorld::new().await;
    let list = world.anonymous(Method::GET, "/pypi/python/simple/").await;
    assert_eq!(list.status, StatusCode::NOT_FOUND);
    let page = world.anonymous(Method::GET, HELLO).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    let challenges: Vec<_> = page.headers.get_all("www-authenticate").iter().collect();
    assert_eq!(challenges, ["Bearer", "Basic realm=\"demo-111122223333/python\""]);
    let wrong = world.with_credentials(Method::GET, HELLO, "aws:nonsense").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    world.set(&json!({"bad_token": 404})).await;
    let wrong = world.with_credentials(Method::GET, HELLO, "aws:nonsense").await;
    assert_eq!(wrong.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/pypi/nowhere/simple/x/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tokens_end_by_the_clock_and_survive_a_restart() {
    let world = TestWorld::new().await;
    assert_eq!(world.get(HELLO).await.status, StatusCode::OK);
    let world = world.restarted().await;
    assert_eq!(world.get(HELLO).await.status, StatusCode::OK, "the same token, the same packages");
    let clock = world.post_json("/_emulator/clock", &json!({"shift_seconds": 43_201})).await;
    assert_eq!(clock.status, StatusCode::OK);
    assert_eq!(world.get(HELLO).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_denial_names_the_missing_right() {
    let world = TestWorld::new().await;
    let only = |action: &str| AllowedActions::Only(BTreeSet::from([action.to_owned()]));
    let reader = world.token(only("codeartifact:Read*")).await;
    let publisher = world.token(only("codeartifact:PublishPackageVersion")).await;
    let reads = world.with_credentials(Method::GET, HELLO, &format!("aws:{reader}")).await;
    assert_eq!(reads.status, StatusCode::OK);
    let denied = world.with_credentials(Method::GET, HELLO, &format!("aws:{publisher}")).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert!(denied.text().contains("codeartifact:ReadFromRepository"), "{}", denied.text());
    let denied = world.with_credentials(Method::POST, "/pypi/python/", &format!("aws:{reader}")).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn pages_come_in_every_spelling_without_redirects() {
    let world = TestWorld::new().await;
    for path in [HELLO, "/pypi/python/simple/wheelport-hello", "/pypi/python/simple/Wheelport_Hello/"] {
        let html = world.get(path).await;
        assert_eq!((html.status, html.header("content-type")), (StatusCode::OK, "text/html; charset=UTF-8"));
        assert!(html.text().contains("<h1>Links for wheelport-hello</h1>"), "{path}");
        assert_eq!(html.header("etag"), "");
    }
    let path = "/pypi/d/demo-111122223333/python/simple/wheelport-hello/";
    let page = world.get_as(path, JSON).await;
    assert_eq!(page.header("content-type"), JSON);
    let page = page.json();
    assert_eq!(page["versions"], json!(["1.0.0", "1.1.0", "2.0.0"]));
    assert_eq!(page["files"][0]["url"], "1.0.0/wheelport_hello-1.0.0-py3-none-any.whl");
    assert!(page["files"][0]["hashes"]["sha512"].is_string());
    assert_eq!(world.get_as(HELLO, "text/csv").await.status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(world.get("/pypi/python/simple/unknown/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn files_come_complete_or_as_a_range_and_without_validators() {
    let world = TestWorld::new().await;
    let complete = world.get(WHEEL).await;
    assert_eq!((complete.status, complete.header("content-type")), (StatusCode::OK, "application/octet-stream"));
    assert_eq!((complete.header("etag"), complete.header("last-modified")), ("", ""));
    let head = world.send(Method::HEAD, WHEEL, &[], Vec::new()).await;
    assert_eq!(head.header("content-length"), complete.body.len().to_string());
    let range = |text| [("range", text)];
    let part = world.send(Method::GET, WHEEL, &range("bytes=2-5"), Vec::new()).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.header("content-range"), format!("bytes 2-5/{}", complete.body.len()));
    assert_eq!(part.body, complete.body[2..6]);
    let beyond = world.send(Method::GET, WHEEL, &range("bytes=999999-"), Vec::new()).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(world.get(&format!("{WHEEL}.metadata")).await.status, StatusCode::NOT_FOUND);
    world.set(&json!({"ranges": false, "validators": true})).await;
    let ignored = world.send(Method::GET, WHEEL, &range("bytes=2-5"), Vec::new()).await;
    assert_eq!((ignored.status, ignored.header("accept-ranges")), (StatusCode::OK, ""));
    assert_eq!(ignored.header("etag").len(), 66);
}

async fn upload(world: &TestWorld, path: &str, version: &str, content: &[u8]) -> TestResponse {
    let file = format!("corp_tool-{version}.tar.gz");
    let fields = [("name", "Corp.Tool"), ("version", version), ("requires_python", ">=3.9"), ("summary", "A tool")];
    let (content_type, body) = upload_form(&fields, &file, content);
    world.send(Method::POST, path, &[("content-type", &content_type)], body).await
}

#[tokio::test]
async fn an_upload_is_seen_at_once_and_never_replaced() {
    let world = TestWorld::new().await;
    assert_eq!(upload(&world, "/pypi/python/", "1.0", b"first").await.status, StatusCode::OK);
    let page = world.get_as("/pypi/python/simple/corp-tool/", JSON).await.json();
    assert_eq!(page["files"][0]["requires-python"], ">=3.9");
    let bytes = world.get("/pypi/python/simple/corp-tool/1.0/corp_tool-1.0.tar.gz").await;
    assert_eq!(&bytes.body[..], b"first");
    assert_eq!(upload(&world, "/pypi/python", "1.0", b"first").await.status, StatusCode::OK, "the same bytes");
    assert_eq!(upload(&world, "/pypi/python/", "1.0", b"other").await.status, StatusCode::CONFLICT);
    world.set(&json!({"same_bytes": 409, "asset_limit": 5})).await;
    assert_eq!(upload(&world, "/pypi/python/", "1.0", b"first").await.status, StatusCode::CONFLICT);
    let large = upload(&world, "/pypi/python/", "2.0", b"too large").await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let no_name = upload_form(&[("version", "1.0")], "corp_tool-1.0.tar.gz", b"first");
    let refused = world.send(Method::POST, "/pypi/python/", &[("content-type", &no_name.0)], no_name.1).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn states_and_origin_controls_rule_pages_files_and_uploads() {
    let world = TestWorld::new().await;
    let (store, key) = (&world.emulator.shared.store, world.emulator.repository().clone());
    upload(&world, "/pypi/python/", "1.0", b"first").await;
    let page = "/pypi/python/simple/corp-tool/";
    let file = "/pypi/python/simple/corp-tool/1.0/corp_tool-1.0.tar.gz";
    let change = async |action| {
        let versions = vec!["1.0".to_owned()];
        let request = VersionsRequest { versions, revisions: [].into(), expected: None, action };
        let outcome = store.change_versions(key.clone(), name("corp-tool"), request).await;
        outcome.expect("the package exists")
    };
    let status = async |path: &'static str| world.get(path).await.status.as_u16();
    change(VersionsAction::SetStatus(VersionStatus::Unlisted)).await;
    assert_eq!((status(page).await, status(file).await), (404, 200));
    change(VersionsAction::SetStatus(VersionStatus::Archived)).await;
    assert_eq!((status(page).await, status(file).await), (404, 404));
    assert_eq!(upload(&world, "/pypi/python/", "1.0", b"first").await.status, StatusCode::CONFLICT);
    change(VersionsAction::Dispose).await;
    let back = change(VersionsAction::SetStatus(VersionStatus::Published)).await;
    assert!(back.successful.is_empty(), "disposed is final: {back:?}");
    change(VersionsAction::Delete).await;
    assert_eq!(upload(&world, "/pypi/python/", "1.0", b"other").await.status, StatusCode::OK);
    let closed = OriginRestrictions { publish: OriginRestriction::Block, upstream: OriginRestriction::Block };
    store.set_restrictions(key.clone(), name("corp-tool"), closed).await.expect("the package exists");
    assert_eq!(upload(&world, "/pypi/python/", "2.0", b"x").await.status, StatusCode::FORBIDDEN);
    world.set(&json!({"blocked": 409})).await;
    assert_eq!(upload(&world, "/pypi/python/", "2.0", b"x").await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_version_of_an_upstream_is_served_retained_and_not_published_over() {
    let world = TestWorld::new().await;
    let store = &world.emulator.shared.store;
    let python = world.emulator.repository().clone();
    let team = python.domain.repository("team");
    let new =
        NewRepository { key: team.clone(), description: None, upstreams: vec!["python".to_owned()], tags: [].into() };
    store.create_repository(new).await.expect("a new repository");
    upload(&world, "/pypi/python/", "1.0", b"first").await;
    assert_eq!(upload(&world, "/pypi/team/", "1.0", b"first").await.status, StatusCode::CONFLICT);
    assert_eq!(world.get("/pypi/team/simple/corp-tool/").await.status, StatusCode::OK);
    assert!(store.package(&team, &name("corp-tool")).is_err(), "a page retains nothing");
    let file = "/pypi/team/simple/corp-tool/1.0/corp_tool-1.0.tar.gz";
    assert_eq!(&world.get(file).await.body[..], b"first");
    store.delete_package(python, name("corp-tool")).await.expect("the package exists");
    assert_eq!(&world.get(file).await.body[..], b"first", "the reference keeps the bytes");
}

#[tokio::test]
async fn a_public_file_is_imported_on_request_and_stays_when_the_index_is_gone() {
    let public = FakeIndex::start().await;
    public.file("flask", "flask-3.0.tar.gz", b"flask bytes");
    public.file("flask", "flask-3.1.tar.gz", b"newer flask");
    let world = TestWorld::with_public(&public, Oddities::default()).await;
    let store = &world.emulator.shared.store;
    let python = world.emulator.repository().clone();
    let owner = python.domain.repository("public-store");
    let page = world.get_as("/pypi/python/simple/Flask/", JSON).await.json();
    assert_eq!(page["versions"], json!(["3.0", "3.1"]));
    assert!(page["files"][0]["hashes"].get("sha512").is_none());
    assert!(store.package(&python, &name("flask")).is_err(), "a page imports nothing");
    let file = "/pypi/python/simple/flask/3.0/flask-3.0.tar.gz";
    assert_eq!(&world.get(file).await.body[..], b"flask bytes");
    for key in [&python, &owner] {
        let version = store.version(key, &name("flask"), "3.0").expect("retained");
        assert!(version.assets.values().all(|asset| asset.blob().is_some() && asset.hashes.sha1.is_some()));
    }
    assert_eq!(upload_public(&world, "3.1").await.status, StatusCode::FORBIDDEN, "imports block publishing");

    public.yank("flask", "flask-3.0.tar.gz", "broken");
    let page = world.get_as("/pypi/python/simple/flask/", JSON).await.json();
    assert_eq!(page["files"][0]["yanked"], "broken", "yank marks keep coming");

    let world = world.restarted().await;
    public.stop();
    let page = world.get_as("/pypi/python/simple/flask/", JSON).await.json();
    assert_eq!(page["versions"], json!(["3.0"]), "what is retained stays");
    assert_eq!(page["files"][0]["yanked"], "broken", "and so does what was learned of it");
    assert_eq!(&world.get(file).await.body[..], b"flask bytes");
    let new = world.get("/pypi/python/simple/django/").await;
    assert_eq!(new.status, StatusCode::SERVICE_UNAVAILABLE);
}

async fn upload_public(world: &TestWorld, version: &str) -> TestResponse {
    let fields = [("name", "flask"), ("version", version)];
    let (content_type, body) = upload_form(&fields, &format!("flask-{version}.zip"), b"mine");
    world.send(Method::POST, "/pypi/python/", &[("content-type", &content_type)], body).await
}

#[tokio::test]
async fn a_public_version_cannot_be_published_over() {
    let public = FakeIndex::start().await;
    public.file("flask", "flask-3.0.tar.gz", b"flask bytes");
    let world = TestWorld::with_public(&public, Oddities::default()).await;
    assert_eq!(upload_public(&world, "3.0").await.status, StatusCode::CONFLICT);
    assert_eq!(upload_public(&world, "3.0.post1").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_import_with_the_wrong_digest_breaks_and_leaves_nothing() {
    let public = FakeIndex::start().await;
    public.file("flask", "flask-3.0.tar.gz", b"flask bytes");
    public.swap("flask-3.0.tar.gz", b"other bytes");
    let world = TestWorld::with_public(&public, Oddities::default()).await;
    let file = "/pypi/python/simple/flask/3.0/flask-3.0.tar.gz";
    assert!(world.try_get(file).await.is_err(), "a body that ends cleanly would be believed");
    public.swap("flask-3.0.tar.gz", b"flask bytes");
    assert_eq!(&world.get(file).await.body[..], b"flask bytes");
}

#[tokio::test]
async fn cold_files_show_their_oddities() {
    let public = FakeIndex::start().await;
    public.file("flask", "flask-3.0.tar.gz", b"flask bytes");
    let world = TestWorld::with_public(&public, Oddities::default()).await;
    let file = "/pypi/python/simple/flask/3.0/flask-3.0.tar.gz";
    world.set(&json!({"cold_404": "1h", "head_range_cold_500": true})).await;
    assert_eq!(world.get(file).await.status, StatusCode::NOT_FOUND);
    let head = world.send(Method::HEAD, file, &[], Vec::new()).await;
    assert_eq!(head.status, StatusCode::INTERNAL_SERVER_ERROR);
    world.set(&json!({"cold_404": "0s"})).await;
    assert_eq!(world.get(file).await.status, StatusCode::OK);
    world.set(&json!({"cold_404": "1h"})).await;
    assert_eq!(world.get(file).await.status, StatusCode::OK, "it is warm now");
    let part = world.send(Method::GET, file, &[("range", "bytes=0-4")], Vec::new()).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &b"flask"[..]));
}

#[tokio::test]
async fn bodies_are_cut_and_requests_fail_as_often_as_configured() {
    let world = TestWorld::new().await;
    world.set(&json!({"cut_body": "10:1"})).await;
    assert!(world.try_get(WHEEL).await.is_err());
    assert_eq!(world.get(WHEEL).await.status, StatusCode::OK);
    world.set(&json!({"cut_body": "0:0", "error_burst": "1/2", "error_status": 503})).await;
    let statuses = [world.get(HELLO).await.status.as_u16(), world.get(HELLO).await.status.as_u16()];
    assert_eq!(statuses, [503, 200]);
    world.set(&json!({"error_burst": "0/0", "throttle": 1})).await;
    let mut throttled = world.get(HELLO).await;
    // Two requests may fall into two seconds on a busy machine; twenty in a row never do.
    for _ in 0..20 {
        if throttled.status == StatusCode::OK {
            throttled = world.get(HELLO).await;
        }
    }
    assert_eq!(throttled.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(throttled.header("retry-after"), "");
    assert_eq!(world.set_raw(&json!({"no_such": 1})).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_redirect_leads_to_a_host_that_refuses_credentials() {
    let world = TestWorld::new().await;
    let complete = world.get(WHEEL).await;
    world.set(&json!({"redirect_assets": "127.0.0.1:0"})).await;
    let redirect = world.get(WHEEL).await;
    assert_eq!(redirect.status, StatusCode::TEMPORARY_REDIRECT);
    let location = redirect.header("location").to_owned();
    assert_eq!(world.absolute(&location, &[]).await.body, complete.body);
    let twice = world.absolute(&location, &[("authorization", "Bearer x")]).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    assert!(twice.text().contains("Only one auth mechanism allowed"));
    let forged = location.replace("X-Amz-Signature=", "X-Amz-Signature=0");
    assert_eq!(world.absolute(&forged, &[]).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn counters_count_what_was_requested() {
    let world = TestWorld::new().await;
    world.get(HELLO).await;
    let complete = world.get(WHEEL).await;
    let stats = world.anonymous(Method::GET, "/_emulator/stats").await.json();
    assert_eq!(stats["requests"], json!({"asset": 1, "page": 1}));
    assert_eq!(stats["asset_bytes"], complete.body.len());
    assert_eq!(stats["statuses"], json!({"200": 2}));
}

#[tokio::test]
async fn web_pages_may_not_turn_the_switches() {
    let world = TestWorld::new().await;
    for (header, site) in [
        ("origin", "https://attacker.example.org"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-origin"),
    ] {
        for (method, path) in [(Method::GET, "stats"), (Method::POST, "oddities"), (Method::DELETE, "tokens")] {
            let path = format!("/_emulator/{path}");
            let refused = world.send(method, &path, &[(header, site)], b"{}".to_vec()).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path} {header}: {site}");
        }
    }
    assert_eq!(world.get(HELLO).await.status, StatusCode::OK, "the token was not revoked");
    let typed = world.send(Method::GET, "/_emulator/stats", &[("sec-fetch-site", "none")], Vec::new()).await;
    assert_eq!(typed.status, StatusCode::OK);
}

#[tokio::test]
async fn new_files_wait_for_the_index_lag() {
    let world = TestWorld::new().await;
    world.set(&json!({"index_lag": "30m"})).await;
    assert_eq!(world.get(HELLO).await.status, StatusCode::NOT_FOUND);
    world.emulator.shared.clock.shift(i64::try_from(Duration::from_secs(1801).as_secs()).expect("small"));
    assert_eq!(world.get(HELLO).await.status, StatusCode::OK);
}
