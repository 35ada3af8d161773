//! Who may read and publish: every address of a gated route, every kind of token, and trusted publishing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use serde_json::{Value, json};
use wheelport::identity::{IdentityRules, IdentityTables, SigningKeys};
use wheelport::web::{ReadPolicy, UploadPolicy};
use wheelport_index::Sha256;
use wheelport_runtime::Clock;

use crate::support::client::{Ask, JSON, Response, until};
use crate::support::forms::{Form, content_type};
use crate::support::issuer::{AUDIENCE, KEYS, TokenIssuer, TokenKey};
use crate::support::process::{Program, World, ready};
use crate::support::proxy::{Builder, Proxy};
use crate::support::scripted::Reply;
use crate::support::wheels::{PAGE, REPOSITORY, Sample, publish};

const POST: &str = "POST /pypi/r/";
const CHALLENGE: &str = "Basic realm=\"wheelport\", charset=\"UTF-8\"";

/// The rules of these tests: a pipeline reads and publishes, one static token reads, another one only publishes.
fn rules(issuer: &TokenIssuer) -> IdentityRules {
    fn read<T: serde::de::DeserializeOwned>(table: Value) -> T {
        serde_json::from_value(table).expect("a table")
    }
    let digest = |token: &str| Sha256::of(token.as_bytes()).to_string();
    let tables = IdentityTables {
        issuers: vec![read(json!({"name": "ci", "url": issuer.url(), "audience": AUDIENCE}))],
        identities: vec![
            read(json!({
                "name": "ci:{project_path}@{ref}", "issuer": "ci", "claims": {"project_path": "acme/*"},
                "read": ["main"], "publish": ["main"], "projects": ["a-*"],
            })),
            read(json!({
                "name": "other:{ref}", "issuer": "ci", "claims": {"project_path": "other/*"},
                "read": ["second"], "publish": ["second"],
            })),
            read(json!({"name": "laptop", "token_sha256": digest("laptop"), "read": ["*"], "downloads_per_minute": 2})),
        ],
        publishers: vec![read(json!({"name": "robot", "token_sha256": digest("robot")}))],
    };
    IdentityRules::new(tables).expect("rules")
}

fn builder(issuer: &TokenIssuer) -> Builder {
    let rules = rules(issuer);
    Proxy::builder().routes(&["main", "open", "second"], Some(0)).set(|builder| {
        builder.identities = rules;
        builder.read = ReadPolicy::Identity;
        builder.upload = UploadPolicy::Identity;
    })
}

async fn standing() -> (Proxy, TokenIssuer, TokenKey) {
    let key = TokenKey::ec("one");
    let issuer = TokenIssuer::start(&[&key]).await;
    let proxy = builder(&issuer).start().await;
    (proxy, issuer, key)
}

fn bearer(ask: Ask, token: &str) -> Ask {
    ask.header("authorization", &format!("Bearer {token}"))
}

