//! Pages: what is requested from upstream, what is cached, what goes out; and how names and slashes are read.

use serde_json::json;

use crate::support::client::JSON;
use crate::support::proxy::Proxy;
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, REPOSITORY, Sample, document, html, page, publish};

const HERE: &str = "/simple/a-b/";

fn hrefs(page: &str) -> Vec<&str> {
    page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn a_json_page_has_exactly_these_headers_and_is_requested_once() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let first = proxy.get(HERE).json().send().await.expect(200);
    let headers = |served| {
        [
            ("content-type", JSON),
            ("content-length", "*"),
            ("etag", "*"),
            ("cache-control", "no-cache"),
            ("vary", "Accept, Accept-Encoding"),
            ("cache-status", served),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
        ]
    };
    first.expect_headers(&headers("wheelport; fwd=miss; stored"));
    let second = proxy.get(HERE).json().send().await.expect(200);
    second.expect_headers(&headers("wheelport; hit"));
    assert_eq!((first.header("etag"), &first.body), (second.header("etag"), &second.body));
    assert_eq!(
        second.value(),
        json!({
            "meta": {"api-version": "1.1"},
            "name": "a-b",
            "versions": ["1.0"],
            "files": [{
                "filename": wheel.name,
                "url": format!("1.0/{}", wheel.name),
                "hashes": {"sha256": wheel.sha256()},
                "size": wheel.bytes.len(),
                "upload-time": "2026-01-02T03:04:05.678901Z",
                "yanked": false,
                "core-metadata": true,
            }],
        })
    );
    assert_eq!(proxy.asked(PAGE), 1);
    let asked = &proxy.upstream.requests_to(PAGE)[0];
    assert!(asked.header("accept").is_some_and(|accept| accept.starts_with(JSON)));
}

#[tokio::test]
async fn an_upstream_without_json_gets_html_requests_from_then_on() {
    let proxy = Proxy::start().await;
    let anchor = "<a href=\"1.0/a_b-1.0.tar.gz#sha256=00\">a_b-1.0.tar.gz</a>";
    proxy.upstream.on_each(PAGE, [Reply::status(406), html(anchor)]);
    proxy.upstream.on("GET /pypi/r/simple/c/", html("<a href=\"1/c-1.tar.gz\">c-1.tar.gz</a>"));
    assert_eq!(proxy.get(HERE).json().send().await.expect(200).file_names(), ["a_b-1.0.tar.gz"]);
    assert_eq!(proxy.get("/simple/c/").json().send().await.expect(200).file_names(), ["c-1.tar.gz"]);
    assert_eq!((proxy.asked(PAGE), proxy.asked("GET /pypi/r/simple/c/")), (2, 1));
    let last = &proxy.upstream.requests_to("GET /pypi/r/simple/c/")[0];
    assert!(!last.header("accept").unwrap_or_default().contains("json"));
}

#[tokio::test]
async fn links_are_relative_and_lead_to_the_file_whatever_form_upstreams_have() {
    let wheel = Sample::wheel();
    for form in ["1.0/{}", "../../packages/a-b/1.0/{}", "{base}/pypi/r/simple/a-b/1.0/{}", "{base}/elsewhere/{}"] {
        let proxy = Proxy::start().await;
        let link = form.replace("{base}", &proxy.upstream.url("")).replace("{}", &wheel.name);
        let mut entry = wheel.entry();
        entry["url"] = link.as_str().into();
        proxy.upstream.on(PAGE, page(&[entry]));
        let path = match link.strip_prefix(&proxy.upstream.url("")) {
            Some(path) => path.to_owned(),
            None if link.starts_with("..") => format!("{REPOSITORY}/packages/a-b/1.0/{}", wheel.name),
            None => format!("{REPOSITORY}{}", wheel.path()),
        };
        proxy.upstream.on(&format!("GET {path}"), Reply::ok(wheel.bytes.clone()));
        let listed = proxy.get(HERE).json().send().await.expect(200).value();
        assert_eq!(listed["files"][0]["url"], format!("1.0/{}", wheel.name), "{form}");
        let file = proxy.get(&wheel.path()).send().await.expect(200);
        assert_eq!(file.body, wheel.bytes, "{form}");
        let html = proxy.get(HERE).send().await.expect(200).text();
        assert_eq!(hrefs(&html), [format!("1.0/{}#sha256={}", wheel.name, wheel.sha256())], "{form}");
    }
}

