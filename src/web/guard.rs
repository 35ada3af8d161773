//! Who may ask: host names, requests from other sites' pages, and the address behind trusted proxies.
//!
//! Pure decisions over headers. The host check is what stops DNS rebinding, where a page of an attacker's own domain
//! resolves to this server: such a page can only ever send a public host name, so without any configuration all names
//! that no public name can be are welcome, and public ones have to be listed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};
use serde::Deserialize;
use url::Url;

use super::headers::values;
use super::refusal::Refusal;
use super::tls::ServerCertificates;
use wheelport_index::excerpt;
use wheelport_runtime::sabotaged;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Suffixes below which no public name can be registered.
const PRIVATE_SUFFIXES: [&str; 7] =
    [".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".svc.cluster.local"];

/// The host a request means, as it was written: name or address, with the port if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    authority: String,
    name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// Lower case, without a final dot.
    Domain(String),
    Address(IpAddr),
}

impl Host {
    /// Host and port for a link back to us, in lower case.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    fn parse(raw: &str) -> Option<Self> {
        let authority = raw.to_ascii_lowercase();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority.as_str(), None),
        };
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return None;
        }
        let name = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => Name::Address(IpAddr::V6(inner.parse().ok()?)),
            None => Name::parse(host)?,
        };
        Some(Self { authority, name })
    }
}

impl Name {
    fn parse(host: &str) -> Option<Self> {
        if let Ok(address) = host.parse::<IpAddr>() {
            // Without brackets an IPv6 address cannot be told from a name with a port.
            return address.is_ipv4().then_some(Self::Address(address));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        (host.len() <= 253 && host.split('.').all(label)).then(|| Self::Domain(host.to_ascii_lowercase()))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Address(address) => address.to_canonical().is_loopback(),
        }
    }

    /// Whether no public name can look like this.
    fn is_private(&self) -> bool {
        match self {
            Self::Domain(name) => !name.contains('.') || PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)),
            Self::Address(_) => true,
        }
    }
}

/// One entry of `allowed_hosts`: a name or address, `*.suffix` for every name below one, `*` for all, or `private` for
/// what is allowed where nothing is configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern(Pattern);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Any,
    /// Every name and address that no public name can be.
    Private,
    Exact(Name),
    /// With its leading dot.
    Below(String),
}

/// An entry of `allowed_hosts` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a host name, an address, '*.suffix', 'private' or '*'; it has neither scheme nor port")]
pub struct InvalidHostPattern(String);

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(raw: &str) -> Result<Self, InvalidHostPattern> {
        let invalid = || InvalidHostPattern(excerpt(raw));
        if raw == "*" {
            return Ok(Self(Pattern::Any));
        }
        if raw == "private" {
            return Ok(Self(Pattern::Private));
        }
        if let Some(suffix) = raw.strip_prefix("*.") {
            return match Name::parse(suffix) {
                Some(Name::Domain(suffix)) => Ok(Self(Pattern::Below(format!(".{suffix}")))),
                _ => Err(invalid()),
            };
        }
        let bare = raw.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(raw);
        let name = bare.parse().map(Name::Address).ok().or_else(|| Name::parse(raw)).ok_or_else(invalid)?;
        Ok(Self(Pattern::Exact(name)))
    }
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidHostPattern;

    fn try_from(raw: String) -> Result<Self, InvalidHostPattern> {
        raw.parse()
    }
}

impl HostPattern {
    fn covers(&self, name: &Name) -> bool {
        match (&self.0, name) {
            (Pattern::Any, _) => true,
            (Pattern::Private, name) => name.is_private(),
            (Pattern::Exact(known), name) => known == name,
            (Pattern::Below(suffix), Name::Domain(name)) => name.ends_with(suffix.as_str()),
            (Pattern::Below(_), Name::Address(_)) => false,
        }
    }
}

/// Who may publish into a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UploadPolicy {
    /// No one.
    #[default]
    Off,
    /// Anyone who can reach the port.
    Anonymous,
    /// Clients that present a token.
    Token,
    /// Everybody who is known and has the right: with an ID token, a minted one or a static one.
    Identity,
}

/// Who may read a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ReadPolicy {
    /// Everybody who reaches the server.
    #[default]
    Open,
    /// Everybody who is known and has the right.
    Identity,
}

/// Which host names this server answers to.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    allowed: Vec<HostPattern>,
    own: Vec<Name>,
    public_origin: Option<String>,
    /// Their names are ours.
    certificates: Option<ServerCertificates>,
}

impl HostPolicy {
    /// `allowed` as configured, the public URL if there is one, and the addresses really bound.
    pub fn new(allowed: Vec<HostPattern>, public_url: Option<&Url>, listeners: &[SocketAddr]) -> Self {
        let bound = listeners.iter().map(SocketAddr::ip).filter(|address| !address.is_unspecified());
        let public = public_url.and_then(Url::host).map(|host| match host {
            url::Host::Domain(name) => Name::Domain(name.trim_end_matches('.').to_ascii_lowercase()),
            url::Host::Ipv4(address) => Name::Address(address.into()),
            url::Host::Ipv6(address) => Name::Address(address.into()),
        });
        let public_origin = public_url.map(|url| url.origin().ascii_serialization());
        let own = bound.map(Name::Address).chain(public).collect();
        Self { allowed, own, public_origin, certificates: None }
    }

    /// The same policy for a listener with these certificates.
    #[must_use]
    pub fn with_certificates(self, certificates: Option<ServerCertificates>) -> Self {
        Self { certificates, ..self }
    }

