//! A client that shows a response as it came: status, reason, every header, and whether the body ended or broke off.
//!
//! HTTP/1.1 over one plain connection per request, so that a test sees framing and can leave in the middle. Every wait
//! has a deadline; a test that hangs fails.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) use wheelport_index::media::{HTML_V1, JSON_V1 as JSON};

/// Longer than anything a test waits for.
const DEADLINE: Duration = Duration::from_secs(25);

/// Waits for something that must happen soon.
pub(crate) async fn soon<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Looks again and again until `look` finds something.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, looking).await
}

/// Sends requests to one address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub SocketAddr);

/// A request that is being put together.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    to: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Client {
    /// A GET.
    pub(crate) fn get(self, target: &str) -> Ask {
        self.ask("GET", target)
    }

    /// Any method.
    pub(crate) fn ask(self, method: &str, target: &str) -> Ask {
        let (method, target) = (method.to_owned(), target.to_owned());
        Ask { to: self.0, method, target, headers: Vec::new(), body: Bytes::new() }
    }

    /// Sends these bytes on a connection of their own and returns everything until the server closes it.
    pub(crate) async fn raw(self, bytes: &[u8]) -> String {
        let conversation = async {
            let mut socket = TcpStream::connect(self.0).await?;
            // A client that is refused early may find the connection closed while it writes; the response says why.
            let _ = socket.write_all(bytes).await;
            let mut response = Vec::new();
            // A reset after the response is an end like another.
            match socket.read_to_end(&mut response).await {
                Err(error) if response.is_empty() => Err(error),
                _ => Ok(response),
            }
        };
        let response = soon("the end of a raw conversation", conversation).await.expect("loopback works");
        String::from_utf8_lossy(&response).into_owned()
    }
}

impl Ask {
    /// Adds a header.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks for the JSON form.
    #[must_use]
    pub(crate) fn json(self) -> Self {
        self.header("accept", JSON)
    }

    /// Sends a body.
    #[must_use]
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The complete response.
    pub(crate) async fn send(self) -> Response {
        self.open().await.finish().await
    }

    /// Sends it and asserts that no clean response comes: the connection ends before the headers or in mid-body.
    pub(crate) async fn expect_broken(self) {
        let what = format!("{} {}", self.method, self.target);
        if let Ok(opened) = soon(&what, self.begin()).await {
            opened.finish().await.expect_broken();
        }
    }