/// Everything of a response that a client can see, without what differs from request to request.
fn visible(response: &Response) -> (u16, Vec<(String, String)>, Value) {
    let mut headers = response.headers.clone();
    headers.retain(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
    let mut body = serde_json::from_slice(&response.body).unwrap_or_default();
    if let Value::Object(body) = &mut body {
        body.remove("request_id");
    }
    (response.status, headers, body)
}

#[tokio::test]
async fn every_address_of_a_gated_route_is_closed_to_those_who_may_not_read() {
    let (proxy, issuer, key) = standing().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    proxy.upstream.on("GET /pypi/r/simple/gone/", Reply::status(404));
    let good = key.sign(&issuer.claims(&json!({})));
    let elsewhere = key.sign(&issuer.claims(&json!({"project_path": "other/x"})));
    let nobody = key.sign(&issuer.claims(&json!({"project_path": "unknown"})));
    // So that everything that can be held is held, and a hit is as closed as a miss.
    let page = bearer(proxy.get("/simple/a-b/"), &good).json().send().await.expect(200);
    bearer(proxy.get(&wheel.path()), &good).send().await.expect(200);
    let etag = page.header("etag").expect("a tag").to_owned();

    let unknown = wheel.path().replace("a-b", "gone");
    let shapes = [
        ("/simple/", "/simple/"),
        ("/simple", "/simple"),
        ("/+simple/", "/+simple/"),
        ("/simple/a-b/", "/simple/gone/"),
        ("/simple/a-b", "/simple/gone"),
        ("/simple/A.B/", "/simple/G.one/"),
        ("//simple//a-b/", "//simple//gone/"),
        ("/simple/a%2Db/", "/simple/g%6Fne/"),
        ("/legacy/+simple/a-b/", "/legacy/+simple/gone/"),
        ("/a-b/json", "/gone/json"),
        ("/pypi/a-b/json", "/pypi/gone/json"),
        ("/a-b/1.0/json", "/gone/1.0/json"),
        (&wheel.path(), &unknown),
        (&format!("{}.metadata", wheel.path()), &format!("{unknown}.metadata")),
        ("/pypi/main/simple/a-b/", "/pypi/main/simple/gone/"),
        (&format!("/pypi/main{}", wheel.path()), &format!("/pypi/main{unknown}")),
        (&format!("/pypi/main{}.metadata", wheel.path()), &format!("/pypi/main{unknown}.metadata")),
        ("/pypi/main/a-b/json", "/pypi/main/gone/json"),
        ("/projects/", "/projects/"),
        ("/projects.json?q=a-b", "/projects.json?q=gone"),
        ("/search?q=a-b", "/search?q=gone"),
        ("/projects/a-b/", "/projects/gone/"),
        ("/projects/A.B", "/projects/G.one"),
        ("/projects/a-b.json", "/projects/gone.json"),
        ("/projects/a-b/1.0/", "/projects/gone/1.0/"),
        ("/projects/a-b/1.0.json", "/projects/gone/1.0.json"),
        ("/pypi/main/projects/a-b/", "/pypi/main/projects/gone/"),
        ("/pypi/main/search", "/pypi/main/search"),
    ];
    // Not even which dates there are.
    let dated = [
        ("/pypi/main@2020-01-01/simple/", "/pypi/main@no-date/simple/"),
        ("/pypi/main@2020-01-01/simple/a-b/", "/pypi/main@2999-01-01/simple/gone/"),
        (&format!("/pypi/main@2020-01-01{}", wheel.path()), &format!("/pypi/main@no-date{unknown}")),
        (&format!("/pypi/main@2020-01-01{}.metadata", wheel.path()), &format!("/pypi/main@no-date{unknown}.metadata")),
        ("/pypi/main@2020-01-01/a-b/json", "/pypi/main@no-date/gone/json"),
        ("/pypi/main@2020-01-01/projects/", "/pypi/main@no-date/projects/"),
        ("/pypi/main@2020-01-01/projects/a-b/1.0/", "/pypi/main@no-date/projects/gone/1.0/"),
    ];
    let asked = proxy.upstream.requests().len();
    for (known, missing) in shapes.into_iter().chain(dated) {
        for method in ["GET", "HEAD"] {
            let ask = |target: &str| {
                let ask = proxy.client().ask(method, target).header("if-none-match", &etag);
                ask.header("range", "bytes=0-3").header("accept", JSON)
            };
            for (token, status) in [
                (None, 401),
                (Some("wrong"), 401),
                (Some("robot"), 403),
                (Some(&*elsewhere), 403),
                (Some(&*nobody), 403),
            ] {
                let with = |target: &str| match token {
                    Some(token) => bearer(ask(target), token),
                    None => ask(target),
                };
                let (known, missing) = (with(known).send().await, with(missing).send().await);
                assert_eq!(known.status, status, "{method} {known:?}");
                assert_eq!(visible(&known), visible(&missing));
                let challenge = (status == 401).then_some(CHALLENGE);
                assert_eq!(known.header("www-authenticate"), challenge, "{known:?}");
                assert!(known.header("etag").is_none() && known.header("cache-status").is_none());
            }
        }
    }
    assert_eq!(proxy.upstream.requests().len(), asked, "nothing was looked up for them");
    // The same addresses are there for those who may read.
    for (known, _) in shapes {
        let response = bearer(proxy.get(known), &good).send().await;
        // The control plane of this test has no list.
        let is_there = [200, 301].contains(&response.status) || (known.ends_with("simple/") && response.status == 503);
        assert!(is_there, "{known}: {response:?}");
        if known.contains("a-b") && response.status != 301 {
            assert_eq!(response.status, 200, "{known}");
        }
    }
    // An open route does not look at credentials, good or bad; a start page is for everybody and names no repository.
    for token in [None, Some("wrong"), Some(&*nobody)] {
        let ask = proxy.get("/pypi/open/simple/a-b/");
        let response = token.map_or(ask.clone(), |token| bearer(ask, token)).send().await.expect(200);
        assert_eq!(response.header("cache-control"), Some("no-cache"));
    }
    let home = proxy.get("/").send().await.expect(200).text();
    assert!(home.contains("<h2>main</h2>") && !home.contains("index-url = http://127.0.0.1/simple/"));
}

#[tokio::test]
async fn tokens_are_taken_as_password_and_as_bearer_and_what_is_read_is_private() {
    let (proxy, issuer, key) = standing().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    let token = key.sign(&issuer.claims(&json!({})));
    for user in ["", "__token__", "anybody"] {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{token}"));
        let ask = |target: &str| proxy.get(target).header("authorization", &format!("Basic {pair}"));
        let page = ask("/simple/a-b/").send().await.expect(200);
        assert_eq!(page.header("cache-control"), Some("private, no-cache"));
        let file = ask(&wheel.path()).send().await.expect(200);
        assert_eq!(file.header("cache-control"), Some("private, max-age=365000000, immutable"));
        assert_eq!(file.body, wheel.bytes);
    }
    assert_eq!(issuer.server.requests_to(KEYS).len(), 1, "the keys are fetched once");
    let verified = proxy.metrics().await;
    assert!(verified.contains("wheelport_id_tokens_verified_total 1\n"), "a token is verified once");
    assert!(verified.contains("wheelport_identity_decisions_total{identity=\"id-token\",outcome=\"accepted\"} 6\n"));
}

#[tokio::test]
async fn every_algorithm_that_is_listed_is_accepted() {
    let keys = [TokenKey::rsa("rsa"), TokenKey::ec("ec"), TokenKey::ed("ed")];
    let issuer = TokenIssuer::start(&keys.iter().collect::<Vec<_>>()).await;
    let proxy = builder(&issuer).start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    for key in &keys {
        let token = key.sign(&issuer.claims(&json!({})));
        bearer(proxy.get("/simple/a-b/"), &token).send().await.expect(200);
    }
}

/// A token with another header; the signature stays.
fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').expect("a token has three parts");
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// A token that is signed with a public key as if it were a shared secret.
fn signed_with_the_public_key(claims: &Value, key: &TokenKey) -> String {
    let header = jsonwebtoken::Header { kid: Some(key.id.to_owned()), ..jsonwebtoken::Header::default() };
    let secret = jsonwebtoken::EncodingKey::from_secret(key.public().to_string().as_bytes());
    jsonwebtoken::encode(&header, claims, &secret).expect("a token")
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused_with_the_reason() {
    let (proxy, issuer, key) = standing().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let (foreign, now) = (TokenKey::ec("one"), Clock::system().unix_seconds());
    let signed = |more: Value| key.sign(&issuer.claims(&more));
    let good = signed(json!({}));
    let unsigned = good.rsplit_once('.').expect("three parts").0.to_owned();
    let without = |name: &str| {
        let mut claims = issuer.claims(&json!({}));
        claims.as_object_mut().expect("an object").remove(name);
        key.sign(&claims)
    };
    for (token, reason) in [
        (signed(json!({"aud": "another"})), "have the audience 'wheelport'"),
        (signed(json!({"aud": ["another"]})), "have the audience 'wheelport'"),
        (without("aud"), "have the audience 'wheelport'"),
        (signed(json!({"iss": "https://elsewhere.invalid"})), "issuer is not one"),
        (without("iss"), "issuer is not one"),
        (signed(json!({"exp": now - 61})), "expired"),
        (without("exp"), "not a well-formed"),
        (signed(json!({"exp": "tomorrow"})), "not a well-formed"),
        (signed(json!({"nbf": now + 120})), "not valid yet"),
        (foreign.sign(&issuer.claims(&json!({}))), "signature is wrong"),
        (TokenKey::ec("unknown").sign(&issuer.claims(&json!({}))), "no such key"),
        (TokenKey::rsa("one").sign(&issuer.claims(&json!({}))), "algorithm"),
        (with_header(&good, &json!({"alg": "none", "kid": "one"})), "algorithm"),
        (format!("{}.", with_header(&unsigned, &json!({"alg": "none"}))), "algorithm"),
        (signed_with_the_public_key(&issuer.claims(&json!({})), &key), "algorithm"),
        (with_header(&good, &json!({"alg": "ES256", "kid": "one", "crit": ["x"]})), "not a well-formed"),
        (with_header(&good, &json!({"alg": "ES256"})), "signature is wrong"),
        (format!("{good}x"), "signature is wrong"),
        (signed(json!({"filling": "x".repeat(13 << 10)})), "longer than"),
        ("eyJ..".to_owned(), "not a well-formed"),
        ("wheelport-1.e30.AAAA".to_owned(), "signature is wrong"),
        ("anything".to_owned(), "not known here"),
    ] {
        for _ in 0..2 {
            let response = bearer(proxy.get("/simple/a-b/"), &token).send().await.expect(401);
            let detail = response.value()["detail"].as_str().unwrap_or_default().to_owned();
            assert!(detail.contains(reason) && detail.contains("Reading route 'main'"), "{reason}: {detail}");
            assert_eq!(response.header("www-authenticate"), Some(CHALLENGE));
        }
    }
    bearer(proxy.get("/simple/a-b/"), &good).send().await.expect(200);
    // Clocks may be a minute apart.
    for near in [json!({"exp": now - 30}), json!({"nbf": now + 30})] {
        bearer(proxy.get("/simple/a-b/"), &signed(near)).send().await.expect(200);
    }
}

#[tokio::test]
async fn a_verified_token_is_good_until_it_expires() {
    let (proxy, issuer, key) = standing().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let token = key.sign(&issuer.claims(&json!({})));
    bearer(proxy.get("/simple/a-b/"), &token).send().await.expect(200);
    proxy.pass(Duration::from_secs(300 + 61)).await;
    bearer(proxy.get("/simple/a-b/"), &token).send().await.expect(401);
}

#[tokio::test]
async fn keys_are_rotated_without_a_pause_and_the_last_good_ones_are_kept() {
    let (old, new) = (TokenKey::ec("old"), TokenKey::rsa("new"));
    let issuer = TokenIssuer::start(&[&old]).await;
    let proxy = builder(&issuer).start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let number = std::cell::Cell::new(0);
    let read = async |key: &TokenKey| {
        number.set(number.get() + 1);
        let now = proxy.clock().unix_seconds();
        let token = key.sign(&issuer.claims(&json!({"n": number.get(), "exp": now + 300, "nbf": now})));
        bearer(proxy.get("/simple/a-b/"), &token).send().await.status
    };
    assert_eq!(read(&old).await, 200);
    issuer.publish(&[&old, &new]);
    assert_eq!(read(&new).await, 401, "the keys were fetched a moment ago");
    proxy.pass(Duration::from_secs(61)).await;
    assert_eq!((read(&new).await, read(&old).await), (200, 200));
    issuer.server.on(KEYS, Reply::status(500));
    proxy.pass(Duration::from_hours(1)).await;
    assert_eq!((read(&new).await, read(&old).await), (200, 200), "the last good keys are kept");
    assert!(proxy.metrics().await.contains("wheelport_issuer_keys_failed{issuer=\"ci\"} 1"));
}

#[tokio::test]
async fn an_issuer_whose_keys_were_never_had_is_an_outage_and_no_refusal() {
    let key = TokenKey::ec("one");
    let issuer = TokenIssuer::start(&[&key]).await;
    issuer.server.on(KEYS, Reply::status(503));
    let proxy = builder(&issuer).start().await;
    let token = key.sign(&issuer.claims(&json!({})));
    let response = bearer(proxy.get("/simple/a-b/"), &token).send().await.expect(503);
    assert!(response.value()["code"] == "issuer-unavailable" && response.header("retry-after").is_some());
    assert_eq!(proxy.asked(PAGE), 0);
}

#[tokio::test]
async fn documents_of_an_issuer_are_bounded() {
    let key = TokenKey::ec("one");
    let issuer = TokenIssuer::start(&[&key]).await;
    let large = json!({"keys": [key.public()], "filling": "x".repeat(1 << 20)});
    issuer.server.on(KEYS, Reply::ok(large.to_string()));
    let proxy = builder(&issuer).start().await;
    // So that nothing else is missing.
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let token = key.sign(&issuer.claims(&json!({})));
    let refused = bearer(proxy.get("/simple/a-b/"), &token).send().await.expect(503);
    assert_eq!(refused.value()["code"], "issuer-unavailable");
}

fn upload(proxy: &Proxy, target: &str) -> Ask {
    let form = Form::of(&Sample::wheel()).bytes();
    proxy.client().ask("POST", target).header("content-type", &content_type()).body(form)
}

#[tokio::test]
async fn publishing_takes_an_id_token_for_its_projects_and_routes() {
    let (proxy, issuer, key) = standing().await;
    proxy.upstream.on(POST, Reply::ok("")).on(PAGE, Reply::status(404));
    let token = |project: &str| key.sign(&issuer.claims(&json!({"project_path": project})));
    let response = upload(&proxy, "/").send().await.expect(401);
    assert!(response.reason.contains("__token__"), "{response:?}");
    let expired = key.sign(&issuer.claims(&json!({"exp": 1000})));
    let response = bearer(upload(&proxy, "/"), &expired).send().await.expect(401);
    assert!(response.reason.contains("expired"), "{response:?}");
    bearer(upload(&proxy, "/"), &token("other/x")).send().await.expect(403);
    bearer(upload(&proxy, "/pypi/second/"), &token("acme/x")).send().await.expect(403);
    assert_eq!(proxy.asked(POST), 0);
    bearer(upload(&proxy, "/"), &token("acme/x")).send().await.expect(200);
    assert_eq!(proxy.asked(POST), 1);
}

async fn mint(proxy: &Proxy, path: &str, token: &str) -> Response {
    let ask = proxy.client().ask("POST", path).header("content-type", "application/json");
    ask.body(json!({ "token": token }).to_string()).send().await
}

#[tokio::test]
async fn a_token_is_exchanged_used_and_given_back() {
    let (proxy, issuer, key) = standing().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    proxy.upstream.on(POST, Reply::ok(""));
    let audience = proxy.get("/_/oidc/audience").send().await.expect(200);
    assert_eq!(audience.value(), json!({ "audience": AUDIENCE }));
    let token = key.sign(&issuer.claims(&json!({})));
    for path in ["/_/oidc/mint-token", "/_/oidc/github/mint-token"] {
        let minted = mint(&proxy, path, &token).await.expect(200);
        assert_eq!(minted.header("cache-control"), Some("no-store"));
        let expires = minted.value()["expires"].as_u64().expect("a time");
        assert!(expires.abs_diff(Clock::system().unix_seconds() + 900) < 10);
        let minted = minted.value()["token"].as_str().expect("a token").to_owned();
        bearer(proxy.get("/simple/a-b/"), &minted).send().await.expect(200);
        bearer(proxy.get("/pypi/second/simple/a-b/"), &minted).send().await.expect(403);
        bearer(upload(&proxy, "/"), &minted).send().await.expect(200);
        let again = mint(&proxy, path, &minted).await.expect(422);
        assert_eq!(again.value()["errors"][0]["code"], "already-minted");
        mint(&proxy, "/_/oidc/burn-token", &minted).await.expect(202);
        let burnt = bearer(proxy.get("/simple/a-b/"), &minted).send().await.expect(401);
        assert!(burnt.text().contains("given back"), "{burnt:?}");
        mint(&proxy, "/_/oidc/burn-token", &minted).await.expect(202);
    }
    let refused = mint(&proxy, "/_/oidc/mint-token", &key.sign(&issuer.claims(&json!({"aud": "x"})))).await.expect(422);
    assert_eq!(refused.value()["errors"][0]["code"], "wrong-audience");
    assert!(refused.value()["message"].as_str().is_some_and(|text| text.contains("audience")), "{refused:?}");
    let nobody = key.sign(&issuer.claims(&json!({"project_path": "unknown"})));
    let refused = mint(&proxy, "/_/oidc/mint-token", &nobody).await.expect(422);
    assert_eq!(refused.value()["errors"][0]["code"], "no-rights");
    mint(&proxy, "/_/oidc/burn-token", "wheelport-1.x.y").await.expect(422);
    proxy.client().ask("POST", "/_/oidc/mint-token").body("[]").send().await.expect(400);
    proxy.get("/_/oidc/mint-token").send().await.expect(405);
    proxy.get("/_/oidc/else").send().await.expect(404);
}

#[tokio::test]
async fn a_minted_token_expires_and_is_good_wherever_its_key_is() {
    let key = TokenKey::ec("one");
    let issuer = TokenIssuer::start(&[&key]).await;
    let keys = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|text| text.repeat(32)).collect();
        SigningKeys::new(&texts).expect("keys")
    };
    let with = |signing: SigningKeys| builder(&issuer).set(|builder| builder.signing_keys = signing).start();
    let first = with(keys(&["a"])).await;
    let second = with(keys(&["b", "a"])).await;
    let stranger = with(keys(&["b"])).await;
    for proxy in [&first, &second, &stranger] {
        publish(&proxy.upstream, &[&Sample::wheel()]);
    }
    let token = key.sign(&issuer.claims(&json!({})));
    let minted = mint(&first, "/_/oidc/mint-token", &token).await.expect(200);
    let minted = minted.value()["token"].as_str().expect("a token").to_owned();
    for (proxy, status) in [(&first, 200), (&second, 200), (&stranger, 401)] {
        bearer(proxy.get("/simple/a-b/"), &minted).send().await.expect(status);
    }
    first.pass(Duration::from_mins(15)).await;
    let expired = bearer(first.get("/simple/a-b/"), &minted).send().await.expect(401);
    assert!(expired.text().contains("expired"), "{expired:?}");
}

