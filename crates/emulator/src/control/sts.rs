//! A stand-in for the Security Token Service: the query protocol with responses in XML.
//!
//! It hands out sessions that the control plane accepts until they expire by the emulator's clock. Roles need no
//! trust policy; conditions come from [`RoleSettings`](super::RoleSettings). Knows nothing of packages.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::authentication::Authenticator;
use super::call::{absent, mismatch};
use super::fault::CallFault;
use super::identity::{Identities, NewSession, authorize, unique_id};
use crate::calendar;
use crate::shared::request_id;
use crate::sigv4::query_pairs;
use crate::store::{Principal, is_account};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// A request to STS, with the context to respond to it.
pub(super) struct StsRequest<'a> {
    pub identities: &'a Identities,
    /// Seconds since the epoch.
    pub now: u64,
    pub parts: &'a Parts,
    /// The body: a form, or empty if the parameters are in the query.
    pub body: &'a [u8],
}

pub(super) async fn respond(request: &StsRequest<'_>) -> Response<String> {
    let request_id = request_id();
    let parameters = StsParameters::read(request.parts, request.body);
    let action = parameters.get("Action").unwrap_or_default().to_owned();
    let (status, text) = match perform(request, &parameters, &action).await {
        Ok(result) => (
            StatusCode::OK,
            format!(
                "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
                 <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
            ),
        ),
        Err(fault) => (fault.status, error_document(&fault, &request_id)),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

async fn perform(request: &StsRequest<'_>, parameters: &StsParameters, action: &str) -> Result<String, CallFault> {
    if action == "AssumeRoleWithWebIdentity" {
        return assume_with_web_identity(request, parameters).await;
    }
    let authenticator =
        Authenticator { identities: request.identities, service: "sts", region: None, now: request.now };
    let caller = authenticator.authenticate(request.parts, request.body)?;
    match action {
        "GetCallerIdentity" => Ok(identity(&caller)),
        "GetSessionToken" => session_token(request, parameters, caller).await,
        "AssumeRole" => assume(request, parameters, &caller).await,
        other => {
            let message = format!("Could not find operation {other} for version 2011-06-15");
            Err(CallFault::new(StatusCode::BAD_REQUEST, "InvalidAction", message))
        }
    }
}

fn identity(principal: &Principal) -> String {
    element("Arn", &principal.arn)
        + &element("UserId", &unique_id(&principal.arn))
        + &element("Account", &principal.account)
}

async fn session_token(
    request: &StsRequest<'_>,
    parameters: &StsParameters,
    caller: Principal,
) -> Result<String, CallFault> {
    if caller.expires.is_some() {
        return Err(CallFault::new(
            StatusCode::FORBIDDEN,
            "AccessDeniedException",
            "Cannot call GetSessionToken with session credentials",
        ));
    }
    let life = parameters.duration(43_200, 129_600)?;
    let of = NewSession { account: caller.account, arn: caller.arn, allowed: caller.allowed };
    let session = request.identities.open_session(of, request.now + life).await?;
    Ok(credentials(&session))
}

async fn assume(request: &StsRequest<'_>, parameters: &StsParameters, caller: &Principal) -> Result<String, CallFault> {
    let role = parameters.role()?;
    let session_name = parameters.session_name()?;
    let life = parameters.duration(3600, 43_200)?;
    let action = "sts:AssumeRole";
    authorize(caller, action, role.arn)?;
    if let Some(settings) = request.identities.role(role.arn) {
        let external_id = settings.external_id.as_deref();
        let known_caller = external_id.is_none_or(|id| parameters.get("ExternalId") == Some(id));
        let code = parameters.get("TokenCode").unwrap_or_default();
        let code_given = parameters.get("SerialNumber").is_some()
            && code.len() == 6
            && code.bytes().all(|byte| byte.is_ascii_digit());
        if !known_caller || (settings.mfa_required && !code_given) {
            let message =
                format!("User: {} is not authorized to perform: {action} on resource: {}", caller.arn, role.arn);
            return Err(CallFault::new(StatusCode::FORBIDDEN, "AccessDeniedException", message));
        }
    }
    let of = role.session(session_name, request.identities);
    let session = request.identities.open_session(of, request.now + life).await?;
    Ok(credentials(&session) + &assumed_user(&session) + &element("PackedPolicySize", "0"))
}

async fn assume_with_web_identity(request: &StsRequest<'_>, parameters: &StsParameters) -> Result<String, CallFault> {
    let role = parameters.role()?;
    let session_name = parameters.session_name()?;
    let life = parameters.duration(3600, 43_200)?;
    let token = parameters.required("WebIdentityToken")?;
    let refuse = |message: &str| CallFault::new(StatusCode::BAD_REQUEST, "InvalidIdentityToken", message);
    let claims = web_identity_claims(token).ok_or_else(|| {
        refuse("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
    })?;
    if let Some(known) = request.identities.web_identity_token()
        && !bool::from(known.expose_secret().trim().as_bytes().ct_eq(token.as_bytes()))
    {
        return Err(refuse("Couldn't retrieve verification key from your identity provider"));
    }
    if let Some(end) = claims.get("exp").and_then(Value::as_u64).filter(|end| *end <= request.now) {
        let message =
            format!("Token expired: current date/time {} must be before the expiration date/time {end}", request.now);
        return Err(CallFault::new(StatusCode::BAD_REQUEST, "ExpiredTokenException", message));
    }
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let of = role.session(session_name, request.identities);
    let session = request.identities.open_session(of, request.now + life).await?;
    Ok(credentials(&session)
        + &assumed_user(&session)
        + &element("SubjectFromWebIdentityToken", claim("sub"))
        + &element("Provider", claim("iss"))
        + &element("Audience", claim("aud")))
}

/// The claims of a compact signed token. The signature is not checked, because there is no identity provider.
fn web_identity_claims(token: &str) -> Option<Value> {
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, signature] = parts[..] else { return None };
    let object = |part: &str| -> Option<Value> {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice(&bytes).ok().filter(Value::is_object)
    };
    object(head)?;
    object(claims).filter(|_| !signature.is_empty())
}

fn credentials(session: &Principal) -> String {
    let token = session.session_token.as_ref().map(ExposeSecret::expose_secret);
    format!(
        "<Credentials>{}{}{}{}</Credentials>",
        element("AccessKeyId", &session.access_key_id),
        element("SecretAccessKey", session.secret_access_key.expose_secret()),
        element("SessionToken", token.unwrap_or_default()),
        element("Expiration", &calendar::iso(session.expires.unwrap_or_default())),
    )
}

fn assumed_user(principal: &Principal) -> String {
    let id = element("AssumedRoleId", &unique_id(&principal.arn));
    format!("<AssumedRoleUser>{id}{}</AssumedRoleUser>", element("Arn", &principal.arn))
}

fn error_document(fault: &CallFault, request_id: &str) -> String {
    // The same errors have other names in this protocol.
    let code = match fault.code {
        "AccessDeniedException" => "AccessDenied",
        "ExpiredTokenException" if fault.status == StatusCode::FORBIDDEN => "ExpiredToken",
        "IncompleteSignatureException" => "IncompleteSignature",
        "InvalidSignatureException" => "SignatureDoesNotMatch",
        "MissingAuthenticationTokenException" => "MissingAuthenticationToken",
        "UnrecognizedClientException" => "InvalidClientTokenId",
        "ValidationException" => "ValidationError",
        other => other,
    };
    let kind = if fault.status.is_server_error() { "Receiver" } else { "Sender" };
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{kind}</Type>{}{}</Error>\
         <RequestId>{request_id}</RequestId></ErrorResponse>",
        element("Code", code),
        element("Message", &fault.message)
    )
}

fn element(name: &str, text: &str) -> String {
    let mut out = format!("<{name}>");
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    let _ = write!(out, "</{name}>");
    out
}

/// A role as a caller names it.
struct AssumableRole<'a> {
    arn: &'a str,
    account: &'a str,
    name: &'a str,
}

