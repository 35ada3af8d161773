# The domain `acme` with a repository `python`, for a Wheelport in Kubernetes and one other account.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

module "packages" {
  source = "../"

  domain     = "acme"
  repository = "python"

  irsa = {
    provider_arn     = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"
    read_accounts    = ["wheelport:wheelport"]
    publish_accounts = ["wheelport:wheelport-publish"]
  }

  # For an account without Kubernetes: ["ecs-tasks.amazonaws.com"], ["ec2.amazonaws.com"].
  trusted_services = []

  reader_accounts = ["444455556666"]

  tags = { team = "platform" }
}

output "packages" {
  value = module.packages
}
