//! The one task that delivers notices: takes the oldest, tries until the receiver has it, and goes on to the next.
//!
//! At the stop of the process, what waits gets one attempt each, in the little time there is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use wheelport_runtime::{Clock, Tasks, blocking, sabotaged};

use super::message::{NoticeMessage, WebhookRequest};
use super::schedule::{DeliveryStep, step};
use super::secret::WebhookSecrets;
use super::settings::NotifySettings;
use crate::notices::{Notice, NoticeOutcome, Outbox, WaitingNotice};

/// How long the stop of the process may be held up.
const DRAIN: Duration = Duration::from_secs(3);

/// Sends a request to the receiver, once, and says with which status it responds. The error is a sentence for the log
/// that names no more of the address than its origin.
pub trait SendWebhook: Send + Sync {
    fn send(&self, request: WebhookRequest, deadline: Instant) -> BoxFuture<'static, Result<u16, String>>;
}

/// Delivers notices.
pub struct Courier {
    settings: NotifySettings,
    sender: Arc<dyn SendWebhook>,
    /// Those that were read last.
    secrets: WebhookSecrets,
    clock: Clock,
}

impl Courier {
    /// With the secrets that there are now; the error is a sentence.
    pub async fn new(settings: NotifySettings, sender: Arc<dyn SendWebhook>, clock: Clock) -> Result<Self, String> {
        let secrets = read_secrets(&settings).await?;
        Ok(Self { settings, sender, secrets, clock })
    }

    /// Sends a notice of its own, once, for an operator who tries whether it arrives. Returns the status.
    pub async fn try_out(mut self) -> Result<u16, String> {
        let message = NoticeMessage::new(message_id(), &Notice::Test, self.clock.now());
        self.attempt(&message).await
    }

    /// Delivers until the process stops, and what waits then as far as that is quick.
    pub async fn run(mut self, outbox: Arc<Outbox>, tasks: Tasks) {
        let cut_off = async {
            tasks.stopping().await;
            sleep(DRAIN).await;
        };
        tokio::select! {
            () = self.deliver_all(&outbox, &tasks) => {}
            () = cut_off => {}
        }
        while let Some(WaitingNotice { notice, .. }) = outbox.first() {
            tracing::warn!(r#type = notice.kind(), "a notice is lost, because the process ends");
            outbox.settle(NoticeOutcome::Lost);
        }
    }

    async fn deliver_all(&mut self, outbox: &Outbox, tasks: &Tasks) {
        loop {
            let waiting = tokio::select! {
                biased;
                () = tasks.stopping() => match outbox.first() {
                    Some(waiting) if !sabotaged("notice-drain") => waiting,
                    _ => return,
                },
                waiting = outbox.next() => waiting,
            };
            let outcome = self.deliver(&waiting, outbox, tasks).await;
            outbox.settle(outcome);
        }
    }

    /// Tries until there is an outcome.
    async fn deliver(&mut self, waiting: &WaitingNotice, outbox: &Outbox, tasks: &Tasks) -> NoticeOutcome {
        let kind = waiting.notice.kind();
        let message = NoticeMessage::new(message_id(), &waiting.notice, waiting.time);
        let mut attempts = 0_u32;
        loop {
            let sent = self.attempt(&message).await;
            attempts = attempts.saturating_add(1);
            let (age, status) = (waiting.told.elapsed(), sent.as_ref().ok().copied());
            let next = step(status, attempts, age, self.settings.retry_for, fastrand::f64());
            if next == DeliveryStep::Delivered {
                return NoticeOutcome::Delivered;
            }
            outbox.metrics().failures.inc();
            let reason = sent.map_or_else(|reason| reason, |status| format!("the receiver responded {status}"));
            // One line tells the beginning of a row of failures, one its end.
            match next {
                DeliveryStep::Again(pause) => {
                    if attempts == 1 {
                        tracing::warn!(r#type = kind, reason, "a notice could not be delivered; it is tried again");
                    } else {
                        tracing::debug!(r#type = kind, reason, attempts, "a notice could not be delivered again");
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = tasks.stopping() => return NoticeOutcome::Lost,
                    }
                }
                DeliveryStep::Expired => {
                    tracing::error!(r#type = kind, reason, attempts, "a notice was never delivered and is given up");
                    return NoticeOutcome::Expired;
                }
                DeliveryStep::Refused | DeliveryStep::Delivered => {
                    tracing::error!(r#type = kind, reason, "the receiver refuses a notice; it is given up");
                    return NoticeOutcome::Refused;
                }
            }
        }
    }

    async fn attempt(&mut self, message: &NoticeMessage) -> Result<u16, String> {
        self.read_secrets_again().await;
        let limit = if sabotaged("notice-deadline") { Duration::from_hours(1) } else { self.settings.timeout };
        let request = message.request(&self.secrets, self.clock.now());
        self.sender.send(request, Instant::now() + limit).await
    }

    /// Secrets that cannot be read leave those before them in use: the file may be in the middle of a change.
    async fn read_secrets_again(&mut self) {
        if sabotaged("notice-rotation") {
            return;
        }
        match read_secrets(&self.settings).await {
            Ok(secrets) => self.secrets = secrets,
            Err(reason) => tracing::warn!(reason, "the secrets that sign notices stay as they were"),
        }
    }
}

async fn read_secrets(settings: &NotifySettings) -> Result<WebhookSecrets, String> {
    let settings = settings.clone();
    blocking(move || settings.secrets()).await.unwrap_or_else(|panicked| Err(panicked.to_string()))
}

/// Not to be guessed is not needed: it only tells deliveries apart.
fn message_id() -> u128 {
    fastrand::u128(..)
}
