//! Every error with its status, code and headers, and the bodies that different clients get.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;

use super::super::refusal::AddressFault;
use super::*;
use crate::flow::Cause;
use crate::policy::{Grounds, Moment};
use wheelport_index::ProjectName;
use wheelport_index::{FileAddress, FileName, VersionSegment};

fn project() -> ProjectName {
    ProjectName::parse("flask").expect("a name")
}

fn file() -> FileName {
    FileName::parse("flask-1.0.tar.gz").expect("a file name")
}

fn context(method: &Method, accept: Option<&str>) -> RequestContext {
    let mut headers = HeaderMap::new();
    if let Some(accept) = accept {
        headers.insert(ACCEPT, HeaderValue::from_str(accept).expect("a header value"));
    }
    RequestContext::of_test(method.clone(), headers)
}

fn respond(problem: impl Into<Problem>, method: &Method, accept: Option<&str>) -> Response {
    response(&problem.into(), &context(method, accept))
}

async fn body(response: Response) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn reason_of(response: &Response) -> Option<Vec<u8>> {
    response.extensions().get::<ReasonPhrase>().map(|reason| reason.as_bytes().to_vec())
}

/// A file that a rule refuses for this reason.
fn blocked(reason: &str) -> BlockedFile {
    let version = VersionSegment::parse("1.0").expect("a segment");
    let address = FileAddress { project: project(), version, file: file() };
    let (rule, until, help) = ("r".into(), Some(Moment(0)), Some("Ask.".into()));
    let grounds = Grounds { rule, reason: reason.into(), until, help, advisory: None };
    BlockedFile { route: "pypi".into(), address, grounds }
}

type Row = (Problem, u16, &'static str, &'static [(&'static str, &'static str)]);

