//! A helper of the load comparison, no part of the product: `serve` answers the files of a directory from memory with
//! nothing but hyper, which is both the bare server to compare with and the upstream behind everybody; `fetch` is a
//! number of clients that each get one address once. What `fetch` measures it prints as one line of JSON.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::time::Sleep;
use tokio::time::error::Elapsed;

/// Clients that take longer are given up.
const PATIENCE: Duration = Duration::from_mins(5);

const USAGE: &str = "usage:
  stand serve --dir DIR [--listen ADDRESS] [--delay MILLISECONDS] [--rate MEGABYTES] [--gzip yes]
      answer the files of DIR from memory; `index.json` stands for the address of its directory, with a final slash;
      with --gzip, NAME.gz is given to clients that accept gzip; with --rate, a body comes no faster than so many millions of
      bytes a second, instead of as fast as memory
  stand fetch --to ADDRESS --path PATH --expect FILE [--clients NUMBER]
      get one address with so many clients at once, each over its own connection; the first client compares every byte
      with FILE, the others compare the length";

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stand: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().ok_or(USAGE)?;
    let mut options = HashMap::new();
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        options.insert(name, value);
    }
    let option = |name: &str| options.get(name).map(String::as_str);
    match command.as_str() {
        "serve" => {
            let delay = Duration::from_millis(option("--delay").unwrap_or("0").parse()?);
            let listen = option("--listen").unwrap_or("127.0.0.1:0").parse()?;
            let rate = option("--rate").map(str::parse::<u32>).transpose()?.map(|rate| f64::from(rate) * 1e6);
            let shelf = Shelf { delay, rate, gzip: option("--gzip").is_some(), ..Shelf::default() };
            serve(Path::new(option("--dir").ok_or(USAGE)?), listen, shelf).await
        }
        "fetch" => {
            let clients = option("--clients").unwrap_or("1").parse()?;
            let expect = Path::new(option("--expect").ok_or(USAGE)?);
            fetch(option("--to").ok_or(USAGE)?.parse()?, option("--path").ok_or(USAGE)?, clients, expect)
                .await
        }
        _ => Err(USAGE.into()),
    }
}

fn loopback_only(address: SocketAddr) -> Outcome<()> {
    if address.ip().is_loopback() { Ok(()) } else { Err(format!("{address} is not on loopback").into()) }
}

#[derive(Default)]
struct Shelf {
    files: HashMap<String, Item>,
    delay: Duration,
    /// Bytes a second, if not as fast as can be.
    rate: Option<f64>,
    gzip: bool,
    asked: AtomicU64,
}

struct Item {
    kind: HeaderValue,
    body: Bytes,
    gzip: Option<Bytes>,
}

async fn serve(dir: &Path, listen: SocketAddr, mut shelf: Shelf) -> Outcome<()> {
    loopback_only(listen)?;
    collect(dir, "", &mut shelf.files)?;
    let shelf = Arc::new(shelf);
    let socket = TcpListener::bind(listen).await?;
    println!("{}", socket.local_addr()?);
    loop {
        let (stream, _) = socket.accept().await?;
        stream.set_nodelay(true)?;
        let shelf = Arc::clone(&shelf);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shelf = Arc::clone(&shelf);
                async move { Ok::<_, Infallible>(shelf.answer(&request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn collect(dir: &Path, prefix: &str, files: &mut HashMap<String, Item>) -> Outcome<()> {
    for entry in std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a name is not UTF-8")?.to_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}/{name}"), files)?;
            continue;
        }
        if path.extension().is_some_and(|extension| extension == "gz") {
            continue;
        }
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => "application/vnd.pypi.simple.v1+json",
            Some("metadata") => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        };
        let address = name.strip_suffix("index.json").unwrap_or(&name);
        let item = Item {
            kind: HeaderValue::from_static(kind),
            body: std::fs::read(&path)?.into(),
            gzip: std::fs::read(path.with_file_name(format!("{name}.gz"))).ok().map(Bytes::from),
        };
        files.insert(format!("{prefix}/{address}"), item);
    }
    Ok(())
}

