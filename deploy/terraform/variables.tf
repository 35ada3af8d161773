variable "domain" {
  description = "Name of the CodeArtifact domain."
  type        = string
}

variable "repository" {
  description = "Name of the private repository: what Wheelport serves, and where your packages are published."
  type        = string
  default     = "python"
}

variable "public_repository" {
  description = "Name of the repository that holds copies of public packages; an upstream of the private one."
  type        = string
  default     = "python-public"
}

variable "external_connection" {
  description = "The public registry behind the public repository; null leaves that repository out."
  type        = string
  default     = "public:pypi"
}

variable "name_prefix" {
  description = "Prefix of the roles' names and of the key's alias."
  type        = string
  default     = "wheelport"
}

variable "create_publish_role" {
  description = "Whether to create a role that may also publish. Serve with it only where people upload."
  type        = bool
  default     = true
}

variable "publish_from_read_role" {
  description = "Lets the read role assume the publish role: for one Wheelport with publish_role_arn, which publishes with the one and reads with the other."
  type        = bool
  default     = false
}

variable "read_origins" {
  description = "Lets the roles ask where versions come from: for rules about private names, with origin, and about the age of files."
  type        = bool
  default     = false
}

variable "irsa" {
  description = "Lets Kubernetes service accounts assume the roles: the cluster's OIDC provider, and the accounts as NAMESPACE:NAME."
  type = object({
    provider_arn     = string
    read_accounts    = optional(list(string), [])
    publish_accounts = optional(list(string), [])
  })
  default = null
}

variable "trusted_services" {
  description = "Services whose workloads assume the roles: ecs-tasks.amazonaws.com, ec2.amazonaws.com, pods.eks.amazonaws.com (Pod Identity)."
  type        = list(string)
  default     = []
}

variable "trusted_principals" {
  description = "ARNs of roles, users or accounts that may assume the roles."
  type        = list(string)
  default     = []
}

variable "external_id" {
  description = "What trusted_principals have to name when they assume a role; Wheelport's setting external_id."
  type        = string
  default     = null
}

variable "reader_accounts" {
  description = "Other accounts whose roles may mint tokens and install; they also need a policy of their own."
  type        = list(string)
  default     = []
}

variable "publisher_accounts" {
  description = "Other accounts whose roles may mint tokens, install and publish."
  type        = list(string)
  default     = []
}

variable "fleet" {
  description = "What several replicas share: the name of a bucket to create, the prefix of Wheelport's objects in it, and after how many days those that can be fetched again expire. A queue of CodeArtifact's events comes with it."
  type = object({
    bucket               = string
    prefix               = optional(string, "wheelport")
    expiration_days      = optional(number, 90)
    destroy_with_objects = optional(bool, false)
  })
  default = null
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary of the roles."
  type        = string
  default     = null
}

variable "max_session_duration" {
  description = "The longest session of the roles, in seconds."
  type        = number
  default     = 3600
}

variable "key_deletion_window" {
  description = "Days between the destruction of the key in Terraform and its deletion; without the key the packages are lost."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
