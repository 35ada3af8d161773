//! Redis or Valkey: it carries hints, leases and the request budget, and holds nothing that could not be lost.
//!
//! `link.rs` sends commands behind a breaker, `lease.rs` holds leases with them, `subscriber.rs` hears what is
//! published.

mod lease;
mod link;
mod proof;
mod subscriber;

pub(super) use lease::RedisLeases;
pub(super) use link::RedisLink;
pub use link::{RedisFailure, RedisUnusable};
pub use proof::prove_redis;
pub(super) use subscriber::subscribe;
