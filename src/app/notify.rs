//! Notices for operators: the outbox that the parts tell them to, and the courier that takes them to the webhook over
//! the client of the process.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::StartError;
use crate::config::Settings;
use crate::notices::{Notices, Outbox, OutboxLimits};
use crate::notify::{Courier, NotifySettings, SendWebhook, WebhookRequest, WebhookUrl};
use crate::telemetry::Metrics;
use crate::upstream::Client;
use wheelport_runtime::{Clock, Tasks};

/// Sends over the client of the process.
struct WebhookClient {
    client: Client,
    url: WebhookUrl,
}

impl SendWebhook for WebhookClient {
    fn send(&self, request: WebhookRequest, deadline: Instant) -> BoxFuture<'static, Result<u16, String>> {
        let (client, url) = (self.client.clone(), self.url.clone());
        Box::pin(async move {
            let WebhookRequest { headers, body } = request;
            client.deliver(url.get(), &headers, body, deadline).await.map(|status| status.as_u16())
        })
    }
}

/// A courier for these settings over this client; the error is a sentence.
pub(crate) async fn courier_of(settings: &NotifySettings, client: &Client, clock: Clock) -> Result<Courier, String> {
    let sender = WebhookClient { client: client.clone(), url: settings.url.clone() };
    Courier::new(settings.clone(), Arc::new(sender), clock).await
}

/// Starts the courier where a webhook is configured. No one hears notices without.
pub(super) async fn start(
    settings: &Settings,
    client: &Client,
    clock: &Clock,
    tasks: &Tasks,
    metrics: &Metrics,
) -> Result<Notices, StartError> {
    let Some(settings) = &settings.notify else { return Ok(Notices::default()) };
    let courier = courier_of(settings, client, clock.clone()).await.map_err(StartError::Notify)?;
    let limits = OutboxLimits { waiting: settings.queue, repeat_after: settings.repeat_after };
    let outbox = Outbox::new(limits, clock.clone());
    metrics.register(|registry| outbox.metrics().register(registry));
    let notices = outbox.notices();
    tasks.spawn("deliver notices", courier.run(outbox, tasks.clone()));
    Ok(notices)
}
