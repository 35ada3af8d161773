//! Who may call the emulated services: access keys, the principals behind them, and the roles that can be assumed.
//!
//! Users come from the settings and stay in memory; the store keeps sessions of roles until they expire. Without
//! settings there is one administrator ([`DEFAULT_ACCESS_KEY`]) and every role may be assumed; settings add principals
//! and roles with fewer rights, so that a test can provoke each denial.

use std::collections::{BTreeSet, HashMap};

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq as _;

use super::fault::CallFault;
use crate::access::AccessDecision;
use crate::store::{AllowedActions, Principal, Store, StoreError};

/// The access key of the administrator every emulator knows.
pub const DEFAULT_ACCESS_KEY: &str = "AKIAEMULATOR00000000";
/// The secret key of that administrator, which protects nothing.
pub const DEFAULT_SECRET_KEY: &str = "wheelport-emulator-secret-key-0000000000";
/// The account the administrator belongs to.
pub const DEFAULT_ACCOUNT: &str = "111122223333";

/// Principals and roles beyond the defaults; the content of an identity file:
///
/// ```toml
/// [[principals]]
/// access_key = "AKIAREADER0000000000"
/// secret_key = "not-a-secret"
/// user = "reader"
/// actions = ["codeartifact:GetAuthorizationToken", "sts:GetServiceBearerToken"]
///
/// [[roles]]
/// arn = "arn:aws:iam::111122223333:role/partner"
/// external_id = "ticket-17"
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentitySettings {
    /// Users with an access key of their own.
    pub principals: Vec<PrincipalSettings>,
    /// Roles with conditions or fewer rights. Any principal may assume a role that is not
    /// named here, and the role may do everything.
    pub roles: Vec<RoleSettings>,
    /// When set, the only web identity token that is accepted; otherwise every well-formed one is.
    #[serde(deserialize_with = "some_secret")]
    pub web_identity_token: Option<SecretString>,
}

/// A user with an access key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalSettings {
    /// The id of the access key.
    pub access_key: String,
    /// The secret access key.
    #[serde(deserialize_with = "secret")]
    pub secret_key: SecretString,
    /// The account number: twelve digits.
    #[serde(default = "default_account")]
    pub account: String,
    /// The user's name in its ARN.
    pub user: String,
    /// The allowed actions, such as `codeartifact:ListPackages`; a final `*` matches any rest. Absent: all.
    pub actions: Option<BTreeSet<String>>,
}

/// A role that principals may assume.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// The ARN: `arn:aws:iam::ACCOUNT:role/NAME`.
    pub arn: String,
    /// The external id a caller must name.
    pub external_id: Option<String>,
    /// Whether a caller must name an MFA device and its code.
    #[serde(default)]
    pub mfa_required: bool,
    /// The allowed actions, as for principals.
    pub actions: Option<BTreeSet<String>>,
}

fn default_account() -> String {
    DEFAULT_ACCOUNT.to_owned()
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

fn some_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    secret(deserializer).map(Some)
}

fn allowed(actions: Option<&BTreeSet<String>>) -> AllowedActions {
    actions.map_or(AllowedActions::All, |actions| AllowedActions::Only(actions.clone()))
}

/// Refuses an action that the principal's own rights do not allow.
pub(super) fn authorize(principal: &Principal, action: &str, resource: &str) -> Result<(), CallFault> {
    if principal.allowed.allows(action) {
        return Ok(());
    }
    let refusal = AccessDecision::NotInIdentityPolicy.refusal(&principal.arn, action, resource);
    Err(CallFault::denied(refusal.unwrap_or_default()))
}

/// The principal that a new session acts as.
pub(super) struct NewSession {
    pub account: String,
    /// `arn:aws:sts::…:assumed-role/…/…`
    pub arn: String,
    pub allowed: AllowedActions,
}

/// The known keys and roles.
pub(super) struct Identities {
    users: HashMap<String, Principal>,
    store: Store,
    settings: IdentitySettings,
}

impl Identities {
    /// The default administrator, the principals of the settings, and the sessions in the store.
    pub(super) fn new(settings: IdentitySettings, store: Store) -> Self {
        let administrator = PrincipalSettings {
            access_key: DEFAULT_ACCESS_KEY.to_owned(),
            secret_key: DEFAULT_SECRET_KEY.into(),
            account: default_account(),
            user: "administrator".to_owned(),
            actions: None,
        };
        let users = std::iter::once(&administrator).chain(&settings.principals);
        let users = users.map(|user| (user.access_key.clone(), principal(user))).collect();
        Self { users, store, settings }
    }

