//! Repositories: create, describe, update, delete, list, external connections, endpoints.

use serde_json::{Value, json};

use super::call::{OperationCall, check_repository_name, not_one_of};
use super::fault::CallFault;
use super::state::ControlState;
use super::{shape, tags};
use crate::store::{ConnectionChange, DomainKey, NewRepository, Repository, RepositoryChange, RepositoryKey, Store};

/// The longest description, in characters.
const DESCRIPTION_LENGTH: usize = 1000;

pub(super) async fn create(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let domain = key.domain.clone();
    let new = NewRepository {
        key,
        description: description(call)?,
        upstreams: upstreams(call)?.unwrap_or_default(),
        tags: tags::read(call)?,
    };
    let repository = control.store().create_repository(new).await?;
    Ok(repository_response(control, &domain, &repository))
}

pub(super) fn describe(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    Ok(repository_response(control, &key.domain, &control.store().repository(&key)?))
}

pub(super) async fn update(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let change = RepositoryChange {
        description: description(call)?,
        upstreams: upstreams(call)?,
        ..RepositoryChange::default()
    };
    changed(control, call.repository()?, change).await
}

pub(super) async fn delete(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let domain = key.domain.clone();
    let repository = control.store().delete_repository(key).await?;
    Ok(repository_response(control, &domain, &repository))
}

/// Every repository that the caller's account administers, in all domains.
pub(super) fn list(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let prefix = call.text("repository-prefix");
    let mut found = Vec::new();
    for domain in control.store().domains() {
        let own = of_domain(control.store(), &domain.key, prefix, Some(&call.caller.account))?;
        found.extend(own.into_iter().map(|repository| (domain.key.clone(), repository)));
    }
    listing(control, call, found)
}

pub(super) fn list_in_domain(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let domain = call.domain()?;
    let administrator = call.text("administrator-account");
    let found = of_domain(control.store(), &domain, call.text("repository-prefix"), administrator)?;
    listing(control, call, found.into_iter().map(|repository| (domain.clone(), repository)).collect())
}

fn of_domain(
    store: &Store,
    domain: &DomainKey,
    prefix: Option<&str>,
    administrator: Option<&str>,
) -> Result<Vec<Repository>, CallFault> {
    let mut found = store.repositories(domain)?;
    found.retain(|repository| {
        prefix.is_none_or(|prefix| repository.name.starts_with(prefix))
            && administrator.is_none_or(|account| repository.administrator_account == account)
    });
    Ok(found)
}

fn listing(
    control: &ControlState,
    call: &OperationCall,
    found: Vec<(DomainKey, Repository)>,
) -> Result<Value, CallFault> {
    let (page, next) = call.paging()?.cut(found);
    let region = control.region();
    let summaries = page.iter().map(|(domain, repository)| shape::repository_summary(domain, repository, region));
    Ok(shape::listing("repositories", summaries.collect(), next))
}

pub(super) async fn connect(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let wanted = call.required("external-connection")?.to_owned();
    let change =
        RepositoryChange { external_connection: ConnectionChange::Connect(wanted), ..RepositoryChange::default() };
    changed(control, call.repository()?, change).await
}

pub(super) async fn disconnect(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let named = call.required("external-connection")?;
    if control.store().repository(&key)?.external_connection.as_deref() != Some(named) {
        let message = format!("External connection {named} not found in repository {}", key.name);
        return Err(CallFault::not_found(message, "repository", key.name));
    }
    let change = RepositoryChange { external_connection: ConnectionChange::Disconnect, ..RepositoryChange::default() };
    changed(control, key, change).await
}

async fn changed(control: &ControlState, key: RepositoryKey, change: RepositoryChange) -> Result<Value, CallFault> {
    let domain = key.domain.clone();
    let repository = control.store().change_repository(key, change).await?;
    Ok(repository_response(control, &domain, &repository))
}

fn repository_response(control: &ControlState, domain: &DomainKey, repository: &Repository) -> Value {
    json!({"repository": shape::repository(domain, repository, control.region())})
}

/// The same address for both endpoint types: the emulator has only one listener for both.
pub(super) fn endpoint(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let format = call.format()?;
    if let Some(kind) = call.text("endpointType")
        && !["dualstack", "ipv4"].contains(&kind)
    {
        return Err(not_one_of(kind, "endpointType", &["dualstack", "ipv4"]));
    }
    control.store().repository(&key)?;
    let endpoint = control.shared.repository_endpoint(&key);
    Ok(json!({"repositoryEndpoint": endpoint.replacen("/pypi/", &format!("/{format}/"), 1)}))
}

fn description(call: &OperationCall) -> Result<Option<String>, CallFault> {
    let Some(text) = call.body("description") else { return Ok(None) };
    let text = text.as_str().ok_or_else(|| CallFault::unreadable("'description' is not a string"))?;
    if text.chars().count() > DESCRIPTION_LENGTH || text.contains(char::is_control) {
        return Err(super::call::mismatch(text, "description", r"\P{C}*"));
    }
    Ok(Some(text.to_owned()))
}

fn upstreams(call: &OperationCall) -> Result<Option<Vec<String>>, CallFault> {
    let Some(list) = call.body("upstreams") else { return Ok(None) };
    let list = list.as_array().ok_or_else(|| CallFault::unreadable("'upstreams' is not a list"))?;
    let names = list.iter().map(|upstream| {
        let name = upstream.get("repositoryName").and_then(Value::as_str);
        let name = name.ok_or_else(|| super::call::absent("upstreams.repositoryName"))?;
        check_repository_name(name, "upstreams.repositoryName")?;
        Ok(name.to_owned())
    });
    names.collect::<Result<Vec<_>, CallFault>>().map(Some)
}
