//! Packages: list, describe, origin controls, delete.

use std::str::FromStr;

use serde_json::{Value, json};

use super::call::{FORMATS, OperationCall, absent, not_one_of};
use super::fault::CallFault;
use super::shape;
use super::state::ControlState;
use crate::store::{OriginRestriction, OriginRestrictions, Package, RepositoryKey, Timestamp};
use wheelport_index::ProjectName;

const RESTRICTIONS: [&str; 2] = ["ALLOW", "BLOCK"];

/// The repository and the package a call names; an error where no such package can exist.
pub(super) fn named(control: &ControlState, call: &OperationCall) -> Result<(RepositoryKey, ProjectName), CallFault> {
    let key = call.repository()?;
    let package = call.package()?;
    control.store().repository(&key)?;
    let package = package.ok_or_else(|| {
        let name = call.text("package").unwrap_or_default();
        let message = format!("Package not found in repository. RepoId: {key}, package: {name}");
        CallFault::not_found(message, "package", name)
    })?;
    Ok((key, package))
}

pub(super) fn list(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let key = call.repository()?;
    let paging = call.paging()?;
    let format = call.text("format").unwrap_or(FORMATS[0]);
    if !FORMATS.contains(&format) {
        return Err(not_one_of(format, "format", &FORMATS));
    }
    let possible = format == FORMATS[0] && call.text("namespace").is_none();
    // Prefixes are compared with normalised names; a prefix that ends inside a run of separators must match, too.
    let prefix = call.text("package-prefix").unwrap_or_default();
    let publish = restriction(call.text("publish"), "publish")?;
    let upstream = restriction(call.text("upstream"), "upstream")?;
    let visible = control.listed_until();
    let wanted = |package: &&Package| {
        possible
            && is_visible(package, visible)
            && package.name.as_str().starts_with(prefix)
            && publish.is_none_or(|wanted| package.restrictions.publish == wanted)
            && upstream.is_none_or(|wanted| package.restrictions.upstream == wanted)
    };
    let (packages, next) = control.store().with_repository(&key, |_, packages| {
        let (page, next) = paging.cut(packages.values().filter(wanted));
        (page.into_iter().map(shape::package_summary).collect(), next)
    })?;
    Ok(shape::listing("packages", packages, next))
}

pub(super) fn describe(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (key, name) = named(control, call)?;
    Ok(json!({"package": shape::package(&control.store().package(&key, &name)?)}))
}

pub(super) async fn restrict(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (key, name) = named(control, call)?;
    let given = call.body("restrictions").ok_or_else(|| absent("restrictions"))?;
    let one = |member: &'static str| {
        let word = given.get(member).and_then(Value::as_str);
        restriction(word, member)?.ok_or_else(|| absent(member))
    };
    let restrictions = OriginRestrictions { publish: one("publish")?, upstream: one("upstream")? };
    let restrictions = control.store().set_restrictions(key, name, restrictions).await?;
    Ok(json!({"originConfiguration": shape::origin_configuration(restrictions)}))
}

pub(super) async fn delete(control: &ControlState, call: &OperationCall) -> Result<Value, CallFault> {
    let (key, name) = named(control, call)?;
    let package = control.store().delete_package(key, name).await?;
    Ok(json!({"deletedPackage": shape::package_summary(&package)}))
}

/// Whether a listing shows a package yet: it has a version that is old enough, or no version at all.
fn is_visible(package: &Package, until: Timestamp) -> bool {
    package.versions.is_empty() || package.versions.values().any(|version| version.published <= until)
}

fn restriction(word: Option<&str>, name: &str) -> Result<Option<OriginRestriction>, CallFault> {
    let Some(word) = word else { return Ok(None) };
    OriginRestriction::from_str(word).map(Some).map_err(|_| not_one_of(word, name, &RESTRICTIONS))
}
