//! What the integration tests share.

pub mod client;
pub mod forms;
pub mod mints;
pub mod process;
pub mod proxy;
pub mod scripted;
pub mod tls;
pub mod wheels;
