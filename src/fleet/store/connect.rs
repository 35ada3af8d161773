//! The connections to the store: a pool of its own, TLS with the system's authorities, no proxy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::body::BoxError;
use wheelport_runtime::RECEIVE_BUFFER;

pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;
pub(super) type StorePool = Pool<HttpsConnector<HttpConnector>, RequestBody>;

/// How long a connection may be idle; S3 closes them after a while itself.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept.
const MAX_IDLE: usize = 64;

/// A pool without connections.
pub(super) fn pool(connect_limit: Duration) -> Result<StorePool, rustls::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_limit));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    // Named here because a process with two providers cannot choose by itself.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .http1_max_buf_size(RECEIVE_BUFFER)
        .build(connector))
}
