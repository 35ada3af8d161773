//! What upstream says in headers and in messages of refusals, and the settings of requests to it. Files of `upstream` and
//! `redact` are compiled into this crate.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

use std::time::Duration;

use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::Instant;
use url::Url;

#[path = "../../src/upstream/address.rs"]
mod address;
#[path = "../../src/redact.rs"]
mod redact;
#[path = "../../src/upstream/retry.rs"]
mod retry;
#[path = "../../src/upstream/settings.rs"]
mod settings;

pub(crate) use settings::ClientSettings;

use address::{Endpoint, Hop};

use crate::split;

/// What `retry` names of the errors of `upstream`.
mod error {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Unavailability {
        Broken,
        ServerError,
        Throttled,
        Timeout,
    }
}

/// Lines for `Location`, `Retry-After` and `Date`, then the message of a refusal.
pub fn replies(bytes: &[u8]) {
    let (location, rest) = split(bytes, b'\n');
    let (wait, rest) = split(rest, b'\n');
    let (date, message) = split(rest, b'\n');
    redirect(location);
    let values = [(RETRY_AFTER, wait), (DATE, date)];
    let values = values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value).ok()?)));
    if let Some(wait) = retry::retry_after(&values.collect::<HeaderMap>()) {
        assert!(wait <= Duration::from_hours(24));
        let _ = Instant::now() + wait;
    }
    let message = String::from_utf8_lossy(message);
    for limit in [1, 80, 1000] {
        let shown = [redact::hide_secrets(&message, limit), redact::hide_infrastructure(&message, limit)];
        for shown in &shown {
            assert!(shown.chars().count() <= limit + 1 && !shown.contains(char::is_control), "{shown:?}");
        }
    }
    // A token stays hidden whatever stands around it, as long as it is a word of its own.
    let token = "eyJ2ZXIiOjEsImlzdSI6MTY5LCJlbmMiOiJBMTI4R0NNIiwidGFnIjoi";
    let shown = redact::hide_secrets(&format!("{message} {token} {message}"), usize::MAX);
    assert!(!shown.contains(token), "{shown:?}");
}

/// Where a redirect leads, the token goes to the endpoint only, and nothing is sent in the clear after https.
fn redirect(location: &[u8]) {
    let Ok(location) = HeaderValue::from_bytes(location) else { return };
    let base =
        Url::parse("https://acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com/pypi/r/").expect("a URL");
    let endpoint = Endpoint::new(base.clone()).expect("an endpoint");
    let allowed = ClientSettings::default().redirect_hosts;
    let start = Hop { url: base.join("simple/a-b/1.0/a_b-1.0.tar.gz").expect("a URL"), with_token: true };
    let Ok(hop) = start.redirected(Some(&location), &endpoint, &allowed) else { return };
    assert_eq!(hop.with_token, hop.url.origin() == base.origin(), "{}", hop.url);
    let host = hop.url.host_str().expect("a host");
    assert!(
        hop.url.scheme() == "https" && hop.url.username().is_empty() && hop.url.password().is_none(),
        "{}",
        hop.url
    );
    assert!(host.ends_with(".amazonaws.com") || host.ends_with(".on.aws"), "{}", hop.url);
    // Once dropped, the token stays dropped.
    let away = Hop { with_token: false, ..hop };
    assert!(away.redirected(Some(&location), &endpoint, &allowed).is_ok_and(|hop| !hop.with_token));
}
