output "name" {
  description = "The function's name."
  value       = aws_lambda_function.log_processor.function_name
}

output "arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.log_processor.arn
}

output "role_arn" {
  description = "The role it runs as."
  value       = aws_iam_role.function.arn
}

output "failures_queue_url" {
  description = "Where events go that could not be processed."
  value       = aws_sqs_queue.failures.url
}

output "permission_id" {
  description = "Known once the bucket may call the function."
  value       = aws_lambda_permission.bucket.id
}
