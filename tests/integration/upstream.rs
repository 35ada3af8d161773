//! Stories of the outbound edge: what it requests, what it makes of every response, and what it never does.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;
use wheelport::token::TokenHandle;
use wheelport::upstream::{
    Client, ClientSettings, Endpoint, FileReply, FileRequest, Malformed, RedirectHost, Resume, Unavailability,
    Upstream, UpstreamError,
};
use wheelport_index::parse::PageFormat;
use wheelport_index::{FileAddress, FileName, ProjectName, VersionSegment};
use wheelport_runtime::{HumanDuration, Priority, Size, Tasks};

use crate::support::mints::Mints;
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::tls;

const PAGE: &str = "GET /pypi/r/simple/a-b/";
const FILE: &str = "GET /pypi/r/simple/a-b/1.0%2Bx/a_b-1.0%2Bx.tar.gz";
const FILE_PATH: &str = "/pypi/r/simple/a-b/1.0%2Bx/a_b-1.0%2Bx.tar.gz";
const JSON: &str = "application/vnd.pypi.simple.v1+json";
/// `Basic base64("aws:canary-1")` and its successor.
const FIRST_TOKEN: &str = "Basic YXdzOmNhbmFyeS0x";
const SECOND_TOKEN: &str = "Basic YXdzOmNhbmFyeS0y";

