# A CodeArtifact domain for Python: one key, one repository with your own packages, one with copies of public ones.

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  account   = data.aws_caller_identity.here.account_id
  partition = data.aws_partition.here.partition
  region    = data.aws_region.here.id
}

# One key per domain, and it cannot be changed later. CodeArtifact uses it through a grant, so readers need no right to it.
resource "aws_kms_key" "domain" {
  description             = "Packages of the CodeArtifact domain ${var.domain}"
  deletion_window_in_days = var.key_deletion_window
  enable_key_rotation     = true
  policy                  = data.aws_iam_policy_document.key.json
  tags                    = var.tags
}

resource "aws_kms_alias" "domain" {
  name          = "alias/${var.name_prefix}-${var.domain}"
  target_key_id = aws_kms_key.domain.key_id
}

data "aws_iam_policy_document" "key" {
  statement {
    sid       = "AccountDecidesByIam"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }
}

resource "aws_codeartifact_domain" "this" {
  domain         = var.domain
  encryption_key = aws_kms_key.domain.arn
  tags           = var.tags
}

# The external connection belongs to a repository of its own: what is published stays apart from what is copied, and the
# private repository comes first.
resource "aws_codeartifact_repository" "public" {
  count = var.external_connection == null ? 0 : 1

  domain      = aws_codeartifact_domain.this.domain
  repository  = var.public_repository
  description = "Copies of public packages"
  tags        = var.tags

  external_connections {
    external_connection_name = var.external_connection
  }
}

resource "aws_codeartifact_repository" "private" {
  domain      = aws_codeartifact_domain.this.domain
  repository  = var.repository
  description = "What Wheelport serves"
  tags        = var.tags

  dynamic "upstream" {
    for_each = aws_codeartifact_repository.public

    content {
      repository_name = upstream.value.repository
    }
  }
}

# GetRepositoryEndpoint through the provider: to compare with what Wheelport derives, and for clients without it.
data "aws_codeartifact_repository_endpoint" "private" {
  domain     = aws_codeartifact_domain.this.domain
  repository = aws_codeartifact_repository.private.repository
  format     = "pypi"
}
