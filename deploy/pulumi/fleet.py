"""What several replicas share: a bucket and a queue of CodeArtifact's events, the same as deploy/terraform/fleet.tf."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from policies import document, statement


@dataclass
class Fleet:
    """The bucket to create, and the prefix and the life of Wheelport's objects in it."""

    bucket: str
    prefix: str = "wheelport"
    expiration_days: int = 90
    destroy_with_objects: bool = False


class Shared(pulumi.ComponentResource):
    """Bucket, rule, queues, and the statements that let a role use them."""

    def __init__(
        self,
        settings: Fleet,
        *,
        domain: aws.codeartifact.Domain,
        key: aws.kms.Key,
        name_prefix: str,
        tags: Mapping[str, str],
        opts: pulumi.ResourceOptions,
    ):
        super().__init__("wheelport:index:Shared", "fleet", None, opts)
        self._own = pulumi.ResourceOptions(parent=self)
        self._tags = dict(tags)
        self.bucket = self._bucket(settings, key)
        self.queue = self._queue(domain, name_prefix)
        repositories = domain.arn.apply(lambda arn: arn.replace(":domain/", ":repository/", 1) + "/*")
        self.statements = [
            statement(
                "StoreObjects",
                ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                self.bucket.arn.apply(lambda arn: f"{arn}/*"),
            ),
            # Without it S3 says 403 of an object that is not there.
            statement("TellMissingFromDenied", "s3:ListBucket", self.bucket.arn),
            statement("EncryptObjects", ["kms:GenerateDataKey", "kms:Decrypt"], key.arn),
            # The last one is for `wheelport check`.
            statement(
                "ReceiveEvents",
                ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
                self.queue.arn,
            ),
            statement("FollowUpstreams", "codeartifact:DescribeRepository", repositories),
        ]
        self.store = self.bucket.bucket.apply(lambda name: f"s3://{name}/{settings.prefix}")
        self.events = self.queue.id
        self.register_outputs({"store": self.store, "events": self.events})

    def _bucket(self, settings: Fleet, key: aws.kms.Key) -> aws.s3.Bucket:
        bucket = aws.s3.Bucket(
            "fleet",
            bucket=settings.bucket,
            force_destroy=settings.destroy_with_objects,
            tags=self._tags,
            opts=self._own,
        )
        closed = aws.s3.BucketPublicAccessBlock(
            "fleet",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._own,
        )
        aws.s3.BucketOwnershipControls(
            "fleet", bucket=bucket.id, rule={"object_ownership": "BucketOwnerEnforced"}, opts=self._own
        )
        encryption = {"sse_algorithm": "aws:kms", "kms_master_key_id": key.arn}
        aws.s3.BucketServerSideEncryptionConfiguration(
            "fleet",
            bucket=bucket.id,
            rules=[
                {"bucket_key_enabled": True, "apply_server_side_encryption_by_default": encryption}
            ],
            opts=self._own,
        )
        # Files, their metadata and pages come again when they are needed. What files were when they were first seen does
        # not, so no rule covers `first-seen/`, and none covers what was published a moment ago.
        rules: list[dict] = [
            {
                "id": "abort-unfinished-uploads",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
            }
        ]
        for kind in ("blob", "metadata", "page"):
            rules.append(
                {
                    "id": f"expire-{kind}",
                    "status": "Enabled",
                    "filter": {"prefix": f"{settings.prefix}/v1/{kind}/"},
                    "expiration": {"days": settings.expiration_days},
                }
            )
        aws.s3.BucketLifecycleConfiguration("fleet", bucket=bucket.id, rules=rules, opts=self._own)
        only_encrypted = statement(
            "OnlyEncryptedConnections",
            "s3:*",
            [bucket.arn, bucket.arn.apply(lambda arn: f"{arn}/*")],
            Effect="Deny",
            Principal="*",
            Condition={"Bool": {"aws:SecureTransport": "false"}},
        )
        after = pulumi.ResourceOptions(parent=self, depends_on=[closed])
        aws.s3.BucketPolicy("fleet", bucket=bucket.id, policy=document([only_encrypted]), opts=after)
        return bucket

    def _queue(self, domain: aws.codeartifact.Domain, prefix: str) -> aws.sqs.Queue:
        dead = aws.sqs.Queue(
            "events-dead",
            name=f"{prefix}-events-dead",
            message_retention_seconds=1209600,
            sqs_managed_sse_enabled=True,
            tags=self._tags,
            opts=self._own,
        )
        # An event older than an hour says nothing that the age of a page has not said by then.
        queue = aws.sqs.Queue(
            "events",
            name=f"{prefix}-events",
            message_retention_seconds=3600,
            receive_wait_time_seconds=20,
            visibility_timeout_seconds=60,
            sqs_managed_sse_enabled=True,
            redrive_policy=pulumi.Output.json_dumps(
                {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 5}
            ),
            tags=self._tags,
            opts=self._own,
        )
        pattern = {
            "source": ["aws.codeartifact"],
            "detail-type": ["CodeArtifact Package Version State Change"],
            "detail": {"domainName": [domain.domain], "packageFormat": ["pypi"]},
        }
        rule = aws.cloudwatch.EventRule(
            "packages",
            name=f"{prefix}-packages",
            description="Versions of Python packages in the domain that change",
            event_pattern=pulumi.Output.json_dumps(pattern),
            tags=self._tags,
            opts=self._own,
        )
        aws.cloudwatch.EventTarget("queue", rule=rule.name, arn=queue.arn, opts=self._own)
        allowed = statement(
            "EventsOfTheDomain",
            "sqs:SendMessage",
            queue.arn,
            Principal={"Service": "events.amazonaws.com"},
            Condition={"ArnEquals": {"aws:SourceArn": rule.arn}},
        )
        aws.sqs.QueuePolicy("events", queue_url=queue.id, policy=document([allowed]), opts=self._own)
        return queue
