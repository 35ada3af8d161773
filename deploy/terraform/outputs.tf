output "domain" {
  description = "Wheelport's setting domain."
  value       = aws_codeartifact_domain.this.domain
}

output "domain_owner" {
  description = "Wheelport's setting domain_owner."
  value       = aws_codeartifact_domain.this.owner
}

output "repository" {
  description = "Wheelport's setting repository."
  value       = aws_codeartifact_repository.private.repository
}

output "region" {
  description = "Wheelport's setting region."
  value       = local.region
}

output "repository_endpoint" {
  description = "CodeArtifact's own address of the repository; it requires a token, Wheelport does not."
  value       = data.aws_codeartifact_repository_endpoint.private.repository_endpoint
}

output "read_role_arn" {
  description = "The role for a Wheelport that only serves; the annotation eks.amazonaws.com/role-arn of its service account."
  value       = aws_iam_role.this["read"].arn
}

output "publish_role_arn" {
  description = "The role for a Wheelport that also accepts uploads."
  value       = one([for name, role in aws_iam_role.this : role.arn if name == "publish"])
}

output "key_arn" {
  description = "The key that encrypts the domain."
  value       = aws_kms_key.domain.arn
}

output "fleet_store" {
  description = "Wheelport's setting [fleet] store; null without a fleet."
  value       = one([for bucket in aws_s3_bucket.fleet : "s3://${bucket.bucket}/${var.fleet.prefix}"])
}

output "fleet_events" {
  description = "Wheelport's setting [fleet] events; null without a fleet."
  value       = one([for queue in aws_sqs_queue.events : queue.id])
}
