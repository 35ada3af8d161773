//! What replicas share, over real servers: object stores, Redis, queues, and several proxies.

#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the integration tests use all of it")]
mod support;

mod advisories;
mod bad_store;
mod budget;
mod check;
mod events;
mod exceptions;
mod faults;
mod files;
mod first_seen;
mod identities;
mod internal_freshness;
mod leases;
mod lists;
mod pages;
mod replicas;
mod servers;
mod store;
mod usage;
