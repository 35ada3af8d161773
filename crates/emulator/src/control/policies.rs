//! Permissions policies of domains and repositories: kept and versioned here, evaluated by `access`.

use serde_json::{Value, json};

use super::call::{OperationCall, absent};
use super::fault::CallFault;
use super::shape;
use super::state::ControlState;
use crate::store::ResourcePolicy;

fn policy_response(arn: &str, kind: &str, policy: Option<&ResourcePolicy>) -> Result<Value, CallFault> {
    let policy = policy.ok_or_else(|| {
        let message = format!("Permissions policy not found. ResourceArn: {arn}");
        CallFault::not_found(message, kind, arn)
    })?;
    Ok(json!({"policy": shape::policy(arn, policy)}))
}

fn document(call: &OperationCall) -> Result<(Option<String>, Option<String>), CallFault> {
    let document = call.body_text("policyDocument").ok_or_else(|| absent("policyDocument"))?;
    Ok((Some(document.to_owned()), call.body_text("policyRevision").map(str::to_owned)))
}

pub(super) fn get_of_domain(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let domain = control.store().domain(&call.domain()?)?;
    policy_response(&domain.key.arn(control.region()), "domain", domain.policy.as_ref())
}

pub(super) async fn put_of_domain(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.domain()?;
    let arn = key.arn(control.region());
    let (document, expected) = document(call)?;
    let policy = control.store().set_domain_policy(key, document, expected).await?;
    policy_response(&arn, "domain", policy.as_ref())
}

pub(super) async fn delete_of_domain(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.domain()?;
    let arn = key.arn(control.region());
    let expected = call.text("policy-revision").map(str::to_owned);
    let policy = control.store().set_domain_policy(key, None, expected).await?;
    policy_response(&arn, "domain", policy.as_ref())
}

pub(super) fn get_of_repository(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let repository = control.store().repository(&key)?;
    policy_response(&key.arn(control.region()), "repository", repository.policy.as_ref())
}

pub(super) async fn put_of_repository(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let arn = key.arn(control.region());
    let (document, expected) = document(call)?;
    let policy = control.store().set_repository_policy(key, document, expected).await?;
    policy_response(&arn, "repository", policy.as_ref())
}

pub(super) async fn delete_of_repository(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let arn = key.arn(control.region());
    let expected = call.text("policy-revision").map(str::to_owned);
    let policy = control.store().set_repository_policy(key, None, expected).await?;
    policy_response(&arn, "repository", policy.as_ref())
}
