//! The external connection: a small client for one public simple index, whose address is a setting.
//!
//! It reads pages on demand, keeps each for a while, and opens files for import. When the index is down a
//! remembered page stays usable; the data plane decides what to do without one.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

use wheelport_index::parse::{self, PageFormat};
use wheelport_index::{Page, ProjectName};

/// The largest page read, before and after decoding.
const PAGE_LIMIT: usize = 128 << 20;
/// Redirects followed for one request.
const REDIRECTS: usize = 5;
/// How long the headers of a response, and a complete page, may take.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The most pages kept; a page beyond that clears the table.
const REMEMBERED: usize = 1024;
const PAGE_TYPES: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// The address of a simple index, which may hold credentials: its `Debug` and `Display` show none.
#[derive(Clone, PartialEq, Eq)]
pub struct IndexAddress(Url);

impl IndexAddress {
    /// Reads an `http` or `https` address.
    pub fn parse(text: &str) -> Result<Self, PublicError> {
        match Url::parse(text.trim()) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Self(url)),
            _ => Err(PublicError::Setting("its address must begin with http:// or https://".to_owned())),
        }
    }
}

impl std::str::FromStr for IndexAddress {
    type Err = PublicError;

    fn from_str(text: &str) -> Result<Self, PublicError> {
        Self::parse(text)
    }
}

impl std::fmt::Display for IndexAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(url) = self;
        write!(f, "{}{}", url.origin().ascii_serialization(), url.path())
    }
}

impl std::fmt::Debug for IndexAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A public index. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PublicIndex {
    inner: Arc<PublicIndexInner>,
}

struct PublicIndexInner {
    base: Url,
    credentials: Option<HeaderValue>,
    remember_for: Duration,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    pages: Mutex<HashMap<ProjectName, RememberedPage>>,
    requests: AtomicU64,
}

#[derive(Clone)]
struct RememberedPage {
    at: Instant,
    page: Option<Arc<Page>>,
}

/// Why the public index is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PublicError {
    /// The setting is not an `http` or `https` address, or the machine has no certificate roots.
    #[error("the public index cannot be used: {0}")]
    Setting(String),
    /// There is no response, or a broken one.
    #[error("the public index is unreachable: {0}")]
    Unreachable(String),
    /// The status is neither success nor a missing project.
    #[error("the public index responds with {0}")]
    Status(StatusCode),
    /// The page cannot be parsed.
    #[error("the page of the public index is unreadable: {0}")]
    Malformed(String),
}

impl PublicIndex {
    /// A client for the index whose project pages are at `base` + `NAME/`.
    pub(crate) fn new(address: IndexAddress, remember_for: Duration) -> Result<Self, PublicError> {
        let IndexAddress(mut base) = address;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let credentials = basic(&base);
        // User and password must not reach records, logs or the request line.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|error| PublicError::Setting(error.to_string()))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let inner = PublicIndexInner {
            base,
            credentials,
            remember_for,
            client,
            pages: Mutex::default(),
            requests: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A project's page, `None` where the index does not know it. A remembered page is used while it is young, and
    /// after that when the index fails.
    pub(crate) async fn page(&self, name: &ProjectName) -> Result<Option<Arc<Page>>, PublicError> {
        let remembered = self.inner.pages.lock().get(name).cloned();
        if let Some(known) = &remembered
            && known.at.elapsed() < self.inner.remember_for
        {
            return Ok(known.page.clone());
        }
        match self.fetch(name).await {
            Ok(page) => {
                let mut pages = self.inner.pages.lock();
                if pages.len() >= REMEMBERED {
                    pages.clear();
                }
                pages.insert(name.clone(), RememberedPage { at: Instant::now(), page: page.clone() });
                Ok(page)
            }
            Err(error) => match remembered.and_then(|known| known.page) {
                Some(page) => {
                    tracing::warn!(project = %name, %error, "using the remembered page of the public index");
                    Ok(Some(page))
                }
                None => Err(error),
            },
        }
    }

    /// Opens a file for reading from its start.
    pub(crate) async fn open(&self, source: &Url) -> Result<Response<Incoming>, PublicError> {
        let (response, _) = self.get(source.clone(), "*/*", "identity").await?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(PublicError::Status(response.status())) }
    }