#[tokio::test]
async fn clients_can_discover_where_tokens_are_exchanged() {
    let (proxy, _, _) = standing().await;
    for path in ["/", "/pypi/main/", "%2Fpypi%2Fmain%2F", "/legacy/"] {
        let found = proxy.get(&format!("/.well-known/pytp?discover={path}")).send().await.expect(200).value();
        let base = format!("http://{}", proxy.address);
        assert_eq!(found["audience-endpoint"], format!("{base}/_/oidc/audience"));
        assert_eq!(found["mint-token-endpoint"], format!("{base}/_/oidc/mint-token"));
    }
    for query in ["", "?discover=", "?discover=/simple/", "?discover=/pypi/else/", "?discover=/&discover=/"] {
        let status = if query == "?discover=" { 200 } else { 404 };
        proxy.get(&format!("/.well-known/pytp{query}")).send().await.expect(status);
    }
    let plain = Proxy::start().await;
    for path in ["/_/oidc/audience", "/.well-known/pytp?discover=/"] {
        assert_eq!(plain.get(path).send().await.expect(404).value()["code"], "not-offered");
    }
    mint(&plain, "/_/oidc/mint-token", "x").await.expect(404);
}

#[tokio::test]
async fn an_identity_may_have_limits() {
    let (proxy, _, _) = standing().await;
    let wheel = Sample::wheel();
    publish(&proxy.upstream, &[&wheel]);
    let read = |target: &str| bearer(proxy.get(target), "laptop").send();
    for _ in 0..2 {
        read(&wheel.path()).await.expect(200);
    }
    let limited = read(&wheel.path()).await.expect(429);
    assert_eq!(limited.header("retry-after"), Some("30"));
    read("/simple/a-b/").await.expect(200);
    bearer(proxy.head(&wheel.path()), "laptop").send().await.expect(200);
}

