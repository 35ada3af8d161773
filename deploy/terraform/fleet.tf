# What several replicas share: a bucket, and a queue of CodeArtifact's events. Redis is an address that Wheelport is given.

locals {
  fleet       = var.fleet == null ? [] : [var.fleet]
  fleet_queue = "${var.name_prefix}-events"
}

resource "aws_s3_bucket" "fleet" {
  count = length(local.fleet)

  bucket        = local.fleet[0].bucket
  force_destroy = local.fleet[0].destroy_with_objects
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "fleet" {
  count = length(local.fleet)

  bucket                  = aws_s3_bucket.fleet[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "fleet" {
  count = length(local.fleet)

  bucket = aws_s3_bucket.fleet[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "fleet" {
  count = length(local.fleet)

  bucket = aws_s3_bucket.fleet[0].id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.domain.arn
    }
  }
}

# Files, their metadata and pages come again when they are needed. What files were when they were first seen does not, so no
# rule covers `first-seen/`, and none covers what was published a moment ago.
resource "aws_s3_bucket_lifecycle_configuration" "fleet" {
  count = length(local.fleet)

  bucket = aws_s3_bucket.fleet[0].id

  rule {
    id     = "abort-unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  dynamic "rule" {
    for_each = toset(["blob", "metadata", "page"])

    content {
      id     = "expire-${rule.value}"
      status = "Enabled"

      filter {
        prefix = "${local.fleet[0].prefix}/v1/${rule.value}/"
      }

      expiration {
        days = local.fleet[0].expiration_days
      }
    }
  }
}

data "aws_iam_policy_document" "fleet_bucket" {
  count = length(local.fleet)

  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.fleet[0].arn, "${aws_s3_bucket.fleet[0].arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "fleet" {
  count = length(local.fleet)

  bucket     = aws_s3_bucket.fleet[0].id
  policy     = data.aws_iam_policy_document.fleet_bucket[0].json
  depends_on = [aws_s3_bucket_public_access_block.fleet]
}

# An event older than an hour says nothing that the age of a page has not said by then.
resource "aws_sqs_queue" "events" {
  count = length(local.fleet)

  name                       = local.fleet_queue
  message_retention_seconds  = 3600
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 60
  sqs_managed_sse_enabled    = true
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.events_dead[0].arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue" "events_dead" {
  count = length(local.fleet)

  name                      = "${local.fleet_queue}-dead"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

data "aws_iam_policy_document" "fleet_queue" {
  count = length(local.fleet)

  statement {
    sid       = "EventsOfTheDomain"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.events[0].arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.packages[0].arn]
    }
  }
}

resource "aws_sqs_queue_policy" "events" {
  count = length(local.fleet)

  queue_url = aws_sqs_queue.events[0].id
  policy    = data.aws_iam_policy_document.fleet_queue[0].json
}

resource "aws_cloudwatch_event_rule" "packages" {
  count = length(local.fleet)

  name        = "${var.name_prefix}-packages"
  description = "Versions of Python packages in the domain ${var.domain} that change"
  tags        = var.tags

  event_pattern = jsonencode({
    source      = ["aws.codeartifact"]
    detail-type = ["CodeArtifact Package Version State Change"]
    detail      = { domainName = [var.domain], packageFormat = ["pypi"] }
  })
}

resource "aws_cloudwatch_event_target" "queue" {
  count = length(local.fleet)

  rule = aws_cloudwatch_event_rule.packages[0].name
  arn  = aws_sqs_queue.events[0].arn
}

data "aws_iam_policy_document" "fleet" {
  count = length(local.fleet)

  statement {
    sid       = "StoreObjects"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.fleet[0].arn}/*"]
  }

  # Without it S3 says 403 of an object that is not there.
  statement {
    sid       = "TellMissingFromDenied"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.fleet[0].arn]
  }

  statement {
    sid       = "EncryptObjects"
    actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
    resources = [aws_kms_key.domain.arn]
  }

  # The last one is for `wheelport check`.
  statement {
    sid       = "ReceiveEvents"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    resources = [aws_sqs_queue.events[0].arn]
  }

  statement {
    sid       = "FollowUpstreams"
    actions   = ["codeartifact:DescribeRepository"]
    resources = ["arn:${local.partition}:codeartifact:${local.region}:${local.account}:repository/${var.domain}/*"]
  }
}

resource "aws_iam_role_policy" "fleet" {
  for_each = length(local.fleet) > 0 ? local.roles : {}

  name   = "fleet"
  role   = aws_iam_role.this[each.key].id
  policy = data.aws_iam_policy_document.fleet[0].json
}