impl AssumableRole<'_> {
    /// The principal that a session of this role acts as.
    fn session(&self, name: &str, identities: &Identities) -> NewSession {
        NewSession {
            account: self.account.to_owned(),
            arn: format!("arn:aws:sts::{}:assumed-role/{}/{name}", self.account, self.name),
            allowed: identities.allowed_to(self.arn),
        }
    }
}

/// The parameters of a request, from its query and its form.
struct StsParameters(Vec<(String, String)>);

impl StsParameters {
    fn read(parts: &Parts, body: &[u8]) -> Self {
        let form = url::form_urlencoded::parse(body);
        let form = form.map(|(name, value)| (name.into_owned(), value.into_owned()));
        Self(query_pairs(parts).into_iter().chain(form).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, CallFault> {
        self.get(name).ok_or_else(|| absent(name))
    }

    fn role(&self) -> Result<AssumableRole<'_>, CallFault> {
        let arn = self.required("RoleArn")?;
        let parsed = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":role/"));
        let parsed = parsed.filter(|(account, name)| is_account(account) && !name.is_empty());
        let (account, path) = parsed.ok_or_else(|| CallFault::validation(format!("{arn} is invalid")))?;
        let name = path.rsplit('/').next().unwrap_or(path);
        Ok(AssumableRole { arn, account, name })
    }

    fn session_name(&self) -> Result<&str, CallFault> {
        let name = self.required("RoleSessionName")?;
        let valid = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        if (2..=64).contains(&name.len()) && name.chars().all(valid) {
            return Ok(name);
        }
        Err(mismatch(name, "roleSessionName", r"[\w+=,.@-]*"))
    }

    fn duration(&self, default: u64, longest: u64) -> Result<u64, CallFault> {
        let Some(text) = self.get("DurationSeconds") else { return Ok(default) };
        let seconds = text.parse().ok().filter(|seconds| (900..=longest).contains(seconds));
        seconds.ok_or_else(|| {
            CallFault::validation(format!(
                "1 validation error detected: Value '{text}' at 'durationSeconds' failed to satisfy constraint: \
                 Member must be between 900 and {longest}"
            ))
        })
    }
}
