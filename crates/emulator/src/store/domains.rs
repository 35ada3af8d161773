//! Domains: create, read, list, delete, policy, tags.

use std::collections::BTreeMap;

use super::error::{Noun, StoreError};
use super::keys::{DomainKey, is_account, is_domain_name};
use super::model::{Domain, Policy, Timestamp};
use super::{DomainState, Store, Touched, blobs_of};
use wheelport_index::Sha256;

/// Domains one account may own.
pub const DOMAINS_PER_ACCOUNT: usize = 10;
/// The longest policy document, in bytes.
pub const POLICY_LENGTH: usize = 7168;

/// What a new domain is made of.
#[derive(Debug, Clone)]
pub struct NewDomain {
    /// Owner and name.
    pub key: DomainKey,
    /// The ARN of its encryption key.
    pub encryption_key: String,
    /// Its first tags.
    pub tags: BTreeMap<String, String>,
}

/// What a domain holds, for `DescribeDomain`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DomainTotals {
    /// Repositories.
    pub repositories: usize,
    /// Bytes of assets; the same bytes count once.
    pub asset_bytes: u64,
}

impl Store {
    /// Creates a domain.
    pub async fn create_domain(&self, new: NewDomain) -> Result<Domain, StoreError> {
        let key = new.key.clone();
        if !is_domain_name(&key.name) {
            return Err(StoreError::Validation(format!("'{}' is not a valid domain name", key.name)));
        }
        if !is_account(&key.owner) {
            return Err(StoreError::Validation(format!("'{}' is not an account number", key.owner)));
        }
        self.change(move |world, created| {
            if world.domains.contains_key(&key) {
                let message = format!("Domain with name '{}' already exists", key.name);
                return Err(StoreError::conflict(Noun::Domain, &key.name, message));
            }
            if world.domains.keys().filter(|other| other.owner == key.owner).count() >= DOMAINS_PER_ACCOUNT {
                let message = format!("An account owns at most {DOMAINS_PER_ACCOUNT} domains");
                return Err(StoreError::quota(Noun::Domain, &key.name, message));
            }
            let domain =
                Domain { key: key.clone(), encryption_key: new.encryption_key, created, policy: None, tags: new.tags };
            let state = DomainState { domain: domain.clone(), repositories: BTreeMap::new() };
            world.domains.insert(key.clone(), state);
            Ok((domain, vec![Touched::Domain(key)]))
        })
        .await
    }

    /// One domain.
    pub fn domain(&self, key: &DomainKey) -> Result<Domain, StoreError> {
        Ok(self.world().domain(key)?.domain.clone())
    }

    /// All domains of all accounts, by owner and name.
    pub fn domains(&self) -> Vec<Domain> {
        self.world().domains.values().map(|state| state.domain.clone()).collect()
    }

    /// What a domain holds.
    pub fn domain_totals(&self, key: &DomainKey) -> Result<DomainTotals, StoreError> {
        let world = self.world();
        let state = world.domain(key)?;
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
    pub async fn delete_domain(&self, key: DomainKey) -> Result<Domain, StoreError> {
        self.change(move |world, _| {
            if !world.domain(&key)?.repositories.is_empty() {
                let message = format!("Domain '{}' still has repositories", key.name);
                return Err(StoreError::conflict(Noun::Domain, &key.name, message));
            }
            let state = world.domains.remove(&key).ok_or_else(|| StoreError::not_found(Noun::Domain, &key.name))?;
            Ok((state.domain, vec![Touched::Domain(key)]))
        })
        .await
    }

    /// Sets or (with `None`) removes a domain's policy. `expected` is the revision the caller believes to be there.
    pub async fn set_domain_policy(
        &self,
        key: DomainKey,
        document: Option<String>,
        expected: Option<String>,
    ) -> Result<Option<Policy>, StoreError> {
        self.change(move |world, now| {
            let domain = &mut world.domain_mut(&key)?.domain;
            let before = domain.policy.clone();
            let after = next_policy(before.as_ref(), document, expected.as_deref(), now, Noun::Domain, &key.name)?;
            domain.policy.clone_from(&after);
            Ok((after.or(before), vec![Touched::Domain(key)]))
        })
        .await
    }

    /// Adds or replaces tags of a domain, and removes others.
    pub async fn tag_domain(
        &self,
        key: DomainKey,
        add: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        self.change(move |world, _| {
            let domain = &mut world.domain_mut(&key)?.domain;
            domain.tags.extend(add);
            domain.tags.retain(|tag, _| !remove.contains(tag));
            Ok((domain.tags.clone(), vec![Touched::Domain(key)]))
        })
        .await
    }

    /// Removes a domain with everything in it, whatever it holds; tests start over with it.
    pub async fn destroy_domain(&self, key: DomainKey) -> Result<(), StoreError> {
        let blobs = self
            .change(move |world, _| {
                let state = world.domains.remove(&key).ok_or_else(|| StoreError::not_found(Noun::Domain, &key.name))?;
                let packages = state.repositories.values().flat_map(|repository| repository.packages.values());
                let blobs = blobs_of(packages.flat_map(|package| package.versions.values()));
                Ok((blobs, vec![Touched::Domain(key)]))
            })
            .await?;
        self.forget_blobs(blobs).await
    }
}

/// The policy after a put (`Some` document) or a delete (`None`), or why that is refused.
pub(super) fn next_policy(
    before: Option<&Policy>,
    document: Option<String>,
    expected: Option<&str>,
    now: Timestamp,
    kind: Noun,
    id: &str,
) -> Result<Option<Policy>, StoreError> {
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
    Ok(Some(Policy { revision, document }))
}
