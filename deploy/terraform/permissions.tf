# What other accounts may do. Within the owner's account the roles' own policies suffice, so there is nothing here then.

locals {
  other_accounts = distinct(concat(var.reader_accounts, var.publisher_accounts))
  other_roots    = [for account in local.other_accounts : "arn:${local.partition}:iam::${account}:root"]
  publisher_roots = [
    for account in distinct(var.publisher_accounts) : "arn:${local.partition}:iam::${account}:root"
  ]
}

data "aws_iam_policy_document" "domain" {
  statement {
    sid       = "MintTokens"
    actions   = ["codeartifact:GetAuthorizationToken"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = local.other_roots
    }
  }
}

data "aws_iam_policy_document" "repository" {
  statement {
    sid = "Read"
    actions = concat(
      [
        "codeartifact:ReadFromRepository",
        "codeartifact:GetRepositoryEndpoint",
        "codeartifact:ListPackages",
      ],
      local.origin_actions,
    )
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = local.other_roots
    }
  }

  dynamic "statement" {
    for_each = length(local.publisher_roots) > 0 ? [local.publisher_roots] : []

    content {
      sid       = "Publish"
      actions   = ["codeartifact:PublishPackageVersion"]
      resources = ["*"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }
}

resource "aws_codeartifact_domain_permissions_policy" "this" {
  count = length(local.other_accounts) > 0 ? 1 : 0

  domain          = aws_codeartifact_domain.this.domain
  policy_document = data.aws_iam_policy_document.domain.json
}

resource "aws_codeartifact_repository_permissions_policy" "private" {
  count = length(local.other_accounts) > 0 ? 1 : 0

  domain          = aws_codeartifact_domain.this.domain
  repository      = aws_codeartifact_repository.private.repository
  policy_document = data.aws_iam_policy_document.repository.json
}
