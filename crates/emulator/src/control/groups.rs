//! Package groups, as far as every domain has them: the root group `/*`, which allows everything and holds every
//! package. Other groups cannot be created.

use serde_json::{Value, json};

use super::call::OperationCall;
use super::fault::CallFault;
use super::shape;
use super::state::ControlState;
use crate::store::Domain;

const ROOT: &str = "/*";

fn root(control: &ControlState, domain: &Domain) -> Value {
    let (key, region) = (&domain.key, control.region());
    let allowed = json!({"mode": "ALLOW", "effectiveMode": "ALLOW"});
    json!({
        "arn": format!("arn:aws:codeartifact:{region}:{}:package-group/{}{ROOT}", key.owner, key.name),
        "pattern": ROOT,
        "domainName": key.name,
        "domainOwner": key.owner,
        "createdTime": domain.created.seconds(),
        "originConfiguration": {"restrictions": {
            "EXTERNAL_UPSTREAM": allowed, "INTERNAL_UPSTREAM": allowed, "PUBLISH": allowed,
        }},
    })
}

pub(super) fn list(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let domain = control.store().domain(&call.domain()?)?;
    let fits = ROOT.starts_with(call.text("prefix").unwrap_or_default());
    let (groups, next) = call.paging()?.cut(fits.then(|| root(control, &domain)));
    Ok(shape::listing("packageGroups", groups, next))
}

pub(super) fn describe(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let domain = control.store().domain(&call.domain()?)?;
    let pattern = call.required("package-group")?;
    if pattern != ROOT {
        let message = format!("Package group not found. PackageGroup: {pattern}");
        return Err(CallFault::not_found(message, "package", pattern));
    }
    Ok(json!({"packageGroup": root(control, &domain)}))
}

pub(super) fn associated(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let domain = control.store().domain(&call.domain()?)?;
    call.package()?;
    Ok(json!({"packageGroup": root(control, &domain), "associationType": "STRONG"}))
}
