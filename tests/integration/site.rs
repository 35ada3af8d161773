//! Pages of projects for people: what they say, what they never ask, and who may see them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use wheelport::cache::Prefetch;
use wheelport::web::SiteSettings;

use super::advisories::{advisory, export, replace, sourced};
use crate::support::client::until;
use crate::support::proxy::{PACKAGES, Proxy, refusal};
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, Sample, publish, zipped};

/// The control plane's calls for the origin of a project.
const PACKAGE: &str = "GET /v1/package";

fn lists(proxy: &Proxy, names: &[&str]) {
    let packages: Vec<Value> = names.iter().map(|name| json!({"format": "pypi", "package": name})).collect();
    let listing = json!({"packages": packages}).to_string();
    proxy.control.on(PACKAGES, Reply::ok(listing).header("content-type", "application/json"));
}

fn comes_from(proxy: &Proxy, publish: &str, upstream: &str) {
    let restrictions = json!({"publish": publish, "upstream": upstream});
    let package = json!({"format": "pypi", "name": "a-b", "originConfiguration": {"restrictions": restrictions}});
    let reply = Reply::ok(json!({"package": package}).to_string()).header("content-type", "application/json");
    proxy.control.on(PACKAGE, reply);
}

async fn json_of(proxy: &Proxy, path: &str) -> Value {
    proxy.get(path).send().await.expect(200).value()
}

async fn html_of(proxy: &Proxy, path: &str) -> String {
    proxy.get(path).header("accept", "text/html").send().await.expect(200).text()
}

#[tokio::test]
async fn pages_are_revalidated_documents_with_a_strict_policy() {
    let proxy = Proxy::start().await;
    lists(&proxy, &["a-b"]);
    comes_from(&proxy, "ALLOW", "BLOCK");
    publish(&proxy.upstream, &[&Sample::wheel()]);
    for path in ["/projects/", "/search?q=a", "/projects/a-b/", "/projects/a-b/1.0/", "/pypi/main/projects/a-b/"] {
        let page = proxy.get(path).header("accept-encoding", "gzip").send().await.expect(200);
        page.expect_headers(&[
            ("content-type", "text/html; charset=utf-8"),
            ("content-encoding", "gzip"),
            ("content-length", "*"),
            ("etag", "*"),
            ("cache-control", "no-cache"),
            ("vary", "Accept-Encoding, Host"),
            ("cache-status", "*"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
            ("referrer-policy", "no-referrer"),
        ]);
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    }
    let page = proxy.get("/projects/a-b/").send().await.expect(200);
    let tag = page.header("etag").expect("a tag").to_owned();
    let same = proxy.get("/projects/a-b/").header("if-none-match", &tag).send().await.expect(304);
    assert!(same.body.is_empty());
    let head = proxy.head("/projects/a-b/").send().await.expect(200);
    assert_eq!((head.header("etag"), head.header("content-length")), (Some(&*tag), page.header("content-length")));
    assert!(head.body.is_empty());
    let json = proxy.get("/projects/a-b.json").send().await.expect(200);
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(proxy.client().ask("POST", "/projects/").send().await.status, 405);
}

#[tokio::test]
async fn other_spellings_lead_to_the_page() {
    let proxy = Proxy::start().await;
    for (path, location) in [
        ("/projects?q=x", "projects/?q=x"),
        ("/projects/A.b/", "../a-b/"),
        ("/projects/a-b", "a-b/"),
        ("/projects/A_B.json", "a-b.json"),
        ("/projects/A_B/1.0", "../a-b/1%2E0/"),
        ("/pypi/main/projects/A_B/1.0/", "../../a-b/1%2E0/"),
    ] {
        let moved = proxy.get(path).send().await.expect(301);
        assert_eq!(moved.header("location"), Some(location), "{path}");
    }
}

#[tokio::test]
async fn a_project_says_what_its_wheel_says_and_what_is_cached() {
    let proxy = Proxy::start().await;
    comes_from(&proxy, "BLOCK", "ALLOW");
    let (wheel, sdist) = (Sample::wheel(), Sample::sdist("0.9", 100));
    publish(&proxy.upstream, &[&wheel, &sdist]);
    let project = json_of(&proxy, "/projects/a-b.json").await;
    assert_eq!((&project["project"], &project["version"]), (&json!("a-b"), &json!("1.0")));
    assert_eq!(project["origin"], "external");
    let versions: Vec<_> =
        project["versions"].as_array().expect("versions").iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, ["1.0", "0.9"]);
    let file = &project["files"][0];
    assert_eq!(file["words"], "Python 3, any platform");
    assert_eq!((&file["sha256"], &file["size"]), (&json!(wheel.sha256()), &json!(wheel.bytes.len())));
    assert_eq!(file["path"], wheel.path().trim_start_matches('/'));
    proxy.get(&wheel.path()).send().await.expect(200);
    let cached = async || (json_of(&proxy, "/projects/a-b.json").await["files"][0]["cached"] == true).then_some(());
    until("the wheel to be stored", cached).await;
    let older = json_of(&proxy, "/projects/a-b/0.9.json").await;
    assert!(older["metadata_missing"].as_str().is_some_and(|text| text.contains("no wheel")), "{older}");
    assert_eq!(proxy.get("/projects/a-b/7.json").send().await.expect(404).value()["code"], "no-such-version");
}