#[tokio::test]
async fn a_page_without_sizes_and_times_omits_both() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    proxy.upstream.on(PAGE, page(&[wheel.entry_without(&["size", "upload-time"])]));
    let listed = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!(listed.value()["meta"], json!({"api-version": "1.0"}));
    let entry = listed.value()["files"][0].clone();
    assert_eq!((entry.get("size"), entry.get("upload-time")), (None, None));
    assert!(!listed.text().contains("null"), "{}", listed.text());
}

#[tokio::test]
async fn unknown_keys_yanks_and_requirements_survive() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    let mut entry = wheel.entry();
    entry["requires-python"] = ">=3.8,<4".into();
    entry["yanked"] = "broken & <bad>".into();
    entry["_of-a-file"] = json!({"deep": [1, null]});
    let upstream = json!({
        "meta": {"api-version": "1.1", "_of-meta": 7}, "name": "a-b", "files": [entry], "_of-the-page": ["x"],
    });
    proxy.upstream.on(PAGE, document(&upstream));
    let listed = proxy.get(HERE).json().send().await.expect(200).value();
    assert_eq!((&listed["meta"]["_of-meta"], &listed["_of-the-page"]), (&json!(7), &json!(["x"])));
    let file = &listed["files"][0];
    assert_eq!(file["_of-a-file"], json!({"deep": [1, null]}));
    assert_eq!((&file["requires-python"], &file["yanked"]), (&json!(">=3.8,<4"), &json!("broken & <bad>")));
    let html = proxy.get(HERE).send().await.expect(200).text();
    assert!(html.contains("data-requires-python=\"&gt;=3.8,&lt;4\""), "{html}");
    assert!(html.contains("data-yanked=\"broken &amp; &lt;bad&gt;\""), "{html}");
}

#[tokio::test]
async fn html_and_json_list_the_same_files_including_unparsable_ones() {
    let proxy = Proxy::start().await;
    let names = [
        "a_b-1.0-py3-none-any.whl",
        "a_b-1.0.tar.gz",
        "a_b-1.0-variants.json",
        "strange name (1).exe",
        "A.B-2.0.zip",
        "a_b-1.0+local-py3-none-any.whl",
    ];
    let samples = names.map(|name| Sample::file("1.0", name, name.as_bytes().to_vec()));
    publish(&proxy.upstream, &samples.iter().collect::<Vec<_>>());
    let json = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!(json.file_names(), names);
    let html = proxy.get(HERE).send().await.expect(200).text();
    let texts: Vec<_> = html.lines().filter(|line| line.starts_with("<a")).collect();
    assert_eq!(texts.len(), names.len());
    for (line, name) in texts.iter().zip(names) {
        assert!(line.contains(&format!(">{name}</a>")), "{line}");
    }
    let from_json = json.value();
    let files = from_json["files"].as_array().expect("files");
    for (link, file) in hrefs(&html).iter().zip(files) {
        assert_eq!(link.split('#').next(), file["url"].as_str());
    }
}

#[tokio::test]
async fn odd_names_are_listed_in_both_formats_whichever_upstream_has() {
    let names = ["notes.txt", "a_b-1.0-variants.json", "strange name (1)", "a;b=c&d.bin", "LICENSE"];
    let samples = names.map(|name| Sample::file("1.0", name, name.as_bytes().to_vec()));
    let entries: Vec<_> = samples.iter().map(|sample| sample.entry_without(&["hashes"])).collect();
    let anchors = names.map(|name| format!("<a href=\"1.0/{}\">{0}</a>\n", name.replace('&', "&amp;"))).concat();
    let document = format!("<!DOCTYPE html><html><body><h1>Links for a-b</h1>{anchors}</body></html>");
    for upstream in [page(&entries), html(&document)] {
        let proxy = Proxy::start().await;
        proxy.upstream.on(PAGE, upstream);
        let json = proxy.get(HERE).json().send().await.expect(200);
        assert_eq!(json.file_names(), names);
        let html = proxy.get(HERE).send().await.expect(200).text();
        let links: Vec<String> = json.value()["files"]
            .as_array()
            .expect("files")
            .iter()
            .map(|file| file["url"].as_str().expect("an address").to_owned())
            .collect();
        assert_eq!(hrefs(&html), links);
    }
}

