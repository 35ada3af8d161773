//! Why the proxy does not start, in words for who starts it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::upstream::ClientError;
use crate::web::TlsError;

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cache directory cannot be used.
    #[error(
        "the cache directory {dir} cannot be used: {source}; choose another one with --cache-dir or make it \
         writable for this user"
    )]
    Cache {
        /// The directory.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}; another process may be using it; choose another with --listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The memory does not suffice for what is configured.
    #[error("{0}")]
    Memory(String),
    /// The rules cannot be used.
    #[error("{0}")]
    Rules(String),
    /// No region is known for a route.
    #[error("route `{route}`: no AWS region is known; give --region, AWS_REGION, or a region in the profile")]
    Region {
        /// The route.
        route: Arc<str>,
    },
    /// A route's endpoint cannot be used.
    #[error("route `{route}`: {reason}")]
    Endpoint {
        /// The route.
        route: Arc<str>,
        /// Why.
        reason: String,
    },
    /// What replicas share cannot be used as it is configured.
    #[error("[fleet]: {0}")]
    Fleet(String),
    /// The webhook cannot be used as it is configured.
    #[error("[notify]: {0}")]
    Notify(String),
    /// The outbound edge cannot be built.
    #[error(transparent)]
    Client(#[from] ClientError),
}
