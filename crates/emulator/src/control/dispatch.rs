//! From an operation to its handler, once the caller may perform it.

use serde_json::Value;

use super::call::{CallResource, OperationCall};
use super::fault::CallFault;
use super::operation::Operation;
use super::state::ControlState;
use super::{domains, groups, identity, packages, policies, repositories, tags, token, versions};
use crate::access::{self, AccessSubject};

/// Refuses what the caller may not do with the resource the call names.
pub(super) fn authorize(control: &ControlState, operation: Operation, call: &OperationCall) -> Result<(), CallFault> {
    let (caller, action) = (&call.caller, operation.action());
    let resource = call.resource(control.region())?;
    let decision = match &resource {
        CallResource::Any(_) => return identity::authorize(caller, &action, resource.as_str()),
        // A new domain belongs to its creator, even if another account has a domain of that name.
        CallResource::InDomain { .. } if operation == Operation::CreateDomain => {
            return identity::authorize(caller, &action, resource.as_str());
        }
        CallResource::InDomain { domain, repository, .. } => {
            let subject = AccessSubject { arn: &caller.arn, allowed: &caller.allowed };
            access::decide(control.store(), subject, &action, domain, repository.as_ref())
        }
    };
    match decision.refusal(&caller.arn, &action, resource.as_str()) {
        Some(message) => Err(CallFault::denied(message)),
        None => Ok(()),
    }
}

/// The JSON response of an operation. `GetPackageVersionAsset`, whose response is bytes, is not dispatched here.
pub(super) async fn perform(
    control: &ControlState,
    operation: Operation,
    call: &OperationCall,
) -> Result<Value, CallFault> {
    use Operation as O;
    match operation {
        O::GetAuthorizationToken => token::get(control, call).await,
        O::CreateDomain => domains::create(control, call).await,
        O::DescribeDomain => domains::describe(control, call),
        O::DeleteDomain => domains::delete(control, call).await,
        O::ListDomains => domains::list(control, call),
        O::CreateRepository => repositories::create(control, call).await,
        O::DescribeRepository => repositories::describe(control, call),
        O::UpdateRepository => repositories::update(control, call).await,
        O::DeleteRepository => repositories::delete(control, call).await,
        O::ListRepositories => repositories::list(control, call),
        O::ListRepositoriesInDomain => repositories::list_in_domain(control, call),
        O::AssociateExternalConnection => repositories::connect(control, call).await,
        O::DisassociateExternalConnection => repositories::disconnect(control, call).await,
        O::GetRepositoryEndpoint => repositories::endpoint(control, call),
        O::GetDomainPermissionsPolicy => policies::get_of_domain(control, call),
        O::PutDomainPermissionsPolicy => policies::put_of_domain(control, call).await,
        O::DeleteDomainPermissionsPolicy => policies::delete_of_domain(control, call).await,
        O::GetRepositoryPermissionsPolicy => policies::get_of_repository(control, call),
        O::PutRepositoryPermissionsPolicy => policies::put_of_repository(control, call).await,
        O::DeleteRepositoryPermissionsPolicy => policies::delete_of_repository(control, call).await,
        O::ListPackages => packages::list(control, call),
        O::DescribePackage => packages::describe(control, call),
        O::PutPackageOriginConfiguration => packages::restrict(control, call).await,
        O::DeletePackage => packages::delete(control, call).await,
        O::ListPackageVersions => versions::list(control, call),
        O::DescribePackageVersion => versions::describe(control, call),
        O::ListPackageVersionAssets => versions::assets(control, call),
        O::ListPackageVersionDependencies => versions::dependencies(control, call),
        O::GetPackageVersionReadme => versions::readme(control, call),
        O::UpdatePackageVersionsStatus => versions::set_status(control, call).await,
        O::DisposePackageVersions => versions::dispose(control, call).await,
        O::DeletePackageVersions => versions::delete(control, call).await,
        O::CopyPackageVersions => versions::copy(control, call).await,
        O::PublishPackageVersion => versions::publish(call),
        O::TagResource => tags::add(control, call).await,
        O::UntagResource => tags::remove(control, call).await,
        O::ListTagsForResource => tags::list(control, call),
        O::ListPackageGroups => groups::list(control, call),
        O::DescribePackageGroup => groups::describe(control, call),
        O::GetAssociatedPackageGroup => groups::associated(control, call),
        O::GetPackageVersionAsset
        | O::CreatePackageGroup
        | O::DeletePackageGroup
        | O::ListAllowedRepositoriesForGroup
        | O::ListAssociatedPackages
        | O::ListSubPackageGroups
        | O::UpdatePackageGroup
        | O::UpdatePackageGroupOriginConfiguration => Err(CallFault::not_emulated(operation.as_str())),
    }
}
