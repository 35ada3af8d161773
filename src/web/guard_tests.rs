//! Host names that are welcome and that are not, pages of other sites, and chains of proxies.

use http::header::HeaderValue;
use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
    }
    headers
}

fn policy(allowed: &[&str]) -> HostPolicy {
    let allowed = allowed.iter().map(|raw| raw.parse().expect("a pattern")).collect();
    let public = Url::parse("https://Pypi.Acme.example/base/").expect("a URL");
    let listeners = ["0.0.0.0:8080", "192.0.2.7:8080"].map(|raw| raw.parse().expect("an address"));
    HostPolicy::new(allowed, Some(&public), &listeners)
}

fn welcome(policy: &HostPolicy, host: &str) -> bool {
    match policy.check(&headers(&[("host", host)]), None) {
        Ok(_) => true,
        Err(Refusal::HostNotAllowed { .. }) => false,
        Err(error) => panic!("{host}: {error}"),
    }
}

#[test]
fn without_a_list_every_name_is_welcome_that_no_public_name_can_be() {
    let policy = policy(&[]);
    for host in [
        "localhost:8080",
        "LOCALHOST",
        "x.localhost",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]:8080",
        "10.1.2.3:8080",
        "[fd00::1]",
        "[::ffff:127.0.0.1]:80",
        "wheelport",
        "wheelport:8080",
        "wheelport.tools.svc",
        "proxy.lan",
        "wheelport.tools.svc.cluster.local:80",
        "a.internal",
        "a.internal.",
        "b.local",
        "c.home.arpa",
        "pypi.acme.example",
        "PYPI.acme.example:443",
        "192.0.2.7:8080",
    ] {
        assert!(welcome(&policy, host), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "internal.example",
        "evil.example.",
        "a.notlocal",
        "pypi.acme.example.evil.example",
        "home.arpa.example",
        "evil.arpa",
    ] {
        assert!(!welcome(&policy, host), "{host}");
    }
}

#[test]
fn a_list_is_complete_but_for_ourselves() {
    let policy = policy(&["packages.example", "*.corp.example", "198.51.100.4", "[2001:db8::4]"]);
    for host in [
        "packages.example:8443",
        "a.corp.example",
        "a.b.corp.example",
        "198.51.100.4",
        "[2001:db8::4]:80",
        "localhost",
        "127.0.0.1:8080",
        "[::1]",
        "192.0.2.7",
        "pypi.acme.example",
    ] {
        assert!(welcome(&policy, host), "{host}");
    }
    for host in ["corp.example", "xcorp.example", "other", "10.0.0.1", "a.internal", "x.packages.example"] {
        assert!(!welcome(&policy, host), "{host}");
    }
    assert!(welcome(&super::tests::policy(&["*"]), "anything.example"));
}

#[test]
fn a_host_must_be_there_once_and_well_formed() {
    let policy = policy(&["*"]);
    assert_eq!(policy.check(&HeaderMap::new(), None), Err(Refusal::BadHost));
    assert_eq!(policy.check(&headers(&[("host", "a"), ("host", "a")]), None), Err(Refusal::BadHost));
    for host in [
        "",
        ":80",
        "a:b",
        "a:99999",
        "user@a",
        "a b",
        "a/b",
        "a..b",
        "[::1",
        "::1",
        "[zz]",
        "a,b",
        "a:1:2",
        "%61",
        "[127.0.0.1]",
        "..",
        "a\\b",
    ] {
        assert_eq!(policy.check(&headers(&[("host", host)]), None), Err(Refusal::BadHost), "{host}");
    }
    let asked = headers(&[("host", "a:80")]);
    assert!(policy.check(&asked, Some("A:80")).is_ok());
    assert_eq!(policy.check(&asked, Some("b:80")), Err(Refusal::BadHost));
}

#[test]
fn the_refusal_names_the_setting() {
    let refused = policy(&[]).check(&headers(&[("host", "evil.example")]), None);
    let sentence = refused.expect_err("a public name").to_string();
    assert!(sentence.contains("'evil.example'") && sentence.contains("allowed_hosts"), "{sentence}");
}

