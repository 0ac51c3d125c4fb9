# Files alone: for those who read them with their own tools and want no daily summaries.

terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

provider "aws" {
  region = "eu-west-1"
}

module "bucket" {
  source = "../../modules/bucket"

  name        = "smart-log-analyzer-logs-example"
  prefix      = "lake/"
  expire_days = 30
  # No earlier move to a cheaper class than the end of the files.
  transition_days = null
}

output "export_target" {
  description = "What to set as export.target."
  value       = "s3://${module.bucket.name}/lake/"
}
