//! What both planes of one emulator share: the store, the clock, the switches, the counters, the addresses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;

use parking_lot::Mutex;
use serde::Serialize;

use crate::store::{DomainKey, RepositoryKey, Store};
use crate::switchboard::Switchboard;
use wheelport_runtime::Clock;

/// The state behind the planes; held in an `Arc`.
pub(crate) struct EmulatorState {
    pub(crate) store: Store,
    /// The calendar, which tests may shift.
    pub(crate) clock: Clock,
    pub(crate) oddities: Switchboard,
    pub(crate) stats: RequestStats,
    /// The region both planes pretend to be in.
    pub(crate) region: String,
    /// The domain of paths that name none.
    pub(crate) default_domain: DomainKey,
    /// Where the data plane listens; set when it starts to.
    pub(crate) data_address: OnceLock<SocketAddr>,
}

impl EmulatorState {
    /// The repository's endpoint for `pypi` as a client of this emulator reaches it, with its final slash: the short
    /// form for the default domain, the form of private endpoints (`/pypi/d/DOMAIN-OWNER/REPO/`) for every other.
    pub(crate) fn repository_endpoint(&self, key: &RepositoryKey) -> String {
        let origin = self.data_origin();
        if key.domain == self.default_domain {
            format!("{origin}/pypi/{}/", key.name)
        } else {
            format!("{origin}/pypi/d/{}/{}/", key.domain, key.name)
        }
    }

    /// `http://HOST:PORT` of the data plane; loopback stands for a listener on every address.
    pub(crate) fn data_origin(&self) -> String {
        let Some(mut address) = self.data_address.get().copied() else {
            return "http://127.0.0.1".to_owned();
        };
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        format!("http://{address}")
    }
}

/// Counts requests by kind, and bytes of assets sent. The kinds are fixed words of the planes, such as `page` or
/// `GetAuthorizationToken`.
#[derive(Default)]
pub(crate) struct RequestStats {
    counters: Mutex<StatsSnapshot>,
}

/// The counters of an emulator at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// Requests by kind, such as `page`, `asset`, `upload` or the name of an operation.
    pub requests: BTreeMap<&'static str, u64>,
    /// Responses by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes of asset bodies sent.
    pub asset_bytes: u64,
    /// Requests to the public index.
    pub public_requests: u64,
}

impl RequestStats {
    pub(crate) fn request(&self, kind: &'static str) {
        *self.counters.lock().requests.entry(kind).or_default() += 1;
    }

    pub(crate) fn status(&self, status: u16) {
        *self.counters.lock().statuses.entry(status).or_default() += 1;
    }

    pub(crate) fn asset_bytes(&self, bytes: u64) {
        self.counters.lock().asset_bytes += bytes;
    }

    pub(crate) fn public_requests(&self, requests: u64) {
        self.counters.lock().public_requests += requests;
    }

    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        self.counters.lock().clone()
    }

    /// Sets every counter to zero.
    pub(crate) fn reset(&self) {
        *self.counters.lock() = StatsSnapshot::default();
    }
}

/// A random request id in the form of a UUID.
pub(crate) fn request_id() -> String {
    let bits = fastrand::u128(..);
    let text = format!("{bits:032x}");
    format!("{}-{}-4{}-a{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..])
}
