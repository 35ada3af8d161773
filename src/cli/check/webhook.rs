//! The step about notices: whether the receiver takes one. It is of the type `test`, so that it wakes no one.

use super::report::Finding;
use crate::app::courier_of;
use crate::notify::NotifySettings;
use crate::upstream::Client;
use wheelport_runtime::Clock;

const STEP: &str = "notices";

pub(super) async fn step(settings: &NotifySettings, client: &Client, clock: &Clock) -> Finding {
    let origin = settings.url.origin();
    let courier = match courier_of(settings, client, clock.clone()).await {
        Ok(courier) => courier,
        Err(reason) => return Finding::fail(STEP, reason, "write a secret into the file that `[notify]` names"),
    };
    match courier.try_out().await {
        Ok(status @ 200..=299) => Finding::ok(STEP, format!("{origin} took a notice of the type `test` ({status})")),
        Ok(status @ 300..=399) => Finding::fail(
            STEP,
            format!("{origin} responded {status}: redirects of notices are not followed"),
            "give the address that it redirects to as `[notify] url`",
        ),
        Ok(status @ (401 | 403)) => Finding::fail(
            STEP,
            format!("{origin} responded {status}"),
            "give the receiver the secret of `[notify] secret_file`, and compare the clocks: the time is signed, too",
        ),
        Ok(status) => Finding::fail(
            STEP,
            format!("{origin} responded {status} to a notice of the type `test`"),
            "correct `[notify] url`, or look into the log of the receiver",
        ),
        Err(reason) => Finding::fail(
            STEP,
            reason,
            "open the way to the receiver from here (it leads through `[upstream] proxy` where one is set), or correct \
             `[notify] url`",
        ),
    }
}
