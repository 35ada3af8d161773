//! What both planes of one emulator share: the store, the clock, the switches, the counters, the addresses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Serialize;

use super::oddities::Switchboard;
use super::store::{DomainKey, RepositoryKey, Store};
use wheelport_runtime::Clock;

/// The common ground of the planes; held in an `Arc`.
pub struct Shared {
    /// Everything that is kept.
    pub store: Store,
    /// The calendar, which tests may shift.
    pub clock: Clock,
    /// The oddities as they stand now.
    pub oddities: Switchboard,
    /// What was asked for.
    pub stats: Stats,
    /// The region both planes pretend to be in.
    pub region: String,
    /// The domain that paths without a domain mean.
    pub default_domain: DomainKey,
    /// Where the data plane listens; known once it does.
    pub data_address: OnceLock<SocketAddr>,
}

impl Shared {
    /// The repository's endpoint for `pypi` as a client of this emulator reaches it, with its final slash: the short
    /// form for the default domain, the form of private endpoints (`/pypi/d/DOMAIN-OWNER/REPO/`) for every other.
    pub fn repository_endpoint(&self, key: &RepositoryKey) -> String {
        let origin = self.data_origin();
        if key.domain == self.default_domain {
            format!("{origin}/pypi/{}/", key.name)
        } else {
            format!("{origin}/pypi/d/{}/{}/", key.domain, key.name)
        }
    }

    /// `http://HOST:PORT` of the data plane; a listener on every address is reached over loopback.
    pub fn data_origin(&self) -> String {
        let Some(mut address) = self.data_address.get().copied() else {
            return "http://127.0.0.1".to_owned();
        };
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        format!("http://{address}")
    }
}

/// Requests by kind, and bytes of assets sent. The kinds are fixed words of the planes, such as `page` or
/// `GetAuthorizationToken`.
#[derive(Default)]
pub struct Stats {
    counted: Mutex<Counted>,
}

/// The counters of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Requests by kind.
    pub requests: BTreeMap<&'static str, u64>,
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes of asset bodies sent.
    pub asset_bytes: u64,
    /// Requests to the public index.
    pub public_requests: u64,
}

impl Stats {
    /// Counts one request.
    pub fn request(&self, kind: &'static str) {
        *self.lock().requests.entry(kind).or_default() += 1;
    }

    /// Counts one answer.
    pub fn status(&self, status: u16) {
        *self.lock().statuses.entry(status).or_default() += 1;
    }

    /// Counts bytes of an asset body.
    pub fn asset_bytes(&self, bytes: u64) {
        self.lock().asset_bytes += bytes;
    }

    /// Counts requests to the public index.
    pub fn public_requests(&self, requests: u64) {
        self.lock().public_requests += requests;
    }

    /// The counters now.
    pub fn snapshot(&self) -> Counted {
        self.lock().clone()
    }

    /// Starts counting anew.
    pub fn reset(&self) {
        *self.lock() = Counted::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