#[tokio::test]
async fn a_project_that_is_not_there_or_not_known_is_said_so() {
    let proxy = Proxy::start().await;
    proxy.upstream.on("GET /pypi/r/simple/gone/", Reply::status(404));
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.get("/simple/a-b/").send().await.expect(200);
    assert_eq!(proxy.get("/projects/gone.json").send().await.expect(404).value()["code"], "no-such-project");
    proxy.upstream.on("GET /pypi/r/simple/failing/", Reply::status(500));
    assert_eq!(proxy.get("/projects/failing/").send().await.status, 503);
}

#[tokio::test]
async fn a_page_without_metadata_says_so_and_shows_the_rest() {
    let proxy = Proxy::start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    proxy.upstream.on(&wheel.upstream(), Reply::status(500));
    let page = html_of(&proxy, "/projects/a-b/").await;
    assert!(page.contains("cannot be had now") && page.contains(&wheel.name), "{page}");
}

#[tokio::test]
async fn no_row_of_the_list_leads_to_a_request() {
    let proxy = Proxy::builder().set(|with| with.cache.prefetch = Some(Prefetch::Off)).start().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    lists(&proxy, &["a-b", "never-asked"]);
    comes_from(&proxy, "ALLOW", "BLOCK");
    proxy.get("/projects/a-b/").send().await.expect(200);
    let asked = || proxy.upstream.requests().iter().map(|seen| seen.path().to_owned()).collect::<Vec<_>>();
    let (upstream, control) = (asked(), proxy.control.requests_to(PACKAGE).len());
    let known = async || {
        let list = json_of(&proxy, "/projects.json").await;
        (list["projects"][0]["version"] == "1.0").then_some(list)
    };
    let list = until("the facts of the list", known).await;
    assert_eq!((&list["total"], &list["found"]), (&json!(2), &json!(2)));
    assert_eq!(list["projects"][0]["origin"], "private");
    assert_eq!(list["projects"][1]["name"], "never-asked");
    assert_eq!(list["projects"][1].get("version"), None);
    assert_eq!(asked(), upstream);
    assert_eq!(proxy.control.requests_to(PACKAGE).len(), control);
}

#[tokio::test]
async fn a_role_that_may_not_list_gets_what_the_cache_knows() {
    let proxy = Proxy::start().await;
    proxy.control.on(PACKAGES, refusal(403, "AccessDeniedException", "not authorized"));
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.get("/simple/a-b/").send().await.expect(200);
    proxy.kept_by("pages", 1).await;
    let list = json_of(&proxy, "/projects.json").await;
    assert_eq!(list["projects"][0]["name"], "a-b");
    assert!(list["incomplete"].as_str().is_some_and(|why| why.contains("codeartifact:ListPackages")), "{list}");
    let page = html_of(&proxy, "/projects/").await;
    assert!(page.contains("codeartifact:ListPackages") && page.contains("that this server has pages of"), "{page}");
}

