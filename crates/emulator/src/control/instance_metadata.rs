//! Stand-ins for the two places where a workload on AWS finds its credentials: the container endpoint and the instance
//! metadata service (version 2 only, so a client must fetch a session token first).
//!
//! Both hand out a session of one role, [`ROLE`]. They exercise the complete credential chain of an SDK: set
//! `AWS_CONTAINER_CREDENTIALS_FULL_URI` to `…/container-credentials`, or `AWS_EC2_METADATA_SERVICE_ENDPOINT` to the
//! control listener's address.

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::identity::{DEFAULT_ACCOUNT, Identities, NewSession};
use crate::calendar;
use crate::store::{Principal, StoreError};

/// The name of the role whose sessions are handed out.
pub(super) const ROLE: &str = "workload";
/// The lifetime of a session, in seconds.
const LIFETIME: u64 = 6 * 3600;
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";
/// The session token that a PUT returns and later requests must carry. It guards against forwarded requests only.
const SESSION: &str = "wheelport-emulator-metadata-session";
const SESSION_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// Whether this path belongs to these stand-ins.
pub(super) fn serves(path: &str) -> bool {
    path == "/container-credentials" || path.starts_with("/latest/")
}

/// The response to a request; `now` is in seconds since the epoch.
pub(super) async fn respond(
    identities: &Identities,
    region: &str,
    now: u64,
    parts: &http::request::Parts,
) -> Response<String> {
    let path = parts.uri.path();
    if path == "/container-credentials" {
        return credentials(identities, now).await;
    }
    let header = |name: &str| parts.headers.get(name).map(HeaderValue::as_bytes);
    match (&parts.method, path) {
        (&Method::PUT, "/latest/api/token") => match header(TTL_HEADER) {
            Some(ttl) => {
                let mut response = text(StatusCode::OK, SESSION.to_owned());
                if let Ok(ttl) = HeaderValue::from_bytes(ttl) {
                    response.headers_mut().insert(HeaderName::from_static(TTL_HEADER), ttl);
                }
                response
            }
            None => text(StatusCode::BAD_REQUEST, String::new()),
        },
        (&Method::GET, _) if header(SESSION_HEADER) != Some(SESSION.as_bytes()) => {
            text(StatusCode::UNAUTHORIZED, String::new())
        }
        (&Method::GET, CREDENTIALS) => text(StatusCode::OK, ROLE.to_owned()),
        (&Method::GET, "/latest/meta-data/placement/region") => text(StatusCode::OK, region.to_owned()),
        (&Method::GET, path) if path.strip_prefix(CREDENTIALS) == Some(ROLE) => credentials(identities, now).await,
        _ => text(StatusCode::NOT_FOUND, String::new()),
    }
}

async fn credentials(identities: &Identities, now: u64) -> Response<String> {
    let of = NewSession {
        account: DEFAULT_ACCOUNT.to_owned(),
        arn: format!("arn:aws:sts::{DEFAULT_ACCOUNT}:assumed-role/{ROLE}/i-00000000000000000"),
        allowed: identities.allowed_to(&format!("arn:aws:iam::{DEFAULT_ACCOUNT}:role/{ROLE}")),
    };
    match identities.open_session(of, now + LIFETIME).await {
        Ok(session) => document(&session, now),
        Err(error) => failed(&error),
    }
}

fn document(session: &Principal, now: u64) -> Response<String> {
    let token = session.session_token.as_ref().map(secrecy::ExposeSecret::expose_secret);
    let document = json!({
        "Code": "Success",
        "LastUpdated": calendar::iso(now),
        "Type": "AWS-HMAC",
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key.expose_secret(),
        "Token": token,
        "Expiration": calendar::iso(session.expires.unwrap_or(now)),
        "RoleArn": format!("arn:aws:iam::{DEFAULT_ACCOUNT}:role/{ROLE}"),
    });
    let mut response = text(StatusCode::OK, document.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn failed(error: &StoreError) -> Response<String> {
    tracing::error!(%error, "the emulator's store failed");
    text(StatusCode::INTERNAL_SERVER_ERROR, String::new())
}

fn text(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
