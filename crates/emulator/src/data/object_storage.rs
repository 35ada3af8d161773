//! The other host of the redirect oddity: object storage that accepts a signed URL and refuses a second credential.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::{blob, response};
use crate::shared::EmulatorState;
use wheelport_index::{FileName, Sha256};
use wheelport_runtime::Tasks;

/// Object storage for the redirect oddity. Cheap to clone.
#[derive(Clone)]
pub(super) struct ObjectStorage {
    inner: Arc<ObjectStorageInner>,
}

struct ObjectStorageInner {
    shared: Arc<EmulatorState>,
    tasks: Tasks,
    host: Mutex<Option<ObjectHost>>,
}

/// The second listener, once it is open.
struct ObjectHost {
    requested: SocketAddr,
    address: SocketAddr,
    secret: u128,
}

#[derive(Deserialize)]
struct SignedQuery {
    #[serde(rename = "X-Amz-Signature")]
    signature: Option<String>,
}

impl ObjectStorage {
    pub(super) fn new(shared: Arc<EmulatorState>, tasks: Tasks) -> Self {
        Self { inner: Arc::new(ObjectStorageInner { shared, tasks, host: Mutex::default() }) }
    }

    /// A signed URL for some bytes; opens the second listener at the first call for that address.
    pub(super) fn url(&self, requested: SocketAddr, digest: &Sha256, file: &FileName) -> io::Result<String> {
        let mut open = self.inner.host.lock();
        let host = match open.take().filter(|host| host.requested == requested) {
            Some(host) => host,
            None => self.listen(requested)?,
        };
        let signature = sign(host.secret, digest);
        let name = percent_encoding::utf8_percent_encode(file.as_str(), percent_encoding::NON_ALPHANUMERIC);
        let url = format!(
            "http://{}/{digest}/{name}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=300&X-Amz-Signature={signature}",
            host.address
        );
        *open = Some(host);
        Ok(url)
    }

    fn listen(&self, requested: SocketAddr) -> io::Result<ObjectHost> {
        let listener = std::net::TcpListener::bind(requested)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let host = ObjectHost { requested, address: listener.local_addr()?, secret: fastrand::u128(..) };
        let router = Router::new()
            .route("/{digest}/{file}", axum::routing::any(respond))
            .with_state((Arc::clone(&self.inner.shared), host.secret));
        let tasks = self.inner.tasks.clone();
        self.inner.tasks.spawn("emulator-objects", async move {
            let stopping = tasks.clone();
            let served = axum::serve(listener, router).with_graceful_shutdown(async move { stopping.stopping().await });
            if let Err(error) = served.await {
                tracing::error!(%error, "the object storage listener failed");
            }
        });
        Ok(host)
    }
}

/// Not a real signature: it only has to be unguessable and bound to the bytes.
fn sign(secret: u128, digest: &Sha256) -> String {
    Sha256::of(format!("{secret:032x}{digest}").as_bytes()).to_string()
}

/// Takes the same time however much of a signature is right.
fn is_signed(signature: &str, secret: u128, digest: &Sha256) -> bool {
    sign(secret, digest).as_bytes().ct_eq(signature.as_bytes()).into()
}

async fn respond(
    State((shared, secret)): State<(Arc<EmulatorState>, u128)>,
    Path((digest, _file)): Path<(String, String)>,
    Query(signed): Query<SignedQuery>,
    request: Request,
) -> Response {
    shared.stats.request("object");
    if request.headers().contains_key(AUTHORIZATION) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
             parameter or the Authorization header should be specified",
        );
    }
    let Ok(digest) = digest.parse::<Sha256>() else {
        return refuse(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    if !is_signed(signed.signature.as_deref().unwrap_or_default(), secret, &digest) {
        return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The request signature does not match.");
    }
    // A real signed URL is valid for one method only.
    if request.method() != Method::GET {
        return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The request signature does not match.");
    }
    match blob::respond(&shared, &digest, request.method(), request.headers()).await {
        Ok(response) => response,
        Err(error) => response::store_error(&error),
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    response::with_type(status, "application/xml", body)
}
