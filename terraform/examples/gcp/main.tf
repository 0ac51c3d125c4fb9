# The files on Google Cloud Storage. The steps: docs/AWS_SETUP.md.

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

output "s3_endpoint" {
  description = "What to set as export.s3_endpoint, beside s3_region = \"auto\" and s3_dialect = \"gcs\"."
  value       = module.bucket.endpoint
}

output "access_key_id" {
  description = "AWS_ACCESS_KEY_ID of the exporter."
  value       = module.bucket.access_key_id
}

output "secret_access_key" {
  description = "AWS_SECRET_ACCESS_KEY of the exporter."
  value       = module.bucket.secret_access_key
  sensitive   = true
}