#[tokio::test]
async fn a_flood_of_tokens_does_not_keep_known_readers_waiting() {
    let (proxy, issuer, key) = standing().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let good = key.sign(&issuer.claims(&json!({})));
    bearer(proxy.get("/simple/a-b/"), &good).send().await.expect(200);
    let foreign = TokenKey::ec("one");
    let flood = (0..200).map(|number| {
        let token = foreign.sign(&issuer.claims(&json!({ "n": number })));
        bearer(proxy.get("/simple/a-b/"), &token).send()
    });
    let flood = futures_util::future::join_all(flood);
    let (refused, served) = tokio::join!(flood, bearer(proxy.get("/simple/a-b/"), &good).send());
    assert_eq!(served.status, 200);
    assert!(refused.iter().all(|response| response.status == 401));
    assert!(proxy.upstream.requests_to(&format!("GET {REPOSITORY}/simple/a-b/")).len() == 1);
}

/// A configuration in which the tables of identities follow a gated route.
fn configured(tables: &str) -> String {
    format!("[[route]]\nname = \"main\"\ndefault = true\nread = \"identity\"\nupload = \"identity\"\n{tables}")
}

const PIPELINES: &str = "[[identity]]\nname = \"ci:{project_path}@{ref}\"\nissuer = \"ci\"\n\
                         claims = { project_path = \"acme/*\" }\nread = [\"*\"]\npublish = [\"main\"]\n";