    /// Changes when the policy may say something else of a name.
    pub(super) fn revision(&self) -> u64 {
        self.certificates.as_ref().filter(|_| !sabotaged("certified-names")).map_or(0, ServerCertificates::revision)
    }

    /// Whether the name stands in one of the certificates.
    fn is_certified(&self, name: &Name) -> bool {
        match (&self.certificates, name) {
            (Some(certificates), Name::Domain(name)) => certificates.names(name),
            _ => false,
        }
    }

    fn answers_to(&self, name: &Name) -> bool {
        name.is_loopback()
            || self.own.contains(name)
            || self.is_certified(name)
            || if self.allowed.is_empty() {
                name.is_private()
            } else {
                self.allowed.iter().any(|pattern| pattern.covers(name))
            }
    }

    /// As [`HostPolicy::check`], for the listener for operations, which also answers to every name that no public name
    /// can be, and to every address.
    pub(super) fn check_operator(&self, headers: &HeaderMap, target: Option<&str>) -> Result<Host, Refusal> {
        host_of(headers, target, |name| name.is_private() || self.answers_to(name) || sabotaged("operations-host"))
    }

    /// The host of a request, if it is one of ours. `target` is the authority of a request target in absolute form;
    /// where there is one, the `Host` header has to agree with it.
    pub(super) fn check(&self, headers: &HeaderMap, target: Option<&str>) -> Result<Host, Refusal> {
        host_of(headers, target, |name| self.answers_to(name))
    }

    /// Whether a request that would change something comes from a page of another site. Programs send neither of the
    /// two headers; browsers send at least one of them with every such request, and no page can forge them.
    /// `host` must have passed [`HostPolicy::check`].
    pub(super) fn cross_site(&self, headers: &HeaderMap, host: &Host) -> bool {
        let foreign_site =
            headers.get_all(SEC_FETCH_SITE).iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
        let foreign_origin = headers
            .get_all(ORIGIN)
            .iter()
            .any(|origin| !origin.to_str().is_ok_and(|origin| self.is_own_origin(origin, host)));
        (foreign_site || foreign_origin) && !sabotaged("cross-site")
    }

    fn is_own_origin(&self, origin: &str, host: &Host) -> bool {
        let Some(authority) = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")) else {
            return false;
        };
        // A proxy that terminates TLS in front of us changes the scheme, so only host and port are compared.
        authority.eq_ignore_ascii_case(&host.authority)
            || self.public_origin.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(origin))
    }
}

/// The host of a request, if it is one that `is_ours` knows.
fn host_of(headers: &HeaderMap, target: Option<&str>, is_ours: impl FnOnce(&Name) -> bool) -> Result<Host, Refusal> {
    let mut given = headers.get_all(HOST).into_iter();
    let (Some(header), None) = (given.next(), given.next()) else { return Err(Refusal::BadHost) };
    let raw = header.to_str().map_err(|_| Refusal::BadHost)?;
    let host = Host::parse(raw).ok_or(Refusal::BadHost)?;
    if target.is_some_and(|target| !target.eq_ignore_ascii_case(raw)) && !sabotaged("absolute-form") {
        return Err(Refusal::BadHost);
    }
    if is_ours(&host.name) || sabotaged("host-check") {
        Ok(host)
    } else {
        Err(Refusal::HostNotAllowed { host: excerpt(raw) })
    }
}

/// A block of addresses: `10.0.0.0/8`, `fd00::/8`, or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A block of addresses that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a block of addresses such as 10.0.0.0/8 or fd00::/8")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(raw: &str) -> Result<Self, InvalidCidr> {
        let read = || {
            let (address, prefix) = raw.split_once('/').map_or((raw, None), |(a, p)| (a, Some(p)));
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Ok(longest), str::parse).ok()?;
            (prefix <= longest).then_some(Self { address, prefix })
        };
        read().ok_or_else(|| InvalidCidr(excerpt(raw)))
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;

    fn try_from(raw: String) -> Result<Self, InvalidCidr> {
        raw.parse()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    /// Whether the address lies in the block. An IPv4 address written as IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let differing = block.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let differing = block.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The address a request comes from: the peer's, or, as long as that is a trusted proxy, the one it names. Read from
/// the right, because everything left of the first address we do not trust may be invented.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let mut client = peer.to_canonical();
    if trusted.is_empty() {
        return client;
    }
    let named: Vec<&str> = values(headers, &X_FORWARDED_FOR).flat_map(|value| value.split(',')).collect();
    for hop in named.into_iter().rev() {
        if !trusted.iter().any(|block| block.contains(client)) && !sabotaged("forwarded-for") {
            break;
        }
        match forwarded_address(hop.trim()) {
            Some(address) => client = address.to_canonical(),
            None => break,
        }
    }
    client
}

/// The scheme the client used where its connection to us is not encrypted: `https` only if a trusted proxy says so.
pub(super) fn client_scheme(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> &'static str {
    let believed = trusted.iter().any(|block| block.contains(peer)) || sabotaged("forwarded-proto");
    let last = values(headers, &X_FORWARDED_PROTO).flat_map(|value| value.split(',')).last();
    if believed && last.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https")) { "https" } else { "http" }
}

/// An address as proxies write it, some of them with a port.
fn forwarded_address(raw: &str) -> Option<IpAddr> {
    let bare = raw.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(raw);
    bare.parse().ok().or_else(|| raw.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
