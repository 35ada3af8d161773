//! The operations of the service model 2018-09-22 and their addresses.
//!
//! Pure. An operation's name is also the IAM action that allows it (`codeartifact:NAME`).

use http::Method;

macro_rules! operations {
    ($($name:ident = $method:ident $path:literal,)*) => {
        /// An operation of the control plane.
        #[expect(missing_docs, reason = "the names are the service model's own")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation {
            $($name,)*
        }

        impl Operation {
            /// The operation at this address.
            pub fn find(method: &Method, path: &str) -> Option<Self> {
                match (method.as_str(), path) {
                    $((stringify!($method), $path) => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The operation's name in the service model.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

operations! {
    AssociateExternalConnection = POST "/v1/repository/external-connection",
    CopyPackageVersions = POST "/v1/package/versions/copy",
    CreateDomain = POST "/v1/domain",
    CreatePackageGroup = POST "/v1/package-group",
    CreateRepository = POST "/v1/repository",
    DeleteDomain = DELETE "/v1/domain",
    DeleteDomainPermissionsPolicy = DELETE "/v1/domain/permissions/policy",
    DeletePackage = DELETE "/v1/package",
    DeletePackageGroup = DELETE "/v1/package-group",
    DeletePackageVersions = POST "/v1/package/versions/delete",
    DeleteRepository = DELETE "/v1/repository",
    DeleteRepositoryPermissionsPolicy = DELETE "/v1/repository/permissions/policies",
    DescribeDomain = GET "/v1/domain",
    DescribePackage = GET "/v1/package",
    DescribePackageGroup = GET "/v1/package-group",
    DescribePackageVersion = GET "/v1/package/version",
    DescribeRepository = GET "/v1/repository",
    DisassociateExternalConnection = DELETE "/v1/repository/external-connection",
    DisposePackageVersions = POST "/v1/package/versions/dispose",
    GetAssociatedPackageGroup = GET "/v1/get-associated-package-group",
    GetAuthorizationToken = POST "/v1/authorization-token",
    GetDomainPermissionsPolicy = GET "/v1/domain/permissions/policy",
    GetPackageVersionAsset = GET "/v1/package/version/asset",
    GetPackageVersionReadme = GET "/v1/package/version/readme",
    GetRepositoryEndpoint = GET "/v1/repository/endpoint",
    GetRepositoryPermissionsPolicy = GET "/v1/repository/permissions/policy",
    ListAllowedRepositoriesForGroup = GET "/v1/package-group-allowed-repositories",
    ListAssociatedPackages = GET "/v1/list-associated-packages",
    ListDomains = POST "/v1/domains",
    ListPackageGroups = POST "/v1/package-groups",
    ListPackageVersionAssets = POST "/v1/package/version/assets",
    ListPackageVersionDependencies = POST "/v1/package/version/dependencies",
    ListPackageVersions = POST "/v1/package/versions",
    ListPackages = POST "/v1/packages",
    ListRepositories = POST "/v1/repositories",
    ListRepositoriesInDomain = POST "/v1/domain/repositories",
    ListSubPackageGroups = POST "/v1/package-groups/sub-groups",
    ListTagsForResource = POST "/v1/tags",
    PublishPackageVersion = POST "/v1/package/version/publish",
    PutDomainPermissionsPolicy = PUT "/v1/domain/permissions/policy",
    PutPackageOriginConfiguration = POST "/v1/package",
    PutRepositoryPermissionsPolicy = PUT "/v1/repository/permissions/policy",
    TagResource = POST "/v1/tag",
    UntagResource = POST "/v1/untag",
    UpdatePackageGroup = PUT "/v1/package-group",
    UpdatePackageGroupOriginConfiguration = PUT "/v1/package-group-origin-configuration",
    UpdatePackageVersionsStatus = POST "/v1/package/versions/update_status",
    UpdateRepository = PUT "/v1/repository",
}

impl Operation {
    /// The IAM action that allows this operation.
    pub fn action(self) -> String {
        format!("codeartifact:{}", self.as_str())
    }
}
