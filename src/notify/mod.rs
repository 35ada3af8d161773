//! The webhook: takes notices out of their outbox and delivers them, signed, one after the other, until the receiver
//! has them or they are too old.
//!
//! Nothing of this is in the way of a request. What can be noticed is in `notices`; how a request goes out is `app`'s.

mod courier;
mod message;
mod schedule;
mod secret;
mod settings;

pub use courier::{Courier, SendWebhook};
pub use message::WebhookRequest;
pub use secret::{InvalidWebhookSecret, WebhookSecrets};
pub use settings::{InvalidWebhookUrl, NotifySettings, NotifyTable, WebhookUrl};
