"""Policy documents whose values may be outputs."""

from collections.abc import Sequence

import pulumi


def document(statements: Sequence[dict]) -> pulumi.Output[str]:
    """A policy; the values in it may be outputs."""
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)})


def statement(sid: str, actions, resource=None, **more) -> dict:
    made = {"Sid": sid, "Effect": "Allow", "Action": actions}
    if resource is not None:
        made["Resource"] = resource
    return made | more
