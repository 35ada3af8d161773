//! Who may sign requests: access keys with their secrets, and what each may do.
//!
//! A deliberately simple model: a principal has a list of allowed actions. Resource policies are kept but not evaluated.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::disk::Layout;
use super::error::StoreError;
use super::model::Allowed;
use super::{Store, blocking, lock};

const DOCUMENT: &str = "principals.json";

/// Somebody who may sign requests.
#[derive(Clone)]
pub struct Principal {
    /// The public half of the access key.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: SecretString,
    /// Set for temporary credentials; requests must carry it.
    pub session_token: Option<SecretString>,
    /// When temporary credentials end, in seconds since the epoch.
    pub expires: Option<u64>,
    /// Twelve digits.
    pub account: String,
    /// Who it is.
    pub arn: String,
    /// What it may do.
    pub allowed: Allowed,
}

/// A principal to add; the same values as [`Principal`].
pub type NewPrincipal = Principal;

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
    #[serde(default)]
    expires: Option<u64>,
    account: String,
    arn: String,
    allowed: Allowed,
}

pub(super) struct Principals {
    records: RwLock<BTreeMap<String, Record>>,
}

impl Principals {
    pub(super) fn load(layout: &Layout) -> Result<Self, StoreError> {
        Ok(Self { records: RwLock::new(layout.read_top(DOCUMENT)?.unwrap_or_default()) })
    }
}

impl Store {
    /// Adds a principal, or replaces the one with the same access key. Ended temporary ones are forgotten meanwhile.
    pub async fn put_principal(&self, new: NewPrincipal) -> Result<(), StoreError> {
        let store = self.clone();
        blocking(move || {
            let _writer = lock(&store.inner.writer);
            let now = store.clock().unix_seconds();
            let document = {
                let mut records = store.inner.principals.records.write().unwrap_or_else(PoisonError::into_inner);
                records.retain(|_, record| record.expires.is_none_or(|end| end > now));
                records.insert(new.access_key_id.clone(), Record::from(&new));
                store.inner.layout.top(DOCUMENT, &*records)
            };
            document.store()
        })
        .await
    }

    /// The principal with this access key. Whether temporary credentials have ended is the caller's question.
    pub fn principal(&self, access_key_id: &str) -> Option<Principal> {
        let records = self.inner.principals.records.read().unwrap_or_else(PoisonError::into_inner);
        let record = records.get(access_key_id)?.clone();
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

impl From<&Principal> for Record {
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
