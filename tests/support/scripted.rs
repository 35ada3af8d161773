//! An HTTP/1.1 server on loopback that does exactly what a test tells it, down to the byte at which it breaks off.
//!
//! ```ignore
//! let upstream = Scripted::start().await;
//! upstream.on("GET /simple/a/", Reply::ok("…").header("content-type", "text/html"));
//! upstream.on_each("GET /file", [Reply::status(503), Reply::ok("bytes").cut_after(3)]); // the last one repeats
//! let gate = Gate::closed();
//! upstream.on("GET /slow", Reply::ok("x").before_head(&gate));
//! // … the code under test asks …
//! gate.reached().await; // it waits at the gate now; no sleeping
//! gate.open();
//! assert_eq!(upstream.requests_to("GET /slow").len(), 1);
//! ```
//!
//! Every request is recorded with its headers and body. A path without a script gets a 501, so that a test
//! notices it. Everything ends when the [`Scripted`] is dropped.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use wheelport_runtime::Tasks;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The method.
    pub method: String,
    /// The request target as sent: percent-encoded, with its query.
    pub target: String,
    /// Header names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Seen {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// A gate at which a response waits until the test opens it. Clones are the same gate.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    pub(crate) fn closed() -> Self {
        Self { open: watch::Sender::new(false), waiting: watch::Sender::new(0) }
    }

    /// Lets every request through from now on.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Resolves when a response has come to this gate.
    pub(crate) async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Resolves when this many responses have come to this gate.
    pub(crate) async fn reached_by(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        let reached = super::client::soon("a gate", waiting.wait_for(|waiting| *waiting >= count));
        drop(reached.await.expect("the gate exists"));
    }

    /// Waits here.
    pub(crate) async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.expect("the gate exists");
    }
}

/// What happens after some bytes of the body.
#[derive(Debug, Clone)]
enum Midway {
    Cut,
    Stall,
    Gate(Gate),
}

type Decide = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// One scripted response.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    raw: Option<Bytes>,
    decide: Option<Decide>,
    delay: Duration,
    gate: Option<Gate>,
    midway: Option<(usize, Midway)>,
    drip: Option<(usize, Duration)>,
    announced: Option<usize>,
    chunked: bool,
    close: bool,
}

impl Reply {
    /// A status with an empty body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            raw: None,
            decide: None,
            delay: Duration::ZERO,
            gate: None,
            midway: None,
            drip: None,
            announced: None,
            chunked: false,
            close: false,
        }
    }

    /// 200 with a body.
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    /// A redirect.
    pub(crate) fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::status(status).header("location", location)
    }

    /// These bytes and nothing else, then the end of the connection; no bytes at all are a connection that closes
    /// without a response.
    pub(crate) fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::status(200) }
    }

    /// A response that depends on the request.
    pub(crate) fn with(decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self { decide: Some(Arc::new(decide)), ..Self::status(200) }
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Waits before the head. For tests of time limits only; everything else waits at a [`Gate`].
    #[must_use]
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits at a gate before the head.
    #[must_use]
    pub(crate) fn before_head(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Waits at a gate after some bytes of the body.
    #[must_use]
    pub(crate) fn gate_after(mut self, bytes: usize, gate: &Gate) -> Self {
        self.midway = Some((bytes, Midway::Gate(gate.clone())));
        self
    }

    /// Ends the connection after some bytes of the body.
    #[must_use]
    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.midway = Some((bytes, Midway::Cut));
        self
    }

    /// Falls silent after some bytes of the body and keeps the connection open.
    #[must_use]
    pub(crate) fn stall_after(mut self, bytes: usize) -> Self {
        self.midway = Some((bytes, Midway::Stall));
        self
    }

    /// Sends the body in chunks with a pause after each.
    #[must_use]
    pub(crate) fn drip(mut self, chunk: usize, pause: Duration) -> Self {
        self.drip = Some((chunk.max(1), pause));
        self
    }

    /// Announces a length other than the body's.
    #[must_use]
    pub(crate) fn announce(mut self, length: usize) -> Self {
        self.announced = Some(length);
        self
    }

    /// Sends the body chunked, without a length.
    #[must_use]
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Ends the connection after the response, without having announced it.
    #[must_use]
    pub(crate) fn close(mut self) -> Self {
        self.close = true;
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut lines = vec![format!("HTTP/1.1 {} Scripted", self.status)];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        let bodiless = self.status < 200 || matches!(self.status, 204 | 304);
        if self.chunked {
            lines.push("transfer-encoding: chunked".to_owned());
        } else if !bodiless {
            lines.push(format!("content-length: {}", self.announced.unwrap_or(self.body.len())));
        }
        (lines.join("\r\n") + "\r\n\r\n").into_bytes()
    }
}

/// The server. Cheap to clone; the last clone ends it.
#[derive(Clone)]
pub(crate) struct Scripted {
    scheme: &'static str,
    address: SocketAddr,
    state: Arc<State>,
    _running: Arc<Running>,
}

