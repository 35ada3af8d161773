//! Domains: create, read, list, delete, policy, tags.

use std::collections::BTreeMap;

use super::base::Store;
use super::error::{ResourceKind, StoreError};
use super::keys::{DomainKey, is_account, is_domain_name};
use super::model::{Domain, ResourcePolicy, Timestamp};
use super::records::{DirtyRecord, DomainState};
use wheelport_index::Sha256;

/// Domains one account may own.
pub(super) const DOMAINS_PER_ACCOUNT: usize = 10;
/// The longest policy document, in bytes.
pub(super) const POLICY_LENGTH: usize = 7168;

/// A domain to create.
#[derive(Debug, Clone)]
pub(crate) struct NewDomain {
    pub key: DomainKey,
    /// The ARN of its encryption key.
    pub encryption_key: String,
    pub tags: BTreeMap<String, String>,
}

/// What a domain holds, for `DescribeDomain`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DomainTotals {
    pub repositories: usize,
    /// Bytes of assets; the same bytes count once.
    pub asset_bytes: u64,
}

impl Store {
    pub(crate) async fn create_domain(&self, new: NewDomain) -> Result<Domain, StoreError> {
        let key = new.key.clone();
        if !is_domain_name(&key.name) {
            return Err(StoreError::Validation(format!("'{}' is not a valid domain name", key.name)));
        }
        if !is_account(&key.owner) {
            return Err(StoreError::Validation(format!("'{}' is not an account number", key.owner)));
        }
        self.change(move |records, created| {
            if records.domains.contains_key(&key) {
                let message = format!("Domain with name '{}' already exists", key.name);
                return Err(StoreError::conflict(ResourceKind::Domain, &key.name, message));
            }
            if records.domains.keys().filter(|other| other.owner == key.owner).count() >= DOMAINS_PER_ACCOUNT {
                let message = format!("An account owns at most {DOMAINS_PER_ACCOUNT} domains");
                return Err(StoreError::quota(ResourceKind::Domain, &key.name, message));
            }
            let domain =
                Domain { key: key.clone(), encryption_key: new.encryption_key, created, policy: None, tags: new.tags };
            let state = DomainState { domain: domain.clone(), repositories: BTreeMap::new() };
            records.domains.insert(key.clone(), state);
            Ok((domain, vec![DirtyRecord::Domain(key)]))
        })
        .await
    }

    pub(crate) fn domain(&self, key: &DomainKey) -> Result<Domain, StoreError> {
        Ok(self.records().domain(key)?.domain.clone())
    }

    /// All domains of all accounts, by owner and name.
    pub(crate) fn domains(&self) -> Vec<Domain> {
        self.records().domains.values().map(|state| state.domain.clone()).collect()
    }

    /// What a domain holds.
    pub(crate) fn domain_totals(&self, key: &DomainKey) -> Result<DomainTotals, StoreError> {
        let records = self.records();
        let state = records.domain(key)?;
        let sizes: BTreeMap<Sha256, u64> = state
            .repositories
            .values()
            .flat_map(|repository| repository.packages.values())
            .flat_map(|package| package.versions.values())
            .flat_map(|version| version.assets.values())
            .filter_map(|asset| Some((asset.blob()?, asset.size?)))
            .collect();
        Ok(DomainTotals { repositories: state.repositories.len(), asset_bytes: sizes.values().sum() })
    }

    /// Removes an empty domain.
    pub(crate) async fn delete_domain(&self, key: DomainKey) -> Result<Domain, StoreError> {
        self.change(move |records, _| {
            if !records.domain(&key)?.repositories.is_empty() {
                let message = format!("Domain '{}' still has repositories", key.name);
                return Err(StoreError::conflict(ResourceKind::Domain, &key.name, message));
            }
            let state =
                records.domains.remove(&key).ok_or_else(|| StoreError::not_found(ResourceKind::Domain, &key.name))?;
            Ok((state.domain, vec![DirtyRecord::Domain(key)]))
        })
        .await
    }

    /// Sets or (with `None`) removes a domain's policy. `expected` is the revision that the caller expects.
    pub(crate) async fn set_domain_policy(
        &self,
        key: DomainKey,
        document: Option<String>,
        expected: Option<String>,
    ) -> Result<Option<ResourcePolicy>, StoreError> {
        self.change(move |records, now| {
            let domain = &mut records.domain_mut(&key)?.domain;
            let before = domain.policy.clone();
            let after =
                next_policy(before.as_ref(), document, expected.as_deref(), now, ResourceKind::Domain, &key.name)?;
            domain.policy.clone_from(&after);
            Ok((after.or(before), vec![DirtyRecord::Domain(key)]))
        })
        .await
    }

    /// Adds or replaces tags of a domain, and removes others.
    pub(crate) async fn tag_domain(
        &self,
        key: DomainKey,
        add: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        self.change(move |records, _| {
            let domain = &mut records.domain_mut(&key)?.domain;
            domain.tags.extend(add);
            domain.tags.retain(|tag, _| !remove.contains(tag));
            Ok((domain.tags.clone(), vec![DirtyRecord::Domain(key)]))
        })
        .await
    }
}

/// The policy after a put (`Some` document) or a delete (`None`), or why that is refused.
pub(super) fn next_policy(
    before: Option<&ResourcePolicy>,
    document: Option<String>,
    expected: Option<&str>,
    now: Timestamp,
    kind: ResourceKind,
    id: &str,
) -> Result<Option<ResourcePolicy>, StoreError> {
    if let Some(expected) = expected
        && before.is_none_or(|policy| policy.revision != expected)
    {
        return Err(StoreError::conflict(kind, id, "The policy has another revision than the one given"));
    }
    let Some(document) = document else {
        return before.map(|_| None).ok_or_else(|| StoreError::not_found(kind, format!("policy of {id}")));
    };
    if document.is_empty() || document.len() > POLICY_LENGTH {
        return Err(StoreError::Validation(format!("A policy document has 1 to {POLICY_LENGTH} bytes")));
    }
    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&document).is_err() {
        return Err(StoreError::Validation("The policy document is not a JSON object".to_owned()));
    }
    let revision = Sha256::of(format!("{}\n{document}", now.0).as_bytes()).to_string()[..44].to_owned();
    Ok(Some(ResourcePolicy { revision, document }))
}
