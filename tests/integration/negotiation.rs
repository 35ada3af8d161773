//! Which representation a client gets: formats, content codings, entity tags and conditional requests.

use std::collections::HashSet;
use std::io::Read as _;

use crate::support::client::{HTML_V1, JSON, Response};
use crate::support::proxy::Proxy;
use crate::support::wheels::{PAGE, Sample, list, publish};

const HERE: &str = "/simple/a-b/";

fn decoded(response: &Response) -> Vec<u8> {
    let mut plain = Vec::new();
    let body = &response.body[..];
    let read = match response.header("content-encoding") {
        None => return body.to_vec(),
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        Some("zstd") => zstd::Decoder::new(body).and_then(|mut decoder| decoder.read_to_end(&mut plain)),
        Some(other) => panic!("{other}"),
    };
    read.expect("a body in its coding");
    plain
}

#[tokio::test]
async fn every_client_gets_a_format_it_can_read() {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let newest_pip =
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
    for (accept, expected) in [
        (newest_pip, JSON),
        ("application/vnd.pypi.simple.v1+json, */*;q=0.1", JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html; charset=utf-8"),
        ("application/vnd.pypi.simple.latest+html", "application/vnd.pypi.simple.v1+html; charset=utf-8"),
        ("application/vnd.pypi.simple.v1+json;q=0.1, text/html", "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("", "text/html; charset=utf-8"),
    ] {
        let response = proxy.get(HERE).header("accept", accept).send().await.expect(200);
        assert_eq!(response.header("content-type"), Some(expected), "{accept}");
    }
    let silent = proxy.get(HERE).send().await.expect(200);
    assert_eq!(silent.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(proxy.asked(PAGE), 1, "one page serves them all");
}

#[tokio::test]
async fn an_unsatisfiable_accept_gets_406_without_an_upstream_request() {
    let proxy = Proxy::start().await;
    for accept in ["application/vnd.pypi.simple.v2+json", "image/png", "*/*;q=0", "text/html;q=0.0"] {
        for target in [HERE, "/simple/"] {
            let response = proxy.get(target).header("accept", accept).send().await.expect(406);
            assert!(response.text().contains("not-acceptable"), "{accept}: {}", response.text());
        }
    }
    assert_eq!(proxy.upstream.requests().len(), 0);
}

#[tokio::test]
async fn every_representation_has_its_own_etag_and_the_same_content() {
    let proxy = Proxy::start().await;
    let samples: Vec<_> = (0..40).map(|n| Sample::sdist(&format!("1.{n}"), n)).collect();
    publish(&proxy.upstream, &samples.iter().collect::<Vec<_>>());
    let mut tags = HashSet::new();
    for form in [JSON, HTML_V1, "text/html"] {
        let plain = proxy.get(HERE).header("accept", form).send().await.expect(200);
        for (accepted, coding) in [("", None), ("gzip", Some("gzip")), ("gzip, deflate, zstd", Some("zstd"))] {
            let asking = proxy.get(HERE).header("accept", form).header("accept-encoding", accepted);
            let response = asking.send().await.expect(200);
            assert_eq!(response.header("content-encoding"), coding);
            assert_eq!(response.header("vary"), Some("Accept, Accept-Encoding"));
            assert_eq!(decoded(&response), plain.body, "{form} {accepted}");
            assert!(coding.is_none() || response.body.len() < plain.body.len());
            let tag = response.header("etag").expect("a tag").to_owned();
            assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag} is strong");
            assert!(tags.insert(tag), "{form} {accepted} shares its tag");
        }
    }
    assert_eq!(proxy.asked(PAGE), 1);
}

#[tokio::test]
async fn a_matching_etag_gets_304_with_its_headers() {
    let proxy = Proxy::start().await;
    publish(&proxy.upstream, &[&Sample::wheel()]);
    let json = proxy.get(HERE).json().send().await.expect(200);
    let tag = json.header("etag").expect("a tag");
    for condition in [tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
        let asking = proxy.get(HERE).json().header("if-none-match", condition);
        let response = asking.send().await.expect(304);
        response.expect_headers(&[
            ("etag", tag),
            ("cache-control", "no-cache"),
            ("vary", "Accept, Accept-Encoding"),
            ("cache-status", "wheelport; hit"),
        ]);
        assert!(response.body.is_empty());
    }
    // The etag of one format says nothing about another.
    proxy.get(HERE).header("if-none-match", tag).send().await.expect(200);
    proxy.get(HERE).json().header("if-none-match", "\"other\"").send().await.expect(200);
}

#[tokio::test]
async fn a_changed_page_has_a_new_etag_and_the_old_one_no_longer_matches() {
    let proxy = Proxy::start().await;
    let (first, second) = (Sample::sdist("1.0", 10), Sample::sdist("2.0", 10));
    publish(&proxy.upstream, &[&first]);
    let before = proxy.get(HERE).json().send().await.expect(200);
    let purge = "/purge?route=main&project=a-b";
    // The same content, serialised differently.
    proxy.ops.ask("POST", purge).send().await.expect(200);
    let same = proxy.get(HERE).json().send().await.expect(200);
    assert_eq!(before.header("etag"), same.header("etag"));
    list(&proxy.upstream, &[&first, &second]);
    proxy.ops.ask("POST", purge).send().await.expect(200);
    let tag = before.header("etag").expect("a tag");
    let after = proxy.get(HERE).json().header("if-none-match", tag).send().await.expect(200);
    assert_eq!(after.file_names(), ["a_b-1.0.tar.gz", "a_b-2.0.tar.gz"]);
}
