# The files on Google Cloud Storage.

terraform {
  required_version = ">= 1.10"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

provider "google" {
  project = var.project
}

variable "project" {
  description = "The Google Cloud project."
  type        = string
}

variable "bucket" {
  description = "The bucket's name."
  type        = string
}

module "bucket" {
  source = "../../modules/bucket-gcp"

  name = var.bucket
}

output "export_target" {
  description = "What to set as export.target."
  value       = module.bucket.export_target
}

output "endpoint" {
  description = "What to set as export.endpoint."
  value       = module.bucket.endpoint
}
