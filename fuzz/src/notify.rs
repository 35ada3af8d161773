//! The settings of the webhook, for the configuration.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

#[path = "../../src/notify/secret.rs"]
mod secret;
#[path = "../../src/notify/settings.rs"]
mod settings;

pub(crate) use settings::{NotifySettings, NotifyTable};
