//! Which addresses a connection may go to, after names were resolved.
//!
//! Redirects and links name hosts that upstream chose, and names resolve to whatever their owner says. So addresses at
//! which only programs of this machine or of its cloud are, are refused for every host but those of the configured
//! endpoints: link-local ones, metadata services, and loopback. Private networks are allowed, because VPC endpoints are
//! there. Where a tunnel leads through an HTTP proxy, the proxy resolves names, and only literal addresses are seen
//! here.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use parking_lot::RwLock;
use tower::Service;
use wheelport_runtime::sabotaged;

/// Metadata services outside of the link-local networks: of AWS, and of clouds that a process may run in by chance.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

#[derive(Debug, thiserror::Error)]
#[error("{host} is at {address}, which no host that upstream names may be at")]
pub(super) struct ForbiddenAddress {
    host: String,
    address: IpAddr,
}

/// The hosts of the configured endpoints, which may be anywhere. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct EndpointHosts(Arc<RwLock<HashSet<String>>>);

/// What an address is for those that upstream names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressKind {
    Allowed,
    /// Programs of this machine.
    Loopback,
    /// Link-local, a metadata service, or no address of one host.
    Forbidden,
}

impl AddressKind {
    fn of(address: IpAddr) -> Self {
        let address = embedded(address.to_canonical());
        let forbidden = METADATA.contains(&address)
            || address.is_multicast()
            || match address {
                IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
                IpAddr::V6(address) => address.is_unicast_link_local(),
            };
        let loopback = match address {
            // All of 0.0.0.0/8 is this machine.
            IpAddr::V4(address) => address.is_loopback() || address.octets()[0] == 0,
            IpAddr::V6(address) => address.is_loopback() || address.is_unspecified(),
        };
        match (forbidden, loopback) {
            (true, _) => Self::Forbidden,
            (_, true) => Self::Loopback,
            _ => Self::Allowed,
        }
    }
}

/// The IPv4 address in one that a translating network makes of it (RFC 6052, RFC 3056).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let ipv4 = |high: u16, low: u16| IpAddr::from(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => ipv4(high, low),
        _ => address,
    }
}

impl EndpointHosts {
    /// Connections to this host may go anywhere from now on.
    pub(super) fn add(&self, host: &str) {
        self.0.write().insert(bare(host).to_ascii_lowercase());
    }

    /// Whether a connection to `host` may go to this address.
    pub(super) fn check(&self, host: &str, address: IpAddr) -> Result<(), ForbiddenAddress> {
        let host = bare(host);
        let allowed = match AddressKind::of(address) {
            _ if sabotaged("forbidden-address") => true,
            AddressKind::Allowed => true,
            AddressKind::Loopback => self.has(host) || self.0.read().iter().any(|endpoint| is_loopback(endpoint)),
            AddressKind::Forbidden => self.has(host),
        };
        if allowed { Ok(()) } else { Err(ForbiddenAddress { host: host.to_owned(), address }) }
    }

    /// As [`EndpointHosts::check`], if the host is an address.
    pub(super) fn check_literal(&self, host: &str) -> Result<(), ForbiddenAddress> {
        let address = bare(host).parse().ok().filter(|_| !sabotaged("literal-address"));
        address.map_or(Ok(()), |address| self.check(host, address))
    }

    fn has(&self, host: &str) -> bool {
        self.0.read().contains(&host.to_ascii_lowercase())
    }
}

/// An IPv6 address without its brackets, a name without a final dot.
fn bare(host: &str) -> &str {
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host)
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| AddressKind::of(address) == AddressKind::Loopback)
}

/// The system's resolver, without the addresses that are forbidden.
#[derive(Clone)]
pub(super) struct CheckedResolver {
    system: GaiResolver,
    endpoints: EndpointHosts,
}

impl CheckedResolver {
    pub(super) fn new(endpoints: EndpointHosts) -> Self {
        Self { system: GaiResolver::new(), endpoints }
    }
}

impl Service<Name> for CheckedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let (resolving, endpoints) = (self.system.call(name), self.endpoints.clone());
        Box::pin(async move {
            let mut allowed = Vec::new();
            let mut refused = None;
            for address in resolving.await? {
                match endpoints.check(&host, address.ip()) {
                    Err(_) if sabotaged("resolved-address") => allowed.push(address),
                    Ok(()) => allowed.push(address),
                    Err(forbidden) => refused = Some(forbidden),
                }
            }
            match refused {
                Some(forbidden) if allowed.is_empty() => Err(io::Error::other(forbidden)),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(hosts: &[&str]) -> EndpointHosts {
        let endpoints = EndpointHosts::default();
        for host in hosts {
            endpoints.add(host);
        }
        endpoints
    }

    #[test]
    fn addresses_of_this_machine_and_its_cloud_are_forbidden_for_hosts_that_upstream_names() {
        let endpoints = endpoints(&["acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com"]);
        for (address, allowed) in [
            ("169.254.169.254", false),
            ("169.254.170.2", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("fd00:ec2::23", false),
            ("100.100.100.200", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:a9fe:a9fe::1", false),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("192.168.1.1", true),
            ("100.64.0.1", true),
            ("fd12:3456::1", true),
            ("203.0.113.7", true),
            ("64:ff9b::cb00:7107", true),
            ("2001:db8::1", true),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(endpoints.check("bucket.s3.amazonaws.com", address).is_ok(), allowed, "{address}");
            assert!(endpoints.check("ACME-111122223333.d.codeartifact.eu-central-1.amazonaws.com.", address).is_ok());
        }
        let error = endpoints.check_literal("[::ffff:127.0.0.1]").expect_err("a literal address is checked too");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        assert!(endpoints.check_literal("bucket.s3.amazonaws.com").is_ok());
    }

    #[test]
    fn a_loopback_endpoint_may_lead_to_loopback_and_to_nothing_else_that_is_forbidden() {
        let (loopback, metadata): (IpAddr, IpAddr) = ([127, 0, 0, 2].into(), [169, 254, 169, 254].into());
        for host in ["127.0.0.1", "[::1]", "localhost", "LocalHost.", "a.localhost"] {
            let endpoints = endpoints(&[host]);
            assert!(endpoints.check("other.example.org", loopback).is_ok(), "{host}");
            assert!(endpoints.check("other.example.org", metadata).is_err(), "{host}");
        }
        assert!(endpoints(&["emulator"]).check("other.example.org", loopback).is_err());
    }
}