#[tokio::test]
async fn html_that_is_cut_is_an_outage_and_not_a_shorter_page() {
    let proxy = Proxy::start().await;
    let complete = "<!DOCTYPE html><html><body><h1>Links for a-b</h1>\n\
        <a href=\"1.0/a_b-1.0.tar.gz\">a_b-1.0.tar.gz</a>\n\
                    <a href=\"2.0/a_b-2.0.tar.gz\">a_b-2.0.tar.gz</a>\n</body></html>";
    let cut = &complete[..complete.find("<a href=\"2.0").expect("the second link")];
    proxy.upstream.on(PAGE, html(cut));
    proxy.get(HERE).send().await.expect_unavailable("unavailable-broken");
    proxy.upstream.on(PAGE, html(complete));
    let listed = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!(listed.file_names(), ["a_b-1.0.tar.gz", "a_b-2.0.tar.gz"]);
}

#[tokio::test]
async fn an_empty_reason_is_no_yank_and_an_upload_time_is_written_in_utc() {
    let (proxy, wheel, sdist) = (Proxy::start().await, Sample::wheel(), Sample::sdist("1.0", 10));
    let (mut first, mut second) = (wheel.entry(), sdist.entry());
    (first["yanked"], first["upload-time"]) = ("".into(), "2024-05-01T12:00:00+02:00".into());
    second["yanked"] = true.into();
    proxy.upstream.on(PAGE, page(&[first, second]));
    let listed = proxy.get(HERE).json().send().await.expect(200).value();
    let files = &listed["files"];
    assert_eq!((&files[0]["yanked"], &files[0]["upload-time"]), (&json!(false), &json!("2024-05-01T10:00:00Z")));
    assert_eq!(files[1]["yanked"], true);
    let html = proxy.get(HERE).send().await.expect(200).text();
    assert_eq!(html.matches("data-yanked=\"\"").count(), 1, "{html}");
}

#[tokio::test]
async fn nothing_of_a_project_in_quarantine_is_offered_not_even_by_address() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    proxy.get(&wheel.path()).send().await.expect(200);
    let metadata = format!("{}.metadata", wheel.path());
    proxy.get(&metadata).send().await.expect(200);
    let status = json!({"status": "quarantined", "reason": "malware"});
    let quarantined = json!({"meta": {"api-version": "1.4"}, "files": [wheel.entry()], "project-status": status});
    proxy.upstream.on(PAGE, document(&quarantined));
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    let listed = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!((listed.file_names(), &listed.value()["project-status"]), (Vec::<String>::new(), &status));
    for target in [wheel.path(), metadata] {
        let response = proxy.get(&target).send().await.expect(403);
        assert_eq!(response.value()["code"], "quarantined", "{target}");
        proxy.head(&target).send().await.expect(403);
    }
    assert_eq!(proxy.asked(&wheel.upstream()), 1);
    // Once it is released, all is as before.
    publish(&proxy.upstream, &[&wheel]);
    proxy.ops.ask("POST", "/purge?route=main&project=a-b").send().await.expect(200);
    assert_eq!(proxy.get(&wheel.path()).send().await.expect(200).body, wheel.bytes);
}

