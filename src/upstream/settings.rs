//! The settings of requests to upstreams. Every bound of this module has its name here.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::address::RedirectHost;
use wheelport_runtime::{HumanDuration, Size};

/// Limits and addresses of the one client of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// For name resolution, connecting and the TLS handshake together.
    pub connect_timeout: HumanDuration,
    /// From the request to the end of the response headers, per attempt.
    pub header_timeout: HumanDuration,
    /// For a whole page, or for the headers of a file: waiting for a token and for permits, every attempt and the
    /// pauses between them included. Below the 15 seconds after which pip gives up.
    pub response_timeout: HumanDuration,
    /// The longest silence in the middle of a body.
    pub stall_timeout: HumanDuration,
    /// How long upstream may take to respond to an upload after its last byte.
    pub publish_timeout: HumanDuration,
    /// The fewest bytes per second that a body must come with, measured over [`ClientSettings::slow_window`].
    pub slow_rate: Size,
    /// The time spent waiting for bytes over which the rate is measured.
    pub slow_window: HumanDuration,
    /// How long an unused connection is kept; shorter than upstream keeps it, so that it does not close on us.
    pub idle_timeout: HumanDuration,
    /// Requests in flight to one endpoint, bodies included. Files take at most three quarters of them, so that pages
    /// always get through.
    pub max_in_flight: usize,
    /// Requests queued for a permit or a rate permit of one endpoint. When the queue is full, the client with the most
    /// of them loses its newest.
    pub max_queue: usize,
    /// Requests per second, retries and redirects included, to all endpoints that share a quota: those of one region,
    /// whose quota is that of the calling AWS account. CodeArtifact allows an account 800 reads per second; every
    /// process has a rate of its own, and two of them with the default stay below that together.
    pub request_rate: NonZeroU32,
    /// Requests that may go out at once after a quiet time, on top of the rate.
    pub request_burst: NonZeroU32,
    /// What CodeArtifact allows the account: requests per second in a region. Only shown, beside what was used of it.
    pub account_quota: NonZeroU32,
    /// The largest page, as transferred and as decompressed; 64 MiB where nothing is said.
    pub max_page_size: Option<Size>,
    /// Redirects that one request follows.
    pub max_redirects: u8,
    /// Hosts beside the endpoint's own from which files may be fetched, without the token.
    pub redirect_hosts: Vec<RedirectHost>,
    /// Part of the requests that may be retried after a failed connection or a 5xx.
    pub retry_ratio: f64,
    /// Retries per second that are allowed in any case.
    pub retry_floor: f64,
    /// Failures in a row to connect or to respond after which no request goes to an endpoint for a few seconds.
    pub failures_to_open: u32,
    /// How long a file that the index lists may be missing before the 404 is believed: CodeArtifact lists public files
    /// a second or two before it has imported them.
    pub import_patience: HumanDuration,
    /// An HTTP proxy through which upstreams are reached. Proxy variables of the environment are not read.
    #[serde(skip_serializing)]
    pub proxy: Option<ProxyUrl>,
    /// Hosts, domains and networks reached without the proxy, separated by commas.
    pub no_proxy: String,
    /// Certificate authorities trusted in addition to the system's, as a PEM file. Verification cannot be turned off.
    pub ca_file: Option<PathBuf>,
}

/// The largest page where nothing is said.
pub const DEFAULT_MAX_PAGE_SIZE: Size = Size::mib(64);

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: HumanDuration::secs(3),
            header_timeout: HumanDuration::secs(10),
            response_timeout: HumanDuration::secs(10),
            stall_timeout: HumanDuration::secs(30),
            publish_timeout: HumanDuration::secs(120),
            slow_rate: Size(1024),
            slow_window: HumanDuration::secs(60),
            idle_timeout: HumanDuration::secs(20),
            max_in_flight: 64,
            max_queue: 5000,
            request_rate: const { NonZeroU32::new(350).expect("not zero") },
            request_burst: const { NonZeroU32::new(50).expect("not zero") },
            account_quota: const { NonZeroU32::new(800).expect("not zero") },
            max_page_size: None,
            max_redirects: 3,
            redirect_hosts: vec![RedirectHost::fixed("*.amazonaws.com"), RedirectHost::fixed("*.on.aws")],
            retry_ratio: 0.1,
            retry_floor: 2.0,
            failures_to_open: 5,
            import_patience: HumanDuration::secs(5),
            proxy: None,
            no_proxy: String::new(),
            ca_file: None,
        }
    }
}

/// The address of an HTTP proxy, such as `http://proxy.example.org:3128`. It may hold a password, so it prints without.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Url")]
pub struct ProxyUrl(Url);

/// A URL that is no HTTP proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a proxy is written as `http://host:port`")]
pub struct InvalidProxy;

impl ProxyUrl {
    /// The URL, credentials included.
    pub(super) fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<Url> for ProxyUrl {
    type Error = InvalidProxy;

    fn try_from(url: Url) -> Result<Self, InvalidProxy> {
        if url.scheme() == "http" && url.has_host() { Ok(Self(url)) } else { Err(InvalidProxy) }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.0.host_str().unwrap_or_default(), self.0.port().unwrap_or(80))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_prints_without_its_password() {
        let settings: ClientSettings =
            toml::from_str("proxy = \"http://user:s3cr3t@proxy.example.org:3128/\"").expect("valid settings");
        let shown = format!("{settings:?}");
        assert!(shown.contains("http://proxy.example.org:3128"), "{shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
        assert!(!toml::to_string(&settings).expect("settings can be written").contains("s3cr3t"));
        assert!(toml::from_str::<ClientSettings>("proxy = \"socks5://proxy.example.org\"").is_err());
    }

    #[test]
    fn an_empty_table_is_the_default_and_unknown_keys_are_named() {
        let settings: ClientSettings = toml::from_str("").expect("every field has a default");
        assert_eq!(settings.max_in_flight, 64);
        let settings: ClientSettings =
            toml::from_str("stall_timeout = \"5s\"\nredirect_hosts = [\"files.example.org\"]").expect("valid settings");
        assert_eq!(settings.stall_timeout, HumanDuration::secs(5));
        for (table, complaint) in [("verify_tls = false", "verify_tls"), ("request_rate = 0", "request_rate")] {
            let error = toml::from_str::<ClientSettings>(table).expect_err(table);
            assert!(error.to_string().contains(complaint), "{error}");
        }
    }
}