fn static_token(token: &str) -> String {
    let digest = Sha256::of(token.as_bytes());
    format!("[[identity]]\nname = \"laptop\"\ntoken_sha256 = \"{digest}\"\nread = [\"main\"]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_are_read_again_and_no_log_holds_a_token() -> Result<(), Box<dyn std::error::Error>> {
    let (world, key) = (World::new().await, TokenKey::rsa("one"));
    let issuer = TokenIssuer::start(&[&key]).await;
    publish(&world.upstream, &[&Sample::wheel()]);
    let path = world.dir.path().join("wheelport.toml");
    let url = issuer.url();
    let pipelines = format!("[[issuer]]\nname = \"ci\"\nurl = \"{url}\"\naudience = \"{AUDIENCE}\"\n{PIPELINES}");
    std::fs::write(&path, configured(&format!("{pipelines}{}", static_token("a-static-token"))))?;
    let config = path.display().to_string();
    let program = world.serve(&["--config", &config, "--log", "trace", "--log-format", "json"]);
    let proxy = program.proxy();
    ready(proxy).await;
    let read = async |token: &str| bearer(proxy.get("/simple/a-b/"), token).send().await.status;
    let token = key.sign(&issuer.claims(&json!({})));
    assert_eq!((read(&token).await, read("a-static-token").await, read("another-token").await), (200, 200, 401));
    program.logged("\"identity\":\"ci:acme/tools@main\"");
    program.logged("\"identity\":\"laptop\"");
    let minted = proxy.ask("POST", "/_/oidc/mint-token").body(json!({ "token": token }).to_string()).send().await;
    let minted = minted.expect(200).value()["token"].as_str().unwrap_or_default().to_owned();
    assert_eq!(read(&minted).await, 200);

    // What cannot be read changes nothing; a token that is taken out is good for nothing.
    std::fs::write(&path, "[[identity]]")?;
    program.logged("identities stay as they were");
    assert_eq!(read("a-static-token").await, 200);
    std::fs::write(&path, configured(&pipelines))?;
    until("the end of a token", async || (read("a-static-token").await == 401).then_some(())).await;
    assert_eq!((read(&token).await, read(&minted).await), (200, 200), "a key of the process stays its key");
    // A rule that is gone is gone for tokens that were verified before.
    std::fs::write(&path, configured(&format!("{}{}", pipelines.replace("acme/*", "gone/*"), static_token("new"))))?;
    until("the end of a rule", async || (read(&token).await == 403).then_some(())).await;
    assert_eq!(read("new").await, 200);

    program.signal(Signal::TERM);
    let ended = program.ended();
    let parts = token.split('.').chain(minted.split('.').skip(1));
    let secrets = parts.chain(["a-static-token", "another-token", "somebody@acme.invalid"]);
    for secret in secrets {
        assert!(!ended.err.contains(secret) && !ended.out.contains(secret), "{secret} is in the log");
    }
    Ok(())
}

#[test]
fn a_command_says_which_rules_fit_a_token_and_never_the_token() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let key = TokenKey::ec("one");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let keys = file("keys", &json!({ "keys": [key.public()] }).to_string())?;
    let tables = format!(
        "[[issuer]]\nname = \"ci\"\nurl = \"https://ci.invalid\"\naudience = \"wheelport\"\nkeys_file = \"{keys}\"\n\
         {PIPELINES}{}",
        static_token("a-static-token")
    );
    let config = configured(&tables).replace("default = true", "domain = \"acme\"\nrepository = \"r1\"");
    let config = file("wheelport.toml", &config)?;
    let now = Clock::system().unix_seconds();
    let signed = |project: &str, audience: &str| {
        let (iss, exp) = ("https://ci.invalid", now + 60);
        key.sign(&json!({"iss": iss, "aud": audience, "exp": exp, "project_path": project, "ref": "main"}))
    };
    for (token, code, expected) in [
        (
            signed("acme/x", "wheelport"),
            0,
            vec![
                "identity: ci:acme/x@main\n",
                "kind: id-token\n",
                "rule: ci:{project_path}@{ref}\n",
                "read: every route\n",
                "publish: every project through main\n",
            ],
        ),
        (signed("else", "wheelport"), 0, vec!["rule: none fits"]),
        (signed("acme/x", "another"), 1, vec!["audience 'wheelport'"]),
        ("a-static-token".to_owned(), 0, vec!["identity: laptop\n", "kind: static-token\n", "read: main\n"]),
        ("unknown".to_owned(), 1, vec!["not known here"]),
    ] {
        let path = file("token", &format!("{token}\n"))?;
        let ended = Program::run(&["identity", "test", &path, "--config", &config], &[]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(expected.iter().all(|part| ended.out.contains(part)), "{ended:?}");
        assert!(!ended.out.contains(&*token) && !ended.err.contains(&*token), "{ended:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_exchanges_a_token_for_netrc_and_keyring() -> Result<(), Box<dyn std::error::Error>> {
    let (proxy, _, _) = standing().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("token");
    let file = path.display().to_string();
    let url = format!("http://{}/pypi/main/simple/", proxy.address);
    let run = |more: &[&str]| {
        let arguments: Vec<String> =
            ["token", &url, "--token-file", &file].iter().chain(more).map(ToString::to_string).collect();
        tokio::task::block_in_place(|| Program::run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]))
    };
    std::fs::write(&path, "laptop\n")?;
    let ended = run(&[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    bearer(proxy.get("/simple/a-b/"), ended.out.trim()).send().await.expect(200);
    let ended = run(&["--format", "netrc"]);
    let password = ended.out.trim().strip_prefix("machine 127.0.0.1 login __token__ password ").ok_or("no entry")?;
    bearer(proxy.get("/simple/a-b/"), password).send().await.expect(200);
    std::fs::write(&path, "another")?;
    let ended = run(&[]);
    assert!(ended.code == Some(1) && ended.err.contains("not known here") && ended.out.is_empty(), "{ended:?}");
    assert!(!ended.err.contains("another"), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_every_issuer_and_looks_at_its_clock_and_at_the_age_of_keys()
-> Result<(), Box<dyn std::error::Error>> {
    let (world, key) = (World::new().await, TokenKey::ec("one"));
    let [good, late, gone] = [
        TokenIssuer::start(&[&key, &TokenKey::rsa("two")]).await,
        TokenIssuer::start(&[&key]).await,
        TokenIssuer::start(&[&key]).await,
    ];
    let document = json!({"issuer": late.url(), "jwks_uri": format!("{}/keys", late.url())});
    let date = httpdate::fmt_http_date(Clock::system().now() + Duration::from_mins(10));
    late.server.on("GET /.well-known/openid-configuration", Reply::ok(document.to_string()).header("date", date));
    gone.server.on(KEYS, Reply::status(500));
    let keys = world.dir.path().join("keys.json");
    std::fs::write(&keys, json!({ "keys": [key.public()] }).to_string())?;
    let old = Clock::system().now() - Duration::from_hours(24 * 100);
    std::fs::File::options().write(true).open(&keys)?.set_modified(old)?;
    let issuers = [("good", good.url()), ("late", late.url()), ("gone", gone.url())];
    let mut tables: String = issuers
        .map(|(name, url)| format!("[[issuer]]\nname = \"{name}\"\nurl = \"{url}\"\naudience = \"{AUDIENCE}\"\n"))
        .concat();
    let keys = keys.display();
    let of_cluster = format!(
        "[[issuer]]\nname = \"cluster\"\nurl = \"https://cluster.invalid\"\naudience = \"x\"\nkeys_file = \"{keys}\"\n"
    );
    tables.push_str(&of_cluster);
    let path = world.dir.path().join("wheelport.toml");
    std::fs::write(&path, configured(&format!("{tables}{}", PIPELINES.replace("\"ci\"", "\"good\""))))?;
    let (config, control, cache) = (path.display().to_string(), world.control.url(""), world.cache());
    let arguments = ["check", "--config", &config, "--domain", "acme", "--repository", "r1", "--cache-dir", &cache];
    let environment = [
        ("AWS_ENDPOINT_URL", control.as_str()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "an-example-of-a-secret-key"),
    ];
    let ended = tokio::task::block_in_place(|| Program::run(&arguments, &environment));
    for part in [
        "good: 2 keys that tokens can be verified with",
        "s behind the issuer's",
        "late: 1 keys",
        "responded with status 500",
        "cluster: 1 keys that tokens can be verified with, from a file that is 100 days old",
        "minted tokens are signed with a key that every process makes for itself",
    ] {
        assert!(ended.out.contains(part), "{part}: {ended:?}");
    }
    Ok(())
}
