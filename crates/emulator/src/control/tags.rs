//! Tags of domains and repositories.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::call::{OperationCall, absent, mismatch};
use super::fault::CallFault;
use super::state::ControlState;
use crate::store::{DomainKey, RepositoryKey, is_account, is_domain_name, is_repository_name};

/// Tags one resource may have.
const MAX_TAGS: usize = 200;

enum TaggedResource {
    Domain(DomainKey),
    Repository(RepositoryKey),
}

/// Reads `arn:aws:codeartifact:REGION:ACCOUNT:domain/NAME` or `…:repository/DOMAIN/NAME`.
fn parse_arn(arn: &str) -> Option<TaggedResource> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, "codeartifact", _, account, resource] = parts[..] else { return None };
    let domain = |name: &str| (is_account(account) && is_domain_name(name)).then(|| DomainKey::new(account, name));
    match resource.split('/').collect::<Vec<_>>()[..] {
        ["domain", name] => Some(TaggedResource::Domain(domain(name)?)),
        ["repository", parent, name] if is_repository_name(name) => {
            Some(TaggedResource::Repository(domain(parent)?.repository(name)))
        }
        _ => None,
    }
}

fn tagged(call: &OperationCall) -> Result<TaggedResource, CallFault> {
    let arn = call.required("resourceArn")?;
    parse_arn(arn).ok_or_else(|| mismatch(arn, "resourceArn", "the ARN of a domain or repository"))
}

/// The tags in a call's body; none if it has no list.
pub(super) fn read(call: &OperationCall) -> Result<BTreeMap<String, String>, CallFault> {
    let Some(list) = call.body("tags") else { return Ok(BTreeMap::new()) };
    let list = list.as_array().ok_or_else(|| CallFault::unreadable("'tags' is not a list"))?;
    if list.len() > MAX_TAGS {
        return Err(CallFault::validation(format!("A resource has at most {MAX_TAGS} tags")));
    }
    let fits = |text: &str, shortest: usize, longest: usize| {
        (shortest..=longest).contains(&text.chars().count()) && !text.contains(char::is_control)
    };
    let pairs = list.iter().map(|tag| {
        let member = |name: &str| tag.get(name).and_then(Value::as_str).ok_or_else(|| absent(name));
        let (key, value) = (member("key")?, member("value")?);
        if !fits(key, 1, 128) || !fits(value, 0, 256) || key.starts_with("aws:") {
            return Err(mismatch(key, "tags", r"\P{C}+"));
        }
        Ok((key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

pub(super) fn list(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let tags = match tagged(call)? {
        TaggedResource::Domain(key) => control.store().domain(&key)?.tags,
        TaggedResource::Repository(key) => control.store().repository(&key)?.tags,
    };
    let tags: Value = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    Ok(json!({"tags": tags}))
}

pub(super) async fn add(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    change(control, tagged(call)?, read(call)?, Vec::new()).await
}

pub(super) async fn remove(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let keys = call.body("tagKeys").ok_or_else(|| absent("tagKeys"))?.clone();
    let keys = serde_json::from_value(keys).map_err(|_| CallFault::unreadable("'tagKeys' is not a list of strings"))?;
    change(control, tagged(call)?, BTreeMap::new(), keys).await
}

async fn change(
    control: &ControlState,
    tagged: TaggedResource,
    add: BTreeMap<String, String>,
    remove: Vec<String>,
) -> Result<Value, CallFault> {
    match tagged {
        TaggedResource::Domain(key) => control.store().tag_domain(key, add, remove).await?,
        TaggedResource::Repository(key) => control.store().tag_repository(key, add, remove).await?,
    };
    Ok(json!({}))
}