/// Every variant once, and every cause.
fn table() -> Vec<Row> {
    let wait = Duration::from_millis(1500);
    let unavailable = |cause| Problem::from(Error::Unavailable { cause, retry_after: wait });
    let retry: &[(&str, &str)] = &[("retry-after", "2")];
    vec![
        (Refusal::NoSuchRoute { route: "x".to_owned() }.into(), 404, "no-such-route", &[]),
        (Refusal::NoDefaultRoute.into(), 404, "no-default-route", &[]),
        (Refusal::NothingHere.into(), 404, "nothing-here", &[]),
        (Refusal::NotOffered { protocol: "Discovery" }.into(), 404, "not-offered", &[]),
        (Error::NoSuchProject { route: "pypi".into(), project: project() }.into(), 404, "no-such-project", &[]),
        (
            Error::NoSuchVersion { project: project(), version: VersionSegment::parse("1").expect("a segment") }.into(),
            404,
            "no-such-version",
            &[],
        ),
        (Error::NoSuchFile { project: project(), file: file() }.into(), 404, "no-such-file", &[]),
        (Error::NoCoreMetadata { file: file() }.into(), 404, "no-core-metadata", &[]),
        (Error::Quarantined { project: project() }.into(), 403, "quarantined", &[]),
        (Error::ListNotOffered { reason: "the role may not list packages" }.into(), 404, "list-not-offered", &[]),
        (Error::Denied { action: "codeartifact:ReadFromRepository" }.into(), 403, "denied", &[]),
        (unavailable(Cause::Token), 503, "unavailable-token", retry),
        (unavailable(Cause::Connect), 503, "unavailable-connect", retry),
        (unavailable(Cause::Timeout), 503, "unavailable-timeout", retry),
        (unavailable(Cause::Throttled), 503, "unavailable-throttled", retry),
        (unavailable(Cause::Upstream), 503, "unavailable-upstream", retry),
        (unavailable(Cause::Broken), 503, "unavailable-broken", retry),
        (unavailable(Cause::Busy), 503, "unavailable-busy", retry),
        (unavailable(Cause::Draining), 503, "unavailable-draining", retry),
        (unavailable(Cause::Storage), 503, "unavailable-storage", retry),
        (unavailable(Cause::OutcomeUnknown), 503, "unavailable-outcome-unknown", retry),
        (Error::Integrity { file: file() }.into(), 503, "integrity", &[("retry-after", "5")]),
        (Error::ChangedFile { file: file() }.into(), 403, "changed-file", &[]),
        (Error::Blocked { blocked: Arc::new(blocked("No.")) }.into(), 403, "blocked", &[]),
        (Refusal::NoSuchPage { last: "?page=3".to_owned() }.into(), 404, "no-such-page", &[]),
        (Refusal::BadDate { date: "soon".to_owned(), fault: "it is no date" }.into(), 400, "bad-date", &[]),
        (Refusal::BadAddress { fault: AddressFault::Percent }.into(), 400, "bad-address", &[]),
        (Refusal::BadRequest { fault: "it has no form" }.into(), 400, "bad-request", &[]),
        (Refusal::NotAcceptable.into(), 406, "not-acceptable", &[]),
        (
            Refusal::MethodNotAllowed { allowed: "GET, HEAD" }.into(),
            405,
            "method-not-allowed",
            &[("allow", "GET, HEAD")],
        ),
        (Refusal::BadHost.into(), 400, "bad-host", &[]),
        (Refusal::HostNotAllowed { host: "evil.example".to_owned() }.into(), 421, "host-not-allowed", &[]),
        (Refusal::TooManyConnections.into(), 503, "too-many-connections", retry),
        (Refusal::TooManyConnectionsOfClient.into(), 503, "too-many-connections-of-client", retry),
        (Refusal::CrossSite.into(), 403, "cross-site", &[]),
        (
            Refusal::RangeNotSatisfiable { length: 7 }.into(),
            416,
            "range-not-satisfiable",
            &[("content-range", "bytes */7")],
        ),
        (Refusal::UploadOff { route: "pypi".into() }.into(), 403, "upload-off", &[]),
        (
            Refusal::UploadUnauthorized { fault: None }.into(),
            401,
            "upload-unauthorized",
            &[("www-authenticate", "Basic realm=\"wheelport\", charset=\"UTF-8\"")],
        ),
        (
            Refusal::ReadUnauthorized { route: "pypi".into(), fault: None }.into(),
            401,
            "read-unauthorized",
            &[("www-authenticate", "Basic realm=\"wheelport\", charset=\"UTF-8\"")],
        ),
        (Refusal::ReadForbidden { route: "pypi".into(), identity: "ci".into() }.into(), 403, "read-forbidden", &[]),
        (Refusal::UploadForbidden { project: project() }.into(), 403, "upload-forbidden", &[]),
        (Error::UploadRefused { reason: "no digest was given".to_owned() }.into(), 400, "upload-refused", &[]),
        (Error::FileExists { file: file() }.into(), 409, "file-exists", &[]),
        (Error::UploadTooLarge { what: "a file", limit: 5 }.into(), 413, "upload-too-large", &[]),
        (Error::internal("secret").into(), 500, "internal", &[]),
    ]
}

#[test]
fn every_error_has_its_status_code_and_headers() {
    let mut codes = HashSet::new();
    for (error, status, code, expected) in table() {
        let response = respond(error.clone(), &Method::GET, None);
        assert_eq!((response.status().as_u16(), error.code()), (status, code));
        assert!(codes.insert(code), "{code} is there twice");
        assert!(matches!(status, 429 | 503) == response.headers().contains_key(RETRY_AFTER), "{code}");
        let common = [
            ("content-type", "application/problem+json"),
            ("cache-control", "no-store"),
            ("vary", "Accept"),
            ("content-length", "*"),
            ("x-content-type-options", "nosniff"),
            (
                "content-security-policy",
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ];
        let mut all: Vec<_> = common.iter().chain(expected).map(|(k, v)| (*k, (*v).to_owned())).collect();
        let of_read = ["quarantined", "denied", "changed-file", "blocked", "read-unauthorized", "read-forbidden"];
        let is_decision = of_read.contains(&code);
        all.extend(is_decision.then(|| ("x-error-message", error.to_string())));
        let mut got: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| match name.as_str() {
                "content-length" => ("content-length", "*".to_owned()),
                name => (name, String::from_utf8_lossy(value.as_bytes()).into_owned()),
            })
            .collect();
        all.sort();
        got.sort();
        assert_eq!(got, all, "{code}");
        let phrase = reason_of(&response).is_some();
        assert_eq!(phrase, is_decision, "{code}: a reading request keeps the standard phrase");
    }
}

