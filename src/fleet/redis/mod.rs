//! Redis or Valkey: it carries hints, leases and the request budget, and holds nothing that could not be lost.
//!
//! `link.rs` sends commands behind a breaker, `subscriber.rs` hears what is published.

mod link;
mod subscriber;

pub(super) use link::RedisLink;
pub use link::{RedisFailure, RedisUnusable};
pub(super) use subscriber::subscribe;
