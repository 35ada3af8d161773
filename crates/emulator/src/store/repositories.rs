//! Repositories: create, read, list, change, delete, policy, tags, and the order in which a look-up walks them.

use std::collections::BTreeMap;

use super::base::Store;
use super::domains::next_policy;
use super::error::{ResourceKind, StoreError};
use super::keys::{DomainKey, RepositoryKey, is_repository_name};
use super::model::{OriginRestriction, PUBLIC_CONNECTION, Package, Repository, ResourcePolicy};
use super::records::{DirtyRecord, DomainState, RepositoryState, blobs_of};
use wheelport_index::ProjectName;

/// Repositories one domain may have.
pub(super) const REPOSITORIES_PER_DOMAIN: usize = 1000;
/// Direct upstreams one repository may have.
pub(super) const DIRECT_UPSTREAMS: usize = 10;
/// The most repositories that one look-up searches.
pub(super) const SEARCHED_REPOSITORIES: usize = 25;

/// A repository to create.
#[derive(Debug, Clone)]
pub(crate) struct NewRepository {
    pub key: RepositoryKey,
    pub description: Option<String>,
    /// Upstreams in order of priority.
    pub upstreams: Vec<String>,
    pub tags: BTreeMap<String, String>,
}

/// A change of a repository; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct RepositoryChange {
    pub description: Option<String>,
    /// A new list of upstreams; the empty list removes all.
    pub upstreams: Option<Vec<String>>,
    pub external_connection: ConnectionChange,
}

/// A change of a repository's external connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum ConnectionChange {
    #[default]
    Keep,
    Connect(String),
    Disconnect,
}

/// One repository that a look-up of a project searches.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryLayer {
    pub repository: String,
    /// The package that it retains of the project.
    pub package: Option<Package>,
    /// Whether the project may come through its external connection.
    pub connected: bool,
}

impl Store {
    pub(crate) async fn create_repository(&self, new: NewRepository) -> Result<Repository, StoreError> {
        let NewRepository { key, description, upstreams, tags } = new;
        if !is_repository_name(&key.name) {
            return Err(StoreError::Validation(format!("'{}' is not a valid repository name", key.name)));
        }
        self.change(move |records, created| {
            let domain = records.domain_mut(&key.domain)?;
            if domain.repositories.contains_key(&key.name) {
                let message = format!("Repository with name '{}' already exists", key.name);
                return Err(StoreError::conflict(ResourceKind::Repository, &key.name, message));
            }
            if domain.repositories.len() >= REPOSITORIES_PER_DOMAIN {
                let message = format!("A domain has at most {REPOSITORIES_PER_DOMAIN} repositories");
                return Err(StoreError::quota(ResourceKind::Repository, &key.name, message));
            }
            check_upstreams(domain, &key.name, &upstreams)?;
            let repository = Repository {
                name: key.name.clone(),
                administrator_account: key.domain.owner.clone(),
                description,
                created,
                upstreams,
                external_connection: None,
                policy: None,
                tags,
            };
            let state = RepositoryState { repository: repository.clone(), packages: BTreeMap::new() };
            domain.repositories.insert(key.name.clone(), state);
            // An interrupted removal may have left packages of an earlier repository of this name.
            Ok((repository, vec![DirtyRecord::Repository(key.clone()), DirtyRecord::Domain(key.domain)]))
        })
        .await
    }

    pub(crate) fn repository(&self, key: &RepositoryKey) -> Result<Repository, StoreError> {
        Ok(self.records().repository(key)?.repository.clone())
    }

    /// All repositories of a domain, by name.
    pub(crate) fn repositories(&self, domain: &DomainKey) -> Result<Vec<Repository>, StoreError> {
        let records = self.records();
        Ok(records.domain(domain)?.repositories.values().map(|state| state.repository.clone()).collect())
    }

    /// Calls `look` with a repository and all its packages under the read lock; it must be brief.
    pub(crate) fn with_repository<T>(
        &self,
        key: &RepositoryKey,
        look: impl FnOnce(&Repository, &BTreeMap<ProjectName, Package>) -> T,
    ) -> Result<T, StoreError> {
        let records = self.records();
        let state = records.repository(key)?;
        Ok(look(&state.repository, &state.packages))
    }

    /// Changes description, upstreams or external connection.
    pub(crate) async fn change_repository(
        &self,
        key: RepositoryKey,
        change: RepositoryChange,
    ) -> Result<Repository, StoreError> {
        self.change(move |records, _| {
            let domain = records.domain_mut(&key.domain)?;
            let state = domain.repositories.get(&key.name);
            let mut next =
                state.ok_or_else(|| StoreError::not_found(ResourceKind::Repository, &key.name))?.repository.clone();
            if let Some(description) = change.description {
                next.description = Some(description);
            }
            if let Some(upstreams) = change.upstreams {
                check_upstreams(domain, &key.name, &upstreams)?;
                next.upstreams = upstreams;
            }
            match change.external_connection {
                ConnectionChange::Keep => {}
                ConnectionChange::Connect(wanted) => next.external_connection = Some(connect(&next, wanted)?),
                ConnectionChange::Disconnect => {
                    if next.external_connection.take().is_none() {
                        let id = format!("external connection of {}", key.name);
                        return Err(StoreError::not_found(ResourceKind::Repository, id));
                    }
                }
            }
            if next.external_connection.is_some() && !next.upstreams.is_empty() {
                let message = "A repository has either upstreams or an external connection".to_owned();
                return Err(StoreError::Validation(message));
            }
            let state = records.repository_mut(&key)?;
            state.repository = next.clone();
            Ok((next, vec![DirtyRecord::Domain(key.domain)]))
        })
        .await
    }

