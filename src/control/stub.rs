//! A scripted AWS for tests: responds to requests on loopback and records them.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use wheelport_runtime::Tasks;

/// One request as the stub saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

/// A scripted response: status, further headers, body.
pub(crate) type Reply = (u16, Vec<(&'static str, String)>, String);

/// A JSON response without an error.
pub(crate) fn ok(body: &str) -> Reply {
    (200, vec![("content-type", "application/json".to_owned())], body.to_owned())
}

/// An error as AWS's JSON services send it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    let headers = vec![("content-type", "application/json".to_owned()), ("x-amzn-errortype", code.to_owned())];
    (status, headers, serde_json::json!({ "message": message }).to_string())
}

/// An XML response as STS sends it.
pub(crate) fn xml(status: u16, body: &str) -> Reply {
    (status, vec![("content-type", "text/xml".to_owned())], body.to_owned())
}

pub(crate) struct Stub {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: Tasks,
}

impl Stub {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tasks = Tasks::new();
        let script: Arc<dyn Fn(&Seen) -> Reply + Send + Sync> = Arc::new(script);
        tasks.spawn_loop("stub", accept(listener, Arc::clone(&seen), script, tasks.clone()));
        Self { url, seen, tasks }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn accept(
    listener: TcpListener,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<dyn Fn(&Seen) -> Reply + Send + Sync>,
    tasks: Tasks,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
        let service = service_fn(move |request| respond(request, Arc::clone(&seen), Arc::clone(&script)));
        tasks.spawn_loop("stub connection", async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<dyn Fn(&Seen) -> Reply + Send + Sync>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let header = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let one = Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authorization: header.unwrap_or_default().to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let (status, headers, body) = script(&one);
    seen.lock().push(one);
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(body)).expect("tests script valid headers"))
}