#[test]
fn every_sentence_ends_and_tells_nothing_from_inside() {
    for (error, _, code, _) in table() {
        let sentence = error.to_string();
        assert!(sentence.ends_with(['.', ']']) && !sentence.contains("secret"), "{code}: {sentence}");
    }
}

#[tokio::test]
async fn the_document_follows_the_standard() {
    let error = Error::NoSuchProject { route: "pypi".into(), project: project() };
    let context = context(&Method::GET, Some("application/vnd.pypi.simple.v1+json, */*;q=0.1"));
    let document = body(response(&error.into(), &context)).await;
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(
        document,
        serde_json::json!({
            "type": "urn:wheelport:error:no-such-project",
            "title": "Not Found",
            "status": 404,
            "detail": "The repository behind route 'pypi' has no project 'flask'.",
            "code": "no-such-project",
            "request_id": context.id.as_str(),
        })
    );
}

#[tokio::test]
async fn a_refusal_of_a_rule_says_why_wherever_a_client_looks() {
    let long = format!("Nö, {}\r\nX: y", "x".repeat(1200));
    let error = Problem::from(Error::Blocked { blocked: Arc::new(blocked(&long)) });
    let response = respond(error, &Method::GET, None);
    let phrase = reason_of(&response).expect("a phrase");
    assert!(phrase.len() == 120 && phrase.starts_with(b"N?, xxx") && phrase.ends_with(b"..."), "{phrase:?}");
    let message = response.headers()[ERROR_MESSAGE].to_str().expect("ASCII").to_owned();
    assert!(message.len() == 1000 && message.starts_with("N?, xxx"), "{message}");
    let document: serde_json::Value = serde_json::from_str(&body(response).await).expect("JSON");
    assert_eq!(
        (&document["rule"], &document["until"], &document["help"]),
        (&"r".into(), &"1970-01-01T00:00:00Z".into(), &"Ask.".into())
    );
}

#[tokio::test]
async fn text_goes_to_those_who_take_only_text() {
    let pip = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
    for (accept, expected) in [
        (Some("text/html"), "text/plain; charset=utf-8"),
        (Some("text/html,application/xhtml+xml,*/*;q=0.8"), "text/plain; charset=utf-8"),
        (Some("text/plain"), "text/plain; charset=utf-8"),
        (Some("application/json;q=0.9, text/plain;q=0.8, text/html;q=0.7"), "application/problem+json"),
        (Some("*/*"), "application/problem+json"),
        (Some("image/png"), "application/problem+json"),
        (Some(pip), "application/problem+json"),
        (None, "application/problem+json"),
    ] {
        let response = respond(Refusal::NothingHere, &Method::GET, accept);
        assert_eq!(response.headers()[CONTENT_TYPE], expected, "{accept:?}");
    }
    let context = context(&Method::POST, Some("text/html"));
    let text = body(response(&Refusal::CrossSite.into(), &context)).await;
    assert_eq!(text, format!("{}\n\nRequest id: {}\n", Refusal::CrossSite, context.id.as_str()));
}

#[tokio::test]
async fn an_upload_reads_in_the_reason_phrase_what_the_body_says() {
    let error = Error::FileExists { file: file() };
    let response = respond(error.clone(), &Method::POST, None);
    let reason = reason_of(&response).expect("a reason phrase");
    assert_eq!(reason, error.to_string().into_bytes());
    assert!(reason.starts_with(b"File already exists (flask-1.0.tar.gz)"));
    assert!(body(response).await.contains("File already exists (flask-1.0.tar.gz)"));
}

#[test]
fn a_reason_phrase_is_one_bounded_line_of_latin_1() {
    let phrase = |text: &str| reason(text).map(|reason| reason.as_bytes().to_vec());
    assert_eq!(phrase("a\r\nX-Injected: é\t€\u{85}\0"), Some(b"a  X-Injected: \xe9 ?  ".to_vec()));
    assert_eq!(phrase(&"x".repeat(200)), Some(vec![b'x'; 200]));
    let long = phrase(&"x".repeat(201)).expect("a phrase");
    assert!(long.len() == 200 && long.ends_with(b"x..."));
}