    /// Requests sent since the last call of this function.
    pub(crate) fn take_requests(&self) -> u64 {
        self.inner.requests.swap(0, Ordering::Relaxed)
    }

    async fn fetch(&self, name: &ProjectName) -> Result<Option<Arc<Page>>, PublicError> {
        let malformed = |error: &dyn std::fmt::Display| PublicError::Malformed(error.to_string());
        let url = self.inner.base.join(&format!("{name}/")).map_err(|error| malformed(&error))?;
        let (response, mut url) = self.get(url, PAGE_TYPES, "gzip").await?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            other => return Err(PublicError::Status(other)),
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let form = if header(CONTENT_TYPE).contains("json") { PageFormat::Json } else { PageFormat::Html };
        let gzipped = header(CONTENT_ENCODING).eq_ignore_ascii_case("gzip");
        let reading = Limited::new(response.into_body(), PAGE_LIMIT).collect();
        let body = timeout(TIMEOUT, reading)
            .await
            .map_err(|_| PublicError::Unreachable("the page takes too long".to_owned()))?
            .map_err(|error| PublicError::Unreachable(error.to_string()))?
            .to_bytes();
        let name = name.clone();
        let parsing = wheelport_runtime::blocking(move || {
            let body = if gzipped { gunzip(&body)? } else { body.to_vec() };
            let page = parse::page(form, &body, &url, &name);
            page.map(|parsed| located(parsed.page, &url)).map_err(|error| PublicError::Malformed(error.to_string()))
        });
        let page = parsing.await.map_err(|error| PublicError::Malformed(error.to_string()))??;
        Ok(Some(Arc::new(page)))
    }

    /// One GET with redirects; the credentials of the address are sent to its own origin only.
    async fn get(
        &self,
        mut url: Url,
        accept: &'static str,
        encoding: &'static str,
    ) -> Result<(Response<Incoming>, Url), PublicError> {
        let unreachable = |error: &dyn std::fmt::Display| PublicError::Unreachable(error.to_string());
        for _ in 0..=REDIRECTS {
            let mut request = Request::get(url.as_str())
                .header(ACCEPT, accept)
                .header(ACCEPT_ENCODING, encoding)
                .header(USER_AGENT, concat!("wheelport-emulator/", env!("CARGO_PKG_VERSION")));
            if url.origin() == self.inner.base.origin()
                && let Some(credentials) = &self.inner.credentials
            {
                request = request.header(AUTHORIZATION, credentials.clone());
            }
            let request = request.body(Empty::new()).map_err(|error| unreachable(&error))?;
            self.inner.requests.fetch_add(1, Ordering::Relaxed);
            let response = timeout(TIMEOUT, self.inner.client.request(request))
                .await
                .map_err(|_| PublicError::Unreachable("no response in time".to_owned()))?
                .map_err(|error| unreachable(&error))?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match (response.status().is_redirection(), location) {
                (true, Some(location)) => url = url.join(location).map_err(|error| unreachable(&error))?,
                _ => return Ok((response, url)),
            }
        }
        Err(PublicError::Unreachable("too many redirects".to_owned()))
    }
}

/// The page with an explicit address for every file.
fn located(mut page: Page, url: &Url) -> Page {
    for file in &mut page.files {
        if file.url.is_none() {
            let mut address = url.clone();
            if let Ok(mut segments) = address.path_segments_mut() {
                segments.pop_if_empty().push(file.version.as_str()).push(file.name.as_str());
            }
            file.url = Some(Box::new(address));
        }
    }
    page
}

fn gunzip(body: &[u8]) -> Result<Vec<u8>, PublicError> {
    let mut plain = Vec::new();
    let limit = PAGE_LIMIT as u64;
    let read = flate2::read::MultiGzDecoder::new(body).take(limit + 1).read_to_end(&mut plain);
    match read {
        Ok(_) if plain.len() as u64 <= limit => Ok(plain),
        Ok(_) => Err(PublicError::Malformed("the page is too large".to_owned())),
        Err(error) => Err(PublicError::Malformed(error.to_string())),
    }
}

/// The `Authorization` for an address with user and password.
fn basic(base: &Url) -> Option<HeaderValue> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let password = base.password().map(decode).unwrap_or_default();
    if base.username().is_empty() && password.is_empty() {
        return None;
    }
    let pair = format!("{}:{password}", decode(base.username()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}
