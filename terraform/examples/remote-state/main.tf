# The bucket for the state of the configuration itself. Apply it once, with its own state in a local file, then put
# into ../../backend.tf what the output says and run `terraform init -migrate-state`.

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
  region = var.region
}

variable "region" {
  description = "Where the state lies."
  type        = string
  default     = "eu-west-1"
}

variable "owner" {
  description = "Ends the bucket's name, which must be free in all of AWS."
  type        = string
}

module "state" {
  source = "../../modules/bucket"

  name                   = "smart-log-analyzer-state-${var.owner}"
  expire_days            = null
  transition_days        = null
  noncurrent_expire_days = 90
}

output "backend" {
  description = "The content of backend.tf. The lock is a file beside the state: no table is needed."
  value       = <<-EOT
    terraform {
      backend "s3" {
        bucket       = "${module.state.name}"
        key          = "smart-log-analyzer/terraform.tfstate"
        region       = "${var.region}"
        encrypt      = true
        use_lockfile = true
      }
    }
  EOT
}
