//! Permissions policies of domains and repositories: kept and versioned here, evaluated by `access`.

use serde_json::{Value, json};

use super::call::{Call, absent};
use super::fault::Fault;
use super::{Inner, shape};
use crate::store::Policy;

fn answer(arn: &str, kind: &str, policy: Option<&Policy>) -> Result<Value, Fault> {
    let policy = policy.ok_or_else(|| {
        let message = format!("Permissions policy not found. ResourceArn: {arn}");
        Fault::not_found(message, kind, arn)
    })?;
    Ok(json!({"policy": shape::policy(arn, policy)}))
}

fn document(call: &Call) -> Result<(Option<String>, Option<String>), Fault> {
    let document = call.body_text("policyDocument").ok_or_else(|| absent("policyDocument"))?;
    Ok((Some(document.to_owned()), call.body_text("policyRevision").map(str::to_owned)))
}

pub(super) fn get_of_domain(control: &Inner, call: &Call) -> Result<Value, Fault> {
    let domain = control.store().domain(&call.domain()?)?;
    answer(&domain.key.arn(control.region()), "domain", domain.policy.as_ref())
}

pub(super) async fn put_of_domain(control: &Inner, call: &Call) -> Result<Value, Fault> {
    let key = call.domain()?;
    let arn = key.arn(control.region());
    let (document, expected) = document(call)?;
    let policy = control.store().set_domain_policy(key, document, expected).await?;
    answer(&arn, "domain", policy.as_ref())
}

pub(super) async fn delete_of_domain(control: &Inner, call: &Call) -> Result<Value, Fault> {
    let key = call.domain()?;
    let arn = key.arn(control.region());
    let expected = call.text("policy-revision").map(str::to_owned);
    let policy = control.store().set_domain_policy(key, None, expected).await?;
    answer(&arn, "domain", policy.as_ref())
}

pub(super) fn get_of_repository(control: &Inner, call: &Call) -> Result<Value, Fault> {
    let key = call.repository()?;
    let repository = control.store().repository(&key)?;
    answer(&key.arn(control.region()), "repository", repository.policy.as_ref())
}

pub(super) async fn put_of_repository(control: &Inner, call: &Call) -> Result<Value, Fault> {
    let key = call.repository()?;
    let arn = key.arn(control.region());
    let (document, expected) = document(call)?;
    let policy = control.store().set_repository_policy(key, document, expected).await?;
    answer(&arn, "repository", policy.as_ref())
}

pub(super) async fn delete_of_repository(control: &Inner, call: &Call) -> Result<Value, Fault> {
    let key = call.repository()?;
    let arn = key.arn(control.region());
    let expected = call.text("policy-revision").map(str::to_owned);
    let policy = control.store().set_repository_policy(key, None, expected).await?;
    answer(&arn, "repository", policy.as_ref())
}
