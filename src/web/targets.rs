//! Remembers what requests address, because the same few addresses are asked for all day.
//!
//! A pure function of the host and the path, so that nothing remembered is ever wrong. Each thread remembers for itself,
//! which takes no lock, and for each server apart, because two of them may have different routes and hosts.

use std::cell::RefCell;
use std::hash::BuildHasher as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

use super::address::Address;
use super::guard::Host;

/// How many targets a thread remembers.
const PLACES: usize = 256;
/// Longer hosts and paths are read every time, in bytes.
const LONGEST: usize = 512;

/// What a request addresses: a host that is ours, and an address below it that is spelt as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host, as the request named it.
    pub host: Host,
    /// The address.
    pub address: Address,
}

/// The targets of one server.
#[derive(Debug)]
pub struct Targets {
    server: u64,
}

impl Default for Targets {
    fn default() -> Self {
        static SERVERS: AtomicU64 = AtomicU64::new(0);
        Self { server: SERVERS.fetch_add(1, Ordering::Relaxed) }
    }
}

struct Known {
    server: u64,
    host: Box<[u8]>,
    path: Box<str>,
    target: Rc<Target>,
}

#[derive(Default)]
struct Table {
    places: Vec<Option<Known>>,
    hasher: RandomState,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

impl Targets {
    /// What this host and path address, read if it is not remembered. What cannot be read is not remembered.
    pub fn of(&self, host: &[u8], path: &str, read: impl FnOnce() -> Option<Target>) -> Option<Rc<Target>> {
        TABLE.with_borrow_mut(|Table { places, hasher }| {
            if places.is_empty() {
                places.resize_with(PLACES, || None);
            }
            #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is one")]
            let place = &mut places[hasher.hash_one((host, path)) as usize % PLACES];
            if let Some(known) = place
                && known.server == self.server
                && *known.path == *path
                && *known.host == *host
            {
                return Some(Rc::clone(&known.target));
            }
            let target = Rc::new(read()?);
            if host.len().max(path.len()) <= LONGEST {
                let (host, path, target) = (host.into(), path.into(), Rc::clone(&target));
                *place = Some(Known { server: self.server, host, path, target });
            }
            Some(target)
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::{HOST, HeaderValue};

    use super::*;
    use crate::web::address::{self, RouteId, RouteNames};
    use crate::web::guard::HostPolicy;

    fn read(host: &str, path: &str) -> Option<Target> {
        let names = RouteNames::new(["python".into()], Some(RouteId(0)));
        let headers: HeaderMap = [(HOST, HeaderValue::from_str(host).ok()?)].into_iter().collect();
        let host = HostPolicy::default().check(&headers, None).ok()?;
        Some(Target { host, address: address::parse(path, &names).ok()?.address })
    }

    /// The target, and whether it had to be read.
    fn asked(targets: &Targets, host: &str, path: &str) -> (Option<Target>, bool) {
        let mut was_read = false;
        let target = targets.of(host.as_bytes(), path, || {
            was_read = true;
            read(host, path)
        });
        (target.map(|target| (*target).clone()), was_read)
    }

    #[test]
    fn the_target_is_always_that_of_the_host_and_path_asked_for() {
        let targets = Targets::default();
        for round in 0..2 {
            // Far more than there are places, so that each is taken again and again.
            for number in 0..3 * PLACES {
                for host in ["localhost", "127.0.0.1:8080"] {
                    let path = format!("/simple/project-{number}/");
                    let (target, _) = asked(&targets, host, &path);
                    assert_eq!(target, read(host, &path), "{round}: {host}{path}");
                }
            }
        }
    }

    #[test]
    fn a_target_is_read_once_for_each_server() {
        let (one, two) = (Targets::default(), Targets::default());
        assert!(asked(&one, "localhost", "/simple/acme/").1);
        assert!(!asked(&one, "localhost", "/simple/acme/").1);
        assert!(asked(&two, "localhost", "/simple/acme/").1, "another server may have other routes");
        assert!(asked(&one, "localhost:80", "/simple/acme/").1 || asked(&one, "localhost", "/simple/acme/").1);
    }

    #[test]
    fn what_cannot_be_read_or_is_long_is_not_remembered() {
        let targets = Targets::default();
        assert_eq!(asked(&targets, "localhost", "/simple/%2e%2e/"), (None, true));
        assert_eq!(asked(&targets, "localhost", "/simple/%2e%2e/"), (None, true));
        let long = format!("/simple/{}/", "a".repeat(LONGEST));
        assert!(asked(&targets, "localhost", &long).1 && asked(&targets, "localhost", &long).1);
    }
}