/// A scripted upstream and a route to it.
struct Stage {
    scripted: Scripted,
    route: Upstream,
    token: TokenHandle,
    mints: Mints,
    tasks: Tasks,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Stage {
    async fn new() -> Self {
        Self::with(quick()).await
    }

    async fn with(settings: ClientSettings) -> Self {
        let scripted = Scripted::start().await;
        let (mints, tasks) = (Mints::default(), Tasks::new());
        let token = mints.keep(&tasks);
        let route = route_with(&scripted.url("/pypi/r"), settings, token.clone());
        Self { scripted, route, token, mints, tasks }
    }

    async fn page(&self) -> Result<String, UpstreamError> {
        let reply = self.route.page(&project()).await?;
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    async fn file(&self) -> Result<FileReply, UpstreamError> {
        self.route.file(request()).await
    }

    fn asked(&self, request: &str) -> usize {
        self.scripted.requests_to(request).len()
    }
}

/// Time limits short enough for tests that let them pass.
fn quick() -> ClientSettings {
    ClientSettings {
        connect_timeout: HumanDuration::millis(500),
        header_timeout: HumanDuration::millis(1000),
        response_timeout: HumanDuration::millis(3000),
        stall_timeout: HumanDuration::millis(200),
        import_patience: HumanDuration::millis(700),
        ..ClientSettings::default()
    }
}

fn route(base: &str, settings: ClientSettings, mints: &Mints, tasks: &Tasks) -> Upstream {
    route_with(base, settings, mints.keep(tasks))
}

fn route_with(base: &str, settings: ClientSettings, token: TokenHandle) -> Upstream {
    let client = Client::new(settings).expect("settings of a client");
    let endpoint = Endpoint::new(Url::parse(base).expect(base)).expect("an endpoint");
    Upstream::new(client, endpoint, token, Arc::from("test"))
}

fn project() -> ProjectName {
    ProjectName::parse("A.b").expect("a name")
}

fn request() -> FileRequest {
    let address = FileAddress {
        project: project(),
        version: VersionSegment::parse("1.0+x").expect("a version"),
        file: FileName::parse("a_b-1.0+x.tar.gz").expect("a file name"),
    };
    FileRequest { address, url: None, resume: None, listed: false, brief: false }
}

fn page_reply() -> Reply {
    Reply::ok("{}").header("content-type", JSON)
}

fn unavailable(reason: Unavailability) -> UpstreamError {
    UpstreamError::Unavailable { reason, retry_after: None }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

/// The body up to its end, or up to the error.
async fn read(mut reply: FileReply) -> (Vec<u8>, Option<UpstreamError>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = reply.body.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

// ---- pages

#[tokio::test]
async fn a_page_is_requested_as_json_with_the_token_and_a_final_slash() {
    let stage = Stage::new().await;
    stage.scripted.on(PAGE, page_reply());
    let reply = stage.route.page(&project()).await.expect("a page");
    assert_eq!((reply.format, &reply.body[..]), (PageFormat::Json, b"{}".as_slice()));
    assert_eq!(reply.url.as_str(), stage.scripted.url("/pypi/r/simple/a-b/"));
    let [seen] = &stage.scripted.requests()[..] else { panic!("one request is enough") };
    let mut headers = seen.headers.clone();
    headers.sort();
    let host = stage.scripted.address().to_string();
    let expected = [
        ("accept", "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"),
        ("accept-encoding", "gzip"),
        ("authorization", FIRST_TOKEN),
        ("host", &host),
        ("user-agent", concat!("wheelport/", env!("CARGO_PKG_VERSION"))),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn an_upstream_without_json_gets_one_extra_request_and_then_only_html_requests() {
    let stage = Stage::new().await;
    stage.scripted.on(
        PAGE,
        Reply::with(|seen| {
            if seen.header("accept") == Some("text/html") {
                Reply::ok("<a>").header("content-type", "text/html; charset=utf-8")
            } else {
                Reply::status(406)
            }
        }),
    );
    for requests in [2, 3, 4] {
        let reply = stage.route.page(&project()).await.expect("a page");
        assert_eq!(reply.format, PageFormat::Html);
        assert_eq!(stage.asked(PAGE), requests);
    }
    let stubborn = Stage::new().await;
    stubborn.scripted.on(PAGE, Reply::status(406));
    assert_eq!(stubborn.page().await, Err(UpstreamError::Malformed(Malformed::Status(406))));
}

#[tokio::test]
async fn a_page_is_decompressed_within_its_limit() {
    let stage = Stage::with(ClientSettings { max_page_size: Some(Size(1000)), ..quick() }).await;
    let compressed = |plain: &[u8]| page_reply().body(gzip(plain)).header("content-encoding", "gzip");
    stage.scripted.on(PAGE, compressed(&[b'x'; 1000]));
    assert_eq!(stage.page().await.map(|body| body.len()), Ok(1000));
    let too_large = Err(UpstreamError::TooLarge { limit: 1000 });
    stage.scripted.on(PAGE, compressed(&[b'x'; 1001]));
    assert_eq!(stage.page().await, too_large);
    stage.scripted.on(PAGE, page_reply().body(vec![b'x'; 1001]));
    assert_eq!(stage.page().await, too_large);
    stage.scripted.on(PAGE, page_reply().body(vec![b'x'; 1001]).chunked());
    assert_eq!(stage.page().await, too_large);
    stage.scripted.on(PAGE, page_reply().header("content-encoding", "br"));
    assert_eq!(stage.page().await, Err(UpstreamError::Malformed(Malformed::ContentEncoding)));
}

#[tokio::test]
async fn only_a_declared_page_format_is_a_page() {
    let stage = Stage::new().await;
    stage.scripted.on(PAGE, Reply::ok("  {}").header("content-type", "application/json"));
    assert_eq!(stage.page().await.as_deref(), Ok("  {}"));
    for reply in [
        Reply::ok("[]").header("content-type", "application/json"),
        Reply::ok("{}").header("content-type", "application/xml"),
        Reply::ok("{}"),
    ] {
        stage.scripted.on(PAGE, reply);
        assert_eq!(stage.page().await, Err(UpstreamError::Malformed(Malformed::ContentType)));
    }
}

#[tokio::test]
async fn a_page_that_breaks_off_is_requested_again_once() {
    let stage = Stage::new().await;
    stage.scripted.on_each(PAGE, [page_reply().cut_after(1), page_reply()]);
    assert_eq!(stage.page().await.as_deref(), Ok("{}"));
    stage.scripted.on(PAGE, page_reply().chunked().cut_after(1));
    assert_eq!(stage.page().await, Err(unavailable(Unavailability::Broken)));
    assert_eq!(stage.asked(PAGE), 4);
}

// ---- errors are not absences

#[tokio::test]
async fn no_fault_is_ever_an_absence() {
    let faults: Vec<(&str, Reply, &str)> = vec![
        ("closed without a response", Reply::raw(""), "broken"),
        ("not HTTP", Reply::raw("SSH-2.0-x\r\n\r\n"), "malformed"),
        ("silence", Reply::ok("").delay(Duration::from_mins(1)), "timeout"),
        ("a stalled body", page_reply().stall_after(1), "timeout"),
        ("401", Reply::status(401), "token"),
        ("400", Reply::status(400), "malformed"),
        ("304", Reply::status(304), "malformed"),
        ("429, and no end of it", Reply::status(429).header("retry-after", "3600"), "throttled"),
        ("500", Reply::status(500), "server-error"),
        ("503 with a long Retry-After", Reply::status(503).header("retry-after", "60"), "server-error"),
        ("501", Reply::status(501), "server-error"),
        ("a redirect to nowhere", Reply::status(302), "redirect"),
        ("a redirect to a stranger", Reply::redirect(302, "http://stranger.invalid/"), "redirect"),
        ("a redirect loop", Reply::redirect(307, "/pypi/r/simple/a-b/"), "redirect"),
        ("a portal's page", Reply::ok("<html>").header("content-type", "application/xhtml+xml"), "malformed"),
    ];
    join_all(faults.into_iter().map(|(fault, reply, expected)| async move {
        let stage = Stage::new().await;
        stage.scripted.on(PAGE, reply.clone()).on(FILE, reply);
        let began = Instant::now();
        let (page, file) = tokio::join!(stage.page(), stage.file());
        assert_eq!(page.expect_err(fault).as_str(), expected, "{fault}");
        assert!(!matches!(file, Err(UpstreamError::NotFound(_))), "{fault}");
        // The time limit of these settings, and some slack for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(6), "{fault} took {:?}", began.elapsed());
    }))
    .await;
}

#[tokio::test]
async fn a_404_says_under_which_token_and_when_and_is_not_repeated() {
    for status in [404, 410] {
        let stage = Stage::new().await;
        let began = Instant::now();
        stage.scripted.on(PAGE, Reply::status(status)).on(FILE, Reply::status(status));
        for error in [stage.page().await.err(), stage.file().await.err()] {
            let Some(UpstreamError::NotFound(witness)) = error else { panic!("{error:?}") };
            assert_eq!(witness.generation, 1);
            assert!(began <= witness.sent && witness.sent <= witness.arrived && witness.arrived <= Instant::now());
        }
        assert_eq!((stage.scripted.requests().len(), stage.mints.count()), (2, 1));
    }
}

#[tokio::test]
async fn only_a_page_of_the_endpoint_itself_is_a_witness() {
    let (stage, other) = (Stage::new().await, Scripted::start().await);
    stage.scripted.on(PAGE, page_reply());
    let witness = stage.route.page(&project()).await.expect("a page").witness.expect("a witness");
    assert_eq!(witness.generation, 1);
    let settings =
        ClientSettings { redirect_hosts: vec![RedirectHost::parse("127.0.0.1").expect("a host")], ..quick() };
    let stage = Stage::with(settings).await;
    other.on(PAGE, page_reply());
    stage.scripted.on(PAGE, Reply::redirect(302, other.url("/pypi/r/simple/a-b/")));
    assert_eq!(stage.route.page(&project()).await.expect("a page").witness, None);
}

#[tokio::test]
async fn a_listed_file_that_is_not_there_yet_is_waited_for() {
    let stage = Stage::new().await;
    let listed = || FileRequest { listed: true, ..request() };
    stage.scripted.on_each(FILE, [Reply::status(404), Reply::status(404), Reply::ok("bytes")]);
    let reply = stage.route.file(listed()).await.expect("the file");
    assert_eq!(read(reply).await, (b"bytes".to_vec(), None));
    assert_eq!(stage.asked(FILE), 3);
    stage.scripted.on(FILE, Reply::status(404));
    let began = Instant::now();
    assert!(matches!(stage.route.file(listed()).await, Err(UpstreamError::NotFound(_))));
    assert!(began.elapsed() >= Duration::from_millis(700), "the patience was {:?}", began.elapsed());
}

#[tokio::test]
async fn an_import_wait_cut_short_by_the_deadline_proves_no_absence() {
    let settings = ClientSettings {
        response_timeout: HumanDuration::millis(400),
        import_patience: HumanDuration::secs(5),
        ..quick()
    };
    let stage = Stage::with(settings).await;
    stage.scripted.on(FILE, Reply::status(404));
    let outcome = stage.route.file(FileRequest { listed: true, ..request() }).await;
    assert_eq!(outcome.err(), Some(unavailable(Unavailability::Timeout)));
}

#[tokio::test]
async fn a_denial_carries_its_message_for_the_log() {
    let stage = Stage::new().await;
    stage.scripted.on(PAGE, Reply::status(403).body("{\"message\":\"User is not authorized\"}"));
    let Err(UpstreamError::Denied { message, witness }) = stage.page().await else { panic!("denied") };
    assert_eq!((message.as_deref(), witness.generation), (Some("User is not authorized"), 1));
    stage.scripted.on(PAGE, Reply::status(403).body("<html>").announce(1 << 30).stall_after(6));
    assert!(matches!(stage.page().await, Err(UpstreamError::Denied { message: None, .. })));
}

// ---- tokens

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_request_repeated_once() {
    let stage = Stage::new().await;
    stage.scripted.on(
        PAGE,
        Reply::with(|seen| match seen.header("authorization") {
            Some(SECOND_TOKEN) => page_reply(),
            _ => Reply::status(401).header("www-authenticate", "Bearer realm=\"http://evil.invalid/\""),
        }),
    );
    assert_eq!(stage.page().await.as_deref(), Ok("{}"));
    let tokens: Vec<_> =
        stage.scripted.requests().iter().filter_map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    assert_eq!(tokens, [FIRST_TOKEN, SECOND_TOKEN]);
}

#[tokio::test]
async fn a_wave_of_refusals_leads_to_one_mint() {
    let stage = Stage::new().await;
    let gate = Gate::closed();
    let refusal = {
        let gate = gate.clone();
        Reply::with(move |seen| match seen.header("authorization") {
            Some(SECOND_TOKEN) => page_reply(),
            _ => Reply::status(401).before_head(&gate),
        })
    };
    stage.scripted.on(PAGE, refusal);
    let asking = join_all((0..40).map(|_| stage.page()));
    let opening = async {
        gate.reached_by(40).await;
        gate.open();
    };
    let (pages, ()) = tokio::join!(asking, opening);
    assert!(pages.iter().all(Result::is_ok), "{pages:?}");
    assert_eq!((stage.asked(PAGE), stage.mints.count()), (80, 2));
}

#[tokio::test]
async fn the_first_request_waits_for_the_first_token_but_not_forever() {
    let stage = Stage::with(ClientSettings { response_timeout: HumanDuration::millis(300), ..quick() }).await;
    let never = Gate::closed();
    stage.mints.wait_at(&never);
    assert_eq!(stage.page().await, Err(unavailable(Unavailability::Token)));
    assert!(stage.scripted.requests().is_empty(), "nothing is sent without a token");
}

#[tokio::test]
async fn a_token_appears_only_in_its_header() {
    let (log, _guard) = captured_log();
    let stage = Stage::new().await;
    stage.scripted.on_each(PAGE, [Reply::status(401), Reply::redirect(302, "/x?secret=query"), page_reply()]);
    stage.scripted.on("GET /x", Reply::redirect(302, "http://stranger.invalid/?secret=query"));
    let error = stage.page().await.expect_err("the redirect is refused");
    let shown = format!("{error} {error:?} {:?} {:?}", stage.route, stage.token);
    let log = log.text();
    assert!(log.contains("a redirect of upstream is not followed"), "the log is captured: {log}");
    for text in [&shown, &log] {
        for secret in ["canary", "YXdzOmNhbmFyeS0", "secret=query"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

// ---- redirects and other hosts

#[tokio::test]
async fn a_redirect_to_another_host_is_followed_without_the_token() {
    let (stage, store) = (Stage::new().await, Scripted::start().await);
    stage.scripted.on(FILE, Reply::redirect(307, store.url("/bucket/key?X-Amz-Signature=s")));
    store.on("GET /bucket/key", Reply::ok("bytes"));
    let reply = stage.file().await.expect("the file");
    assert_eq!(read(reply).await, (b"bytes".to_vec(), None));
    let seen = &store.requests()[0];
    assert_eq!(seen.target, "/bucket/key?X-Amz-Signature=s");
    assert_eq!(seen.header("authorization"), None);
    assert!(stage.scripted.requests()[0].header("authorization").is_some());
    for status in [401, 403, 404, 410] {
        store.on("GET /bucket/key", Reply::status(status));
        assert_eq!(stage.file().await.err(), Some(unavailable(Unavailability::Redirect)), "{status}");
    }
    assert_eq!(stage.mints.count(), 1, "another host's 401 says nothing about the token");
}

#[tokio::test]
async fn a_redirect_on_the_same_host_keeps_the_token_and_three_are_the_limit() {
    let stage = Stage::new().await;
    stage.scripted.on(PAGE, Reply::redirect(301, "/1?q=1"));
    stage.scripted.on("GET /1", Reply::redirect(308, "/2"));
    stage.scripted.on("GET /2", Reply::redirect(303, "/elsewhere/a-b"));
    stage.scripted.on("GET /elsewhere/a-b", page_reply());
    let reply = stage.route.page(&project()).await.expect("a page");
    assert_eq!(reply.url.as_str(), stage.scripted.url("/elsewhere/a-b/"));
    let seen = stage.scripted.requests();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|seen| seen.header("authorization") == Some(FIRST_TOKEN)));
    stage.scripted.on("GET /elsewhere/a-b", Reply::redirect(302, "/4"));
    assert_eq!(stage.page().await, Err(unavailable(Unavailability::Redirect)));
    assert_eq!(stage.asked("GET /4"), 0);
}

#[tokio::test]
async fn a_pages_own_link_is_followed_only_where_that_is_allowed() {
    let (stage, store) = (Stage::new().await, Scripted::start().await);
    let link = |url: &str| FileRequest { url: Some(Url::parse(url).expect(url)), ..request() };
    stage.scripted.on("GET /packages/x", Reply::ok("home")).on(FILE, Reply::ok("canonical"));
    store.on("GET /x", Reply::ok("store"));
    for (url, bytes) in [
        (stage.scripted.url("/packages/x#sha256=00"), "home"),
        (store.url("/x"), "store"),
        ("http://stranger.invalid/x".to_owned(), "canonical"),
        ("http://169.254.169.254/x".to_owned(), "canonical"),
        ("file:///etc/passwd".to_owned(), "canonical"),
        (stage.scripted.url("/packages/x").replace("://", "://user:pass@"), "canonical"),
    ] {
        let reply = stage.route.file(link(&url)).await.expect(&url);
        assert_eq!(read(reply).await, (bytes.as_bytes().to_vec(), None), "{url}");
    }
    assert_eq!(store.requests()[0].header("authorization"), None);
    assert_eq!(stage.scripted.requests()[0].header("authorization"), Some(FIRST_TOKEN));
}

// ---- retries

#[tokio::test]
async fn a_transient_failure_is_retried_and_a_lasting_one_given_up() {
    let stage = Stage::new().await;
    stage.scripted.on_each(PAGE, [Reply::status(503), Reply::status(500), page_reply()]);
    assert_eq!(stage.page().await.as_deref(), Ok("{}"));
    assert_eq!(stage.asked(PAGE), 3);
    stage.scripted.on(PAGE, Reply::status(502));
    assert_eq!(stage.page().await, Err(unavailable(Unavailability::ServerError)));
    assert_eq!(stage.asked(PAGE), 6);
    stage.scripted.on_each(PAGE, [Reply::raw(""), page_reply()]);
    assert_eq!(stage.page().await.as_deref(), Ok("{}"));
    assert_eq!(stage.asked(PAGE), 8);
}

#[tokio::test]
async fn retries_end_when_the_shared_budget_does() {
    let stage = Stage::with(ClientSettings { retry_ratio: 0.1, retry_floor: 0.0, ..quick() }).await;
    stage.scripted.on(PAGE, Reply::raw(""));
    let asked: usize = 200;
    for _ in 0..asked {
        assert_eq!(stage.page().await, Err(unavailable(Unavailability::Broken)));
    }
    let repeated = stage.asked(PAGE) - asked;
    assert!((20..=asked / 5 + 20).contains(&repeated), "{repeated} retries of {asked} requests");
}

#[tokio::test]
async fn every_request_slows_down_after_a_429() {
    let stage = Stage::new().await;
    stage.scripted.on_each(PAGE, [Reply::status(429).header("retry-after", "1"), page_reply()]);
    let began = Instant::now();
    assert_eq!(stage.page().await.as_deref(), Ok("{}"));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    stage.scripted.on(PAGE, Reply::status(429).header("retry-after", "9"));
    let began = Instant::now();
    let error = stage.page().await.expect_err("too long");
    assert_eq!(error.as_str(), "throttled");
    let UpstreamError::Unavailable { retry_after: Some(wait), .. } = error else { panic!("it says how long") };
    assert!(wait > Duration::from_secs(7), "{wait:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
    let before = stage.scripted.requests().len();
    assert_eq!(stage.file().await.expect_err("the backoff is shared").as_str(), "throttled");
    assert_eq!(stage.scripted.requests().len(), before, "and nothing was sent");
}

#[tokio::test]
async fn upstream_errors_lower_the_rate_and_absence_does_not() {
    for (reply, range) in [
        (Reply::status(404), 349.0..=350.0),
        (Reply::status(403), 349.0..=350.0),
        // It is retried, and a retry after more than a second counts once more.
        (Reply::status(500), 280.0..=330.0),
        (Reply::status(503).header("retry-after", "60"), 170.0..=200.0),
        (Reply::status(429).header("retry-after", "60"), 170.0..=200.0),
    ] {
        let stage = Stage::new().await;
        stage.scripted.on(PAGE, reply);
        let error = stage.page().await.expect_err("no page");
        let rate = stage.route.rate_limit();
        assert!(range.contains(&rate), "{error}: {rate}");
    }
}

#[tokio::test]
async fn a_rate_permit_that_comes_too_late_is_refused_at_once_and_other_hosts_need_none() {
    let one = std::num::NonZeroU32::MIN;
    let store = Scripted::start().await;
    let stage = Stage::with(ClientSettings {
        request_rate: one,
        request_burst: one,
        response_timeout: HumanDuration::millis(700),
        redirect_hosts: vec![RedirectHost::parse("127.0.0.1").expect("a host")],
        ..quick()
    });
    let stage = stage.await;
    store.on("GET /asset", Reply::ok("bytes"));
    stage.scripted.on(FILE, Reply::redirect(307, store.url("/asset")));
    assert!(stage.file().await.is_ok(), "one rate permit is enough for a file elsewhere");
    let began = Instant::now();
    let busy = UpstreamError::Unavailable { reason: Unavailability::Busy, retry_after: Some(Duration::from_secs(1)) };
    assert_eq!(stage.page().await, Err(busy));
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert_eq!(stage.asked(PAGE), 0, "nothing was sent");
}

#[tokio::test]
async fn an_unreachable_upstream_soon_opens_the_circuit_breaker() {
    // A port that was free a moment ago and on which no process listens.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let (mints, tasks) = (Mints::default(), Tasks::new());
    let route = route(&format!("http://{free}/pypi/r/"), quick(), &mints, &tasks);
    for _ in 0..3 {
        assert_eq!(route.page(&project()).await.expect_err("no process listens").as_str(), "connect");
    }
    let began = Instant::now();
    for _ in 0..100 {
        let error = route.page(&project()).await.expect_err("no process listens");
        let UpstreamError::Unavailable { reason: Unavailability::Connect, retry_after: Some(_) } = error else {
            panic!("{error:?}")
        };
    }
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    tasks.stop();
}

#[tokio::test]
async fn a_failed_connection_is_a_warning_only_if_a_client_waits_for_it() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    for (priority, level) in [(Priority::Background, "DEBUG"), (Priority::client(free.ip()), "WARN")] {
        let (log, _guard) = captured_log();
        let (mints, tasks) = (Mints::default(), Tasks::new());
        let route = route(&format!("http://{free}/pypi/r/"), quick(), &mints, &tasks);
        let error = priority.serve(route.page(&project())).await.expect_err("no process listens");
        assert_eq!(error.as_str(), "connect");
        let log = log.text();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("no connection to upstream")).collect();
        assert_eq!(lines.len(), 2, "one attempt and one retry: {log}");
        assert!(lines.iter().all(|line| line.contains(level)), "{level}: {log}");
        tasks.stop();
    }
}

// ---- files

#[tokio::test]
async fn a_file_is_requested_completely_and_unencoded() {
    let stage = Stage::new().await;
    let body: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    stage.scripted.on(FILE, Reply::ok(body.clone()).header("etag", "\"strong\"").header("accept-ranges", "bytes"));
    let reply = stage.file().await.expect("the file");
    assert_eq!((reply.offset, reply.length, reply.ranges), (0, Some(200_000), true));
    assert_eq!(reply.etag.as_deref(), Some("\"strong\""));
    assert_eq!(read(reply).await, (body, None));
    let seen = &stage.scripted.requests()[0];
    assert_eq!(seen.target, FILE_PATH);
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!((seen.header("range"), seen.header("authorization")), (None, Some(FIRST_TOKEN)));
    stage.scripted.on(FILE, Reply::ok(gzip(b"x")).header("content-encoding", "gzip"));
    let error = stage.file().await.expect_err("a coded file is no file");
    assert_eq!(error, UpstreamError::Malformed(Malformed::ContentEncoding));
}

#[tokio::test]
async fn an_incomplete_body_never_ends_cleanly() {
    let stage = Stage::new().await;
    for (fault, reply, reason) in [
        ("cut", Reply::ok("0123456789").cut_after(4), Unavailability::Broken),
        ("cut while chunked", Reply::ok("0123456789").chunked().cut_after(4), Unavailability::Broken),
        ("shorter than announced", Reply::ok("0123").announce(10), Unavailability::Broken),
        ("stalled", Reply::ok("0123456789").stall_after(4), Unavailability::Timeout),
    ] {
        stage.scripted.on(FILE, reply);
        let reply = stage.file().await.expect(fault);
        assert_eq!(read(reply).await, (b"0123".to_vec(), Some(unavailable(reason))), "{fault}");
    }
}

#[tokio::test]
async fn a_body_that_trickles_in_is_given_up() {
    let settings = ClientSettings { slow_window: HumanDuration::millis(300), slow_rate: Size(1000), ..quick() };
    let stage = Stage::with(settings).await;
    stage.scripted.on(FILE, Reply::ok(vec![b'x'; 1000]).drip(1, Duration::from_millis(20)));
    let (bytes, error) = read(stage.file().await.expect("the headers come")).await;
    assert_eq!(error, Some(unavailable(Unavailability::Timeout)));
    assert!(bytes.len() < 100, "{}", bytes.len());
}

#[tokio::test]
async fn a_file_is_continued_where_it_broke_off() {
    let stage = Stage::new().await;
    let resume = |etag: Option<&str>| FileRequest {
        resume: Some(Resume { offset: 4, etag: etag.map(str::to_owned) }),
        ..request()
    };
    stage.scripted.on(FILE, Reply::status(206).header("content-range", "bytes 4-9/10").body("456789"));
    let reply = stage.route.file(resume(Some("\"tag\""))).await.expect("the rest");
    assert_eq!((reply.offset, reply.length, reply.ranges), (4, Some(10), true));
    assert_eq!(read(reply).await, (b"456789".to_vec(), None));
    let seen = &stage.scripted.requests()[0];
    assert_eq!((seen.header("range"), seen.header("if-range")), (Some("bytes=4-"), Some("\"tag\"")));
    stage.scripted.on(FILE, Reply::ok("0123456789"));
    let reply = stage.route.file(resume(None)).await.expect("the complete file");
    assert_eq!((reply.offset, reply.length, reply.ranges), (0, Some(10), false));
    assert_eq!(stage.scripted.requests()[1].header("if-range"), None);
    for reply in [
        Reply::status(416),
        Reply::status(500),
        Reply::status(206).header("content-range", "bytes 0-9/10").body("0123456789"),
        Reply::status(206).body("456789"),
    ] {
        let before = stage.asked(FILE);
        stage.scripted.on(FILE, reply);
        assert_eq!(stage.route.file(resume(None)).await.err(), Some(UpstreamError::CannotResume));
        assert_eq!(stage.asked(FILE), before + 1, "the caller starts over, nothing is retried");
    }
}

#[tokio::test]
async fn bodies_hold_their_permits_and_pages_get_through() {
    let stage =
        Stage::with(ClientSettings { max_in_flight: 16, response_timeout: HumanDuration::millis(500), ..quick() })
            .await;
    stage.scripted.on(FILE, Reply::ok("0123").stall_after(2)).on(PAGE, page_reply());
    let mut held = Vec::new();
    // Nine of sixteen are for large files, and two thirds of those for one client.
    for _ in 0..6 {
        held.push(stage.file().await.expect("a permit"));
    }
    let busy = stage.file().await.expect_err("no permit is left for files");
    assert_eq!(busy.as_str(), "busy");
    assert_eq!(stage.page().await.as_deref(), Ok("{}"), "pages have permits of their own");
    assert_eq!(stage.asked(FILE), 6);
    held.pop();
    stage.scripted.on(FILE, Reply::ok("0123"));
    let reply = stage.file().await.expect("the permit of the dropped body");
    assert_eq!(read(reply).await, (b"0123".to_vec(), None));
    let mut read_to_its_end = stage.file().await.expect("a permit");
    while read_to_its_end.body.next().await.is_some() {}
    assert!(stage.file().await.is_ok(), "what is complete holds nothing");
    drop(read_to_its_end);
}

#[tokio::test]
async fn connections_are_reused() {
    let stage = Stage::new().await;
    stage.scripted.on(PAGE, page_reply()).on(FILE, Reply::ok("bytes"));
    stage.scripted.on("GET /pypi/r/simple/gone/", Reply::status(404).body("no such thing"));
    for _ in 0..3 {
        stage.page().await.expect("a page");
        read(stage.file().await.expect("a file")).await;
        let gone = ProjectName::parse("gone").expect("a name");
        assert!(stage.route.page(&gone).await.is_err());
    }
    assert_eq!(stage.scripted.connections(), 1);
}

// ---- TLS and proxies

#[tokio::test]
async fn only_a_certificate_that_verifies_gets_to_see_a_request() {
    let trusting = || ClientSettings { ca_file: Some(tls::authority()), ..quick() };
    for (certificate, settings, verifies) in [
        (tls::GOOD, trusting(), true),
        (tls::GOOD, quick(), false),
        (tls::OTHER_NAME, trusting(), false),
        (tls::EXPIRED, trusting(), false),
    ] {
        let (server, mints, tasks) = (Scripted::start_tls(certificate).await, Mints::default(), Tasks::new());
        server.on(PAGE, page_reply());
        let route = route(&server.url("/pypi/r/"), settings, &mints, &tasks);
        let outcome = route.page(&project()).await;
        assert_eq!(outcome.is_ok(), verifies, "{certificate}");
        if !verifies {
            assert_eq!(outcome.expect_err(certificate), unavailable(Unavailability::Connect), "{certificate}");
            assert!(server.requests().is_empty(), "{certificate}");
            assert!(server.connections() <= 2, "{certificate}");
        }
        tasks.stop();
    }
}

#[tokio::test]
async fn https_is_never_downgraded_to_http() {
    let (server, plain) = (Scripted::start_tls(tls::GOOD).await, Scripted::start().await);
    let (mints, tasks) = (Mints::default(), Tasks::new());
    let settings = ClientSettings { ca_file: Some(tls::authority()), ..quick() };
    let route = route(&server.url("/pypi/r/"), settings, &mints, &tasks);
    server.on(FILE, Reply::redirect(302, plain.url("/x")));
    assert_eq!(route.file(request()).await.err(), Some(unavailable(Unavailability::Redirect)));
    let linked = FileRequest { url: Url::parse(&plain.url("/x")).ok(), ..request() };
    assert_eq!(route.file(linked).await.err(), Some(unavailable(Unavailability::Redirect)));
    assert!(plain.requests().is_empty() && plain.connections() == 0);
    assert_eq!(server.requests().len(), 2);
    tasks.stop();
}

#[tokio::test]
async fn a_proxy_sees_the_target_and_its_own_credentials_only() {
    let (proxy, mints, tasks) = (Scripted::start().await, Mints::default(), Tasks::new());
    proxy.on("CONNECT upstream.example.org:443", Reply::status(502).close());
    let address = proxy.url("/").replace("://", "://user:pass@");
    let settings: ClientSettings = toml::from_str(&format!("proxy = \"{address}\"")).expect("settings");
    let route = route("https://upstream.example.org/pypi/r/", settings, &mints, &tasks);
    assert_eq!(route.page(&project()).await.expect_err("the proxy refuses").as_str(), "connect");
    let seen = &proxy.requests()[0];
    assert_eq!(seen.header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(seen.header("authorization"), None);
    tasks.stop();
}

// ---- helpers

/// What this thread logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn captured_log() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    (log, tracing::subscriber::set_default(subscriber))
}
