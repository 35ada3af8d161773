//! Pure decisions about addresses: where a repository's pages and files are, which other hosts requests may go to, and
//! where a redirect may lead.
//!
//! A credential leaves this process only for the origin (scheme, host, port) of an [`Endpoint`]; only this file
//! compares origins.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use url::{Host, Origin, Url};

use wheelport_index::{FileAddress, ProjectName};
use wheelport_runtime::sabotaged;

/// Everything but RFC 3986's unreserved characters; CodeArtifact's own links write a `+` as `%2B`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One repository's address, such as
/// `https://acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com/pypi/python/`.
///
/// The URL is http or https, has a host, a path with a final slash, and neither userinfo, query nor fragment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    base: Url,
}

/// A URL that cannot be a repository's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    #[error("a repository endpoint is an http or https URL with a host")]
    Scheme,
    #[error("a repository endpoint must not hold credentials; the token is minted, never configured")]
    Credentials,
    #[error("a repository endpoint must not have a query or a fragment")]
    Query,
}

impl Endpoint {
    /// Checks a URL and adds the final slash if it is missing.
    pub fn new(mut base: Url) -> Result<Self, InvalidEndpoint> {
        if !is_web(&base) {
            return Err(InvalidEndpoint::Scheme);
        }
        if has_credentials(&base) {
            return Err(InvalidEndpoint::Credentials);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(InvalidEndpoint::Query);
        }
        add_final_slash(&mut base);
        Ok(Self { base })
    }

    /// The address, with its final slash.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The address of a project's page, with its final slash.
    pub fn page(&self, project: &ProjectName) -> Url {
        self.below(&format!("simple/{project}/"))
    }

    /// The address of a file in CodeArtifact's layout, `simple/{project}/{version}/{file}`.
    pub fn file(&self, address: &FileAddress) -> Url {
        let version = utf8_percent_encode(address.version.as_str(), SEGMENT);
        let file = utf8_percent_encode(address.file.as_str(), SEGMENT);
        self.below(&format!("simple/{}/{version}/{file}", address.project))
    }

    /// Whether the token may be sent to this URL.
    pub fn owns(&self, url: &Url) -> bool {
        is_web(url) && !has_credentials(url) && (url.origin() == self.base.origin() || sabotaged("token-origin"))
    }

    /// The quota that requests to this endpoint count against.
    pub(super) fn quota_scope(&self) -> QuotaScope {
        self.base
            .host_str()
            .and_then(region)
            .map_or_else(|| QuotaScope::Origin(self.base.origin()), |region| QuotaScope::Region(region.to_owned()))
    }

    fn below(&self, encoded: &str) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}{encoded}", self.base.path());
        url.set_path(&path);
        url
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.base)
    }
}

/// Endpoints that share a quota.
///
/// CodeArtifact counts per region and calling account. The host names the account that owns the domain, not the one
/// that calls; a process usually calls as one account, so all its endpoints in a region are taken together, which may
/// be slower than necessary but never too fast.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum QuotaScope {
    /// CodeArtifact in this region.
    Region(String),
    /// Something else at this origin.
    Origin(Origin),
}

/// The name of the quota, the same in every process.
impl fmt::Display for QuotaScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => f.write_str(region),
            Self::Origin(origin) => f.write_str(&origin.ascii_serialization()),
        }
    }
}

/// The region in the host of a CodeArtifact repository: `….d.codeartifact.REGION.amazonaws.com`, `….REGION.on.aws`, or
/// `….REGION.vpce.amazonaws.com`.
fn region(host: &str) -> Option<&str> {
    let (before, rest) = host.rsplit_once(".d.codeartifact.")?;
    let (region, suffix) = rest.split_once('.')?;
    let is_aws = matches!(suffix, "amazonaws.com" | "on.aws" | "vpce.amazonaws.com");
    (is_aws && !before.is_empty() && !region.is_empty()).then_some(region)
}

/// A host name, or `*.` and a domain, whose subdomains of any depth it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedirectHost(String);

/// A string that is neither a host name nor `*.` and a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host; write `files.example.org`, or `*.example.org` for all hosts below a domain")]
pub struct InvalidRedirectHost(String);

impl RedirectHost {
    /// Reads a pattern. A wildcard must leave at least two labels, so that it cannot stand for a whole top-level
    /// domain.
    pub fn parse(raw: &str) -> Result<Self, InvalidRedirectHost> {
        let invalid = || InvalidRedirectHost(raw.to_owned());
        let host = raw.strip_prefix("*.").unwrap_or(raw);
        let is_wild = host.len() != raw.len();
        let ascii = match Host::parse(host) {
            Ok(Host::Domain(domain)) if !is_wild || domain.contains('.') => domain,
            Ok(address @ (Host::Ipv4(_) | Host::Ipv6(_))) if !is_wild => address.to_string(),
            _ => return Err(invalid()),
        };
        if ascii.ends_with('.') || ascii.contains('*') {
            return Err(invalid());
        }
        Ok(Self(if is_wild { format!("*.{ascii}") } else { ascii }))
    }