#[test]
fn patterns_are_read_strictly() {
    for raw in ["", "http://a", "a:80", "*a", "*.", "a.*", "**", "*.10.0.0.1/8", "a b"] {
        assert!(raw.parse::<HostPattern>().is_err(), "{raw}");
    }
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let policy = policy(&[]);
    let host = policy.check(&headers(&[("host", "localhost:8080")]), None).expect("our host");
    let cross = |pairs: &[(&'static str, &str)]| policy.cross_site(&headers(pairs), &host);
    assert!(!cross(&[]), "a program");
    assert!(!cross(&[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")]));
    assert!(!cross(&[("sec-fetch-site", "none")]));
    assert!(!cross(&[("origin", "https://LOCALHOST:8080")]), "TLS ends in front of us");
    assert!(!cross(&[("origin", "https://pypi.acme.example")]), "the public URL");
    for site in ["cross-site", "same-site", "", "none, same-origin"] {
        assert!(cross(&[("sec-fetch-site", site)]), "{site}");
    }
    for origin in [
        "null",
        "",
        "http://evil.example",
        "http://localhost",
        "http://localhost:80800",
        "localhost:8080",
        "http://localhost:8080.evil.example",
        "http://pypi.acme.example",
        "ftp://localhost:8080",
    ] {
        assert!(cross(&[("origin", origin)]), "{origin}");
    }
    assert!(cross(&[("origin", "http://localhost:8080"), ("origin", "null")]));
}

#[test]
fn only_trusted_proxies_are_believed() {
    let trusted: Vec<Cidr> = ["10.0.0.0/8", "fd00::/8"].map(|raw| raw.parse().expect("a block")).to_vec();
    let client = |peer: &str, forwarded: &[&str]| {
        let pairs: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
        client_address(peer.parse().expect("an address"), &headers(&pairs), &trusted).to_string()
    };
    assert_eq!(client("203.0.113.9", &["1.1.1.1"]), "203.0.113.9", "a stranger says nothing we believe");
    assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
    assert_eq!(client("10.0.0.1", &["6.6.6.6, 203.0.113.9, 10.2.2.2"]), "203.0.113.9");
    assert_eq!(client("10.0.0.1", &["6.6.6.6", "203.0.113.9,10.2.2.2"]), "203.0.113.9");
    assert_eq!(client("10.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
    assert_eq!(client("fd00::1", &["[2001:db8::9]:4711"]), "2001:db8::9");
    assert_eq!(client("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
    assert_eq!(client("10.0.0.1", &["203.0.113.9, unknown"]), "10.0.0.1");
    assert_eq!(client("10.0.0.1", &["10.0.0.2"]), "10.0.0.2", "only proxies");
    assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
}

#[test]
fn the_scheme_is_believed_from_trusted_proxies_only() {
    let trusted = ["10.0.0.0/8".parse().expect("a block")];
    let secure = headers(&[("x-forwarded-proto", "http, HTTPS")]);
    let peer = |raw: &str| raw.parse().expect("an address");
    assert_eq!(client_scheme(peer("10.0.0.1"), &secure, &trusted), "https");
    assert_eq!(client_scheme(peer("192.0.2.1"), &secure, &trusted), "http");
    assert_eq!(client_scheme(peer("10.0.0.1"), &HeaderMap::new(), &trusted), "http");
}

#[test]
fn blocks_are_read_strictly() {
    for raw in ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "a/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8"] {
        assert!(raw.parse::<Cidr>().is_err(), "{raw}");
    }
    let block: Cidr = "0.0.0.0/0".parse().expect("a block");
    assert!(block.contains("255.1.2.3".parse().expect("an address")));
    assert!(!block.contains("::1".parse().expect("an address")));
    assert_eq!("10.0.0.1".parse::<Cidr>().expect("a block").to_string(), "10.0.0.1/32");
}

proptest! {
    #[test]
    fn a_block_contains_what_shares_its_prefix(block in any::<u32>(), other in any::<u32>(), prefix in 0..=32u8) {
        let cidr = Cidr { address: IpAddr::V4(block.into()), prefix };
        let bits = |address: u32| format!("{address:032b}")[..usize::from(prefix)].to_owned();
        let near = block ^ (other & (u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)));
        prop_assert!(cidr.contains(IpAddr::V4(near.into())));
        prop_assert_eq!(cidr.contains(IpAddr::V4(other.into())), bits(block) == bits(other));
    }

    #[test]
    fn no_host_header_panics(raw in "[ -~]{0,40}") {
        let _ = Host::parse(&raw);
        let _ = forwarded_address(&raw);
    }
}
