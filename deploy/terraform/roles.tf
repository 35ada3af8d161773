# The roles Wheelport runs as. Their policies are those of deploy/iam.

locals {
  roles = merge(
    {
      read = {
        description = "Installs from ${var.domain}/${var.repository}"
        accounts    = var.irsa == null ? [] : var.irsa.read_accounts
        policy      = data.aws_iam_policy_document.read.json
      }
    },
    var.create_publish_role ? {
      publish = {
        description = "Installs from and publishes to ${var.domain}/${var.repository}"
        accounts    = var.irsa == null ? [] : var.irsa.publish_accounts
        policy      = data.aws_iam_policy_document.publish.json
      }
    } : {},
  )

  # The read role assumes the publish role only where that was requested.
  chained = var.create_publish_role && var.publish_from_read_role

  # Two slashes: Python packages have an empty namespace.
  packages = "arn:${local.partition}:codeartifact:${local.region}:${local.account}:package/${var.domain}/${var.repository}/pypi//*"

  # On packages, unlike the rest of what reading needs.
  origin_actions = var.read_origins ? ["codeartifact:DescribePackage", "codeartifact:DescribePackageVersion", "codeartifact:ListPackageVersions"] : []

  # arn:aws:iam::ACCOUNT:oidc-provider/ISSUER
  issuer = var.irsa == null ? "" : split(":oidc-provider/", var.irsa.provider_arn)[1]
}

data "aws_iam_policy_document" "read" {
  statement {
    sid       = "MintTokens"
    actions   = ["codeartifact:GetAuthorizationToken"]
    resources = [aws_codeartifact_domain.this.arn]
  }

  # Works only here, never in a domain's policy.
  statement {
    sid       = "MintTokensForTheService"
    actions   = ["sts:GetServiceBearerToken"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "sts:AWSServiceName"
      values   = ["codeartifact.amazonaws.com"]
    }
  }

  statement {
    sid = "Read"
    actions = [
      "codeartifact:ReadFromRepository",
      "codeartifact:GetRepositoryEndpoint",
      "codeartifact:ListPackages",
    ]
    resources = [aws_codeartifact_repository.private.arn]
  }

  dynamic "statement" {
    for_each = length(local.origin_actions) > 0 ? [local.origin_actions] : []

    content {
      sid       = "Origins"
      actions   = statement.value
      resources = [local.packages]
    }
  }
}

data "aws_iam_policy_document" "publish" {
  source_policy_documents = [data.aws_iam_policy_document.read.json]

  statement {
    sid       = "Publish"
    actions   = ["codeartifact:PublishPackageVersion"]
    resources = [local.packages]
  }
}

data "aws_iam_policy_document" "trust" {
  for_each = local.roles

  dynamic "statement" {
    for_each = length(each.value.accounts) > 0 ? [var.irsa.provider_arn] : []

    content {
      sid     = "ServiceAccounts"
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = [statement.value]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.issuer}:sub"
        values   = [for account in each.value.accounts : "system:serviceaccount:${account}"]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.issuer}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.trusted_services) > 0 ? [var.trusted_services] : []

    content {
      sid = "Workloads"
      # Pod Identity also tags its sessions.
      actions = concat(
        ["sts:AssumeRole"],
        contains(statement.value, "pods.eks.amazonaws.com") ? ["sts:TagSession"] : [],
      )

      principals {
        type        = "Service"
        identifiers = statement.value
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.trusted_principals) > 0 ? [var.trusted_principals] : []

    content {
      sid     = "Principals"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }

      dynamic "condition" {
        for_each = var.external_id == null ? [] : [var.external_id]

        content {
          test     = "StringEquals"
          variable = "sts:ExternalId"
          values   = [condition.value]
        }
      }
    }
  }

  # A role cannot be named in a trust policy before it exists, but it can be in a condition.
  dynamic "statement" {
    for_each = each.key == "publish" && local.chained ? ["${var.name_prefix}-read"] : []

    content {
      sid     = "ReadRole"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:PrincipalArn"
        values   = ["arn:${local.partition}:iam::${local.account}:role/${statement.value}"]
      }
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = "${var.name_prefix}-${each.key}"
  description          = each.value.description
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  permissions_boundary = var.permissions_boundary
  max_session_duration = var.max_session_duration
  tags                 = var.tags

  lifecycle {
    precondition {
      condition = (
        length(each.value.accounts) + length(var.trusted_services) + length(var.trusted_principals) > 0
        || (each.key == "publish" && local.chained)
      )
      error_message = "No principal could assume the role ${var.name_prefix}-${each.key}: set irsa, trusted_services or trusted_principals."
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name   = "codeartifact"
  role   = aws_iam_role.this[each.key].id
  policy = each.value.policy
}

data "aws_iam_policy_document" "chain" {
  count = local.chained ? 1 : 0

  statement {
    sid       = "PublishAs"
    actions   = ["sts:AssumeRole"]
    resources = [for name, role in aws_iam_role.this : role.arn if name == "publish"]
  }
}

resource "aws_iam_role_policy" "chain" {
  count = local.chained ? 1 : 0

  name   = "publish-as"
  role   = aws_iam_role.this["read"].id
  policy = data.aws_iam_policy_document.chain[0].json
}
