//! What the integration tests share.

pub mod mints;
pub mod scripted;
pub mod tls;