impl Shelf {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Paced> {
        let body = |bytes| Paced::new(bytes, self.rate);
        if request.uri().path() == "/_asked" {
            return Response::new(body(self.asked.load(Ordering::Relaxed).to_string().into()));
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let Some(item) = self.files.get(request.uri().path()) else {
            let mut missing = Response::new(body(Bytes::new()));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            return missing;
        };
        let mut answer = Response::new(body(item.body.clone()));
        if self.gzip
            && let Some(gzip) = &item.gzip
        {
            let accepted = request.headers().get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
            if accepted.is_some_and(|accepted| accepted.contains("gzip")) {
                *answer.body_mut() = body(gzip.clone());
                answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        answer.headers_mut().insert(CONTENT_TYPE, item.kind.clone());
        answer
    }
}

/// A body that comes at a steady rate, or all at once.
struct Paced {
    rest: Bytes,
    rate: Option<f64>,
    began: Instant,
    sent: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// What a body begins with and goes on by, in bytes.
    const STEP: usize = 64 << 10;

    fn new(rest: Bytes, rate: Option<f64>) -> Self {
        Self { rest, rate, began: Instant::now(), sent: 0, pause: None }
    }

    /// Waits until the next step is due; says how many bytes are. What a late timer missed is made up for.
    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let Some(rate) = self.rate else { return Poll::Ready(self.rest.len()) };
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
            let due = (self.began.elapsed().as_secs_f64() * rate) as usize + Self::STEP;
            let step = due.saturating_sub(self.sent).min(self.rest.len());
            if step >= Self::STEP.min(self.rest.len()) {
                return Poll::Ready(step);
            }
            #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
            let wait = Duration::from_secs_f64(self.sent as f64 / rate).saturating_sub(self.began.elapsed());
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let step = ready!(self.poll_due(context));
        self.sent += step;
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(step)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// What the clients of one `fetch` found.
#[derive(Default)]
struct Found {
    first_byte: Vec<f64>,
    whole: Vec<f64>,
    failures: Vec<String>,
}

impl Found {
    fn note(&mut self, outcome: Result<Outcome<(Duration, Duration)>, Elapsed>) {
        match outcome {
            Ok(Ok((first, whole))) => {
                self.first_byte.push(first.as_secs_f64());
                self.whole.push(whole.as_secs_f64());
            }
            Ok(Err(error)) => self.failures.push(error.to_string()),
            Err(_) => self.failures.push("took too long".to_owned()),
        }
    }
}

async fn fetch(to: SocketAddr, path: &str, clients: usize, expect: &Path) -> Outcome<()> {
    loopback_only(to)?;
    let expected: Bytes = std::fs::read(expect)?.into();
    let length = expected.len();
    let found = Arc::new(Mutex::new(Found::default()));
    let (ready, done) = (Arc::new(Barrier::new(clients + 1)), Arc::new(Barrier::new(clients + 1)));
    for client in 0..clients {
        let (found, ready, done) = (Arc::clone(&found), Arc::clone(&ready), Arc::clone(&done));
        let (path, expected) = (path.to_owned(), expected.clone());
        tokio::spawn(async move {
            let compared = (client == 0).then_some(expected);
            let outcome = tokio::time::timeout(PATIENCE, get(to, &path, length, compared, &ready)).await;
            found.lock().unwrap_or_else(PoisonError::into_inner).note(outcome);
            done.wait().await;
        });
    }
    ready.wait().await;
    let began = Instant::now();
    done.wait().await;
    let seconds = began.elapsed().as_secs_f64();
    let found = found.lock().unwrap_or_else(PoisonError::into_inner);
    let failures: Vec<_> = found.failures.iter().map(|failure| format!("{failure:?}")).collect();
    let bytes = length * found.whole.len();
    let report = format!(
        r#"{{"seconds":{seconds},"bytes":{bytes},"first_byte":{:?},"whole":{:?},"failures":[{}]}}"#,
        found.first_byte,
        found.whole,
        failures.join(",")
    );
    println!("{report}");
    Ok(())
}

/// Gets the address once; says how long the first byte of the body and the whole body took.
async fn get(
    to: SocketAddr,
    path: &str,
    length: usize,
    compared: Option<Bytes>,
    ready: &Barrier,
) -> Outcome<(Duration, Duration)> {
    let connected = connect(to).await;
    ready.wait().await;
    let mut sender = connected?;
    let request = Request::get(path).header(HOST, to.to_string()).body(Empty::<Bytes>::new())?;
    let began = Instant::now();
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()).into());
    }
    let mut body = response.into_body();
    let (mut at, mut first) = (0, None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        first.get_or_insert_with(|| began.elapsed());
        if compared.as_ref().is_some_and(|all| all.get(at..at + data.len()) != Some(&data[..])) {
            return Err(format!("wrong bytes from {at} on").into());
        }
        at += data.len();
    }
    if at != length {
        return Err(format!("{at} bytes instead of {length}").into());
    }
    Ok((first.unwrap_or_default(), began.elapsed()))
}

async fn connect(to: SocketAddr) -> Outcome<hyper::client::conn::http1::SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
