output "bucket" {
  description = "The exporter's target is s3://BUCKET/PREFIX."
  value       = module.bucket.name
}

output "export_target" {
  description = "What to set as export.target."
  value       = "s3://${module.bucket.name}/${var.prefix}"
}

output "region" {
  description = "Where it all is."
  value       = var.region
}

output "summaries_table" {
  description = "One item per day and service."
  value       = module.summaries.summaries_name
}

output "contributions_table" {
  description = "What each file added, and what the function used."
  value       = module.summaries.contributions_name
}

output "table_billing" {
  description = "What to set as cloud.table_billing, so that the estimate of costs charges requests to the tables where AWS does."
  value       = var.table_billing_mode == "PROVISIONED" ? "provisioned" : "on_demand"
}

output "function" {
  description = "The function's name."
  value       = module.function.name
}

output "failures_queue_url" {
  description = "Events that could not be processed."
  value       = module.function.failures_queue_url
}

output "exporter_role_arn" {
  description = "The role that an exporter within AWS takes."
  value       = module.exporter.role_arn
}

output "exporter_user" {
  description = "The exporter's user, where one was asked for: make its key by `aws iam create-access-key --user-name NAME`."
  value       = module.exporter.user_name
}

output "budget" {
  description = "The budget's name."
  value       = module.billing.budget_name
}

output "alerts" {
  description = "Budget, its notices, and the billing alarm."
  value       = module.billing.alerts
}