    /// Removes a repository with everything in it; other repositories lose it as an upstream.
    pub(crate) async fn delete_repository(&self, key: RepositoryKey) -> Result<Repository, StoreError> {
        let (repository, blobs) = self
            .change(move |records, _| {
                let domain = records.domain_mut(&key.domain)?;
                let state = domain.repositories.remove(&key.name);
                let state = state.ok_or_else(|| StoreError::not_found(ResourceKind::Repository, &key.name))?;
                for other in domain.repositories.values_mut() {
                    other.repository.upstreams.retain(|upstream| *upstream != key.name);
                }
                let blobs = blobs_of(state.packages.values().flat_map(|package| package.versions.values()));
                let dirty = vec![DirtyRecord::Domain(key.domain.clone()), DirtyRecord::Repository(key)];
                Ok(((state.repository, blobs), dirty))
            })
            .await?;
        self.forget_blobs(blobs).await?;
        Ok(repository)
    }

    /// Sets or (with `None`) removes a repository's policy, as [`Store::set_domain_policy`] does.
    pub(crate) async fn set_repository_policy(
        &self,
        key: RepositoryKey,
        document: Option<String>,
        expected: Option<String>,
    ) -> Result<Option<ResourcePolicy>, StoreError> {
        self.change(move |records, now| {
            let repository = &mut records.repository_mut(&key)?.repository;
            let before = repository.policy.clone();
            let after =
                next_policy(before.as_ref(), document, expected.as_deref(), now, ResourceKind::Repository, &key.name)?;
            repository.policy.clone_from(&after);
            Ok((after.or(before), vec![DirtyRecord::Domain(key.domain)]))
        })
        .await
    }

    /// Adds or replaces tags of a repository, and removes others.
    pub(crate) async fn tag_repository(
        &self,
        key: RepositoryKey,
        add: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        self.change(move |records, _| {
            let repository = &mut records.repository_mut(&key)?.repository;
            repository.tags.extend(add);
            repository.tags.retain(|tag, _| !remove.contains(tag));
            Ok((repository.tags.clone(), vec![DirtyRecord::Domain(key.domain)]))
        })
        .await
    }

    /// The repositories that a look-up of a project in `key` searches, in order. A repository whose origin controls
    /// block upstreams for this project ends the search on its branch.
    pub(crate) fn layers(
        &self,
        key: &RepositoryKey,
        project: &ProjectName,
    ) -> Result<Vec<RepositoryLayer>, StoreError> {
        let records = self.records();
        let open = |state: &RepositoryState| {
            let package = state.packages.get(project);
            package.is_none_or(|package| package.restrictions.upstream == OriginRestriction::Allow)
        };
        let order = walk(records.domain(&key.domain)?, &records.repository(key)?.repository.name, open);
        let layer = |state: &RepositoryState| RepositoryLayer {
            repository: state.repository.name.clone(),
            package: state.packages.get(project).cloned(),
            connected: open(state) && state.repository.external_connection.is_some(),
        };
        Ok(order.into_iter().map(layer).collect())
    }
}

/// Depth first from `start`, upstreams in their order, but only behind repositories that are `open`.
fn walk<'a>(
    domain: &'a DomainState,
    start: &'a str,
    open: impl Fn(&RepositoryState) -> bool,
) -> Vec<&'a RepositoryState> {
    let mut order: Vec<&RepositoryState> = Vec::new();
    let mut waiting = vec![start];
    while let Some(name) = waiting.pop() {
        if order.len() == SEARCHED_REPOSITORIES || order.iter().any(|seen| seen.repository.name == name) {
            continue;
        }
        let Some(state) = domain.repositories.get(name) else { continue };
        if open(state) {
            waiting.extend(state.repository.upstreams.iter().rev().map(String::as_str));
        }
        order.push(state);
    }
    order
}

fn check_upstreams(domain: &DomainState, name: &str, upstreams: &[String]) -> Result<(), StoreError> {
    if upstreams.len() > DIRECT_UPSTREAMS {
        let message = format!("A repository has at most {DIRECT_UPSTREAMS} upstreams");
        return Err(StoreError::quota(ResourceKind::Repository, name, message));
    }
    for (position, upstream) in upstreams.iter().enumerate() {
        if upstream == name {
            return Err(StoreError::Validation("A repository cannot be its own upstream".to_owned()));
        }
        if upstreams[..position].contains(upstream) {
            return Err(StoreError::Validation(format!("Upstream '{upstream}' is named twice")));
        }
        if !domain.repositories.contains_key(upstream) {
            return Err(StoreError::not_found(ResourceKind::Repository, upstream));
        }
    }
    Ok(())
}

fn connect(repository: &Repository, wanted: String) -> Result<String, StoreError> {
    if wanted != PUBLIC_CONNECTION {
        return Err(StoreError::Validation(format!("'{wanted}' is not an external connection known here")));
    }
    if repository.external_connection.is_some() {
        let message = format!("Repository '{}' already has an external connection", repository.name);
        return Err(StoreError::conflict(ResourceKind::Repository, &repository.name, message));
    }
    Ok(wanted)
}
