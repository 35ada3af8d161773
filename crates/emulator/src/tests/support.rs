//! Builders and roles for the emulator's tests: a world with a client, and a public index that can be changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{AllowedActions, Emulator, EmulatorSettings, IndexAddress, Oddities};
use wheelport_index::Sha256;
use wheelport_runtime::Tasks;

/// An open emulator with its data plane on a port, and a client with a token.
pub(super) struct TestWorld {
    pub emulator: Emulator,
    dir: TempDir,
    tasks: Tasks,
    origin: String,
    token: String,
    public_index: Option<IndexAddress>,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug)]
pub(super) struct TestResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl TestResponse {
    /// A header's text; empty where it is missing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl TestWorld {
    pub(super) async fn new() -> Self {
        Self::open(tempfile::tempdir().expect("a directory"), None, Oddities::default()).await.with_token().await
    }

    pub(super) async fn with_public(public: &FakeIndex, oddities: Oddities) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::open(dir, Some(public.index.clone()), oddities).await.with_token().await
    }

    /// Ends this emulator and opens another one on the same directory; the client keeps its token.
    pub(super) async fn restarted(self) -> Self {
        assert!(self.tasks.join(Duration::from_secs(10)).await, "the emulator stops");
        let (token, oddities) = (self.token, (*self.emulator.oddities().get()).clone());
        Self { token, ..Self::open(self.dir, self.public_index, oddities).await }
    }

    async fn open(dir: TempDir, public_index: Option<IndexAddress>, oddities: Oddities) -> Self {
        let tasks = Tasks::new();
        let settings = EmulatorSettings {
            public_index: public_index.clone(),
            remember_public_for: Duration::ZERO,
            oddities,
            ..EmulatorSettings::new(dir.path().to_owned())
        };
        let emulator = Emulator::open(settings, tasks.clone()).await.expect("the emulator opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = emulator.serve_data(listener).expect("the port has an address");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let origin = format!("http://{address}");
        Self { emulator, dir, tasks, origin, token: String::new(), public_index, client }
    }

    async fn with_token(self) -> Self {
        let token = self.token(AllowedActions::All).await;
        Self { token, ..self }
    }

    /// The text of a new token that lives twelve hours.
    pub(super) async fn token(&self, allowed: AllowedActions) -> String {
        let issued = self.emulator.issue_token(allowed, Duration::from_hours(12)).await;
        issued.expect("the store is writable").token.expose_secret().to_owned()
    }

    /// A GET with the token.
    pub(super) async fn get(&self, path: &str) -> TestResponse {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    /// A GET with the token and an `Accept`.
    pub(super) async fn get_as(&self, path: &str, accept: &str) -> TestResponse {
        self.send(Method::GET, path, &[("accept", accept)], Vec::new()).await
    }

    /// A GET with the token whose body may break.
    pub(super) async fn try_get(&self, path: &str) -> Result<TestResponse, String> {
        let headers = [("authorization", format!("Bearer {}", self.token))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.request(Method::GET, &format!("{}{path}", self.origin), &headers, Vec::new()).await
    }

    /// Any request with the token.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> TestResponse {
        let token = format!("Bearer {}", self.token);
        let headers = [&[("authorization", token.as_str())], headers].concat();
        let response = self.request(method, &format!("{}{path}", self.origin), &headers, body).await;
        response.expect("a complete response")
    }

    /// A request with Basic credentials, `user:password`.
    pub(super) async fn with_credentials(&self, method: Method, path: &str, pair: &str) -> TestResponse {
        let basic = format!("Basic {}", BASE64.encode(pair));
        let url = format!("{}{path}", self.origin);
        let response = self.request(method, &url, &[("authorization", &basic)], Vec::new()).await;
        response.expect("a complete response")
    }

    /// A request without credentials.
    pub(super) async fn anonymous(&self, method: Method, path: &str) -> TestResponse {
        let response = self.request(method, &format!("{}{path}", self.origin), &[], Vec::new()).await;
        response.expect("a complete response")
    }

    /// A GET of any address without the token.
    pub(super) async fn absolute(&self, url: &str, headers: &[(&str, &str)]) -> TestResponse {
        self.request(Method::GET, url, headers, Vec::new()).await.expect("a complete response")
    }

    pub(super) async fn post_json(&self, path: &str, body: &Value) -> TestResponse {
        let url = format!("{}{path}", self.origin);
        let response = self.request(Method::POST, &url, &[], body.to_string().into_bytes()).await;
        response.expect("a complete response")
    }

    /// Turns switches through the admin endpoint.
    pub(super) async fn set(&self, over: &Value) {
        let response = self.set_raw(over).await;
        assert_eq!(response.status, StatusCode::OK, "{response:?}");
    }

    pub(super) async fn set_raw(&self, over: &Value) -> TestResponse {
        self.post_json("/_emulator/oddities", over).await
    }

    async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<TestResponse, String> {
        let request = headers
            .iter()
            .fold(Request::builder().method(method).uri(url), |request, header| request.header(header.0, header.1));
        let request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(TestResponse { status: parts.status, headers: parts.headers, body })
    }
}

/// Content type and bytes of an upload form, with the file last.
pub(super) fn upload_form(fields: &[(&str, &str)], file: &str, content: &[u8]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in [(":action", "file_upload")].iter().chain(fields) {
        let part = format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let part = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"content\"; filename=\"{file}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    body.extend_from_slice(part.as_bytes());
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--edge--\r\n");
    ("multipart/form-data; boundary=edge".to_owned(), body)
}

/// A public index of files that can be changed; its pages are JSON and its files are on the same host.
pub(super) struct FakeIndex {
    pub index: IndexAddress,
    state: Arc<Mutex<FakeIndexState>>,
    tasks: Tasks,
}

#[derive(Default)]
struct FakeIndexState {
    projects: BTreeMap<String, Vec<Value>>,
    files: BTreeMap<String, Vec<u8>>,
    stopped: bool,
}

type FakeState = State<Arc<Mutex<FakeIndexState>>>;

impl FakeIndex {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(FakeIndexState::default()));
        let router = Router::new()
            .route("/simple/{project}/", axum::routing::get(page))
            .route("/files/{file}", axum::routing::get(file))
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound port has an address");
        let tasks = Tasks::new();
        tasks.spawn_loop("public-fake", async move {
            axum::serve(listener, router).await.expect("the fake serves until it is dropped");
        });
        let index = IndexAddress::parse(&format!("http://{address}/simple/")).expect("an address");
        Self { index, state, tasks }
    }

    fn with<T>(&self, change: impl FnOnce(&mut FakeIndexState) -> T) -> T {
        change(&mut self.state.lock())
    }

    /// Adds a file to a project.
    pub(super) fn file(&self, project: &str, file: &str, bytes: &[u8]) {
        let entry = json!({
            "filename": file,
            "url": format!("../../files/{file}"),
            "hashes": {"sha256": Sha256::of(bytes).to_string()},
            "upload-time": "2024-01-02T03:04:05.000006Z",
            "size": bytes.len(),
            "yanked": false,
        });
        self.with(|state| {
            state.projects.entry(project.to_owned()).or_default().push(entry);
            state.files.insert(file.to_owned(), bytes.to_owned());
        });
    }

    /// Serves other bytes for a file without saying so on the page.
    pub(super) fn swap(&self, file: &str, bytes: &[u8]) {
        self.with(|state| state.files.insert(file.to_owned(), bytes.to_owned()));
    }

    pub(super) fn yank(&self, project: &str, file: &str, reason: &str) {
        self.with(|state| {
            for entry in state.projects.entry(project.to_owned()).or_default() {
                if entry["filename"] == file {
                    entry["yanked"] = json!(reason);
                }
            }
        });
    }

    /// From now on every request fails.
    pub(super) fn stop(&self) {
        self.with(|state| state.stopped = true);
    }
}

impl Drop for FakeIndex {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn page(State(state): FakeState, Path(project): Path<String>) -> Response {
    let state = state.lock();
    match state.projects.get(&project) {
        _ if state.stopped => StatusCode::BAD_GATEWAY.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
        Some(files) => {
            let page = json!({"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": files});
            ([("content-type", wheelport_index::media::JSON_V1)], page.to_string()).into_response()
        }
    }
}

async fn file(State(state): FakeState, Path(file): Path<String>) -> Response {
    let state = state.lock();
    match state.files.get(&file) {
        _ if state.stopped => StatusCode::BAD_GATEWAY.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
        Some(bytes) => bytes.clone().into_response(),
    }
}