    /// The headers of the response; the body has to be read.
    pub(crate) async fn open(self) -> Opened {
        let what = format!("{} {}", self.method, self.target);
        soon(&format!("the head of {what}"), self.begin()).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    async fn begin(self) -> io::Result<Opened> {
        let mut socket = TcpStream::connect(self.to).await?;
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has = |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let mut line = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        if !has("host") {
            line("host", &self.to.to_string());
        }
        if !self.body.is_empty() {
            line("content-length", &self.body.len().to_string());
        }
        self.headers.iter().for_each(|(name, value)| line(name, value));
        head.push_str("\r\n");
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(&self.body).await?;
        Opened::read(socket, self.method == "HEAD").await
    }
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

/// A response whose body is still coming. Dropping it leaves in the middle.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Header names in lower case, in order.
    pub headers: Vec<(String, String)>,
    socket: TcpStream,
    framing: Framing,
    raw: Vec<u8>,
    ended: bool,
}

impl Opened {
    async fn read(mut socket: TcpStream, bodiless: bool) -> io::Result<Self> {
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if socket.read_buf(&mut raw).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head: String = raw[..end].iter().map(|byte| char::from(*byte)).collect();
        raw.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().splitn(3, ' ');
        let status = words.nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let reason = words.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let framing = if bodiless || matches!(status, 100..=199 | 204 | 304) {
            Framing::Length(0)
        } else if value("transfer-encoding").is_some() {
            Framing::Chunked
        } else {
            value("content-length").and_then(|length| length.parse().ok()).map_or(Framing::UntilClosed, Framing::Length)
        };
        Ok(Self { status, reason, headers, socket, framing, raw, ended: false })
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body so far, and whether it is complete.
    fn body(&self) -> (Vec<u8>, bool) {
        match self.framing {
            Framing::Length(length) => (self.raw[..length.min(self.raw.len())].to_vec(), self.raw.len() >= length),
            Framing::UntilClosed => (self.raw.clone(), self.ended),
            Framing::Chunked => dechunk(&self.raw),
        }
    }

    /// Reads until this many bytes of the body are there, and returns what is there.
    pub(crate) async fn at_least(&mut self, count: usize) -> Vec<u8> {
        let reading = async {
            loop {
                let (body, complete) = self.body();
                if body.len() >= count {
                    return body;
                }
                assert!(!complete && !self.ended, "only {} of {count} bytes came", body.len());
                self.pull().await;
            }
        };
        soon("bytes of a body", reading).await
    }

    async fn pull(&mut self) {
        self.raw.reserve(256 << 10);
        if !matches!(self.socket.read_buf(&mut self.raw).await, Ok(1..)) {
            self.ended = true;
        }
    }

    /// Reads to the end, whichever it is.
    pub(crate) async fn finish(mut self) -> Response {
        let reading = async {
            while !self.ended && !matches!(self.framing, Framing::Length(length) if self.raw.len() >= length) {
                if self.framing == Framing::Chunked && self.body().1 {
                    break;
                }
                self.pull().await;
            }
        };
        soon("the end of a body", reading).await;
        let (body, complete) = self.body();
        let Self { status, reason, headers, .. } = self;
        Response { status, reason, headers, body: body.into(), complete }
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn dechunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = raw.windows(2).position(|window| window == b"\r\n") else { return (body, false) };
        let size = std::str::from_utf8(&raw[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size else { return (body, false) };
        raw = &raw[at + 2..];
        if size == 0 {
            return (body, raw.starts_with(b"\r\n"));
        }
        body.extend_from_slice(&raw[..size.min(raw.len())]);
        if raw.len() < size + 2 {
            return (body, false);
        }
        raw = &raw[size + 2..];
    }
}

/// A response that came to its end, or broke off.
#[derive(Clone)]
pub(crate) struct Response {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Header names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it came.
    pub body: Bytes,
    /// Whether the body ended as its framing promised.
    pub complete: bool,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, reason, headers, body, complete } = self;
        let beginning = String::from_utf8_lossy(&body[..body.len().min(400)]);
        let end = if *complete { "complete" } else { "broken off" };
        write!(f, "{status} {reason} {headers:?}, {} bytes, {end}: {beginning}", body.len())
    }
}

impl Response {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `filename` of every file of a JSON page.
    #[track_caller]
    pub(crate) fn file_names(&self) -> Vec<String> {
        let page = self.value();
        let files = page["files"].as_array().expect("a page has files");
        files.iter().map(|file| file["filename"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Asserts the status and that the body is complete.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!((self.status, self.complete), (status, true), "{self:?}");
        self
    }

    /// Asserts that the response began well and broke off.
    #[track_caller]
    pub(crate) fn expect_broken(self) -> Self {
        assert_eq!((self.status, self.complete), (200, false), "{} bytes came", self.body.len());
        self
    }

    /// Asserts the whole set of headers. `*` stands for any value. Every response has a date and a request id; they are
    /// looked at here and left out of `expected`.
    #[track_caller]
    pub(crate) fn expect_headers(&self, expected: &[(&str, &str)]) -> &Self {
        let id = self.header("x-request-id").unwrap_or_default();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "request id `{id}`");
        assert!(self.header("date").is_some(), "no date");
        let mut found: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| name != "x-request-id" && name != "date")
            .map(|(name, value)| {
                let any = expected.iter().any(|(wanted, value)| wanted == name && *value == "*");
                (name.as_str(), if any { "*" } else { value.as_str() })
            })
            .collect();
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        self
    }

    /// Asserts a response that says "come back": 503 with a number of seconds, and no body that could be a page.
    #[track_caller]
    pub(crate) fn expect_unavailable(&self, code: &str) -> &Self {
        assert_eq!((self.status, self.complete), (503, true), "{self:?}");
        let wait: u64 = self.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds to wait");
        assert!((1..=60).contains(&wait), "{wait} seconds");
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.value()["code"], code, "{self:?}");
        self
    }
}