struct Running(Tasks);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[derive(Default)]
struct State {
    scripts: Mutex<HashMap<String, Script>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

struct Script {
    replies: Vec<Reply>,
    next: usize,
}

impl Scripted {
    /// Starts on a free port of 127.0.0.1.
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// The same behind TLS, with one of the certificates of [`super::tls`].
    pub(crate) async fn start_tls(certificate: &str) -> Self {
        Self::listen(Some(super::tls::acceptor(certificate))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (state, tasks) = (Arc::new(State::default()), Tasks::new());
        tasks.spawn_loop("scripted upstream", {
            let (state, tasks) = (state.clone(), tasks.clone());
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    let (state, tls) = (state.clone(), tls.clone());
                    tasks.spawn_loop("scripted connection", async move {
                        // However a connection ends, it is what the test asked for or what it looks at.
                        drop(match tls {
                            None => state.converse(socket).await,
                            Some(tls) => match tls.accept(socket).await {
                                Ok(socket) => state.converse(socket).await,
                                Err(error) => Err(error),
                            },
                        });
                    });
                }
            }
        });
        Self { scheme, address, state, _running: Arc::new(Running(tasks)) }
    }

    /// `http://127.0.0.1:PORT`, or https, and a path that begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The bound address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends this reply to every such request (`"GET /path"`, percent-encoded, without query) from now on. `"GET *"` is
    /// every GET without a script of its own.
    pub(crate) fn on(&self, request: &str, reply: Reply) -> &Self {
        self.on_each(request, [reply])
    }

    /// Sends these replies to such requests, one after another; the last one repeats.
    pub(crate) fn on_each(&self, request: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        let script = Script { replies: replies.into_iter().collect(), next: 0 };
        self.state.scripts.lock().insert(request.to_owned(), script);
        self
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }

    /// Every request so far of this method and path.
    pub(crate) fn requests_to(&self, request: &str) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| key(seen) == request).collect()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

fn key(seen: &Seen) -> String {
    format!("{} {}", seen.method, seen.path())
}

/// A connection of either kind.
trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for S {}

impl State {
    async fn converse(&self, mut socket: impl Socket) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(seen) = read_request(&mut socket, &mut buffer).await? {
            let reply = self.reply_to(&seen);
            self.seen.lock().push(seen);
            if !write_reply(&mut socket, reply).await? {
                return socket.shutdown().await;
            }
        }
        Ok(())
    }

    fn reply_to(&self, seen: &Seen) -> Reply {
        let mut scripts = self.scripts.lock();
        let exact = key(seen);
        let found = if scripts.contains_key(&exact) { exact } else { format!("{} *", seen.method) };
        let Some(script) = scripts.get_mut(&found) else { return Reply::status(501) };
        let reply = script.replies.get(script.next).or(script.replies.last()).cloned();
        script.next += 1;
        drop(scripts);
        match reply {
            Some(Reply { decide: Some(decide), .. }) => decide(seen),
            Some(reply) => reply,
            None => Reply::status(501),
        }
    }
}

/// Writes a response; returns whether the connection stays open.
async fn write_reply(socket: &mut impl Socket, reply: Reply) -> io::Result<bool> {
    tokio::time::sleep(reply.delay).await;
    if let Some(gate) = &reply.gate {
        gate.pass().await;
    }
    if let Some(raw) = &reply.raw {
        socket.write_all(raw).await?;
        return Ok(false);
    }
    socket.write_all(&reply.head()).await?;
    let (before, after) = match &reply.midway {
        Some((bytes, _)) => reply.body.split_at((*bytes).min(reply.body.len())),
        None => (&reply.body[..], &[][..]),
    };
    write_body(socket, &reply, before).await?;
    match &reply.midway {
        Some((_, Midway::Cut)) => return Ok(false),
        Some((_, Midway::Stall)) => {
            socket.flush().await?;
            forever().await;
        }
        Some((_, Midway::Gate(gate))) => {
            socket.flush().await?;
            gate.pass().await;
        }
        None => {}
    }
    write_body(socket, &reply, after).await?;
    if reply.chunked {
        socket.write_all(b"0\r\n\r\n").await?;
    }
    let complete = reply.announced.is_none_or(|announced| announced <= reply.body.len());
    Ok(complete && !reply.close)
}

async fn write_body(socket: &mut impl Socket, reply: &Reply, bytes: &[u8]) -> io::Result<()> {
    let (chunk, pause) = reply.drip.unwrap_or((usize::MAX, Duration::ZERO));
    for chunk in bytes.chunks(chunk) {
        if reply.chunked {
            socket.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        }
        socket.write_all(chunk).await?;
        if reply.chunked {
            socket.write_all(b"\r\n").await?;
        }
        if !pause.is_zero() {
            socket.flush().await?;
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

fn forever() -> impl Future<Output = ()> {
    std::future::pending()
}

async fn read_request(socket: &mut impl Socket, buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen { method: method.to_owned(), target: target.to_owned(), headers, body: Bytes::new() };
    if seen.header("transfer-encoding").is_some() {
        seen.body = read_chunked(socket, buffer).await?;
    } else {
        let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        fill(socket, buffer, length).await?;
        seen.body = buffer.drain(..length).collect();
    }
    Ok(Some(seen))
}

async fn read_chunked(socket: &mut impl Socket, buffer: &mut Vec<u8>) -> io::Result<Bytes> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            let have = buffer.len();
            fill(socket, buffer, have + 1).await?;
        };
        let size = String::from_utf8_lossy(&buffer[..line]).into_owned();
        let size =
            usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).map_err(io::Error::other)?;
        buffer.drain(..line + 2);
        fill(socket, buffer, size + 2).await?;
        body.extend(buffer.drain(..size));
        buffer.drain(..2);
        if size == 0 {
            return Ok(body.into());
        }
    }
}

/// Reads until the buffer holds this many bytes.
async fn fill(socket: &mut impl Socket, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while buffer.len() < length {
        if socket.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
