"""The stack: settings in, the component of `packages.py`, what Wheelport needs out."""

import pulumi
from fleet import Fleet
from packages import Irsa, Packages

config = pulumi.Config()
irsa = config.get_object("irsa")
fleet = config.get_object("fleet")

packages = Packages(
    "packages",
    domain=config.require("domain"),
    repository=config.get("repository") or "python",
    public_repository=config.get("public_repository") or "python-public",
    external_connection=config.get("external_connection") or "public:pypi",
    name_prefix=config.get("name_prefix") or "wheelport",
    irsa=Irsa(**irsa) if irsa else None,
    trusted_services=config.get_object("trusted_services") or [],
    trusted_principals=config.get_object("trusted_principals") or [],
    external_id=config.get("external_id"),
    reader_accounts=config.get_object("reader_accounts") or [],
    publisher_accounts=config.get_object("publisher_accounts") or [],
    create_publish_role=config.get_bool("create_publish_role", True),
    publish_from_read_role=config.get_bool("publish_from_read_role", False),
    read_origins=config.get_bool("read_origins", False),
    fleet=Fleet(**fleet) if fleet else None,
    tags=config.get_object("tags") or {},
)

for name in (
    "domain",
    "domain_owner",
    "repository",
    "read_role_arn",
    "publish_role_arn",
    "key_arn",
    "fleet_store",
    "fleet_events",
):
    pulumi.export(name, getattr(packages, name))