    /// The principal with this access key, if the session token matches and the session has not expired.
    pub(super) fn find(&self, access_key: &str, session_token: Option<&str>, now: u64) -> Result<Principal, CallFault> {
        let unknown = || {
            CallFault::new(
                StatusCode::FORBIDDEN,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        };
        let known = self.users.get(access_key).cloned().or_else(|| self.store.principal(access_key));
        let principal = known.ok_or_else(unknown)?;
        let fits = match (&principal.session_token, session_token) {
            (None, None) => true,
            (Some(known), Some(given)) => known.expose_secret().as_bytes().ct_eq(given.as_bytes()).into(),
            _ => false,
        };
        if !fits {
            return Err(unknown());
        }
        if principal.expires.is_some_and(|expires| expires <= now) {
            return Err(CallFault::new(
                StatusCode::FORBIDDEN,
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ));
        }
        Ok(principal)
    }

    /// The settings of a role, if it has any.
    pub(super) fn role(&self, arn: &str) -> Option<&RoleSettings> {
        self.settings.roles.iter().find(|role| role.arn == arn)
    }

    /// The only web identity token accepted, if one is set.
    pub(super) fn web_identity_token(&self) -> Option<&SecretString> {
        self.settings.web_identity_token.as_ref()
    }

    /// What a session of this role may do.
    pub(super) fn allowed_to(&self, role: &str) -> AllowedActions {
        allowed(self.role(role).and_then(|role| role.actions.as_ref()))
    }

    /// Creates keys that work until `expires`, in seconds since the epoch.
    pub(super) async fn open_session(&self, of: NewSession, expires: u64) -> Result<Principal, StoreError> {
        let session = Principal {
            access_key_id: format!("ASIA{}", random_text(16, true)),
            secret_access_key: random_text(40, false).into(),
            session_token: Some(random_text(356, false).into()),
            expires: Some(expires),
            account: of.account,
            arn: of.arn,
            allowed: of.allowed,
        };
        self.store.put_principal(session.clone()).await?;
        Ok(session)
    }
}

fn principal(user: &PrincipalSettings) -> Principal {
    Principal {
        access_key_id: user.access_key.clone(),
        secret_access_key: user.secret_key.clone(),
        session_token: None,
        expires: None,
        account: user.account.clone(),
        arn: format!("arn:aws:iam::{}:user/{}", user.account, user.user),
        allowed: allowed(user.actions.as_ref()),
    }
}

/// The unique id that IAM would give to a user or to the role of a session: stable, derived from the ARN.
pub(super) fn unique_id(arn: &str) -> String {
    let digest = |text: &str| wheelport_index::Sha256::of(text.as_bytes()).to_string().to_uppercase();
    match arn.split_once(":assumed-role/").and_then(|(_, rest)| rest.split_once('/')) {
        Some((role, session)) => format!("AROA{}:{session}", &digest(role)[..17]),
        None => format!("AIDA{}", &digest(arn)[..17]),
    }
}

fn random_text(length: usize, capitals: bool) -> String {
    let draw = |_| if capitals { fastrand::uppercase() } else { fastrand::alphanumeric() };
    (0..length).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_runtime::Clock;

    async fn identities(settings: &str) -> (tempfile::TempDir, Identities) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().to_owned(), Clock::system()).await.expect("a new store");
        (dir, Identities::new(serde_json::from_str(settings).expect("valid settings"), store))
    }

    #[tokio::test]
    async fn session_keys_need_their_token_and_end() {
        let (_dir, identities) = identities("{}").await;
        let of = NewSession {
            account: DEFAULT_ACCOUNT.to_owned(),
            arn: "arn:aws:sts::111122223333:assumed-role/reader/test".to_owned(),
            allowed: AllowedActions::All,
        };
        let session = identities.open_session(of, 100).await.expect("the store works");
        let code = |token: Option<&str>, now| {
            identities.find(&session.access_key_id, token, now).map(|_| ()).map_err(|fault| fault.code)
        };
        let token = session.session_token.as_ref().map(ExposeSecret::expose_secret);
        assert_eq!(code(token, 99), Ok(()));
        assert_eq!(code(token, 100), Err("ExpiredTokenException"));
        assert_eq!(code(Some("other"), 99), Err("UnrecognizedClientException"));
        assert_eq!(code(None, 99), Err("UnrecognizedClientException"));
    }

    #[tokio::test]
    async fn settings_restrict_a_principal() {
        let (_dir, identities) = identities(
            r#"{"principals": [{"access_key": "AKIAREADER", "secret_key": "s", "user": "reader",
            "actions": ["codeartifact:List*"]}]}"#,
        )
        .await;
        let reader = identities.find("AKIAREADER", None, 0).expect("a known key");
        assert_eq!(authorize(&reader, "codeartifact:ListPackages", "*"), Ok(()));
        let fault = authorize(&reader, "codeartifact:DeletePackage", "*").expect_err("not allowed");
        assert_eq!(
            fault.message,
            "User: arn:aws:iam::111122223333:user/reader is not authorized to perform: codeartifact:DeletePackage on \
             resource: * because no identity-based policy allows the codeartifact:DeletePackage action"
        );
    }

    #[test]
    fn unique_ids_tell_users_from_sessions() {
        assert!(unique_id("arn:aws:iam::111122223333:user/reader").starts_with("AIDA"));
        let session = unique_id("arn:aws:sts::111122223333:assumed-role/reader/build-7");
        assert!(session.starts_with("AROA") && session.ends_with(":build-7"), "{session}");
    }
}