#[tokio::test]
async fn rules_decide_about_what_is_shown() {
    let rules = "[[rule]]\nname = \"not-two\"\nversions = \">=2\"\nreason = \"Two is broken.\"\n\
                 help = \"https://wiki.example.org/two\"\n\n\
                 [[rule]]\nname = \"no-sdist\"\nkind = \"sdist\"\nmode = \"hide\"\n";
    let proxy = Proxy::builder().rules(rules, &[]).start().await;
    lists(&proxy, &["a-b"]);
    let (good, bad, hidden) = (Sample::wheel(), Sample::wheel_of("2.0", 0), Sample::sdist("1.0", 50));
    publish(&proxy.upstream, &[&good, &bad, &hidden]);
    let project = json_of(&proxy, "/projects/a-b.json").await;
    assert_eq!(project["version"], "1.0", "what an installer would choose");
    assert!(!project.to_string().contains(".tar.gz"), "what is hidden is not shown: {project}");
    let refused = &project["versions"][0]["refused"];
    assert_eq!((&refused["rule"], &refused["reason"]), (&json!("not-two"), &json!("Two is broken.")));
    assert_eq!(refused["help"], "https://wiki.example.org/two");
    assert_eq!(project["versions"][0].get("yanked"), None, "what a rule adds is no yank");
    let page = html_of(&proxy, "/projects/a-b/2.0/").await;
    assert!(page.contains("Blocked.") && page.contains("href=\"https://wiki.example.org/two\""), "{page}");
    assert!(!page.contains("pip install") && !page.contains(".tar.gz"), "{page}");
    assert_eq!(proxy.asked(&bad.upstream()), 0, "what is blocked is not read");
    let known = async || {
        let list = json_of(&proxy, "/projects.json").await;
        (list["projects"][0]["version"] == "1.0").then_some(())
    };
    until("the list to name the version that may be installed", known).await;
}

#[tokio::test]
async fn an_index_as_of_a_date_has_pages_without_what_came_later() {
    let proxy = Proxy::start().await;
    lists(&proxy, &["a-b"]);
    let (old, new) = (Sample::wheel(), Sample::wheel_of("2.0", 0));
    let entry = |sample: &Sample, time: &str| {
        let mut entry = sample.entry();
        entry["upload-time"] = json!(time);
        entry
    };
    let files = [entry(&old, "2026-01-01T00:00:00Z"), entry(&new, "2026-02-01T00:00:00Z")];
    publish(&proxy.upstream, &[&old, &new]);
    let body = json!({"meta": {"api-version": "1.1"}, "name": "a-b", "files": files}).to_string();
    proxy.upstream.on(PAGE, Reply::ok(body).header("content-type", "application/vnd.pypi.simple.v1+json"));
    assert_eq!(json_of(&proxy, "/projects/a-b.json").await["version"], "2.0");
    let dated = json_of(&proxy, "/pypi/main@2026-01-15/projects/a-b.json").await;
    assert_eq!((&dated["version"], &dated["as_of"]), (&json!("1.0"), &json!("2026-01-15")));
    assert_eq!(dated["versions"].as_array().map(Vec::len), Some(1));
    let page = html_of(&proxy, "/pypi/main@2026-01-15/projects/a-b/").await;
    assert!(page.contains("/pypi/main@2026-01-15/simple/ a-b") && !page.contains("2.0"), "{page}");
    let list = json_of(&proxy, "/pypi/main@2026-01-15/projects.json").await;
    assert_eq!(list["projects"], json!([{"name": "a-b"}]), "a list would have to read every page for more");
    assert_eq!(proxy.get("/pypi/main@2999-01-01/projects/").send().await.status, 400);
}

#[tokio::test]
async fn ten_thousand_projects_are_searched_at_once() {
    let proxy = Proxy::start().await;
    let names: Vec<String> = (0..10_000).map(|number| format!("project-{number:05}-{}", number % 97)).collect();
    lists(&proxy, &names.iter().map(String::as_str).collect::<Vec<_>>());
    json_of(&proxy, "/projects.json").await;
    let began = Instant::now();
    for (query, found) in [("", 10_000), ("project", 10_000), ("-00042", 1), ("project 9999", 1), ("nothing", 0)] {
        let list = json_of(&proxy, &format!("/projects.json?q={}", query.replace(' ', "+"))).await;
        assert_eq!(list["found"], found, "{query}");
        assert_eq!(list["projects"].as_array().map(Vec::len), Some(usize::min(found, 50)), "{query}");
    }
    // Unoptimised, on a machine that does other things; the bound of a release is a hundredth of it.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let last = json_of(&proxy, "/projects.json?page=200").await;
    assert_eq!(last["projects"][49]["name"], "project-09999-8");
    for (path, last) in
        [("/projects/?page=201", "?page=200"), ("/search?q=project+9999&page=7", "?q=project+9999&page=1")]
    {
        for accept in ["text/html", "application/json"] {
            let refused = proxy.get(path).header("accept", accept).send().await.expect(404).text();
            assert!(refused.contains(&format!("There is no such page; the last one is {last}.")), "{refused}");
        }
        let there = format!("{}{last}", path.split('?').next().unwrap_or_default());
        html_of(&proxy, &there).await;
    }
    proxy.get("/projects.json?page=201").send().await.expect(404);
    proxy.get("/projects/?q=nothing").send().await.expect(200);
    assert_eq!(proxy.control.requests_to(PACKAGES).len(), 1, "the list is asked for once");
}

