//! Trusted publishing: a pipeline's ID token becomes a short-lived token of ours, as uv, PDM and the publish action of
//! GitHub ask for it, and where clients find that out (PEP 807).
//!
//! The addresses are per host, so a minted token itself carries the routes and projects that it is good for.

use std::sync::Arc;

use axum::body::Body;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::{Value, json};

use super::address::{self, Address, ExchangeStep};
use super::context::RequestContext;
use super::document::Document;
use super::guard::{Host, UploadPolicy};
use super::headers::NO_STORE;
use super::home::base_url;
use super::problem::Problem;
use super::refusal::Refusal;
use super::representation::Representation;
use super::short_body;
use super::written::Written;
use super::{Response, Site};

/// The longest request to exchange or to give back a token, in bytes.
const LONGEST_REQUEST: usize = 24 << 10;
/// What clients call the protocol.
const PROTOCOL: &str = "Trusted publishing";

/// A response of the exchange.
pub(super) struct ExchangeReply {
    status: StatusCode,
    document: Zeroizing<String>,
}

#[derive(Deserialize)]
struct TokenRequest {
    token: String,
}

impl ExchangeReply {
    fn new(status: StatusCode, document: &Value) -> Self {
        Self { status, document: Zeroizing::new(document.to_string()) }
    }

    pub(super) fn respond(self, context: &RequestContext) -> Result<Response, Problem> {
        let json = HeaderValue::from_static("application/json");
        let representation = Representation::unstored(json, self.document.len());
        let mut response =
            Document::new(representation, Written::of(self.document.to_string())).respond(context, None)?;
        *response.status_mut() = self.status;
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        Ok(response)
    }
}

/// What clients are told before they have a token.
pub(super) fn tell(
    site: &Site,
    context: &RequestContext,
    host: &Host,
    step: ExchangeStep,
) -> Result<ExchangeReply, Problem> {
    let Some(audience) = site.identities.audience() else {
        return Err(Refusal::NotOffered { protocol: PROTOCOL }.into());
    };
    let document = match step {
        ExchangeStep::Audience => json!({ "audience": &*audience }),
        ExchangeStep::Discovery => {
            if !offers(site, context.uri.query().unwrap_or_default()) {
                return Err(Refusal::NotOffered { protocol: "Trusted publishing at that address" }.into());
            }
            let base = base_url(site, context, host);
            json!({
                "audience-endpoint": format!("{base}/_/oidc/audience"),
                "mint-token-endpoint": format!("{base}/_/oidc/mint-token"),
            })
        }
        ExchangeStep::Mint | ExchangeStep::Burn => return Err(Refusal::MethodNotAllowed { allowed: "POST" }.into()),
    };
    Ok(ExchangeReply::new(StatusCode::OK, &document))
}

/// Whether the address in `discover=PATH` is one where identities may publish.
fn offers(site: &Site, query: &str) -> bool {
    let paths = query.split('&').filter_map(|pair| pair.strip_prefix("discover="));
    let [path] = paths.collect::<Vec<_>>()[..] else { return false };
    let Ok(path) = percent_decode_str(path).decode_utf8() else { return false };
    let route = match address::parse(&path, &site.names).map(|parsed| parsed.address) {
        Ok(Address::Home) => site.names.default_route().ok(),
        Ok(Address::Upload { route }) => Some(route),
        _ => None,
    };
    route.is_some_and(|route| site.routes[route.0].upload == UploadPolicy::Identity)
}

/// Exchanges a token, or takes one back.
pub(super) async fn exchange(site: Arc<Site>, step: ExchangeStep, body: Body) -> Result<ExchangeReply, Problem> {
    if !site.identities.has_issuers() {
        return Err(Refusal::NotOffered { protocol: PROTOCOL }.into());
    }
    let token = read(body).await?;
    if step == ExchangeStep::Burn {
        site.identities.give_back(&token).map_err(Refusal::TokenNotTakenBack)?;
        return Ok(ExchangeReply::new(StatusCode::ACCEPTED, &json!({})));
    }
    let (minted, identity) = site.identities.mint(&token).await.map_err(Refusal::TokenNotExchanged)?;
    tracing::info!(identity = %identity.name, "a token was minted");
    let (token, expires) = (minted.token.expose_secret(), minted.expires);
    Ok(ExchangeReply::new(StatusCode::OK, &json!({ "success": true, "token": token, "expires": expires })))
}

async fn read(body: Body) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let malformed = |_| Refusal::BadRequest { fault: "it is a JSON object with the key 'token'" };
    let body = short_body::whole(body, LONGEST_REQUEST).await?;
    let request: TokenRequest = serde_json::from_slice(&body).map_err(malformed)?;
    Ok(Zeroizing::new(request.token.into_bytes()))
}
