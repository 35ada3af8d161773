//! Who may sign requests: access keys with their secrets, and what each may do.
//!
//! A deliberately simple model: a principal has a list of allowed actions. `access` joins it with resource policies.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::disk::{FileChange, StoreLayout};
use super::error::StoreError;
use super::model::AllowedActions;

const DOCUMENT: &str = "principals.json";

/// A user or a session that may sign requests.
#[derive(Clone)]
pub(crate) struct Principal {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    /// Set for temporary credentials; requests must carry it.
    pub session_token: Option<SecretString>,
    /// When temporary credentials end, in seconds since the epoch.
    pub expires: Option<u64>,
    pub account: String,
    pub arn: String,
    pub allowed: AllowedActions,
}

#[derive(Clone, Serialize, Deserialize)]
struct PrincipalRecord {
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
    #[serde(default)]
    expires: Option<u64>,
    account: String,
    arn: String,
    allowed: AllowedActions,
}

/// The principals with temporary keys, by access key.
pub(super) struct PrincipalTable {
    records: RwLock<BTreeMap<String, PrincipalRecord>>,
}

impl PrincipalTable {
    pub(super) fn load(layout: &StoreLayout) -> Result<Self, StoreError> {
        Ok(Self { records: RwLock::new(layout.read_top(DOCUMENT)?.unwrap_or_default()) })
    }

    /// Adds or replaces a principal, forgets those that have expired, and returns the change that records it on disk.
    pub(super) fn put(&self, layout: &StoreLayout, new: &Principal, now: u64) -> FileChange {
        let mut records = self.records.write();
        records.retain(|_, record| record.expires.is_none_or(|end| end > now));
        records.insert(new.access_key_id.clone(), PrincipalRecord::from(new));
        layout.top(DOCUMENT, &*records)
    }

    pub(super) fn get(&self, access_key_id: &str) -> Option<Principal> {
        let record = self.records.read().get(access_key_id)?.clone();
        Some(Principal {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: record.secret_access_key.into(),
            session_token: record.session_token.map(SecretString::from),
            expires: record.expires,
            account: record.account,
            arn: record.arn,
            allowed: record.allowed,
        })
    }
}

impl From<&Principal> for PrincipalRecord {
    fn from(principal: &Principal) -> Self {
        Self {
            secret_access_key: principal.secret_access_key.expose_secret().to_owned(),
            session_token: principal.session_token.as_ref().map(|token| token.expose_secret().to_owned()),
            expires: principal.expires,
            account: principal.account.clone(),
            arn: principal.arn.clone(),
            allowed: principal.allowed.clone(),
        }
    }
}
