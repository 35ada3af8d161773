//! What the integration tests share.

pub(crate) mod client;
pub(crate) mod forms;
pub(crate) mod issuer;
pub(crate) mod mints;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod scripted;
pub(crate) mod tls;
pub(crate) mod wheels;
