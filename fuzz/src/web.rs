//! The address and the headers of a request. The files of `web` are compiled into this crate, so that nothing becomes
//! public there for the sake of fuzzing.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, ORIGIN,
};
use http::{Method, header};
use url::Url;

#[path = "../../src/web/address.rs"]
mod address;
#[path = "../../src/web/browse_address.rs"]
mod browse_address;
#[path = "../../src/web/conditional.rs"]
mod conditional;
#[path = "../../src/web/guard.rs"]
mod guard;
#[path = "../../src/web/headers.rs"]
mod headers;
#[path = "../../src/web/memo.rs"]
mod memo;
#[path = "../../src/web/negotiate.rs"]
mod negotiate;
#[path = "../../src/web/osv_call.rs"]
mod osv_call;
#[path = "../../src/web/prices.rs"]
mod prices;
#[path = "../../src/web/refusal.rs"]
mod refusal;
#[path = "../../src/web/site_settings.rs"]
mod site_settings;
#[path = "../../src/web/tls/settings.rs"]
mod tls_settings;

use address::{Address, RouteId, RouteNames};
use conditional::{Precondition, Selection};
pub(crate) use guard::Cidr;
use guard::HostPolicy;
use negotiate::Negotiated;

pub(crate) use guard::{HostPattern, ReadPolicy, UploadPolicy};
pub(crate) use prices::Prices;
pub(crate) use site_settings::SiteSettings;
pub(crate) use tls_settings::{TlsSettings, TlsTable};

use crate::names::safe;
use crate::split;

/// What the guard asks the listener's certificates.
mod tls {
    #[derive(Debug, Clone)]
    pub(super) struct ServerCertificates;

    impl ServerCertificates {
        pub(super) fn revision(&self) -> u64 {
            0
        }

        pub(super) fn names(&self, _: &str) -> bool {
            false
        }
    }
}

/// What the configuration names of `web` besides.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperatorSecrets {
    pub(crate) operations: Option<crate::identity::SecretDigest>,
    pub(crate) metrics: Option<crate::identity::SecretDigest>,
}

/// A path as it stands in the request line. Where it leads is on this server, and the proper spelling of an address
/// has no other.
pub fn address(bytes: &[u8]) {
    let Ok(uri) = http::Uri::try_from(bytes) else { return };
    let routes = RouteNames::new(["main", "other"].map(Arc::from), Some(RouteId(0)));
    let parsed = match address::parse(uri.path(), &routes) {
        Ok(parsed) => parsed,
        Err(refusal) => return printable(&refusal.to_string()),
    };
    if let Some(location) = &parsed.redirect {
        printable(location);
        let asked = format!("http://localhost{}", uri.path());
        let Ok(asked) = Url::parse(&asked) else { return };
        let target = asked.join(location).expect("a redirect is a relative reference");
        assert_eq!(target.origin(), asked.origin(), "{location}");
        let again = address::parse(target.path(), &routes).expect("a redirect leads to an address");
        assert_eq!((again.address, again.redirect), (parsed.address.clone(), None), "{asked} to {target}");
    }
    if let Address::File { route, file } | Address::Metadata { route, wheel: file } = &parsed.address {
        safe(file.file.as_str());
        safe(file.version.as_str());
        let ending = if matches!(parsed.address, Address::Metadata { .. }) { ".metadata" } else { "" };
        let path = format!("/pypi/{}/simple/{}{ending}", ["main", "other"][route.0], file.relative());
        assert_eq!(address::parse(&path, &routes), Ok(parsed.clone()), "{path}");
    }
}

/// Lines for `Accept`, `Accept-Encoding`, `Range`, `If-None-Match`, `If-Range`, `Host`, `Origin`, `X-Forwarded-For`,
/// `Authorization`.
pub fn headers(bytes: &[u8]) {
    let forwarded = HeaderName::from_static("x-forwarded-for");
    let names =
        [ACCEPT, ACCEPT_ENCODING, header::RANGE, IF_NONE_MATCH, IF_RANGE, HOST, ORIGIN, forwarded, AUTHORIZATION];
    let (mut headers, mut rest) = (HeaderMap::new(), bytes);
    for name in names {
        let (line, more) = split(rest, b'\n');
        rest = more;
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    let negotiated = Negotiated::of(&headers).ok();
    assert_eq!(negotiated, Negotiated::of(&headers).ok(), "the same headers mean the same twice");
    decide(&headers);
    let _ = crate::identity::presented_token(&headers);
    let policy = HostPolicy::new(Vec::new(), None, &[]);
    if let Ok(host) = policy.check(&headers, None) {
        printable(host.authority());
        let _ = policy.cross_site(&headers, &host);
    }
    let trusted: [Cidr; 1] = ["10.0.0.0/8".parse().expect("a block")];
    let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(guard::client_address(peer, &headers, &trusted), peer, "a peer that is no proxy speaks for itself");
    let _ = guard::client_address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), &headers, &trusted);
}

fn decide(headers: &HeaderMap) {
    let etag = HeaderValue::from_static("\"sha256-abc\"");
    for (method, length) in
        [(Method::GET, Some(0)), (Method::GET, Some(1000)), (Method::HEAD, Some(1000)), (Method::GET, None)]
    {
        match conditional::decide(&method, headers, &etag, length) {
            Precondition::Send(Selection::Part { first, last }) => {
                assert!(method == Method::GET && first <= last && Some(last) < length);
            }
            Precondition::NotModified => assert!(headers.contains_key(IF_NONE_MATCH)),
            Precondition::Send(Selection::NotSatisfiable) => assert!(headers.contains_key(header::RANGE)),
            Precondition::Send(Selection::Whole) => {}
        }
    }
}

#[track_caller]
fn printable(text: &str) {
    assert!(text.len() < 8192 && !text.contains(['\n', '\r', '\u{1b}', '\0']), "{text:?}");
}
