"""A CodeArtifact domain for Python, and the roles that Wheelport runs as: the same as deploy/terraform, as one component."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws
from fleet import Fleet, Shared
from policies import document, statement

READ_ACTIONS = [
    "codeartifact:ReadFromRepository",
    "codeartifact:GetRepositoryEndpoint",
    "codeartifact:ListPackages",
]


# By which rules about private names and with `origin` know where a version comes from.
ORIGIN_ACTIONS = ["codeartifact:DescribePackage", "codeartifact:DescribePackageVersion", "codeartifact:ListPackageVersions"]


@dataclass
class Irsa:
    """The cluster's OIDC provider, and the service accounts (NAMESPACE:NAME) that take the roles."""

    provider_arn: str
    read_accounts: Sequence[str] = field(default_factory=list)
    publish_accounts: Sequence[str] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        return self.provider_arn.split(":oidc-provider/")[1]


def accounts(ids: Sequence[str]) -> dict:
    return {"AWS": [f"arn:aws:iam::{account}:root" for account in ids]}


class Packages(pulumi.ComponentResource):
    """Key, domain, a private repository over a public one, roles to read and to publish, permissions of other accounts."""

    def __init__(
        self,
        name: str,
        *,
        domain: str,
        repository: str = "python",
        public_repository: str = "python-public",
        external_connection: str | None = "public:pypi",
        name_prefix: str = "wheelport",
        irsa: Irsa | None = None,
        trusted_services: Sequence[str] = (),
        trusted_principals: Sequence[str] = (),
        external_id: str | None = None,
        reader_accounts: Sequence[str] = (),
        publisher_accounts: Sequence[str] = (),
        create_publish_role: bool = True,
        publish_from_read_role: bool = False,
        read_origins: bool = False,
        fleet: Fleet | None = None,
        key_deletion_window: int = 30,
        tags: Mapping[str, str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("wheelport:index:Packages", name, None, opts)
        self._own = pulumi.ResourceOptions(parent=self)
        self._prefix = name_prefix
        self._tags = dict(tags or {})
        self._irsa, self._services = irsa, list(trusted_services)
        self._principals, self._external_id = list(trusted_principals), external_id

        # One key per domain, and it cannot be changed later. CodeArtifact uses it through a grant, so readers need no
        # right to it.
        self.key = aws.kms.Key(
            "domain",
            description=f"Packages of the CodeArtifact domain {domain}",
            deletion_window_in_days=key_deletion_window,
            enable_key_rotation=True,
            tags=self._tags,
            opts=self._own,
        )
        aws.kms.Alias(
            "domain",
            name=f"alias/{name_prefix}-{domain}",
            target_key_id=self.key.key_id,
            opts=self._own,
        )
        self.codeartifact_domain = aws.codeartifact.Domain(
            "domain", domain=domain, encryption_key=self.key.arn, tags=self._tags, opts=self._own
        )
        self.private = self._repositories(repository, public_repository, external_connection)

        read = [
            statement("MintTokens", "codeartifact:GetAuthorizationToken", self.codeartifact_domain.arn),
            # Works only here, never in a domain's policy.
            statement(
                "MintTokensForTheService",
                "sts:GetServiceBearerToken",
                "*",
                Condition={"StringEquals": {"sts:AWSServiceName": "codeartifact.amazonaws.com"}},
            ),
            statement("Read", READ_ACTIONS, self.private.arn),
        ]
        # arn:…:repository/DOMAIN/NAME becomes arn:…:package/DOMAIN/NAME/pypi//*: Python has an empty namespace.
        of_packages = self.private.arn.apply(
            lambda arn: arn.replace(":repository/", ":package/", 1) + "/pypi//*"
        )
        if read_origins:
            read.append(statement("Origins", ORIGIN_ACTIONS, of_packages))
        publish = [*read, statement("Publish", "codeartifact:PublishPackageVersion", of_packages)]
        what = f"{domain}/{repository}"
        self._shared = None
        if fleet:
            self._shared = Shared(
                fleet,
                domain=self.codeartifact_domain,
                key=self.key,
                name_prefix=name_prefix,
                tags=self._tags,
                opts=self._own,
            )
        reader = self._role("read", f"Installs from {what}", read)
        self.read_role_arn = reader.arn
        self.publish_role_arn = None
        if create_publish_role:
            description = f"Installs from and publishes to {what}"
            taker = reader.arn if publish_from_read_role else None
            self.publish_role_arn = self._role("publish", description, publish, taker).arn
            if taker is not None:
                aws.iam.RolePolicy(
                    "chain",
                    name="publish-as",
                    role=reader.id,
                    policy=document([statement("PublishAs", "sts:AssumeRole", self.publish_role_arn)]),
                    opts=self._own,
                )
        reading = [*READ_ACTIONS, *ORIGIN_ACTIONS] if read_origins else READ_ACTIONS
        self._permissions(reading, list(reader_accounts), list(publisher_accounts))

        self.domain = self.codeartifact_domain.domain
        self.domain_owner = self.codeartifact_domain.owner
        self.repository = self.private.repository
        self.key_arn = self.key.arn
        self.fleet_store = self._shared.store if self._shared else None
        self.fleet_events = self._shared.events if self._shared else None
        self.register_outputs({"domain": self.domain, "repository": self.repository})

    def _repositories(self, private: str, public: str, connection: str | None):
        """The external connection belongs to a repository of its own: what is published stays apart from what is copied."""
        upstreams = []
        if connection:
            copies = aws.codeartifact.Repository(
                "public",
                domain=self.codeartifact_domain.domain,
                repository=public,
                description="Copies of public packages",
                external_connections={"external_connection_name": connection},
                tags=self._tags,
                opts=self._own,
            )
            upstreams.append({"repository_name": copies.repository})
        return aws.codeartifact.Repository(
            "private",
            domain=self.codeartifact_domain.domain,
            repository=private,
            description="What Wheelport serves",
            upstreams=upstreams,
            tags=self._tags,
            opts=self._own,
        )

    def _role(
        self, name: str, description: str, statements: Sequence[dict], taken_by_role=None
    ) -> aws.iam.Role:
        role = aws.iam.Role(
            name,
            name=f"{self._prefix}-{name}",
            description=description,
            assume_role_policy=document(self._trust(name, taken_by_role)),
            tags=self._tags,
            opts=self._own,
        )
        aws.iam.RolePolicy(
            name, name="codeartifact", role=role.id, policy=document(statements), opts=self._own
        )
        if self._shared:
            shared = document(self._shared.statements)
            aws.iam.RolePolicy(
                f"{name}-fleet", name="fleet", role=role.id, policy=shared, opts=self._own
            )
        return role

    def _trust(self, role: str, taken_by_role=None) -> list[dict]:
        statements = []
        if taken_by_role is not None:
            statements.append(statement("ReadRole", "sts:AssumeRole", Principal={"AWS": taken_by_role}))
        taken_by = getattr(self._irsa, f"{role}_accounts", [])
        if taken_by:
            issuer = self._irsa.issuer
            statements.append(
                statement(
                    "ServiceAccounts",
                    "sts:AssumeRoleWithWebIdentity",
                    Principal={"Federated": self._irsa.provider_arn},
                    Condition={
                        "StringEquals": {
                            f"{issuer}:sub": [f"system:serviceaccount:{account}" for account in taken_by],
                            f"{issuer}:aud": "sts.amazonaws.com",
                        }
                    },
                )
            )
        if self._services:
            # Pod Identity also tags its sessions.
            tags = ["sts:TagSession"] if "pods.eks.amazonaws.com" in self._services else []
            statements.append(
                statement("Workloads", ["sts:AssumeRole", *tags], Principal={"Service": self._services})
            )
        if self._principals:
            condition = {"Condition": {"StringEquals": {"sts:ExternalId": self._external_id}}}
            more = condition if self._external_id else {}
            statements.append(
                statement("Principals", "sts:AssumeRole", Principal={"AWS": self._principals}, **more)
            )
        if not statements:
            raise ValueError(
                f"no principal could assume the role {self._prefix}-{role}: set irsa, trusted_services or trusted_principals"
            )
        return statements

    def _permissions(self, reading: list[str], readers: list[str], publishers: list[str]) -> None:
        """What other accounts may do. Within the owner's account the roles' own policies suffice."""
        others = list(dict.fromkeys([*readers, *publishers]))
        if not others:
            return
        mint = statement(
            "MintTokens", "codeartifact:GetAuthorizationToken", "*", Principal=accounts(others)
        )
        aws.codeartifact.DomainPermissions(
            "domain",
            domain=self.codeartifact_domain.domain,
            policy_document=document([mint]),
            opts=self._own,
        )
        allowed = [statement("Read", reading, "*", Principal=accounts(others))]
        if publishers:
            allowed.append(
                statement(
                    "Publish",
                    "codeartifact:PublishPackageVersion",
                    "*",
                    Principal=accounts(publishers),
                )
            )
        aws.codeartifact.RepositoryPermissionsPolicy(
            "private",
            domain=self.codeartifact_domain.domain,
            repository=self.private.repository,
            policy_document=document(allowed),
            opts=self._own,
        )
