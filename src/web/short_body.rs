//! The body of a request that is short and comes at once: a question, a token. One that does not come is said to be the
//! client's own, in place of an upstream that did not respond. Uploads have limits of their own.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use super::refusal::Refusal;
use wheelport_runtime::sabotaged;

/// How long it may take, well within the deadline of the request.
const PATIENCE: Duration = Duration::from_secs(8);

/// All of it, up to `longest` bytes.
pub(super) async fn whole(body: Body, longest: usize) -> Result<Bytes, Refusal> {
    let patience = if sabotaged("short-body") { Duration::MAX } else { PATIENCE };
    match timeout(patience, Limited::new(body, longest).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(_)) => Err(Refusal::BadRequest { fault: "its body is too long or broke off" }),
        Err(_) => Err(Refusal::BadRequest { fault: "its body did not come in time" }),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_the_clients_fault() {
        let begun = stream::iter([Ok::<_, Infallible>("{")]);
        let stalled =
            timeout(Duration::from_secs(10), whole(Body::from_stream(begun.chain(stream::pending())), 10)).await;
        assert!(matches!(stalled, Ok(Err(Refusal::BadRequest { fault })) if fault.contains("in time")), "{stalled:?}");
        assert!(matches!(whole(Body::from("12345678901"), 10).await, Err(Refusal::BadRequest { .. })));
        assert_eq!(whole(Body::from("1234567890"), 10).await.ok().as_deref(), Some(&b"1234567890"[..]));
    }
}
