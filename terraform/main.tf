# The cloud part of smartlog as one configuration:
#
#   exporter ──▶ bucket ──ObjectCreated──▶ log-processor ──▶ daily_summaries
#  (user or role)                               │       └──▶ summary_contributions
#                                               └─ what fails ──▶ queue ──▶ alarm
#   budget of 1 USD, billing alarm
#
# docs/AWS_SETUP.md says how to apply, verify and destroy it.

locals {
  bucket_name = coalesce(var.bucket_name, "smart-log-analyzer-logs-${var.owner}")

  tags = merge({
    project    = "smart-log-analyzer"
    managed-by = "terraform"
  }, var.tags)
}

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

# AWS publishes what an account is charged in this region alone.
provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  default_tags {
    tags = local.tags
  }
}

module "billing" {
  source = "./modules/billing"

  providers = {
    aws           = aws
    aws.us_east_1 = aws.us_east_1
  }

  limit_usd = var.budget_limit_usd
  email     = var.alert_email
}

module "bucket" {
  source = "./modules/bucket"

  name                   = local.bucket_name
  prefix                 = var.prefix
  force_destroy          = var.destroy_data
  abort_multipart_days   = var.abort_multipart_days
  transition_days        = var.transition_days
  expire_days            = var.expire_days
  noncurrent_expire_days = var.noncurrent_expire_days

  notification = {
    function_arn  = module.function.arn
    permission_id = module.function.permission_id
  }
}

module "summaries" {
  source = "./modules/summaries"

  billing_mode           = var.table_billing_mode
  read_capacity          = var.table_read_capacity
  write_capacity         = var.table_write_capacity
  point_in_time_recovery = var.point_in_time_recovery
  deletion_protection    = !var.destroy_data
}

module "function" {
  source = "./modules/function"

  zip                     = var.function_zip
  memory_mb               = var.function_memory_mb
  timeout_s               = var.function_timeout_s
  reserved_concurrency    = var.function_reserved_concurrency
  log_retention_days      = var.log_retention_days
  bucket_name             = local.bucket_name
  prefix                  = var.prefix
  summaries_table_name    = module.summaries.summaries_name
  summaries_table_arn     = module.summaries.summaries_arn
  contributions_name      = module.summaries.contributions_name
  contributions_table_arn = module.summaries.contributions_arn
  alert_email             = var.alert_email
}

module "exporter" {
  source = "./modules/exporter"

  bucket_arn              = module.bucket.arn
  prefix                  = var.prefix
  summaries_table_arn     = module.summaries.summaries_arn
  contributions_table_arn = module.summaries.contributions_arn
  function_arn            = module.function.arn
  create_user             = var.create_exporter_user
  principals              = var.exporter_principals
}

# Its input stands in the plan of a destroy, before anybody says yes.
resource "terraform_data" "what_a_destroy_loses" {
  input = join(" ", [
    "DESTROY LOSES every log file in s3://${local.bucket_name}/${var.prefix}",
    "and every daily summary in the table ${module.summaries.summaries_name}.",
    var.destroy_data ? "destroy_data is set: they go without another question." : "It is refused while they hold data: set destroy_data, apply, then destroy.",
  ])
}
