//! The emulator's own endpoint for tests: switches, counters, clock. Only clients on loopback may use it.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use bytes::Bytes;
use http::header::{HeaderMap, ORIGIN};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};

use super::plane::DataPlane;
use super::response;
use wheelport_runtime::sabotaged;

const BODY_LIMIT: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockShift {
    shift_seconds: i64,
}

/// The response to a request below `/_emulator/`.
pub(super) async fn respond(plane: &DataPlane, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
    if !peer.is_some_and(|address| address.ip().to_canonical().is_loopback()) {
        return response::not_found("Not found");
    }
    if comes_from_a_web_page(request.headers()) && !sabotaged("emulator-web-page") {
        return response::message(StatusCode::FORBIDDEN, "Web pages may not use this");
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await.map(http_body_util::Collected::to_bytes) else {
        return response::message(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
    };
    let shared = &plane.shared;
    match (parts.method, parts.uri.path()) {
        (Method::GET, "/_emulator/oddities") => shown(&*shared.oddities.get()),
        (Method::POST, "/_emulator/oddities") => set_oddities(plane, &body),
        (Method::GET, "/_emulator/stats") => shown(&shared.stats.snapshot()),
        (Method::DELETE, "/_emulator/stats") => {
            shared.stats.reset();
            shown(&shared.stats.snapshot())
        }
        (Method::POST, "/_emulator/clock") => match serde_json::from_slice::<ClockShift>(&body) {
            Ok(shift) => {
                shared.clock.shift(shift.shift_seconds);
                shown(&serde_json::json!({ "unix_seconds": shared.clock.unix_seconds() }))
            }
            Err(error) => response::message(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (Method::DELETE, "/_emulator/tokens") => match shared.store.revoke_tokens().await {
            Ok(()) => shown(&serde_json::json!({})),
            Err(error) => response::store_error(&error),
        },
        _ => response::not_found("Not found"),
    }
}

/// Browsers say so themselves, and no page can keep them from it. A page may be this machine's own by DNS rebinding, so
/// only what a person typed passes.
fn comes_from_a_web_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.get("sec-fetch-site").is_some_and(|site| site != "none")
}

fn set_oddities(plane: &DataPlane, body: &Bytes) -> Response {
    let board = &plane.shared.oddities;
    let changed = serde_json::from_slice(body).map_err(|error| error.to_string()).and_then(|over| {
        board.get().merged(over).and_then(|merged| board.set(merged)).map_err(|error| error.to_string())
    });
    match changed {
        Ok(()) => shown(&*board.get()),
        Err(text) => response::message(StatusCode::BAD_REQUEST, &text),
    }
}

fn shown(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("counters and switches have only text keys");
    response::with_type(StatusCode::OK, "application/json", body)
}
