//! Domains: create, describe, delete, list.

use serde_json::{Value, json};

use super::call::OperationCall;
use super::fault::CallFault;
use super::state::ControlState;
use super::{shape, tags};
use crate::store::{Domain, NewDomain, StoreError};

pub(super) async fn create(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let mut key = call.domain()?;
    key.owner.clone_from(&call.caller.account);
    let region = control.region();
    let encryption_key = call.body_text("encryptionKey").map(str::to_owned);
    let encryption_key = encryption_key
        .unwrap_or_else(|| format!("arn:aws:kms:{region}:{}:key/00000000-0000-4000-a000-000000000000", key.owner));
    let new = NewDomain { key, encryption_key, tags: tags::read(call)? };
    let domain = control.store().create_domain(new).await?;
    Ok(json!({"domain": shape::domain(&domain, region, "Active", 0, 0)}))
}

pub(super) fn describe(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let domain = control.store().domain(&call.domain()?)?;
    let totals = control.store().domain_totals(&domain.key)?;
    let region = control.region();
    Ok(json!({"domain": shape::domain(&domain, region, "Active", totals.repositories, totals.asset_bytes)}))
}

/// A missing domain counts as deleted: the operation is idempotent and has no error for it.
pub(super) async fn delete(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.domain()?;
    match control.store().delete_domain(key).await {
        Ok(domain) => Ok(json!({"domain": shape::domain(&domain, control.region(), "Deleted", 0, 0)})),
        Err(StoreError::NotFound { .. }) => Ok(json!({})),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn list(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let paging = call.paging()?;
    let own = |domain: &Domain| domain.key.owner == call.caller.account;
    let (domains, next) = paging.cut(control.store().domains().into_iter().filter(own));
    let summaries = domains.iter().map(|domain| shape::domain_summary(domain, control.region(), "Active"));
    Ok(shape::listing("domains", summaries.collect(), next))
}