#[tokio::test]
async fn a_page_of_unknown_values_is_served_without_them_and_leaves_nothing_behind() {
    let proxy = Proxy::start().await;
    let numbers = format!("[{}1]", "1,".repeat(20 << 20));
    let body = format!(r#"{{"files": [{}], "_numbers": {numbers}, "_small": 1}}"#, Sample::wheel().entry());
    proxy.upstream.on(PAGE, Reply::ok(body).header("content-type", JSON));
    let listed = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!((listed.value()["_small"].as_i64(), listed.value().get("_numbers")), (Some(1), None));
    assert!(listed.body.len() < 2000);
}

#[tokio::test]
async fn a_page_is_the_same_bytes_under_every_route_and_host() {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let first = proxy.get(HERE).send().await.expect(200);
    assert!(!first.text().contains("http"), "{}", first.text());
    for (target, host) in [
        ("/pypi/main/simple/a-b/", "localhost"),
        ("/pypi/main/+simple/a-b/", "index.internal:8443"),
        ("/+simple/a-b/", "10.0.0.1"),
        ("/legacy/+simple/a-b/", "localhost"),
        ("/%2Bsimple/a-b/", "localhost"),
        ("//simple//a-b//", "localhost"),
        ("/pypi//main/simple///a-b/", "localhost"),
        ("/simple/a-b/?format=json", "localhost"),
    ] {
        let other = proxy.get(target).header("host", host).send().await.expect(200);
        assert_eq!((&other.body, other.header("etag")), (&first.body, first.header("etag")), "{target}");
    }
    assert_eq!(proxy.asked(PAGE), 1);
}

#[tokio::test]
async fn other_spellings_get_relative_redirects_to_the_normalised_one() {
    let proxy = Proxy::start().await;
    for (target, location) in [
        ("/simple", "simple/"),
        ("/pypi/main/simple", "simple/"),
        ("/simple/a-b", "a-b/"),
        ("/simple/A.b", "a-b/"),
        ("/simple/A__B/", "../a-b/"),
        ("/pypi/main/simple/A-B/", "../a-b/"),
        ("/simple/A-B//", "../../a-b/"),
    ] {
        for method in ["GET", "HEAD"] {
            let response = proxy.client().ask(method, target).send().await.expect(301);
            response.expect_headers(&[("location", location), ("content-length", "0")]);
        }
    }
    assert_eq!(proxy.upstream.requests().len(), 0, "a redirect needs no upstream");
}

#[tokio::test]
async fn what_is_not_offered_is_404_without_an_upstream_request() {
    let proxy = Proxy::start().await;
    for (target, code) in [
        ("/_/oidc/audience", "not-offered"),
        ("/_/oidc/mint-token", "not-offered"),
        ("/.well-known/pytp", "not-offered"),
        ("/pypi", "not-offered"),
        ("/pypi/typo/simple/a-b/", "no-such-route"),
        ("/favicon.ico", "nothing-here"),
        ("/metrics", "nothing-here"),
        ("/simple/a-b/1.0/", "nothing-here"),
    ] {
        let response = proxy.get(target).header("accept", "application/json").send().await.expect(404);
        assert_eq!(response.value()["code"], code, "{target}");
        response.expect_headers(&[
            ("content-type", "application/problem+json"),
            ("content-length", "*"),
            ("cache-control", "no-store"),
            ("vary", "Accept"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "*"),
        ]);
    }
    assert_eq!(proxy.upstream.requests().len(), 0);
}

#[tokio::test]
async fn hostile_addresses_are_refused_without_an_upstream_request() {
    let proxy = Proxy::start().await;
    for target in [
        "/simple/..%2f..%2fetc/",
        "/simple/%2e%2e/",
        "/simple/../simple/a-b/",
        "/simple/a%00b/",
        "/simple/a-b/1.0/..%5cx.whl",
        "/simple/a-b/1.0/x%252fy.whl",
        "/simple/-a/",
        "/simple/a-b/%ff/x.whl",
    ] {
        let response = proxy.get(target).send().await.expect(400);
        assert_eq!(response.value()["code"], "bad-address", "{target}");
    }
    let endless = format!("/simple/{}/", "a".repeat(5000));
    proxy.get(&endless).send().await.expect(400);
    assert_eq!(proxy.upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_project_missing_upstream_is_an_uncacheable_404() {
    let proxy = Proxy::start().await;
    proxy.upstream.on(PAGE, Reply::status(404));
    let response = proxy.get(HERE).json().send().await.expect(404);
    assert_eq!(response.value()["code"], "no-such-project");
    assert_eq!(response.value()["request_id"].as_str(), response.header("x-request-id"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let text = proxy.get(HERE).header("accept", "text/html").send().await.expect(404);
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(text.text().contains("has no project 'a-b'"), "{}", text.text());
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    let (proxy, wheel) = (Proxy::start().await, Sample::wheel());
    publish(&proxy.upstream, &[&wheel]);
    let metadata = format!("{}.metadata", wheel.path());
    for target in [HERE, "/a-b/json", &wheel.path(), &metadata, "/"] {
        proxy.get(target).send().await.expect(200);
        let get = proxy.get(target).send().await.expect(200);
        let head = proxy.head(target).send().await.expect(200);
        assert!(head.body.is_empty());
        let expected: Vec<(&str, &str)> = get
            .headers
            .iter()
            .filter(|(name, _)| name != "date" && name != "x-request-id")
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        head.expect_headers(&expected);
    }
}
