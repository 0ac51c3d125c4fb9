output "export_target" {
  description = "What to set as export.target."
  value       = "s3://${google_storage_bucket.logs.name}/${var.prefix}"
}

output "endpoint" {
  description = "The S3-compatible interface of Google Cloud Storage."
  value       = "https://storage.googleapis.com"
}

output "access_key_id" {
  description = "AWS_ACCESS_KEY_ID of the exporter."
  value       = google_storage_hmac_key.exporter.access_id
}

output "secret_access_key" {
  description = "AWS_SECRET_ACCESS_KEY of the exporter."
  value       = google_storage_hmac_key.exporter.secret
  sensitive   = true
}