    pub(super) fn fixed(pattern: &'static str) -> Self {
        Self(pattern.to_owned())
    }

    /// Whether a host falls under this pattern; `host` is what [`Url::host_str`] gives, lower case and ASCII.
    pub fn matches(&self, host: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

impl TryFrom<String> for RedirectHost {
    type Error = InvalidRedirectHost;

    fn try_from(raw: String) -> Result<Self, InvalidRedirectHost> {
        Self::parse(&raw)
    }
}

impl From<RedirectHost> for String {
    fn from(pattern: RedirectHost) -> Self {
        pattern.0
    }
}

/// Whether a request may go to a URL of another origin than the endpoint's, without the token.
pub(super) fn is_allowed_elsewhere(url: &Url, endpoint: &Endpoint, allowed: &[RedirectHost]) -> bool {
    let Some(host) = url.host_str() else { return false };
    is_web(url)
        && !has_credentials(url)
        && (endpoint.base.scheme() == "http" || url.scheme() == "https")
        && (allowed.iter().any(|pattern| pattern.matches(host)) || (is_loopback(endpoint.base()) && is_loopback(url)))
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRedirect {
    #[error("more redirects than allowed")]
    TooMany,
    #[error("a redirect without a usable Location")]
    NoLocation,
    #[error("a redirect with credentials in its Location")]
    Credentials,
    #[error("a redirect from https to http")]
    Downgrade,
    #[error("a redirect to a host that is not allowed")]
    Host,
}

/// One address on the way of a request and its redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) url: Url,
    /// Whether the token is sent. Once dropped, it stays dropped.
    pub(super) with_token: bool,
}

impl Hop {
    /// Where a redirect from here leads, if it may be followed.
    pub(super) fn redirected(
        &self,
        location: Option<&http::HeaderValue>,
        endpoint: &Endpoint,
        allowed: &[RedirectHost],
    ) -> Result<Self, BadRedirect> {
        let location = location.and_then(|value| value.to_str().ok()).ok_or(BadRedirect::NoLocation)?;
        let mut url = self.url.join(location).map_err(|_| BadRedirect::NoLocation)?;
        url.set_fragment(None);
        if has_credentials(&url) && !sabotaged("redirect-credentials") {
            return Err(BadRedirect::Credentials);
        }
        if self.url.scheme() == "https" && url.scheme() == "http" && !sabotaged("https-downgrade") {
            return Err(BadRedirect::Downgrade);
        }
        if endpoint.owns(&url) {
            return Ok(Self { url, with_token: self.with_token });
        }
        if !is_allowed_elsewhere(&url, endpoint, allowed) && !sabotaged("redirect-hosts") {
            return Err(BadRedirect::Host);
        }
        Ok(Self { url, with_token: false })
    }
}

/// Makes the last path component a directory, as CodeArtifact's relative links expect.
pub(super) fn add_final_slash(url: &mut Url) {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => Ipv4Addr::is_loopback(&address),
        Some(Host::Ipv6(address)) => Ipv6Addr::is_loopback(&address),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use wheelport_index::{FileName, VersionSegment};

    #[test]
    fn all_endpoints_of_a_region_share_its_quota() {
        let scope = |host: &str| endpoint(&format!("https://{host}/pypi/python/")).quota_scope();
        let region = |name: &str| QuotaScope::Region(name.to_owned());
        for (host, expected) in [
            ("acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com", "eu-central-1"),
            ("other-444455556666.d.codeartifact.eu-central-1.amazonaws.com", "eu-central-1"),
            ("acme-111122223333.d.codeartifact.us-east-1.on.aws", "us-east-1"),
            ("vpce-0a1b-x.d.codeartifact.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
        ] {
            assert_eq!(scope(host), region(expected), "{host}");
        }
        for host in ["127.0.0.1", "d.codeartifact.example.org", "a.d.codeartifact.eu-west-1.example.org"] {
            assert!(matches!(scope(host), QuotaScope::Origin(_)), "{host}");
        }
        assert_ne!(scope("one.example.org"), scope("two.example.org"));
    }

    const BASE: &str = "https://acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com/pypi/python";

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::new(url(text)).expect(text)
    }

    fn patterns() -> Vec<RedirectHost> {
        vec![RedirectHost::fixed("*.amazonaws.com"), RedirectHost::fixed("*.on.aws")]
    }

    #[test]
    fn addresses_are_built_from_typed_parts() {
        let endpoint = endpoint(BASE);
        let project = ProjectName::parse("Torch").expect("a name");
        assert_eq!(endpoint.page(&project).as_str(), format!("{BASE}/simple/torch/"));
        let address = FileAddress {
            project,
            version: VersionSegment::parse("2.1.0+cu118").expect("a version"),
            file: FileName::parse("torch-2.1.0+cu118 é;a=1-py3.whl").expect("a file name"),
        };
        assert_eq!(
            endpoint.file(&address).as_str(),
            format!("{BASE}/simple/torch/2.1.0%2Bcu118/torch-2.1.0%2Bcu118%20%C3%A9%3Ba%3D1-py3.whl")
        );
        let vpc = super::tests::endpoint("http://127.0.0.1:9/pypi/d/acme-111122223333/python/");
        let simple = ProjectName::parse("a").expect("a name");
        assert_eq!(vpc.page(&simple).path(), "/pypi/d/acme-111122223333/python/simple/a/");
    }

    #[test]
    fn an_endpoint_is_a_plain_web_address() {
        for (text, reason) in [
            ("ftp://example.org/pypi/r/", InvalidEndpoint::Scheme),
            ("https://aws:token@example.org/pypi/r/", InvalidEndpoint::Credentials),
            ("https://example.org/pypi/r/?x=1", InvalidEndpoint::Query),
            ("https://example.org/pypi/r/#x", InvalidEndpoint::Query),
        ] {
            assert_eq!(Endpoint::new(url(text)), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_hosts_below_a_domain_only() {
        let aws = RedirectHost::parse("*.amazonaws.com").expect("a pattern");
        assert!(aws.matches("assets.s3.eu-central-1.amazonaws.com"));
        for other in ["amazonaws.com", "evilamazonaws.com", "amazonaws.com.evil.example", ".amazonaws.com.x"] {
            assert!(!aws.matches(other), "{other}");
        }
        assert!(RedirectHost::parse("Files.Example.ORG").expect("a pattern").matches("files.example.org"));
        for wrong in ["", "*", "*.com", "*.*.example.org", "a.*.org", "*.127.0.0.1", "http://example.org", "a b"] {
            assert!(RedirectHost::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn redirects_keep_the_token_at_the_endpoint_and_lead_nowhere_else() {
        let endpoint = endpoint(BASE);
        let here = Hop { url: url(&format!("{BASE}/simple/a/1/a-1.tar.gz")), with_token: true };
        let go = |location: &str| {
            let value = HeaderValue::from_str(location).expect("a header value");
            here.redirected(Some(&value), &endpoint, &patterns()).map(|hop| hop.with_token)
        };
        assert_eq!(go("/pypi/python/simple/b/"), Ok(true));
        assert_eq!(go("https://ACME-111122223333.d.codeartifact.eu-central-1.amazonaws.com:443/x"), Ok(true));
        assert_eq!(go("https://assets.s3.eu-central-1.amazonaws.com/x?X-Amz-Signature=1"), Ok(false));
        // The same host at another port is another origin.
        assert_eq!(go("https://acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com:8443/x"), Ok(false));
        for (location, reason) in [
            ("https://evil.example/x", BadRedirect::Host),
            ("//evil.example/x", BadRedirect::Host),
            ("/\\evil.example/x", BadRedirect::Host),
            ("https://amazonaws.com.evil.example/", BadRedirect::Host),
            ("https://аmazonaws.com/", BadRedirect::NoLocation), // not ASCII: refused before it is parsed
            ("https://x.xn--mazonaws-06g.com/", BadRedirect::Host),
            ("https://169.254.169.254/latest/meta-data/", BadRedirect::Host),
            ("https://2852039166/", BadRedirect::Host),
            ("https://0251.0376.0251.0376/", BadRedirect::Host),
            ("https://[::ffff:169.254.169.254]/", BadRedirect::Host),
            ("https://127.0.0.1/", BadRedirect::Host),
            ("https://localhost/", BadRedirect::Host),
            ("file:///etc/passwd", BadRedirect::Host),
            ("http://assets.s3.eu-central-1.amazonaws.com/x", BadRedirect::Downgrade),
            ("http://acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com/x", BadRedirect::Downgrade),
            ("https://aws:x@acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com/x", BadRedirect::Credentials),
            ("https://", BadRedirect::NoLocation),
        ] {
            assert_eq!(go(location), Err(reason), "{location}");
        }
        assert_eq!(here.redirected(None, &endpoint, &patterns()), Err(BadRedirect::NoLocation));
    }

    #[test]
    fn a_token_once_dropped_is_not_picked_up_again() {
        let endpoint = endpoint(BASE);
        let away = Hop { url: url("https://assets.s3.eu-central-1.amazonaws.com/x"), with_token: false };
        let back = HeaderValue::from_str(endpoint.base().as_str()).expect("a header value");
        let hop = away.redirected(Some(&back), &endpoint, &patterns()).expect("a redirect to the endpoint is allowed");
        assert!(!hop.with_token);
    }

    #[test]
    fn loopback_stands_in_for_other_hosts_only_when_the_endpoint_is_there_too() {
        let local = endpoint("http://127.0.0.1:8080/pypi/r/");
        assert!(is_allowed_elsewhere(&url("http://localhost:9090/x"), &local, &[]));
        assert!(is_allowed_elsewhere(&url("http://[::1]:9090/x"), &local, &[]));
        assert!(!is_allowed_elsewhere(&url("http://example.org/x"), &local, &[]));
        assert!(!is_allowed_elsewhere(&url("https://127.0.0.1/x"), &endpoint(BASE), &patterns()));
    }
}