#[tokio::test]
async fn pages_can_be_off() {
    let proxy = Proxy::builder().set(|builder| builder.site = SiteSettings { enabled: false }).start().await;
    for path in ["/projects/", "/search", "/projects.json", "/projects/a-b/", "/pypi/main/projects/a-b/1.0.json"] {
        let off = proxy.get(path).header("accept", "application/json").send().await.expect(404);
        assert_eq!(off.value()["code"], "not-offered", "{path}");
    }
    assert!(!html_of(&proxy, "/").await.contains("projects/"));
    assert!(proxy.upstream.requests().is_empty());
}

#[tokio::test]
async fn the_legacy_json_of_a_project_called_projects_is_where_it_was() {
    let proxy = Proxy::start().await;
    lists(&proxy, &["json", "projects"]);
    proxy.upstream.on("GET /pypi/r/simple/projects/", Reply::status(404));
    for path in ["/projects/json", "/pypi/main/projects/json", "/projects/1.0/json"] {
        let legacy = proxy.get(path).send().await.expect(404).value();
        assert_eq!(legacy["detail"], "The repository behind route 'main' has no project 'projects'.", "{path}");
    }
}

#[tokio::test]
async fn a_version_shows_what_advisories_say_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("all.zip");
    let advisories = [advisory("GHSA-1", "a-b", &["1.0"]), advisory("MAL-2026-1", "a-b", &["2.0"])];
    replace(&source, &export(&advisories));
    let proxy = Proxy::builder().set(sourced(&source)).start().await;
    publish(&proxy.upstream, &[&Sample::wheel(), &Sample::wheel_of("2.0", 10)]);
    let vulnerable = json_of(&proxy, "/projects/a-b/1.0.json").await;
    assert_eq!(vulnerable["files"][0]["vulnerabilities"], json!(["GHSA-1"]), "{vulnerable}");
    assert_eq!(vulnerable["files"][0]["refused"], Value::Null, "a vulnerability blocks nothing");
    assert!(html_of(&proxy, "/projects/a-b/1.0/").await.contains("Known vulnerabilities: <bdi>GHSA-1</bdi>"));
    let malicious = json_of(&proxy, "/projects/a-b/2.0.json").await;
    assert_eq!(malicious["files"][0]["refused"]["rule"], "malware", "{malicious}");
    assert!(html_of(&proxy, "/projects/a-b/2.0/").await.contains("MAL-2026-1"));
}

#[tokio::test]
async fn what_a_refused_wheel_says_of_itself_is_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("all.zip");
    replace(&source, &export(&[advisory("MAL-2026-1", "other", &["1.0"])]));
    let proxy = Proxy::builder().set(sourced(&source)).start().await;
    lists(&proxy, &["a-b"]);
    let metadata = b"Metadata-Version: 2.1\nName: A.b\nVersion: 1.0\nSummary: Trust me\n";
    let bytes = zipped(&[("a_b-1.0.dist-info/METADATA", metadata)]);
    let wheel = Sample::file("1.0", "a_b-1.0-py3-none-any.whl", bytes);
    publish(&proxy.upstream, &[&wheel]);
    let summary = async || json_of(&proxy, "/projects.json").await["projects"][0]["summary"].clone();
    // What it says is known before anything is known of it.
    proxy.get(&format!("{}.metadata", wheel.path())).send().await.expect(200);
    until("the summary", async || (!summary().await.is_null()).then_some(())).await;
    replace(&source, &export(&[advisory("MAL-2026-1", "a-b", &["1.0"])]));
    until("the refusal", async || (proxy.get(&wheel.path()).send().await.status == 403).then_some(())).await;
    until("the change", async || {
        let list = json_of(&proxy, "/projects.json").await;
        list["projects"][0]["refused"].as_bool().unwrap_or_default().then_some(())
    })
    .await;
    assert_eq!(summary().await, Value::Null);
}
