//! A notice as it is sent: a JSON document, and the three headers by which a receiver knows it. Pure.
//!
//! The headers are those of Standard Webhooks, so that its libraries can verify them: the signature is over the id, the
//! time and the body, joined by dots.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use wheelport_runtime::sabotaged;

use super::secret::WebhookSecrets;
use crate::notices::{Notice, NoticeFacts};

/// A request to the receiver.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    pub headers: [(&'static str, String); 3],
    pub body: Bytes,
}

/// A notice with its document, which is the same in every attempt.
pub(super) struct NoticeMessage {
    /// Tells deliveries apart: a receiver that has seen it has the notice.
    id: String,
    body: Bytes,
}

#[derive(Serialize)]
struct NoticeDocument<'a> {
    r#type: &'a str,
    /// When it was noticed.
    time: String,
    route: Option<&'a str>,
    project: Option<&'a str>,
    version: Option<&'a str>,
    file: Option<&'a str>,
    detail: String,
    request_id: Option<&'a str>,
    fingerprint: String,
}

impl NoticeMessage {
    pub(super) fn new(id: u128, notice: &Notice, time: SystemTime) -> Self {
        let NoticeFacts { route, project, version, file, request } = notice.facts();
        let document = NoticeDocument {
            r#type: notice.kind(),
            time: humantime::format_rfc3339_seconds(time).to_string(),
            route,
            project,
            version: version.as_deref(),
            file,
            detail: notice.detail(),
            request_id: request,
            fingerprint: notice.fingerprint(),
        };
        let body = serde_json::to_vec(&document).expect("text is always JSON");
        Self { id: format!("msg_{id:032x}"), body: body.into() }
    }

    /// The request of an attempt at this time.
    pub(super) fn request(&self, secrets: &WebhookSecrets, now: SystemTime) -> WebhookRequest {
        let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let signed_time: &[u8] = if sabotaged("notice-time") { b"0" } else { timestamp.as_bytes() };
        let signature = secrets.sign(&[self.id.as_bytes(), b".", signed_time, b".", &self.body]);
        let headers =
            [("webhook-id", self.id.clone()), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
        WebhookRequest { headers, body: self.body.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_signature_is_that_of_the_published_example() {
        // The example in the documentation of Standard Webhooks.
        let secrets = WebhookSecrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let body = br#"{"test": 2432232314}"#;
        let signature = secrets.sign(&[b"msg_p5jXN8AQM9LWM0D4loKWxJek", b".", b"1614265330", b".", body]);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_document_says_all_that_is_known_and_an_attempt_its_own_time() {
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let message = NoticeMessage::new(7, &Notice::RouteClosed { route: "pypi".into() }, time);
        let document: Value = serde_json::from_slice(&message.body).expect("JSON");
        let fingerprint = Notice::RouteClosed { route: "pypi".into() }.fingerprint();
        let expected = json!({
            "type": "route-closed",
            "time": "2023-11-14T22:13:20Z",
            "route": "pypi",
            "project": null,
            "version": null,
            "file": null,
            "detail": Notice::RouteClosed { route: "pypi".into() }.detail(),
            "request_id": null,
            "fingerprint": fingerprint,
        });
        assert_eq!(document, expected);
        let secrets = WebhookSecrets::parse(&"x".repeat(24)).expect("a secret");
        let [first, second] = [0, 60].map(|later| message.request(&secrets, time + Duration::from_secs(later)));
        assert_eq!(first.headers[0], second.headers[0], "the id is that of the notice");
        assert_eq!((first.headers[1].1.as_str(), second.headers[1].1.as_str()), ("1700000000", "1700000060"));
        assert_ne!(first.headers[2], second.headers[2]);
    }
}
